"""`StoredTensor`: where one tensor lies in a mapped file, and its values as an array."""

from __future__ import annotations

import math
import mmap
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from numroberta.checkpoint.errors import CheckpointError

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]

# safetensors' dtype code -> NumPy's, as the bytes lie in the file. NumPy has no bfloat16: its bits are read.
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in bytes `start` to `stop` of a mapped file, with safetensors' name for its dtype.

    strides: how many elements lie between neighbours along each axis; None where they lie one after the other, the last
    axis first.
    """

    dtype: str
    shape: Shape
    mapping: mmap.mmap
    start: int
    stop: int
    strides: Shape | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def stored(self) -> Array:
        """A read-only view of the file, with the bits of bfloat16 as uint16."""
        dtype = np.dtype(DTYPES[self.dtype])
        strides = None if self.strides is None else tuple(step * dtype.itemsize for step in self.strides)
        view: Array = np.ndarray(self.shape, dtype, buffer=self.mapping, offset=self.start, strides=strides)
        view.flags.writeable = False
        return view

    def array(self) -> Array:
        """The tensor, read-only: a view of the file, but float16 and bfloat16 widened to float32.

        Data that is not aligned to its own item size, or does not lie one after the other, is copied: NumPy reads such
        views slowly, and BLAS would copy them at each product.
        """
        values = widened(self.stored(), self.dtype)
        if not values.flags.aligned or not values.flags.c_contiguous:
            values = values.copy(order="C")
        values.flags.writeable = False
        return values

    def give_back(self) -> None:
        """Free the memory of the pages that hold the tensor; who reads it again reads the file again."""
        if hasattr(mmap, "MADV_DONTNEED") and self.stop > self.start:
            start = self.start // mmap.PAGESIZE * mmap.PAGESIZE
            self.mapping.madvise(mmap.MADV_DONTNEED, start, self.stop - start)

    def bits(self) -> Array:
        """The tensor's bytes in the order of its elements, as one row of whole numbers: a view where they lie so."""
        stored = self.stored()
        contiguous = stored if self.strides is None else np.ascontiguousarray(stored)
        return contiguous.reshape(-1).view(f"u{stored.itemsize}")


def check_mappable(path: Path, size: int) -> None:
    """Raises CheckpointError for a file that is larger than this Python can map."""
    if size > sys.maxsize:
        raise CheckpointError(
            f"{path} has {size:,} bytes, and a 32-bit Python maps {sys.maxsize:,}; use a 64-bit one, or save the model "
            "in shards or as float16"
        )


def widened(values: Array, dtype: str) -> Array:
    """Values as they are stored, under safetensors' name of their dtype; 16-bit floats as float32, exactly.

    >>> widened(np.array([0x3F80, 0xC000], np.uint16), "BF16")
    array([ 1., -2.], dtype=float32)
    """
    if dtype == "BF16":
        # bfloat16 is the upper half of a float32.
        bits = values.astype(np.uint32)
        np.left_shift(bits, np.uint32(16), out=bits)  # `<<=` fails on a number without dimensions in NumPy 1
        return bits.view(np.float32)
    if dtype == "F16":
        with np.errstate(invalid="ignore"):  # a signalling NaN is still a NaN
            return values.astype(np.float32)
    return values
