"""Makes the Autobahn test suite, which is written in Python 2, run under Python 3.

Usage: convert.py DIRECTORY

Reads the package as pip has installed it for this interpreter, and writes what is needed of it to DIRECTORY. The cases
themselves stay as they are: what changes is the language around them.

A string of Python 2 is bytes. Here it becomes a string with one character for each of these bytes, by reading the source
as Latin-1; where the suite meets the network, `run.py` turns such strings back into bytes.
"""

import importlib.metadata
import pathlib
import shutil
import sys

from fissix import refactor
from fissix.pgen2 import token

WANTED = ("__init__.py", "_version.py", "caseset.py", "fuzzing.py", "case/*.py", "testdata/*")

# The package's face imports every tool of the suite, most of which are not needed.
FACE = "from ._version import __version__\nversion = __version__\n"


class Refactoring(refactor.RefactoringTool):
    def refactor_tree(self, tree, name):
        changed = super().refactor_tree(tree, name)
        # Division of integers.
        for leaf in tree.leaves():
            if leaf.type == token.SLASH:
                leaf.type, leaf.value = token.DOUBLESLASH, "//"
        return changed


def main(directory):
    package = importlib.metadata.distribution("autobahntestsuite").locate_file("autobahntestsuite")
    target = directory / "autobahntestsuite"
    shutil.rmtree(target, ignore_errors=True)
    tool = Refactoring(refactor.get_fixers_from_package("fissix.fixes"))
    for source in sorted(path for pattern in WANTED for path in package.glob(pattern)):
        file = target / source.relative_to(package)
        file.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix != ".py":
            shutil.copyfile(source, file)
            continue
        text = FACE if source == package / "__init__.py" else source.read_text(encoding="latin-1")
        # Relative imports are recognized by the files beside the source.
        text = str(tool.refactor_string(text.rstrip() + "\n", str(source)))
        # Every class is an object now, and cannot be one before it is a case.
        text = text.replace("(object, Case, )", "(Case, )")
        file.write_text("# -*- coding: latin-1 -*-\n" + text, encoding="latin-1")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
