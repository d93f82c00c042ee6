"""Sums, exp, gelu, tanh, softmax and layer norm in fixed order compute what their names say."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as npst

from numroberta import textbook
from numroberta.arithmetic import fixed_order
from numroberta.arithmetic.kernels import Scratch

FLOATS = [np.float32, np.float64]


@given(npst.arrays(np.float64, npst.array_shapes(min_dims=2, max_dims=3, max_side=40), elements=st.floats(-9, 9)))
def test_a_total_is_the_sum_over_either_axis(x):
    for axis in (-1, -2):
        found = fixed_order.total(x, axis)
        assert found.shape == np.sum(x, axis=axis, keepdims=True).shape
        np.testing.assert_allclose(found, np.sum(x, axis=axis, keepdims=True), rtol=0, atol=1e-12)


def test_a_total_adds_in_the_order_that_is_promised():
    """((a + c) + e) + (b + d), for five; float64 can tell: 1e16 swallows a 1."""
    a, b, c, d, e = 1e16, 1.0, -1e16, 1.0, 1.0
    assert fixed_order.total(np.array([[a, b, c, d, e]]), -1) == ((a + c) + e) + (b + d)
    assert fixed_order.total(np.array([[a, b, c, d, e]]).T, -2) == ((a + c) + e) + (b + d)


def test_a_total_of_float32_is_added_up_in_float64():
    x = np.array([[1e8, 1.0, -1e8, 1.0]], np.float32)
    assert fixed_order.total(x, -1) == 2.0


def test_a_total_of_nothing_is_zero():
    assert fixed_order.total(np.empty((3, 0)), -1).tolist() == [[0.0]] * 3
    assert fixed_order.total(np.empty((0, 3)), -2).tolist() == [[0.0] * 3]


def test_a_total_does_not_depend_on_the_neighbours():
    x = np.random.default_rng(0).standard_normal((77, 200))
    whole = fixed_order.total(x, -2)
    for columns in (slice(0, 1), slice(13, 14), slice(5, 100)):
        assert np.array_equal(fixed_order.total(x[:, columns].copy(), -2), whole[:, columns])


def relative_error(found, function, x):
    with mpmath.workdps(50):
        exact = [function(mpmath.mpf(float(v))) for v in x]
        return max(abs((mpmath.mpf(float(f)) - e) / e) for f, e in zip(found, exact, strict=True) if e)


def test_exp_is_exact_to_float64s_rounding():
    x = np.concatenate([np.linspace(-700, 700, 999), np.linspace(-1, 1, 999), [0.0, -0.0, 1e-300]])
    assert relative_error(fixed_order.exp(x), mpmath.exp, x) <= 4e-16  # measured: 2.9e-16


def test_exp_ends_in_finite_numbers_and_lets_nan_through():
    found = fixed_order.exp(np.array([-np.inf, -1e300, -708.0, 709.0, 1e300, np.nan]))
    assert np.all(found[:3] == found[2])
    assert 0 < found[2] < 1e-307
    assert 1e307 < found[3] == found[4] < np.inf
    assert np.isnan(found[5])


def test_tanh_keeps_its_digits_near_zero():
    x = np.concatenate([np.linspace(-30, 30, 999), np.geomspace(1e-300, 1, 500), -np.geomspace(1e-300, 1, 500)])
    assert relative_error(fixed_order.tanh(x), mpmath.tanh, x) <= 9e-16  # measured: 5.8e-16
    assert fixed_order.tanh(np.array([-1e30, 1e30])).tolist() == [-1.0, 1.0]


def test_sigmoid():
    x = np.linspace(-40, 40, 999)
    assert relative_error(fixed_order.sigmoid(x), lambda v: 1 / (1 + mpmath.exp(-v)), x) <= 1e-15  # measured: 5e-16


@pytest.mark.parametrize(("precision", "most"), [(np.float32, 1.2e-7), (np.float64, 1e-15)])
def test_gelu_is_x_times_the_normal_distribution(precision, most):
    x = np.linspace(-15, 15, 60_000).reshape(300, 200)
    exact = np.array([v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in x.ravel()]).reshape(x.shape)
    y = x.copy()
    fixed_order.gelu(y, Scratch(np.float64), np.dtype(precision))
    assert (np.abs(y - exact) / np.maximum(1, np.abs(x))).max() <= most  # measured: 4.0e-8, 4.4e-16


@pytest.mark.parametrize("precision", FLOATS)
def test_gelu_keeps_large_values_and_drops_very_negative_ones(precision):
    y = np.array([[0.0, 5e-324, 40.0, 1e30, 1e150, -40.0, -1e30, -1e150]])
    x = y.copy()
    fixed_order.gelu(y, Scratch(np.float64), np.dtype(precision))
    assert np.array_equal(y[0, [0, 2, 3, 4]], x[0, [0, 2, 3, 4]])
    assert np.all(np.abs(y[0, 5:]) < 1e-100)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axis", [-1, 0])
def test_softmax_is_the_textbooks(axis, dtype):
    x = np.random.default_rng(1).normal(0, 5, (6, 50)).astype(dtype)
    found = fixed_order.softmax(x, axis)
    assert found.dtype == dtype
    expected = np.moveaxis(textbook.softmax(np.moveaxis(x.astype(np.float64), axis, -1)), -1, axis)
    np.testing.assert_allclose(found, expected, rtol=2e-7 if dtype == np.float32 else 4e-15)


def test_layer_norm_is_the_textbooks_column_by_column():
    rng = np.random.default_rng(2)
    x = rng.normal(0.5, 3, (77, 30))
    gain, bias = rng.standard_normal((2, 77, 1))
    weights = {"norm.weight": gain[:, 0], "norm.bias": bias[:, 0]}
    expected = textbook.layer_norm(weights, "norm", x.T, 1e-5).T
    fixed_order.layer_norm(x, gain, bias, 1e-5)
    np.testing.assert_allclose(x, expected, rtol=0, atol=4e-15)  # measured: 1.8e-15


def test_a_mean_keeps_the_dtype():
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert fixed_order.mean(x, 1).tolist() == [1.5, 5.5, 9.5]
    assert fixed_order.mean(x, 1).dtype == np.float32
