"""`pytorch_model.bin` without PyTorch: its tensors or a sentence, whatever the bytes are, and no code is run."""

import io
import json
import pickle
import random
import shutil
import zipfile

import numpy as np
import pytest
import random_model

import numroberta
from numroberta.checkpoint.checkpoint import open_checkpoint
from numroberta.checkpoint.errors import CheckpointError
from numroberta.checkpoint.torch_file import open_torch_file

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity
FORMATS = [True, False]  # the zip of PyTorch 1.6 and later, and the pickles before


def complaint(path):
    with pytest.raises(CheckpointError) as caught:
        open_torch_file(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def state_dict():
    """Every dtype, views, transposes, steps, a shared storage, a scalar and nothing."""
    x = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    return {
        "x": x,
        "rows": x[1:3],
        "transposed": x.T,
        "every other": x[:, ::2],
        "stretched": torch.ones(1, 3).expand(5, 3),
        "half": torch.tensor([1.5, -2.0, 65504], dtype=torch.float16),
        "brain": torch.tensor([1.5, -3e38], dtype=torch.bfloat16),
        "double": torch.tensor([1 / 3], dtype=torch.float64),
        "long": torch.tensor([2**62, -1]),
        "int": torch.tensor([7], dtype=torch.int32),
        "byte": torch.tensor([255], dtype=torch.uint8),
        "flag": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5),
        "nothing": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }


def assert_same(stored, expected):
    assert stored.keys() == expected.keys()
    for name, tensor in expected.items():
        tensor = tensor.detach()
        values = tensor.float().numpy() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.numpy()
        array = stored[name].array()
        assert (array.shape, array.dtype) == (values.shape, values.dtype)
        assert not array.flags.writeable
        np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("zipped", FORMATS)
def test_every_tensor_is_what_torch_saved(tmp_path, zipped):
    torch.save(state_dict(), tmp_path / "f.bin", _use_new_zipfile_serialization=zipped)
    assert_same(open_torch_file(tmp_path / "f.bin"), state_dict())


@pytest.mark.parametrize("zipped", FORMATS)
def test_what_a_module_saves_is_read_with_its_wrappers_taken_off(tmp_path, zipped):
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    expected = module.state_dict()
    wrapped = {f"module.model.{name}": tensor for name, tensor in expected.items()}
    for content in (
        expected,
        {"state_dict": wrapped, "epoch": 3, "lr": 1e-3, "done": True},
        {"model_state_dict": wrapped},
    ):
        torch.save(content, tmp_path / "f.bin", _use_new_zipfile_serialization=zipped)
        assert_same(open_torch_file(tmp_path / "f.bin"), expected)
        (tmp_path / "f.bin").unlink()


def test_tensors_are_views_of_the_mapped_file(tmp_path):
    torch.save({"x": torch.ones(1000, 1000)}, tmp_path / "f.bin")
    array = open_torch_file(tmp_path / "f.bin")["x"].array()
    assert array.base is not None
    assert not array.flags.owndata


def test_a_whole_checkpoint_loads_as_its_safetensors_do(small, small_folder, tmp_path):
    folder = shutil.copytree(small_folder, tmp_path / "m")
    (folder / "model.safetensors").unlink()
    tensors = {f"roberta.{name}": torch.from_numpy(x.copy()) for name, x in small.checkpoint.tensors.items()}
    torch.save(tensors, folder / "pytorch_model.bin")
    ours = numroberta.load(folder)
    np.testing.assert_array_equal(ours.encode("The rain in Spain."), small.encode("The rain in Spain."))
    assert ours.checkpoint.weights_hash == small.checkpoint.weights_hash
    ours.save(tmp_path / "clean")
    assert (tmp_path / "clean" / "model.safetensors").is_file()


def test_safetensors_are_preferred_and_shards_go_by_their_index(small, small_folder, tmp_path):
    folder = shutil.copytree(small_folder, tmp_path / "m")
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    assert open_checkpoint(folder).weights_hash == small.checkpoint.weights_hash
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").unlink()
    names = sorted(small.checkpoint.tensors)
    index = {}
    for shard, some in {
        "pytorch_model-00001-of-00002.bin": names[::2],
        "pytorch_model-00002-of-00002.bin": names[1::2],
    }.items():
        torch.save({name: torch.from_numpy(small.checkpoint.tensors[name].copy()) for name in some}, folder / shard)
        index |= dict.fromkeys(some, shard)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    assert open_checkpoint(folder).weights_hash == small.checkpoint.weights_hash


def test_a_tied_decoder_in_one_storage_is_tied(tmp_path):
    folder = random_model.write(tmp_path / "m", "masked language model")
    tensors = {name: torch.from_numpy(x.copy()) for name, x in open_checkpoint(folder).tensors.items()}
    tensors["lm_head.decoder.weight"] = tensors["embeddings.word_embeddings.weight"]
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "lm_head.decoder.weight" not in open_checkpoint(folder).tensors


# --- What is refused ------------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self):
        return print, ("this code was run",)


@pytest.mark.parametrize("zipped", FORMATS)
def test_no_code_of_a_file_is_run(tmp_path, zipped, capfd):
    torch.save({"x": torch.ones(2), "evil": Evil()}, tmp_path / "f.bin", _use_new_zipfile_serialization=zipped)
    assert "asks for 'builtins.print'" in complaint(tmp_path / "f.bin").replace("__builtin__", "builtins")
    assert "this code was run" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (torch.ones(2), "holds a tensor; expected tensors by name"),
        ([torch.ones(2)], "holds a list; expected tensors by name"),
        ({"epoch": 3}, "holds no tensors by name"),
        ({"x": torch.ones(2, dtype=torch.complex64)}, "ComplexFloatStorage"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({"x": torch.ones(2).to_sparse()}, "_rebuild_sparse_tensor"),
    ],
)
def test_what_is_no_state_dict_is_refused_by_name(tmp_path, content, sentence):
    torch.save(content, tmp_path / "f.bin")
    assert sentence in complaint(tmp_path / "f.bin")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"<html>", "is not a file that torch.save wrote: it begins with b'<html>'"),
        (pickle.dumps({"x": 1}), "is not a file that torch.save wrote"),
        (b"PK\x03\x04 and nothing else", "is a damaged zip archive"),
    ],
)
def test_other_files_are_told_what_they_are(tmp_path, content, sentence):
    (tmp_path / "f.bin").write_bytes(content)
    assert sentence in complaint(tmp_path / "f.bin")


def rewritten(path, change):
    """A copy of an archive whose members `change` may replace: (name, bytes) -> (name, bytes, compression) or None."""
    raw = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(raw, "w") as new:
        for info in old.infolist():
            member = change(info.filename, old.read(info))
            if member:
                new.writestr(member[0], member[1], member[2])
    return raw.getvalue()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda n, b: None if n.endswith("data/0") else (n, b, 0), "has no 'f/data/0'"),
        (lambda n, b: (n, b, zipfile.ZIP_DEFLATED), "does not lie in the archive as torch.save writes it"),
        (lambda n, b: (n, b[:-4] if n.endswith("data/0") else b, 0), "the storage '0' has 92 bytes, expected 96"),
        (lambda n, b: (n, b"big" if n.endswith("byteorder") else b, 0), "in the byte order b'big'; expected little"),
        (lambda n, b: (n.replace("data.pkl", "data.txt"), b, 0), "it has 0 data.pkl"),
        (lambda n, b: (n, b[:-5] if n.endswith("data.pkl") else b, 0), "has a pickle that"),
    ],
)
def test_an_archive_that_is_not_torchs_says_how(tmp_path, change, sentence):
    torch.save({"x": torch.arange(24.0)}, tmp_path / "f.bin")
    (tmp_path / "g.bin").write_bytes(rewritten(tmp_path / "f.bin", change))
    assert sentence in complaint(tmp_path / "g.bin")


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
    torch.save({"x": torch.arange(24.0).reshape(4, 6)}, tmp_path / "f.bin")

    def longer(name, content):
        return name, content.replace(b"K\x04K\x06\x86", b"K\x05K\x06\x86"), 0

    (tmp_path / "g.bin").write_bytes(rewritten(tmp_path / "f.bin", longer))
    assert "has a tensor beyond the 24 numbers of its storage '0'" in complaint(tmp_path / "g.bin")


# --- Damaged at random ----------------------------------------------------------------------------------------


def check(path, content, count):
    """A CheckpointError, or tensors that lie inside the file; returns whether it was read."""
    path = path.with_name(f"{path.stem}-{count}.bin")  # never truncate a file that may still be mapped
    path.write_bytes(content)
    stored, sentence = {}, str(path)
    try:
        stored = open_torch_file(path)
    except CheckpointError as error:
        sentence = str(error)
    path.unlink()
    assert str(path) in sentence
    assert "\n" not in sentence
    for tensor in stored.values():
        assert tensor.array().shape == tensor.shape
        assert 0 <= tensor.start <= tensor.stop <= len(content)
    return bool(stored)


@pytest.mark.parametrize("zipped", FORMATS)
def test_thousands_of_damaged_files_give_an_error_or_tensors(tmp_path, zipped):
    torch.save(state_dict(), tmp_path / "f.bin", _use_new_zipfile_serialization=zipped)
    good = (tmp_path / "f.bin").read_bytes()
    chosen = random.Random(0)
    pickled = good.find(b"_rebuild_tensor_v2") - 200
    read = 0
    for count in range(4000):
        content = bytearray(good)
        near = count % 2  # half of the changes in the pickle, where most can go wrong
        for _ in range(chosen.randint(1, 3)):
            place = chosen.randint(max(0, pickled), pickled + 1500) if near else chosen.randrange(len(content))
            content[min(place, len(content) - 1)] = chosen.randrange(256)
        if count % 10 == 0:
            del content[chosen.randrange(len(content)) :]
        read += check(tmp_path / "g.bin", bytes(content), count)
    assert 100 < read < 3900  # changed numbers are read; changed structure is not
