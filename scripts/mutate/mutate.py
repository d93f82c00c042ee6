"""Plant faults in numroberta, one at a time, and print which of them no test catches.

    python scripts/mutate/mutate.py                     # all faults of faults.json: some seconds each
    python scripts/mutate/mutate.py G02 G16             # these
    python scripts/mutate/mutate.py --check             # only whether each fault's text is where the list says

Each fault of the list names a file, a piece of its text that stands there exactly once, what is written in its place,
and the tests that must fail.  The work is done in a copy of the checkout, which is left as it is.  Each fault's tests
must pass there before it is planted: a test that fails anyway catches nothing.  Exit codes: 0 all faults were caught,
1 some were not, or their tests fail without a fault, 2 the list does not fit the code.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAULTS = Path(__file__).with_name("faults.json")
LONGEST = 300  # seconds of one fault's tests; a fault may make them wait for ever
COPIED = ("numroberta", "tests", "scripts", "pyproject.toml", "README.md", "LICENSE", ".ci")


@dataclass(frozen=True)
class Fault:
    """A change that a test must catch."""

    name: str
    file: str  # below the checkout
    text: str
    fault: str  # what is planted in place of the text
    promise: str  # what a user is promised, and would lose
    tests: list[str]  # arguments of pytest

    def planted(self, source: str) -> str:
        """The source with the fault in it; ValueError where the text does not stand there exactly once."""
        count = source.count(self.text)
        if count != 1:
            raise ValueError(f"{self.name}: {self.file} has {self.text!r} {count} times, expected once")
        faulty = source.replace(self.text, self.fault)
        try:
            ast.parse(faulty)
        except SyntaxError as error:
            raise ValueError(f"{self.name}: {self.file} is no Python with the fault: {error}") from None
        return faulty


def read_faults(path: Path, names: Sequence[str] = ()) -> list[Fault]:
    """The faults of a list, or those of these names; ValueError for a name that the list does not have."""
    faults = [Fault(**entry) for entry in json.loads(path.read_text("utf-8"))]
    unknown = set(names) - {fault.name for fault in faults}
    if unknown:
        raise ValueError(f"{path.name} has no fault {', '.join(sorted(unknown))}")
    names_of = [fault.name for fault in faults]
    if twice := {name for name in names_of if names_of.count(name) > 1}:
        raise ValueError(f"{path.name} has two faults {', '.join(sorted(twice))}")
    return [fault for fault in faults if not names or fault.name in names]


def copy_checkout(folder: Path) -> Path:
    """A copy to plant faults in, with the data beside it where there is any."""
    copy = folder / "checkout"
    copy.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, copy / name)
    if (ROOT.parent / "shared").is_dir():
        (folder / "shared").symlink_to((ROOT.parent / "shared").resolve())
    return copy


def failure(checkout: Path, tests: Sequence[str]) -> str | None:
    """The first of these tests, slow ones too, that fails in a checkout; None where all pass.

    ValueError where pytest cannot run.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not hub", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(checkout)}
    try:
        ended = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return f"no end after {LONGEST} s"
    if ended.returncode not in (0, 1):
        raise ValueError(f"pytest {' '.join(tests)} ended with {ended.returncode}: {ended.stdout[-500:]}")
    if ended.returncode == 0:
        return None
    return next((line for line in ended.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))), "a test fails")


def survives(fault: Fault, checkout: Path) -> bool:
    """Whether the fault's tests pass with the fault in the code."""
    path = checkout / fault.file
    source = path.read_text("utf-8")
    path.write_text(fault.planted(source), "utf-8")
    try:
        return failure(checkout, fault.tests) is None
    finally:
        path.write_text(source, "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a fault (default: all)")
    parser.add_argument("--faults", type=Path, default=FAULTS, metavar="FILE", help="another list")
    parser.add_argument("--check", action="store_true", help="run no test")
    options = parser.parse_args()
    verdicts = []
    try:
        faults = read_faults(options.faults, options.names)
        for fault in faults:
            fault.planted((ROOT / fault.file).read_text("utf-8"))
        if options.check:
            print(f"{len(faults)} faults can be planted")
            return 0
        with tempfile.TemporaryDirectory() as folder:
            checkout = copy_checkout(Path(folder))
            without: dict[tuple[str, ...], str | None] = {}
            for fault in faults:
                tests = tuple(fault.tests)
                if tests not in without:
                    without[tests] = failure(checkout, tests)
                began = time.monotonic()
                if without[tests]:
                    verdict, why = "unsound", f"without a fault: {without[tests]}"
                else:
                    verdict, why = "SURVIVED" if survives(fault, checkout) else "caught", fault.promise
                verdicts.append(verdict)
                print(f"{verdict:8}  {fault.name:4}  {time.monotonic() - began:4.0f} s  {why}", flush=True)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    caught = verdicts.count("caught")
    print(f"{caught} of {len(faults)} faults were caught")
    return 0 if caught == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main())
