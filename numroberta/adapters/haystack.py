"""Haystack: embedders for queries and documents, and a ranker, as components of a pipeline.

from numroberta.adapters.haystack import NumrobertaDocumentEmbedder, NumrobertaTextEmbedder
pipeline.add_component("embedder", NumrobertaTextEmbedder(model="tiny"))

Haystack 3 makes objects of its own and its partners' modules only, unless it is told:
`Pipeline.loads(yaml, allowed_modules=["numroberta.adapters.haystack"])`.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import Any

from numroberta.adapters.lazy import Embeds, encoder_of, needs

with needs("haystack-ai"):
    from haystack import Document, component, default_from_dict, default_to_dict


class _WrittenDown:
    """A component that a pipeline writes down as its arguments."""

    def to_dict(self) -> dict[str, Any]:
        """How a pipeline writes it down."""
        return default_to_dict(self, **{one.name: getattr(self, one.name) for one in fields(self)})  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        """And makes it again."""
        return default_from_dict(cls, data)


class _Embedder(Embeds, _WrittenDown):
    """What the two embedders have in common."""

    def warm_up(self) -> None:
        """Load the model, which is otherwise loaded at the first text."""
        self._encoder()


@component
@dataclass(eq=False)
class NumrobertaTextEmbedder(_Embedder):
    """A query to a vector."""

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """The vector of a text, after the folder's prompt for queries.  Raises TypeError for what is no string."""
        if not isinstance(text, str):
            raise TypeError("NumrobertaTextEmbedder takes one string; NumrobertaDocumentEmbedder takes documents")
        return {"embedding": self._encoder().encode_query(text, **self._options()).tolist()}


@component
@dataclass(eq=False)
class NumrobertaDocumentEmbedder(_Embedder):
    """Documents to the same documents with their vectors.

    meta_fields_to_embed: names in a document's `meta` whose values are put in front of its text, a line each.
    """

    meta_fields_to_embed: list[str] = field(default_factory=list)

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """The documents with their vectors, after the folder's prompt for documents.

        Raises TypeError for what is no list of documents.
        """
        if not all(isinstance(document, Document) for document in documents):
            raise TypeError("NumrobertaDocumentEmbedder takes Documents; NumrobertaTextEmbedder takes a string")
        vectors = self._encoder().encode_document(list(map(self._text, documents)), **self._options())
        given = zip(documents, vectors, strict=True)
        return {"documents": [replace(document, embedding=vector.tolist()) for document, vector in given]}

    def _text(self, document: Document) -> str:
        known = [document.meta.get(name) for name in self.meta_fields_to_embed]
        return "\n".join([*(str(value) for value in known if value is not None), document.content or ""])


@component
@dataclass(eq=False)
class NumrobertaRanker(_WrittenDown):
    """The documents that answer a query best, by a CrossEncoder, whose score they get.

    Args:
        model, revision: as in `numroberta.load`: a folder or a name on the hub, with a head of one label.
        top_k: how many documents are kept.
    """

    model: str
    _: KW_ONLY
    revision: str | None = None
    top_k: int = 10

    def warm_up(self) -> None:
        """Load the model, which is otherwise loaded at the first query."""
        encoder_of(self.model, self.revision)

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """The best documents, the best first."""
        texts = [document.content or "" for document in documents]
        best = encoder_of(self.model, self.revision).rank(query, texts)[: top_k or self.top_k]
        return {"documents": [replace(documents[one["corpus_id"]], score=one["score"]) for one in best]}
