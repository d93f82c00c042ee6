"""What a vector of weights is that was read from a program's numbers: the right one changed, or another tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.layouts import show_ranges
from numroberta.parity.mistakes.arrangements import along, orders
from numroberta.parity.mistakes.places import place_of
from numroberta.parity.names import LAYER, kind_of, layer_of
from numroberta.parity.steps import Forward, TensorChange

Array = NDArray[Any]

CLOSE = 1e-4  # of the vector's size
MOST_ELEMENTS = 5_000_000  # of a tensor in which the vector is looked for
NEARLY_ONE = 1e-3


def origins(f: Forward, name: str, found: Array, right: Array) -> Iterator[tuple[str, TensorChange]]:
    """What was found in place of a tensor: ("… is …", how it comes of the right one), the likely first."""
    size = float(np.sqrt(np.mean(np.square(right)))) or 1.0

    def same(a: Array, b: Array) -> bool:
        return bool(np.all(np.abs(a - b) <= CLOSE * size))

    what = place_of(kind_of(name))
    for words, order in orders(len(right), f.inputs.num_attention_heads):
        if same(found, right[order]):
            yield f"the elements of {what} {words}", along(0, order)
    if same(np.sort(found), np.sort(right)):
        order = np.abs(found[:, None] - right).argmin(1)
        moved = ", ".join(f"{i} is {j}" for i, j in enumerate(order) if i != j)
        yield f"the elements of {what} are in another order: {moved[:60]}", along(0, order)
    kept = np.abs(found - right) <= CLOSE * size
    for rest in (0.0, 1.0):
        if kept.any() and not kept.all() and same(found[~kept], np.full((~kept).sum(), rest)):
            words = f"only the elements {show_ranges(np.flatnonzero(kept))} of {what} are used, the others are {rest:g}"
            yield words, only(kept, rest)
    low, high = float(found.min()), float(found.max())
    if same(found, np.clip(right, low, high)):
        yield f"{what} is clipped to {low:.4g} … {high:.4g}", lambda g, n, t: np.clip(t, low, high)
    for words, stretch in stretches(f, name, found, CLOSE * size):
        yield f"{what} is taken from {words}", lambda g, n, t, stretch=stretch: stretch(g, n)  # type: ignore[misc]
    for words, stretch in stretches(f, name, found - right, CLOSE * size):
        yield f"{words} is added to {what}", lambda g, n, t, stretch=stretch: t + stretch(g, n)  # type: ignore[misc]
    factor = float(found @ right / max(right @ right, 1e-300))
    if abs(factor - 1) > NEARLY_ONE and same(found, factor * right):
        yield f"{what} is {factor:.6g} times what it should be", lambda g, n, t: factor * t


def only(kept: Array, rest: float) -> TensorChange:
    return lambda f, name, tensor: np.where(kept, tensor, rest)


def stretches(
    f: Forward, name: str, vector: Array, close: float
) -> Iterator[tuple[str, Callable[[Forward, str], Array]]]:
    """Where this vector stands in a tensor of the checkpoint, and how it is read there in every layer."""
    if not np.any(np.abs(vector) > close):
        return
    layer = layer_of(name)
    for other, tensor in f.inputs.weights.items():
        if other == name or not len(vector) <= tensor.size <= MOST_ELEMENTS:
            continue
        flat = tensor.reshape(-1)[: tensor.size]
        starts = np.flatnonzero(np.abs(flat[: len(flat) - len(vector) + 1] - vector[0]) <= close)
        starts = starts[np.abs(flat[starts + len(vector) - 1] - vector[-1]) <= close]
        for start in starts[:100]:
            if np.all(np.abs(flat[start : start + len(vector)] - vector) <= close):
                part = "" if tensor.size == len(vector) else f"'s {counted_from(int(start), len(vector), tensor)}"
                where = "" if layer_of(other) in (None, layer) else f" of layer {layer_of(other)}"
                words = f"{place_of(kind_of(other))}{part}{where}"
                yield words, reader(other, int(start), len(vector), relative=layer_of(other) == layer)
                return


def counted_from(start: int, length: int, tensor: Array) -> str:
    if tensor.ndim == 2 and tensor.shape[1] == length and start % length == 0:
        return f"row {start // length}"
    return f"first {length} elements" if start == 0 else f"elements from {start} on"


def reader(other: str, start: int, length: int, relative: bool) -> Callable[[Forward, str], Array]:
    def read(f: Forward, name: str) -> Array:
        layer = layer_of(name)
        here = kind_of(other).replace(LAYER, f"encoder.layer.{layer}") if relative and layer is not None else other
        return np.asarray(f.stored(here).reshape(-1)[start : start + length])

    return read
