"""What several test files need: data beside the project, models of all sizes, and commands as function calls.

A file that imports a package which is not installed is not collected, and the end of the run says so: with NumPy and
pytest alone the suite runs what they suffice for.
"""

import ast
import io
import os
import shutil
import signal
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
import random_model
import seeded

import numroberta
from numroberta.arithmetic import heads
from numroberta.cli import main

ROOT = Path(__file__).parent.parent

if find_spec("hypothesis"):
    from hypothesis import HealthCheck, settings

    # Machines differ in speed, so nothing has a deadline; CI draws the same examples every time.
    settings.register_profile(
        "numroberta", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.register_profile("quick", settings.get_profile("numroberta"), max_examples=30)


def pytest_configure(config):
    """Where the slow tests are left out, a property is tried on fewer examples, too."""
    if find_spec("hypothesis"):
        settings.load_profile("quick" if "not slow" in config.option.markexpr else "numroberta")


signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in its background without it

OPTIONAL = ("hypothesis", "mpmath", "safetensors", "tokenizers")  # which test files import at their top
NOT_COLLECTED: dict[str, list[str]] = {}


def imports_at_its_top(path):
    """The packages that a file of the tests imports when it is collected, through other files of the tests too."""
    imported = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    own = [other for name in imported if (other := ROOT / "tests" / f"{name.replace('.', '/')}.py").is_file()]
    return {name.split(".")[0] for name in imported}.union(*map(imports_at_its_top, own))


def pytest_ignore_collect(collection_path):
    """True for a file that cannot be imported here."""
    if collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    imported = imports_at_its_top(collection_path)
    missing = [name for name in OPTIONAL if name in imported and find_spec(name) is None]
    if missing:
        NOT_COLLECTED[collection_path.relative_to(ROOT).as_posix()] = missing
    return True if missing else None


def pytest_terminal_summary(terminalreporter):
    for path, missing in sorted(NOT_COLLECTED.items()):
        terminalreporter.write_line(f"NOT COLLECTED {path}: needs {' and '.join(missing)}")


@pytest.fixture(scope="session")
def shared():
    """The folder of data beside the project."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder ../shared (corpora, the tokenizer of roberta-base), which is not here")
    return folder


@pytest.fixture(scope="session")
def full_size_folder(tmp_path_factory):
    """DistilRoBERTa's geometry with weights from `seeded.py` and a small tokenizer; removed at the end."""
    folder = seeded.write(tmp_path_factory.mktemp("full-size"))
    random_model.write_tokenizer(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory):
    """A random model of 3 layers and 24 dimensions with a tokenizer, for 64 tokens at most."""
    return random_model.write(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def small(small_folder):
    return numroberta.load(small_folder)


@pytest.fixture(scope="session")
def tiny():
    """The built-in model."""
    return numroberta.load("tiny")


@pytest.fixture(scope="session")
def masked(tmp_path_factory):
    """The folder of a small random model that fills masks."""
    return random_model.write_with_head(tmp_path_factory.mktemp("masked"), heads.MASKED_LM)


@pytest.fixture(scope="session")
def sorter(tmp_path_factory):
    """One that classifies."""
    return random_model.write_with_head(tmp_path_factory.mktemp("sorter"), heads.SEQUENCE, id2label=random_model.LABELS)


@pytest.fixture(scope="session")
def tagger(tmp_path_factory):
    """One that tags."""
    return random_model.write_with_head(tmp_path_factory.mktemp("tagger"), heads.TOKEN, id2label=random_model.TAGS)


@pytest.fixture(scope="session")
def reader(tmp_path_factory):
    """One that answers."""
    return random_model.write_with_head(tmp_path_factory.mktemp("reader"), heads.SPAN)


@pytest.fixture(scope="session")
def model_with(small, masked, sorter, tagger, reader):
    """The small model that has the head which a method of TextEncoder needs."""
    loaded = {
        "fill_mask": numroberta.load(masked),
        "classify": numroberta.load(sorter),
        "tag": numroberta.load(tagger),
        "answer": numroberta.load(reader),
    }
    return lambda method: loaded.get(method, small)


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys, monkeypatch):
    """`command("embed", "text")` runs it in this process.

    stdin: what standard input holds, a string or bytes.  terminal: whether the output is one.
    code: how it must end; None for anything.
    A command that does its work says nothing on standard error; one that cannot do it prints nothing else.
    """

    def run(*arguments, stdin="", terminal=False, code=0):
        data = stdin if isinstance(stdin, bytes) else stdin.encode()
        capsys.readouterr()
        with monkeypatch.context() as patch, warnings.catch_warnings():
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
            patch.setattr(sys.stdout, "isatty", lambda: terminal)
            try:
                ended = main([str(argument) for argument in arguments])
            except SystemExit as stop:  # argparse: --help, or arguments that it does not know
                ended = stop.code
        out, err = capsys.readouterr()
        assert code in (None, ended), err
        if code == 2:
            assert out == ""
            assert err.startswith(("numroberta: ", "usage: "))
        elif code == 0:
            assert err == ""
        return Ended(ended, out, err)

    return run
