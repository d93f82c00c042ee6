"""What a test says of how close two arrays are is what it tests."""

import ast

import pytest
from conftest import ROOT

TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.relative_to(ROOT / "tests").as_posix())
def test_every_comparison_says_its_relative_tolerance(path):
    """NumPy adds rtol=1e-7 where nothing is said: "atol=1e-12" alone lets a value of 1 be wrong by 1e-7."""
    calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    for call in calls:
        named = {keyword.arg for keyword in call.keywords}  # None: **options
        if getattr(call.func, "attr", "") == "assert_allclose" and None not in named:
            assert "rtol" in named, f"line {call.lineno}"
