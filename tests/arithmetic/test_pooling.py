"""Vectors of length one, and their similarity."""

import numpy as np
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as npst

from numroberta.arithmetic.pooling import cosine_similarity, normalize

VECTORS = npst.arrays(np.float64, st.tuples(st.integers(1, 5), st.just(4)), elements=st.floats(-1e6, 1e6))


@given(VECTORS)
def test_normalized_vectors_have_length_one_and_zero_stays_zero(vectors):
    lengths = np.linalg.norm(vectors, axis=1)
    found = np.linalg.norm(normalize(vectors), axis=1)
    np.testing.assert_allclose(found[lengths > 1e-9], 1)  # measured: 2.2e-16
    assert np.all(found[(vectors == 0).all(axis=1)] == 0)


def test_normalizing_keeps_float32():
    assert normalize(np.ones((2, 3), np.float32)).dtype == np.float32


@given(VECTORS, VECTORS)
def test_cosine_similarity_is_between_minus_one_and_one_and_symmetric(a, b):
    found = cosine_similarity(a, b)
    assert found.shape == (len(a), len(b))
    assert np.all(np.abs(found) <= 1 + 1e-12)
    np.testing.assert_allclose(found, cosine_similarity(b, a).T, atol=1e-12)
