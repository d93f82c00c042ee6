"""Token vectors to one vector, and what is done to it: the modules and precisions of sentence-transformers.

What makes a vector adds up in a fixed order, so that a reproducible model's vectors have the same bits everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numroberta import warn
from numroberta.arithmetic.fixed_order import mean, norm, total

Array = NDArray[Any]

STABLE = 100  # vectors from which the ranges of int8 are taken without a warning, as in sentence-transformers


def one_of(name: str, value: object, known: Collection[str], also: str = "") -> None:
    """Raises ValueError unless `value` is one of the known names; `name` is the argument's."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}={value!r}, expected one of {', '.join(map(repr, known))}{also}")


# --- Pooling -----------------------------------------------------------------------------------------------------


def _weighted_mean(x: Array, skipped: int) -> Array:
    weights = np.arange(skipped + 1.0, skipped + x.shape[1] + 1)
    return (total(x * weights, 1)[:, 0] / weights.sum()).astype(x.dtype)  # whole numbers: their sum is exact


# Each takes the pooled tokens' vectors, (hidden, n), and how many tokens of the text are left out before them.
POOLINGS: dict[str, Callable[[Array, int], Array]] = {
    "mean": lambda x, skipped: mean(x, 1),
    "cls": lambda x, skipped: x[:, 0],
    "max": lambda x, skipped: x.max(axis=1) + 0,  # of 0 and −0 the larger one is +0
    "mean_sqrt_len_tokens": lambda x, skipped: (total(x, 1)[:, 0] / math.sqrt(x.shape[1])).astype(x.dtype),
    "weightedmean": _weighted_mean,
    "lasttoken": lambda x, skipped: x[:, -1],
}


def pool(x: Array, modes: Sequence[str], skip: int = 0) -> Array:
    """One text's vector, (hidden, tokens) -> (modes · hidden,): each mode's vector, one after the other.

    "mean", "max", "cls" (the first token), "lasttoken", "mean_sqrt_len_tokens" (the sum over √tokens), "weightedmean"
    (weights 1, 2, 3, …).

    Args:
        x: the vectors of the text's tokens, (hidden, tokens).
        modes: names of `POOLINGS`.
        skip: so many tokens at the start, a prompt's, are left out, but never the last one.

    Raises:
        ValueError: for an unknown mode.
    """
    skip = min(skip, x.shape[1] - 1)
    for mode in modes:
        one_of("pooling", mode, POOLINGS)
    return np.concatenate([POOLINGS[mode](x[:, skip:], skip) for mode in modes])


def normalize(vectors: Array) -> Array:
    """vectors / ‖vectors‖₂, (…, hidden) -> (…, hidden); a zero vector stays zero: `torch.nn.functional.normalize`."""
    return (vectors / np.maximum(norm(vectors), 1e-12)).astype(vectors.dtype)


# --- Precision ---------------------------------------------------------------------------------------------------

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")


def quantize(vectors: Array, precision: str) -> Array:
    """Vectors in fewer bits, (n, hidden) -> (n, hidden) integers, or (n, ⌈hidden / 8⌉) bytes: `quantize_embeddings`.

    "int8", "uint8": 256 steps between each dimension's least and greatest value among these vectors.  "binary",
    "ubinary": a bit for each dimension, whether it is above 0, eight to a byte, the first one highest; "binary" is
    "ubinary" minus 128.  "float32": the vectors as they are.  Raises ValueError for another precision, and for a single
    vector, from which no range can be taken.
    """
    one_of("precision", precision, PRECISIONS)
    if precision == "float32":
        return vectors
    if precision in ("binary", "ubinary"):
        bits = np.packbits(vectors > 0, axis=-1)
        return bits if precision == "ubinary" else (bits ^ 0x80).view(np.int8)  # bits − 128, without overflow
    if len(vectors) == 0:
        return vectors.astype(precision)
    if len(vectors) == 1:
        raise ValueError(
            f"precision={precision!r} takes each dimension's range from the vectors, and 1 is too few: "
            "encode many texts at once, or use 'binary' or 'float32'"
        )
    if len(vectors) < STABLE:
        warn(
            f"precision={precision!r} takes each dimension's range from the vectors: {len(vectors)} are few, "
            "and others will not be comparable with them"
        )
    low, high = vectors.min(axis=0), vectors.max(axis=0)
    step = (high - low) / 255
    steps = np.clip(np.floor((vectors - low) / np.where(step == 0, 1, step)), 0, 255)
    return steps.astype(np.uint8) if precision == "uint8" else (steps - 128).astype(np.int8)


# --- Similarity --------------------------------------------------------------------------------------------------

# Each compares two vectors, or as many pairs of them as broadcasting gives: (…, hidden), (…, hidden) -> (…).
SIMILARITIES: dict[str, Callable[[Array, Array], Array]] = {
    "cosine": lambda a, b: (normalize(a) * normalize(b)).sum(axis=-1),
    "dot": lambda a, b: (a * b).sum(axis=-1),
    "euclidean": lambda a, b: -np.linalg.norm(a - b, axis=-1),
    "manhattan": lambda a, b: -np.abs(a - b).sum(axis=-1),
}


def cosine_similarity(a: Array, b: Array) -> Array:
    """Cosine of each row of a with each row of b, (n, hidden), (m, hidden) -> (n, m): `util.cos_sim`."""
    return normalize(a) @ normalize(b).T


def similarity(embeddings1: ArrayLike, embeddings2: ArrayLike, function: str = "cosine") -> Array:
    """How alike each vector is to each of the other set, (n, hidden), (m, hidden) -> (n, m).

    Integers (int8 embeddings) are compared as floats, so that no sum overflows.

    Args:
        embeddings1: the vectors, (n, hidden), or one vector, (hidden,).
        embeddings2: the others, (m, hidden), or one vector, (hidden,).
        function: "cosine", "dot", "euclidean" or "manhattan"; a distance is negated: more is always more alike.

    Raises:
        ValueError: for another function, and for arrays that are no vectors of one width.
    """
    one_of("function", function, SIMILARITIES)
    a, b = _comparable(embeddings1, embeddings2)
    if function == "cosine":  # these two as products of matrices, which BLAS computes
        return cosine_similarity(a, b)
    if function == "dot":
        return a @ b.T
    return np.stack([SIMILARITIES[function](row, b) for row in a]) if len(a) else np.zeros((0, len(b)), a.dtype)


def similarity_pairwise(embeddings1: ArrayLike, embeddings2: ArrayLike, function: str = "cosine") -> Array:
    """How alike each vector is to the one at its place in the other set, (n, hidden), (n, hidden) -> (n,).

    Arguments and errors are those of `similarity`; one vector may stand for as many as the other set has.
    """
    one_of("function", function, SIMILARITIES)
    a, b = _comparable(embeddings1, embeddings2)
    if len(a) != len(b) and 1 not in (len(a), len(b)):
        raise ValueError(f"{len(a)} and {len(b)} vectors, expected as many of one as of the other")
    return SIMILARITIES[function](a, b)


def _comparable(embeddings1: ArrayLike, embeddings2: ArrayLike) -> tuple[Array, Array]:
    """Both as (n, hidden) arrays of floats."""
    arrays = np.asarray(embeddings1), np.asarray(embeddings2)
    for name, array in zip(("embeddings1", "embeddings2"), arrays, strict=True):
        if array.ndim not in (1, 2) or not np.issubdtype(array.dtype, np.number):
            raise ValueError(
                f"{name} has shape {array.shape} and dtype {array.dtype}, expected numbers: (vectors, dimensions)"
            )
    a, b = (np.atleast_2d(array.astype(np.result_type(array, np.float32), copy=False)) for array in arrays)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"vectors of {a.shape[1]} and of {b.shape[1]} dimensions: compare vectors that one model made in one way"
        )
    return a, b
