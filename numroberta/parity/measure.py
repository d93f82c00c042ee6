"""How far apart two activations are, where they count, and how far rounding may take them apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.names import in_order, is_gradient, step_of_gradient

Array = NDArray[Any]

SINGLE = float(np.finfo(np.float32).eps)
# The distance from 1 to the next number, as np.finfo gives it for the types that NumPy has.
UNITS = {"bfloat16": 2.0**-7, "TF32": 2.0**-10, "float16": 2.0**-10}
LEAST_FLOAT16 = 2.0**-14  # of its numbers with all bits; gradients may be smaller

# What rounding may cause, in units of the coarser type's eps, at the embeddings; √(1 + layers) times that further up.
# Measured on the full-size geometry in float32: 2 to 5, probabilities up to 17.  A plain loop that adds 3072 products
# one by one is several times worse than BLAS.  PyTorch in float16 and bfloat16, which add up in float32: up to 1.
RMS_ERROR = 64
RMS_ERROR_16_BIT = 4
LARGEST_ERROR = 20  # of a single element, in units of the RMS one.  Measured: 4 to 15


def counted(name: str, shape: tuple[int, ...], mask: Array) -> Array:
    """Where an activation is compared: true for what is not padding.  mask: (b, n), true where a token is."""
    where = np.ones(shape, bool)
    if len(shape) == 4 and shape[0] == len(mask):
        where &= mask[:, None, :, None]
        # Whether a program masks before or after it records the scores is its own affair.
        return where if name.endswith("probs") else where & mask[:, None, None, :]
    if len(shape) == 3 and shape[:2] == mask.shape:
        return where & mask[:, :, None]
    return where


def rms(values: Array) -> float:
    """The root of the mean square, 0 of nothing."""
    return float(np.sqrt(np.mean(np.square(values.astype(np.float64))))) if values.size else 0.0


def distance(value: Array, expected: Array, where: Array) -> float:
    """RMS of the difference over RMS of the expected values; infinite where shapes differ or a value is no number."""
    if value.shape != expected.shape:
        return np.inf
    value, expected = value[where], expected[where]
    if not expected.any() and not value.any():
        return 0.0
    with np.errstate(all="ignore"):
        error = np.sqrt(np.mean(np.square(value - expected)) / np.mean(np.square(expected)))
    return float(error) if np.isfinite(error) else np.inf


def hidden_alike(value: Array, expected: Array) -> tuple[Array, Array]:
    """Scores in which every mask has the same depth: −∞, −10,000 and the least float32 hide a score alike."""
    seen = expected[expected > -1000]
    lowest = -100 - float(np.abs(seen).max(initial=0.0))
    return np.maximum(value, lowest), np.maximum(expected, lowest)


def tolerance(name: str, unit: float, layers: int) -> float:
    """The RMS relative error that rounding may cause.

    name: the activation; what comes later in the forward pass may be further off.  unit: eps of the coarsest type that
    the values have been in so far.  layers: how many the model has.
    """
    depth = depth_of(step_of_gradient(name), layers)
    if is_gradient(name):
        depth = 2 * (1 + layers) - depth
    return float(unit * (RMS_ERROR if unit < 1e-6 else RMS_ERROR_16_BIT) * (1 + depth) ** 0.5)


def depth_of(name: str, layers: int) -> int:
    """How many layers of the forward pass come before an activation, itself included."""
    stage, layer, _ = in_order(name)
    return 0 if stage == 0 else 1 + layer if stage == 1 else 1 + layers


def unit_of(array: Array) -> float:
    """eps of an array's dtype; integers are exact to float64's."""
    return float(np.finfo(array.dtype if array.dtype.kind == "f" else np.float64).eps)


def holds_single(array: Array) -> bool:
    """Whether float32 can hold all of these numbers."""
    with np.errstate(over="ignore"):
        return np.array_equal(array, array.astype(np.float32), equal_nan=True)


def to_float16(values: Array) -> Array:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(values.dtype)


def to_mantissa(values: Array, bits: int, way: Callable[[Array], Array] = np.round) -> Array:
    """Rounded to the nearest number with so many bits of mantissa, the leading one included."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(way(mantissa * 2**bits) / 2**bits, exponent)


to_bfloat16 = partial(to_mantissa, bits=8)
to_tf32 = partial(to_mantissa, bits=11)
ROUNDINGS: dict[str, Callable[[Array], Array]] = {"bfloat16": to_bfloat16, "float16": to_float16}


def narrow_type(values: Array) -> str | None:
    """The 16-bit type that holds all of these values, which are stored in a wider one."""
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if values.dtype.kind != "f" or values.dtype.itemsize <= 2 or not values.any():
        return None
    for name, rounding in ROUNDINGS.items():
        with np.errstate(all="ignore"):
            if np.array_equal(rounding(values), values):
                return name
    return None
