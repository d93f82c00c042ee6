"""LangChain: embeddings for vector stores and retrievers, and a reranker for `ContextualCompressionRetriever`.

from numroberta.adapters.langchain import NumrobertaEmbeddings
store = InMemoryVectorStore(NumrobertaEmbeddings("tiny"))
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from numroberta.adapters.lazy import encoder_of, needs, scores
from numroberta.model import TextEncoder

with needs("langchain-core"):
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.embeddings import Embeddings


@dataclass
class NumrobertaEmbeddings(Embeddings):
    """Texts and queries to lists of floats; a folder's prompts for queries and documents are put in front of them.

    Args:
        model, revision, num_threads: as in `numroberta.load`.
        normalize_embeddings, truncate_dim, batch_size: as in `TextEncoder.encode`.
    """

    model: str | os.PathLike[str] = "tiny"
    _: KW_ONLY
    revision: str | None = None
    normalize_embeddings: bool = False
    truncate_dim: int | None = None
    batch_size: int = 32
    num_threads: int | None = None

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector for each text."""
        return self._encoder().encode_document(texts, **self._options()).tolist()

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        return self._encoder().encode_query(text, **self._options()).tolist()

    def _encoder(self) -> TextEncoder:
        return encoder_of(self.model, self.revision, self.num_threads)

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("normalize_embeddings", "truncate_dim", "batch_size")}


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
        found = scores(self.model, self.revision, query, [document.page_content for document in documents])
        order = sorted(range(len(found)), key=lambda i: -found[i])[: self.top_n]
        return [
            documents[i].model_copy(update={"metadata": {**documents[i].metadata, "relevance_score": found[i]}})
            for i in order
        ]
