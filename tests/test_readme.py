"""README's two commands, how long it is, and the figures and models that it names."""

import re

from conftest import ROOT
from pages import BLOCK, rows, text_of


def test_it_is_short():
    assert len(text_of("README").splitlines()) <= 150


def test_a_line_to_paste_is_one_that_ci_pastes():
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    pasted = re.findall(r"readme_command '(.+?)'", ci)
    found = re.findall(r"^    (\S.*)$", BLOCK.sub("", text_of("README")), re.MULTILINE)
    assert [[words for words in pasted if words in line] for line in found] == [[words] for words in pasted]


def test_its_figures_are_those_of_the_whole_table():
    table = text_of("README").split("| numroberta | PyTorch |")[1].split("\n\n")[0]
    whole = {name: cells for name, *cells in rows(text_of("fast").split("| ÷ ONNX Runtime |")[1].split("\n\n")[0])}
    assert len(rows(table)) == 3
    for name, *cells in rows(table):
        assert whole[name][:2] == cells
