"""Layers in the wrong order, too few, too many, or with each other's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from numroberta.parity.mistakes.places import place_of
from numroberta.parity.names import LAYER, same_layer
from numroberta.parity.steps import TENSORS, Array, Forward, Inputs, Mistake

Order = Callable[[int], Sequence[int]]
BLOCKS = {  # parts of a layer whose tensors a loop over layers may take from the wrong one
    "attention": (f"{LAYER}.attention.",),
    "feed-forward": (f"{LAYER}.intermediate.", f"{LAYER}.output."),
    "query, key and value": (f"{LAYER}.attention.self.",),
    "pair of layer norms": (f"{LAYER}.attention.output.LayerNorm.", f"{LAYER}.output.LayerNorm."),
    "attention's layer norm": (f"{LAYER}.attention.output.LayerNorm.",),
    "feed-forward's layer norm": (f"{LAYER}.output.LayerNorm.",),
}


def mistakes(inputs: Inputs) -> Iterator[Mistake]:
    count = inputs.layers
    places = range(count)

    def order(sentence: str, order: Sequence[int], rare: bool = False) -> Iterator[Mistake]:
        if list(order) != list(places):
            yield Mistake(sentence, order=lambda count: order, rare=rare)

    yield from order("the layers run in reverse", places[::-1])
    for i in places:
        which = "first" if i == 0 else "last" if i == count - 1 else f"{i}"
        yield from order(f"layer {which} is skipped" if 0 < i < count - 1 else f"the {which} layer is skipped",
                         [j for j in places if j != i])  # fmt: skip
    for i in places:
        yield from order(f"the weights of layer {i} are used in every layer", [i] * count)
    for i in places:
        yield from order(f"layer {i} runs twice", [*range(i + 1), *range(i, count)])
    for i in places:
        for j in range(i + 1, count):
            exchanged = [j if k == i else i if k == j else k for k in places]
            yield from order(f"layers {i} and {j} are exchanged", exchanged, rare=j > i + 1 and count > 6)
    for i in places:
        for j in places:
            if i != j:
                instead = [j if k == i else k for k in places]
                yield from order(f"layer {i} runs with the weights of layer {j}", instead, rare=abs(i - j) > 1)
    yield from order("the layers are shifted by one: each runs with the weights of the next", [*places[1:], count - 1])
    yield from order("the layers are shifted by one: each runs with the weights of the one before", [0, *places[:-1]])
    yield from order("the layers are sorted as text: 1, 10, 11, 2, …", sorted(places, key=str))
    yield from order("every layer runs twice in a row", [k for i in places for k in (i, i)], rare=True)
    yield from order("the whole stack of layers runs twice", [*places, *places], rare=True)
    yield from order("only every other layer runs", places[::2])
    yield from borrowed_tensors(count)


def borrowed_tensors(count: int) -> Iterator[Mistake]:
    """A part of a layer, or a tensor, of another layer."""

    def borrow(other: int) -> Callable[[Forward, str, Array], Array]:
        return lambda f, name, tensor: f.stored(name.replace(same_layer(name, LAYER), f"encoder.layer.{other}"))

    def from_beside(step: int) -> Callable[[Forward, str, Array], Array]:
        def change(f: Forward, name: str, tensor: Array) -> Array:
            return borrow(min(max(int(name.split(".")[2]) + step, 0), count - 1))(f, name, tensor)

        return change

    in_layers = [kind for kind in TENSORS if kind.startswith(LAYER)]
    for block, prefix in BLOCKS.items():
        kinds = [kind for kind in in_layers if kind.startswith(prefix)]
        for step, whose in ((-1, "layer before"), (1, "next layer")):
            yield Mistake(
                f"the {block} has the weights of the {whose}", tensors=dict.fromkeys(kinds, from_beside(step))
            )
        for other in range(count):
            sentence = f"the {block} has the weights of layer {other}"
            yield Mistake(sentence, tensors=dict.fromkeys(kinds, borrow(other)), rare=True)
    for other in range(count):
        for kind in in_layers:
            sentence = f"{place_of(kind)} is the tensor of layer {other}"
            yield Mistake(sentence, tensors={kind: borrow(other)}, rare=True)
