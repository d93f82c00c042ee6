"""What is written is what safetensors and transformers read, and nothing half-written is left behind."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import random_model
import safetensors
import safetensors.numpy
from hypothesis import given, strategies as st

from numroberta.checkpoint import writing
from numroberta.checkpoint.checkpoint import open_checkpoint
from numroberta.checkpoint.config import RobertaConfig
from numroberta.checkpoint.errors import CheckpointError
from numroberta.checkpoint.safetensors_file import load_safetensors
from numroberta.checkpoint.stored_tensor import DTYPES
from numroberta.checkpoint.writing import new_folder, to_bfloat16, write_checkpoint, write_safetensors

HEADS = {
    "RobertaModel": "pooler",
    "RobertaForMaskedLM": "masked language model",
    "RobertaForSequenceClassification": "sequence classification",
    "RobertaForTokenClassification": "token classification",
    "RobertaForQuestionAnswering": "question answering",
}
CONFIG = RobertaConfig.from_dict({**random_model.SIZES, "id2label": {"0": "sad", "1": "glad", "2": "neither"}})

ARRAYS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda name: name != "__metadata__"),
    st.tuples(
        st.sampled_from([dtype for code, dtype in DTYPES.items() if code != "BF16"]),
        st.lists(st.integers(0, 4), max_size=3),
    ),
    max_size=5,
)


@given(ARRAYS)
def test_any_arrays_come_back_from_the_library_and_from_this_reader(tmp_path_factory, kinds):
    path = tmp_path_factory.mktemp("written") / "f.safetensors"
    rng = np.random.default_rng(0)
    tensors = {name: rng.integers(0, 2, shape).astype(dtype) for name, (dtype, shape) in kinds.items()}
    write_safetensors(path, tensors, {"ü": "é"})
    theirs, (ours, metadata) = safetensors.numpy.load_file(path), load_safetensors(path)
    assert theirs.keys() == ours.keys() == tensors.keys()
    assert metadata == {"ü": "é"}
    for name, array in tensors.items():
        assert theirs[name].dtype == array.dtype
        np.testing.assert_array_equal(theirs[name], array)
        np.testing.assert_array_equal(ours[name], array)


def test_tensors_are_aligned_whatever_their_order(tmp_path):
    tensors = {"a": np.ones(3, np.uint8), "b": np.ones(2), "c": np.ones(1, np.float16), "d": np.ones((5, 1), np.int32)}
    write_safetensors(tmp_path / "f", tensors)
    for name, array in load_safetensors(tmp_path / "f")[0].items():
        assert name == "c" or not array.flags.owndata  # a view of the file; float16 is widened


def test_other_layouts_are_written_as_their_values(tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_safetensors(tmp_path / "f", {"t": x.T, "step": x[:, ::2], "big": x.astype(">f4"), "scalar": np.float32(2)})
    back = load_safetensors(tmp_path / "f")[0]
    np.testing.assert_array_equal(back["t"], x.T)
    np.testing.assert_array_equal(back["step"], x[:, ::2])
    np.testing.assert_array_equal(back["big"], x)
    assert back["scalar"] == 2


def test_more_than_one_block_is_written_whole(tmp_path):
    x = np.arange(2_500_000, dtype=np.float32)  # `BLOCK` is a million
    write_safetensors(tmp_path / "f", {"x": x}, dtype="float64")
    np.testing.assert_array_equal(load_safetensors(tmp_path / "f")[0]["x"], x)


# --- 16 bits --------------------------------------------------------------------------------------------------


@pytest.mark.parity
def test_every_float32_is_rounded_to_bfloat16_as_torch_rounds_it():
    """A sample of all bit patterns, with those around ties, infinities and NaN."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    edges = np.array([[high << 16 | low for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)] for high in range(2**16)])
    for bits in (edges.astype(np.uint32).ravel(), rng.integers(0, 2**32, 10**6).astype(np.uint32)):
        values = bits.view(np.float32)
        theirs = torch.from_numpy(values.copy()).to(torch.bfloat16)
        expected = theirs.view(torch.int16).numpy().view(np.uint16)
        ours, nan = to_bfloat16(values), np.isnan(values)
        np.testing.assert_array_equal(ours[~nan], expected[~nan])
        widened = (ours[nan].astype(np.uint32) << 16).view(np.float32)
        assert np.isnan(widened).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_numbers_survive_another_round(tmp_path, dtype):
    x = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    write_safetensors(tmp_path / "once", {"x": x}, dtype=dtype)
    once = load_safetensors(tmp_path / "once")[0]["x"]
    write_safetensors(tmp_path / "twice", {"x": once}, dtype=dtype)
    assert (tmp_path / "once").read_bytes() == (tmp_path / "twice").read_bytes()
    assert 0 < np.abs(once - x).max() < (2**-10 if dtype == "float16" else 2**-7)


def test_float16_refuses_what_it_cannot_hold(tmp_path):
    write_safetensors(tmp_path / "f", {"fits": np.array([65504, np.inf, np.nan], np.float32)}, dtype="float16")
    with pytest.raises(ValueError, match="tensor 'wide' has numbers beyond float16's 65504: bfloat16 and float32 hold"):
        write_safetensors(tmp_path / "g", {"wide": np.array([1e5], np.float32)}, dtype="float16")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_other_types_are_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match="tensor 'z' has dtype complex64; safetensors has F64, F32"):
        write_safetensors(tmp_path / "f", {"z": np.zeros(2, np.complex64)})
    with pytest.raises(ValueError, match="dtype='int8', expected one of 'float32', 'float16', 'bfloat16', 'float64'"):
        write_safetensors(tmp_path / "f", {"x": np.zeros(2)}, dtype="int8")
    assert not any(tmp_path.iterdir())


# --- Nothing half-written -------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_written_says_why_and_leaves_the_old_one(tmp_path):
    with pytest.raises(CheckpointError, match="none/f cannot be written: No such file or directory"):
        write_safetensors(tmp_path / "none" / "f", {})
    write_safetensors(tmp_path / "f", {"x": np.ones(2, np.float32)})
    with pytest.raises(ValueError, match="beyond float16"):
        write_safetensors(tmp_path / "f", {"x": np.full(2, 1e9)}, dtype="float16")
    assert load_safetensors(tmp_path / "f")[0]["x"][0] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """All of its bytes: a power cut may lose the file, and never leaves an empty one under its name."""
    steps, fsync, replace = [], os.fsync, Path.replace

    def note_fsync(number):
        steps.append(("synced", os.fstat(number).st_size))
        fsync(number)

    def note_replace(path, to):
        steps.append(("named", to.name))
        return replace(path, to)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    monkeypatch.setattr(writing, "sync_folder", lambda folder: steps.append(("synced", folder)))
    write_safetensors(tmp_path / "f", {"x": np.ones(2, np.float32)})
    assert steps == [("synced", (tmp_path / "f").stat().st_size), ("named", "f"), ("synced", tmp_path)]


def test_a_folder_has_its_name_when_it_is_complete(tmp_path):
    def stop_halfway():
        with new_folder(tmp_path / "model") as folder:
            (folder / "config.json").touch()
            assert not (tmp_path / "model").exists()
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        stop_halfway()
    assert not any(tmp_path.iterdir())
    with new_folder(tmp_path / "model") as folder:
        (folder / "config.json").touch()
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["config.json"]
    with pytest.raises(CheckpointError, match="model is there already; remove it"), new_folder(tmp_path / "model"):
        pass
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty") as folder:
        (folder / "file").touch()
    assert (tmp_path / "empty" / "file").exists()


def test_a_name_is_on_the_disk_before_what_it_replaces_may_go(tmp_path, monkeypatch):
    """Fine-tuning removes its training state when the model has its folder: a power cut must not lose both."""
    synced = []
    monkeypatch.setattr(writing, "sync_folder", lambda folder: synced.append(sorted(p.name for p in folder.iterdir())))
    with new_folder(tmp_path / "model") as folder:
        write_safetensors(folder / "model.safetensors", {"x": np.zeros(3)})
    assert synced == [["model.safetensors"], ["model"]]


# --- Whole checkpoints ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("name", HEADS)
def test_a_checkpoint_opens_as_what_was_written(tmp_path, name, dtype):
    tensors = random_model.tensors(CONFIG, HEADS[name])
    write_checkpoint(tmp_path, tensors, CONFIG, dtype)
    opened = open_checkpoint(tmp_path)
    assert opened.config.architectures == (name,)
    assert opened.dtype == opened.config.dtype == dtype
    assert opened.config.id2label == CONFIG.id2label
    assert opened.tensors.keys() == tensors.keys()
    rounding = {"float32": 0, "float64": 0, "float16": 2**-11, "bfloat16": 2**-8}[dtype]  # half a unit
    for key, tensor in tensors.items():
        np.testing.assert_allclose(opened.tensors[key], tensor, rtol=rounding, atol=1e-7 if rounding else 0)


@pytest.mark.parity
@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "camembert"])
@pytest.mark.parametrize("name", HEADS)
def test_transformers_loads_what_was_written_with_nothing_missing(tmp_path, name, family):
    transformers = pytest.importorskip("transformers")
    config = RobertaConfig.from_dict({**CONFIG.to_dict(), "model_type": family, "dtype": "float32"})
    if "Question" in name:
        config = RobertaConfig.from_dict({**config.to_dict(), "id2label": {"0": "start", "1": "end"}})
    tensors = random_model.tensors(config, HEADS[name])
    write_checkpoint(tmp_path, tensors, config)
    (architecture,) = json.loads((tmp_path / "config.json").read_text())["architectures"]
    assert architecture.endswith(name.removeprefix("Roberta"))
    model, report = getattr(transformers, architecture).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    state = {key.removeprefix("roberta."): value for key, value in model.state_dict().items()}
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(state[key].numpy(), tensor)


def test_the_header_is_padded_so_that_the_data_begins_at_a_multiple_of_8(tmp_path):
    for length in range(8):
        write_safetensors(tmp_path / "f", {"x" * length: np.ones(1)})
        (size,) = struct.unpack("<Q", (tmp_path / "f").read_bytes()[:8])
        assert size % 8 == 0
