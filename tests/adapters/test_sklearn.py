"""scikit-learn: `TextVectors` is a transformer like its own, in whatever a pipeline may do with one."""

import inspect
import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from numroberta.adapters.sklearn import TextVectors

TEXTS = ["A man is playing a guitar.", "Someone sang a song.", "The band played loudly."] * 2 + [
    "The stock market fell.",
    "Interest rates were raised.",
    "The bank sold its bonds.",
] * 2
MUSIC = [1] * 6 + [0] * 6


def test_it_passes_what_scikit_learn_checks_of_text_estimators():
    """check_estimator knows no text input, and skips what fits an estimator: those checks that need no X are run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", estimator_checks.SkipTestWarning)
        found = estimator_checks.check_estimator(TextVectors(), on_fail=None)
    assert {check["status"] for check in found} == {"passed"}
    for name in (
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
        "check_do_not_raise_errors_in_init_or_set_params",
        "check_estimator_repr",
        "check_valid_tag_types",
        "check_mixin_order",
    ):
        getattr(estimator_checks, name)("TextVectors", TextVectors())


def as_frame(texts):
    return pytest.importorskip("pandas").DataFrame({"text": texts})


def as_polars(texts):
    return pytest.importorskip("polars").DataFrame({"text": texts})


@pytest.mark.parametrize(
    "kind",
    [
        list,
        np.array,
        lambda texts: np.array(texts, object)[:, None],
        as_frame,
        lambda texts: as_frame(texts)["text"],
        as_polars,
        lambda texts: as_polars(texts)["text"],
    ],
)
def test_one_column_may_come_as_anything(tiny, kind):
    np.testing.assert_array_equal(TextVectors().fit_transform(kind(TEXTS)), tiny.encode(TEXTS))


@pytest.mark.parametrize(
    ("option", "value"),
    [("pooling", "cls"), ("normalize_embeddings", True), ("truncate_dim", 7), ("batch_size", 2), ("missing", "zero")],
)
def test_options_are_those_of_encode(tiny, option, value):
    texts = [*TEXTS, None] if option == "missing" else TEXTS
    vectors = TextVectors(**{option: value}).fit_transform(texts)
    np.testing.assert_allclose(vectors, tiny.encode(texts, **{option: value}), rtol=0, atol=1e-6)


def test_every_argument_is_a_parameter_that_travels():
    options = {name: object() for name in list(inspect.signature(TextVectors).parameters)}
    assert TextVectors(**options).get_params() == options
    assert clone(TextVectors(truncate_dim=7)).truncate_dim == 7
    assert len(pickle.dumps(TextVectors().fit(TEXTS))) < 500


def test_what_is_no_column_of_texts_is_refused():
    with pytest.raises(ValueError, match=r"X is one text, 'A man is playing a guitar\.', expected a column"):
        TextVectors().fit_transform(TEXTS[0])
    with pytest.raises(ValueError, match="X has 2 columns, expected one, of texts: choose it with ColumnTransformer"):
        TextVectors().fit_transform(np.array(TEXTS).reshape(-1, 2))


def test_a_frame_comes_out_with_names_and_the_index_where_it_is_asked_for():
    texts = as_frame(TEXTS).set_index(np.arange(len(TEXTS)) * 2)
    frame = TextVectors(truncate_dim=3).set_output(transform="pandas").fit_transform(texts)
    assert list(frame.columns) == ["textvectors0", "textvectors1", "textvectors2"]
    assert list(frame.index) == list(texts.index)


def test_a_frame_of_polars_comes_out_where_it_is_asked_for(tiny):
    frame = TextVectors(truncate_dim=3).set_output(transform="polars").fit_transform(as_polars(TEXTS))
    assert frame.columns == ["textvectors0", "textvectors1", "textvectors2"]
    np.testing.assert_allclose(frame.to_numpy(), tiny.encode(TEXTS, truncate_dim=3), rtol=0, atol=1e-6)


def test_a_pipeline_learns_from_it():
    model = make_pipeline(TextVectors(), LogisticRegression()).fit(TEXTS, MUSIC)
    assert list(model.predict(["They play the guitar.", "Markets fell."])) == [1, 0]


@pytest.mark.parametrize("column", ["text", ["text"]])
def test_beside_numbers_in_a_column_transformer(tiny, column):
    frame = as_frame(TEXTS).assign(size=np.arange(len(TEXTS), dtype=float))
    both = ColumnTransformer([("text", TextVectors(), column), ("size", StandardScaler(), ["size"])])
    assert both.fit_transform(frame).shape == (len(TEXTS), tiny.get_sentence_embedding_dimension() + 1)
    assert list(both.get_feature_names_out()[[0, -1]]) == ["text__textvectors0", "size__size"]


@pytest.mark.slow
def test_a_grid_search_takes_it_to_two_processes():
    search = GridSearchCV(
        make_pipeline(TextVectors(num_threads=1), LogisticRegression()),
        {"textvectors__pooling": ["mean", "max"]},
        n_jobs=2,
        cv=2,
        error_score="raise",
    ).fit(TEXTS, MUSIC)
    assert search.best_score_ > 0.9
