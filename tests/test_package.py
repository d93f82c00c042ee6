"""The package as others receive it: NumPy is all it needs, and the wheel has everything in it."""

import ast
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile

import numpy as np
import pytest
from conftest import ROOT

import numroberta
from numroberta.guide import TOPICS

# A wing whose classes are another library's: its door says what to install where that is missing.
# An adapter imports it inside `with needs(…)`, which does that.
ITS_LIBRARY = {"spark": {"pyspark", "pandas"}, "serving": {"starlette", "uvicorn"}}

SENTENCES = ["A man is playing a guitar.", "Someone plays an instrument."]


def run(*command, **options):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, **options).stdout


def new_environment(folder, *packages):
    """The Python of a fresh virtual environment with these packages from the registry."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    found = subprocess.run(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages], capture_output=True, text=True
    )
    if "No matching distribution" in found.stderr:
        pytest.skip(f"no package registry can be reached for {', '.join(packages)}")
    assert found.returncode == 0, found.stderr
    return python


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, sdist), built from this checkout."""
    python = new_environment(tmp_path_factory.mktemp("builder") / "venv", "hatchling")
    folder = tmp_path_factory.mktemp("dist")
    run(python, "-m", "hatchling", "build", "-d", folder, cwd=ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def test_importing_numroberta_imports_no_third_party_module_but_numpy():
    code = "import sys; before = set(sys.modules); import numroberta; print(*set(sys.modules) - before)"
    packages = {name.split(".")[0] for name in run(sys.executable, "-c", code, cwd=ROOT).split()}
    assert packages - set(sys.stdlib_module_names) <= {"numroberta", "numpy"}


def test_every_public_name_is_there_and_listed():
    for name in numroberta.__all__:
        assert getattr(numroberta, name).__doc__
        assert name in dir(numroberta)
    with pytest.raises(AttributeError, match="no attribute 'sing'"):
        numroberta.sing  # noqa: B018


@pytest.mark.parametrize(
    "path", sorted((ROOT / "numroberta").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_each_module_imports_no_third_party_module_at_its_top_but_numpy_and_its_wings_own(path):
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    packages = {name.split(".")[0] for name in found}
    own = set() if path.name == "__init__.py" else ITS_LIBRARY.get(path.parent.name, set())
    assert packages - set(sys.stdlib_module_names) <= {"numroberta", "numpy", *own}


def test_what_messages_tell_to_install_is_an_extra_of_this_package_or_another_package():
    """`numroberta[serve]` is right in a clone's environment, too: pip adds the extra to what is installed there."""
    project = (ROOT / "pyproject.toml").read_text("utf-8").partition("[project.optional-dependencies]")[2]
    extras = set(re.findall(r"^(\w+) = \[", project.partition("\n[")[0], re.MULTILINE))
    told = []
    for path in (ROOT / "numroberta").rglob("*.py"):
        told += re.findall(r"pip install '?([^'`\"\n)]+)", path.read_text("utf-8"))
    named = [re.fullmatch(r"numroberta\[(\w+)\]", what) for what in told]
    assert {"serve"} <= {found[1] for found in named if found} <= extras
    for what, found in zip(told, named, strict=True):
        assert found or "numroberta" not in what.split(), what
        assert "." not in what, what  # `.[serve]` is right in a clone only


@pytest.mark.slow
def test_the_wheel_has_the_model_the_types_the_licence_and_no_tests(built):
    wheel, _ = built
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "py.typed",
        "tiny/config.json",
        "tiny/model.safetensors",
        "tiny/vocab.json",
        "tiny/merges.txt",
        *(f"guide/{topic}.md" for topic in TOPICS),
    ):
        assert f"numroberta/{name}" in names
    assert any(name.endswith("/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {"numroberta", f"numroberta-{numroberta.__version__}.dist-info"}
    in_checkout = {path.relative_to(ROOT / "numroberta").as_posix() for path in (ROOT / "numroberta").rglob("*.py")}
    assert {name.removeprefix("numroberta/") for name in names if name.endswith(".py")} == in_checkout
    assert wheel.stat().st_size < 20e6


@pytest.mark.slow
def test_the_sdist_has_what_the_tests_and_the_build_need(built):
    _, sdist = built
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"pyproject.toml", "README.md", "LICENSE", "numroberta/tiny/model.safetensors", "tests/conftest.py"}
    assert wanted | {"scripts/reference/seeded.py", "scripts/reference/record.py"} <= names


@pytest.mark.slow
def test_with_numpy_alone_embed_gives_the_same_vectors(built, tiny, tmp_path):
    wheel, _ = built
    python = new_environment(tmp_path / "venv", "numpy")
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-index", wheel)
    listed = run(python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check")
    installed = {line.split("==")[0].split(" @ ")[0] for line in listed.splitlines()}
    assert installed - {"pip", "setuptools", "wheel"} == {"numpy", "numroberta"}

    command = python.parent / ("numroberta.exe" if os.name == "nt" else "numroberta")
    printed = run(command, "embed", *SENTENCES, cwd=tmp_path)
    assert "cosine similarity" in printed
    run(command, "embed", *SENTENCES, "-o", tmp_path / "vectors.npy", cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), tiny.encode(SENTENCES), rtol=0, atol=1e-5)
