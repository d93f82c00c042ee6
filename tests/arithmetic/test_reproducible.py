"""The same bits whatever runs beside a text, on however many threads, on every kernel of the BLAS, and exact ones."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import random_model
from conftest import ROOT
from hypothesis import given, settings, strategies as st

import numroberta
from numroberta import textbook

DTYPES = ["float32", "float64"]
# OpenBLAS's kernels that any x86-64 processor of the last ten years runs, from SSE3 to AVX2 with FMA.
KERNELS = ["Prescott", "Nehalem", "Sandybridge", "Haswell", "Zen"]
PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")  # NumPy tells that a processor's features were switched off
import numroberta
from numroberta import parity
found = {dtype: parity.fingerprint(numroberta.load("tiny", dtype=dtype, reproducible=True)) for dtype in sys.argv[1:]}
print(json.dumps(found))
"""


def dispatched():
    """The instruction sets beyond the baseline that this build of NumPy has code for."""
    try:
        from numpy._core import _multiarray_umath
    except ImportError:  # NumPy 1
        from numpy.core import _multiarray_umath
    return " ".join(_multiarray_umath.__cpu_dispatch__)


def fingerprints(**environment):
    return json.loads(
        subprocess.run(
            [sys.executable, "-c", PROGRAM, *DTYPES],
            cwd=ROOT, env=os.environ | environment, capture_output=True, encoding="utf-8", check=True,
        ).stdout
    )  # fmt: skip


@pytest.fixture(scope="module")
def own_fingerprints():
    return fingerprints()


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_of_openblas_gives_the_same_bits(kernel, own_fingerprints):
    assert fingerprints(OPENBLAS_CORETYPE=kernel) == own_fingerprints


def test_one_thread_of_blas_gives_the_same_bits(own_fingerprints):
    assert fingerprints(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1") == own_fingerprints


def test_numpy_without_its_vector_instructions_gives_the_same_bits(own_fingerprints):
    assert fingerprints(NPY_DISABLE_CPU_FEATURES=dispatched()) == own_fingerprints


@pytest.fixture(scope="module", params=DTYPES)
def models(request):
    """The same random model with one, two and three threads, and with little memory."""
    options = [{"num_threads": 1}, {"num_threads": 2}, {"num_threads": 3}]
    return [random_model.roberta(dtype=request.param, reproducible=True, **option) for option in options]


texts = st.lists(st.lists(st.integers(3, 60), min_size=1, max_size=40), min_size=1, max_size=40)


@settings(max_examples=25)
@given(texts=texts, data=st.data())
def test_a_text_has_the_same_bits_in_any_batch_order_and_number_of_threads(models, texts, data):
    model = data.draw(st.sampled_from(models))

    def run(some):
        rows = [(np.array(row), model.position_ids(np.array(row))) for row in some]
        return model.run(rows, lambda output: output.last_hidden_state.copy(), most_texts=data.draw(st.integers(1, 40)))

    together = run(texts)
    order = data.draw(st.permutations(range(len(texts))))
    for i, states in zip(order, run([texts[i] for i in order]), strict=True):
        assert np.array_equal(states, together[i])
    one = data.draw(st.integers(0, len(texts) - 1))
    (alone,) = models[0].run(
        [(np.array(texts[one]), models[0].position_ids(np.array(texts[one])))],
        lambda output: output.last_hidden_state.copy(),
    )
    assert np.array_equal(alone, together[one])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_tokens_that_are_wanted_have_the_bits_that_all_have(dtype):
    model = random_model.roberta(dtype=dtype, reproducible=True)
    ids = np.arange(5, 45)
    row = (ids, model.position_ids(ids))
    (whole,) = model.run([row], lambda output: output.last_hidden_state.copy())
    (some,) = model.run([row], lambda output: output.last_hidden_state.copy(), wanted=[np.array([0, 7, 39])])
    assert np.array_equal(some, whole[:, [0, 7, 39]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_low_memory_gives_the_same_bits(dtype, small_folder):
    texts = ["the sea and the sand", "a", "", "on " * 30]
    plain = numroberta.load(small_folder, dtype=dtype, reproducible=True)
    frugal = numroberta.load(small_folder, dtype=dtype, reproducible=True, low_memory=True)
    assert np.array_equal(plain.encode(texts), frugal.encode(texts))


@pytest.mark.parametrize("dtype", DTYPES)
def test_hidden_states_attentions_and_the_pooled_vector_are_the_textbooks(dtype):
    model = random_model.roberta(dtype=dtype, reproducible=True)
    ids = np.array([[0, 5, 6, 7, 2], [0, 9, 2, 1, 1]])
    out = model(ids, ids != 1, output_hidden_states=True, output_attentions=True)
    weights = {name: tensor.astype(np.float64) for name, tensor in model.tensors.items()}
    right = textbook.forward(weights, ids, ids != 1, num_attention_heads=4)
    close = {"atol": 5e-7} if dtype == "float32" else {"atol": 4e-15}  # measured: 1.6e-7, 1.3e-15
    for ours, theirs in zip(out.hidden_states, right.hidden_states, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours[ids != 1], theirs[ids != 1], **close)
    for ours, theirs in zip(out.attentions, right.attentions, strict=True):
        np.testing.assert_allclose(ours[0], theirs[0], **close)
    np.testing.assert_allclose(out.pooler_output, right.pooler_output, **close)


@pytest.mark.parametrize("text", ["", "the sea"])
def test_a_batch_without_tokens_and_an_empty_text_are_computed(small_folder, text):
    enc = numroberta.load(small_folder, reproducible=True)
    assert np.isfinite(enc.encode(text)).all()
    assert enc.encode([]).shape == (0, enc.config.hidden_size)
    assert not enc.model(np.ones((2, 3), int), np.zeros((2, 3))).last_hidden_state.any()
