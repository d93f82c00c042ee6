"""The endpoints of text-embeddings-inference (TEI) that make or compare vectors, and show its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from numroberta.arithmetic import cosine_similarity
from numroberta.model import Embedder, blocks
from numroberta.serving import fields
from numroberta.serving.body import dumped, numbers
from numroberta.serving.errors import Refused
from numroberta.serving.fields import Object
from numroberta.serving.job import Job, Kind
from numroberta.serving.limits import Limits
from numroberta.serving.models import Models, Served
from numroberta.serving.rows import Row, direction, finite, rows_of, shaped, vectors_job

Array = NDArray[Any]


def embed(data: Object, models: Models, limits: Limits) -> Job:
    """`inputs`: a text, or several; of length 1 unless `normalize` is false."""
    served, prompt_name, embedder = asked_for(data, models)
    unit = fields.flag(data, "normalize", True)
    dimensions = fields.whole(data, "dimensions", 1, embedder.dimension)
    rows = rows_of(fields.needed(data, "inputs"), "inputs", embedder, limits.texts, direction(data, limits))
    return vectors_job(served, prompt_name, rows, lambda vectors: listed(shaped(vectors, dimensions, unit)).encode())


def embed_all(data: Object, models: Models, limits: Limits) -> Job:
    """The vectors of all tokens of each text, <s> and </s> included."""
    served, _, embedder = asked_for(data, models)
    rows = rows_of(fields.needed(data, "inputs"), "inputs", embedder, limits.texts, direction(data, limits))
    tokens = [len(row) for row in rows]
    answered = sum(tokens) * served.encoder.config.hidden_size
    if answered > limits.numbers:
        raise Refused("too many", f"the answer would have {answered:,} numbers, at most {limits.numbers:,} are given")

    def run(threads: int, batch: list[Row]) -> list[Array]:
        model = served.on(threads).model
        inputs = blocks.with_positions(model, batch)
        return [finite(vectors) for vectors in model.run(inputs, lambda output: output.last_hidden_state.T.copy())]

    return Job(
        Kind((served.name, "tokens"), run), rows, tokens, lambda texts: f"[{','.join(map(listed, texts))}]".encode()
    )


def similarity(data: Object, models: Models, limits: Limits) -> Job:
    """The cosine of one sentence with each of several."""
    inputs = fields.an_object(fields.needed(data, "inputs"), "inputs")
    parameters = fields.an_object(data.get("parameters") or {}, "parameters")
    served, prompt_name, embedder = asked_for({"model": data.get("model")} | parameters, models)
    source = fields.text(fields.needed(inputs, "source_sentence"), "source_sentence")
    sentences = fields.texts(fields.needed(inputs, "sentences"), "sentences", limits.texts)
    rows = rows_of([source, *sentences], "sentences", embedder, limits.texts + 1, direction(parameters, limits))

    def answer(vectors: list[Array]) -> bytes:
        return numbers(cosine_similarity(vectors[0][None], shaped(vectors[1:], None, False))[0]).encode()

    return vectors_job(served, prompt_name, rows, answer)


def tokenize(data: Object, models: Models, limits: Limits) -> bytes:
    """What the model reads in place of each text: the tokens, and which characters they are."""
    served, _, embedder = asked_for(data, models)
    inputs = fields.needed(data, "inputs")
    texts = [fields.text(inputs, "inputs")] if isinstance(inputs, str) else fields.texts(inputs, "inputs", limits.texts)
    special = fields.flag(data, "add_special_tokens", True)
    return dumped([tokens_of(embedder.prompt + text, served, special) for text in texts])


def tokens_of(text: str, served: Served, special: bool) -> list[Object]:
    tokenizer = served.encoder.tokenizer
    read = text.lower() if served.encoder.sentence.do_lower_case else text
    encoding = tokenizer(read, add_special_tokens=special, truncation=False)
    return [
        {
            "id": number,
            "text": token if framing else text[start:stop],
            "special": bool(framing),
            "start": None if framing else start,
            "stop": None if framing else stop,
        }
        for number, token, (start, stop), framing in zip(
            encoding.ids, encoding.tokens, encoding.offsets, encoding.special_tokens_mask, strict=True
        )
    ]


def decode(data: Object, models: Models, limits: Limits) -> bytes:
    """The text of token ids, of one list or several."""
    served = models.named(data.get("model"))
    given = fields.needed(data, "ids")
    if not isinstance(given, list):
        raise fields.wrong("ids", given, "a list of token ids, or several")
    fields.check_count(given, "ids", served.encoder.max_length * limits.texts)
    rows = given if isinstance(given[0], list) else [given]
    skip = fields.flag(data, "skip_special_tokens", True)
    return dumped([decoded(row, f"ids[{index}]", served, skip) for index, row in enumerate(rows)])


def decoded(ids: object, name: str, served: Served, skip: bool) -> str:
    if not isinstance(ids, list) or any(type(number) is not int for number in ids):
        raise Refused("value", f"`{name}` is no list of token ids", param="ids")
    try:
        return served.encoder.tokenizer.decode(ids, skip_special_tokens=skip)
    except ValueError as error:
        raise Refused("vocabulary", f"`{name}`: {error}", param="ids") from None


def asked_for(data: Object, models: Models) -> tuple[Served, str | None, Embedder]:
    """The model, the name of the prompt, and what makes vectors with them."""
    served = models.named(data.get("model"))
    prompt_name = fields.optional_text(data, "prompt_name")
    return served, prompt_name, served.embedder(prompt_name)


def listed(vectors: Sequence[Array] | Array) -> str:
    return f"[{','.join(map(numbers, vectors))}]"
