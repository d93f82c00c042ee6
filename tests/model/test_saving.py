"""A saved model is the same model: to this package, to transformers, to sentence-transformers."""

import json

import numpy as np
import pytest
import random_model

import numroberta
from numroberta.checkpoint.errors import CheckpointError
from numroberta.cli import main

TEXTS = ["The rain in Spain stays mainly in the plain.", "Ångström's naïve café: 12 €", ""]


@pytest.fixture(scope="module")
def theirs():
    return pytest.importorskip("sentence_transformers")


def test_a_saved_model_gives_the_same_bits(small, small_folder, tmp_path):
    small.save(tmp_path / "saved")
    again = numroberta.load(tmp_path / "saved")
    np.testing.assert_array_equal(again.encode(TEXTS), small.encode(TEXTS))
    assert again.checkpoint.weights_hash == small.checkpoint.weights_hash
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


def test_the_built_in_model_can_be_taken_out_and_fills_masks(tiny, tmp_path):
    tiny.save(tmp_path / "saved")
    again = numroberta.load(tmp_path / "saved")
    assert again.fill_mask("The cat sat on the <mask>.") == tiny.fill_mask("The cat sat on the <mask>.")


@pytest.mark.parametrize(("dtype", "error"), [("float16", 4e-3), ("bfloat16", 4e-2)])  # measured 1.2e-3, 1.1e-2
def test_16_bits_halve_the_file_and_cost_their_rounding(small, tmp_path, dtype, error):
    small.save(tmp_path / "saved", dtype)
    again = numroberta.load(tmp_path / "saved")
    assert again.checkpoint.dtype == dtype
    assert again.checkpoint.file_size < 0.6 * small.checkpoint.file_size
    np.testing.assert_allclose(again.encode(TEXTS), small.encode(TEXTS), rtol=0, atol=error)
    again.save(tmp_path / "twice")  # keeps the dtype of its file
    assert numroberta.load(tmp_path / "twice").checkpoint.weights_hash == again.checkpoint.weights_hash


def test_nothing_is_overwritten(small, tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "mine").touch()
    with pytest.raises(CheckpointError, match="saved is there already; remove it, or give another name"):
        small.save(tmp_path / "saved")
    assert [path.name for path in tmp_path.rglob("*")] == ["saved", "mine"]


def test_convert_writes_the_folder_and_says_what_is_in_it(small_folder, tmp_path, capsys):
    assert main(["convert", str(small_folder), str(tmp_path / "half"), "--dtype", "float16"]) == 0
    printed = capsys.readouterr().out
    assert printed.endswith(f"float16, 0.0 MB\nwritten to {tmp_path / 'half'}\n")
    assert numroberta.load(tmp_path / "half").checkpoint.dtype == "float16"
    assert main(["convert", str(small_folder), str(tmp_path / "half")]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parity
def test_transformers_loads_what_is_saved(small, tmp_path):
    transformers = pytest.importorskip("transformers")
    small.save(tmp_path / "saved")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    model = transformers.AutoModel.from_pretrained(tmp_path / "saved", add_pooling_layer=False)
    for text in TEXTS:
        expected = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].detach().numpy()
        np.testing.assert_allclose(small.encode_tokens(text).vectors, expected, rtol=0, atol=2.8e-6)  # measured: 7.2e-7


@pytest.mark.parity
@pytest.mark.parametrize("early", [False, True])
def test_sentence_transformers_loads_what_is_saved(theirs, tmp_path, early):
    """Prompts, a Dense layer, lengths: everything that the folder says."""
    from sentence_transformers import models

    encoder = random_model.write(tmp_path / "encoder")
    numroberta.load(encoder).save(tmp_path / "clean")
    hidden = random_model.SIZES["hidden_size"]
    modules = [
        models.Transformer(str(tmp_path / "clean"), max_seq_length=20),
        models.Pooling(hidden, "cls"),
        models.Dense(hidden, 7),
        models.Normalize(),
    ]
    prompts = {"query": "query: "}
    theirs.SentenceTransformer(modules=modules, prompts=prompts, device="cpu").save(str(tmp_path / "first"))
    if early:
        (tmp_path / "first" / "0_Transformer").mkdir()
        for name in (
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "sentence_bert_config.json",
        ):
            (tmp_path / "first" / name).rename(tmp_path / "first" / "0_Transformer" / name)
        steps = json.loads((tmp_path / "first" / "modules.json").read_text())
        steps[0]["path"] = "0_Transformer"
        (tmp_path / "first" / "modules.json").write_text(json.dumps(steps))
    ours = numroberta.load(tmp_path / "first")
    ours.save(tmp_path / "second")
    again = numroberta.load(tmp_path / "second")
    model = theirs.SentenceTransformer(str(tmp_path / "second"), device="cpu")
    assert again.max_length == model.max_seq_length == 20
    assert again.sentence.prompts["query"] == "query: "
    for options in ({}, {"prompt_name": "query"}):
        expected = model.encode([*TEXTS, "long " * 50], **options)
        np.testing.assert_allclose(
            again.encode([*TEXTS, "long " * 50], **options), expected, rtol=0, atol=1.1e-6
        )  # 2.8e-7
        np.testing.assert_array_equal(again.encode(TEXTS, **options), ours.encode(TEXTS, **options))
