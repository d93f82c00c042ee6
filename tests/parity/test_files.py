"""A recording is read from every format in which a port can write one; what is broken is told in a sentence."""

import json
import struct
import zipfile

import numpy as np
import pytest

from numroberta import parity
from numroberta.cli import main

STATE = np.arange(24, dtype=np.float32).reshape(1, 4, 6)


def as_npz(folder):
    np.savez_compressed(folder / "mine.npz", embeddings=STATE)
    return folder / "mine.npz"


def as_npy(folder):
    np.save(folder / "embeddings.npy", STATE)
    return folder / "embeddings.npy"


def as_folder(folder):
    as_npy(folder)
    return folder


def as_raw(folder):
    STATE.tofile(folder / "embeddings.bin")
    (folder / "shapes.json").write_text(json.dumps({"embeddings": [1, 4, 6]}))
    return folder


def as_raw_of_float16(folder):
    STATE.astype(np.float16).tofile(folder / "embeddings.bin")
    (folder / "shapes.json").write_text(json.dumps({"embeddings": {"dtype": "float16", "shape": [1, 4, 6]}}))
    return folder


def as_json(folder):
    (folder / "mine.json").write_text(json.dumps({"embeddings": STATE.tolist()}))
    return folder / "mine.json"


def as_flat_json(folder):
    (folder / "mine.json").write_text(json.dumps({"embeddings": {"shape": [1, 4, 6], "data": STATE.ravel().tolist()}}))
    return folder / "mine.json"


def in_fortran_order(folder):
    np.savez(folder / "mine.npz", embeddings=np.asfortranarray(STATE))
    return folder / "mine.npz"


@pytest.mark.parametrize(
    "write", [as_npz, as_npy, as_folder, as_raw, as_raw_of_float16, as_json, as_flat_json, in_fortran_order]
)
def test_a_port_may_write_any_of_these_formats(tmp_path, write):
    tensors = parity.load_recording(write(tmp_path)).tensors
    np.testing.assert_array_equal(tensors["embeddings"], STATE)


def header(shape):
    text = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode()
    text += b" " * (63 - (10 + len(text)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def with_a_stranger(folder):
    path = as_npz(folder)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "not an array")
    return path, "readme.txt"


def with_damaged_data(folder):
    path = folder / "mine.npz"
    np.savez_compressed(path, embeddings=np.random.default_rng(0).random((50, 50)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = b"\xff" * 40
    path.write_bytes(bytes(content))
    return path, "mine.npz"


def that_promises_ten_trillion_numbers(folder):
    path = folder / "mine.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("embeddings.npy", header((10**13,)) + b"\0" * 16)
    return path, "40,000,000,000,000 bytes"


def that_unpacks_to_a_thousand_times_its_size(folder):
    path = folder / "mine.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        member.write(header((1 << 27,)))
        for _ in range(512):
            member.write(b"\0" * (1 << 20))
    return path, "would unpack to"


def with_an_array_cut_off(folder):
    path = as_npy(folder)
    path.write_bytes(path.read_bytes()[:-8])
    return path, "there are 88"


def raw_without_shapes(folder):
    STATE.tofile(folder / "embeddings.bin")
    return folder, "shapes.json"


def raw_of_another_size(folder):
    as_raw(folder)
    (folder / "shapes.json").write_text('{"embeddings": [1, 4, 7]}')
    return folder, "takes 112"


def ragged_json(folder):
    (folder / "mine.json").write_text('{"embeddings": [[1, 2], [3]]}')
    return folder / "mine.json", "no rectangle of numbers"


def deep_json(folder):
    (folder / "mine.json").write_text("[" * 100_000)
    return folder / "mine.json", "nested too deeply"


def empty_folder(folder):
    return folder, "no .npy or .bin files"


@pytest.mark.parametrize(
    "write",
    [
        with_a_stranger, with_damaged_data, that_promises_ten_trillion_numbers, with_an_array_cut_off,
        that_unpacks_to_a_thousand_times_its_size, raw_without_shapes, raw_of_another_size, ragged_json, deep_json,
        empty_folder,
    ],
)  # fmt: skip
def test_broken_recordings_get_one_sentence(tmp_path, write, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    path, words = write(folder)
    parity.save(tmp_path / "reference.safetensors", {"embeddings": STATE}, {})
    assert main(["compare", str(tmp_path / "reference.safetensors"), str(path)]) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert words in error


def test_a_map_of_a_hundred_thousand_brackets_gets_one_sentence(tmp_path):
    (tmp_path / "names.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        parity.load_names(tmp_path / "names.json")
