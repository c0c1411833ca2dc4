// A client of npm's ws that talks to an echo without a pause:
//
//   node echo.mjs <directory of npm ci> <address> <seed> deflate|plain
//
// Messages of all lengths up to 1 MiB, text and binary, whole and in fragments, two under way at any time; each has to
// come back, byte by byte, in order. After each, {"heard":…} is printed with their number so far; {"open":…} when it is
// connected. It talks until its input ends; then it closes, and prints {"closed":…} with the close code. Anything that
// goes wrong is {"failed":…}.
import { createRequire } from "node:module";
import { createCipheriv } from "node:crypto";

const [directory, address, seed, compression] = process.argv.slice(2);
const WebSocket = createRequire(directory + "/")("ws");

/** How many messages are under way. */
const AHEAD = 2;

/** Lengths in bytes, and in how many fragments a message goes; one after the other. */
const SHAPES = [
  [1 << 20, 1],
  [10, 1],
  [1 << 20, 7],
  [0, 1],
  [65_536, 64],
  [125, 3],
  [300_000, 2],
];

function say(what) {
  process.stdout.write(JSON.stringify(what) + "\n");
}

function fail(why) {
  say({ failed: String(why) });
  process.exit(1);
}

/** Bytes that differ everywhere, by the seed and the message's number. */
function noise(index, length) {
  const key = Buffer.alloc(32);
  key.writeBigUInt64LE(BigInt(seed));
  key.writeUInt32LE(index, 8);
  return createCipheriv("chacha20", key, Buffer.alloc(16)).update(Buffer.alloc(length));
}

/** Message number `index`: every other one is text, which is easy to compress. */
function message(index) {
  const [length, fragments] = SHAPES[index % SHAPES.length];
  const isText = index % 2 === 1;
  const bytes = noise(index, length);
  // One of sixteen letters each.
  if (isText) for (let at = 0; at < length; at++) bytes[at] = 97 + (bytes[at] & 15);
  return { bytes, isText, fragments };
}

const socket = new WebSocket(address, { perMessageDeflate: compression === "deflate" });
const underWay = [];
let sent = 0;
let heard = 0;
let isEnding = false;

function talk() {
  while (!isEnding && underWay.length < AHEAD) {
    const { bytes, isText, fragments } = message(sent);
    const step = Math.ceil(bytes.length / fragments);
    for (let index = 0; index < fragments; index++) {
      const part = bytes.subarray(index * step, (index + 1) * step);
      socket.send(part, { binary: !isText, fin: index === fragments - 1 });
    }
    underWay.push({ bytes, isText, index: sent });
    sent += 1;
  }
  if (isEnding && underWay.length === 0) socket.close(1000);
}

socket.on("open", () => {
  const negotiated = socket.extensions.includes("permessage-deflate");
  if (negotiated !== (compression === "deflate")) fail(`extensions: ${socket.extensions}`);
  say({ open: true });
  talk();
});
socket.on("message", (data, isBinary) => {
  const expected = underWay.shift();
  if (!expected) return fail("a message that nobody has sent");
  if (isBinary === expected.isText) return fail(`message ${expected.index} is of the other kind`);
  if (!data.equals(expected.bytes)) return fail(`message ${expected.index} differs`);
  heard += 1;
  say({ heard });
  talk();
});
socket.on("error", fail);
socket.on("close", (code) => {
  if (!isEnding) fail(`closed with ${code} after ${heard} messages`);
  say({ closed: code, heard });
  process.exit(0);
});
process.stdin.on("end", () => {
  isEnding = true;
  talk();
});
process.stdin.resume();
