"""Weights of 16 bits are computed with as their float32 copies would be, to the last bit, and in less memory."""

import subprocess
import sys
import weakref

import numpy as np
import pytest
import random_model

import numroberta
from numroberta.arithmetic import converted
from numroberta.checkpoint.checkpoint import open_checkpoint
from numroberta.checkpoint.writing import write_checkpoint

TEXTS = ["The rain in Spain stays mainly in the plain.", "a", "", "one two three four five six seven"]


@pytest.fixture(scope="module", params=["float16", "bfloat16"])
def folders(request, tmp_path_factory):
    """A model in 16 bits, and the same numbers in float32."""
    path = tmp_path_factory.mktemp(request.param)
    whole = random_model.write(path / "whole", "masked language model", "pooler", hidden_size=96, intermediate_size=768)
    numroberta.load(whole).save(path / "narrow", request.param)
    numroberta.load(path / "narrow").save(path / "wide", "float32")
    return path / "narrow", path / "wide"


@pytest.mark.parametrize("low_memory", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_16_bit_weights_give_the_bits_of_their_float32_copies(folders, dtype, low_memory):
    narrow, wide = (numroberta.load(path, dtype=dtype, low_memory=low_memory) for path in folders)
    for pooling in ("mean", "cls"):
        np.testing.assert_array_equal(narrow.encode(TEXTS, pooling=pooling), wide.encode(TEXTS, pooling=pooling))
    assert narrow.fill_mask("the <mask>") == wide.fill_mask("the <mask>")
    ids = [narrow.tokenizer(TEXTS[0]).ids]
    np.testing.assert_array_equal(narrow.model(ids).pooler_output, wide.model(ids).pooler_output)


def test_a_file_of_two_dtypes_is_computed_with_as_well(folders, tmp_path):
    pytest.importorskip("safetensors")
    import safetensors.numpy

    opened = open_checkpoint(folders[0])
    write_checkpoint(tmp_path, opened.tensors, opened.config)
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    if opened.dtype == "float16":  # NumPy has no bfloat16
        name = next(name for name in tensors if name.endswith("layer.1.output.dense.weight"))
        tensors[name] = tensors[name].astype(np.float16)
        safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
        assert open_checkpoint(tmp_path).dtype == "float16+float32"
    (tmp_path / "vocab.json").write_bytes((folders[0].parent / "whole" / "vocab.json").read_bytes())
    (tmp_path / "merges.txt").write_bytes((folders[0].parent / "whole" / "merges.txt").read_bytes())
    expected = numroberta.load(folders[0]).encode(TEXTS)
    np.testing.assert_array_equal(numroberta.load(tmp_path).encode(TEXTS), expected)


def test_a_layer_is_let_go_before_the_next_one_is_converted(folders, monkeypatch):
    """Else two of them are in memory, at whatever `low_memory` was to save."""
    made = []

    def make(weights, index):
        assert not made or made[-1]() is None
        layer = convert(weights, index)
        made.append(weakref.ref(layer.wide.weight))
        return layer

    convert = converted.AtUse.__getitem__
    monkeypatch.setattr(converted.AtUse, "__getitem__", make)
    numroberta.load(folders[0], low_memory=True, num_threads=2).encode(TEXTS[0])
    assert len(made) == 3


PEAK = """
import sys, numroberta
model = numroberta.load(sys.argv[1], dtype=sys.argv[2], low_memory=sys.argv[3] == "True", num_threads=1)
model.encode("The rain in Spain stays mainly in the plain.")
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024)
"""


def peak(folder, dtype, low_memory):
    """The most memory, in MB, of a process that embeds one text; asked of itself, since a parent's is counted else."""
    command = [sys.executable, "-c", PEAK, str(folder), dtype, str(low_memory)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.slow  # 15 s
@pytest.mark.skipif(sys.platform != "linux", reason="reads memory use from Linux's /proc")
@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
def test_in_full_size_16_bits_take_little_more_memory_than_float32(full_size_folder, tmp_path, stored):
    whole = numroberta.load(full_size_folder)
    whole.save(tmp_path / "narrow", stored)
    figures = {
        (dtype, low): peak(tmp_path / "narrow", dtype, low) for dtype in ("float32", "float64") for low in (False, True)
    }
    print(stored, figures)
    assert figures["float32", False] < 300  # measured 199 to 222
    assert figures["float32", True] < 110  # measured 98
    assert figures["float64", True] < 170  # measured 142; all layers at once are 389
