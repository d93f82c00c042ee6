"""Dropout that was left on: what cannot be computed again, since it is random, and can be seen in the numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.names import ATTENTION, OUTPUT, is_gradient, kind_of
from numroberta.parity.steps import RESIDUALS, Forward

Array = NDArray[Any]

RATES = (0.1, 0.05, 0.2, 0.3, 0.5, 0.15, 0.25, 0.4)
MOST_DROPPED, LEAST_DROPPED = 0.7, 0.01
LEAST_FACTOR = 1 / (1 - LEAST_DROPPED / 2)  # of the elements that are kept: zeros alone are no dropout
CLOSE = 1e-4  # how far, relative, an element may be from what dropout makes of it


def dropout_in(sound: Forward, name: str, value: Array, where: Array) -> str | None:
    """A sentence, if the value is what dropout makes of the sound one, or of the term that a layer norm adds; or None.

    Dropout makes a part p of the elements 0, and the others 1 / (1 − p) times as large.
    """
    expected = sound[name]
    if value.shape != expected.shape:
        return None
    direct = of_values(value[where], expected[where])
    if direct and is_gradient(name):
        return "the dropout mask of the forward pass is not used again: another one is, seen in the gradient"
    if direct:
        return f"dropout is left on: {direct}"
    if kind_of(name) in (ATTENTION, OUTPUT):
        rate = under_a_norm(sound, name, value, np.asarray(where.all(-1)))
        if rate:
            return f"dropout is left on before the residual: {rate:.0%} of what is added to it are 0, the others larger"
    return None


def of_values(value: Array, expected: Array) -> str | None:
    """What was dropped, if the value is the expected one with some elements 0 and the others larger by one factor."""
    usable = np.abs(expected) > 1e-3 * np.sqrt(np.mean(np.square(expected)))
    value, expected = value[usable], expected[usable]
    dropped = value == 0
    part = float(dropped.mean()) if len(dropped) else 0.0
    if not LEAST_DROPPED < part < MOST_DROPPED:
        return None
    ratios = value[~dropped] / expected[~dropped]
    factor = float(np.median(ratios))
    if np.mean(np.abs(ratios - factor) < CLOSE * abs(factor)) < 0.99 or factor < LEAST_FACTOR:
        return None
    return f"{part:.0%} of the elements are 0, the others {factor:.3g} times as large (1 / (1 − {1 - 1 / factor:.2g}))"


def under_a_norm(sound: Forward, name: str, value: Array, tokens: Array) -> float | None:
    """The rate with which LayerNorm(x + dropout(y)) gives the value, or None.

    Undone, the norm gives z = (x + m y − μ) / σ for an unknown mean and deviation of each token, and m = 0 or
    1 / (1 − p): both are fitted by turns.
    """
    past, branch = RESIDUALS[kind_of(name)](sound, name)[tokens], sound[f"{name}.dense"][tokens]
    weight, bias = sound.weight(f"{name}.LayerNorm.weight"), sound.weight(f"{name}.LayerNorm.bias")
    with np.errstate(all="ignore"):
        z = (value[tokens] - bias) / weight
    if not np.all(np.isfinite(z)):
        return None
    for rate in RATES:
        kept, lost = past + branch / (1 - rate), past
        target = kept
        for _ in range(30):
            spread = z - z.mean(-1, keepdims=True)
            level = target.mean(-1, keepdims=True)
            slope = (spread * (target - level)).sum(-1, keepdims=True) / np.square(spread).sum(-1, keepdims=True)
            guess = slope * spread + level
            target = np.where(np.abs(guess - kept) <= np.abs(guess - lost), kept, lost)
        error = np.sqrt(np.mean(np.square(guess - target)) / np.mean(np.square(target)))
        part = float(np.mean(np.abs(guess - lost) < np.abs(guess - kept)))
        if error < CLOSE and LEAST_DROPPED < part < MOST_DROPPED:
            return rate
    return None
