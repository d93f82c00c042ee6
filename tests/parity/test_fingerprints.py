"""Fingerprints say whether two machines compute the same bits, and which number is the first that is another one."""

import hashlib

import pytest
from conftest import ROOT
from pages import text_of

import numroberta
from numroberta import parity


@pytest.fixture(scope="module")
def exact():
    return numroberta.load("tiny", reproducible=True)


def test_a_line_for_the_dtype_the_weights_the_ids_each_layer_and_the_vectors(exact):
    found = parity.fingerprint(exact, ["Hello world", "It rained."])
    layers = [f"encoder.layer.{i}.output" for i in range(6)]
    assert list(found) == ["dtype", "weights", "input_ids", "embeddings", *layers, "vectors"]
    vectors = exact.encode(["Hello world", "It rained."])
    assert found["vectors"] == hashlib.sha256(vectors.astype("<f4").tobytes()).hexdigest()
    tokens = exact.encode(["Hello world", "It rained."], output_value="token_embeddings")
    last = b"".join(array.astype("<f4").tobytes() for array in tokens)
    assert found["encoder.layer.5.output"] == hashlib.sha256(last).hexdigest()


def test_without_texts_three_short_ones_are_taken(exact):
    assert parity.fingerprint(exact) == parity.fingerprint(exact, [])
    assert parity.fingerprint(exact)["input_ids"] != parity.fingerprint(exact, ["a"])["input_ids"]


def test_a_model_whose_bits_depend_on_the_machine_has_none(tiny):
    with pytest.raises(ValueError, match="reproducible=True"):
        parity.fingerprint(tiny)


def test_what_is_printed_is_read_again_and_the_first_difference_is_named(exact, tmp_path):
    found = parity.fingerprint(exact, ["a"])
    path = tmp_path / "list.txt"
    path.write_text("\n".join(parity.fingerprint_lines(found)) + "\n")
    assert parity.read_fingerprint(path) == found
    assert parity.first_difference(found, found) is None
    other = found | {"encoder.layer.3.output": "0" * 64, "vectors": "1" * 64}
    assert parity.first_difference(other, found) == "encoder.layer.3.output"
    shorter = {name: value for name, value in found.items() if name != "vectors"}
    assert parity.first_difference(shorter, found) == parity.first_difference(found, shorter) == "vectors"


@pytest.mark.parametrize("content", ["", "hello\n", "vectors 12\n", "dtype float32\nthree words here\n", "\x00\xff"])
def test_another_file_is_refused(content, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match="numroberta fingerprint"):
        parity.read_fingerprint(path)


def rows_of_the_guide():
    """(model, dtype, hashes) of the table on the page `reproducible`."""
    lines = text_of("reproducible").splitlines()
    rows = [line.strip("| \n").split(" | ") for line in lines if line.startswith("|")]
    names = [name.strip("`") for name in rows[0][2:]]
    return [(model.strip("`"), dtype, dict(zip(names, hashes, strict=True))) for model, dtype, *hashes in rows[2:]]


@pytest.fixture(scope="module")
def seeded_folder(full_size_folder, tmp_path_factory):
    """What `seeded.py` writes: the weights of the other tests, and the tokenizer of `tiny`."""
    folder = tmp_path_factory.mktemp("seeded")
    for name in ("config.json", "model.safetensors"):
        (folder / name).symlink_to(full_size_folder / name)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).symlink_to(ROOT / "numroberta" / "tiny" / name)
    return folder


def slow_if_large(row):
    large_and_exact = row[0] != "tiny" and row[1] == "float64"
    name = f"{row[0]} {row[1]}"
    return pytest.param(row, id=name, marks=pytest.mark.slow if large_and_exact else ())


@pytest.mark.parametrize("row", map(slow_if_large, rows_of_the_guide()))
def test_the_guide_has_the_fingerprints_of_this_machine_which_are_those_of_every_machine(row, request):
    """Where an intended change of the arithmetic or of `tiny` makes them other ones, the table is what must change."""
    name, dtype, hashes = row
    folder = "tiny" if name == "tiny" else request.getfixturevalue("seeded_folder")
    found = parity.fingerprint(numroberta.load(folder, dtype=dtype, reproducible=True))
    assert {name: f"`{found[name][:16]}`" for name in hashes} == hashes
