"""The sum of the gradients of texts, by the name of the tensor; of the word embeddings only the rows that were read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import kernels
from numroberta.checkpoint import WORDS

Array = NDArray[Any]
Rows = tuple[Array, Array]  # ids of a table's rows, each once and ascending, (r,), and their gradients, (r, hidden)


class Gradients:
    """One thread's sums; `clear` starts anew in the same memory.

    shapes: of the tensors that are trained.  tied: a decoder is tied to the word embeddings, and so every row has a
    gradient; otherwise `words` has those of the rows that texts have read, and the others cost nothing.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], memory: kernels.Scratch, *, tied: bool = False):
        self.memory = memory
        self.sparse = WORDS in shapes and not tied
        dense = {name: shape for name, shape in shapes.items() if name != WORDS or not self.sparse}
        self.arrays = {name: np.empty(shape, memory.dtype) for name, shape in dense.items()}
        self.clear()

    def clear(self) -> None:
        self.filled: set[str] = set()
        self.words: list[Rows] = []

    def add_product(self, name: str, dy: Array, x: Array) -> None:
        """A linear layer's dW = dy xᵀ, (out, n), (in, n) -> (out, in)."""
        total = self.arrays.get(name)
        if total is None:
            return
        if name in self.filled:
            total += np.matmul(dy, x.T, out=self.memory("d weight", total.shape))
        else:
            np.matmul(dy, x.T, out=total)
            self.filled.add(name)

    def add(self, name: str, gradient: Array) -> None:
        """A gradient of the tensor's shape."""
        if name in self.arrays:
            self._filled(name)[...] += gradient

    def add_rows(self, name: str, ids: Array, rows: Array) -> None:
        """The gradients of what was read from a table, (n,), (n, hidden): those of the same row are added up."""
        if name == WORDS and self.sparse:
            self.words.append(summed(ids, rows))
        elif name in self.arrays:
            ids, rows = summed(ids, rows)
            self._filled(name)[ids] += rows

    def _filled(self, name: str) -> Array:
        """The tensor's sum so far."""
        if name not in self.filled:
            self.arrays[name][...] = 0
            self.filled.add(name)
        return self.arrays[name]

    def finish(self) -> None:
        """After the last group: what no text has reached has a gradient of zero."""
        for name in self.arrays:
            self._filled(name)


def summed(ids: Array, rows: Array) -> Rows:
    """Rows of the same id added up, (n,), (n, hidden) -> (r,), (r, hidden)."""
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    return ids[starts], np.add.reduceat(rows[order], starts, axis=0) if len(ids) else rows


def touched(parts: Sequence[Gradients]) -> Rows:
    """The rows of the word embeddings that any of the parts has read."""
    found = [rows for part in parts for rows in part.words]
    return summed(np.concatenate([ids for ids, _ in found]), np.concatenate([rows for _, rows in found]))
