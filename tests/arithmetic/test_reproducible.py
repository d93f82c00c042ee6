"""The same bits whatever runs beside a text, on however many threads, on every kernel of the BLAS, and exact ones."""

import json
import mmap
import os
import subprocess
import sys

import numpy as np
import pytest
import random_model
from conftest import ROOT
from hypothesis import given, settings, strategies as st

import numroberta
from numroberta import parity, textbook

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


@pytest.mark.parametrize(
    "kernel", [pytest.param(k, marks=() if k in ("Haswell", "Nehalem") else pytest.mark.slow) for k in KERNELS]
)
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
    close = {"rtol": 0, "atol": 5e-7 if dtype == "float32" else 4e-15}  # measured: 1.6e-7, 1.3e-15
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


# --- Against 50 digits -----------------------------------------------------------------------------------------------


def in_fifty_digits(model, ids):
    """Every activation that `parity.trace` names, by mpmath: (n, d) arrays of its numbers, probabilities (h, n, n)."""
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 50
    exact = np.vectorize(lambda value: mpmath.mpf(float(value)), otypes=[object])
    weights = {name: exact(tensor) for name, tensor in model.tensors.items()}
    config, acts = model.config, {}
    power, root, tanh = (np.vectorize(f, otypes=[object]) for f in (mpmath.exp, mpmath.sqrt, mpmath.tanh))
    normal = np.vectorize(mpmath.ncdf, otypes=[object])

    def linear(name, x):
        acts[name] = x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        return acts[name]

    def layer_norm(name, x):
        centred = x - x.mean(-1, keepdims=True)
        scale = root((centred * centred).mean(-1, keepdims=True) + mpmath.mpf(config.layer_norm_eps))
        return centred / scale * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    tables = {"word": ids, "position": np.arange(len(ids)) + 2, "token_type": np.zeros_like(ids)}
    x = sum(weights[f"embeddings.{table}_embeddings.weight"][numbers] for table, numbers in tables.items())
    x = acts["embeddings"] = layer_norm("embeddings.LayerNorm", x)
    for i in range(config.num_hidden_layers):
        name = f"encoder.layer.{i}"
        shape = (len(ids), config.num_attention_heads, config.head_dim)
        q, k, v = (
            linear(f"{name}.attention.self.{part}", x).reshape(shape).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = acts[f"{name}.attention.scores"] = q @ k.swapaxes(1, 2) / mpmath.sqrt(config.head_dim)
        probs = power(scores - scores.max(-1, keepdims=True))
        probs = acts[f"{name}.attention.probs"] = probs / probs.sum(-1, keepdims=True)
        context = acts[f"{name}.attention.context"] = (probs @ v).swapaxes(0, 1).reshape(len(ids), -1)
        y = linear(f"{name}.attention.output.dense", context)
        x = acts[f"{name}.attention.output"] = layer_norm(f"{name}.attention.output.LayerNorm", x + y)
        wide = linear(f"{name}.intermediate.dense", x)
        wide = acts[f"{name}.intermediate"] = wide * normal(wide)
        x = acts[f"{name}.output"] = layer_norm(f"{name}.output.LayerNorm", x + linear(f"{name}.output.dense", wide))
    acts["pooler"] = tanh(linear("pooler.dense", x[:1]))
    return acts


def test_in_float64_every_activation_is_within_four_ulp_of_fifty_digits():
    """RMS, in units of the last place of the activation's largest element.  Measured: 0.3 to 1.5."""
    model = random_model.roberta(dtype="float64", reproducible=True)
    ids = np.array([0, 5, 17, 40, 9, 2])
    right = in_fifty_digits(model, ids)
    found = parity.trace(model, ids[None])
    assert right.keys() <= found.keys()
    errors = {}
    for name, exact in right.items():
        ours = found[name].reshape(exact.shape)
        rms = float(np.sqrt(np.mean([float(o - e) ** 2 for o, e in zip(ours.ravel(), exact.ravel(), strict=True)])))
        errors[name] = rms / np.spacing(np.abs(ours).max())
    assert max(errors.values()) <= 4


def in_the_file(array):
    """Whether an array is a view of a mapped file."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_stay_in_the_float32_file_for_either_dtype(dtype, tmp_path):
    model = numroberta.load(random_model.write(tmp_path), dtype=dtype, reproducible=True)
    assert all(map(in_the_file, model.model.exact.tensors.values()))


# --- Recordings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_recording_is_what_the_model_computes_and_agrees_with_the_textbooks(dtype, tiny):
    model = numroberta.load("tiny", dtype=dtype, reproducible=True)
    ids, mask = parity.batch(model, ["The cat sat.", "It rained all day long, and the river rose."])
    recorded = parity.trace(model, ids, mask)
    out = model.model(ids, mask, output_hidden_states=True, output_attentions=True)
    assert np.array_equal(recorded["embeddings"], out.hidden_states[0])
    for layer, (states, probs) in enumerate(zip(out.hidden_states[1:], out.attentions, strict=True)):
        assert np.array_equal(recorded[f"encoder.layer.{layer}.output"], states)
        assert np.array_equal(recorded[f"encoder.layer.{layer}.attention.probs"], probs)
    plain = parity.trace(numroberta.load("tiny", dtype=dtype), ids, mask)
    assert list(recorded) == list(plain)
    assert {name: array.shape for name, array in recorded.items()} == {name: a.shape for name, a in plain.items()}
    assert parity.compare(plain, recorded, model="tiny").alike


def test_every_head_is_recorded(tmp_path):
    for head in ("masked language model", "sequence classification", "token classification", "question answering"):
        folder = random_model.write(tmp_path / head, head, "pooler", num_labels=3)
        model = numroberta.load(folder, dtype="float64", reproducible=True)
        ids, mask = parity.batch(model, ["the sea", "on and on"])
        plain = parity.trace(numroberta.load(folder, dtype="float64"), ids, mask)
        recorded = parity.trace(model, ids, mask)
        assert list(recorded) == list(plain)
        for name, value in plain.items():
            if value.ndim == 3:
                np.testing.assert_allclose(recorded[name][mask == 1], value[mask == 1], rtol=0, atol=1e-13)
            elif value.ndim == 2:
                np.testing.assert_allclose(recorded[name], value, rtol=0, atol=1e-13)


def test_two_recordings_are_the_same_file(tmp_path):
    model = numroberta.load("tiny", reproducible=True, num_threads=1)
    for name in ("a", "b"):
        recorded = parity.trace(model, *parity.batch(model, ["Hello world", "It rained."]))
        parity.save(tmp_path / f"{name}.safetensors", recorded, parity.provenance(model, ["Hello world", "It rained."]))
    a, b = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("a", "b"))
    assert a == b
    assert np.__version__.encode() not in a[:2000]
