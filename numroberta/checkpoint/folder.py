"""What lies in a checkpoint's folder: its config, the files of its weights, and what to do where they are missing."""

from __future__ import annotations

import os
from pathlib import Path

from numroberta import warn
from numroberta.checkpoint.config import RobertaConfig
from numroberta.checkpoint.errors import CheckpointError, ConfigError, listed, show
from numroberta.checkpoint.hub import INDEX, TORCH_INDEX, TORCH_WEIGHTS, WEIGHTS
from numroberta.checkpoint.json_file import load_json
from numroberta.checkpoint.safetensors_file import open_safetensors
from numroberta.checkpoint.stored_tensor import Array, StoredTensor
from numroberta.checkpoint.torch_file import open_torch_file


def find_model_folder(folder: Path) -> Path:
    """The folder itself, or the one that `modules.json` of early sentence-transformers names: 0_Transformer."""
    modules = folder / "modules.json"
    if (folder / "config.json").is_file() or not modules.is_file():
        return folder
    content = load_json(modules)
    first = content[0] if isinstance(content, list) and content else None
    path = first.get("path") if isinstance(first, dict) else None
    if not isinstance(path, str) or not _is_plain_name(path):
        raise CheckpointError(f"{modules} names no folder in it for its first module, found {show(path)}")
    return folder / path


def load_config(folder: Path) -> RobertaConfig:
    """The config of a folder; raises CheckpointError if there is none, ConfigError if it is refused."""
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder} has no config.json; found {_listing(folder)}")
    try:
        return RobertaConfig.from_dict(load_json(path))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def open_weights(folder: Path) -> tuple[tuple[Path, ...], dict[str, StoredTensor]]:
    """The files that hold a folder's weights, and every tensor in them under its name in the file.

    Safetensors are taken before PyTorch's files, whole files before shards.

    Raises:
        CheckpointError: There is no such file, or one is broken.
    """
    adapter = next((name for name in ADAPTERS if (folder / name).exists()), None)
    if adapter and any((folder / name).exists() for name in (WEIGHTS, INDEX, TORCH_WEIGHTS, TORCH_INDEX)):
        warn(f"{folder} has {adapter} beside its weights, which is not applied: merge_and_unload() of PEFT does")
    for whole, index in ((WEIGHTS, INDEX), (TORCH_WEIGHTS, TORCH_INDEX)):
        if _is_file(folder / whole):
            return (folder / whole,), _open_file(folder / whole)
        if _is_file(folder / index):
            return _open_shards(folder, index)
    raise CheckpointError(f"{folder} has no {WEIGHTS} and no {TORCH_WEIGHTS}{_what_instead(folder)}")


def load_tensors(folder: Path) -> dict[str, Array]:
    """The tensors of a small folder, such as a module of sentence-transformers, by their names in its file."""
    return {name: tensor.array() for name, tensor in open_weights(folder)[1].items()}


def _open_file(path: Path) -> dict[str, StoredTensor]:
    return open_safetensors(path)[0] if path.suffix == ".safetensors" else open_torch_file(path)


def _is_file(path: Path) -> bool:
    """Whether a file is there; raises CheckpointError for a link that leads nowhere, as an emptied cache has them."""
    if path.is_symlink() and not path.exists():
        raise CheckpointError(
            f"{path} is a link to {os.readlink(path)}, which is not there: download the model again, or copy the files "
            "that its links mean"
        )
    return path.is_file()


def _open_shards(folder: Path, index: str) -> tuple[tuple[Path, ...], dict[str, StoredTensor]]:
    """The shard files that the index names, and their tensors.

    Raises CheckpointError where index and shards disagree, or two shards hold the same tensor.
    """
    shard_of = _load_index(folder / index)
    files = tuple(folder / shard for shard in sorted(set(shard_of.values())))
    stored: dict[str, StoredTensor] = {}
    holder: dict[str, str] = {}
    for path in files:
        for name, tensor in _open_file(path).items():
            if name in stored:
                raise CheckpointError(f"{path} has tensor {show(name)}, and so has {holder[name]}")
            stored[name], holder[name] = tensor, path.name
    for name, shard in shard_of.items():
        if holder.get(name) != shard:
            raise CheckpointError(f"{folder / index} says that {shard} has tensor {show(name)}, but it has not")
    return files, stored


def _load_index(path: Path) -> dict[str, str]:
    """Which shard holds each tensor, from `model.safetensors.index.json` or `pytorch_model.bin.index.json`."""
    content = load_json(path)
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict) or not shards:
        raise CheckpointError(f"{path} has no weight_map from tensor names to files")
    for shard in shards.values():
        if not isinstance(shard, str) or not _is_plain_name(shard):
            raise CheckpointError(f"{path} names the shard {show(shard)}; expected a file of the same folder")
        if not _is_file(path.parent / shard):
            raise CheckpointError(f"{path} names the shard {shard}, which is missing; fetch it too")
    return shards


ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")

# Files that tell what a folder without weights is.
OTHERS = {
    **dict.fromkeys(ADAPTERS, "an adapter (PEFT) without its model: merge the two with PEFT's merge_and_unload()"),
    "tf_model.h5": "TensorFlow's weights: load them with transformers' from_tf=True and save_pretrained()",
    "flax_model.msgpack": "Flax's weights: load them with transformers' from_flax=True and save_pretrained()",
    "model.onnx": "an ONNX graph: fetch the weights that it was made from",
}


def _what_instead(folder: Path) -> str:
    """What a folder has in the weights' place, and what to do about it."""
    for name, what in OTHERS.items():
        if (folder / name).exists() or (folder / "onnx" / name).exists():
            return f"; it has {name}, {what}"
    hint = ""
    if folder.parent.name == "snapshots":
        hint = (
            "; the model has no such files on the hub, or they are not in the cache. Where its page shows a pull "
            'request of the SFconvertbot, revision="refs/pr/N" fetches the safetensors of number N'
        )
    return f"; found {_listing(folder)}{hint}"


def _is_plain_name(name: str) -> bool:
    return name not in ("", ".", "..") and not any(letter in name for letter in "/\\:\0")


def _listing(folder: Path) -> str:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        return f"no folder ({error.strerror})"
    return listed(names) if names else "nothing"
