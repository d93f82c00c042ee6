"""OpenAI's endpoints: `POST /v1/embeddings` and `GET /v1/models`."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from numroberta.serving import fields
from numroberta.serving.body import dumped, numbers
from numroberta.serving.fields import Object
from numroberta.serving.job import Job
from numroberta.serving.limits import Limits
from numroberta.serving.models import Models, Served
from numroberta.serving.rows import rows_of, shaped, vectors_job


def embeddings(data: Object, models: Models, limits: Limits) -> Job:
    """`input`: a text, several, token ids, or several lists of ids; vectors of length 1."""
    served = models.named(data.get("model"))
    embedder = served.embedder(None)
    form = fields.choice(data, "encoding_format", ("float", "base64"), "float")
    dimensions = fields.whole(data, "dimensions", 1, embedder.dimension)
    cut = "right" if limits.auto_truncate else None
    rows = rows_of(fields.needed(data, "input"), "input", embedder, limits.texts, cut)
    tokens = sum(map(len, rows))

    def answer(vectors: list[NDArray[Any]]) -> bytes:
        written = [base64_of(row) if form == "base64" else numbers(row) for row in shaped(vectors, dimensions, True)]
        return embedding_list(written, served.name, tokens)

    return vectors_job(served, None, rows, answer)


def base64_of(vector: NDArray[Any]) -> str:
    """Little-endian float32 in base64, as JSON."""
    return f'"{base64.b64encode(vector.astype("<f4").tobytes()).decode()}"'


def embedding_list(written: Iterable[str], model: str, tokens: int) -> bytes:
    """OpenAI's answer, of vectors that are JSON already."""
    data = ",".join(
        f'{{"object":"embedding","index":{index},"embedding":{vector}}}' for index, vector in enumerate(written)
    )
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return b'{"object":"list","data":[%s],"model":%s,"usage":%s}' % (data.encode(), dumped(model), dumped(usage))


def model_list(models: Models) -> Object:
    return {"object": "list", "data": [model(served) for served in models]}


def model(served: Served) -> Object:
    return {"id": served.name, "object": "model", "created": served.created, "owned_by": "numroberta"}
