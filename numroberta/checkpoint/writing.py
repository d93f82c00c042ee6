"""Writing what this wing reads: safetensors files, and whole checkpoint folders that transformers loads.

Nothing half-written is ever left under a final name: a file is written beside its place and renamed, and so is a new
folder.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from numroberta.checkpoint.config import RobertaConfig
from numroberta.checkpoint.errors import CheckpointError, show
from numroberta.checkpoint.hub import WEIGHTS
from numroberta.checkpoint.names import name_in_file
from numroberta.checkpoint.stored_tensor import DTYPES, Array

BLOCK = 1 << 20  # elements that are converted at a time: a table of words is never in memory twice

# The dtypes in which weights are written, and their codes in the file.
CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}
CODE_OF = {np.dtype(dtype): code for code, dtype in DTYPES.items() if code != "BF16"}


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Array],
    metadata: Mapping[str, str] | None = None,
    dtype: str | None = None,
) -> None:
    """Write arrays by name as a safetensors file, https://huggingface.co/docs/safetensors.

    Tensors follow each other in the order given, wide items before narrow ones, so that all are aligned.

    Args:
        path: The file; it appears under this name when it is complete.
        tensors: Arrays of any of NumPy's numeric types and bool, except complex ones.
        metadata: Strings by name, for the head of the file.
        dtype: "float32", "float16", "bfloat16" or "float64": what every tensor is rounded to (to nearest, ties to
            even).  None keeps each array's own type.

    Raises:
        TypeError: An array has a type that the format does not know.
        ValueError: A finite number is too large for float16.
    """
    if dtype is not None and dtype not in CODES:
        raise ValueError(f"dtype={dtype!r}, expected one of {', '.join(map(repr, CODES))}")
    codes = {name: CODES[dtype] if dtype else _code_of(name, array) for name, array in tensors.items()}
    order = sorted(tensors, key=lambda name: -np.dtype(DTYPES[codes[name]]).itemsize)
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        start, end = end, end + math.prod(tensors[name].shape) * np.dtype(DTYPES[codes[name]]).itemsize
        header[name] = {"dtype": codes[name], "shape": list(tensors[name].shape), "data_offsets": [start, end]}
    raw = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)

    def write(file: BinaryIO) -> None:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for name in order:
            flat = tensors[name].reshape(-1)
            for first in range(0, len(flat), BLOCK):
                file.write(_converted(flat[first : first + BLOCK], codes[name], name).tobytes())

    write_file(Path(path), write)


def _code_of(name: str, array: Array) -> str:
    code = CODE_OF.get(array.dtype.newbyteorder("<"))
    if code is None:
        raise TypeError(f"tensor {show(name)} has dtype {array.dtype}; safetensors has {', '.join(DTYPES)}")
    return code


def _converted(values: Array, code: str, name: str) -> Array:
    """Numbers as they lie in the file."""
    if code == "BF16":
        return to_bfloat16(values)
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are looked for below; a signalling NaN is a NaN
        result = values.astype(DTYPES[code], copy=False)
    if code == "F16" and not np.array_equal(np.isinf(result), np.isinf(values)):
        raise ValueError(f"tensor {show(name)} has numbers beyond float16's 65504: bfloat16 and float32 hold them")
    return result


def to_bfloat16(values: Array) -> Array:
    """The bits of the nearest bfloat16 numbers, ties to even, as uint16: the upper half of a float32.

    >>> [hex(bits) for bits in to_bfloat16(np.array([1.0, 1.0 + 2**-8, 1.0 + 2**-8 + 2**-9], np.float32))]
    ['0x3f80', '0x3f80', '0x3f81']
    """
    bits = values.astype("<f4").view("<u4")
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype("<u2")


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Give a file that `write` fills its name when it is complete and on the disk; after an error none is left.

    Raises:
        CheckpointError: It cannot be written: the folder is missing, or the disk is full.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as transformers formats it."""
    write_file(path, lambda file: file.write((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()))


@contextmanager
def new_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to write into, which gets its name when everything is written; after an error nothing is left.

    Raises:
        CheckpointError: There is a file or a folder with something in it already, or it cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise CheckpointError(f"{folder} is there already; remove it, or give another name")
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise CheckpointError(f"{partial} cannot be made: {error.strerror or error}") from error
    try:
        yield partial
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, so that what they replace may go; Windows has no such call."""
    if os.name == "posix":
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


# What transformers calls a model with each head; without one it is the encoder alone.
CLASSES = {"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert", "bert": "Bert"}
HEAD_CLASSES = {
    "lm_head.": "ForMaskedLM",
    "classifier.dense.": "ForSequenceClassification",
    "classifier.weight": "ForTokenClassification",
    "qa_outputs.": "ForQuestionAnswering",
}


def write_checkpoint(folder: Path, tensors: Mapping[str, Array], config: RobertaConfig, dtype: str = "float32") -> None:
    """Write `config.json` and `model.safetensors` as `save_pretrained` of transformers does.

    Args:
        folder: Where to; it exists, and files of these names in it are replaced.
        tensors: By canonical name, see `Checkpoint`.  What heads there are is known by their tensors.
        config: The config; its `architectures` and `dtype` are set to what is written.
        dtype: "float32", "float16", "bfloat16" or "float64".
    """
    head = next((suffix for start, suffix in HEAD_CLASSES.items() if any(n.startswith(start) for n in tensors)), None)
    in_file = {name_in_file(name, config, head is not None): array for name, array in tensors.items()}
    write_safetensors(folder / WEIGHTS, in_file, {"format": "pt"}, dtype)
    architectures = [CLASSES[config.model_type] + (head or "Model")]
    write_json(folder / "config.json", config.to_dict() | {"architectures": architectures, "dtype": dtype})
