"""The textbook's pieces against the definitions they cite; the whole is held against PyTorch in the parity tests."""

import inspect
import math
import subprocess
import sys

import numpy as np
import pytest
import random_model
from hypothesis import given, strategies as st

from numroberta import textbook
from numroberta.checkpoint.config import RobertaConfig


def test_it_fits_a_screen_and_imports_nothing_but_numpy():
    assert len(inspect.getsource(sys.modules["numroberta.textbook.forward"]).splitlines()) <= 161
    code = "import sys, numpy; before = set(sys.modules); import numroberta.textbook; print(*set(sys.modules) - before)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    packages = {name.split(".")[0] for name in found} - set(sys.stdlib_module_names)
    assert packages <= {"numroberta", "numpy"}


@given(st.floats(-8, 8) | st.floats(allow_nan=False))
def test_erf_is_math_erf_to_1e_15(x):
    assert abs(float(textbook.erf(np.array(x))) - math.erf(x)) <= 1e-15


def test_erf_is_math_erf_on_a_fine_grid():
    x = np.linspace(-7, 7, 100_001)
    assert np.abs(textbook.erf(x) - np.vectorize(math.erf)(x)).max() <= 1e-15


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_gelu_is_x_times_the_normal_distribution_in_the_dtype_it_is_given(dtype):
    x = np.linspace(-10, 10, 4001).astype(dtype)
    exact = [float(v) * 0.5 * math.erfc(-float(v) / math.sqrt(2)) for v in x]
    found = textbook.gelu(x)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, exact, rtol=np.finfo(dtype).eps, atol=max(4e-15, np.finfo(dtype).tiny))


def test_layer_norm_gives_each_token_the_gains_spread_about_the_bias():
    x = np.random.default_rng(0).normal(5, 3, (2, 7, 64))
    weights = {"norm.weight": np.full(64, 2.0), "norm.bias": np.full(64, -1.0)}
    y = textbook.layer_norm(weights, "norm", x, 1e-12)
    np.testing.assert_allclose(y.mean(-1), -1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(y.std(-1), 2, rtol=1e-12)  # NumPy's std is the biased one


def test_layer_norm_of_equal_values_is_the_bias():
    weights = {"norm.weight": np.full(8, 2.0), "norm.bias": np.arange(8.0)}
    assert np.array_equal(textbook.layer_norm(weights, "norm", np.full((1, 8), 3.0), 1e-5), [np.arange(8.0)])


def test_softmax_is_a_distribution_in_the_order_of_its_scores_however_large_they_are():
    x = np.array([[0.0, 1.0, 2.0], [1e4, 1e4, -1e4], [-1e308, 0.0, 0.0]])
    y = textbook.softmax(x)
    np.testing.assert_allclose(y.sum(-1), 1, rtol=4e-16)  # measured: 0
    np.testing.assert_allclose(y[0], np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum(), rtol=5e-16)  # measured: 1.7e-16
    np.testing.assert_allclose(y[1:], [[0.5, 0.5, 0], [0, 0.5, 0.5]], rtol=0)


def test_positions_start_after_the_padding_id_and_skip_padding():
    positions = textbook.roberta_positions(np.array([[0, 4, 2, 1, 1], [1, 1, 0, 4, 2]]), 1)
    assert positions.tolist() == [[2, 3, 4, 1, 1], [1, 1, 2, 3, 4]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_activation_has_the_dtype_of_the_weights(dtype):
    config = RobertaConfig.from_dict(random_model.SIZES)
    out = textbook.forward(
        random_model.tensors(config, "pooler", dtype=dtype), [[0, 5, 6, 2, 1]], [[1, 1, 1, 1, 0]], num_attention_heads=4
    )
    assert {name: a.dtype for name, a in out.activations.items() if a.dtype != dtype} == {}
    assert out.last_hidden_state.shape == (1, 5, 24)
    assert out.pooler_output.shape == (1, 24)
    assert [a.shape for a in out.attentions] == [(1, 4, 5, 5)] * 3
    assert all(np.all(a[..., 4] == 0) for a in out.attentions)  # nobody looks at padding
    assert [state.shape for state in out.hidden_states] == [(1, 5, 24)] * 4
    assert out.hidden_states[-1] is out.last_hidden_state


def test_heads_are_independent_of_their_order():
    """Permuting the heads' rows of Q, K and V and the columns of the output leaves the result as it is."""
    config = RobertaConfig.from_dict(random_model.SIZES)
    weights = random_model.tensors(config, dtype=np.float64)
    permuted = dict(weights)
    rows = np.arange(24).reshape(4, 6)[[2, 0, 3, 1]].ravel()
    for layer in range(3):
        name = f"encoder.layer.{layer}.attention"
        for part in ("query", "key", "value"):
            for kind in ("weight", "bias"):
                permuted[f"{name}.self.{part}.{kind}"] = weights[f"{name}.self.{part}.{kind}"][rows]
        permuted[f"{name}.output.dense.weight"] = weights[f"{name}.output.dense.weight"][:, rows]
    ids = [[0, 9, 8, 7, 2]]
    a = textbook.forward(weights, ids, num_attention_heads=4)
    b = textbook.forward(permuted, ids, num_attention_heads=4)
    np.testing.assert_allclose(a.last_hidden_state, b.last_hidden_state, rtol=0, atol=1e-13)
    np.testing.assert_allclose(a.attentions[0][:, [2, 0, 3, 1]], b.attentions[0], rtol=0, atol=1e-14)
