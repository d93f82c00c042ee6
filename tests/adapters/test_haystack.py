"""Haystack: components that run in a pipeline and survive being written to YAML."""

import numpy as np
import pytest

pytest.importorskip("haystack")

import random_model
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore

import numroberta
from numroberta.adapters.haystack import NumrobertaDocumentEmbedder, NumrobertaRanker, NumrobertaTextEmbedder
from numroberta.arithmetic import heads

TEXTS = ["She baked bread every Sunday morning.", "Interest rates were raised again.", "The train was cancelled."]


def test_vectors_are_those_of_encode_as_plain_floats(tiny):
    options = {"normalize_embeddings": True, "truncate_dim": 9}
    documents = [Document(content=text) for text in TEXTS]
    found = NumrobertaDocumentEmbedder(**options).run(documents)["documents"]
    query = NumrobertaTextEmbedder(**options).run(TEXTS[0])["embedding"]
    wanted = tiny.encode(TEXTS, **options)
    np.testing.assert_allclose([document.embedding for document in found], wanted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(query, wanted[0], rtol=0, atol=1e-6)
    assert {type(number) for number in [*query, *found[0].embedding]} == {float}
    assert [document.id for document in found] == [document.id for document in documents]
    assert documents[0].embedding is None


def test_fields_of_a_document_are_put_in_front_of_its_text(tiny):
    document = Document(content=TEXTS[0], meta={"title": "Bread", "page": 3, "author": None})
    found = NumrobertaDocumentEmbedder(meta_fields_to_embed=["title", "author", "page"]).run([document])
    wanted = tiny.encode(f"Bread\n3\n{TEXTS[0]}")
    np.testing.assert_allclose(found["documents"][0].embedding, wanted, rtol=0, atol=1e-6)


def test_what_belongs_to_the_other_embedder_is_refused():
    with pytest.raises(TypeError, match="NumrobertaDocumentEmbedder takes documents"):
        NumrobertaTextEmbedder().run([Document(content="a")])
    with pytest.raises(TypeError, match="NumrobertaTextEmbedder takes a string"):
        NumrobertaDocumentEmbedder().run("a")


def test_a_pipeline_finds_what_is_near_also_after_a_round_trip_through_yaml():
    store = InMemoryDocumentStore()
    store.write_documents(NumrobertaDocumentEmbedder().run([Document(content=text) for text in TEXTS])["documents"])
    pipeline = Pipeline()
    pipeline.add_component("embedder", NumrobertaTextEmbedder("tiny", batch_size=7))
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=1))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    for asked in (pipeline, Pipeline.loads(pipeline.dumps(), allowed_modules=[numroberta.adapters.haystack.__name__])):
        found = asked.run({"embedder": {"text": "Someone is cooking."}})["retriever"]["documents"]
        assert [document.content for document in found] == TEXTS[:1]
        assert asked.get_component("embedder").batch_size == 7


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (NumrobertaTextEmbedder, {"truncate_dim": 3, "num_threads": 1}),
        (NumrobertaDocumentEmbedder, {"revision": "v1", "meta_fields_to_embed": ["title"]}),
        (NumrobertaRanker, {"top_k": 3}),
    ],
)
def test_a_component_comes_back_from_its_dict_without_a_model_being_loaded(kind, options):
    written = kind(model="no/such/model", **options).to_dict()
    assert kind.from_dict(written).to_dict() == written
    assert written["init_parameters"].items() >= {"model": "no/such/model", **options}.items()


def test_warming_up_loads_the_model():
    for kind in (NumrobertaTextEmbedder, NumrobertaDocumentEmbedder, NumrobertaRanker):
        with pytest.raises(numroberta.CheckpointError, match="no/such/model"):
            kind(model="./no/such/model").warm_up()


def test_the_ranker_orders_documents_as_rank_does(tmp_path):
    folder = random_model.write(tmp_path / "ranker", heads.SEQUENCE, id2label={"0": "score"})
    best = NumrobertaRanker(str(folder), top_k=2).run("Who baked?", [Document(content=text) for text in TEXTS])
    ranked = numroberta.load(folder).rank("Who baked?", TEXTS, top_k=2, return_documents=True)
    assert [document.content for document in best["documents"]] == [one["text"] for one in ranked]
    np.testing.assert_allclose(
        [document.score for document in best["documents"]], [one["score"] for one in ranked], rtol=1e-7
    )
