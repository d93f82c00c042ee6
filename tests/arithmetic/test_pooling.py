"""Token vectors to one vector, vectors of length one or of few bits, and how alike two vectors are."""

import warnings

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as npst

from numroberta.arithmetic.pooling import (
    POOLINGS,
    PRECISIONS,
    SIMILARITIES,
    cosine_similarity,
    normalize,
    pool,
    quantize,
    similarity,
    similarity_pairwise,
)

VECTORS = npst.arrays(np.float64, st.tuples(st.integers(1, 5), st.just(4)), elements=st.floats(-1e6, 1e6))


# --- Pooling -----------------------------------------------------------------------------------------------------


def by_definition(mode, tokens, skipped):
    """The formula of sentence-transformers' documentation, token by token; tokens: rows of numbers."""
    total = sum(tokens)
    if mode == "weightedmean":
        weights = [skipped + 1 + i for i in range(len(tokens))]
        return sum(weight * token for weight, token in zip(weights, tokens, strict=True)) / sum(weights)
    return {
        "mean": total / len(tokens),
        "cls": tokens[0],
        "max": np.array([max(token[k] for token in tokens) for k in range(len(total))]),
        "mean_sqrt_len_tokens": total / len(tokens) ** 0.5,
        "lasttoken": tokens[-1],
    }[mode]


@pytest.mark.parametrize("mode", POOLINGS)
@given(st.integers(1, 9), st.integers(0, 12), st.integers(0, 99))
def test_each_pooling_is_its_formula(mode, count, skip, seed):
    """A prompt's tokens are left out, never the last token."""
    x = np.random.default_rng(seed).uniform(-100, 100, (3, count))
    skipped = min(skip, count - 1)
    expected = by_definition(mode, [x[:, i] for i in range(skipped, count)], skipped)
    np.testing.assert_allclose(pool(x, [mode], skip), expected, rtol=0, atol=1e-13)  # measured: 3.2e-14


def test_several_poolings_are_joined_in_their_order():
    x = np.random.default_rng(0).uniform(-100, 100, (3, 5))
    np.testing.assert_array_equal(pool(x, ["max", "cls"]), [*pool(x, ["max"]), *pool(x, ["cls"])])


@pytest.mark.parametrize("mode", POOLINGS)
def test_a_pooled_vector_keeps_its_dtype(mode):
    assert pool(np.ones((3, 5), np.float32), [mode]).dtype == np.float32


# --- Length one, and fewer bits ----------------------------------------------------------------------------------


@given(VECTORS)
def test_normalized_vectors_have_length_one_and_zero_stays_zero(vectors):
    lengths = np.linalg.norm(vectors, axis=1)
    found = np.linalg.norm(normalize(vectors), axis=1)
    np.testing.assert_allclose(found[lengths > 1e-9], 1, rtol=0, atol=8e-16)  # measured: 2.2e-16
    assert np.all(found[(vectors == 0).all(axis=1)] == 0)


def test_normalizing_keeps_float32():
    assert normalize(np.ones((2, 3), np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("precision", "dtype", "width"),
    [
        ("float32", "float32", 21),
        ("int8", "int8", 21),
        ("uint8", "uint8", 21),
        ("binary", "int8", 3),
        ("ubinary", "uint8", 3),
    ],
)
def test_no_vectors_have_the_type_and_width_that_many_have(precision, dtype, width):
    some = np.random.default_rng(0).standard_normal((120, 21)).astype(np.float32)
    none = quantize(some[:0], precision)
    assert (none.shape, none.dtype) == ((0, width), dtype)
    assert (quantize(some, precision).shape, quantize(some, precision).dtype) == ((120, width), dtype)


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_few_vectors_are_quantized_with_a_warning_that_names_this_line(precision):
    vectors = np.random.default_rng(0).standard_normal((100, 3))
    with pytest.warns(UserWarning, match="99 are few, and others will not be comparable with them") as caught:
        quantize(vectors[:99], precision)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quantize(vectors, precision)


# --- Similarity --------------------------------------------------------------------------------------------------


@given(VECTORS, VECTORS)
def test_cosine_similarity_is_between_minus_one_and_one_and_symmetric(a, b):
    found = cosine_similarity(a, b)
    assert found.shape == (len(a), len(b))
    assert np.all(np.abs(found) <= 1 + 1e-15)  # measured: 4.4e-16
    np.testing.assert_allclose(found, cosine_similarity(b, a).T, rtol=0, atol=1e-15)  # measured: 0


def alike(name, a, b):
    """One vector and another, in Python's own floats."""
    length = sum(x * x for x in a) ** 0.5 * sum(x * x for x in b) ** 0.5
    return {
        "dot": sum(x * y for x, y in zip(a, b, strict=True)),
        "cosine": sum(x * y for x, y in zip(a, b, strict=True)) / max(length, 1e-12),
        "euclidean": -(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5),
        "manhattan": -sum(abs(x - y) for x, y in zip(a, b, strict=True)),
    }[name]


@pytest.mark.parametrize("name", SIMILARITIES)
@given(data=st.data())
def test_similarity_is_its_formula_for_every_dtype_that_encode_gives(name, data):
    """int8 embeddings are compared as floats: 127 · 127 overflows their own type."""
    dtype = data.draw(st.sampled_from(["int8", "uint8", "float32", "float64", "int64"]))
    elements = st.integers(0 if dtype == "uint8" else -128, 127)
    a, b = (data.draw(npst.arrays(dtype, (3, 16), elements=elements)) for _ in range(2))
    expected = [[alike(name, one, other) for other in b.tolist()] for one in a.tolist()]
    assert np.issubdtype(similarity(a, b, name).dtype, np.floating)
    np.testing.assert_allclose(similarity(a, b, name), expected, rtol=3e-7, atol=3e-7)  # measured: 1.0e-7
    pairs = [expected[i][i] for i in range(3)]
    np.testing.assert_allclose(similarity_pairwise(a, b, name), pairs, rtol=3e-7, atol=3e-7)  # measured: 1.0e-7


def test_no_vectors_are_alike_to_nothing():
    for name in SIMILARITIES:
        assert similarity(np.zeros((0, 4)), np.zeros((2, 4)), name).shape == (0, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: pool(np.ones((3, 2)), ["median"]),
            "pooling='median', expected one of 'mean', 'cls', 'max', 'mean_sqrt",
        ),
        (lambda: quantize(np.ones((3, 2)), "int4"), "precision='int4', expected one of 'float32', 'int8'"),
        (lambda: quantize(np.ones((1, 2)), "int8"), "precision='int8' takes .* and 1 is too few"),
        (lambda: similarity(np.ones(2), np.ones(2), "Cosine"), "function='Cosine', expected one of 'cosine', 'dot'"),
        (lambda: similarity_pairwise(np.ones(2), np.ones(2), "l2"), "function='l2', expected one of 'cosine', 'dot'"),
        (
            lambda: similarity(np.ones((2, 3)), np.ones((2, 4))),
            "vectors of 3 and of 4 dimensions: compare vectors that",
        ),
        (lambda: similarity_pairwise(np.ones((2, 3)), np.ones((3, 3))), "2 and 3 vectors, expected as many of one as"),
        (
            lambda: similarity(np.float32(1), np.ones(3)),
            r"embeddings1 has shape \(\) and dtype float32, expected numbers",
        ),
        (
            lambda: similarity(np.ones(3), ["a", "b", "c"]),
            r"embeddings2 has shape \(3,\) and dtype <U1, expected numbers",
        ),
        (lambda: similarity(np.ones((1, 1, 3)), np.ones(3)), r"embeddings1 has shape \(1, 1, 3\)"),
    ],
)
def test_what_cannot_be_computed_is_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_names_are_those_of_sentence_transformers():
    assert tuple(POOLINGS) == ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
    assert PRECISIONS == ("float32", "int8", "uint8", "binary", "ubinary")
    assert tuple(SIMILARITIES) == ("cosine", "dot", "euclidean", "manhattan")
