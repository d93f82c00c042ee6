"""Which other activation entered a step, and how often: sums of known activations that give the step's numbers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.mistakes.places import place_of
from numroberta.parity.names import LAYER, kind_of, layer_of
from numroberta.parity.read_norm import undone
from numroberta.parity.steps import (
    INPUTS_OF_LINEAR,
    LINEARS,
    RESIDUALS,
    STEPS,
    Forward,
    Mistake,
    Step,
    layer_norm,
)

Array = NDArray[Any]

CLOSE = 1e-4  # of the error: what is left of it if the sum explains it
NOTHING = 1e-3  # a factor so small, or so near to 1, says nothing
FEWEST_TOKENS = 6


def from_sums(sound: Forward, name: str, value: Array, where: Array) -> Iterator[Mistake]:
    """Mistakes of the form a · (what it should be) + c · (another activation), in the step or in what it reads."""
    kind, tokens = kind_of(name), np.asarray(where.all(-1))
    if value.shape != sound[name].shape or value.ndim != 3 or tokens.sum() < FEWEST_TOKENS:
        return
    others = {other: array for other, array in candidates(sound, name).items() if other != name}
    mine, right = value[tokens], sound[name][tokens]
    for other, array in others.items():
        if array.shape == value.shape and (factors := sum_of([right, array[tokens]], mine)) is not None:
            yield from (summed(name, factors, *place) for place in as_inputs(other, name))
    if kind in LINEARS:
        weight, bias = sound.weight(f"{name}.weight"), sound.weight(f"{name}.bias")
        for other, array in others.items():
            if array.ndim == 3 and array.shape[:2] == value.shape[:2] and array.shape[-1] == weight.shape[1]:
                factors = sum_of([right - bias, array[tokens] @ weight.T], mine - bias)
                if factors is not None:
                    yield from (reading_sum(name, factors, *place) for place in as_inputs(other, name))
    if kind in RESIDUALS and (z := undone(sound, name, mine)) is not None:
        terms = [RESIDUALS[kind](sound, name)[tokens], sound[f"{name}.dense"][tokens]]
        for other, array in others.items():
            if array.shape == value.shape and (factors := under_the_norm([*terms, array[tokens]], z)) is not None:
                yield from (normalized_sum(name, factors, *place) for place in as_inputs(other, name))


def candidates(sound: Forward, name: str) -> dict[str, Array]:
    """Activations that a step may read by mistake: all before it, as this layer or the one below has them."""
    layer = layer_of(name)
    near = (None, layer, (layer or 0) - 1, 0)
    pool = {**sound.known, **sound.computed}
    return {other: pool[other] for other in pool if layer_of(other) in near and not other.startswith("pooled")}


def sum_of(terms: list[Array], value: Array) -> Array | None:
    """The factors by which these arrays add up to the value, or None."""
    columns = np.stack([term.ravel() for term in terms], 1)
    factors, *_ = np.linalg.lstsq(columns, value.ravel(), rcond=None)
    before = np.linalg.norm(value.ravel() - columns[:, 0])
    left = np.linalg.norm(value.ravel() - columns @ factors)
    return factors if left <= CLOSE * before and abs(factors[1]) > NOTHING else None


def under_the_norm(terms: list[Array], z: Array) -> Array | None:
    """The factors of the sum that is z (see `undone`) when normalized, the first or the second of them 1; or None.

    For each token the sum is, but for its mean, a multiple of z: so the factors are those by which what is at right
    angles to z adds up to nothing.
    """
    rest = []
    for term in terms:
        centred = term - term.mean(-1, keepdims=True)
        rest.append((centred - (centred * z).sum(-1, keepdims=True) * z).ravel())
    columns = np.stack(rest, 1)
    size = np.maximum(np.linalg.norm(columns, axis=0), 1e-300)
    _, values, ways = np.linalg.svd(columns / size, full_matrices=False)
    factors = ways[-1] / size
    first = factors[0] if abs(factors[0]) * size[0] > NOTHING * np.abs(ways[-1]).max() else factors[1]
    if values[-1] > 10 * CLOSE * values[0] or values[-2] < 100 * values[-1] or not first:
        return None
    factors = factors / first
    return factors if abs(factors[2]) > NOTHING else None


def at_layer(other: str, name: str) -> tuple[str, Step]:
    """What a report calls an activation, and how it is found in the layer of another step."""
    mine, theirs = layer_of(name), layer_of(other)
    kind = kind_of(other)
    if other == "embeddings" and mine == 0:
        return "the layer's input", lambda f, at: f.layer_input(at)
    if theirs is None or mine is None:
        return other, lambda f, at: f[other]
    if theirs == mine:
        return place_of(kind), lambda f, at: f[kind.replace(LAYER, f"encoder.layer.{layer_of(at)}")]
    if theirs == mine - 1 and kind == f"{LAYER}.output":
        return "the layer's input", lambda f, at: f.layer_input(at)
    if theirs == mine - 1:

        def below(f: Forward, at: str) -> Array:
            return f[kind.replace(LAYER, f"encoder.layer.{max((layer_of(at) or 0) - 1, 0)}")]

        return f"{place_of(kind)} of the layer below", below
    return other, lambda f, at: f[other]


def as_inputs(other: str, name: str) -> Iterator[tuple[str, Step]]:
    """What a report calls an activation, and how it is found in each layer: from the step's own, and as it stands."""
    if layer_of(other) == 0 and layer_of(name):
        yield other, lambda f, at: f[other]
    yield at_layer(other, name)


def times(factor: float) -> str:
    return "" if abs(factor - 1) < NOTHING else f"{factor:.4g} times "


def summed(name: str, factors: Array, whose: str, read: Step) -> Mistake:
    kind = kind_of(name)
    own, more = map(float, factors)
    if abs(own) < NOTHING:
        sentence = f"{place_of(kind)} is {times(more)}{whose}"
    else:
        sentence = f"{place_of(kind)} is {times(own)}what it should be, and {times(more)}{whose} is added to it"
    return Mistake(sentence, {kind: lambda f, at: own * STEPS[kind](f, at) + more * read(f, at)})


def reading_sum(name: str, factors: Array, whose: str, read: Step) -> Mistake:
    kind = kind_of(name)
    own, more = map(float, factors)
    what = "" if abs(own) < NOTHING else f"{times(own)}its input and "

    def step(f: Forward, at: str) -> Array:
        x = own * INPUTS_OF_LINEAR[kind](f, at) + more * read(f, at)
        return x @ f.weight(f"{at}.weight").T + f.weight(f"{at}.bias")

    return Mistake(f"{place_of(kind)} reads {what}{times(more)}{whose}", {kind: step})


def normalized_sum(name: str, factors: Array, whose: str, read: Step) -> Mistake:
    kind = kind_of(name)
    past, branch, more = map(float, factors)
    terms = [f"{times(x)}{what}" for x, what in ((past, "the residual"), (branch, "the sublayer"), (more, whose))
             if abs(x) > NOTHING]  # fmt: skip
    step = partial(norm_of_sum, kind=kind, factors=(past, branch, more), read=read)
    return Mistake(f"the layer norm of {place_of(kind)} is that of {' + '.join(terms)}", {kind: step})


def norm_of_sum(f: Forward, at: str, kind: str, factors: tuple[float, float, float], read: Step) -> Array:
    past, branch, more = factors
    x = past * RESIDUALS[kind](f, at) + branch * f[f"{at}.dense"] + more * read(f, at)
    return layer_norm(f, f"{at}.LayerNorm", x)
