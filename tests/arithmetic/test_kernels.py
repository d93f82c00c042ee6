"""The kernels compute in place what the textbook computes, quietly, from the smallest numbers to the largest."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as npst

from numroberta import textbook
from numroberta.arithmetic import kernels
from numroberta.arithmetic.kernels import BLOCK, Scratch

FLOATS = [np.float32, np.float64]
EXTREMES = [0.0, 1e-45, -1e-45, 1e-30, -1e-30, 4.5, -4.5, 6.0, -6.0, -13.0, 40.0, -40.0, 1e4, -1e4, 1e30, -1e30, 3e38]


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def gelu(x, bias=None):
    """bias_gelu of a copy of x, any shape."""
    wide = np.atleast_2d(x).copy()
    bias = np.zeros((len(wide), 1), wide.dtype) if bias is None else bias
    kernels.bias_gelu(wide, bias, Scratch(wide.dtype))
    return wide.reshape(np.shape(x))


@pytest.mark.parametrize("dtype", FLOATS)
def test_gelu_is_x_times_the_normal_distribution(dtype):
    x = np.linspace(-15, 15, 60_001).astype(dtype)
    exact = np.array([float(v) * 0.5 * math.erfc(-float(v) / math.sqrt(2)) for v in x])
    error = np.abs(gelu(x) - exact)
    # Measured: 6.5e-7 in float32; PyTorch's float32 has 3.7e-7 over the same range.
    assert (error / np.maximum(1, np.abs(x))).max() <= {np.float32: 3e-7, np.float64: 2e-15}[dtype]


def test_gelu_in_float32_has_a_smaller_rms_error_than_one_rounding_of_its_result():
    x = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    error = gelu(x) - textbook.gelu(x.astype(np.float64))
    assert np.sqrt(np.mean(error**2)) <= 5.4e-8  # measured: 3.6e-8; PyTorch's own float32: 5.4e-8


@pytest.mark.parametrize("dtype", FLOATS)
def test_gelu_keeps_large_values_and_drops_very_negative_ones(dtype):
    x = np.array(EXTREMES, dtype)
    y = gelu(x)
    assert np.all(np.isfinite(y))
    assert np.array_equal(y[x >= 13], x[x >= 13])
    assert np.all(np.abs(y[x <= -13]) < 1e-36)
    assert y[0] == 0


@pytest.mark.parametrize("dtype", FLOATS)
def test_gelu_lets_infinity_and_nan_through(dtype):
    assert gelu(np.array([np.inf], dtype))[0] == np.inf
    assert np.isnan(gelu(np.array([np.nan], dtype))[0])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, BLOCK + 1), (BLOCK // 8 + 1, 16), (7, 5000)])
def test_gelu_adds_the_bias_and_reaches_every_block(shape, dtype):
    rng = np.random.default_rng(1)
    x, bias = rng.standard_normal(shape).astype(dtype), rng.standard_normal((shape[0], 1)).astype(dtype)
    # measured: 4.8e-7
    np.testing.assert_allclose(
        gelu(x, bias), textbook.gelu(x + bias), rtol=0, atol=1e-6 if dtype == np.float32 else 1e-14
    )


@given(
    st.sampled_from(FLOATS).flatmap(
        lambda dtype: npst.arrays(
            dtype, st.tuples(*[st.integers(1, 5)] * 3), elements=st.floats(-80, 80, width=np.dtype(dtype).itemsize * 8)
        )
    )
)
def test_softmax_divided_by_its_sums_is_the_textbooks(scores):
    expected = textbook.softmax(scores.swapaxes(1, 2)).swapaxes(1, 2)
    sums = kernels.softmax(scores)  # in place
    np.testing.assert_allclose(scores / sums, expected, rtol=1e-5 if scores.dtype == np.float32 else 1e-13, atol=1e-30)


def test_softmax_survives_scores_that_no_exponential_could_hold():
    scores = np.array([[[1e30], [-1e30], [1e30]]], np.float32)
    sums = kernels.softmax(scores)
    assert (scores / sums).ravel().tolist() == [0.5, 0, 0.5]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (768, 1), (768, 100), (33, 700)])
def test_layer_norm_is_the_textbooks_column_by_column(shape, dtype):
    rng = np.random.default_rng(2)
    x = rng.normal(0.5, 3, shape).astype(dtype)
    gain, bias = rng.standard_normal((2, shape[0], 1)).astype(dtype)
    weights = {"norm.weight": gain[:, 0].astype(np.float64), "norm.bias": bias[:, 0].astype(np.float64)}
    expected = textbook.layer_norm(weights, "norm", x.T.astype(np.float64), 1e-5).T
    kernels.layer_norm(x, gain, bias, 1e-5)
    np.testing.assert_allclose(x, expected, rtol=0, atol=5e-6 if dtype == np.float32 else 1e-13)  # measured: 1.6e-6


def test_layer_norm_keeps_its_precision_far_from_zero():
    """A mean a thousand times the spread: one pass over x and x² would be wrong by 0.03."""
    x = np.random.default_rng(3).normal(1000, 1, (768, 4))
    expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    y = x.astype(np.float32)
    kernels.layer_norm(y, np.ones((768, 1), np.float32), np.zeros((768, 1), np.float32), 1e-5)
    np.testing.assert_allclose(y, expected, rtol=0, atol=2e-3)  # measured: 8e-4


@pytest.mark.parametrize("dtype", FLOATS)
def test_layer_norm_of_equal_and_of_huge_values_is_finite(dtype):
    for value in (0.0, 7.0, 1e4):
        x = np.full((16, 3), value, dtype)
        kernels.layer_norm(x, np.ones((16, 1), dtype), np.full((16, 1), 0.25, dtype), 1e-5)
        np.testing.assert_allclose(x, 0.25, rtol=0, atol=1e-6)


def test_scratch_memory_is_used_again_and_grows():
    scratch = Scratch(np.float32)
    first = scratch("a", (4, 5))
    assert (first.shape, first.dtype) == ((4, 5), np.float32)
    assert np.shares_memory(first, scratch("a", (3, 2)))
    assert not np.shares_memory(first, scratch("b", (4, 5)))
    assert scratch("a", (100, 2)).shape == (100, 2)


@given(st.data())
def test_a_product_is_the_product_however_its_sums_and_rows_are_cut(data):
    out, inner, columns = (data.draw(st.sampled_from(sizes)) for sizes in ([0, 1, 31, 90], [1, 7, 90], [0, 1, 16, 70]))
    weight = np.random.default_rng(out).standard_normal((out, inner + 3))[:, 1:-2]  # rows that do not touch, as slices
    x = np.random.default_rng(inner).standard_normal((inner, columns))
    piece, small = data.draw(st.integers(1, 100)), data.draw(st.sampled_from([0, 64, 500, 10_000, 10**6]))
    y = kernels.product(weight, x, piece, small, Scratch(np.float64), "y")
    assert y.shape == (out, columns)
    assert np.abs(y - weight @ x).max(initial=0) <= 1e-12  # measured: 4e-14


@pytest.mark.parametrize("small", [0, 1_000, 100_000, 10**6])
def test_a_stack_of_products_is_the_same_in_blocks_of_rows(small):
    keys = np.random.default_rng(0).standard_normal((3, 8, 137)).swapaxes(1, 2)  # (heads, keys, d), as attention has it
    queries = np.random.default_rng(1).standard_normal((3, 8, 41))
    out = np.empty((3, 137, 50))[..., 4:45]
    assert np.abs(kernels.matmul(keys, queries, out, small) - keys @ queries).max() <= 1e-12  # measured: 4e-15


def test_rows_at_a_time_cost_no_precision_where_sums_are_long():
    """The context of 512 keys: one chain would be twice as far off where BLAS has kernels for small products."""
    rng = np.random.default_rng(0)
    values, weights = rng.random((12, 64, 512), np.float32), rng.random((12, 512, 32), np.float32)
    exact = values.astype(np.float64) @ weights.astype(np.float64)
    plain, by_rows = (kernels.matmul(values, weights, np.empty_like(exact, np.float32), n) for n in (0, 1_000_000))
    error, least = (np.sqrt(np.mean((found / exact - 1) ** 2)) for found in (by_rows, plain))
    assert error <= 1.3 * least  # measured, with AVX-512: 1.0; a chain of 512: 2.0


def test_column_sums_in_float32_are_nearer_than_adding_one_after_the_other():
    """RMS error over 2,000 columns, measured: 3.0e-5 against 1.6e-4."""
    x = np.random.default_rng(0).random((768, 2000), np.float32)
    exact = x.sum(axis=0, dtype=np.float64)

    def rms(sums):
        return np.sqrt(np.mean((sums - exact) ** 2))

    assert rms(kernels.column_sums(x)) <= rms(np.add.reduce(x, axis=0)) / 2
    squares = np.square(x, dtype=np.float64).sum(axis=0)
    np.testing.assert_allclose(kernels.column_sums(x, squared=True), squares, rtol=8e-7)  # measured: 2.1e-7


@pytest.mark.parametrize(("inner", "stacked"), [(kernels.CHAIN, True), (kernels.CHAIN + 1, False)])
def test_no_float32_sum_of_more_products_than_a_chain_may_have_is_added_up_one_after_the_other(
    inner, stacked, monkeypatch
):
    """Only those kernels do so that read small products where they lie, which get them as a stack."""
    ranks, matmul = [], np.matmul
    monkeypatch.setattr(np, "matmul", lambda a, b, **options: ranks.append(a.ndim) or matmul(a, b, **options))
    a, b = np.ones((64, inner), np.float32), np.ones((inner, 4), np.float32)
    y = kernels.matmul(a, b, np.empty((64, 4), np.float32), small=8 * inner * 4)
    assert (max(ranks) > 2) == stacked
    assert (y == inner).all()
