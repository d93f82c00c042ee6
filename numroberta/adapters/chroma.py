"""Chroma: an embedding function that a collection writes down and finds again, once this module is imported.

from numroberta.adapters.chroma import NumrobertaEmbeddingFunction
collection = client.create_collection("notes", embedding_function=NumrobertaEmbeddingFunction("tiny"))
"""

from __future__ import annotations

from typing import Any

from numroberta.adapters.lazy import encoder_of, needs

with needs("chromadb"):
    from chromadb import Documents, EmbeddingFunction, Embeddings
    from chromadb.utils.embedding_functions import register_embedding_function


@register_embedding_function
class NumrobertaEmbeddingFunction(EmbeddingFunction[Documents]):
    """Documents and queries to vectors; a folder's prompts for them are put in front.

    Args:
        model, revision, num_threads: as in `numroberta.load`.
        normalize_embeddings: as in `TextEncoder.encode`.
    """

    def __init__(
        self,
        model: str = "tiny",
        revision: str | None = None,
        normalize_embeddings: bool = False,
        num_threads: int | None = None,
    ):
        self.model, self.revision, self.num_threads = model, revision, num_threads
        self.normalize_embeddings = normalize_embeddings

    def __call__(self, input: Documents) -> Embeddings:
        return list(self._encoder().encode_document(input, normalize_embeddings=self.normalize_embeddings))

    def embed_query(self, input: Documents) -> Embeddings:
        """The vectors of queries."""
        return list(self._encoder().encode_query(input, normalize_embeddings=self.normalize_embeddings))

    def _encoder(self) -> Any:
        return encoder_of(self.model, self.revision, self.num_threads)

    @staticmethod
    def name() -> str:
        """The name under which collections know it."""
        return "numroberta"

    def default_space(self) -> Any:
        """How a collection compares vectors unless it says otherwise."""
        return "cosine"

    def get_config(self) -> dict[str, Any]:
        """What a collection writes down."""
        return {
            "model": self.model,
            "revision": self.revision,
            "normalize_embeddings": self.normalize_embeddings,
            "num_threads": self.num_threads,
        }

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> NumrobertaEmbeddingFunction:
        """And makes it again from."""
        return NumrobertaEmbeddingFunction(**config)
