"""The forward passes with many mistakes at once: side by side, as the texts of one batch.

What every pass computes soundly is computed for all of them in one product; a step that a mistake replaces is computed
for that pass alone.  So a hundred mistakes take little more time than a few.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.names import OUTPUT, in_order, kind_of, layer_of
from numroberta.parity.steps import Forward, Mistake

Array = NDArray[Any]
Group = tuple[Mistake, ...]  # mistakes that are made together

MOST_ROWS = 256  # tokens side by side


def side_by_side(sound: Forward, groups: Sequence[Group], name: str) -> Iterator[Array | None]:
    """For each group the activation `name` with its mistakes, or None where they cannot be made.

    sound: the pass without them, in which `name` has been computed.  No mistake may change the tokens or the layers'
    order.
    """
    texts, tokens = sound.inputs.input_ids.shape
    count = max(1, MOST_ROWS // max(texts * tokens, 1))
    for start in range(0, len(groups), count):
        yield from Together(sound, groups[start : start + count]).values(name)


class Together(Forward):
    """So many passes whose texts follow each other: `sound`'s values repeated, until the first mistake."""

    def __init__(self, sound: Forward, groups: Sequence[Group]):
        inputs, count = sound.inputs, len(groups)
        many = replace(
            inputs,
            input_ids=np.tile(inputs.input_ids, (count, 1)),
            attention_mask=np.tile(inputs.attention_mask, (count, 1)),
        )
        super().__init__(many, {}, *sound.mistakes)
        self.sound, self.groups = sound, groups
        self.failed: set[int] = set()
        self.first = (9, 0, 0)

    def __getitem__(self, name: str) -> Array:
        if name not in self.computed:
            value = self.sound[name]
            self.computed[name] = np.tile(value, (len(self.groups), *[1] * (value.ndim - 1)))
        return self.computed[name]

    def values(self, name: str) -> Iterator[Array | None]:
        """The value of this name in each pass."""
        steps = sorted((each for each in self.sound.computed if in_order(each) <= in_order(name)), key=in_order)
        started = False
        for each in steps:
            changed = [i for i, group in enumerate(self.groups) if any(m.changes(each) for m in group)]
            if changed and not started:
                started, self.first = True, in_order(each)
            if started:
                with np.errstate(all="ignore"):
                    value = np.array(self._step(each)(self, each))
                for i in changed:
                    self._replace(each, i, value)
                self.computed[each] = value
                self._forget(layer_of(each))
        values = self[name].reshape(len(self.groups), -1, *self[name].shape[1:])
        yield from (None if i in self.failed else value for i, value in enumerate(values))

    def _replace(self, name: str, number: int, value: Array) -> None:
        """Put what this pass computes into the values of all."""
        own = Forward(self.sound.inputs, Share(self, number), *self.groups[number], *self.sound.mistakes).attempt(name)
        texts = len(self.sound.inputs.input_ids)
        place = value[number * texts : (number + 1) * texts]
        if own is None or own.shape != place.shape:
            self.failed.add(number)
        else:
            place[...] = own

    def _forget(self, layer: int | None) -> None:
        """Of the layers that are done, keep the hidden states."""
        for name in list(self.computed) if layer else []:
            number = layer_of(name)
            if layer and number is not None and number < layer - 1 and kind_of(name) != OUTPUT:
                del self.computed[name]


class Share(Mapping[str, Array]):
    """What one of the passes has computed so far."""

    def __init__(self, together: Together, number: int):
        self.together, self.number = together, number
        self.texts = len(together.sound.inputs.input_ids)

    def __contains__(self, name: object) -> bool:
        known = name in self.together.computed or name in self.together.sound.known
        return known or (name in self.together.sound.computed and in_order(str(name)) < self.together.first)

    def __getitem__(self, name: str) -> Array:
        if name not in self.together.computed:
            return self.together.sound[name]
        return self.together.computed[name][self.number * self.texts : (self.number + 1) * self.texts]

    def __iter__(self) -> Iterator[str]:
        return iter({*self.together.computed, *self.together.sound.known})

    def __len__(self) -> int:
        return len(set(self))
