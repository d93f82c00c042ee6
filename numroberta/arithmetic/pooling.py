"""Token vectors to one vector, and what is done to it: the modules and precisions of sentence-transformers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Pooling = Literal["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
POOLINGS: tuple[str, ...] = get_args(Pooling)
Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]
SIMILARITIES: tuple[str, ...] = get_args(Similarity)

STABLE = 100  # vectors from which the ranges of int8 are taken without a warning, as in sentence-transformers


def pool(x: Array, modes: Sequence[str], skip: int = 0) -> Array:
    """One text's vector, (hidden, tokens) -> (modes · hidden,): each mode's vector, one after the other.

    "mean", "max", "cls" (the first token), "lasttoken", "mean_sqrt_len_tokens" (the sum over √tokens), "weightedmean"
    (weights 1, 2, 3, …).  skip: so many tokens at the start, a prompt's, are left out, but never the last one.
    """
    read = x[:, skip:] if skip < x.shape[1] else x[:, -1:]
    parts = []
    for mode in modes:
        if mode == "mean":
            parts.append(read.mean(axis=1))
        elif mode == "max":
            parts.append(read.max(axis=1))
        elif mode == "cls":
            parts.append(read[:, 0])
        elif mode == "lasttoken":
            parts.append(read[:, -1])
        elif mode == "mean_sqrt_len_tokens":
            parts.append(read.sum(axis=1) / np.sqrt(read.shape[1]).astype(x.dtype))
        else:
            weights = np.arange(x.shape[1] - read.shape[1] + 1, x.shape[1] + 1).astype(x.dtype)
            parts.append(read @ weights / weights.sum())
    return np.concatenate(parts)


def normalize(vectors: Array) -> Array:
    """vectors / ‖vectors‖₂, (…, hidden) -> (…, hidden); a zero vector stays zero: `torch.nn.functional.normalize`."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(norms, 1e-12).astype(vectors.dtype)


def quantize(vectors: Array, precision: str) -> Array:
    """Vectors in fewer bits, (n, hidden) -> (n, hidden) integers, or (n, ⌈hidden / 8⌉) bytes: `quantize_embeddings`.

    "int8", "uint8": 256 steps between each dimension's least and greatest value among these vectors.  "binary",
    "ubinary": a bit for each dimension, whether it is above 0, eight to a byte, the first one highest; "binary" is
    "ubinary" minus 128.  Raises ValueError where there are no two vectors to take the ranges from.
    """
    if precision in ("binary", "ubinary"):
        bits = np.packbits(vectors > 0, axis=-1)
        return bits if precision == "ubinary" else (bits ^ 0x80).view(np.int8)  # bits − 128, without overflow
    if len(vectors) < 2:
        raise ValueError(
            f"precision={precision!r} takes each dimension's range from the vectors, and {len(vectors)} are too few: "
            "encode many texts at once, or use 'binary' or 'float32'"
        )
    if len(vectors) < STABLE:
        warnings.warn(
            f"precision={precision!r} takes each dimension's range from the vectors: {len(vectors)} are few, "
            "and others will not be comparable with them",
            stacklevel=3,
        )
    low, high = vectors.min(axis=0), vectors.max(axis=0)
    step = (high - low) / 255
    steps = np.clip(np.floor((vectors - low) / np.where(step == 0, 1, step)), 0, 255)
    return steps.astype(np.uint8) if precision == "uint8" else (steps - 128).astype(np.int8)


def cosine_similarity(a: Array, b: Array) -> Array:
    """Cosine of each row of a with each row of b, (n, hidden), (m, hidden) -> (n, m): `util.cos_sim`."""
    return normalize(a) @ normalize(b).T


def similarity(a: Array, b: Array, function: str) -> Array:
    """How alike each row of a is to each row of b, (n, hidden), (m, hidden) -> (n, m).

    function: "cosine", "dot", "euclidean" or "manhattan"; a distance is negated, so that more is always more alike.
    """
    if function == "cosine":
        return cosine_similarity(a, b)
    if function == "dot":
        return a @ b.T
    return np.stack([similarity_pairwise(row[None], b, function) for row in a])


def similarity_pairwise(a: Array, b: Array, function: str) -> Array:
    """How alike each row of a is to the same row of b, (n, hidden), (n, hidden) -> (n,)."""
    if function == "euclidean":
        return -np.linalg.norm(a - b, axis=-1)
    if function == "manhattan":
        return -np.abs(a - b).sum(axis=-1)
    if function == "cosine":
        a, b = normalize(a), normalize(b)
    return (a * b).sum(axis=-1)
