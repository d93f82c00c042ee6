"""Checkpoints open by header alone, tensors are views of the file, and whatever is wrong is said by name."""

import hashlib
import json
import mmap
import os
import re
import struct
import subprocess
import sys
import time
import warnings
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from conftest import ROOT

from numroberta.checkpoint import hub
from numroberta.checkpoint.checkpoint import (
    head_shapes,
    open_checkpoint,
)
from numroberta.checkpoint.config import RobertaConfig
from numroberta.checkpoint.errors import CheckpointError, ConfigError
from numroberta.checkpoint.names import canonical_name, encoder_shapes

SMALL = {
    "model_type": "roberta",
    "vocab_size": 50,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 20,
    "type_vocab_size": 1,
}
DISTILROBERTA = {
    **SMALL,
    "vocab_size": 50265,
    "hidden_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 514,
}
WORDS = "embeddings.word_embeddings.weight"
HUB_NAME = "somebody/some-roberta"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def weights(*heads, config=None, own_decoder=False, seed=0):
    """Random float32 tensors of a whole small checkpoint, by canonical name."""
    config = RobertaConfig.from_dict(SMALL if config is None else config)
    shapes = encoder_shapes(config)
    for head in heads:
        shapes |= head_shapes(config, own_decoder=own_decoder)[head]
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def write(folder, tensors, config=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SMALL if config is None else config))
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    return folder


# --- Names and shapes ---------------------------------------------------------------------------------------


def test_a_whole_checkpoint_opens_under_canonical_names(tmp_path):
    tensors = weights("pooler", "masked language model")
    opened = open_checkpoint(write(tmp_path, tensors))
    assert opened.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(opened.tensors[name], tensor)
        assert isinstance(opened.tensors[name].base, mmap.mmap)
        assert not opened.tensors[name].flags.writeable
    assert opened.name == str(tmp_path)
    assert opened.folder == opened.model_folder == tmp_path
    assert opened.files == (tmp_path / "model.safetensors",)
    assert opened.dtype == "float32"
    assert opened.config.hidden_size == 8


@pytest.mark.parametrize(
    ("in_file", "name"),
    [
        ("roberta.embeddings.LayerNorm.gamma", "embeddings.LayerNorm.weight"),
        ("roberta.encoder.layer.11.output.LayerNorm.beta", "encoder.layer.11.output.LayerNorm.bias"),
        ("encoder.layer.0.attention.self.query.weight", "encoder.layer.0.attention.self.query.weight"),
        ("roberta.pooler.dense.bias", "pooler.dense.bias"),
        ("lm_head.layer_norm.weight", "lm_head.layer_norm.weight"),
        ("classifier.out_proj.bias", "classifier.out_proj.bias"),
    ],
)
def test_canonical_names(in_file, name):
    assert canonical_name(in_file) == name


def test_prefix_old_norm_names_and_buffers_make_no_difference(tmp_path):
    tensors = weights("pooler")
    old = {
        "roberta." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): x
        for name, x in tensors.items()
    }
    old["roberta.embeddings.position_ids"] = np.arange(20).reshape(1, 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = open_checkpoint(write(tmp_path, old))
    assert opened.tensors.keys() == tensors.keys()
    assert all((opened.tensors[name] == tensors[name]).all() for name in tensors)


def test_a_decoder_equal_to_the_embeddings_is_tied(tmp_path):
    tensors = weights("masked language model")
    stored = {**tensors, "lm_head.decoder.weight": tensors[WORDS], "lm_head.decoder.bias": tensors["lm_head.bias"]}
    assert open_checkpoint(write(tmp_path, stored)).tensors.keys() == tensors.keys()


def test_a_decoder_that_differs_in_one_number_is_kept(tmp_path):
    tensors = weights("masked language model")
    decoder = tensors[WORDS].copy()
    decoder[-1, -1] += 1
    opened = open_checkpoint(write(tmp_path, {**tensors, "lm_head.decoder.weight": decoder}))
    np.testing.assert_array_equal(opened.tensors["lm_head.decoder.weight"], decoder)
    np.testing.assert_array_equal(opened.tensors[WORDS], tensors[WORDS])


def test_a_decoder_that_differs_far_behind_its_first_megabyte_is_kept(tmp_path):
    config = {**SMALL, "vocab_size": 200_000}  # 6.4 MB
    tensors = weights("masked language model", config=config)
    decoder = tensors[WORDS].copy()
    decoder[-1, -1] += 1
    opened = open_checkpoint(write(tmp_path, {**tensors, "lm_head.decoder.weight": decoder}, config))
    np.testing.assert_array_equal(opened.tensors["lm_head.decoder.weight"], decoder)


def test_an_untied_checkpoint_must_have_its_decoder(tmp_path):
    config = {**SMALL, "tie_word_embeddings": False}
    folder = write(tmp_path, weights("masked language model"), config)
    with pytest.raises(CheckpointError, match=r"lm_head.decoder.weight \(50, 8\) is missing"):
        open_checkpoint(folder)


def test_an_untied_decoder_is_kept_even_while_it_equals_the_embeddings(tmp_path):
    config = {**SMALL, "tie_word_embeddings": False}
    tensors = weights("masked language model", config=config, own_decoder=True)
    tensors["lm_head.decoder.weight"] = tensors[WORDS]
    assert open_checkpoint(write(tmp_path, tensors, config)).tensors.keys() == tensors.keys()


def test_a_checkpoint_saved_with_the_decoder_alone_has_its_word_embeddings(tmp_path):
    tensors = weights("masked language model")
    stored = dict(tensors)
    stored["lm_head.decoder.weight"] = stored.pop(WORDS)
    stored["lm_head.decoder.bias"] = stored.pop("lm_head.bias")
    opened = open_checkpoint(write(tmp_path, stored))
    assert opened.tensors.keys() == tensors.keys()
    np.testing.assert_array_equal(opened.tensors[WORDS], tensors[WORDS])


def test_missing_and_misshapen_tensors_are_all_listed(tmp_path):
    tensors = weights("sequence classification")
    del tensors["encoder.layer.1.attention.self.key.bias"], tensors["classifier.dense.bias"]
    tensors["encoder.layer.0.output.dense.weight"] = np.zeros((12, 8), np.float32)
    tensors["classifier.out_proj.weight"] = np.zeros((3, 8), np.float32)
    tensors["stranger"] = np.zeros(1, np.float32)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(write(tmp_path, tensors))
    assert str(caught.value) == (
        f"{tmp_path} does not fit its config.json: "
        "encoder.layer.0.output.dense.weight is (12, 8), expected (8, 12), "
        "encoder.layer.1.attention.self.key.bias (8,) is missing, "
        "classifier.dense.bias (8,) is missing, "
        "classifier.out_proj.weight is (3, 8), expected (2, 8) by the labels in config.json; "
        "it also has tensors that RoBERTa has not: 'stranger'"
    )


def test_a_long_list_is_cut_with_a_count(tmp_path):
    folder = write(tmp_path, {"electra." + name: tensor for name, tensor in weights().items()})
    with pytest.raises(CheckpointError, match=r"is missing and 29 more; it also has .* 'electra\..* and 29 more$"):
        open_checkpoint(folder)


def test_quantised_weights_are_refused(tmp_path):
    tensors = weights()
    tensors["encoder.layer.0.output.dense.weight"] = np.zeros((8, 12), np.int8)
    with pytest.raises(CheckpointError, match=r"output.dense.weight is I8, expected F32, F16, BF16, F64"):
        open_checkpoint(write(tmp_path, tensors))


def test_unexpected_tensors_are_left_out_with_a_warning(tmp_path):
    tensors = weights()
    extra = {"adapter.weight": np.zeros(2, np.float32), "encoder.layer.2.output.dense.bias": np.zeros(8, np.float32)}
    with pytest.warns(UserWarning, match=r"2 tensors .* 'adapter.weight', 'encoder.layer.2.output") as caught:
        opened = open_checkpoint(write(tmp_path, {**tensors, **extra}))
    assert opened.tensors.keys() == tensors.keys()
    assert caught[0].filename == __file__


def test_a_multiple_choice_head_does_not_pass_for_token_classification(tmp_path):
    config = {**SMALL, "architectures": ["RobertaForMultipleChoice"]}
    head = {"classifier.weight": np.zeros((1, 8), np.float32), "classifier.bias": np.zeros(1, np.float32)}
    with pytest.warns(UserWarning, match="2 tensors .* 'classifier.bias', 'classifier.weight'"):
        open_checkpoint(write(tmp_path, {**weights("pooler"), **head}, config))


def test_the_same_tensor_under_two_names_is_an_error(tmp_path):
    tensors = weights()
    tensors["roberta." + WORDS] = tensors[WORDS]
    with pytest.raises(CheckpointError, match=f"two tensors for {WORDS}"):
        open_checkpoint(write(tmp_path, tensors))


@pytest.mark.parametrize(("dtype", "name"), [(np.float16, "float16"), (np.float64, "float64")])
def test_other_precisions_open_too(tmp_path, dtype, name):
    tensors = {k: v.astype(dtype) for k, v in weights().items()}
    opened = open_checkpoint(write(tmp_path, tensors))
    assert opened.dtype == name
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(opened.tensors[key], tensor)
        assert opened.tensors[key].dtype == (np.float64 if dtype is np.float64 else np.float32)


def test_mixed_precisions_are_all_named(tmp_path):
    tensors = weights()
    tensors[WORDS] = tensors[WORDS].astype(np.float16)
    assert open_checkpoint(write(tmp_path, tensors)).dtype == "float16+float32"


# --- Shards -------------------------------------------------------------------------------------------------


def write_shards(folder, tensors, changes=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SMALL))
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, held in shards.items():
        safetensors.numpy.save_file({name: tensors[name] for name in held}, folder / shard)
    index = {name: shard for shard, held in shards.items() for name in held} | (changes or {})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def test_shards_open_as_one(tmp_path):
    tensors = weights("pooler")
    opened = open_checkpoint(write_shards(tmp_path / "shards", tensors))
    whole = open_checkpoint(write(tmp_path / "whole", tensors))
    assert len(opened.files) == 2
    assert opened.weights_hash == whole.weights_hash
    assert opened.parameters == whole.parameters
    assert all((opened.tensors[name] == tensors[name]).all() for name in tensors)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({WORDS: "model-00003.safetensors"}, "names the shard model-00003.safetensors, which is missing"),
        ({WORDS: "../secret.safetensors"}, "names the shard '../secret.safetensors'; expected a file of the same"),
        ({WORDS: "/etc/passwd"}, "names the shard '/etc/passwd'; expected a file of the same folder"),
        ({WORDS: "a\\b"}, r"names the shard 'a\\b'; expected a file of the same folder"),
        ({WORDS: 3}, "names the shard 3; expected a file of the same folder"),
        ({"ghost": "model-00001-of-00002.safetensors"}, "has tensor 'ghost', but it has not"),
    ],
)
def test_a_wrong_index_is_told_what_is_wrong(tmp_path, changes, sentence):
    with pytest.raises(CheckpointError, match=re.escape(sentence)):
        open_checkpoint(write_shards(tmp_path, weights(), changes))


def test_an_index_that_points_to_the_other_shard_is_an_error(tmp_path):
    folder = write_shards(tmp_path, weights())
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    other = next(shard for shard in index.values() if shard != index[WORDS])
    write_shards(tmp_path, weights(), {WORDS: other})
    with pytest.raises(CheckpointError, match=f"says that {other} has tensor '{WORDS}', but it has not"):
        open_checkpoint(folder)


def test_a_tensor_in_two_shards_is_an_error(tmp_path):
    tensors = weights()
    folder = write_shards(tmp_path, tensors)
    second = folder / "model-00002-of-00002.safetensors"
    held = {**safetensors.numpy.load_file(second), min(tensors): tensors[min(tensors)]}
    safetensors.numpy.save_file(held, second)
    with pytest.raises(CheckpointError, match=f"has tensor '{min(tensors)}', and so has model-00001"):
        open_checkpoint(folder)


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": {}}', '{"weight_map": [1]}', '{"weight_map": null}'])
def test_an_index_without_a_map_is_an_error(tmp_path, content):
    folder = write_shards(tmp_path, weights())
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match="has no weight_map"):
        open_checkpoint(folder)


# --- What a checkpoint tells about itself -------------------------------------------------------------------


def test_parameters_are_counted_by_part(tmp_path):
    opened = open_checkpoint(write(tmp_path, weights("pooler", "token classification")))
    layer = 4 * (8 * 8 + 8) + (12 * 8 + 12) + (8 * 12 + 8) + 2 * (8 + 8)
    assert opened.parameters == {
        "embeddings": (50 + 20 + 1) * 8 + 8 + 8,
        "encoder.layer.0": layer,
        "encoder.layer.1": layer,
        "pooler": 8 * 8 + 8,
        "classifier": 2 * 8 + 2,
    }
    assert opened.file_size == (tmp_path / "model.safetensors").stat().st_size


def test_the_hash_is_of_the_weights_and_of_nothing_else(tmp_path):
    tensors = weights()
    first = open_checkpoint(write(tmp_path / "a", tensors)).weights_hash
    prefixed = {"roberta." + name: x for name, x in tensors.items()}
    assert open_checkpoint(write(tmp_path / "b", prefixed)).weights_hash == first
    expected = hashlib.sha256()
    for name in sorted(tensors):
        expected.update(f"{name} F32 {tensors[name].shape}\n".encode() + tensors[name].tobytes())
    assert first == expected.hexdigest()
    tensors["encoder.layer.1.output.dense.bias"][3] += 1e-3
    assert open_checkpoint(write(tmp_path / "c", tensors)).weights_hash != first


def test_the_pages_of_a_part_hold_all_its_bytes_and_can_be_dropped(tmp_path):
    config = {**SMALL, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 11}
    tensors = weights("pooler", config=config)
    opened = open_checkpoint(write(tmp_path, tensors, config))
    pages = opened.pages("encoder.layer.1")
    assert pages
    for name, tensor in opened.stored.items():
        covered = any(start <= tensor.start and tensor.stop <= start + length for _, start, length in pages)
        assert covered or not name.startswith("encoder.layer.1.")
    for mapping, start, length in pages:
        assert start % mmap.PAGESIZE == 0
        assert start + length <= len(mapping)
        if hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED, start, length)
    assert all((opened.tensors[name] == tensors[name]).all() for name in tensors)
    # layer.1 is not layer.10, and its tensors, neighbours in the file, make one range
    assert len(pages) == 1
    assert sum(length for _, _, length in pages) < opened.parameters["encoder.layer.1"] * 4 + 2 * mmap.PAGESIZE
    assert opened.pages("nothing") == []


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads memory use from Linux's /proc")
def test_a_full_size_checkpoint_opens_without_being_read(tmp_path):
    config = RobertaConfig.from_dict(DISTILROBERTA)
    header, end = {}, 0
    for name, shape in encoder_shapes(config).items():
        start, end = end, end + int(np.prod(shape)) * 4
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(file.tell() + end)  # a sparse file: 326 MB that take no room
    (tmp_path / "config.json").write_text(json.dumps(DISTILROBERTA))

    before, began = resident_bytes(), time.perf_counter()
    opened = open_checkpoint(tmp_path)
    tensors = opened.tensors
    took, grown = time.perf_counter() - began, resident_bytes() - before
    assert len(tensors) == len(header)
    assert sum(opened.parameters.values()) * 4 == end
    assert grown < 4e6  # measured 0.1 MB
    assert took < 1  # measured 0.003 s


# --- Finding checkpoints ------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def hub_cache(tmp_path, monkeypatch):
    """An empty cache and no network, so that no test depends on this machine's."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "hf" / "hub"


def cache_model(hub_cache, tensors=None):
    """A model as huggingface_hub caches it: snapshots of symbolic links to blobs, refs to commits."""
    model = hub_cache / "models--somebody--some-roberta"
    snapshot = model / "snapshots" / COMMIT
    written = write(model / "written", weights() if tensors is None else tensors)
    (model / "blobs").mkdir()
    snapshot.mkdir(parents=True)
    for i, path in enumerate(sorted(written.iterdir())):
        path.rename(model / "blobs" / str(i))
        (snapshot / path.name).symlink_to(f"../../blobs/{i}")
    written.rmdir()
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    (model / "refs" / "v1").write_text(COMMIT)
    return snapshot


def failing(name, **options):
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(name, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["./none", "/none", "none/", "~/none-such", "a/b/c", "..\\none", "C:none", "~nobody/x"]
)
def test_a_path_that_does_not_exist_says_so(name):
    assert f"the folder {name!r} does not exist" in failing(name)


def test_a_path_object_is_never_a_hub_name(tmp_path):
    assert f"the folder {str(tmp_path / 'none')!r} does not exist" in failing(tmp_path / "none")


@pytest.mark.parametrize("name", ["", "two words", "ünïcode", "-a", "owner/", "some\nname", "a\0b", "é" * 5000])
def test_a_name_that_can_be_nothing_says_so(name):
    assert "is neither 'tiny', nor a folder, nor a hub name" in (found := failing(name)) or "does not exist" in found


def test_a_file_instead_of_a_folder_says_so(tmp_path):
    folder = write(tmp_path, weights())
    assert "is a file; give the folder that holds it" in failing(folder / "model.safetensors")


def test_tiny_is_the_one_in_the_package_wherever_it_is_called_from(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "__file__", str(tmp_path / "numroberta" / "checkpoint" / "hub.py"))
    assert "the built-in model is missing from" in failing("tiny")
    built_in = write(tmp_path / "numroberta" / "tiny", weights())
    (tmp_path / "here" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert open_checkpoint("tiny").folder == built_in
    assert "has no config.json" in failing("./tiny")


def test_from_a_zipped_installation_the_built_in_model_says_why_it_is_not_there(tmp_path):
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        for path in (ROOT / "numroberta").rglob("*.py"):
            archive.write(path, path.relative_to(ROOT))
    script = "import numroberta\ntry: numroberta.load('tiny')\nexcept ValueError as error: print(error)"
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "app.pyz")}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == ""
    assert f"runs from the archive {tmp_path / 'app.pyz'}, whose files cannot be mapped: unpack it" in done.stdout


def test_a_revision_of_a_folder_is_refused(tmp_path):
    assert "revision 'v1' is for models of the hub" in failing(write(tmp_path, weights()), revision="v1")
    assert "revision 'v1' is for models of the hub" in failing("tiny", revision="v1")


def test_a_folder_without_its_files_says_what_it_has(tmp_path):
    assert failing(tmp_path / ".") == f"{tmp_path} has no config.json; found nothing"
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    (tmp_path / "tf_model.h5").touch()
    assert failing(tmp_path) == (
        f"{tmp_path} has no model.safetensors and no pytorch_model.bin; it has tf_model.h5, TensorFlow's weights: load "
        "them with transformers' from_tf=True and save_pretrained()"
    )
    (tmp_path / "tf_model.h5").rename(tmp_path / "other")
    for i in range(10):
        (tmp_path / f"a{i}").touch()
    assert failing(tmp_path).endswith("found a0, a1, a2, a3, a4, a5, a6, a7 and 4 more")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("adapter_model.safetensors", "an adapter (PEFT) without its model: merge the two"),
        ("tf_model.h5", "TensorFlow's weights"),
        ("model.onnx", "an ONNX graph"),
    ],
)
def test_what_lies_in_the_weights_place_is_named(tmp_path, name, sentence):
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    (tmp_path / name).touch()
    assert f"it has {name}, {sentence}" in failing(tmp_path)


def test_an_adapter_beside_the_model_is_not_passed_over_in_silence(tmp_path):
    folder = write(tmp_path, weights())
    (folder / "adapter_model.safetensors").touch()
    with pytest.warns(UserWarning, match=r"adapter_model\.safetensors beside its weights, which is not applied"):
        open_checkpoint(folder)


def test_a_link_into_an_emptied_cache_says_so(hub_cache):
    snapshot = cache_model(hub_cache)
    (hub_cache / "models--somebody--some-roberta" / "blobs" / "1").unlink()
    found = failing(snapshot)
    assert f"{snapshot / 'model.safetensors'} is a link to ../../blobs/1, which is not there: download" in found


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_git_lfs_pointer_is_called_that_whatever_file_it_stands_for(tmp_path, name):
    folder = write(tmp_path, weights())
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert f"{folder / name} is a Git LFS pointer" in failing(folder)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "is not JSON"),
        (b"\xff", "is not UTF-8"),
        (b"[" * 100_000, "is nested too deeply"),
    ],
)
def test_an_unreadable_config_says_why(tmp_path, content, sentence):
    (tmp_path / "config.json").write_bytes(content)
    assert f"{tmp_path / 'config.json'} {sentence}" in failing(tmp_path)


def test_a_refused_config_names_its_file(tmp_path):
    folder = write(tmp_path, weights(), {**SMALL, "model_type": "electra"})
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path / 'config.json'}: model_type is 'electra'")):
        open_checkpoint(folder)


def test_early_sentence_transformers_folders_open(tmp_path):
    model = write(tmp_path / "0_Transformer", weights())
    (tmp_path / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "0_Transformer"}]))
    opened = open_checkpoint(tmp_path)
    assert (opened.folder, opened.model_folder) == (tmp_path, model)


@pytest.mark.parametrize("content", ["[]", "{}", '[{"path": "../elsewhere"}]', '[{"path": 3}]', '["0"]'])
def test_modules_that_lead_nowhere_are_an_error(tmp_path, content):
    (tmp_path / "modules.json").write_text(content)
    assert "names no folder in it for its first module" in failing(tmp_path)


def test_offline_the_cache_answers_without_the_hub_library(hub_cache, monkeypatch):
    snapshot = cache_model(hub_cache)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for revision in (None, "main", "v1", COMMIT):
        opened = open_checkpoint(HUB_NAME, revision=revision)
        assert opened.folder == snapshot
        assert opened.name == HUB_NAME
    assert WORDS in opened.tensors


@pytest.mark.parametrize("revision", [None, "v2", COMMIT[::-1]])
def test_offline_and_not_cached_names_the_three_ways_out(hub_cache, revision):
    if revision:
        cache_model(hub_cache)
    found = failing(HUB_NAME, revision=revision)
    assert "connect to the network, or pass a folder that holds the model, or use the built-in model 'tiny'" in found
    assert "HF_HUB_OFFLINE is set" in found
    assert revision is None or revision in found


def test_transformers_word_for_offline_counts_too(hub_cache, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    library = pytest.importorskip("huggingface_hub")

    def ask(*args, **options):
        raise RuntimeError("the network was asked")

    monkeypatch.setattr(library, "snapshot_download", ask)
    snapshot = cache_model(hub_cache)
    assert open_checkpoint(HUB_NAME).folder == snapshot


def test_the_cache_is_in_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    snapshot = cache_model(tmp_path / "xdg" / "huggingface" / "hub")
    assert open_checkpoint(HUB_NAME).folder == snapshot


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"])
def test_the_cache_is_where_the_hub_library_has_it(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    snapshot = cache_model(tmp_path / "elsewhere")
    assert open_checkpoint(HUB_NAME).folder == snapshot


def test_without_the_hub_library_the_error_names_the_package(hub_cache, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "run `pip install huggingface-hub`" in failing(HUB_NAME)
    cache_model(hub_cache)
    assert open_checkpoint(HUB_NAME).tensors


def test_a_cached_model_without_safetensors_says_how_to_get_them(hub_cache):
    snapshot = cache_model(hub_cache)
    (snapshot / "model.safetensors").unlink()
    assert 'revision="refs/pr/N" fetches the safetensors of number N' in failing(HUB_NAME)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("RepositoryNotFoundError", "is neither a folder nor a model on the hub"),
        ("RevisionNotFoundError", "not its revision 'v9'"),
        ("GatedRepoError", "is gated: accept its terms at"),
        ("LocalEntryNotFoundError", "the hub cannot be reached: connect to the network, or pass a folder"),
        ("HfHubHTTPError", "could not be fetched from the hub"),
    ],
)
def test_each_answer_of_the_hub_has_its_sentence(monkeypatch, kind, sentence):
    library = pytest.importorskip("huggingface_hub")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    error_type = getattr(pytest.importorskip("huggingface_hub.errors"), kind)

    def fail(*args, **options):
        raise error_type.__new__(error_type)

    monkeypatch.setattr(library, "snapshot_download", fail)
    assert sentence in failing(HUB_NAME, revision="v9")


def test_a_cached_commit_without_weights_is_fetched_again(hub_cache, monkeypatch):
    """Another program may have cached the config alone."""
    library = pytest.importorskip("huggingface_hub")
    snapshot = cache_model(hub_cache)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    asked = []

    def fetch(name, *, revision, allow_patterns):
        asked.append((name, revision, allow_patterns))
        safetensors.numpy.save_file(weights(), snapshot / "model.safetensors")
        return str(snapshot)

    monkeypatch.setattr(library, "snapshot_download", fetch)
    assert open_checkpoint(HUB_NAME, revision=COMMIT).tensors
    assert asked == []  # a commit never changes
    (snapshot / "model.safetensors").unlink()
    assert open_checkpoint(HUB_NAME, revision=COMMIT).tensors
    assert asked == [(HUB_NAME, COMMIT, hub.HUB_FILES)]


def test_pytorchs_weights_are_fetched_where_there_are_no_safetensors(hub_cache, monkeypatch):
    library = pytest.importorskip("huggingface_hub")
    snapshot = cache_model(hub_cache)
    (snapshot / "model.safetensors").unlink()
    monkeypatch.delenv("HF_HUB_OFFLINE")
    asked = []

    def fetch(name, *, revision, allow_patterns):
        asked.append(allow_patterns)
        if allow_patterns == hub.TORCH_FILES:
            (snapshot / "pytorch_model.bin").write_bytes(b"damaged")
        return str(snapshot)

    monkeypatch.setattr(library, "snapshot_download", fetch)
    assert "pytorch_model.bin is not a file that torch.save wrote" in failing(HUB_NAME)
    assert asked == [hub.HUB_FILES, hub.TORCH_FILES]


def test_what_is_fetched_is_what_is_needed():
    utils = pytest.importorskip("huggingface_hub.utils")
    needed = {
        "config.json", "model.safetensors", "model.safetensors.index.json", "model-00001-of-00002.safetensors",
        "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json",
        "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
        "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "0_Transformer/merges.txt",
    }  # fmt: skip
    idle = {
        "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "rust_model.ot", "README.md", "train_script.py",
        "onnx/model.onnx", "openvino/openvino_model.bin", "onnx/config.json", "2_Dense/pytorch_model.bin",
    }  # fmt: skip
    wanted = utils.filter_repo_objects(sorted(needed | idle), allow_patterns=hub.HUB_FILES)
    assert set(wanted) == needed


def test_an_unreachable_hub_falls_back_on_the_cache(hub_cache):
    pytest.importorskip("huggingface_hub")
    script = (
        "from numroberta.checkpoint.checkpoint import open_checkpoint, CheckpointError\n"
        "try: print(len(open_checkpoint('somebody/some-roberta').tensors))\n"
        "except CheckpointError as error: print(error)"
    )
    env = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"} | {"HF_ENDPOINT": "http://127.0.0.1:9"}

    def run():
        return subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=120)

    assert "the hub cannot be reached: connect to the network, or pass a folder" in run().stdout
    cache_model(hub_cache)
    assert run().stdout.strip() == str(len(weights()))


def test_importing_and_opening_need_numpy_alone(tmp_path):
    folder = write(tmp_path, weights())
    script = (
        "import sys; from numroberta.checkpoint.checkpoint import open_checkpoint\n"
        f"open_checkpoint({str(folder)!r}).tensors\n"
        "print({'safetensors', 'huggingface_hub', 'tokenizers', 'tqdm', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- Against PyTorch and transformers -----------------------------------------------------------------------


@pytest.mark.parity
class TestAgainstTransformers:
    HEADS = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")

    @pytest.fixture
    def transformers(self):
        return pytest.importorskip("transformers")

    @pytest.mark.parametrize("head", HEADS)
    @pytest.mark.parametrize("family", ["Roberta", "XLMRoberta", "Camembert"])
    def test_what_save_pretrained_writes_opens_with_every_tensor(self, transformers, tmp_path, family, head):
        config = getattr(transformers, family + "Config")(**SMALL, num_labels=2 if "Question" in head else 3)
        model = getattr(transformers, family + head)(config)
        model.save_pretrained(tmp_path)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            opened = open_checkpoint(tmp_path)
        expected = {canonical_name(name): tensor.numpy() for name, tensor in model.state_dict().items()}
        for tied in ("lm_head.decoder.weight", "lm_head.decoder.bias"):
            expected.pop(tied, None)
        assert opened.tensors.keys() == expected.keys()
        for name, tensor in expected.items():
            np.testing.assert_array_equal(opened.tensors[name], tensor)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_half_precision_is_widened_as_torch_widens_it(self, transformers, tmp_path, dtype):
        torch = pytest.importorskip("torch")
        model = transformers.RobertaModel(transformers.RobertaConfig(**SMALL)).to(getattr(torch, dtype))
        model.save_pretrained(tmp_path)
        opened = open_checkpoint(tmp_path)
        assert opened.dtype == opened.config.dtype == dtype
        for name, tensor in model.state_dict().items():
            np.testing.assert_array_equal(opened.tensors[name], tensor.float().numpy())

    def test_shards_of_transformers_open(self, transformers, tmp_path):
        model = transformers.RobertaModel(transformers.RobertaConfig(**SMALL))
        model.save_pretrained(tmp_path, max_shard_size="2KB")
        opened = open_checkpoint(tmp_path)
        assert len(opened.files) > 1
        for name, tensor in model.state_dict().items():
            np.testing.assert_array_equal(opened.tensors[name], tensor.numpy())

    @pytest.mark.parametrize("stored", ["decoder alone", "both, equal", "both, different", "embeddings alone"])
    @pytest.mark.parametrize("tie", [True, False])
    def test_the_decoder_is_the_one_transformers_uses(self, transformers, tmp_path, tie, stored):
        if not tie and stored.endswith("alone"):
            pytest.skip("transformers draws the missing one at random")
        config = {**SMALL, "tie_word_embeddings": tie}
        tensors = weights("masked language model", config=config, own_decoder=True)
        tensors["lm_head.decoder.bias"] = tensors["lm_head.bias"] + 1
        if stored == "decoder alone":
            del tensors[WORDS], tensors["lm_head.bias"]
        if stored == "embeddings alone":
            del tensors["lm_head.decoder.weight"], tensors["lm_head.decoder.bias"]
        if stored == "both, equal":
            tensors["lm_head.decoder.weight"] = tensors[WORDS]
            tensors["lm_head.decoder.bias"] = tensors["lm_head.bias"]
        in_file = {n if n.startswith("lm_head") else "roberta." + n: tensor for n, tensor in tensors.items()}
        config["architectures"] = ["RobertaForMaskedLM"]
        write(tmp_path, in_file, config)
        theirs = transformers.RobertaForMaskedLM.from_pretrained(tmp_path)
        ours = open_checkpoint(tmp_path).tensors
        decoder = ours.get("lm_head.decoder.weight", ours[WORDS])
        np.testing.assert_array_equal(decoder, theirs.lm_head.decoder.weight.detach().numpy())
        np.testing.assert_array_equal(ours["lm_head.bias"], theirs.lm_head.decoder.bias.detach().numpy())
        embeddings = theirs.roberta.embeddings.word_embeddings.weight.detach().numpy()
        np.testing.assert_array_equal(ours[WORDS], embeddings)


# --- On the hub ---------------------------------------------------------------------------------------------


def open_from_hub(name):
    try:
        return open_checkpoint(name)
    except CheckpointError as error:
        if "connect to the network" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.hub
class TestOnTheHub:
    @pytest.fixture(autouse=True)
    def hub_cache(self):
        """The machine's own cache and network; replaces the fixture above."""
        pytest.importorskip("huggingface_hub")

    @pytest.mark.parametrize(
        ("name", "layers", "parts"),
        [
            ("distilbert/distilroberta-base", 6, {"embeddings", "lm_head"}),
            ("FacebookAI/roberta-base", 12, {"embeddings", "lm_head"}),
            ("sentence-transformers/all-distilroberta-v1", 6, {"embeddings", "pooler"}),
            ("FacebookAI/xlm-roberta-base", 12, {"embeddings", "lm_head"}),
        ],
    )
    def test_a_public_checkpoint_opens(self, name, layers, parts):
        opened = open_from_hub(name)
        assert opened.config.num_hidden_layers == layers
        assert parts <= opened.parameters.keys()
        assert np.isfinite(opened.tensors[WORDS][:100]).all()

    def test_distilroberta_has_its_82_million_parameters(self):
        counts = open_from_hub("distilroberta-base").parameters
        encoder = sum(n for part, n in counts.items() if part.startswith(("embeddings", "encoder")))
        assert encoder == 81_527_808
