"""LlamaIndex: its index finds what is near, what is written down comes back, a reranker orders nodes."""

import asyncio

import numpy as np
import pytest

pytest.importorskip("llama_index.core")

import random_model
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import TextNode

import numroberta
from numroberta.adapters.llama_index import NumrobertaEmbedding, NumrobertaRerank
from numroberta.arithmetic import heads

TEXTS = ["She baked bread every Sunday morning.", "Interest rates were raised again.", "The train was cancelled."]


def test_vectors_are_those_of_encode_as_plain_floats(tiny):
    model = NumrobertaEmbedding(normalize_embeddings=True, truncate_dim=9, embed_batch_size=2)
    wanted = tiny.encode(TEXTS, normalize_embeddings=True, truncate_dim=9)
    np.testing.assert_allclose(model.get_text_embedding_batch(TEXTS), wanted, rtol=0, atol=1e-6)
    for one in (model.get_text_embedding(TEXTS[0]), model.get_query_embedding(TEXTS[0])):
        assert {type(number) for number in one} == {float}
        np.testing.assert_allclose(one, wanted[0], rtol=0, atol=1e-6)


def test_it_works_asynchronously():
    model = NumrobertaEmbedding()

    async def both():
        return await model.aget_text_embedding_batch(TEXTS[:1]), await model.aget_query_embedding(TEXTS[0])

    (text,), query = asyncio.run(both())
    np.testing.assert_array_equal(text, query)


def test_it_is_written_down_and_made_again():
    written = NumrobertaEmbedding(model_name="no/such/model", truncate_dim=7).to_dict()
    again = NumrobertaEmbedding.from_dict(written)
    assert (again.model_name, again.truncate_dim) == ("no/such/model", 7)


def test_an_index_finds_what_is_near():
    index = VectorStoreIndex([TextNode(text=text) for text in TEXTS], embed_model=NumrobertaEmbedding())
    found = index.as_retriever(similarity_top_k=1).retrieve("Someone is cooking.")
    assert [node.text for node in found] == TEXTS[:1]


def test_the_reranker_orders_nodes_as_rank_does(tmp_path):
    folder = random_model.write(tmp_path / "ranker", heads.SEQUENCE, id2label={"0": "score"})
    index = VectorStoreIndex([TextNode(text=text) for text in TEXTS], embed_model=NumrobertaEmbedding())
    nodes = index.as_retriever(similarity_top_k=3).retrieve("Who baked?")
    rerank = NumrobertaRerank(model=str(folder), top_n=2)
    best = rerank.postprocess_nodes(nodes, query_str="Who baked?")
    ranked = numroberta.load(folder).rank("Who baked?", TEXTS, top_k=2, return_documents=True)
    assert [node.text for node in best] == [one["text"] for one in ranked]
    np.testing.assert_allclose([node.score for node in best], [one["score"] for one in ranked], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="NumrobertaRerank orders nodes by a query"):
        rerank.postprocess_nodes(nodes)
