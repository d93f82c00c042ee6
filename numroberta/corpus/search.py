"""Exact search: the rows of a file of vectors that are nearest to a query by cosine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import normalize
from numroberta.corpus.row import Row

Array = NDArray[Any]

BLOCK = 1 << 24  # bytes of float32 that are compared at a time


class Hit(NamedTuple):
    """A row that is near."""

    row: int  # from 0
    score: float  # cosine, -1 to 1


def open_vectors(path: Path, dimension: int) -> Array:
    """A .npy file of vectors, (rows, dimension), mapped; ValueError where it holds something else."""
    try:
        with path.open("rb") as file:
            magic = file.read(6)
        if magic != b"\x93NUMPY":
            raise ValueError("it does not begin as one")
        vectors: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # NumPy has no one kind of error for a damaged header: SyntaxError, TokenError, …
        raise ValueError(f"{path} is no .npy file of vectors: {error}; `numroberta embed -o` writes one") from None
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise ValueError(f"{path} holds {vectors.dtype} {vectors.shape}, expected (rows, {dimension}) floats")
    if vectors.shape[1] != dimension:
        raise ValueError(
            f"{path} has vectors of {vectors.shape[1]} dimensions, and this model makes {dimension}: "
            "give the --model that made them"
        )
    return vectors


def nearest(queries: Array, vectors: Array, k: int) -> list[list[Hit]]:
    """For each query the k rows of the highest cosine, best first; of equal ones the earlier row first.

    Args:
        queries: (q, d), of any length.
        vectors: (n, d), mapped or in memory; read once, a few megabytes at a time.  A zero vector, which a skipped row
            has, or one with NaN has no direction and is never among the nearest.
        k: At least 1; ValueError otherwise.

    Returns:
        Up to k hits for each query.

    >>> nearest(np.array([[1.0, 0.0]]), np.array([[0.0, 3.0], [2.0, 0.0], [3.0, 4.0]]), k=2)
    [[Hit(row=1, score=1.0), Hit(row=2, score=0.6...)]]
    """
    if k < 1:
        raise ValueError(f"k={k}, expected at least 1")
    wanted = normalize(queries.astype(np.float32))
    best = np.full((len(queries), 0), -np.inf, np.float32)
    rows = np.zeros((len(queries), 0), np.int64)
    size = max(1, BLOCK // (4 * vectors.shape[1]))
    for start in range(0, len(vectors), size):
        block = np.asarray(vectors[start : start + size], np.float32)
        norms = np.linalg.norm(block, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            scores = (wanted @ block.T) / norms  # (q, d) @ (d, block) -> (q, block)
        scores[:, ~((norms > 0) & np.isfinite(norms))] = -np.inf
        numbers = np.broadcast_to(np.arange(start, start + len(block)), scores.shape)
        best = np.concatenate([best, scores], axis=1)  # (q, up to k + block)
        rows = np.concatenate([rows, numbers], axis=1)
        order = _first(best, k)
        best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
    return [
        [Hit(int(row), float(score)) for row, score in zip(numbers, scores, strict=True) if score > -np.inf]
        for numbers, scores in zip(rows, best, strict=True)
    ]


def _first(scores: Array, k: int) -> Array:
    """Indices of each row's k highest scores, best first, the earlier one where two are equal: (q, n) -> (q, k)."""
    if scores.shape[1] > 4 * k:  # all that reach the k-th highest score; ties may be more than k
        kth = -np.partition(-scores, k - 1, axis=1)[:, k - 1]
        few = [np.flatnonzero(row >= least) for row, least in zip(scores, kth, strict=True)]
        order = [i[np.argsort(-row[i], kind="stable")[:k]] for row, i in zip(scores, few, strict=True)]
        return np.stack(order)
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def rows_at(rows: Iterable[Row], wanted: set[int]) -> tuple[dict[int, Row], int]:
    """(the rows of these numbers, how many rows there are)."""
    chosen, count = {}, 0
    for count, row in enumerate(rows, start=1):
        if count - 1 in wanted:
            chosen[count - 1] = row
    return chosen, count
