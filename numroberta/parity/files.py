"""Recordings from files and arrays, in the formats in which a port can write them; what is broken is refused."""

from __future__ import annotations

import io
import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numroberta.checkpoint import open_safetensors

Array = NDArray[Any]

SHAPES = "shapes.json"  # beside raw files: {"NAME": {"dtype": "float32", "shape": [2, 6, 768]}, …}, or the shape alone
FORMATS = ".safetensors, .npz, .npy or .json, or a folder of .npy files, or of .bin files with a shapes.json"
# A compressed file may unpack to so many times its size, or to so many bytes: activations compress a few times.
MOST_UNPACKED = 100
LEAST_UNPACKED = 1 << 28


@dataclass(frozen=True)
class Recording:
    """Activations by name, and what is known about them.

    metadata: what the file says of itself.  bfloat16: names of tensors that were stored in that type.
    """

    tensors: dict[str, Array]
    metadata: dict[str, str] = field(default_factory=dict)
    bfloat16: frozenset[str] = frozenset()


def load_recording(source: Recording | Mapping[str, ArrayLike] | str | os.PathLike[str]) -> Recording:
    """A recording from a file, a folder of files, or arrays by name.

    Files: `.safetensors`; `.npz` and `.npy` of NumPy; `.json`, an object of names to nested lists; a folder of `.npy`
    files, or of raw little-endian `.bin` files with the shapes in `shapes.json`.  Raises ValueError for anything else,
    and for a file that is damaged or would unpack to far more than its own size.
    """
    if isinstance(source, Recording):
        return source
    if isinstance(source, Mapping):
        return Recording(_numbers("the recording", {name: np.asarray(array) for name, array in source.items()}))
    path = Path(source)
    readers = {".npz": _npz, ".npy": _npy, ".json": _json}
    try:
        if path.is_dir() and path.suffix not in readers:
            return Recording(_numbers(str(path), _folder(path)))
        if path.suffix == ".safetensors":
            return _safetensors(path)
        if path.suffix in readers:
            return Recording(_numbers(str(path), readers[path.suffix](path)))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    raise ValueError(f"{path}: expected a name that ends in {FORMATS}")


def load_names(path: str | os.PathLike[str]) -> dict[str, str]:
    """A JSON object from names to names; `{n}` in both stands for a number, such as that of the layer."""
    names = _parsed(Path(path))
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{os.fspath(path)}: expected a JSON object from your names to the reference's")
    return names


def _safetensors(path: Path) -> Recording:
    stored, metadata = open_safetensors(path)
    tensors = {
        name: tensor.array().astype(np.float16) if tensor.dtype == "F16" else tensor.array()
        for name, tensor in stored.items()
    }
    bfloat16 = frozenset(name for name, tensor in stored.items() if tensor.dtype == "BF16")
    return Recording(tensors, metadata, bfloat16)


def _npz(path: Path) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            unpacked, packed = sum(member.file_size for member in members), path.stat().st_size
            if unpacked > max(LEAST_UNPACKED, MOST_UNPACKED * packed):
                raise ValueError(f"its {packed:,} bytes would unpack to {unpacked:,}")
            arrays = {}
            for member in members:
                with archive.open(member) as file:
                    arrays[member.filename.removesuffix(".npy")] = _array(file, member.file_size, member.filename)
            return arrays
    except (ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a file of NumPy arrays as np.savez writes it: {error}") from error


def _npy(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as file:
            return {path.stem: _array(file, path.stat().st_size, path.name)}
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not an array as np.save writes it: {error}") from error


def _array(file: IO[bytes], size: int, name: str) -> Array:
    """One array of a file of `size` bytes, whose header must not promise more than that."""
    start = file.read(12)
    if start[:6] != b"\x93NUMPY":
        raise ValueError(f"{name} in it is no NumPy array")
    long = start[6] > 1
    length = struct.unpack("<I", start[8:12])[0] if long else struct.unpack("<H", start[8:10])[0]
    if length > 1 << 16:
        raise ValueError(f"{name} has a header of {length} bytes")
    header = start + file.read(length - (0 if long else 2))
    parse = np.lib.format.read_array_header_2_0 if long else np.lib.format.read_array_header_1_0
    whole = io.BytesIO(header)
    np.lib.format.read_magic(whole)
    try:
        shape, fortran, dtype = parse(whole)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{name} has a header that is not NumPy's ({type(error).__name__})") from error
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects; expected numbers")
    promised, there = math.prod(shape) * dtype.itemsize, size - len(header)
    if promised != there:
        raise ValueError(f"{name} says it has {promised:,} bytes of numbers, and there are {there:,}")
    data = file.read(promised)
    if len(data) < promised:
        raise ValueError(f"{name} ends after {len(data):,} of {promised:,} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _json(path: Path) -> dict[str, Array]:
    parsed = _parsed(path)
    if not isinstance(parsed, dict):
        raise ValueError(f"{path}: expected a JSON object from names to nested lists of numbers")
    arrays = {}
    for name, value in parsed.items():
        try:
            flat = isinstance(value, dict) and {"data", "shape"} <= value.keys()
            array = np.array(value["data"] if flat else value)
            arrays[name] = array.reshape(value["shape"]) if flat else array
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"{path}: {name} is no rectangle of numbers: {error}") from error
    return arrays


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def _folder(path: Path) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for file in sorted(path.glob("*.npy")):
        arrays |= _npy(file)
    raw = sorted(path.glob("*.bin"))
    if raw and not (path / SHAPES).is_file():
        raise ValueError(f"{path} has .bin files and no {SHAPES} with the shape of each by name")
    shapes = _parsed(path / SHAPES) if raw else {}
    for file in raw:
        entry = shapes.get(file.stem) if isinstance(shapes, dict) else None
        shape = entry.get("shape") if isinstance(entry, dict) else entry
        if not isinstance(shape, list) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"{path / SHAPES} has no shape for {file.stem}: expected a list of whole numbers")
        try:
            dtype = np.dtype(entry.get("dtype", "float32") if isinstance(entry, dict) else "float32").newbyteorder("<")
        except TypeError as error:
            raise ValueError(f"{path / SHAPES}: {file.stem}: {error}") from error
        size = file.stat().st_size
        if size != math.prod(shape) * dtype.itemsize:
            expected = math.prod(shape) * dtype.itemsize
            raise ValueError(f"{file} has {size:,} bytes, and {dtype} of shape {shape} takes {expected:,}")
        arrays[file.stem] = np.fromfile(file, dtype).reshape(shape)
    if not arrays:
        raise ValueError(f"{path} has no .npy or .bin files")
    return arrays


def _numbers(where: str, tensors: dict[str, Array]) -> dict[str, Array]:
    """The tensors, if all are numbers.  Raises ValueError for words, objects and complex numbers."""
    for name, array in tensors.items():
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{where}: {name} has dtype {array.dtype}, expected float16, float32 or float64")
    return tensors
