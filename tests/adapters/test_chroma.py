"""Chroma: a collection embeds with it, and finds it again when it is opened anew."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

pytest.importorskip("chromadb")

import chromadb

from numroberta.adapters.chroma import NumrobertaEmbeddingFunction

TEXTS = ["She baked bread every Sunday morning.", "Interest rates were raised again.", "The train was cancelled."]

REOPENED = """
import sys, chromadb, numroberta.adapters.chroma
collection = chromadb.PersistentClient(sys.argv[1]).get_collection("notes")
print(collection.query(query_texts=["Someone is cooking."], n_results=1)["documents"][0][0])
"""


def test_a_collection_that_another_process_reopens_finds_it(tmp_path, tiny):
    client = chromadb.PersistentClient(str(tmp_path))
    collection = client.create_collection("notes", embedding_function=NumrobertaEmbeddingFunction("tiny"))
    collection.add(ids=["1", "2", "3"], documents=TEXTS)
    stored = collection.get(include=["embeddings"])["embeddings"]
    np.testing.assert_allclose(stored, tiny.encode(TEXTS), rtol=0, atol=1e-6)
    printed = subprocess.run(
        [sys.executable, "-c", REOPENED, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert printed == f"{TEXTS[0]}\n"


def test_its_config_makes_it_again():
    function = NumrobertaEmbeddingFunction("tiny", normalize_embeddings=True, num_threads=1)
    again = NumrobertaEmbeddingFunction.build_from_config(function.get_config())
    assert again.get_config() == function.get_config()
    assert not function.is_legacy()
    np.testing.assert_allclose(np.linalg.norm(again(TEXTS), axis=1), 1, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(again.embed_query(TEXTS), again(TEXTS))
