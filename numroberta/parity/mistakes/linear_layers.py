"""Mistakes in the linear layers: their weights and biases, and how query, key and value are told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from numroberta.parity.mistakes.places import place_of
from numroberta.parity.names import KEY, LAYER, OUTPUT_DENSE, QUERY, VALUE, WIDE_DENSE, kind_of, layer_of, same_layer
from numroberta.parity.steps import LINEARS, Array, Forward, Inputs, Mistake, Step, TensorChange, Way, linear, through


def mistakes(inputs: Inputs) -> Iterator[Mistake]:
    yield from wrong_weights({tensor.shape[1] for tensor in inputs.weights.values() if tensor.ndim == 2})
    yield from wrong_biases(inputs)
    yield from exchanged_layers(inputs)
    yield from fused_matrices()


def wrong_weights(widths: set[int]) -> Iterator[Mistake]:
    ways: tuple[tuple[str, Callable[[Array], Array], bool], ...] = (
        ("is read as (in, out); it is stored as (out, in)", as_if_transposed, True),
        ("is stored transposed and read as it stands", lambda w: w.T.reshape(w.shape), False),
        ("has its rows (the outputs) in reverse", lambda w: w[::-1], False),
        ("has its columns (the inputs) in reverse", lambda w: w[:, ::-1], False),
        ("has its rows shifted by one", lambda w: np.roll(w, 1, 0), False),
        ("has its rows shifted by one, backwards", lambda w: np.roll(w, -1, 0), False),
        ("has its columns shifted by one", lambda w: np.roll(w, 1, 1), False),
        ("has its columns shifted by one, backwards", lambda w: np.roll(w, -1, 1), False),
        ("has its sign turned", lambda w: -w, False),
        ("is zero", np.zeros_like, False),
        ("is added twice", lambda w: 2 * w, False),
        ("lacks its last input (column): the loop ends too early", lambda w: up_to(w, w.shape[1] - 1), False),
        ("lacks its first input (column): the loop starts too late", lambda w: w * (np.arange(w.shape[1]) > 0), False),
        *((f"lacks the inputs after the last multiple of {size} (the rest of a loop over blocks)",
           partial(without_rest, size=size), False)
          for size in (4, 8, 16, 32, 64, 128) if any(width % size for width in widths)),
    )  # fmt: skip
    for what, change, common in ways:
        yield from of_linears(f"the weight of {{}} {what}", "weight", change, common)


def up_to(weight: Array, stop: int) -> Array:
    return weight * (np.arange(weight.shape[1]) < stop)


def without_rest(weight: Array, size: int) -> Array:
    return up_to(weight, weight.shape[1] // size * size)


def as_if_transposed(weight: Array) -> Array:
    """(out, in) -> (out, in), where the program takes the stored numbers for (in, out)."""
    return weight.reshape(weight.shape[::-1]).T


def of_linears(sentence: str, part: str, change: Callable[[Array], Array], common: bool) -> Iterator[Mistake]:
    """A change of one tensor of each linear layer alone, of query, key and value, and of all linear layers."""

    def changed(f: Forward, name: str, tensor: Array) -> Array:
        return change(tensor)

    for kinds, what in (
        *(((kind,), place_of(kind)) for kind in LINEARS),
        ((QUERY, KEY, VALUE), "query, key and value"),
        ((QUERY, KEY), "query and key"),
        ((KEY, VALUE), "key and value"),
        ((WIDE_DENSE, OUTPUT_DENSE), "both layers of the feed-forward"),
        (LINEARS, "every linear layer"),
    ):
        several = len(kinds) > 2
        yield Mistake(
            sentence.format(what), tensors={f"{k}.{part}": changed for k in kinds}, rare=not (common or several)
        )


def wrong_biases(inputs: Inputs) -> Iterator[Mistake]:
    for what, change, common in (
        ("is left out", np.zeros_like, True),
        ("is added twice", lambda b: 2 * b, True),
        ("is added once for each head", lambda b: inputs.num_attention_heads * b, False),
        ("is halved", lambda b: b / 2, False),
        ("is subtracted", lambda b: -b, False),
        ("is cut off: its second half is zero", lambda b: b * (np.arange(len(b)) < len(b) / 2), False),
        ("is cut off: its first half is zero", lambda b: b * (np.arange(len(b)) >= len(b) / 2), False),
        ("lacks its last element", lambda b: b * (np.arange(len(b)) < len(b) - 1), False),
        ("is shifted by one", lambda b: np.roll(b, 1), False),
        ("is shifted by one, backwards", lambda b: np.roll(b, -1), False),
        ("is that of the first head in every head",
         lambda b: np.resize(b[: len(b) // inputs.num_attention_heads], len(b)), False),
        ("is shifted by a head", lambda b: np.roll(b, len(b) // inputs.num_attention_heads), False),
        ("is shifted by a head, backwards", lambda b: np.roll(b, -(len(b) // inputs.num_attention_heads)), False),
        ("is in reverse", lambda b: b[::-1], False),
        ("is the same for all outputs: its first element", lambda b: np.full_like(b, b[0]), False),
        ("is the same for all outputs: its mean", lambda b: np.full_like(b, b.mean()), False),
    ):  # fmt: skip
        yield from of_linears(f"the bias of {{}} {what}", "bias", change, common)
    for kind in LINEARS:
        for sentence, way in (
            ("the bias of {} runs along the tokens; it runs along the features", bias_along_tokens),
            ("the outputs of {} are added up from token to token: the buffer is not cleared", added_up),
        ):
            yield Mistake(sentence.format(place_of(kind)), {kind: through(way, kind)}, rare=True)
    for heads in {4, 8, 16, inputs.num_attention_heads} - {0}:
        yield from of_linears(
            f"the bias of {{}} is interleaved by {heads}", "bias",
            partial(lambda b, heads: b.reshape(heads, -1).T.ravel() if len(b) % heads == 0 else b, heads=heads), False,
        )  # fmt: skip


def bias_along_tokens(f: Forward, name: str, x: Array) -> Array:
    bias = f.weight(f"{name}.bias")
    return x @ f.weight(f"{name}.weight").T + bias[np.arange(x.shape[-2]) % len(bias)][:, None]


def added_up(f: Forward, name: str, x: Array) -> Array:
    return linear(f, name, x).cumsum(-2)


def exchanged_layers(inputs: Inputs) -> Iterator[Mistake]:
    """Linear layers, or their weights or biases alone, in each other's place."""
    for parts, what in ((("weight", "bias"), "weights"), (("weight",), "matrices"), (("bias",), "biases")):
        for a, b in ((QUERY, KEY), (QUERY, VALUE), (KEY, VALUE)):
            names = [kind.rsplit(".", 1)[1] for kind in (a, b)]
            tensors = {f"{x}.{part}": taken_from(f"{y}.{part}") for x, y in ((a, b), (b, a)) for part in parts}
            yield Mistake(f"the {what} of {names[0]} and {names[1]} are swapped", tensors=tensors, rare=len(parts) < 2)
        for turned, arrow in (((KEY, VALUE, QUERY), "left"), ((VALUE, QUERY, KEY), "right")):
            pairs = zip((QUERY, KEY, VALUE), turned, strict=True)
            tensors = {f"{x}.{part}": taken_from(f"{y}.{part}") for x, y in pairs for part in parts}
            yield Mistake(f"the {what} of query, key and value are turned to the {arrow}", tensors=tensors, rare=True)
        for a in (QUERY, KEY, VALUE):
            for b in (QUERY, KEY, VALUE):
                if a != b:
                    names = [kind.rsplit(".", 1)[1] for kind in (a, b)]
                    tensors = {f"{a}.{part}": taken_from(f"{b}.{part}") for part in parts}
                    yield Mistake(f"the {what} of {names[1]} are used for {names[0]} too", tensors=tensors, rare=True)
    stored = [name for name in inputs.weights if name.endswith((".weight", ".bias"))]
    vectors = [kind_of(name) for name in stored if layer_of(name) in (0, None) and inputs.weights[name].ndim == 1]
    matrices = [kind_of(name) for name in stored if layer_of(name) in (0, None) and name.endswith("dense.weight")]
    shapes = {kind_of(name): inputs.weights[name].shape for name in stored}
    for group, ending in ((vectors, ".bias"), (matrices, ".weight")):
        for linear_kind in LINEARS:
            mine = linear_kind + ending
            for other in group:
                if mine in shapes and other != mine and shapes[other] == shapes[mine]:
                    sentence = f"{place_of(mine)} is taken from {place_of(other)}"
                    yield Mistake(sentence, tensors={mine: taken_from(other)}, rare=True)


def taken_from(other: str) -> TensorChange:
    """The tensor of another kind: in the same layer, or outside the layers."""

    def change(f: Forward, name: str, tensor: Array) -> Array:
        layer = layer_of(name)
        return f.stored(other if layer is None else other.replace(LAYER, f"encoder.layer.{f.order[layer]}"))

    return change


def fused_matrices() -> Iterator[Mistake]:
    for sentence, cut in (
        ("the fused matrix of query, key and value is cut head by head; its first third is the whole query", by_head),
        ("the fused matrix of query, key and value is cut feature by feature; its first third is the whole query",
         by_feature),
    ):  # fmt: skip
        parts: dict[str, Step] = {
            kind: partial(cut_from_fused, part=i, cut=cut) for i, kind in enumerate((QUERY, KEY, VALUE))
        }
        yield Mistake(sentence, parts)
    for sentence, way in (
        ("the input is added to the output of {}", lambda f, name, x: linear(f, name, x) + x),
        ("{} is applied twice", lambda f, name, x: linear(f, name, linear(f, name, x))),
        ("{} is left out: its input goes on", lambda f, name, x: x),
    ):
        yield from square_linears(sentence, way)


def square_linears(sentence: str, way: Way) -> Iterator[Mistake]:
    for kind in (QUERY, KEY, VALUE, f"{LAYER}.attention.output.dense", "pooler.dense", "lm_head.dense"):
        yield Mistake(sentence.format(place_of(kind)), {kind: through(way, kind)}, rare=True)


def by_head(f: Forward, fused: Array, part: int) -> Array:
    """(b, n, 3d) -> (b, n, h, 3, k) -> (b, n, d)"""
    b, n, width = fused.shape
    return fused.reshape(b, n, f.inputs.num_attention_heads, 3, -1)[..., part, :].reshape(b, n, width // 3)


def by_feature(f: Forward, fused: Array, part: int) -> Array:
    """(b, n, 3d) -> (b, n, d, 3) -> (b, n, d)"""
    b, n, width = fused.shape
    return fused.reshape(b, n, width // 3, 3)[..., part]


def cut_from_fused(f: Forward, name: str, part: int, cut: Callable[[Forward, Array, int], Array]) -> Array:
    """Query, key or value, cut out of the product with all three matrices as if they were stored in another way."""
    x = f.layer_input(name)
    fused = [linear(f, same_layer(name, kind), x) for kind in (QUERY, KEY, VALUE)]
    return cut(f, np.concatenate(fused, axis=-1), part)
