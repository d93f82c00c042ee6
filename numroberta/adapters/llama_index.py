"""LlamaIndex: an embedding model for `Settings.embed_model` and indexes, and a reranker for query engines.

from numroberta.adapters.llama_index import NumrobertaEmbedding
index = VectorStoreIndex.from_documents(documents, embed_model=NumrobertaEmbedding(model_name="tiny"))
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from numroberta.adapters.lazy import encoder_of, needs

with needs("llama-index-core"):
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import Field
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

Floats = list[float]


class NumrobertaEmbedding(BaseEmbedding):
    """Texts and queries to lists of floats; a folder's prompts for queries and documents are put in front of them."""

    model_name: str = Field(default="tiny", description="What numroberta.load takes.")
    revision: str | None = Field(default=None, description="A branch, tag or commit on the hub.")
    num_threads: int | None = Field(default=None, description="None for all cores.")
    normalize_embeddings: bool = Field(default=False, description="Vectors of length 1.")
    truncate_dim: int | None = Field(default=None, description="Keep so many dimensions.")

    @classmethod
    def class_name(cls) -> str:
        """The name under which it is written down."""
        return "NumrobertaEmbedding"

    def _get_query_embedding(self, query: str) -> Floats:
        return self._encode("encode_query", query)

    def _get_text_embedding(self, text: str) -> Floats:
        return self._encode("encode_document", text)

    def _get_text_embeddings(self, texts: list[str]) -> list[Floats]:
        return self._encode("encode_document", texts)

    async def _aget_query_embedding(self, query: str) -> Floats:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> Floats:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Floats]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    def _encode(self, method: str, texts: str | Sequence[str]) -> Any:
        encoder = encoder_of(self.model_name, self.revision, self.num_threads)
        return getattr(encoder, method)(
            texts,
            batch_size=self.embed_batch_size,
            normalize_embeddings=self.normalize_embeddings,
            truncate_dim=self.truncate_dim,
        ).tolist()


class NumrobertaRerank(BaseNodePostprocessor):
    """The nodes that answer a query best, by a CrossEncoder, whose score they get."""

    model: str = Field(description="A folder or a name on the hub, with a head of one label.")
    revision: str | None = Field(default=None, description="A branch, tag or commit on the hub.")
    top_n: int = Field(default=2, description="How many nodes are kept.")

    @classmethod
    def class_name(cls) -> str:
        """The name under which it is written down."""
        return "NumrobertaRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("NumrobertaRerank orders nodes by a query: postprocess_nodes(nodes, query_str='…')")
        texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        best = encoder_of(self.model, self.revision).rank(query_bundle.query_str, texts)[: self.top_n]
        return [NodeWithScore(node=nodes[one["corpus_id"]].node, score=one["score"]) for one in best]
