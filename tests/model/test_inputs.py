"""What people have texts in: a Series, an array, a generator; and what they take for one."""

from datetime import datetime

import numpy as np
import pytest

TEXTS = ["A man is playing a guitar.", "", "Die Straße – naïve café"]


def pandas_series(values):
    return pytest.importorskip("pandas").Series(values, index=[7, 7, *range(len(values) - 2)])


def pandas_strings(values):
    return pytest.importorskip("pandas").Series(values, dtype="string")


def polars_series(values):
    return pytest.importorskip("polars").Series(values)


def arrow_array(values):
    return pytest.importorskip("pyarrow").array(values)


def arrow_chunks(values):
    return pytest.importorskip("pyarrow").chunked_array([values[:1], values[1:]])


def arrow_categories(values):
    return pytest.importorskip("pyarrow").array(values).dictionary_encode()


NULLABLE = [list, pandas_series, pandas_strings, polars_series, arrow_array, arrow_chunks, arrow_categories]
KINDS = [*NULLABLE, tuple, np.array, iter, lambda values: (text for text in values)]


@pytest.mark.parametrize("kind", KINDS)
def test_texts_in_anything_give_the_vectors_of_a_list(tiny, kind):
    wanted = tiny.encode(TEXTS)
    np.testing.assert_array_equal(tiny.encode(kind(TEXTS)), wanted)
    np.testing.assert_array_equal(np.concatenate(list(tiny.encode_stream(kind(TEXTS)))), wanted)


@pytest.mark.skipif(not hasattr(getattr(np, "dtypes", None), "StringDType"), reason="NumPy has StringDType from 2.0 on")
def test_numpys_own_strings_are_texts(tiny):
    np.testing.assert_array_equal(tiny.encode(np.array(TEXTS, np.dtypes.StringDType())), tiny.encode(TEXTS))


@pytest.mark.parametrize("kind", NULLABLE)
@pytest.mark.filterwarnings("ignore:precision='int8' takes each dimension's range")
@pytest.mark.parametrize("precision", ["float32", "int8", "ubinary"])
def test_what_is_missing_is_refused_by_its_place_or_filled(tiny, kind, precision):
    given = kind([*TEXTS[:2], None, TEXTS[2], None])
    with pytest.raises(
        TypeError, match=r"^sentences\[2\] is \w+, expected a string \(missing in all: 2\); missing='zero'"
    ):
        tiny.encode(given)
    vectors = tiny.encode(given, missing="zero", precision=precision)
    np.testing.assert_array_equal(vectors[[0, 1, 3]], tiny.encode(TEXTS, precision=precision))
    assert not vectors[[2, 4]].any()


def test_it_can_be_filled_with_nan(tiny):
    vectors = tiny.encode([np.nan, "a text"], missing="nan", normalize_embeddings=True)
    assert np.isnan(vectors[0]).all()
    assert vectors[1] @ vectors[1] == pytest.approx(1)
    with pytest.raises(ValueError, match="missing='nan' with precision='int8': such numbers have no NaN"):
        tiny.encode([None, "a text"], missing="nan", precision="int8")
    with pytest.raises(ValueError, match="missing='none', expected one of 'zero', 'nan', or None, which refuses them"):
        tiny.encode([None], missing="none")
    with pytest.raises(ValueError, match="missing='zero' is for one vector per text"):
        tiny.encode([None], missing="zero", output_value="token_embeddings")


def test_what_is_no_text_is_not_called_missing(tiny):
    with pytest.raises(TypeError, match=r"^sentences\[1\] is datetime, expected a string$"):
        tiny.encode(["a text", datetime(2024, 5, 1)], missing="zero")


def pandas_frame(columns):
    return pytest.importorskip("pandas").DataFrame(columns)


def polars_frame(columns):
    return pytest.importorskip("polars").DataFrame(columns)


def arrow_table(columns):
    return pytest.importorskip("pyarrow").table(columns)


@pytest.mark.parametrize("kind", [dict, pandas_frame, polars_frame, arrow_table])
def test_what_has_columns_is_refused_with_the_way_out(tiny, kind):
    frame = kind({"id": [1, 2, 3], "text": TEXTS})
    for encode in (tiny.encode, tiny.encode_stream):
        with pytest.raises(TypeError, match=r"of 'id', 'text': give the texts of one of them, sentences\['text'\]$"):
            encode(frame)
    np.testing.assert_array_equal(tiny.encode(frame["text"]), tiny.encode(TEXTS))


def test_a_series_may_have_an_item_called_columns(tiny):
    series = pytest.importorskip("pandas").Series(TEXTS, index=["columns", "column_names", "ndim"])
    np.testing.assert_array_equal(tiny.encode(series), tiny.encode(TEXTS))


def test_an_array_of_rows_is_refused(tiny):
    with pytest.raises(TypeError, match=r"sentences is an array of shape \(3, 1\), expected one dimension: ravel\(\)"):
        tiny.encode(np.array(TEXTS)[:, None])


def test_a_misspelt_argument_gets_a_near_match(tiny):
    with pytest.raises(TypeError, match=r"no argument 'normalise_embeddings'; did you mean normalize_embeddings\?"):
        tiny.encode(TEXTS, normalise_embeddings=True)
