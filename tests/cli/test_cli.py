"""What the commands print and write."""

import argparse
import json
import os
import re

import numpy as np
import pytest
from safetensors.numpy import load_file

import numroberta
from numroberta import parity
from numroberta.cli.commands import command_parser

SENTENCES = ["A man is playing a guitar.", "Someone plays an instrument.", "The stock market fell."]


def test_embed_prints_shape_preview_and_cosine_matrix(command, tiny):
    lines = command("embed", *SENTENCES).out.splitlines()
    hidden = tiny.config.hidden_size
    assert lines[0].startswith(f"3 texts × {hidden} dimensions, float32")
    vectors = tiny.encode(SENTENCES, normalize_embeddings=True)
    preview = [float(x) for x in re.search(r"\[(.*) …\]", lines[1])[1].split()]
    assert preview == [round(float(x), 3) for x in tiny.encode(SENTENCES[0])[:5]]
    assert lines[1].endswith(SENTENCES[0])
    matrix = np.array([[float(x) for x in line.split()[1:]] for line in lines[-3:]])
    np.testing.assert_allclose(matrix, vectors @ vectors.T, rtol=0, atol=6e-4)  # three digits are printed


def test_one_text_is_counted_in_english_and_has_no_matrix(command):
    out = command("embed", "alone").out
    assert out.startswith("1 text × ")
    assert "cosine" not in out


def test_embed_writes_npy(command, small_folder, small, tmp_path):
    out = tmp_path / "vectors.npy"
    printed = command("embed", "--model", small_folder, *SENTENCES, "-o", out, "-q").out
    assert printed == ""
    assert os.listdir(tmp_path) == ["vectors.npy"]
    np.testing.assert_allclose(np.load(out), small.encode(SENTENCES), rtol=0, atol=1e-6)  # measured: 4.8e-7


def test_embed_writes_jsonl_with_the_text_beside_its_vector(command, small_folder, small, tmp_path):
    out = tmp_path / "vectors.jsonl"
    texts = [*SENTENCES, '日本語 " quoted']
    command("embed", "--model", small_folder, *texts, "-o", out, "-q")
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows] == texts
    vectors = [row["embedding"] for row in rows]
    np.testing.assert_allclose(vectors, small.encode(texts), rtol=0, atol=1e-6)  # measured: 4.8e-7


def test_a_dash_reads_a_text_a_line_from_standard_input(command, small_folder, small, tmp_path):
    out = tmp_path / "vectors.npy"
    command("embed", "--model", small_folder, "-", "-o", out, "-q", stdin="the sea\n\nünï\r\nlast")
    texts = ["the sea", "", "ünï", "last"]
    np.testing.assert_allclose(np.load(out), small.encode(texts), rtol=0, atol=1e-6)  # measured: 4.8e-7


def test_tokenize_shows_pieces_ids_and_offsets(command, small_folder, small):
    lines = command("tokenize", "--model", small_folder, "the sea").out.splitlines()
    encoding = small.tokenizer("the sea")
    assert lines[0] == f"{len(encoding)} tokens"
    assert len(lines) == 1 + len(encoding)
    for line, number, token, (start, stop) in zip(
        lines[1:], encoding.ids, encoding.tokens, encoding.offsets, strict=True
    ):
        assert line.split()[:2] == [str(number), token]
        assert stop == 0 or re.search(rf"{start}:{stop}\s+'{'the sea'[start:stop]}'$", line)


def test_info_shows_config_parameters_dtype_and_size(command, small_folder, small):
    text = command("info", small_folder).out
    total = sum(tensor.size for tensor in small.checkpoint.tensors.values())
    assert re.search(r"hidden_size +24\n", text)
    assert re.search(rf"total +{total:,}\n", text)
    assert re.search(r"encoder\.layer\.2 +[\d,]+\n", text)
    assert text.splitlines()[-1].startswith("float32, ")
    assert "model.safetensors" in text


def test_info_of_the_built_in_model(command):
    assert "model.safetensors" in command("info").out


def test_a_program_reads_lines_of_json_and_a_person_a_table(command):
    given = ("fill-mask", "She opened the <mask>.", "--targets", " door", " book")
    answers = json.loads(command(*given).out)["answers"]
    assert [answer["token_str"] for answer in answers] == [" door", " book"]
    title, *rows = command(*given, terminal=True).out.splitlines()
    assert title == "She opened the <mask>."
    assert [row.split()[2] for row in rows] == ["door", "book"]


def test_help_names_every_command_and_what_it_does(command):
    text = " ".join(command("--help").out.split())
    (parsers,) = (action for action in command_parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert len(parsers._choices_actions) == len(parsers.choices)
    for action in parsers._choices_actions:
        assert f"{action.dest} {action.help}" in text


def test_fingerprint_prints_hashes_and_checks_those_of_another_machine(command, tmp_path):
    printed = command("fingerprint", "--dtype", "float64", SENTENCES[0]).out
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines][:4] == ["dtype", "weights", "input_ids", "embeddings"]
    theirs = tmp_path / "theirs.txt"
    theirs.write_text(printed)
    check = ("fingerprint", SENTENCES[0], "--check", theirs, "--dtype", "float64")
    assert "the same bits" in command(*check).out
    theirs.write_text(printed.replace(lines[6].split()[1], "0" * 64))
    assert f"the first to differ: {lines[6].split()[0]}" in command(*check, code=1).out


@pytest.mark.parametrize(
    ("arguments", "name", "why"),
    [
        (["--dtype", "float64", SENTENCES[0]], "dtype", "give the same --dtype"),
        ([SENTENCES[1]], "input_ids", "the texts are others"),
    ],
)
def test_fingerprint_says_which_condition_is_another_one(command, tmp_path, arguments, name, why):
    theirs = tmp_path / "theirs.txt"
    theirs.write_text(command("fingerprint", SENTENCES[0]).out)
    out = command("fingerprint", *arguments, "--check", theirs, code=1).out
    assert f"the first to differ: {name}" in out
    assert why in out


def test_reproducible_gives_the_same_bytes_on_any_number_of_threads(command, tmp_path, tiny):
    for threads in ("1", "2"):
        out = tmp_path / f"{threads}.npy"
        command("embed", "--reproducible", "--threads", threads, *SENTENCES, "-o", out, "-q")
    assert (tmp_path / "1.npy").read_bytes() == (tmp_path / "2.npy").read_bytes()
    np.testing.assert_allclose(
        np.load(tmp_path / "1.npy"), tiny.encode(SENTENCES), rtol=0, atol=2.5e-6
    )  # measured: 5.9e-7


def test_a_reproducible_trace_is_the_models_own_forward_pass(command, tmp_path):
    out = tmp_path / "trace.safetensors"
    command("trace", "--reproducible", SENTENCES[0], "-o", out)
    model = numroberta.load("tiny", reproducible=True)
    expected = parity.trace(model, *parity.batch(model, [SENTENCES[0]]))
    recorded = load_file(out)
    assert recorded.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(recorded[name], array)
