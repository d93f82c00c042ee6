"""What a program around Haystack needed before `numroberta.adapters.haystack`."""

from dataclasses import replace

from haystack import Document, component

import numroberta


@component
class TextVectors:
    def __init__(self, model="tiny"):
        self.model, self.enc = model, numroberta.load(model)

    @component.output_types(embedding=list[float])
    def run(self, text: str):
        return {"embedding": self.enc.encode(text).tolist()}


@component
class Vectors:
    def __init__(self, model="tiny"):
        self.model, self.enc = model, numroberta.load(model)

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]):
        vectors = self.enc.encode([document.content or "" for document in documents])
        return {"documents": [replace(d, embedding=v.tolist()) for d, v in zip(documents, vectors, strict=True)]}
