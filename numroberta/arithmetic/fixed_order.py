"""Sums, exp, gelu, tanh, softmax and layer norm with the same bits on every machine.

Only + − × ÷ √, comparisons and the bits of whole numbers are used, one whole array at a time: IEEE 754 defines their
results to the last bit, and no compiler may change them across two calls of NumPy.  `np.sum`, `np.mean`, `np.einsum`
and `np.linalg.norm` add up in an order, and `np.exp` and `np.tanh` end in a bit, that differ from build to build.
Everything is float64; see `numroberta.textbook` for what each function computes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic.kernels import ERFC, LOGIT, Scratch

Array = NDArray[Any]

# Elements of a block: 128 KB, of which gelu has six at hand.
BLOCK = 16_384

# ln 2 in two parts; the first has 33 bits, so its product with a whole number of up to 20 bits is exact.
LN2_HIGH, LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10
LOG2_E = 1.4426950408889634
# The addition rounds a number below 2⁵¹ plus this to a whole number, and the last bits of the sum are that number plus
# 1023: the form in which a float64 stores the exponent of a power of two.
WHOLE = 1.5 * 2.0**52 + 1023
# Terms of the series of eʳ for |r| ≤ ln 2 / 2: the first one left out is 5e-9, and 4e-18.
TERMS = {np.dtype(kind): [1 / math.factorial(k) for k in range(n)] for kind, n in (("float32", 8), ("float64", 14))}


def total(x: Array, axis: int) -> Array:
    """Σ x over an axis, kept with length 1, in float64: the second half is added to the first, again and again."""
    shape = list(x.shape)
    shape[axis] = max(1, shape[axis] // 2)
    result = np.zeros(shape)
    sums, rest = np.moveaxis(result, axis, 0), np.moveaxis(x, axis, 0)  # views
    if len(rest) == 1:
        sums[...] = rest
    while len(rest) > 1:
        half, odd = divmod(len(rest), 2)
        np.add(rest[:half], rest[half : 2 * half], out=sums[:half], dtype=np.float64)
        if odd:
            sums[0] += rest[-1]
        rest = sums[:half]
    return np.moveaxis(sums[:1], 0, axis)


def mean(x: Array, axis: int) -> Array:
    """The mean over an axis, which goes; in x's dtype."""
    return (total(x, axis) / x.shape[axis]).squeeze(axis).astype(x.dtype)


def norm(x: Array) -> Array:
    """‖x‖₂ over the last axis, kept with length 1, in float64."""
    return np.sqrt(total(np.square(x, dtype=np.float64), -1))


def exp(x: Array) -> Array:
    """eˣ in x's dtype; e⁻⁷⁰⁸ = 3e-308 for less than −708, where float64's exponents end, and e⁷⁰⁹ for more than 709."""
    y = x.astype(np.float64)
    exp_in_place(y, np.empty((3, *y.shape)), TERMS[np.dtype(np.float64)])
    return y.astype(x.dtype)


def exp_in_place(x: Array, spare: Array, terms: Sequence[float]) -> None:
    """x becomes eˣ = 2ᵏ eʳ with k = rint(x / ln 2), by the series of eʳ.  spare: (3, *x.shape)."""
    power, scale = _reduce(x, spare)
    _polynomial(x, terms, power)
    np.multiply(power, scale, out=x)


def _reduce(x: Array, spare: Array) -> tuple[Array, Array]:
    """x becomes r = x − k ln 2, |r| ≤ ln 2 / 2; returns free memory, and 2ᵏ."""
    k, product, scale = spare
    np.maximum(x, -708.0, out=x)
    np.minimum(x, 709.0, out=x)
    np.multiply(x, LOG2_E, out=k)
    k += WHOLE
    np.left_shift(k.view(np.uint64), np.uint64(52), out=scale.view(np.uint64))
    k -= WHOLE
    x -= np.multiply(k, LN2_HIGH, out=product)
    x -= np.multiply(k, LN2_LOW, out=product)
    return product, scale


def _polynomial(x: Array, coefficients: Sequence[float], out: Array) -> None:
    """Σ cₖ xᵏ in `out`, by Horner's rule."""
    np.multiply(x, coefficients[-1], out=out)
    for coefficient in coefficients[-2:0:-1]:
        out += coefficient
        out *= x
    out += coefficients[0]


def tanh(x: Array) -> Array:
    """t / (t + 2) with t = e²ˣ − 1, which keeps its digits near 0; in x's dtype."""
    r = np.minimum(np.maximum(2.0 * x.astype(np.float64), -80.0), 80.0)
    series, scale = _reduce(r, np.empty((3, *r.shape)))
    _polynomial(r, TERMS[np.dtype(np.float64)][1:], series)  # (eʳ − 1) / r
    t = scale * (r * series) + (scale - 1.0)
    return (t / (t + 2.0)).astype(x.dtype)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e⁻ˣ), in x's dtype."""
    return (1.0 / (1.0 + exp(-x.astype(np.float64)))).astype(x.dtype)


def softmax(x: Array, axis: int = -1) -> Array:
    """eˣ / Σ eˣ over an axis, shape and dtype kept."""
    powers = exp(x.astype(np.float64) - x.max(axis=axis, keepdims=True))
    return (powers / total(powers, axis)).astype(x.dtype)


def softmax_in_place(scores: Array, scratch: Scratch, precision: np.dtype[Any]) -> Array:
    """scores become exp(scores − max) over axis −2, the keys; returns their sums, the divisor that is still to apply.

    scores: (heads, keys, queries) float64 -> sums (heads, 1, queries).
    """
    scores -= scores.max(axis=-2, keepdims=True)
    exp_in_place(scores, scratch("exp", (3, *scores.shape)), TERMS[precision])
    return total(scores, -2)


def layer_norm(x: Array, gain: Array, bias: Array, eps: float) -> None:
    """x becomes gain (x − mean) / √(variance + eps) + bias, column by column.  x: (features, columns) float64."""
    x -= total(x, -2) / len(x)
    x /= np.sqrt(total(x * x, -2) / len(x) + eps)
    x *= gain
    x += bias


def gelu(x: Array, scratch: Scratch, precision: np.dtype[Any]) -> None:
    """x becomes x Φ(x).  x: (features, columns) float64; exact to the rounding of `precision`."""
    features, columns = x.shape
    rows = max(1, BLOCK // max(columns, 1))
    spare = scratch("gelu", (5, rows, columns))
    formula = _gelu_float32 if precision == np.float32 else _gelu_float64
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, features, rows):
            block = x[first : first + rows]
            formula(block, spare[:, : len(block)])


def _gelu_float32(x: Array, spare: Array) -> None:
    """x / (1 + exp(x p(x²))), as `kernels.gelu` has it."""
    square, power, *_ = spare
    np.multiply(x, x, out=square)
    _polynomial(square, LOGIT.tolist(), power)
    power *= x
    exp_in_place(power, spare[2:], TERMS[np.dtype(np.float32)])
    power += 1.0
    x /= power


def _gelu_float64(x: Array, spare: Array) -> None:
    """x Φ(x) with Φ(−|x|) = erfc(z)/2, z = |x|/√2, by Clenshaw's recurrence for the Chebyshev sum in `kernels`."""
    z = np.abs(x) / math.sqrt(2.0)
    t = 2.0 / (2.0 + z)
    twice = 4.0 * t - 2.0
    sums, before = np.zeros_like(x), np.zeros_like(x)
    for coefficient in ERFC[:0:-1]:
        sums, before = twice * sums - before + coefficient, sums
    tail = twice / 2.0 * sums - before + ERFC[0] - z * z
    exp_in_place(tail, spare[2:], TERMS[np.dtype(np.float64)])
    tail *= 0.5 * t
    x *= np.where(x > 0.0, 1.0 - tail, tail)
