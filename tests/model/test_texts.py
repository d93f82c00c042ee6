"""Whatever is wrong with a text is said of the right one; texts, pairs, words and what is no text are told apart."""

import numpy as np
import pytest

from numroberta.model import blocks

HALF = "half \ud83d of it"
LONG = "the inner sand and " * 40


def texts_with(wrong, index, count):
    """As many texts as wanted, most of them the same one, and a wrong one among them."""
    return ["the sand"] * index + [wrong] + ["the sand"] * (count - index - 1)


# --- Which text -----------------------------------------------------------------------------------------------------


def masked(text):
    return f"{text} <mask>" if isinstance(text, str) else text


# How each method takes several texts, and what it calls them.
SEVERAL = {
    "encode": (lambda model, texts: model.encode(texts), "sentences"),
    "encode tokens": (lambda model, texts: model.encode(texts, output_value="token_embeddings"), "sentences"),
    "encode_stream": (lambda model, texts: list(model.encode_stream(iter(texts))), "sentences"),
    "encode_query": (lambda model, texts: model.encode_query(texts), "sentences"),
    "fill_mask": (
        lambda model, texts: model.fill_mask([f"{t} <mask>" if isinstance(t, str) else t for t in texts]),
        "text",
    ),
    "classify": (lambda model, texts: model.classify(texts), "texts"),
    "tag": (lambda model, texts: model.tag(texts), "text"),
}


@pytest.mark.parametrize("index", [3, 20])
@pytest.mark.parametrize("method", SEVERAL)
@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (HALF, ValueError, r"has a lone surrogate, '\\ud83d', at character 5: it is half a character"),
        (None, TypeError, "is NoneType, expected a string"),
        (7, TypeError, "is int, expected a string"),
        (["the", "sand"], TypeError, "is (a )?list"),
        (b"the sand", TypeError, "is bytes, expected a string"),
    ],
)
def test_a_message_about_a_text_names_the_callers_index(model_with, method, index, wrong, error, message, monkeypatch):
    """Though texts repeat, which are computed once, and blocks have passed."""
    monkeypatch.setattr(blocks, "BLOCK", 8)
    call, name = SEVERAL[method]
    with pytest.raises(error, match=rf"^{name}\[{index}\] {message}"):
        call(model_with(method.split()[0]), texts_with(wrong, index, index + 5))


def test_the_place_of_half_a_character_is_that_in_the_text_whatever_is_in_front_of_it(small):
    with pytest.raises(ValueError, match=r"^sentences\[0\] has a lone surrogate, .* at character 5"):
        small.encode([HALF], prompt="query: ")
    with pytest.raises(ValueError, match=r"^prompt has a lone surrogate, .* at character 5"):
        small.encode(["the sand"], prompt=HALF)


def test_a_long_text_is_refused_by_its_own_index(small, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 8)
    texts = texts_with(LONG, 20, 25)
    with pytest.raises(ValueError, match=r"^sentences\[20\] has \d+ tokens, and 64 fit: \"truncate\" or \"split\""):
        list(small.encode_stream(texts, long="error"))


def test_a_text_without_a_mask_is_named(model_with):
    with pytest.raises(ValueError, match=r"^text\[1\]: no <mask> in 'no gap here'"):
        model_with("fill_mask").fill_mask(["a <mask>", "no gap here"])
    with pytest.raises(ValueError, match=r"^text\[1\]: .* has \d+ tokens, this model reads 64: give a part of it"):
        model_with("fill_mask").fill_mask(["a <mask>", "<mask> " + LONG])


def test_a_word_is_named_by_its_text_and_its_place(small):
    for words, message in [
        ([["a"], ["b", None]], r"^words\[1\]\[1\] is NoneType, expected a string"),
        ([["a"], ["b", "c d"]], r"^words\[1\]\[1\] is 'c d', which has white space in it"),
        ([["a"], ["b", HALF]], r"^words\[1\]\[1\] has a lone surrogate"),
        ([["a"], "b"], r"^words\[1\] is a string among lists"),
        (["a", HALF], r"^words\[1\] has a lone surrogate"),
        (HALF, "^words has a lone surrogate"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            small.encode_words(words)


# --- What kind ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        (
            "encode",
            ([["Anna", "went"]],),
            r"sentences\[0\] is list, expected a string; a list of words becomes a text by",
        ),
        ("encode", ([("a", "b")],), r"sentences\[0\] is tuple, expected a string"),
        ("encode", (np.array("a text"),), "sentences is a 0-dimensional array, expected a string or a list of strings"),
        ("encode", (None,), "sentences is NoneType, expected a string or a list of strings"),
        ("encode_stream", (None,), "sentences is NoneType, expected a string or a list of strings"),
        ("encode_tokens", (None,), "text is NoneType, expected a string"),
        ("encode_tokens", (["a", "b"],), "text is list, expected a string; a list of words becomes a text by"),
        ("encode_words", (None,), "words is NoneType, expected a string or a list of strings"),
        ("tag", ([["Anna", "went"]],), r"text\[0\] is list, expected a string; a list of words becomes a text by"),
        ("tag", ([("a", "b")],), r"text\[0\] is tuple, expected a string"),
        ("tag", ([{"text": "a"}],), r"text\[0\] is dict, expected a string"),
        ("tag", (None,), "text is NoneType, expected a string or a list of strings"),
        ("fill_mask", (None,), "text is NoneType, expected a string or a list of strings"),
        ("fill_mask", ([("a <mask>", "b")],), r"text\[0\] is tuple, expected a string"),
        ("fill_mask", ([{"text": "a <mask>"}],), r"text\[0\] is dict, expected a string"),
        ("fill_mask", ("a <mask>", 5, [3]), r"targets\[0\] is int, expected a string"),
        ("classify", ([["a", "b"]],), r"texts\[0\] is a list: a pair is a tuple, \(text, text\), and a list of words"),
        ("classify", ((1, "b"),), r"texts\[0\] is int, expected a string"),
        ("classify", ([("a", "b"), ("a", None)],), r"texts\[1\]\[1\] is NoneType, expected a string"),
        ("classify", ({"text": None},), r"texts\['text'\] is NoneType, expected a string"),
        ("classify", (None,), "texts is NoneType, expected a string or a list of strings"),
        ("answer", (None, "the sand"), "question is NoneType, expected a string"),
        ("answer", ("Where?", ["the sand"]), "context is list, expected a string"),
    ],
)
def test_what_is_no_text_is_called_by_its_kind(model_with, method, arguments, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        list(getattr(model_with(method), method)(*arguments))


def test_a_string_is_one_text_everywhere(small, model_with):
    """Not a list of characters."""
    (block,) = small.encode_stream("the sand")
    np.testing.assert_array_equal(block, small.encode(["the sand"]))
    assert model_with("tag").tag("the sand") == model_with("tag").tag(["the sand"])[0]
    labelled = model_with("tag").tag("the sand", "simple", ignore_labels="MISC")
    assert labelled == model_with("tag").tag("the sand", "simple", ignore_labels=["MISC"])


# --- What number, what name -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "arguments", "options", "error", "message"),
    [
        ("encode", (["a"],), {"batch_size": None}, TypeError, "batch_size=None, expected a whole number, at least 1"),
        ("encode", (["a"],), {"batch_size": 1.5}, TypeError, "batch_size=1.5, expected a whole number, at least 1"),
        (
            "encode",
            (["a"],),
            {"truncate_dim": "64"},
            TypeError,
            "truncate_dim='64', expected a whole number, at least 1",
        ),
        ("encode", (["a"],), {"prompt": 3}, TypeError, "prompt is int, expected a string"),
        ("encode", (["a"],), {"prompt_name": 3}, TypeError, "prompt_name is int, expected a string"),
        ("encode", (["a"],), {"pooling": ["mean"]}, ValueError, r"pooling=\['mean'\], expected one of 'mean', 'cls'"),
        ("encode", (["a"],), {"pooling": 3}, ValueError, "pooling=3, expected one of 'mean', 'cls'"),
        ("encode", (["a"],), {"precision": None}, ValueError, "precision=None, expected one of 'float32', 'int8'"),
        (
            "encode_stream",
            (["a"],),
            {"long": None},
            ValueError,
            "long=None, expected one of 'truncate', 'split', 'error'",
        ),
        ("encode_tokens", ("a",), {"layers": None}, TypeError, "layers=None, expected numbers from -4 to 3"),
        ("encode_tokens", ("a",), {"layers": ["1"]}, TypeError, r"layers=\['1'\], expected numbers from -4 to 3"),
        ("encode_words", ("a",), {"batch_size": 0}, ValueError, "batch_size=0, expected at least 1"),
        ("fill_mask", ("<mask>",), {"top_k": None}, TypeError, "top_k=None, expected a whole number, at least 1"),
        ("fill_mask", ("<mask>",), {"targets": 3}, TypeError, "targets is int, expected a string or a list of strings"),
        ("classify", ("a",), {"top_k": "2"}, TypeError, "top_k='2', expected a whole number, at least 1"),
        ("classify", ("a",), {"batch_size": 0}, ValueError, "batch_size=0, expected at least 1"),
        ("tag", ("a",), {"batch_size": 0}, ValueError, "batch_size=0, expected at least 1"),
        ("tag", ("a",), {"stride": 62, "aggregation": "simple"}, ValueError, "stride=62, expected 0 to 61"),
        ("tag", ("a",), {"ignore_labels": None}, TypeError, "ignore_labels is NoneType, expected a string or a list"),
        ("answer", ("a", "b"), {"top_k": None}, TypeError, "top_k=None, expected a whole number, at least 1"),
        (
            "answer",
            ("a", "b"),
            {"max_seq_len": "40"},
            TypeError,
            "max_seq_len='40', expected a whole number, at least 1",
        ),
        ("answer", ("a", "b"), {"doc_stride": -1}, ValueError, "doc_stride=-1, expected at least 0"),
        ("similarity", (np.ones((1, 24)), np.ones((1, 192))), {}, ValueError, "vectors of 24 and of 192 dimensions"),
        ("similarity_pairwise", (1.0, np.ones(3)), {}, ValueError, r"embeddings1 has shape \(\)"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_expected(model_with, method, arguments, options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        getattr(model_with(method), method)(*arguments, **options)


@pytest.mark.parametrize(
    ("length", "error", "message"),
    [
        (None, TypeError, "max_seq_length=None, expected a whole number, 3 to 64"),
        ("64", TypeError, "max_seq_length='64', expected a whole number, 3 to 64"),
        (2, ValueError, "max_seq_length=2, expected 3 to 64"),
        (1, ValueError, "max_seq_length=1, expected 3 to 64"),
        (65, ValueError, "max_seq_length=65, expected 3 to 64"),
    ],
)
def test_a_length_without_room_for_a_token_is_refused(small, length, error, message):
    """<s>, a token and </s> are 3."""
    with pytest.raises(error, match=message):
        small.max_seq_length = length
    assert small.max_seq_length == 64
