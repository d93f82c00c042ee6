"""What a linear layer read, from what it gave: clipped or rounded numbers, other tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.mistakes.places import place_of
from numroberta.parity.names import kind_of
from numroberta.parity.steps import INPUTS_OF_LINEAR, LINEARS, Array, Forward, Mistake, through

Change = Callable[[Array], Array]

CLOSE = 1e-3  # of the input's size: what solving for it loses
WORST = 1e4  # the condition of weights for which it can be found
MOST_LEVELS = 1 << 12
FEWEST_CUT = 3


def from_inputs(sound: Forward, name: str, value: Array, where: Array) -> Iterator[Mistake]:
    """Mistakes in what a linear layer reads, if it has as many outputs as inputs."""
    kind, tokens = kind_of(name), np.asarray(where.all(-1))
    if kind not in LINEARS or value.shape != sound[name].shape:
        return
    weight = sound.weight(f"{name}.weight")
    if weight.shape[0] < weight.shape[1] or np.linalg.cond(weight) > WORST:
        return
    x = INPUTS_OF_LINEAR[kind](sound, name)[tokens]
    found = np.linalg.lstsq(weight, (value[tokens] - sound.weight(f"{name}.bias")).T, rcond=None)[0].T
    for words, change in changes(x, found):
        yield Mistake(f"what {place_of(kind)} reads is {words}", {kind: through(partial(reading, change=change), kind)})


def reading(f: Forward, name: str, x: Array, change: Change) -> Array:
    return change(x) @ f.weight(f"{name}.weight").T + f.weight(f"{name}.bias")


def changes(x: NDArray[Any], found: NDArray[Any]) -> Iterator[tuple[str, Change]]:
    """What may have been done to each number of x to make what was found of it."""
    size = float(np.sqrt(np.mean(np.square(x))))
    low, high = float(np.percentile(found, 0.5)), float(np.percentile(found, 99.5))
    for bottom, top in ((float(found.min()), float(found.max())), (low, high)):
        cut = np.clip(x, bottom, top)
        if np.count_nonzero(cut != x) >= FEWEST_CUT and np.abs(found - cut).max() <= CLOSE * size:
            yield f"clipped to {bottom:.4g} … {top:.4g}", lambda x, a=bottom, b=top: np.clip(x, a, b)  # type: ignore[misc]
    step = step_of(found, CLOSE * size)
    if step:
        levels = np.rint(np.clip(x / step, found.min() / step, found.max() / step))
        if np.mean(np.abs(found - levels * step) <= CLOSE * size) > 0.99:
            a, b = np.rint(found.min() / step) * step, np.rint(found.max() / step) * step
            some = f" and clipped to {a:.4g} … {b:.4g}" if x.min() < a - step or x.max() > b + step else ""
            words = f"rounded to multiples of {step:.4g}, as for an integer product (quantized),{some}".rstrip(",")
            yield words, lambda x: np.clip(np.rint(x / step) * step, a, b)
    if np.abs(found - np.abs(x)).max() <= CLOSE * size:
        yield "its magnitude", np.abs
    if np.abs(found - np.maximum(x, 0)).max() <= CLOSE * size:
        yield "without its negative part (ReLU)", lambda x: np.maximum(x, 0)
    if np.abs(found - np.tanh(x)).max() <= CLOSE * size:
        yield "passed through tanh", np.tanh


def step_of(values: NDArray[Any], close: float) -> float:
    """The step of which all values are multiples, or 0."""
    ordered = np.sort(values, axis=None)
    gaps = np.diff(ordered)
    large = gaps[gaps > 4 * close]
    if len(large) < FEWEST_CUT or np.ptp(values) / large.min() > MOST_LEVELS:
        return 0.0
    step = float(np.median(large[large <= 1.5 * large.min()]))
    for _ in range(3):  # the larger the multiple, the more precise the step
        counts = np.rint(values / step)
        step = float((values * counts).sum() / np.maximum(np.square(counts).sum(), 1))
    return step if np.abs(values - np.rint(values / step) * step).max() <= 4 * close else 0.0
