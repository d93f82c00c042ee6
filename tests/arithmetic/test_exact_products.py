"""Products are exact: no order of additions, no BLAS, no fused multiplication can change a bit of them."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as npst

from numroberta.arithmetic.exact_products import COLUMN_BITS, ROW_BITS, matmul, product, rounded, shift_for, slices_of

INNER = [1, 2, 3, 64, 768, 4096]


def split(x, axis, bits, count):
    return slices_of(x, shift_for(x, axis, bits), axis, bits, np.empty((count, *x.shape)))


def units(shift):
    """The unit that each shift stands for."""
    return np.ldexp(shift / 1.5, -52)


def ordinary(rng, shape):
    return rng.standard_normal(shape)


def huge_and_tiny(rng, shape):
    """Neighbours that differ by 2^400, and every sign."""
    return rng.standard_normal(shape) * np.exp2(rng.integers(-200, 200, shape))


def denormal(rng, shape):
    return rng.integers(-9, 9, shape) * 5e-324


def with_denormals(rng, shape):
    return np.where(rng.random(shape) < 0.5, denormal(rng, shape), ordinary(rng, shape))


def all_equal(rng, shape):
    """Every element is the largest; its mantissa is all ones, so that rounding it to fewer bits carries."""
    return np.full(shape, 2.0 - 2.0**-52)


def one_outlier(rng, shape):
    x = rng.standard_normal(shape)
    x[tuple(n // 2 for n in shape)] = 1e6
    return x


def zeros(rng, shape):
    return np.zeros(shape) * rng.choice([-1.0, 1.0], shape)


def just_below_a_power(rng, shape):
    """A norm of almost 2^k, where the exponent is most easily taken one too small."""
    x = rng.standard_normal(shape)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return x * np.nextafter(1.0, 0.0)


KINDS = [ordinary, huge_and_tiny, denormal, with_denormals, all_equal, one_outlier, zeros, just_below_a_power]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inner", INNER)
def test_no_norm_exceeds_its_bits_so_no_partial_sum_exceeds_53(inner, kind):
    rng = np.random.default_rng(inner)
    for axis, bits in ((-1, ROW_BITS), (-2, COLUMN_BITS)):
        x = kind(rng, (3, inner))
        x = x if axis == -1 else x.T
        shift = shift_for(x, axis, bits)
        for part in slices_of(x, shift, axis, bits, np.empty((3, *x.shape))):
            values, unit = (part, units(shift)) if axis == -1 else (part.T, units(shift).T)
            for row, one in zip(values, unit[:, 0], strict=True):
                # A slice further down has a finer unit: the coarsest power of two that divides all its elements.
                whole = [Fraction(float(v)) / Fraction(float(one)) for v in row]
                finer = max(v.denominator for v in whole)
                norm2 = sum((v * finer) ** 2 for v in whole)
                assert norm2 <= 4**bits, "‖a‖ ≤ 2^bits units"
    assert ROW_BITS + COLUMN_BITS == 53


@pytest.mark.parametrize("row_kind", KINDS)
@pytest.mark.parametrize("column_kind", KINDS)
@pytest.mark.parametrize("inner", INNER)
def test_any_order_of_additions_gives_the_same_bits(inner, row_kind, column_kind):
    rng = np.random.default_rng(7)
    a, b = row_kind(rng, (2, inner)), column_kind(rng, (3, inner)).T
    for row in split(a, -1, ROW_BITS, 3):
        for column in split(b, -2, COLUMN_BITS, 3):
            forwards = np.add.accumulate(row[:, :, None] * column, axis=1)[:, -1]
            backwards = np.add.accumulate((row[:, :, None] * column)[:, ::-1], axis=1)[:, -1]
            order = rng.permutation(inner)
            shuffled = row[:, order] @ column[order]
            assert np.array_equal(forwards, backwards)
            assert np.array_equal(forwards, row @ column)
            assert np.array_equal(forwards, shuffled)


@given(st.data())
def test_a_product_of_one_slice_each_is_exact_for_whatever_numbers(data):
    inner = data.draw(st.integers(1, 40))
    numbers = st.floats(-(2.0**400), 2.0**400, allow_nan=False)
    a = data.draw(npst.arrays(np.float64, (2, inner), elements=numbers))
    b = data.draw(npst.arrays(np.float64, (inner, 2), elements=numbers))
    (rows,), (columns,) = split(a, -1, ROW_BITS, 1), split(b, -2, COLUMN_BITS, 1)
    y = product([rows], [columns], np.empty((2, 2)))
    for i in range(2):
        for j in range(2):
            exact = sum(Fraction(float(p)) * Fraction(float(q)) for p, q in zip(rows[i], columns[:, j], strict=True))
            assert Fraction(float(y[i, j])) == exact


@pytest.mark.parametrize("kind", [ordinary, all_equal, one_outlier, just_below_a_power])
@pytest.mark.parametrize("inner", INNER)
def test_three_slices_are_as_exact_as_float64_can_be(inner, kind):
    rng = np.random.default_rng(inner)
    a, b = kind(rng, (4, inner)), kind(rng, (5, inner)).T
    y = product(split(a, -1, ROW_BITS, 3), split(b, -2, COLUMN_BITS, 3), np.empty((4, 5)), np.empty((4, 5)))
    exact = np.array(
        [
            [float(sum(Fraction(p) * Fraction(q) for p, q in zip(r, c, strict=True))) for c in b.T.tolist()]
            for r in a.tolist()
        ]
    )
    scale = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=0)
    assert (np.abs(y - exact) / scale).max() <= 4e-16


@pytest.mark.parametrize("inner", [1, 2, 3, 64, 192, 768])
def test_one_slice_is_more_exact_than_a_sum_in_float32(inner):
    """For as many terms as a part of a layer has; of 4,096 the error is 1.7 times that of OpenBLAS's float32."""
    rng = np.random.default_rng(inner)
    a, b = rng.standard_normal((40, inner)).astype(np.float32), rng.standard_normal((inner, 40)).astype(np.float32)
    exact = a.astype(np.float64) @ b
    y = product(split(a, -1, ROW_BITS, 1), split(b, -2, COLUMN_BITS, 1), np.empty((40, 40)))
    ours, plain = (np.sqrt(np.mean((value - exact) ** 2)) for value in (y, a @ b))
    assert ours <= max(plain, 6e-8 * np.sqrt(inner))


def test_rounding_is_to_the_nearest_multiple_and_a_zero_is_positive():
    shift = np.array([[1.5 * 2.0**52]])  # unit 1
    x = np.array([[0.5, 1.5, -2.5, -0.0, 0.49, 1e9 + 0.75]])
    found = rounded(x, shift, np.empty_like(x))
    assert found.tolist() == [[0.0, 2.0, -2.0, 0.0, 0.0, 1e9 + 1]]
    assert not np.signbit(found[0, 3])


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0), (3, 0, 2), (3, 2, 0)])
def test_empty_matrices_have_products(shape):
    x = np.empty(shape)
    y = np.swapaxes(x, -1, -2)
    out = np.empty((*shape[:-1], shape[-2]))
    product(split(x, -1, ROW_BITS, 1), split(y, -2, COLUMN_BITS, 1), out)
    assert not out.any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matmul_keeps_the_dtype_and_gives_each_column_the_same_bits_alone(dtype):
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((7, 50)).astype(np.float32), rng.standard_normal((50, 9)).astype(dtype)
    y = matmul(a, b)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, a @ b, rtol=0, atol=8e-6 if dtype == "float32" else 1e-13)  # measured: 2.1e-6
    assert np.array_equal(y[:, 4:5], matmul(a, b[:, 4:5]))
    assert matmul(a, b[:, :0]).shape == (7, 0)
