"""Every recipe of the guide runs as it stands, wherever its package can be imported."""

import re
import sqlite3
import subprocess
import sys
from importlib.util import find_spec

import pytest
from conftest import ROOT
from pages import text_of

PAGE = text_of("guests")
RECIPES = dict(re.findall(r"^## (.*?)\n.*?^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def test_every_block_is_a_recipe_under_a_title_of_its_own():
    assert PAGE.count("```") == 2 * len(RECIPES) == 2 * PAGE.count("\n## ")


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_runs(title, tmp_path):
    wanted = set(re.findall(r"^(?:import|from) (\w+)", RECIPES[title], re.MULTILINE))
    missing = sorted(name for name in wanted if find_spec(name) is None)
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    if "enable_load_extension" in RECIPES[title] and not hasattr(sqlite3.Connection, "enable_load_extension"):
        pytest.skip("this Python's sqlite3 was built without extensions")
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{RECIPES[title]}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
