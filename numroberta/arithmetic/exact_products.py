"""Products of matrices without any rounding error: the same bits in whatever order a BLAS adds them up.

Why it must hold.  Let every row of A and every column of B be whole numbers times a power of two, its unit.  An element
of A B is then Σ aᵢ bᵢ with whole aᵢ, bᵢ, times the product of two units, and every partial sum is a whole number too.
By Cauchy and Schwarz no partial sum, whichever of the terms it has, exceeds ‖a‖ ‖b‖.  If ‖a‖ ≤ 2²⁷ and ‖b‖ ≤ 2²⁶, it is
at most 2⁵³, and every whole number up to 2⁵³ is a float64.  So each addition, fused with a multiplication or not, gives
exactly the sum: no order, block size, vector width or number of threads can change a bit.

So each row and column is rounded to a multiple of a unit that makes it so short.  What the rounding leaves is rounded
again to a finer unit, and so on: a factor is the sum of such slices, and a product the sum of a few exact products
(Ozaki, Ogita, Oishi & Rump 2012, who bound the sums by the largest elements; norms leave three bits more, and most in a
row with a few large elements, which RoBERTa has).  One slice is more exact than float32, three are as exact as float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic.fixed_order import total

Array = NDArray[Any]

# Slices of each factor, by the dtype of the result.
SLICES = {np.dtype(np.float32): 1, np.dtype(np.float64): 3}

ROW_BITS, COLUMN_BITS = 27, 26  # of the norms of A's rows and B's columns, in units; 53 together

# How much the norm that a unit is made for exceeds the true one.  It outweighs what happens to the norm after it was
# computed: rounding moves each of n elements by at most half a unit, so the norm by √n / 2 units, and 2⁻¹⁷ · 2²⁶ units
# are no less for n ≤ 2²⁰.
MARGIN = 1 + 2.0**-16
# Squares of elements below 2⁻⁵³⁷ vanish, so a norm may be computed too small; a unit made for this one is large enough
# then.  It also keeps the product of two units, three slices down, among the numbers that float64 has in full.
LEAST_NORM = 2.0**-400


def shift_for(x: Array, axis: int, bits: int) -> Array:
    """1.5 · 2⁵² u, by which `rounded` rounds to multiples of u; one for each row (axis -1) or column (-2), float64.

    u is the power of two for which the norm is at most 2^bits u.  x: (…, m, n), elements below 2⁵⁰⁰.
    """
    norm = np.sqrt(total(np.square(x, dtype=np.float64), axis))
    exponent = np.frexp(np.maximum(norm, LEAST_NORM) * MARGIN)[1]  # norm · MARGIN < 2^exponent
    return np.ldexp(1.5, 52 + exponent - bits)


def rounded(x: Array, shift: Array, out: Array) -> Array:
    """x to the nearest multiple of u, in `out`.

    From 2⁵² u to 2⁵³ u, float64 has exactly the multiples of u.  So the addition itself rounds x + 1.5 · 2⁵² u to one,
    for |x| < 2⁵¹ u, and the subtraction is exact.  (Every zero becomes +0.)
    """
    np.add(x, shift, out=out)
    return np.subtract(out, shift, out=out)


def slices_of(x: Array, shift: Array, axis: int, bits: int, outs: Array) -> list[Array]:
    """Slices that add up to x but for the rest of the last one, the coarsest first, in the memory of `outs`.

    outs: (slices, *x.shape) float64.
    """
    rest = x
    for i, out in enumerate(outs):
        if i:
            rest = rest - outs[i - 1]  # exact; at most half a unit, so its norm is at most √n / 2 units
            shift = shift * 2.0 ** (math.frexp(math.sqrt(x.shape[axis]) / 2 * MARGIN)[1] - bits)
        rounded(rest, shift, out)
    return list(outs)


def product(rows: Sequence[Array], columns: Sequence[Array], out: Array, spare: Array | None = None) -> Array:
    """The product of two matrices given as slices, (…, m, k) @ (…, k, n) -> (…, m, n), in `out`.

    Exact for one slice each; else the sum, in a fixed order and the smallest first, of the exact products of slices
    whose numbers (0, 1, …) add up to less than the number of slices: what is left out is smaller than float64's
    rounding.  spare: memory like `out`, needed for several slices.  A BLAS may choose the sign of a zero.
    """
    count = len(rows)
    pairs = [(i, level - i) for level in reversed(range(count)) for i in range(level + 1)]
    for number, (i, j) in enumerate(pairs):
        if number == 0:
            np.matmul(rows[i], columns[j], out=out)
        else:
            assert spare is not None
            out += np.matmul(rows[i], columns[j], out=spare)
    return out


def matmul(a: Array, b: Array) -> Array:
    """a @ b with the same bits on every machine, (m, k) @ (k, n) -> (m, n), as exact as b's dtype, and in it."""
    count = SLICES[b.dtype]
    rows = slices_of(a, shift_for(a, -1, ROW_BITS), -1, ROW_BITS, np.empty((count, *a.shape)))
    columns = slices_of(b, shift_for(b, -2, COLUMN_BITS), -2, COLUMN_BITS, np.empty((count, *b.shape)))
    out, spare = np.empty((2, len(a), b.shape[1]))
    return (product(rows, columns, out, spare) + 0.0).astype(b.dtype)
