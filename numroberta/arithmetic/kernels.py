"""gelu, softmax, layer norm: in place, in blocks that stay in the cache; products of matrices that BLAS need not copy.

An activation is `(features, columns)`, a column a token; see `numroberta.textbook` for what each function computes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]

# Elements a block: 256 KB of float32, whose three arrays stay near the cache.  Every call of NumPy gives Python's lock
# away and takes it back, and two threads wait for each other there: gelu on both at once takes 20 ns an element in
# blocks of 8,192, 10 in 32,768, 6 in these (one thread alone, or two processes: 10, 4 to 7, 4 to 6).
BLOCK = 65_536

# −ln(1/Φ(x) − 1) = −x·p(x²): p, a polynomial in x² for float32, minimax in the error of x·Φ(x) on |x| ≤ 4.5 (3.8e-8;
# after float32 rounding 6.5e-7 at most, 3.6e-8 RMS over a normal x, where PyTorch's float32 has 3.7e-7 and 5.4e-8).
# The last coefficient is negative, so beyond 4.5 the exponential runs to 0 or infinity as it should.
LOGIT = np.array(
    [
        -1.5957708955906247,
        -0.07266273405878097,
        6.195497460950115e-05,
        0.00011183754551251258,
        -8.139268994733399e-06,
        2.805493085800611e-07,
        -3.950694295943532e-09,
    ],
    np.float32,
)

# ln(erfc(z) / t) + z² for t = 2 / (2 + z), as Chebyshev polynomials of 2t − 1, for float64: the first one left out is
# 5e-20. (The form is that of Schonfelder 1978; the coefficients come from 40-digit values at 64 Chebyshev nodes.)
ERFC = (
    -0.65132685989085472,
    0.64196979235649026,
    0.019476473204185836,
    -0.0095615147868086316,
    -0.00094659534448203687,
    0.00036683949785276145,
    4.2523324806907772e-5,
    -2.0278578112534243e-5,
    -1.6242900046470255e-6,
    1.3036558355805232e-6,
    1.5626441722066143e-8,
    -8.5238095914926543e-8,
    6.5290544390988515e-9,
    5.0593434955514689e-9,
    -9.9136415649303309e-10,
    -2.2736512229318359e-10,
    9.6467911020155268e-11,
    2.3940380830391147e-12,
    -6.8860275264975534e-12,
    8.9448792730907257e-13,
    3.1309213993429581e-13,
    -1.1270822361367252e-13,
    3.8109052591892321e-16,
    7.106097613609237e-15,
    -1.5230282014571043e-15,
    -9.457494571291234e-17,
    1.210237189224279e-16,
    -2.816663887747177e-17,
)


# Bytes that scratch memory is reserved for.  What nobody has written to costs address space alone; and memory that need
# not grow leaves no holes behind.  From 4 MB on NumPy asks the system for huge pages, which come whole.
LEAST = 3 << 20


class Scratch:
    """Memory used again and again by one thread.

    Fresh arrays of this size come as pages that the system first has to map: 6 % of the time of a forward pass.
    """

    def __init__(self, dtype: DTypeLike):
        self.dtype = np.dtype(dtype)
        self._buffers: dict[str, Array] = {}
        self.most = 0  # elements of the largest array so far

    def __call__(self, name: str, shape: tuple[int, ...]) -> Array:
        """An array of this shape, its values undefined; whoever asks for the same name next gets the same memory."""
        size = math.prod(shape)
        self.most = max(self.most, size)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(max(size, LEAST // self.dtype.itemsize), self.dtype)
        return buffer[:size].reshape(shape)


def bias_gelu(x: Array, bias: Array, scratch: Scratch) -> None:
    """x becomes gelu(x + bias), gelu(x) = x Φ(x).  x: (features, columns), bias: (features, 1)."""
    features, columns = x.shape
    rows = max(1, BLOCK // max(columns, 1))
    gelu = _gelu_float32 if x.dtype == np.float32 else _gelu_float64
    first_array, second_array = scratch("gelu", (2, rows, columns))
    with np.errstate(over="ignore"):
        for first in range(0, features, rows):
            block = x[first : first + rows]
            block += bias[first : first + rows]
            gelu(block, first_array[: len(block)], second_array[: len(block)])


def bias_gelu_with_slope(x: Array, bias: Array, slope: Array, scratch: Scratch) -> None:
    """x becomes gelu(x + bias), and slope the derivative there, Φ + x φ(x).  x, slope: (features, columns)."""
    features, columns = x.shape
    rows = max(1, BLOCK // max(columns, 1))
    gelu = _gelu_with_slope_float32 if x.dtype == np.float32 else _gelu_with_slope_float64
    square = scratch("gelu", (rows, columns))
    with np.errstate(over="ignore", under="ignore"):
        for first in range(0, features, rows):
            block = x[first : first + rows]
            block += bias[first : first + rows]
            gelu(block, square[: len(block)], slope[first : first + rows])


def _gelu_float32(x: Array, square: Array, power: Array) -> None:
    """x / (1 + exp(x p(x²))) = x Φ(x)."""
    _reciprocal_of_normal(x, square, power)
    np.divide(x, power, x)


def _gelu_with_slope_float32(x: Array, square: Array, slope: Array) -> None:
    """x becomes x Φ(x), slope Φ(x) + x exp(−x²/2) / √2π."""
    _reciprocal_of_normal(x, square, slope)
    np.divide(_ONE, slope, slope)
    np.multiply(square, _MINUS_HALF, square)
    np.exp(square, square)
    np.multiply(square, _DENSITY, square)
    np.multiply(square, x, square)
    np.multiply(x, slope, x)
    np.add(slope, square, slope)


def _reciprocal_of_normal(x: Array, square: Array, power: Array) -> None:
    """Fill `power` with 1/Φ(x) = 1 + exp(x p(x²)), Φ the normal distribution, and `square` with x².

    p is evaluated by Horner's rule; NumPy gets its outputs by position, which costs less per call than `out=`.
    """
    np.multiply(x, x, square)
    np.multiply(square, LOGIT[-1:], power)
    for coefficient in _LOGIT_BY_HORNER:
        np.add(power, coefficient, power)
        np.multiply(power, square, power)
    np.add(power, LOGIT[:1], power)
    np.multiply(power, x, power)
    np.exp(power, power)
    np.add(power, _ONE, power)


_ONE = np.ones(1, np.float32)
_MINUS_HALF = np.full(1, -0.5, np.float32)
_DENSITY = np.full(1, 1 / math.sqrt(2 * math.pi), np.float32)
_LOGIT_BY_HORNER = [LOGIT[k : k + 1] for k in range(5, 0, -1)]


def _gelu_float64(x: Array, t: Array, total: Array) -> None:
    """x becomes x Φ(x)."""
    x *= _normal_float64(x, t, total)


def _gelu_with_slope_float64(x: Array, square: Array, slope: Array) -> None:
    """x becomes x Φ(x), slope Φ(x) + x exp(−x²/2) / √2π."""
    normal = _normal_float64(x, square, slope)
    np.add(normal, x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi), slope)
    x *= normal


def _normal_float64(x: Array, t: Array, total: Array) -> Array:
    """Φ(x), with Φ(−|x|) = erfc(z)/2, z = |x|/√2, by Clenshaw's recurrence for the Chebyshev sum."""
    z = np.abs(x) / np.sqrt(2.0)
    np.divide(2.0, 2.0 + z, t)
    twice = 4.0 * t - 2.0
    total[...] = 0.0
    before = np.zeros_like(total)
    for coefficient in ERFC[:0:-1]:
        total[...], before[...] = twice * total - before + coefficient, total.copy()
    log_ratio = twice / 2.0 * total - before + ERFC[0]
    tail = 0.5 * t * np.exp(log_ratio - z * z)
    return np.where(x > 0, 1.0 - tail, tail)


def softmax(scores: Array) -> Array:
    """scores become exp(scores − max) over axis −2, the keys; returns their sums, the divisor that is still to apply.

    scores: (heads, keys, queries) -> sums (heads, 1, queries).  Dividing the context (d rows) is cheaper than dividing
    the probabilities (a row per key).
    """
    scores -= scores.max(axis=-2, keepdims=True)
    np.exp(scores, scores)
    return column_sums(scores)[:, None]


def layer_norm(x: Array, gain: Array, bias: Array, eps: float) -> None:
    """x becomes gain (x − mean) / √(variance + eps) + bias, column by column.  x: (features, columns)."""
    x -= column_sums(x) / x.dtype.type(len(x))
    scale = column_sums(x, squared=True)
    scale /= len(x)
    scale += eps
    np.sqrt(scale, scale)
    np.divide(1.0, scale, scale)
    x *= scale
    x *= gain
    x += bias


def column_sums(x: Array, squared: bool = False) -> Array:
    """Σ x or Σ x² over axis −2, (…, rows, columns) -> (…, columns), in two steps of at most 32 and rows / 32 additions.

    In float32 the one-step sums of layer norm were a tenth of the whole forward pass's error.
    """
    *lead, rows, columns = x.shape
    whole = rows // 32 * 32
    steps = x[..., :whole, :].reshape(*lead, 32, whole // 32 * columns)
    sums = _one_step(steps, squared).reshape(*lead, whole // 32, columns).sum(axis=-2)
    if whole < rows:
        sums += _one_step(x[..., whole:, :], squared)
    return sums


def _one_step(x: Array, squared: bool) -> Array:
    return np.einsum("...rn,...rn->...n", x, x) if squared else x.sum(axis=-2)


# OpenBLAS copies its operands into the order in which it reads them, at every call.  For small matrices the kernels of
# some processors read them where they lie: with 16 columns at 72 GFLOPS a core instead of 48, with 32 at 90 instead of
# 66 on Zen 4, 75 instead of 73 and 109 instead of 98 on Sapphire Rapids, where more columns lose: with 128 it would be
# 90 instead of 133 (`scripts/benchmarks/benchmark.py products`).  A stack of products of few rows is small.
ROWS, FEW_COLUMNS = 32, 48
# These kernels add all products one after the other; sums of 768 would exceed the error that `test_reference` allows.
# (The other path ends its sums by itself, after 384 at most.)
CHAIN = 256


def product(weight: Array, x: Array, piece: int, small: int, scratch: Scratch, name: str) -> Array:
    """weight @ x, (out, in) @ (in, n) -> (out, n), its inner sum in pieces: short float32 sums are more exact.

    piece: most products in one sum.  small: rows × inner × columns up to which BLAS reads its operands where they lie,
    0 where it never does.
    """
    (out, inner), columns = weight.shape, x.shape[1]
    if columns <= FEW_COLUMNS and 8 * min(inner, CHAIN) * columns <= small:  # with fewer rows than 8 it is not faster
        piece = min(piece, CHAIN)
    else:
        small = 0
    y = scratch(name, (out, columns))
    pieces = -(-inner // piece)
    if pieces == 1:
        return matmul(weight, x, y, small)
    piece = -(-inner // pieces)
    pieces, rest = divmod(inner, piece)
    whole = inner - rest
    stack = scratch("pieces", (pieces, out, columns))
    cut = weight[:, :whole].reshape(out, pieces, piece).swapaxes(0, 1)  # (out, in) -> (pieces, out, piece), a view
    matmul(cut, x[:whole].reshape(pieces, piece, columns), stack, small)
    np.add.reduce(stack, axis=0, out=y)
    if rest:
        y += matmul(weight[:, whole:], x[whole:], stack[0], small)
    return y


def matmul(a: Array, b: Array, out: Array, small: int) -> Array:
    """a @ b, (…, m, k) @ (…, k, n) -> (…, m, n), a few rows of a at a time where that makes the products `small`."""
    (m, k), n = a.shape[-2:], b.shape[-1]
    rows = min(ROWS, small // max(1, k * n) // 4 * 4)  # the kernels take four at a time
    if not 0 < rows < m or k > CHAIN:
        return np.matmul(a, b, out=out)
    whole = m // rows * rows

    def by_rows(x: Array) -> Array:  # (…, m, any) -> (…, m / rows, rows, any), a view
        return x[..., :whole, :].reshape(*x.shape[:-2], whole // rows, rows, x.shape[-1])

    np.matmul(by_rows(a), b[..., None, :, :], out=by_rows(out))
    if whole < m:
        np.matmul(a[..., whole:, :], b, out=out[..., whole:, :])
    return out
