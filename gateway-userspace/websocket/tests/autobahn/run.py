"""Runs cases of the Autobahn test suite against a websocket server that echoes.

Usage: run.py SUITE SPEC

SUITE is what `convert.py` has written. SPEC is JSON: the `url` of the server, the `cases` to run as the suite names them
(`*` stands for anything), and `bytes`, about how much each case of the compression sections sends. Prints one line of
JSON for each case, and ends when the last one has ended.
"""

import binascii
import json
import os
import sys
import types
import warnings

warnings.filterwarnings("ignore")
sys.path.insert(0, sys.argv[1])
# The suite can also speak TLS and write pages of HTML, for which it wants further packages. Here it does neither.
sys.modules["twisted.internet.ssl"] = types.SimpleNamespace(ClientContextFactory=lambda: None)
styles = ("CSS_COMMON", "CSS_DETAIL_REPORT", "CSS_MASTER_REPORT", "JS_MASTER_REPORT")
sys.modules["autobahntestsuite.report"] = types.SimpleNamespace(**dict.fromkeys(styles))

import zope.interface  # noqa: E402
from autobahn.websocket.utf8validator import Utf8Validator  # noqa: E402

# Gone since; a case that the suite itself leaves out asks for it.
zope.interface.implements = lambda *_: None

# How many seconds nothing may happen, and how many times as long as the suite allows anything may take.
PATIENCE = 30


def to_bytes(text):
    """The bytes of a string of the suite: see `convert.py`."""
    return text.encode("latin-1") if isinstance(text, str) else text


def equal(one, other):
    """Whether two things are the same, strings of the suite being bytes."""
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return to_bytes(one) == to_bytes(other)


def patched_while_loading():
    """Loads the suite, which describes its cases with strings where these functions want bytes."""
    b2a_hex, validate = binascii.b2a_hex, Utf8Validator.validate
    binascii.b2a_hex = lambda data: b2a_hex(to_bytes(data)).decode()
    Utf8Validator.validate = lambda self, data: validate(self, to_bytes(data))
    from autobahntestsuite import fuzzing

    binascii.b2a_hex, Utf8Validator.validate = b2a_hex, validate
    return fuzzing


fuzzing = patched_while_loading()


class Protocol(fuzzing.FuzzingClientProtocol):
    """One connection, made for one case."""

    def sendFrame(self, opcode, payload=b"", payload_len=None, **options):
        payload = to_bytes(payload)
        if payload_len is not None:
            payload = (payload * (payload_len // len(payload) + 1))[:payload_len]
        super().sendFrame(opcode, payload, **options)

    def sendMessage(self, payload, *arguments, **options):
        super().sendMessage(to_bytes(payload), *arguments, **options)

    def sendMessageFrameData(self, payload, sync=False):
        return super().sendMessageFrameData(to_bytes(payload), sync)

    def sendCloseFrame(self, code=None, reasonUtf8=None, isReply=False):
        super().sendCloseFrame(code, to_bytes(reasonUtf8), isReply)

    def onConnect(self, response):
        self.caseAgent = "ringsteer"

    def killAfter(self, delay):
        # When a case gives the server up. Whoever needs a second here may need more on a machine that has much to do.
        super().killAfter(PATIENCE * delay)

    # Frames are counted, since a case looks at the counts; what was in them is not written down.

    def logRxFrame(self, header, payload):
        self.rxFrameStats[header.opcode] = self.rxFrameStats.get(header.opcode, 0) + 1

    def logTxFrame(self, header, payload, repeatLength, chopsize, sync):
        self.txFrameStats[header.opcode] = self.txFrameStats.get(header.opcode, 0) + 1

    def logRxOctets(self, data):
        pass

    def logTxOctets(self, data, sync):
        pass


class Factory(fuzzing.FuzzingClientFactory):
    """Runs one case after the other."""

    def logCase(self, result):
        wanted = ("id", "behavior", "behaviorClose", "result", "resultClose", "remoteCloseCode", "expectation", "received")
        print(json.dumps({key: result[key] for key in wanted}), file=self.out, flush=True)

    def createReports(self):
        pass


def main(spec):
    fuzzing.FuzzingClientProtocol = Protocol
    fuzzing.asciiLogData = lambda data, *_: repr(data[:100])
    fuzzing.Case.compare = lambda self, one, other: equal(one, other)
    for case in fuzzing.Cases:
        if hasattr(case, "COUNT"):
            case.COUNT = min(case.COUNT, max(2, spec["bytes"] // max(1, case.LEN)))
    # The suite prints what it is about to do.
    Factory.out, sys.stdout = sys.stdout, open(os.devnull, "w")
    timeouts = ("openHandshakeTimeout", "closeHandshakeTimeout", "serverConnectionDropTimeout")
    servers = [{"url": spec["url"], "options": dict.fromkeys(timeouts, PATIENCE)}]
    Factory({"servers": servers, "cases": spec["cases"]})
    fuzzing.reactor.run()


if __name__ == "__main__":
    main(json.loads(sys.argv[2]))
