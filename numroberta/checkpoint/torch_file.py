"""The tensors of a file that `torch.save` wrote (`pytorch_model.bin`), without PyTorch.

Since PyTorch 1.6 such a file is a zip archive: `data.pkl` says which tensors there are, and every `data/KEY` holds the
numbers of one storage, uncompressed, so that a tensor is a view of the mapped file.  Before 1.6 five pickles came
first, and the storages behind them.
"""

from __future__ import annotations

import mmap
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from numroberta.checkpoint.errors import CheckpointError, show
from numroberta.checkpoint.json_file import LFS_POINTER
from numroberta.checkpoint.stored_tensor import DTYPES, StoredTensor, check_mappable
from numroberta.checkpoint.tensor_pickle import Machine, PickledStorage, PickledTensor, kind_of

MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # the first pickle of a file from before 1.6: a number
STATE_DICTS = ("state_dict", "model_state_dict")  # where training scripts keep the tensors among other things
WRAPPERS = ("module.", "model.", "_orig_mod.")  # what DataParallel, Lightning and torch.compile put before every name


def open_torch_file(path: Path) -> dict[str, StoredTensor]:
    """Where each tensor of a file lies, by name.  Only its pickle is read.

    Raises:
        CheckpointError: The file cannot be read, is broken, or holds anything but tensors by name.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise CheckpointError(f"{path} is empty; expected a file that torch.save wrote")
            check_mappable(path, os.fstat(file.fileno()).st_size)
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    if mapping[: len(LFS_POINTER)] == LFS_POINTER:
        raise CheckpointError(f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` in its folder")
    if mapping[:4] == b"PK\x03\x04":
        content, starts = _from_zip(path, mapping)
    elif mapping[: len(MAGIC)] == MAGIC:
        content, starts = _from_pickles(path, mapping)
    else:
        raise CheckpointError(f"{path} is not a file that torch.save wrote: it begins with {show(mapping[:8])}")
    return {name: _stored(tensor, mapping, starts) for name, tensor in _by_name(path, content).items()}


def _from_zip(path: Path, mapping: mmap.mmap) -> tuple[Any, dict[str, int]]:
    """What the pickle of a zip archive holds, and the byte at which each of its storages begins."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
    except Exception as error:  # whatever zipfile raises for a damaged archive: it differs by version
        raise CheckpointError(f"{path} is a damaged zip archive: {error}; download it again") from error

    def place(name: str) -> tuple[int, int]:
        """From which byte to which a member's content lies."""
        info = members.get(name)
        if info is None:
            raise CheckpointError(f"{path} has no {show(name)}; expected an archive that torch.save wrote")
        head = mapping[info.header_offset : info.header_offset + 30] if info.header_offset >= 0 else b""
        if len(head) < 30 or head[:4] != b"PK\x03\x04" or info.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"{path}: {show(name)} does not lie in the archive as torch.save writes it")
        start = info.header_offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        if start + info.file_size > len(mapping):
            raise CheckpointError(f"{path}: {show(name)} lies beyond the end of the file; it is truncated")
        return start, start + info.file_size

    pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise CheckpointError(
            f"{path} is a zip archive, but none that torch.save wrote: it has {len(pickles)} data.pkl"
        )
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in members:
        start, stop = place(f"{folder}byteorder")
        if mapping[start:stop] != b"little":
            raise CheckpointError(
                f"{path} holds numbers in the byte order {show(mapping[start:stop])}; expected little"
            )
    start, stop = place(pickles[0])
    raw = mapping[start:stop]
    if zlib.crc32(raw) != members[pickles[0]].CRC:
        raise CheckpointError(f"{path} has a damaged data.pkl; download it again")
    machine = Machine(path, raw)
    content = machine.run()
    starts = {}
    for key, storage in machine.storages.items():
        start, stop = place(f"{folder}data/{key}")
        _check_size(path, storage, stop - start)
        starts[key] = start
    return content, starts


def _from_pickles(path: Path, mapping: mmap.mmap) -> tuple[Any, dict[str, int]]:
    """The same of a file from before 1.6: number, version, system, content, keys; then the storages in their order."""
    end = len(MAGIC)
    values: list[Any] = []
    storages: dict[str, PickledStorage] = {}
    for _ in ("version", "system", "content", "keys"):
        machine = Machine(path, mapping, end)
        values.append(machine.run())
        storages |= machine.storages
        end = machine.end
    _, system, content, keys = values
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CheckpointError(f"{path} does not hold numbers in the byte order little; expected that")
    if not isinstance(keys, list) or any(not isinstance(key, str) or key not in storages for key in keys):
        raise CheckpointError(f"{path} has a list of storages that does not fit its tensors")
    starts = {}
    for key in keys:
        count = int.from_bytes(mapping[end : end + 8], "little")
        itemsize = np.dtype(DTYPES[storages[key].dtype]).itemsize
        starts[key] = end + 8
        end += 8 + count * itemsize
        if end > len(mapping):
            raise CheckpointError(f"{path} ends in the middle of the storage {show(key)}; it is truncated")
        _check_size(path, storages[key], count * itemsize)
    if missing := storages.keys() - starts.keys():
        raise CheckpointError(f"{path} does not hold the storage {show(min(missing))}")
    return content, starts


def _check_size(path: Path, storage: PickledStorage, size: int) -> None:
    expected = storage.size * np.dtype(DTYPES[storage.dtype]).itemsize
    if size != expected:
        raise CheckpointError(f"{path}: the storage {show(storage.key)} has {size} bytes, expected {expected}")


def _by_name(path: Path, content: object) -> dict[str, PickledTensor]:
    """The tensors that a pickle holds, under their names without what wrappers put before all of them."""
    for key in STATE_DICTS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds {kind_of(content)}; expected tensors by name, a state_dict")
    tensors = {name: value for name, value in content.items() if isinstance(value, PickledTensor)}
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors by name; expected a state_dict")
    for name in tensors:
        if not isinstance(name, str) or not name:
            raise CheckpointError(f"{path} has a tensor under the name {show(name)}; expected a string")
    while wrapper := next((w for w in WRAPPERS if all(name.startswith(w) for name in tensors)), None):
        tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    return tensors


def _stored(tensor: PickledTensor, mapping: mmap.mmap, starts: Mapping[str, int]) -> StoredTensor:
    storage, offset, shape, strides = tensor
    itemsize = np.dtype(DTYPES[storage.dtype]).itemsize
    start = starts[storage.key] + offset * itemsize
    if 0 in shape:
        return StoredTensor(storage.dtype, shape, mapping, starts[storage.key], starts[storage.key])
    in_order, expected = True, 1
    for size, step in zip(shape[::-1], strides[::-1], strict=True):
        in_order = in_order and (size == 1 or step == expected)
        expected *= size
    count = 1 + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    return StoredTensor(storage.dtype, shape, mapping, start, start + count * itemsize, None if in_order else strides)
