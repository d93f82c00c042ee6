"""Token vectors to one vector: what `sentence_transformers.models.Pooling` and `Normalize` compute."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Pooling = Literal["mean", "cls", "max"]
POOLINGS: tuple[str, ...] = get_args(Pooling)


def pool(x: Array, pooling: str) -> Array:
    """One text's vector, (hidden, tokens) -> (hidden,): the mean or maximum over its tokens, or its first token."""
    if pooling == "cls":
        return x[:, 0].copy()
    return x.mean(axis=1) if pooling == "mean" else x.max(axis=1)


def normalize(vectors: Array) -> Array:
    """vectors / ‖vectors‖₂, (…, hidden) -> (…, hidden); a zero vector stays zero: `torch.nn.functional.normalize`."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(norms, 1e-12).astype(vectors.dtype)


def cosine_similarity(a: Array, b: Array) -> Array:
    """Cosine of each row of a with each row of b, (n, hidden), (m, hidden) -> (n, m): `util.cos_sim`."""
    return normalize(a) @ normalize(b).T
