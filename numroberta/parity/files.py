"""Recordings from files and arrays, in the formats in which a port can write them."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numroberta.checkpoint import open_safetensors

Array = NDArray[Any]


@dataclass(frozen=True)
class Recording:
    """Activations by name, and what is known about them.  bfloat16: names of tensors that were stored in that type."""

    tensors: dict[str, Array]
    metadata: dict[str, str] = field(default_factory=dict)
    bfloat16: frozenset[str] = frozenset()


def load_recording(source: Recording | Mapping[str, ArrayLike] | str | os.PathLike[str]) -> Recording:
    """A recording from a .safetensors or .npz file, or from arrays by name.  Raises ValueError for anything else."""
    if isinstance(source, Recording):
        return source
    if isinstance(source, Mapping):
        tensors = {name: np.asarray(array) for name, array in source.items()}
        _check_that_all_are_numbers("the recording", tensors)
        return Recording(tensors)
    path = Path(source)
    if path.suffix == ".safetensors":
        stored, metadata = open_safetensors(path)
        narrow = {name: np.float16 for name, tensor in stored.items() if tensor.dtype == "F16"}
        tensors = {
            name: tensor.array().astype(narrow[name]) if name in narrow else tensor.array()
            for name, tensor in stored.items()
        }
        return Recording(
            tensors, metadata, frozenset(name for name, tensor in stored.items() if tensor.dtype == "BF16")
        )
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as file:
                tensors = {name: file[name] for name in file.files}
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
        except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is not a file of NumPy arrays as np.savez writes it: {error}") from error
        _check_that_all_are_numbers(str(path), tensors)
        return Recording(tensors)
    raise ValueError(f"{path}: expected a name that ends in .safetensors or .npz")


def load_names(path: str | os.PathLike[str]) -> dict[str, str]:
    """A JSON object from names to names."""
    try:
        names = json.loads(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is not JSON: {error}") from error
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{os.fspath(path)}: expected a JSON object from your names to the reference's")
    return names


def _check_that_all_are_numbers(where: str, tensors: Mapping[str, Array]) -> None:
    for name, array in tensors.items():
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{where}: {name} has dtype {array.dtype}, expected float16, float32 or float64")
