"""LangChain: its own standard tests, its vector store, and its compression."""

import asyncio
import pickle

import numpy as np
import pytest
import random_model

pytest.importorskip("langchain_core")
pytest.importorskip("langchain_tests")

from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests.embeddings import EmbeddingsIntegrationTests
from langchain_tests.unit_tests.embeddings import EmbeddingsUnitTests

import numroberta
from numroberta.adapters.langchain import NumrobertaEmbeddings, NumrobertaReranker
from numroberta.arithmetic import heads

TEXTS = ["She baked bread every Sunday morning.", "Interest rates were raised again.", "The train was cancelled."]


class TestUnit(EmbeddingsUnitTests):
    embeddings_class = NumrobertaEmbeddings
    embedding_model_params = {"model": "tiny"}  # noqa: RUF012


@pytest.mark.asyncio
class TestStandard(EmbeddingsIntegrationTests):
    embeddings_class = NumrobertaEmbeddings
    embedding_model_params = {"model": "tiny"}  # noqa: RUF012


def test_vectors_are_those_of_encode_as_plain_floats(tiny):
    embeddings = NumrobertaEmbeddings(normalize_embeddings=True, truncate_dim=9)
    given = embeddings.embed_documents(TEXTS)
    assert {type(number) for vector in [*given, embeddings.embed_query(TEXTS[0])] for number in vector} == {float}
    np.testing.assert_array_equal(given, tiny.encode(TEXTS, normalize_embeddings=True, truncate_dim=9))
    np.testing.assert_array_equal(asyncio.run(embeddings.aembed_documents(TEXTS)), given)
    assert pickle.loads(pickle.dumps(embeddings)) == embeddings


def test_making_one_loads_nothing():
    assert NumrobertaEmbeddings("no/such/model").model == "no/such/model"


def test_a_vector_store_finds_what_is_near():
    store = InMemoryVectorStore.from_texts(TEXTS, NumrobertaEmbeddings())
    assert store.similarity_search("Someone is cooking.", k=1)[0].page_content == TEXTS[0]


def test_the_reranker_orders_documents_as_rank_does(tmp_path):
    folder = random_model.write(tmp_path / "ranker", heads.SEQUENCE, id2label={"0": "score"})
    documents = [Document(text, metadata={"n": number}) for number, text in enumerate(TEXTS)]
    best = NumrobertaReranker(model=str(folder), top_n=2).compress_documents(documents, "Who baked?")
    ranked = numroberta.load(folder).rank("Who baked?", TEXTS, top_k=2)
    assert [document.metadata["n"] for document in best] == [one["corpus_id"] for one in ranked]
    assert [document.metadata["relevance_score"] for document in best] == [one["score"] for one in ranked]
    assert "relevance_score" not in documents[0].metadata
