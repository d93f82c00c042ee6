"""Mistakes in what is connected with what: what enters a layer or a part of it, which part is left out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from numroberta.parity.names import (
    ATTENTION,
    CONTEXT,
    KEY,
    LAYER,
    OUTPUT,
    OUTPUT_DENSE,
    QUERY,
    VALUE,
    WIDE_DENSE,
    kind_of,
    layer_of,
    same_layer,
)
from numroberta.parity.steps import (
    Array,
    Forward,
    Inputs,
    Mistake,
    Step,
    blocked,
    exact_gelu,
    layer_norm,
    linear,
    merge,
)  # fmt: skip
from numroberta.textbook import softmax

ENTERED = {QUERY: "the query", KEY: "the key", VALUE: "the value"}


def mistakes(inputs: Inputs) -> Iterator[Mistake]:
    yield from parts_left_out()
    yield from other_input_of_a_layer()
    yield from parallel_parts()
    yield from other_input_of_a_part()


def parts_left_out() -> Iterator[Mistake]:
    yield Mistake(
        "the attention, with its layer norm, is left out: the layer's input goes to the feed-forward",
        {ATTENTION: lambda f, name: f.layer_input(name)},
    )
    yield Mistake(
        "the feed-forward, with its layer norm, is left out: the attention's output is the layer's",
        {OUTPUT: lambda f, name: f[same_layer(name, ATTENTION)]},
    )
    yield Mistake(
        "the layer does nothing: its input is its output", {OUTPUT: lambda f, name: f.layer_input(name)}, rare=True
    )


def two_before(f: Forward, name: str) -> Array:
    number = layer_of(name) or 0
    return f[f"encoder.layer.{number - 2}.output"] if number > 1 else f["embeddings"]


def below(kind: str) -> Step:
    """An activation of the layer below; in the first layer its own input."""

    def step(f: Forward, name: str) -> Array:
        number = layer_of(name)
        return f[kind.replace(LAYER, f"encoder.layer.{number - 1}")] if number else f.layer_input(name)

    return step


def sum_below(f: Forward, name: str) -> Array:
    if not layer_of(name):
        return f.layer_input(name)
    return below(ATTENTION)(f, name) + below(OUTPUT_DENSE)(f, name)


OTHER_INPUTS: dict[str, Step] = {
    "what entered the layer below, which is skipped": two_before,
    "the embeddings; it is the output of the layer below": lambda f, name: f["embeddings"],
    "the output of the attention below; it is that of the whole layer": below(ATTENTION),
    "the dense output of the layer below, before residual and norm": below(OUTPUT_DENSE),
    "the sum in the layer below before its norm; it is taken after": sum_below,
    "the output of the layer below added to the embeddings": lambda f, name: f.layer_input(name) + f["embeddings"],
    "the output of the layer below added to what entered that": lambda f, name: (
        f.layer_input(name) + two_before(f, name)
    ),
}


def other_input_of_a_layer() -> Iterator[Mistake]:
    for what, entering in OTHER_INPUTS.items():
        yield Mistake(f"what enters a layer is {what}", entered_by(entering))
        # The residual may still be the right one.
        steps = {kind: step for kind, step in entered_by(entering).items() if kind != ATTENTION}
        yield Mistake(f"what query, key and value read is {what}; the residual is right", steps, rare=True)


def entered_by(entering: Step) -> dict[str, Step]:
    steps: dict[str, Step] = {kind: lambda f, name: linear(f, name, entering(f, name)) for kind in ENTERED}
    steps[ATTENTION] = lambda f, name: layer_norm(f, f"{name}.LayerNorm", entering(f, name) + f[f"{name}.dense"])
    return steps


def feed_forward(f: Forward, name: str, x: Array) -> Array:
    """The feed-forward's dense output for an input of its own."""
    wide = exact_gelu(linear(f, same_layer(name, WIDE_DENSE), x))
    return linear(f, same_layer(name, OUTPUT_DENSE), wide)


def parallel_parts() -> Iterator[Mistake]:
    """Attention and feed-forward beside each other, or in the other order."""
    reads_input: Step = lambda f, name: linear(f, name, f.layer_input(name))  # noqa: E731

    def all_terms(f: Forward, name: str) -> Array:
        x = f.layer_input(name) + f[same_layer(name, f"{ATTENTION}.dense")] + f[f"{name}.dense"]
        return layer_norm(f, f"{name}.LayerNorm", x)

    def from_input(f: Forward, name: str) -> Array:
        return layer_norm(f, f"{name}.LayerNorm", f.layer_input(name) + f[f"{name}.dense"])

    yield Mistake(
        "the feed-forward reads the layer's input; it reads the attention's output", {WIDE_DENSE: reads_input}
    )
    for what, step in (
        ("one sum of the input and both, and one norm", all_terms),
        ("the feed-forward's residual is the layer's input too", from_input),
        ("the two are added", lambda f, name: f[same_layer(name, ATTENTION)] + from_input(f, name)),
    ):
        yield Mistake(
            f"attention and feed-forward are parallel, both read the layer's input: {what}",
            {WIDE_DENSE: reads_input, OUTPUT: step},
        )

    def fed_forward(f: Forward, name: str) -> Array:
        x = f.layer_input(name)
        return layer_norm(f, same_layer(name, f"{OUTPUT}.LayerNorm"), x + feed_forward(f, name, x))

    steps = entered_by(fed_forward)
    yield Mistake(
        "the feed-forward comes before the attention; it comes after",
        {**steps, OUTPUT: lambda f, name: f[same_layer(name, ATTENTION)]},
    )


def of_first_layer(f: Forward, name: str) -> Array:
    first = kind_of(name).replace(LAYER, "encoder.layer.0")
    return f[first] if layer_of(name) else linear(f, name, f.layer_input(name))


def attended(f: Forward, name: str) -> Array:
    """What the attention, its residual and its norm make of the layer's input."""
    query, key, value = (f.split(linear(f, same_layer(name, kind), f.layer_input(name))) for kind in ENTERED)
    s = np.where(blocked(f), -np.inf, query @ key.swapaxes(2, 3) / np.sqrt(query.shape[-1]))
    y = linear(f, same_layer(name, f"{ATTENTION}.dense"), merge(softmax(s) @ value))
    return layer_norm(f, same_layer(name, f"{ATTENTION}.LayerNorm"), f.layer_input(name) + y)


def other_input_of_a_part() -> Iterator[Mistake]:
    yield Mistake("the attention, with its residual and norm, is applied twice", entered_by(attended), scope="padding")
    for turn, which in ((1, "before it"), (-1, "after it")):
        yield Mistake(
            f"key and value are those of the text {which} in the batch",
            {kind: partial(of_another_text, turn=turn) for kind in (KEY, VALUE)}, scope="batch",
        )  # fmt: skip
    for kind, whose in ENTERED.items():
        for what, entering in list(OTHER_INPUTS.items())[:3]:
            yield Mistake(
                f"what {whose} reads is {what}",
                {kind: lambda f, name, entering=entering: linear(f, name, entering(f, name))},  # type: ignore[misc]
                rare=True,
            )
    for kinds, what in (((KEY,), "key"), ((VALUE,), "value"), ((KEY, VALUE), "key and value"), ((QUERY,), "query")):
        yield Mistake(
            f"the {what} of the first layer are used in every layer (as from a cache)",
            {kind: lambda f, name: of_first_layer(f, name) for kind in kinds},
        )
    for kinds, what in (((KEY, VALUE), "key and value"), ((QUERY,), "the query")):
        yield Mistake(
            f"{what} read the embeddings, as in cross-attention",
            {kind: lambda f, name: linear(f, name, f["embeddings"]) for kind in kinds},
            rare=True,
        )  # fmt: skip
    for kind, source, what in (
        (f"{ATTENTION}.dense", VALUE, "the attention's dense layer reads the value; it reads the context"),
        (f"{ATTENTION}.dense", "input", "the attention's dense layer reads the layer's input; it reads the context"),
        (WIDE_DENSE, CONTEXT, "the feed-forward reads the context; it reads the attention's output"),
        (WIDE_DENSE, f"{ATTENTION}.dense",
         "the feed-forward reads the attention's dense output, before residual and norm"),
    ):  # fmt: skip
        yield Mistake(what, {kind: reading(source)}, rare=kind != WIDE_DENSE)
    yield Mistake(
        "the feed-forward reads the sum before the attention's norm; it reads what comes after",
        {WIDE_DENSE: lambda f, name: linear(f, name, f.layer_input(name) + f[same_layer(name, f"{ATTENTION}.dense")])},
    )
    yield Mistake(
        "the feed-forward is applied twice",
        {OUTPUT: lambda f, name: (lambda y: layer_norm(f, f"{name}.LayerNorm", y + feed_forward(f, name, y)))(
            layer_norm(f, f"{name}.LayerNorm", f[same_layer(name, ATTENTION)] + f[f"{name}.dense"]))},
        rare=True,
    )  # fmt: skip


def of_another_text(f: Forward, name: str, turn: int) -> Array:
    return np.roll(linear(f, name, f.layer_input(name)), turn, 0)


def reading(source: str) -> Step:
    return lambda f, name: linear(f, name, f.layer_input(name) if source == "input" else f[same_layer(name, source)])
