"""The listing of `numroberta/` is the map: imports go down a table, and pass a wing by its door."""

import ast
import re

import pytest
from conftest import ROOT
from pages import text_of

PACKAGE = ROOT / "numroberta"

# From the top of the house to its ground.  A file may import its own wing, and the doors of wings below it.
FLOORS = (
    "__main__",
    "cli",
    "serving",
    "spark",
    "adapters",
    "view",
    "parity",
    "training",
    "corpus",
    "model",
    "arithmetic",
    "textbook",
    "tokenizer",
    "checkpoint",
    "guide",
)
DATA = ("tiny",)  # no Python
FILES = sorted(PACKAGE.rglob("*.py"))


def wing_of(path):
    """The wing that a file belongs to; "" for the package's own `__init__.py`."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported(path):
    """(module, name or None) for every import in a file, in functions and for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from ((node.module, alias.name) for alias in node.names)


def wings_imported(path):
    """(wing, what is reached for: None at its door, else the file behind it) for each import of this package."""
    for module, name in imported(path):
        parts = module.split(".")
        if parts[0] != "numroberta":
            continue
        if len(parts) == 1 and name is not None and name not in FLOORS:
            continue  # what `numroberta/__init__.py` itself defines
        wing, *behind = [*parts[1:], *([name] if len(parts) == 1 else [])]
        yield wing, behind[0] if behind else None


def offered(wing):
    """The names that a door gives: those that its `__init__.py` imports or defines."""
    path = PACKAGE / wing / "__init__.py"
    defined = {node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.FunctionDef)}
    return defined | {name for _, name in imported(path) if name} - {"door", "TYPE_CHECKING", "annotations"}


def names_from_doors(path):
    """(wing, name) for each name that a file takes from a wing's door."""
    for module, name in imported(path):
        parts = module.split(".")
        if parts[0] == "numroberta" and len(parts) == 2 and name is not None and (PACKAGE / parts[1]).is_dir():
            yield parts[1], name


def by_path(path):
    return path.relative_to(ROOT).as_posix()


def test_every_entry_is_on_a_floor_and_there_are_at_most_a_dozen_and_a_half():
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert entries == {*FLOORS[1:], "__init__.py", "__main__.py", "py.typed", *DATA}
    assert len(entries) <= 18


@pytest.mark.parametrize("path", FILES, ids=by_path)
def test_imports_go_down_and_through_doors(path):
    own = wing_of(path)
    for wing, behind in wings_imported(path):
        if wing == own:
            continue
        assert behind is None, f"{by_path(path)} reaches past the door of {wing}: numroberta.{wing}.{behind}"
        if own:
            assert FLOORS.index(wing) > FLOORS.index(own), f"{by_path(path)} imports {wing}, which is above it"


@pytest.mark.parametrize("path", FILES, ids=by_path)
def test_a_door_is_asked_only_for_what_it_names(path):
    for wing, name in names_from_doors(path):
        if wing != wing_of(path):
            assert name in offered(wing), f"{by_path(path)}: numroberta.{wing} does not name {name}"


def test_the_textbook_imports_nothing_but_numpy():
    for path in (PACKAGE / "textbook").glob("*.py"):
        found = {module.split(".")[0] for module, _ in imported(path)}
        assert found <= {"__future__", "collections", "dataclasses", "typing", "numpy", "numroberta"}
        assert {wing for wing, _ in wings_imported(path)} <= {"textbook"}


def test_a_door_loads_what_it_names():
    for wing in FLOORS[2:]:
        if wing in ("spark", "serving"):
            continue  # they need PySpark and Starlette: tests/spark, tests/serving
        module = __import__(f"numroberta.{wing}", fromlist=["_"])
        for name in offered(wing):
            assert getattr(module, name) is not None


@pytest.mark.parametrize("wing", [wing for wing in FLOORS[2:] if wing != "textbook"])  # whose door is no lazy one
def test_no_door_gives_something_the_name_of_a_file_behind_it(wing):
    """Once that file is imported, the name at the door would be the module."""
    for module, name in imported(PACKAGE / wing / "__init__.py"):
        if module.count(".") == 2:
            assert not (PACKAGE / wing / f"{name}.py").exists(), f"numroberta.{wing}.{name} is a file, too"


def test_tests_mirror_the_wings():
    rooms = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == {*FLOORS[1:], "reference", "scripts"}


def test_the_guide_shows_the_same_table():
    table = text_of("learn").split("| wing |")[1].split("\n\n")[0]
    shown = re.findall(r"`(\w+)/`", "\n".join(line.split("|")[1] for line in table.splitlines()[2:]))
    assert shown == [*FLOORS[1:], *DATA]
