"""The largest of a head's scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def largest(values: Array, count: int) -> Array:
    """Indices of the `count` largest of (n,) values, the largest first; of equal ones the first."""
    count = min(count, len(values))
    least = np.partition(values, len(values) - count)[len(values) - count]
    chosen = np.flatnonzero(values >= least)
    return chosen[np.argsort(-values[chosen], kind="stable")][:count]
