"""The endpoints of text-embeddings-inference (TEI)."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from numroberta.serving import fields
from numroberta.serving.body import numbers
from numroberta.serving.fields import Object
from numroberta.serving.job import Job
from numroberta.serving.limits import Limits
from numroberta.serving.models import Models
from numroberta.serving.rows import direction, rows_of, shaped, vectors_job


def embed(data: Object, models: Models, limits: Limits) -> Job:
    """`inputs`: a text, or several; of length 1 unless `normalize` is false."""
    served = models.named(data.get("model"))
    prompt_name = fields.optional_text(data, "prompt_name")
    embedder = served.embedder(prompt_name)
    unit = fields.flag(data, "normalize", True)
    dimensions = fields.whole(data, "dimensions", 1, embedder.dimension)
    rows = rows_of(fields.needed(data, "inputs"), "inputs", embedder, limits.texts, direction(data, limits))

    def answer(vectors: list[NDArray[Any]]) -> bytes:
        return f"[{','.join(map(numbers, shaped(vectors, dimensions, unit)))}]".encode()

    return vectors_job(served, prompt_name, rows, answer)
