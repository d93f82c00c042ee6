"""Every code block of README.md runs, in the order of the page, and commands print what the page shows."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

README = ROOT / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+\.\d+")
# Two computers may differ in the last digit shown.
LAST_DIGIT = 0.0015


def blocks(language):
    return [code for found, code in BLOCK.findall(README.read_text("utf-8")) if found == language]


def commands():
    """(command, what it prints) of each line after a `$`; nothing where the page shows no output."""
    found = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.replace("\\\n", "").partition("\n")
            found.append((command, output.strip()))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


def run(command, folder):
    function = f'numroberta() {{ "{sys.executable}" -m numroberta "$@"; }}'
    found = subprocess.run(
        ["bash", "-ec", f"{function}; {command}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_every_block_is_of_a_kind_that_is_tested():
    page = README.read_text("utf-8")
    assert page.count("```") == 2 * (len(blocks("python")) + len(blocks("console")))
    assert blocks("python")
    assert commands()
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    for line in re.findall(r"^    (\S.*)$", BLOCK.sub("", page), re.MULTILINE):  # `.ci/run` pastes these into a shell
        assert any(words in line for words in re.findall(r"readme_command '(.+?)'", ci)), line


def test_what_it_tells_to_install_exists():
    page, project = README.read_text("utf-8"), (ROOT / "pyproject.toml").read_text("utf-8")
    extras = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    for names in re.findall(r"pip install [^`\n]*?\.\[([\w,]+)\]", page):
        for extra in names.split(","):
            assert re.search(rf"^{extra} = ", extras, re.MULTILINE), extra


def test_commands_print_what_the_page_shows(folder):
    for command, shown in commands():
        if "pip install" in command:
            continue  # `.ci/run` installs the package, extras and all
        printed = run(command, folder).strip()
        if shown:
            assert NUMBER.sub("#", printed).split() == NUMBER.sub("#", shown).split(), command
            numbers = [float(number) for number in NUMBER.findall(printed)]
            assert numbers == pytest.approx([float(number) for number in NUMBER.findall(shown)], abs=LAST_DIGIT)


def run_python(code, folder):
    env = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, encoding="utf-8", check=False
    )
    assert found.returncode == 0, found.stderr


def test_python_blocks_run_one_after_the_other(folder):
    run_python("\n".join(code for code in blocks("python") if "pyspark" not in code), folder)  # Spark's: test_spark.py


def test_links_and_pictures_are_there():
    for target in re.findall(r"\]\(([^)#]+)", README.read_text("utf-8")):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
