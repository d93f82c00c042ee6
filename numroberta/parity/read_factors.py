"""Factors of single features, read from a step's numbers: an input that is left out, a column or a residual scaled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.layouts import show_ranges
from numroberta.parity.measure import counted
from numroberta.parity.mistakes.numbers import quantizers
from numroberta.parity.mistakes.places import place_of
from numroberta.parity.names import KEY, QUERY, SCORES, kind_of, same_layer
from numroberta.parity.read_norm import undone
from numroberta.parity.read_tensors import constant
from numroberta.parity.steps import (
    INPUTS_OF_LINEAR,
    LINEARS,
    RESIDUALS,
    Forward,
    Mistake,
    Step,
    TensorChange,
    layer_norm,
)

Array = NDArray[Any]

CLOSE = 1e-4
NEARLY = 0.3  # of the value: what quantizing may take away from it
FEW_ROWS = 32  # of the weights that are quantized to see which way it was
LEFT = 1e-3  # and what is left of it if the quantizer is the right one
FEWEST_NUMBERS = 3  # of the value for each factor: fewer fit by chance
NO_PART = 1e-9  # of the largest singular value


def from_factors(sound: Forward, name: str, value: Array, where: Array) -> Iterator[Mistake]:
    """Mistakes that multiply each feature of something by a number of its own, if such numbers explain the value."""
    if value.shape != sound[name].shape:
        return
    kind, tokens = kind_of(name), np.asarray(where.all(-1))
    if kind in LINEARS:
        yield from of_inputs(sound, name, value[tokens], tokens)
        yield from of_outputs(sound, name, value[tokens], tokens)
    if kind in RESIDUALS:
        yield from of_terms_of_norm(sound, name, value[tokens], tokens)
    if kind == SCORES:
        yield from of_products(sound, name, value)


def of_inputs(f: Forward, name: str, mine: Array, tokens: Array) -> Iterator[Mistake]:
    """W (c ∘ x) + b"""
    kind, weight = kind_of(name), f.weight(f"{name}.weight")
    x, y = INPUTS_OF_LINEAR[kind](f, name)[tokens], mine - f.weight(f"{name}.bias")
    if y.size < FEWEST_NUMBERS * x.shape[-1]:
        return
    factors = solved((x.T @ x) * (weight.T @ weight), np.einsum("tf,tf->f", x, y @ weight))
    if close(x * factors @ weight.T, y):
        what = f"the inputs of {place_of(kind)}"
        yield Mistake(of_features(what, factors), tensors={f"{kind}.weight": times(factors)})


def of_outputs(f: Forward, name: str, mine: Array, tokens: Array) -> Iterator[Mistake]:
    """c ∘ W x + b"""
    kind = kind_of(name)
    bias = f.weight(f"{name}.bias")
    right, y = f[name][tokens] - bias, mine - bias
    if len(y) < FEWEST_NUMBERS:
        return
    factors = (right * y).sum(0) / np.maximum(np.square(right).sum(0), 1e-300)
    if close(factors * right, y):
        what = f"the products of {place_of(kind)}, before its bias,"
        yield Mistake(of_features(what, factors), tensors={f"{kind}.weight": times(factors[:, None])})
    elif np.linalg.norm(factors * right - y) <= NEARLY * np.linalg.norm(y):
        yield from of_quantized(f, name, y, tokens)


def of_quantized(f: Forward, name: str, y: Array, tokens: Array) -> Iterator[Mistake]:
    """c ∘ W' x + b, with the weights in few bits: another scale than that by which they were divided."""
    kind, weight = kind_of(name), f.weight(f"{name}.weight").astype(np.float32)
    x = INPUTS_OF_LINEAR[kind](f, name)[tokens]
    some = slice(0, FEW_ROWS)  # whose scales are their own
    for what, way in quantizers(f.inputs):
        right = x @ way(weight[some]).astype(np.float64).T
        scales = (right * y[:, some]).sum(0) / np.maximum(np.square(right).sum(0), 1e-300)
        if np.linalg.norm(scales * right - y[:, some]) <= LEFT * np.linalg.norm(y[:, some]):
            stored = way(weight).astype(np.float64)
            factors = ((x @ stored.T) * y).sum(0) / np.maximum(np.square(x @ stored.T).sum(0), 1e-300)
            sentence = of_features(f"{place_of(kind)}'s rows of weights in {what},", factors)
            yield Mistake(
                f"{sentence}: the scale is another", tensors={f"{kind}.weight": constant(stored * factors[:, None])}
            )


def of_terms_of_norm(f: Forward, name: str, mine: Array, tokens: Array) -> Iterator[Mistake]:
    """LayerNorm(c ∘ x + y) and LayerNorm(x + c ∘ y)

    Undone, the norm gives z with σ z + μ = c ∘ x + y for two numbers of each token: so c is that by which the part of
    c ∘ x + y at right angles to z and 1 vanishes.
    """
    kind, z = kind_of(name), undone(f, name, mine)
    if z is None or z.size < FEWEST_NUMBERS * (z.shape[1] + 2 * len(z)):
        return
    ones = np.full_like(z, z.shape[1] ** -0.5)
    past, branch = RESIDUALS[kind](f, name)[tokens], f[f"{name}.dense"][tokens]
    for a, b, what, first in ((past, branch, "the residual", True), (branch, past, "the sublayer", False)):
        free = b - (b * z).sum(-1, keepdims=True) * z - b.mean(-1, keepdims=True)
        matrix = np.diag(np.square(a).sum(0)) - (a * z).T @ (a * z) - (a * ones).T @ (a * ones)
        factors = solved(matrix, -(a * free).sum(0))
        yield Mistake(f"{of_features(what, factors)} (in {place_of(kind)})", {kind: normalized(kind, factors, first)})


def of_products(f: Forward, name: str, value: Array) -> Iterator[Mistake]:
    """Σ c q k / √d, with the same factors in each head."""
    query, key = (f.split(f[same_layer(name, kind)]) for kind in (QUERY, KEY))  # (b, h, n, k)
    real = f.inputs.attention_mask != 0
    where = counted(SCORES, value.shape, real)
    y = np.where(where, value, 0.0) * np.sqrt(query.shape[-1])
    q, k = (np.where(real[:, None, :, None], x, 0.0) for x in (query, key))
    matrix = np.einsum("bhef,bhef->ef", q.swapaxes(2, 3) @ q, k.swapaxes(2, 3) @ k)
    factors = solved(matrix, np.einsum("bhnf,bhnf->f", q, y @ k))
    if close(np.where(where, (q * factors) @ k.swapaxes(2, 3), 0.0), y):
        sentence = of_features("the products of query and key", factors)

        def step(f: Forward, at: str) -> Array:
            query, key = (f.split(f[same_layer(at, kind)]) for kind in (QUERY, KEY))
            return (query * factors) @ key.swapaxes(2, 3) / np.sqrt(query.shape[-1])

        yield Mistake(f"{sentence} (of each head)", {SCORES: step})


def solved(matrix: Array, right: Array) -> Array:
    return np.asarray(np.linalg.lstsq(matrix, right, rcond=NO_PART)[0])


def close(a: Array, b: Array) -> bool:
    return bool(np.linalg.norm(a - b) <= CLOSE * np.linalg.norm(b))


def times(factors: Array) -> TensorChange:
    return lambda f, name, tensor: tensor * factors


def normalized(kind: str, factors: Array, first: bool) -> Step:
    def step(f: Forward, at: str) -> Array:
        past, branch = RESIDUALS[kind](f, at), f[f"{at}.dense"]
        x = factors * past + branch if first else past + factors * branch
        return layer_norm(f, f"{at}.LayerNorm", x)

    return step


def of_features(what: str, factors: Array) -> str:
    """The inputs of … are only features 0–15."""
    size = 10 * CLOSE * max(float(np.abs(factors).max()), 1.0)
    whole, empty = np.abs(factors - 1) <= size, np.abs(factors) <= size
    if np.all(whole | empty):
        return f"of {what} only features {show_ranges(np.flatnonzero(whole))} count: the others are left out"
    if whole.mean() >= 0.5:
        other = factors[~whole]
        span = f"{other[0]:.4g}" if np.ptp(other) <= size else f"{other.min():.4g} to {other.max():.4g}"
        return f"{what} are multiplied by {span} in features {show_ranges(np.flatnonzero(~whole))}"
    return (
        f"{what} are multiplied by another factor in each feature (column), {factors.min():.4g} to {factors.max():.4g}"
    )
