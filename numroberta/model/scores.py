"""Logits to probabilities, and the largest of them: what every head's answers begin with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def softmax(logits: Array, axis: int = -1) -> Array:
    """exp(x − max) / Σ exp(x − max), shape kept."""
    powers = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def largest(values: Array, count: int) -> Array:
    """Indices of the `count` largest of (n,) values, the largest first."""
    count = min(count, len(values))
    chosen = np.argpartition(-values, count - 1)[:count]
    return chosen[np.argsort(-values[chosen], kind="stable")]
