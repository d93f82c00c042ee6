"""Orders in which the numbers of a tensor may stand instead of their own: a grammar, for each tensor that has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.mistakes.norms import NORMS
from numroberta.parity.mistakes.places import place_of
from numroberta.parity.names import LAYER, POSITION, WORD
from numroberta.parity.steps import LINEARS, Array, Forward, Inputs, Mistake, TensorChange

Order = NDArray[np.intp]
Change = Callable[[Array], Array]


def mistakes(inputs: Inputs) -> Iterator[Mistake]:
    heads, shapes = inputs.num_attention_heads, shapes_of(inputs)
    for kind in LINEARS:
        weight, bias = f"{kind}.weight", f"{kind}.bias"
        if weight not in shapes:
            continue
        outputs, width = shapes[weight]
        for words, order in orders(outputs, heads):
            both = {weight: along(0, order), bias: along(0, order)}
            yield Mistake(f"the outputs of {place_of(kind)} {words}", tensors=both, rare=True)
            yield rearranged(f"the rows (outputs) of {place_of(weight)} {words}", weight, along(0, order))
            yield rearranged(f"the elements of {place_of(bias)} {words}", bias, along(0, order))
        for words, order in orders(width, heads):
            yield rearranged(f"the columns (inputs) of {place_of(weight)} {words}", weight, along(1, order))
        for words, change in views(outputs, width, heads):
            yield rearranged(f"{place_of(weight)} {words}", weight, changed(change))
    width = inputs.weights["embeddings.LayerNorm.bias"].size
    for words, _ in orders(width, heads):
        for axis, what in ((0, "rows (outputs)"), (1, "columns (inputs)")):
            everywhere = dict.fromkeys([f"{kind}.weight" for kind in LINEARS], in_order_of(axis, words))
            yield Mistake(f"the {what} of every linear layer's weight {words}", tensors=everywhere, rare=True)
    for prefix in NORMS.values():
        for part in ("weight", "bias"):
            kind = f"{prefix}.{part}"
            for words, order in orders(shapes[kind][0], heads) if kind in shapes else ():
                yield rearranged(f"the elements of {place_of(kind)} {words}", kind, along(0, order))
    for table in (WORD, POSITION):
        for words, order in orders(shapes[f"{table}.weight"][1], heads):
            what = f"the features of the {'word' if table == WORD else 'position'} embeddings {words}"
            yield rearranged(what, f"{table}.weight", along(-1, order))


def shapes_of(inputs: Inputs) -> dict[str, tuple[int, ...]]:
    """By kind of tensor, as it is in the first layer."""
    return {name.replace("encoder.layer.0", LAYER): tensor.shape for name, tensor in inputs.weights.items()}


def rearranged(sentence: str, kind: str, change: TensorChange) -> Mistake:
    return Mistake(sentence, tensors={kind: change}, rare=True)


def changed(change: Change) -> TensorChange:
    return lambda f, name, tensor: change(tensor)


def along(axis: int, order: Order) -> TensorChange:
    def change(f: Forward, name: str, tensor: Array) -> Array:
        return np.take(tensor, order, axis)

    return change


def in_order_of(axis: int, words: str) -> TensorChange:
    """The order with this name, of as many features as the tensor has."""

    def change(f: Forward, name: str, tensor: Array) -> Array:
        named = dict(orders(tensor.shape[axis], f.inputs.num_attention_heads))
        return np.take(tensor, named[words], axis) if words in named else tensor

    return change


def orders(length: int, heads: int) -> Iterator[tuple[str, Order]]:
    """Orders of so many features, of which each head has a share: ("are …", where each is taken from)."""
    places = np.arange(length)
    head = length // heads if length % heads == 0 else 1
    shifts = {shift: "" for part in (2, 3, 4) if length % part == 0 for shift in (length // part,)}
    shifts |= {sign * shift: "" for shift in (1, 2, head, 2 * head) for sign in (1, -1) if 0 < shift < length}
    found: dict[bytes, tuple[str, Order]] = {}

    def add(words: str, order: Any) -> None:
        order = np.asarray(order).ravel()
        if not np.array_equal(order, places):
            found.setdefault(order.tobytes(), (words, order))

    for shift in shifts:
        add(f"are shifted by {shift:+d}", np.roll(places, shift))
    add("are in reverse", places[::-1])
    for parts, what in ((2, "two halves"), (3, "three thirds"), (heads, "heads"), (head, "features of a head")):
        if 1 < parts < length and length % parts == 0:
            add(f"are interleaved, the {what} by turns", places.reshape(parts, -1).T)
            add(f"are taken for interleaved {what}", places.reshape(-1, parts).T)
    if length % 2 == 0:
        add("are exchanged in pairs", places.reshape(-1, 2)[:, ::-1])
    if head > 1:
        by_head = places.reshape(-1, head)
        add("are in reverse in each head", by_head[:, ::-1])
        add("are those of the heads in reverse", by_head[::-1])
        if head % 2 == 0:
            halves = by_head.reshape(-1, 2, head // 2)
            add("are permuted in each head for rotary pairs (halves to pairs)", halves.swapaxes(1, 2))
            add(
                "are permuted in each head for rotary halves (pairs to halves)",
                by_head.reshape(-1, head // 2, 2).swapaxes(1, 2),
            )
            add("have the halves of each head exchanged", halves[:, ::-1])
    yield from found.values()


def views(outputs: int, inputs: int, heads: int) -> Iterator[tuple[str, Change]]:
    """Ways of taking a matrix for one with an axis of heads: ("is …", change)."""
    if outputs == inputs:
        yield "is transposed", lambda w: w.T
    if outputs % heads or inputs % heads:
        return
    k, j = outputs // heads, inputs // heads
    blocks = (heads, k, heads, j)
    if k == j:
        yield "is transposed in each block of head by head", partial(viewed, shape=blocks, axes=(0, 3, 2, 1))
        yield "has its blocks of head by head transposed", partial(viewed, shape=blocks, axes=(2, 1, 0, 3))
    for shape, axes in (
        ((heads, k, inputs), (0, 2, 1)), ((heads, k, inputs), (1, 2, 0)), ((heads, k, inputs), (2, 0, 1)),
        ((heads, k, inputs), (2, 1, 0)), ((outputs, heads, j), (1, 0, 2)), ((outputs, heads, j), (1, 2, 0)),
        ((outputs, heads, j), (2, 0, 1)), ((outputs, heads, j), (2, 1, 0)), ((heads, inputs, k), (0, 2, 1)),
        ((inputs, heads, k), (1, 0, 2)), ((inputs, heads, k), (1, 2, 0)),
    ):  # fmt: skip
        words = f"is taken for {' × '.join(map(str, shape))}, and its axes put in the order {axes}"
        yield words, partial(viewed, shape=shape, axes=axes)


def viewed(w: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    return w.reshape(shape).transpose(axes).reshape(w.shape)
