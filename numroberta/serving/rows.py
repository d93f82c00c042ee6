"""The texts of a request as token ids, cut or refused where they are too long; and the job of making their vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import normalize
from numroberta.model import Embedder, blocks
from numroberta.serving import fields
from numroberta.serving.errors import Refused
from numroberta.serving.fields import Object
from numroberta.serving.job import Job, Kind
from numroberta.serving.limits import Limits
from numroberta.serving.models import Served

Array = NDArray[Any]
Row = list[int]
DIRECTIONS = ("Right", "Left", "right", "left")


def direction(data: Object, limits: Limits) -> str | None:
    """Which end of a text that is too long is cut off, "right" or "left"; None: neither, it is refused."""
    cut = fields.choice(data, "truncation_direction", DIRECTIONS, "right").lower()
    return cut if fields.flag(data, "truncate", limits.auto_truncate) else None


def rows_of(given: object, name: str, embedder: Embedder, most: int, cut: str | None) -> list[Row]:
    """The ids of a text, or of several; each may be given as its ids already.

    Raises Refused for what is neither, and for a text that is too long if `cut` is None.
    """
    items = [given] if isinstance(given, str) or _is_ids(given) else given
    if not isinstance(items, list):
        raise fields.wrong(name, given, "a string, token ids, or a list of these")
    fields.check_count(items, name, most)
    named = [name if items[0] is given else f"{name}[{index}]" for index in range(len(items))]
    strings = [fields.text(item, where) for item, where in zip(items, named, strict=True) if not _is_ids(item)]
    tokenized = iter(embedder.ids(strings))
    rows = [
        framed(item, where, embedder) if _is_ids(item) else next(tokenized)
        for item, where in zip(items, named, strict=True)
    ]
    return [fitting(row, where, embedder, cut) for row, where in zip(rows, named, strict=True)]


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and type(value[0]) is int


def framed(ids: list[Any], name: str, embedder: Embedder) -> Row:
    """Ids as a client sent them, with <s> (and the prompt) before and </s> behind, where they are not there yet."""
    most = embedder.encoder.config.vocab_size
    for number in ids:
        if type(number) is not int:
            raise fields.wrong(name, number, "token ids only")
        if not 0 <= number < most:
            raise Refused(
                "vocabulary",
                f"`{name}` has the token id {number}, this model's end at {most - 1:,}: send text, not the ids of "
                "another vocabulary",
                param=name,
            )
    before, after = embedder.encoder.tokenizer.around
    if ids[: len(before)] == before and ids[len(ids) - len(after) :] == after and len(ids) >= len(before + after):
        ids = ids[len(before) : len(ids) - len(after)]
    empty = embedder.ids([""])[0] if embedder.prompt else [*before, *after]
    return [*empty[: embedder.head], *ids, *after]


def fitting(ids: Row, name: str, embedder: Embedder, cut: str | None) -> Row:
    """Ids that the model can read: those of a longer text are cut on the right or left, or refused."""
    most, head, tail = embedder.encoder.max_length, embedder.head, embedder.tail
    if len(ids) <= most:
        return ids
    if cut is None:
        raise Refused(
            "too long",
            f"`{name}` must have at most {most} tokens, it has {len(ids):,}: shorten it, or let it be truncated",
            param=name,
        )
    if head + tail >= most:
        raise Refused("too long", f"the prompt alone has {head} tokens, the model reads {most}")
    if cut == "right":
        return [*ids[: most - tail], *ids[len(ids) - tail :]]
    return [*ids[:head], *ids[len(ids) - (most - head) :]]


def vectors_job(
    served: Served, prompt_name: str | None, rows: Sequence[Row], answer: Callable[[list[Array]], bytes]
) -> Job:
    """A vector for each row of ids, (dimension,), neither cut nor normalized yet."""

    def run(threads: int, batch: list[Row]) -> list[Array]:
        embedder = served.embedder(prompt_name, threads)
        index = list(range(len(batch)))
        tokens = [len(row) for row in batch]
        return list(finite(embedder.compute(blocks.Block(batch, index, index, tokens, [0] * len(batch)))))

    return Job(Kind((served.name, "vectors", prompt_name), run), rows, [len(row) for row in rows], answer)


def finite(vectors: Array) -> Array:
    """Vectors that are numbers; a broken checkpoint's are not, and JSON has no word for that."""
    if not np.isfinite(vectors).all():
        raise ArithmeticError("the model gives numbers that are not finite")
    return vectors


def shaped(vectors: list[Array], dimensions: int | None, unit: bool) -> Array:
    """Vectors with their first dimensions alone, of length 1 if asked for; as `encode` does it."""
    stacked = np.stack(vectors)[:, :dimensions]
    return normalize(stacked) if unit else stacked
