"""scikit-learn: a column of texts to a matrix of vectors, in a Pipeline or a ColumnTransformer.

from numroberta.adapters.sklearn import TextVectors
make_pipeline(TextVectors("tiny"), LogisticRegression()).fit(texts, labels)
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.adapters.lazy import encoder_of, needs
from numroberta.model import Embedder

with needs("scikit-learn"):
    from sklearn.base import BaseEstimator, TransformerMixin


class TextVectors(TransformerMixin, BaseEstimator):
    """Texts to vectors, (texts,) -> (texts, dimension): `TextEncoder.encode`.

    The texts are one column: a list, an array, a Series, or a frame or array of one column.  There is nothing to fit.

    Args:
        model, revision, num_threads, deterministic: as in `numroberta.load`.
        pooling, normalize_embeddings, truncate_dim, batch_size, missing: as in `encode`.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = "tiny",
        *,
        revision: str | None = None,
        pooling: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        batch_size: int = 32,
        missing: str | None = None,
        num_threads: int | None = None,
        deterministic: bool = False,
    ):
        self.model = model
        self.revision = revision
        self.pooling = pooling
        self.normalize_embeddings = normalize_embeddings
        self.truncate_dim = truncate_dim
        self.batch_size = batch_size
        self.missing = missing
        self.num_threads = num_threads
        self.deterministic = deterministic

    def fit(self, X: Any, y: Any = None) -> TextVectors:
        """Look whether these are texts; a model is not loaded."""
        column_of(X)
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Texts to vectors, (texts, dimension)."""
        return self._encoder().encode(
            column_of(X),
            batch_size=self.batch_size,
            normalize_embeddings=self.normalize_embeddings,
            truncate_dim=self.truncate_dim,
            pooling=self.pooling,
            missing=self.missing,
        )

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """The names of the vectors' dimensions: textvectors0, textvectors1, …"""
        embedder: Embedder = self._encoder().embedder(pooling=self.pooling, truncate_dim=self.truncate_dim)
        return np.array([f"textvectors{number}" for number in range(embedder.dimension)], object)

    def _encoder(self) -> Any:
        return encoder_of(self.model, self.revision, self.num_threads, self.deterministic)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.transformer_tags.preserves_dtype = []
        return tags


def column_of(X: Any) -> Any:
    """The one column of texts in what scikit-learn passes on.

    Raises ValueError for several columns, and for a single text, which a list must hold.
    """
    if isinstance(X, str):
        raise ValueError(f"X is one text, {X[:40]!r}, expected a column of them: give a list")
    shape: tuple[int, ...] = getattr(X, "shape", ())
    if len(shape) != 2:
        return X
    if shape[1] != 1:
        raise ValueError(
            f"X has {shape[1]} columns, expected one, of texts: choose it with ColumnTransformer([('text', "
            "TextVectors(), 'its name')])"
        )
    return X.iloc[:, 0] if hasattr(X, "iloc") else X[:, 0]  # pandas; polars and NumPy
