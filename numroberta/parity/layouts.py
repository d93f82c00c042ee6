"""The arrangements in which another program may have stored an activation, and the way back to batch-first.

A port need not be batch-first: it may keep features first, split heads, drop an axis of length one, leave padding out,
or dump everything flat.  Such a file is right if one transpose and reshape makes it equal to the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Axes = tuple[tuple[str, int], ...]  # (name, length) of each axis

PACKED = "tokens without padding"


@dataclass(frozen=True)
class Arrangement:
    """One way to store an activation whose batch-first axes are known.

    stored: the axes in the order of the file.  order: for each batch-first axis its place in `stored`.
    """

    stored: Axes
    order: tuple[int, ...]
    shape: tuple[int, ...]  # batch-first
    real: Array  # (texts, tokens), where a token is not padding

    def __str__(self) -> str:
        return " × ".join(name for name, length in self.stored if length != 1)

    def batch_first(self, mine: Array) -> Array:
        """The stored array as the reference arranges it; padding that the file leaves out is zero."""
        array = mine.reshape([length for _, length in self.stored]).transpose(self.order)
        if self.stored[self.order[0]][0] != PACKED:
            return array.reshape(self.shape)
        full = np.zeros((*self.real.shape, *array.shape[1:]), mine.dtype)
        full[self.real] = array  # (real tokens, …) -> (texts, tokens, …)
        return full.reshape(self.shape)


def arrangements(
    shape: tuple[int, ...], stored: tuple[int, ...], heads: int | None, real: Array, *, of_tensor: bool = False
) -> list[Arrangement]:
    """Every arrangement of a `shape` activation that gives an array of the shape `stored`, the plainest first.

    of_tensor: it is the gradient of a tensor instead, which has no texts and no tokens.
    """
    found: dict[str, Arrangement] = {}
    for axes in [whole_axes(shape, of_tensor)] if of_tensor else _batch_first_axes(shape, heads, real):
        for places in permutations(range(len(axes))):
            held = tuple(axes[place] for place in places)
            order = tuple(places.index(i) for i in range(len(axes)))
            arrangement = Arrangement(held, order, shape, real)
            if str(arrangement) not in found and _merges_into([length for _, length in held], stored):
                found[str(arrangement)] = arrangement
    return list(found.values())


def swapped(shape: tuple[int, ...], real: Array, *, of_tensor: bool = False) -> list[Arrangement]:
    """The arrangements of whole axes that give the batch-first shape itself, such as keys × queries."""
    axes = whole_axes(shape, of_tensor)
    found = arrangements(shape, shape, None, real, of_tensor=of_tensor)
    return [a for a in found if a.stored != axes and len(a.stored) == len(axes)]


def _batch_first_axes(shape: tuple[int, ...], heads: int | None, real: Array) -> Iterator[Axes]:
    axes = whole_axes(shape)
    yield axes
    splits = len(shape) == 3 and heads is not None and shape[2] % heads == 0
    by_head: Axes = (("heads", heads), ("head dimensions", shape[2] // heads)) if splits and heads else ()
    if by_head:
        yield (*axes[:2], *by_head)
    if len(shape) == 3 and shape[:2] == real.shape and not real.all():
        packed = (PACKED, int(real.sum()))
        yield (packed, axes[2])
        if by_head:
            yield (packed, *by_head)


def whole_axes(shape: tuple[int, ...], of_tensor: bool = False) -> Axes:
    """The batch-first axes of an activation, or those of a tensor: what each is, and its length."""
    names: dict[int, tuple[str, ...]] = {
        4: ("texts", "heads", "queries", "keys"),
        3: ("texts", "tokens", "features"),
        2: ("texts", "features"),
    }
    if of_tensor:
        names = {2: ("rows", "columns"), 1: ("elements",)}
    axes = names.get(len(shape), tuple(f"axis {i}" for i in range(len(shape))))
    return tuple(zip(axes, shape, strict=True))


def _merges_into(lengths: list[int], shape: tuple[int, ...]) -> bool:
    """Whether joining neighbouring axes of these lengths gives this shape; axes of length one come and go."""
    left = [length for length in lengths if length != 1]
    for wanted in (length for length in shape if length != 1):
        product = 1
        while left and product < wanted:
            product *= left.pop(0)
        if product != wanted:
            return False
    return not left


def show_ranges(numbers: Array) -> str:
    """[3, 4, 5, 9] -> "3–5, 9"; of many ranges the first four."""
    starts = np.flatnonzero(np.diff(numbers, prepend=-2) > 1)
    ranges = [(part[0], part[-1]) for part in np.split(numbers, starts[1:])]
    shown = [f"{a}–{b}" if a < b else f"{a}" for a, b in ranges[:4]]
    return ", ".join(shown) + (" …" if len(ranges) > 4 else "")
