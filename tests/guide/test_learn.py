"""The exercises of `numroberta/guide/learn.md`: every answer runs, in the order of the page."""

import re

from conftest import ROOT

PAGE = ROOT / "numroberta" / "guide" / "learn.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_answer_is_right():
    session = {}
    page = PAGE.read_text("utf-8")
    blocks = BLOCK.findall(page)
    assert page.count("```") == 2 * len(blocks)
    assert page.count("\n## ") == len(blocks) - 1 == 8  # one block before the first exercise
    for code in blocks:
        exec(code, session)
