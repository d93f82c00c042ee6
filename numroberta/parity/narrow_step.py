"""A step computed in a 16-bit type: the order of its roundings is unknown, but its values are numbers of that type.

A product is looked at before its bias is added, a norm before its weight and bias: a program may do those in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.gradients import norm_of
from numroberta.parity.measure import ROUNDINGS, SINGLE, UNITS
from numroberta.parity.mistakes.norms import NORMS
from numroberta.parity.mistakes.places import place_of
from numroberta.parity.names import kind_of
from numroberta.parity.steps import LINEARS, Forward

Array = NDArray[Any]

EXACT = 8  # units of float32 by which a number may be off that was of the narrow type before a product and a sum
FEWEST = 64  # values: fewer may all be numbers of the type by chance
LARGEST = 64  # units of the type: a step that is further off is wrong besides


def narrow_step(sound: Forward, name: str, value: Array, where: Array, error: float, tolerance: float) -> str | None:
    """The sentence, if the step's values, or what they are before their bias, are numbers of a 16-bit type; or None.

    error: the RMS relative error of the step.  tolerance: the one by which it is wrong; a program that computes
    everything in the type has a wider one.
    """
    for kind, rounding in ROUNDINGS.items():
        if not tolerance < UNITS[kind] / 4 or error > LARGEST * UNITS[kind]:
            continue
        for numbers, room, what in before_the_bias(sound, name, value):
            numbers, room = numbers[where], room[where]
            with np.errstate(all="ignore"):
                off = np.abs(numbers - rounding(numbers)) <= EXACT * SINGLE * room
            if len(numbers) >= FEWEST and off.all() and np.any(numbers != np.rint(numbers)):
                step = place_of(kind_of(name))
                return f"{step} is computed in {kind}: {what} are all numbers of {kind}"
    return None


def before_the_bias(sound: Forward, name: str, value: Array) -> Iterator[tuple[Array, Array, str]]:
    """The values, and what they were before a weight and a bias; how precisely that is known; what it is."""
    yield value, np.zeros_like(value), "its values"
    kind = kind_of(name)
    if kind in LINEARS:
        bias = sound.weight(f"{name}.bias")
        yield value - bias, np.abs(value) + np.abs(bias), "its products, before the bias is added,"
    if kind in NORMS:
        weight, bias = sound.weight(f"{norm_of(name)}.weight"), sound.weight(f"{norm_of(name)}.bias")
        with np.errstate(all="ignore"):
            room = (np.abs(value) + np.abs(bias)) / np.abs(weight)
            yield (value - bias) / weight, room, "its values before weight and bias"
