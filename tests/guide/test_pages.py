"""README and every page of the guide: blocks run, in the order of the page, and print what is shown; links lead on."""

import re

import pytest
from conftest import ROOT
from pages import GUIDE, PAGES, Block, blocks, run_console, text_of

from numroberta.guide import TOPICS, page, title

RUN_ONE_BY_ONE = "guests"  # each of its blocks is a program: test_recipes.py
WITH_BLOCKS = [name for name in PAGES if name != RUN_ONE_BY_ONE and blocks(name)]


@pytest.fixture
def run(hub, tmp_path, monkeypatch):
    """Run blocks one after the other, Python's in one session; the packages that some of them lack."""
    monkeypatch.setenv("HF_HUB_CACHE", str(hub.cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)

    def run(found):
        session, missing = {}, set()
        for block in found:
            missing |= {*block.missing}
            if block.language == "console":
                run_console(block.code, tmp_path)
            elif not block.missing:
                exec(compile(block.code, "a block of the page", "exec"), session)
        return missing

    return run


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_the_blocks_of_a_page_run_one_after_the_other(name, run):
    missing = run(block for block in blocks(name) if not block.how)
    if missing:
        pytest.skip(f"a block needs {', '.join(missing)}: the others ran")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in WITH_BLOCKS if "slow" in {block.how for block in blocks(name)}])
def test_the_slow_blocks_of_a_page_run_too(name, run):
    assert not run(block for block in blocks(name) if block.how == "slow")


@pytest.mark.parametrize("name", PAGES)
def test_every_block_is_of_a_kind_that_is_tested(name):
    found = blocks(name)
    assert text_of(name).count("```") == 2 * len(found)
    assert "<pre>" not in text_of(name)
    for block in found:
        assert block.language in ("python", "console")
        if block.how not in ("", "slow"):
            assert f'"{name}"' in (ROOT / block.how).read_text("utf-8")  # which asks for this page's blocks


def test_a_package_that_a_block_needs_is_found_missing():
    assert Block("python", "", "import numpy\nfrom no_such_package import thing\n").missing == ["no_such_package"]


@pytest.mark.parametrize("name", PAGES)
def test_links_and_pictures_are_there(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(name)):
        if target.startswith("https:"):
            continue
        path, _, part = target.partition("#")
        linked = (PAGES[name].parent / path).resolve() if path else PAGES[name]
        assert linked.exists(), target
        assert linked.is_relative_to(ROOT), target
        if part:
            titles = re.findall(r"^#+ (.*)$", linked.read_text("utf-8"), re.MULTILINE)
            assert part in [re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in titles], target


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_tells_to_install_exists(name):
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    extras = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    for names in re.findall(r"pip install [^`\n]*?(?:\.|numroberta)\[([\w,]+)\]", text_of(name)):
        for extra in names.split(","):
            assert re.search(rf"^{extra} = ", extras, re.MULTILINE), extra


def test_readme_has_a_door_to_every_page():
    assert {f"numroberta/guide/{topic}.md" for topic in TOPICS} <= set(re.findall(r"\]\(([^)#]+)", text_of("README")))


# --- numroberta guide --------------------------------------------------------------------------------------------


def test_a_topic_is_a_page_with_a_title_that_says_what_is_there():
    assert sorted(TOPICS) == sorted(path.stem for path in GUIDE.glob("*.md"))
    for topic in TOPICS:
        assert page(topic) == text_of(topic)
        assert re.match(r"# [\w -]+: \S.*\n\n", page(topic)), topic
        assert title(topic) in page(topic)


def test_the_command_prints_a_page_or_the_list(command):
    assert command("guide", "scale").out == text_of("scale")
    listed = command("guide").out
    for topic in TOPICS:
        assert f"{topic:12s}  {title(topic)}\n" in listed
