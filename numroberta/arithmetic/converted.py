"""Weights whose dtype in the file is not that of the arithmetic: float16 and bfloat16, or any file computed in float64.

They are converted as late, and kept as little, as the memory that they take asks for.  The numbers are the same.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from numroberta.checkpoint import Checkpoint, StoredTensor, widened

Array = NDArray[Any]
T = TypeVar("T")

SMALL = 1 << 16  # elements; biases and norms are kept in any case
LARGE = 1 << 24  # bytes of a table whose memory is given back
ROWS = 128  # of a table that are read at once, at 64 KB each; then its memory is given back


class Converted(Mapping[str, Array]):
    """A checkpoint's tensors in another dtype, by name.

    A tensor is converted when it is first asked for.  Then the pages of the file that held it are given back: memory
    has it once.  With `at_use` only small ones are kept, and a large one is converted whenever it is asked for.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: np.dtype[Any], at_use: bool):
        self.stored, self.dtype, self.at_use = checkpoint.stored, dtype, at_use
        self._kept: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name in self._kept:
            return self._kept[name]
        stored = self.stored[name]
        array: Array = stored.array().astype(self.dtype, copy=False)
        if stored.size <= SMALL or not self.at_use:
            self._kept[name] = array
            if not isinstance(array.base, mmap.mmap):  # no view of the file
                stored.give_back()
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)

    def table(self, name: str) -> Table:
        """A table of embeddings, of which only the rows in use are converted."""
        return Table(self.stored[name], self.dtype)


class Table:
    """A table of embeddings in the file, which gives its rows in the arithmetic's dtype: `table[ids]`.

    The system brings a page of a file into memory with its neighbours, 64 KB for a row of 3, and so most of a
    vocabulary is there after some pages of text.  A large table's memory is therefore given back after each ROWS rows.
    """

    def __init__(self, stored: StoredTensor, dtype: np.dtype[Any]):
        self.stored, self.rows, self.dtype = stored, stored.stored(), dtype
        self._read = 0  # rows since memory was given back

    def __getitem__(self, ids: Array) -> Array:
        """(n,) -> (n, hidden)."""
        found: Array = widened(self.rows[ids], self.stored.dtype).astype(self.dtype, copy=False)
        self._read += len(found)
        if self._read >= ROWS and is_large(self.stored):
            self.stored.give_back()
            self._read = 0
        return found


def is_large(stored: StoredTensor) -> bool:
    """Whether a table is worth the time that giving it back takes."""
    return stored.stop - stored.start >= LARGE


class AtUse(Sequence[T]):
    """Items that are made whenever they are asked for, and not kept."""

    def __init__(self, make: Callable[[int], T], length: int):
        self.make, self.length = make, length

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self.length:
            raise IndexError(index)
        return self.make(index)

    def __len__(self) -> int:
        return self.length
