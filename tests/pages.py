"""README and the pages of the guide: their code blocks, and how a reader runs them.

A fence names the block's language, ```` ```python ```` or ```` ```console ````, and after it, where need be, `slow`, or
the file of the tests that runs this block beside what it needs, a server or Spark.
"""

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from typing import NamedTuple

from conftest import ROOT

GUIDE = ROOT / "numroberta" / "guide"
PAGES = {"README": ROOT / "README.md"} | {path.stem: path for path in sorted(GUIDE.glob("*.md"))}
BLOCK = re.compile(r"^```(\w+) ?(.*)\n((?s:.*?))^```$", re.MULTILINE)
NUMBER = re.compile(r"-?\d+\.\d+")
# Two computers may differ in the last digit shown.
LAST_DIGIT = 0.0015


class Block(NamedTuple):
    language: str
    how: str  # "", "slow" or who runs it
    code: str

    @property
    def missing(self):
        """The packages that it imports and that are not installed."""
        imported = (
            re.findall(r"^\s*(?:import|from) (\w+)", self.code, re.MULTILINE) if self.language == "python" else []
        )
        return sorted({name for name in imported if find_spec(name) is None})


def text_of(name):
    return PAGES[name].read_text("utf-8")


def blocks(name):
    return [Block(*found) for found in BLOCK.findall(text_of(name))]


def commands(code):
    """(command, what it prints) of each line after a `$`; nothing where the page shows no output."""
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        command, _, output = part.replace("\\\n", "").partition("\n")
        yield command, output.strip()


def rows(table):
    """The cells of each row of a Markdown table, which begins with its head."""
    return [[cell.strip() for cell in line.strip("| \n").split(" | ")] for line in table.splitlines()[2:]]


def run_console(code, folder):
    """Run a block's commands, and hold what they print against what it shows."""
    function = f'numroberta() {{ {shlex.quote(sys.executable)} -m numroberta "$@"; }}'
    for command, shown in commands(code):
        if "pip install" in command:
            continue  # `.ci/run` installs the package, extras and all
        found = subprocess.run(
            ["bash", "-ec", f"{function}; {command}"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert found.returncode == 0, found.stderr
        printed = found.stdout.strip()
        if shown:
            assert NUMBER.sub("#", printed).split() == NUMBER.sub("#", shown).split(), command
            for number, expected in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True):
                assert abs(float(number) - float(expected)) <= LAST_DIGIT, command
