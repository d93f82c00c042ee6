"""The built-in model: whole, small, and of use."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_data import held_out, read_lines

import numroberta
from numroberta.checkpoint.safetensors_file import load_safetensors

FOLDER = Path(numroberta.__file__).parent / "tiny"


def test_its_files_are_those_that_transformers_and_sentence_transformers_look_for():
    expected = {
        "README.md",
        "config.json",
        "model.safetensors",
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "modules.json",
        "sentence_bert_config.json",
        "1_Pooling/config.json",
    }
    assert {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()} == expected


def test_it_takes_at_most_ten_megabytes():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 10_000_000


def test_it_has_distilroberta_s_layers_and_heads():
    config = numroberta.load("tiny").config
    assert (config.num_hidden_layers, config.num_attention_heads) == (6, 12)
    assert (config.hidden_size, config.intermediate_size, config.vocab_size) == (192, 768, 8192)


def test_its_decoder_is_the_embedding_table_stored_once():
    tensors, _ = load_safetensors(FOLDER / "model.safetensors")
    assert json.loads((FOLDER / "config.json").read_text())["tie_word_embeddings"] is True
    assert [name for name, tensor in tensors.items() if tensor.shape == (8192, 192)] == [
        "roberta.embeddings.word_embeddings.weight"
    ]
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())


@pytest.mark.parametrize(
    ("sentence", "same", "other"),
    [
        ("A man is playing a guitar.", "Someone plays music on an instrument.", "It will rain tomorrow."),
        ("The cat is sleeping on the sofa.", "A cat lies asleep on a couch.", "Congress passed a new law on taxes."),
        ("She cooked dinner for her family.", "They ate a meal in the kitchen.", "The ship sailed across the ocean."),
        ("The weather is bad today.", "It is raining again this morning.", "He bought a new computer."),
    ],
)
def test_of_two_sentences_the_one_that_means_the_same_is_nearer(tiny, sentence, same, other):
    a, b, c = tiny.encode([sentence, same, other], normalize_embeddings=True)
    assert a @ b > a @ c + 0.1


@pytest.mark.parametrize(
    ("blank", "nouns"),
    [
        ("She opened the <mask> and went out.", {"door", "window", "gate", "house", "room"}),
        ("He opened his <mask> and began to speak.", {"eyes", "mouth", "lips", "head", "face", "heart"}),
    ],
)
def test_a_blank_gets_a_word_that_fits(tiny, blank, nouns):
    answers = [answer["token_str"].strip() for answer in tiny.fill_mask(blank, top_k=10)]
    assert nouns & set(answers), answers


def test_a_capital_is_a_word():
    (first, *_) = numroberta.load("tiny").fill_mask("The capital of France is <mask>.", top_k=1)
    assert first["token_str"].startswith(" ")
    assert first["token_str"].strip().isalpha()


def test_a_line_is_held_out_for_good_and_about_one_in_fifty_is(shared):
    held = [line for _, line in read_lines(shared / "corpus", held=True)]
    kept = [line for _, line in read_lines(shared / "corpus", held=False)]
    assert held_out(held[0])
    assert not held_out(kept[0])
    assert not set(held) & set(kept)
    assert len(held) / (len(held) + len(kept)) == pytest.approx(0.02, abs=0.002)
