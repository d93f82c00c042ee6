"""How good what was learnt is on texts that were held out: the measures of GLUE, and those of taggers and readers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def accuracy(gold: Array, found: Array) -> float:
    """The part of all labels that is right."""
    return float((gold == found).mean())


def f1(gold: Array, found: Array) -> float:
    """2 TP / (2 TP + FP + FN) of label 1; 0 where it is neither there nor found."""
    hits = np.sum((gold == 1) & (found == 1))
    return float(2 * hits / max(np.sum(gold == 1) + np.sum(found == 1), 1))


def matthews(gold: Array, found: Array) -> float:
    """Matthews' correlation of two labels or several (Gorodkin 2004); 0 where either is constant.

    (c s − Σ t p) / √((s² − Σ p²)(s² − Σ t²)): s texts, c of them right, t and p how often a label is there and found.
    """
    labels = np.union1d(gold, found)
    there = np.array([np.sum(gold == label) for label in labels], np.float64)
    said = np.array([np.sum(found == label) for label in labels], np.float64)
    total = len(gold)
    scale = np.sqrt((total**2 - said @ said) * (total**2 - there @ there))
    return float((np.sum(gold == found) * total - there @ said) / scale) if scale else 0.0


def pearson(gold: Array, found: Array) -> float:
    """cov(x, y) / (σ(x) σ(y)); 0 where either is constant."""
    x, y = gold - gold.mean(), found - found.mean()
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale else 0.0


def spearman(gold: Array, found: Array) -> float:
    """Pearson's correlation of the ranks."""
    return pearson(ranks(gold), ranks(found))


def ranks(values: Array) -> Array:
    """Places from 1, equal values sharing the mean of theirs.

    >>> ranks(np.array([3, 1, 1]))
    array([3. , 1.5, 1.5])
    """
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group]
