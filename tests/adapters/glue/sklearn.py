"""What a program around scikit-learn needed before `numroberta.adapters.sklearn`."""

from sklearn.base import BaseEstimator, TransformerMixin

import numroberta


class Vectors(BaseEstimator, TransformerMixin):
    def __init__(self, model="tiny"):
        self.model = model

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        if not hasattr(self, "_enc"):
            self._enc = numroberta.load(self.model)
        return self._enc.encode(list(X))

    def get_feature_names_out(self, names=None):
        return [f"v{i}" for i in range(numroberta.load(self.model).get_sentence_embedding_dimension())]
