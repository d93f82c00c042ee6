"""LangChain: embeddings for vector stores and retrievers, and a reranker for `ContextualCompressionRetriever`.

from numroberta.adapters.langchain import NumrobertaEmbeddings
store = InMemoryVectorStore(NumrobertaEmbeddings("tiny"))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numroberta.adapters.lazy import Embeds, encoder_of, needs

with needs("langchain-core"):
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.embeddings import Embeddings


@dataclass
class NumrobertaEmbeddings(Embeds, Embeddings):
    """Texts and queries to lists of floats; a folder's prompts for queries and documents are put in front of them.

    Args:
        model, revision, num_threads: as in `numroberta.load`.
        normalize_embeddings, truncate_dim, batch_size: as in `TextEncoder.encode`.
    """

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector for each text."""
        return self._encoder().encode_document(texts, **self._options()).tolist()

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        return self._encoder().encode_query(text, **self._options()).tolist()


class NumrobertaReranker(BaseDocumentCompressor):
    """The documents that answer a query best, by a CrossEncoder, with their `relevance_score` in the metadata.

    Args:
        model, revision: as in `numroberta.load`: a folder or a name on the hub, with a head of one label.
        top_n: how many documents are kept, None for all.
    """

    model: str
    revision: str | None = None
    top_n: int | None = 3

    def compress_documents(self, documents: Sequence[Document], query: str, callbacks: Any = None) -> list[Document]:
        """The best documents, the best first."""
        texts = [document.page_content for document in documents]
        best = encoder_of(self.model, self.revision).rank(query, texts)[: self.top_n]
        return [_scored(documents[one["corpus_id"]], one["score"]) for one in best]


def _scored(document: Document, score: float) -> Document:
    return document.model_copy(update={"metadata": {**document.metadata, "relevance_score": score}})
