"""What lies in a checkpoint's folder: its config, the files of its weights, and what to do where they are missing."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from numroberta.checkpoint.config import RobertaConfig
from numroberta.checkpoint.errors import CheckpointError, ConfigError, listed, show
from numroberta.checkpoint.hub import INDEX, WEIGHTS
from numroberta.checkpoint.json_file import load_json
from numroberta.checkpoint.safetensors_file import StoredTensor, open_safetensors


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
    """The files that hold a folder's weights, and every tensor in them under its name in the file."""
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,), open_safetensors(folder / WEIGHTS)[0]
    if (folder / INDEX).is_file():
        return _open_shards(folder)
    if any(folder.glob("pytorch_model*.bin")):
        raise CheckpointError(
            f"{folder} has its weights in PyTorch's pickle format only; convert them where PyTorch is "
            f"installed:\n{conversion_command(folder)}"
        )
    raise CheckpointError(f"{folder} has no {WEIGHTS}; found {_listing(folder)}{_hub_hint(folder)}")


def _open_shards(folder: Path) -> tuple[tuple[Path, ...], dict[str, StoredTensor]]:
    shard_of = _load_index(folder)
    files = tuple(folder / shard for shard in sorted(set(shard_of.values())))
    stored: dict[str, StoredTensor] = {}
    holder: dict[str, str] = {}
    for path in files:
        for name, tensor in open_safetensors(path)[0].items():
            if name in stored:
                raise CheckpointError(f"{path} has tensor {show(name)}, and so has {holder[name]}")
            stored[name], holder[name] = tensor, path.name
    for name, shard in shard_of.items():
        if holder.get(name) != shard:
            raise CheckpointError(f"{folder / INDEX} says that {shard} has tensor {show(name)}, but it has not")
    return files, stored


def _hub_hint(folder: Path) -> str:
    if folder.parent.name != "snapshots":
        return ""
    return (
        "; the model has no safetensors on the hub, or they are not in the cache: look at its page, and if it has "
        "pytorch_model.bin, fetch it with `hf download NAME --local-dir FOLDER` and load FOLDER to be told how "
        "to convert it"
    )


def conversion_command(folder: Path) -> str:
    """The command that writes `model.safetensors` beside `pytorch_model*.bin`, running none of its pickle's code."""
    script = (
        "import glob, os, sys, torch, safetensors.torch as s; os.chdir(sys.argv[1]); w = {}; "
        "[w.update(torch.load(f, map_location='cpu', weights_only=True)) for f in glob.glob('pytorch_model*.bin')]; "
        "s.save_file({k: v.clone().contiguous() for k, v in w.items()}, 'model.safetensors')"
    )
    quoted = subprocess.list2cmdline([str(folder)]) if os.name == "nt" else shlex.quote(str(folder))
    return f'python -c "{script}" {quoted}'


def _load_index(folder: Path) -> dict[str, str]:
    """Which shard holds each tensor, from `model.safetensors.index.json`."""
    path = folder / INDEX
    content = load_json(path)
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict) or not shards:
        raise CheckpointError(f"{path} has no weight_map from tensor names to files")
    for shard in shards.values():
        if not isinstance(shard, str) or not _is_plain_name(shard):
            raise CheckpointError(f"{path} names the shard {show(shard)}; expected a file of the same folder")
        if not (folder / shard).is_file():
            raise CheckpointError(f"{path} names the shard {shard}, which is missing; fetch it too")
    return shards


def _is_plain_name(name: str) -> bool:
    return name not in ("", ".", "..") and not any(letter in name for letter in "/\\:\0")


def _listing(folder: Path) -> str:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        return f"no folder ({error.strerror})"
    return listed(names) if names else "nothing"
