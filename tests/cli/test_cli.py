"""The command line, as a shell runs it: what it prints, what it writes, and how it ends."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import numroberta

ROOT = Path(__file__).parents[2]
SENTENCES = ["A man is playing a guitar.", "Someone plays an instrument.", "The stock market fell."]


def numroberta_command(*arguments, stdin="", code=0):
    """Standard output of `numroberta …`; it must end with this code, and say nothing in error if that is 0."""
    found = subprocess.run(
        [sys.executable, "-m", "numroberta", *map(str, arguments)],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert found.returncode == code, found.stderr
    if code:
        assert found.stdout == ""
        assert found.stderr.startswith(("numroberta: ", "usage: "))
        assert "Traceback" not in found.stderr
        return found.stderr
    assert found.stderr == ""
    return found.stdout


def test_embed_prints_shape_preview_and_cosine_matrix(tiny):
    lines = numroberta_command("embed", *SENTENCES).splitlines()
    hidden = tiny.config.hidden_size
    assert lines[0].startswith(f"3 texts × {hidden} dimensions, float32")
    vectors = tiny.encode(SENTENCES, normalize_embeddings=True)
    preview = [float(x) for x in re.search(r"\[(.*) …\]", lines[1])[1].split()]
    assert preview == [round(float(x), 3) for x in tiny.encode(SENTENCES[0])[:5]]
    assert lines[1].endswith(SENTENCES[0])
    matrix = np.array([[float(x) for x in line.split()[1:]] for line in lines[-3:]])
    np.testing.assert_allclose(matrix, vectors @ vectors.T, atol=6e-4)  # three digits are printed


def test_one_text_has_no_matrix():
    assert "cosine" not in numroberta_command("embed", "alone")


def test_embed_writes_npy(small_folder, small, tmp_path):
    out = tmp_path / "vectors.npy"
    printed = numroberta_command("embed", "--model", small_folder, *SENTENCES, "-o", out)
    assert str(out) in printed
    assert os.listdir(tmp_path) == ["vectors.npy"]
    np.testing.assert_allclose(np.load(out), small.encode(SENTENCES), atol=1e-6)


def test_embed_writes_jsonl_with_the_text_beside_its_vector(small_folder, small, tmp_path):
    out = tmp_path / "vectors.jsonl"
    texts = [*SENTENCES, '日本語 " quoted']
    numroberta_command("embed", "--model", small_folder, *texts, "-o", out)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows] == texts
    np.testing.assert_allclose([row["embedding"] for row in rows], small.encode(texts), atol=1e-6)  # measured: 5.0e-9


def test_a_dash_reads_a_text_a_line_from_standard_input(small_folder, small, tmp_path):
    out = tmp_path / "vectors.npy"
    numroberta_command("embed", "--model", small_folder, "-", "-o", out, stdin="the sea\n\nünï\r\nlast")
    np.testing.assert_allclose(np.load(out), small.encode(["the sea", "", "ünï", "last"]), atol=1e-6)


def test_options_reach_the_model(small_folder, tmp_path):
    out = tmp_path / "vectors.npy"
    options = ["--dtype", "float64", "--threads", 1, "--deterministic", "--low-memory", "--pooling", "cls"]
    numroberta_command("embed", "--model", small_folder, "the sea", *options, "--normalize", "-o", out)
    enc = numroberta.load(small_folder, dtype="float64", deterministic=True)
    expected = enc.encode(["the sea"], pooling="cls", normalize_embeddings=True)
    assert np.load(out).dtype == np.float64
    np.testing.assert_allclose(np.load(out), expected, atol=1e-12)


def test_tokenize_shows_pieces_ids_and_offsets(small_folder, small):
    lines = numroberta_command("tokenize", "--model", small_folder, "the sea").splitlines()
    encoding = small.tokenizer("the sea")
    assert lines[0] == f"{len(encoding)} tokens"
    assert len(lines) == 1 + len(encoding)
    for line, number, token, (start, stop) in zip(
        lines[1:], encoding.ids, encoding.tokens, encoding.offsets, strict=True
    ):
        assert line.split()[:2] == [str(number), token]
        assert stop == 0 or re.search(rf"{start}:{stop}\s+'{'the sea'[start:stop]}'$", line)


def test_info_shows_config_parameters_dtype_and_size(small_folder, small):
    text = numroberta_command("info", small_folder)
    total = sum(tensor.size for tensor in small.checkpoint.tensors.values())
    assert re.search(r"hidden_size +24\n", text)
    assert re.search(rf"total +{total:,}\n", text)
    assert re.search(r"encoder\.layer\.2 +[\d,]+\n", text)
    assert text.splitlines()[-1].startswith("float32, ")
    assert "model.safetensors" in text


def test_info_of_the_built_in_model():
    assert "model.safetensors" in numroberta_command("info")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "--model", "no/such/folder", "the"], "no/such/folder"),
        (["embed", "the", "-o", "vectors.txt"], r"vectors.txt.*\.npy"),
        (["embed", "the", "--pooling", "sum"], "sum"),
        (["embed", "the", "--threads", "0"], "num_threads=0, expected at least 1"),
        (["embed"], "expected texts"),
        (["sing"], "sing"),
        (["info", "no/such/folder"], "no/such/folder"),
        (["tokenize", "--model", "no/such/folder", "the"], "no/such/folder"),
        ([], "COMMAND"),
    ],
)
def test_bad_input_ends_with_2_and_a_sentence(arguments, message):
    error = numroberta_command(*arguments, code=2)
    assert re.search(message, error)


def test_an_output_that_cannot_be_written_is_a_sentence_and_leaves_nothing(tmp_path):
    error = numroberta_command("embed", "the", "-o", tmp_path / "no folder" / "vectors.npy", code=2)
    assert "no folder" in error


def test_a_text_over_the_limit_is_a_warning_on_standard_error(small_folder):
    found = subprocess.run(
        [sys.executable, "-m", "numroberta", "embed", "--model", str(small_folder), " the" * 100],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0
    assert found.stderr.count("\n") == 1
    assert "1 of 1 texts have more than 64 tokens" in found.stderr


@pytest.mark.skipif(os.name == "nt", reason="pipes break otherwise there")
def test_a_reader_that_has_read_enough_is_no_error(small_folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "numroberta", "tokenize", "--model", str(small_folder), "-"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdin.write("word " * 50_000)
    process.stdin.close()
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0


def test_help_names_every_command():
    text = numroberta_command("--help")
    assert all(re.search(rf"\b{command}\b", text) for command in ("embed", "tokenize", "info"))


def test_pipes_are_utf8_whatever_the_locale_says():
    """As on Windows, where the locale's encoding is not UTF-8: "ü" comes in and goes out as it is."""
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "numroberta", "tokenize", "-"]
    done = subprocess.run(command, cwd=ROOT, env=environment, input="Zoë ü".encode(), capture_output=True, check=True)
    assert "'Zo'" in done.stdout.decode("utf-8")
    assert "ü" in done.stdout.decode("utf-8")


def test_fingerprint_prints_hashes_and_checks_those_of_another_machine(tmp_path):
    printed = numroberta_command("fingerprint", "--dtype", "float64", SENTENCES[0])
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines][:4] == ["dtype", "weights", "input_ids", "embeddings"]
    theirs = tmp_path / "theirs.txt"
    theirs.write_text(printed)
    check = ("fingerprint", SENTENCES[0], "--check", theirs)
    assert "the same bits" in numroberta_command(*check, "--dtype", "float64")
    theirs.write_text(printed.replace(lines[6].split()[1], "0" * 64))
    done = subprocess.run(
        [sys.executable, "-m", "numroberta", *map(str, check), "--dtype", "float64"],
        cwd=ROOT, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 1
    assert f"the first to differ: {lines[6].split()[0]}" in done.stdout


def test_fingerprint_says_which_condition_is_another_one(tmp_path):
    theirs = tmp_path / "theirs.txt"
    theirs.write_text(numroberta_command("fingerprint", SENTENCES[0]))
    for other, name, why in (
        (["--dtype", "float64", SENTENCES[0]], "dtype", "give the same --dtype"),
        ([SENTENCES[1]], "input_ids", "the texts are others"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "numroberta", "fingerprint", *other, "--check", str(theirs)],
            cwd=ROOT, capture_output=True, encoding="utf-8",
        )  # fmt: skip
        assert done.returncode == 1
        assert f"the first to differ: {name}" in done.stdout
        assert why in done.stdout


def test_trace_and_embed_take_reproducible(tmp_path, tiny):
    for name in ("a", "b"):
        threads = "1" if name == "a" else "2"
        out = tmp_path / f"{name}.safetensors"
        numroberta_command("trace", "--reproducible", "--threads", threads, SENTENCES[0], "-o", out)
        out = tmp_path / f"{name}.npy"
        numroberta_command("embed", "--reproducible", "--threads", threads, *SENTENCES, "-o", out)
    for suffix in ("safetensors", "npy"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), tiny.encode(SENTENCES), atol=1e-5)
