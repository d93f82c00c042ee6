"""The mapped reader of safetensors files: every tensor a read-only view, every broken file told what is broken."""

from __future__ import annotations

import math
import mmap
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from numroberta.checkpoint.errors import CheckpointError, show
from numroberta.checkpoint.json_file import LFS_POINTER, kind_of, parse_json
from numroberta.checkpoint.stored_tensor import DTYPES, Array, Shape, StoredTensor, check_mappable
from numroberta.checkpoint.surrogates import lone_surrogate

LARGEST_HEADER = 100_000_000  # bytes; safetensors' own limit
MOST_DIMENSIONS = 32  # NumPy 1's limit


def load_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors of one safetensors file by name, mapped and read-only, and its metadata.

    What it accepts, the `safetensors` library accepts and reads alike; it refuses besides: a name given twice
    (the library takes the last) and float8 and complex tensors. The file must not change while it is in use.
    Format: https://huggingface.co/docs/safetensors. Raises `CheckpointError`, naming what is wrong.
    """
    stored, metadata = open_safetensors(Path(path))
    return {name: tensor.array() for name, tensor in stored.items()}, metadata


def open_safetensors(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    try:
        with path.open("rb") as file:
            file_size = os.fstat(file.fileno()).st_size
            first = file.read(8)
            header_size = _checked_header_size(path, first, file_size)
            header = _parse_header(path, file.read(header_size))
            check_mappable(path, file_size)
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error

    metadata = _checked_metadata(path, header.pop("__metadata__", None))
    data_start = 8 + header_size
    data_size = file_size - data_start
    stored = {}
    for name, entry in header.items():
        dtype, shape, start, stop = _checked_entry(path, name, entry, data_size)
        stored[name] = StoredTensor(dtype, shape, mapping, data_start + start, data_start + stop)
    _check_that_tensors_fill_the_data(path, stored, data_start, file_size)
    return stored, metadata


def _checked_header_size(path: Path, first: bytes, file_size: int) -> int:
    if not first:
        raise CheckpointError(f"{path} is empty; expected a safetensors file")
    if first == LFS_POINTER[:8]:
        raise CheckpointError(f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` in its folder")
    if len(first) < 8:
        raise CheckpointError(f"{path} is truncated: {len(first)} bytes, too few for a safetensors header")
    header_size = int.from_bytes(first, "little")
    if header_size > LARGEST_HEADER:
        raise CheckpointError(
            f"{path} claims a header of {header_size} bytes, over the limit of 100 MB; it is not a safetensors file"
        )
    if header_size > file_size - 8:
        raise CheckpointError(
            f"{path} claims a header of {header_size} bytes, beyond the end of the file "
            f"({file_size} bytes); it is truncated, or not a safetensors file"
        )
    return header_size


def _parse_header(path: Path, raw: bytes) -> dict[str, Any]:
    """The JSON object at the head of the file; a name given twice is an error, as the format demands."""
    header = parse_json(raw, f"{path} has a header that", strict=True)
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} has a header that is a JSON {kind_of(header)}; expected an object")
    return header


def _checked_metadata(path: Path, metadata: Any) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) and lone_surrogate(key + value) is None for key, value in metadata.items()
    ):
        raise CheckpointError(f"{path} has a __metadata__ that is not an object of strings")
    return metadata


def _checked_entry(path: Path, name: str, entry: Any, data_size: int) -> tuple[str, Shape, int, int]:
    """One tensor's (dtype, shape, start, stop), offsets counted from the start of the data."""

    def broken(what: str) -> NoReturn:
        raise CheckpointError(f"{path}: tensor {show(name)} {what}")

    if lone_surrogate(name) is not None:
        broken("has a name that is not valid Unicode")
    if not isinstance(entry, dict):
        broken(f"is described by a JSON {kind_of(entry)}; expected an object of dtype, shape and data_offsets")
    for key in ("dtype", "shape", "data_offsets"):
        if key not in entry:
            broken(f"has no {key}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        broken(f"has dtype {show(dtype)}; expected one of {', '.join(DTYPES)}")
    if not _are_naturals(shape):
        broken(f"has shape {show(shape)}; expected a list of whole numbers from 0")
    if not _are_naturals(offsets) or len(offsets) != 2:
        broken(f"has data_offsets {show(offsets)}; expected two whole numbers from 0")

    item_size = np.dtype(DTYPES[dtype]).itemsize
    if len(shape) > MOST_DIMENSIONS:
        broken(f"has {len(shape)} dimensions; expected at most {MOST_DIMENSIONS}")
    if math.prod(n for n in shape if n) * item_size > sys.maxsize:
        broken(f"has shape {show(shape)}, more than memory can address")
    start, stop = offsets
    if start > stop:
        broken(f"has data_offsets that run backwards: {show(offsets)}")
    if stop > data_size:
        broken(f"has data_offsets {show(offsets)} outside the data of {data_size} bytes; the file may be truncated")
    expected = math.prod(shape) * item_size
    if stop - start != expected:
        broken(f"has {stop - start} bytes, but {dtype} of shape {show(shape)} takes {expected}")
    return dtype, tuple(shape), start, stop


def _check_that_tensors_fill_the_data(
    path: Path, stored: Mapping[str, StoredTensor], data_start: int, file_size: int
) -> None:
    end = data_start
    for name, tensor in sorted(stored.items(), key=lambda item: (item[1].start, item[1].stop)):
        if tensor.start < end:
            raise CheckpointError(f"{path}: the bytes of tensor {show(name)} overlap another tensor's")
        if tensor.start > end:
            raise CheckpointError(f"{path}: a hole of {tensor.start - end} bytes lies before tensor {show(name)}")
        end = tensor.stop
    if end != file_size:
        raise CheckpointError(f"{path}: the last {file_size - end} bytes belong to no tensor")


def _are_naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)
