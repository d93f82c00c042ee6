"""NLU's one line: its names, its columns, its levels; the vectors are those of `encode_words` and `encode`."""

import numpy as np
import pytest

pytest.importorskip("pandas")

import pandas as pd

import numroberta
from numroberta.adapters.nlu_names import NLU, understood

TEXT = "Put your text here.  It isn't long!"
TOKENS = [["Put", "your", "text", "here", "."], ["It", "isn't", "long", "!"]]


def test_one_line_gives_a_frame_of_tokens_and_their_vectors(tiny):
    frame = numroberta.predict("tiny", TEXT)
    assert list(frame.columns) == ["token", "word_embedding_tiny"]
    assert list(frame.token) == [token for sentence in TOKENS for token in sentence]
    assert list(frame.index) == [0] * 9  # NLU gives the index of the text
    wanted = np.concatenate([row.vectors for row in tiny.encode_words(TOKENS)])
    np.testing.assert_allclose(np.stack(frame.word_embedding_tiny), wanted, rtol=0, atol=1e-5)


def test_the_levels(tiny):
    vectors = [row.vectors for row in tiny.encode_words(TOKENS)]
    sentences = numroberta.predict("tiny", [TEXT, ""], output_level="sentence")
    assert list(sentences.columns) == ["sentence", "word_embedding_tiny"]
    assert list(sentences.sentence) == ["Put your text here.", "It isn't long!"]
    for found, wanted in zip(sentences.word_embedding_tiny, vectors, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    documents = numroberta.predict("tiny", [TEXT, ""], output_level="document")
    assert list(documents.document) == [TEXT, ""]
    assert [found.shape for found in documents.word_embedding_tiny] == [(9, 192), (0, 192)]
    with pytest.raises(ValueError, match="output_level='chunk', expected one of 'token', 'sentence', 'document'"):
        numroberta.predict("tiny", TEXT, output_level="chunk")


def test_embeddings_of_sentences(small_folder, small, monkeypatch):
    monkeypatch.setitem(NLU, "en.embed_sentence.small.one", str(small_folder))
    frame = numroberta.predict("en.embed_sentence.small.one", [TEXT, "Another."], "sentence")
    assert list(frame.columns) == ["sentence", "sentence_embedding_small"]
    assert list(frame.index) == [0, 0, 1]
    wanted = small.encode(["Put your text here.", "It isn't long!", "Another."])
    np.testing.assert_allclose(np.stack(frame.sentence_embedding_small), wanted, rtol=0, atol=1e-5)
    whole = numroberta.predict("embed_sentence.small.one", TEXT)
    assert list(whole.columns) == ["document", "sentence_embedding_small"]
    np.testing.assert_allclose(whole.sentence_embedding_small[0], small.encode(TEXT), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="output_level='token', expected one of 'sentence', 'document'"):
        numroberta.predict("embed_sentence.small.one", TEXT, "token")


def test_a_frame_keeps_its_index_and_its_other_columns():
    given = pd.DataFrame({"id": [10, 20, 30], "text": ["One two.", None, "Three."]}, index=["a", "b", "c"])
    frame = numroberta.predict("tiny", given)
    assert list(frame.columns) == ["id", "token", "word_embedding_tiny"]
    assert list(zip(frame.index, frame.id, frame.token, strict=True)) == [
        ("a", 10, "One"),
        ("a", 10, "two"),
        ("a", 10, "."),
        ("c", 30, "Three"),
        ("c", 30, "."),
    ]
    assert list(numroberta.predict("tiny", given.text).index) == ["a", "a", "a", "c", "c"]
    first = pd.DataFrame({"body": ["One."], "id": [1]})  # as in NLU the first column, where none is called text
    assert list(numroberta.predict("tiny", first).token) == ["One", "."]


def test_what_is_no_text_is_refused():
    for data in ({"text": ["a"]}, [7], 7):
        with pytest.raises(TypeError, match="data is "):
            numroberta.predict("tiny", data)


def test_nothing_gives_an_empty_frame():
    for nothing in ([], "", [None]):
        assert numroberta.predict("tiny", nothing).shape == (0, 2)


@pytest.mark.parametrize(
    ("name", "model", "column"),
    [
        ("en.embed.distilroberta", "distilroberta-base", "word_embedding_distilroberta"),
        ("embed.roberta.large", "roberta-large", "word_embedding_roberta"),
        ("en.embed_sentence.roberta.base", "roberta-base", "sentence_embedding_roberta"),
        ("xx.embed.xlm", "xlm-roberta-base", "word_embedding_xlm"),
        ("distilroberta_base", "distilroberta-base", "word_embedding_distilroberta_base"),  # Spark NLP's name
        ("owner/a-model", "owner/a-model", "word_embedding_a_model"),
        ("./models/mine/", "./models/mine/", "word_embedding_mine"),
    ],
)
def test_names_of_nlu_of_spark_nlp_and_of_load_are_understood(name, model, column):
    assert understood(name)[:2] == (model, column)


def test_a_name_like_nlus_that_is_not_known_gets_a_near_match():
    with pytest.raises(
        numroberta.CheckpointError, match=r"give the model's name on the hub; did you mean en.embed.rob"
    ):
        numroberta.predict("en.embed.robeta", TEXT)
    with pytest.raises(numroberta.CheckpointError, match="not among the names of NLU"):
        numroberta.predict("de.embed.bert", TEXT)
