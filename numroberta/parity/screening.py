"""A glance at many mistakes: each is computed for one short text first, and only what explains that text, for all.

What explains a value explains it in every text; so a mistake that leaves one text's error as it is can be passed over
at the price of that text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.measure import counted, distance, hidden_alike
from numroberta.parity.names import SCORES, kind_of
from numroberta.parity.side_by_side import Group, side_by_side
from numroberta.parity.steps import Forward, Inputs, Mistake

Array = NDArray[Any]

SHORT = 3  # tokens: a shorter text shows too little
TELLING = 0.5  # of the batch's error: a text that has less of it tells too little
SKETCH = 2048  # elements of an effect that are kept, to see which pairs add up


class Screen:
    """One text of the batch, with its padding or without: mine's value and the sound one."""

    def __init__(self, sound: Forward, name: str, value: Array, text: int, padded: bool):
        inputs = sound.inputs
        self.name, self.text, self.padded = name, text, padded
        self.columns = np.flatnonzero((inputs.attention_mask[text] != 0) | padded)
        self.inputs = replace(
            inputs,
            input_ids=inputs.input_ids[text : text + 1, self.columns],
            attention_mask=inputs.attention_mask[text : text + 1, self.columns],
        )
        self.whole = inputs.input_ids.shape
        self.given = inputs
        self.sound = Forward(self.inputs, Cut(sound.known, self), *sound.mistakes)
        self.value = self.cut(value)
        self.expected = self.sound[name]

    def cut(self, array: Array) -> Array:
        """This text's share of an activation of the batch."""
        one = array[self.text : self.text + 1] if len(array) == self.whole[0] else array
        if array.ndim == 4 and array.shape[2:] == (self.whole[1],) * 2:
            return one[:, :, self.columns][..., self.columns]
        return one[:, self.columns] if array.ndim == 3 and array.shape[:2] == self.whole else one

    @cached_property
    def before(self) -> float:
        """The error of the sound value."""
        return self.error(self.expected, self.value, self.inputs.attention_mask)

    def error(self, expected: Array, value: Array, mask: Array) -> float:
        if kind_of(self.name) == SCORES:
            value, expected = hidden_alike(value, expected)
        return distance(value, expected, counted(self.name, expected.shape, mask != 0))

    def glances(self, groups: Sequence[Group]) -> Iterator[tuple[float, Array | None]]:
        """For each group of mistakes the error that it leaves, and some elements of what it does to the value."""
        for value in side_by_side(self.sound, groups, self.name):
            if value is None:
                yield np.inf, None
            else:
                yield self.error(value, self.value, self.inputs.attention_mask), self.sketch(value - self.expected)

    def glance_alone(self, mistake: Mistake, mine: Array) -> float:
        """The error that is left by a mistake in the tokens, or in the order of the layers.  mine: of all texts."""
        inputs, theirs = self.inputs, self.value
        if mistake.inputs:
            inputs = mistake.inputs(self.given)
            if not len(inputs.input_ids) == len(mine) == self.whole[0]:
                return np.inf
            inputs, theirs = row_of(inputs, self.text), mine[self.text : self.text + 1]
        forward = Forward(inputs, {}, replace(mistake, inputs=None))
        shorter = self.name == self.sound.last_name and len(forward.order) != inputs.layers
        value = forward.attempt(forward.last_name if shorter else self.name)
        return np.inf if value is None else self.error(value, theirs, inputs.attention_mask)

    def sketch(self, values: Array) -> Array:
        """Some elements, always the same ones, of what is not padding."""
        flat = values[counted(self.name, values.shape, self.inputs.attention_mask != 0)]
        return flat[:: max(1, len(flat) // SKETCH)]

    @property
    def error_sketch(self) -> Array:
        return self.sketch(self.value - self.expected)


class Cut(Mapping[str, Array]):
    """What is known of a batch, for the text of a screen."""

    def __init__(self, known: Mapping[str, Array], screen: Screen):
        self.known, self.screen = known, screen

    def __contains__(self, name: object) -> bool:
        return name in self.known

    def __getitem__(self, name: str) -> Array:
        return self.screen.cut(self.known[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)


def row_of(inputs: Inputs, text: int) -> Inputs:
    return replace(
        inputs,
        input_ids=inputs.input_ids[text : text + 1],
        attention_mask=inputs.attention_mask[text : text + 1],
    )


def telling_text(name: str, mask: Array, value: Array, expected: Array) -> int:
    """The shortest text, if it is not too short, in which the error is about as large as in the others."""
    mask = mask != 0
    whole = distance(value, expected, counted(name, expected.shape, mask))
    best, fewest = 0, np.inf
    for text, length in enumerate(mask.sum(1)):
        alone = np.zeros_like(mask)
        alone[text] = mask[text]
        where = counted(name, expected.shape, alone)
        if len(expected) == len(mask):
            where = where & (np.arange(len(mask)) == text).reshape(-1, *[1] * (expected.ndim - 1))
        short = length + (1000 if length < SHORT else 0)
        if short < fewest and where.any() and distance(value, expected, where) >= TELLING * whole:
            best, fewest = text, short
    return best
