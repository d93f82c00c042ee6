"""Mistakes in the embeddings: position ids, table rows, the sum, its scale."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import numpy as np

from numroberta.parity.names import POSITION, TOKEN_TYPE, WORD
from numroberta.parity.steps import (
    EMBEDDED,
    Array,
    Forward,
    Inputs,
    Mistake,
    Step,
    embeddings,
    layer_norm,
    position_embeddings,
    position_ids,
)


def mistakes(inputs: Inputs) -> Iterator[Mistake]:
    yield from wrong_positions(inputs)
    yield from wrong_sums()
    yield from wrong_rows(inputs)


def wrong_positions(inputs: Inputs) -> Iterator[Mistake]:
    first = inputs.padding_idx + 1

    def positions(
        sentence: str,
        ids: Callable[[Forward], Array],
        rare: bool = False,
        scope: Literal["padding", "batch"] = "padding",
    ) -> Mistake:
        return Mistake(sentence, {POSITION: partial(position_embeddings, ids=ids)}, rare=rare, scope=scope)

    for start in (0, 1, 2, 3, 4, 5, inputs.padding_idx):
        sentence = f"position ids start at {start}; RoBERTa's start at padding_idx + 1 = {first}"
        if start != first:
            yield positions(sentence, partial(token_place, start=start), rare=start > first + 1)
            yield positions(f"{sentence}, and they count padding", partial(place, start=start), rare=start > first + 1)
    yield positions("position ids count padding; RoBERTa's count tokens only", partial(place, start=first))
    for index in (0, 2, 3):
        if index != inputs.padding_idx:
            sentence = f"the padding index is {index} in the position ids; it is {inputs.padding_idx}"
            yield positions(sentence, partial(position_ids_of, padding_idx=index), rare=index > 0)
    yield positions(
        "position ids go on from one text to the next; they start again in each", over_the_batch, scope="batch"
    )
    yield positions(
        "position ids go on from one text to the next, padding included", padded_over_the_batch, scope="batch"
    )
    yield positions("position ids are those of a batch padded on the left", padded_on_the_left)
    yield positions("position ids run backwards, from the last token to the first", backwards)
    for index, what in {first: "", 0: "", inputs.padding_idx: ", that of padding"}.items():
        yield positions(f"every position id is {index}{what}", partial(constant, index=index))
    for rows in range(first + 1, first + inputs.input_ids.shape[1]):
        yield positions(f"position ids end at {rows}: those of later tokens are {rows} too", partial(ending, last=rows))
        repeated = partial(beginning_again, period=rows - first)
        yield positions(f"position ids begin again after {rows - first}", repeated, rare=rows & (rows - 1) != 0)
    for factor in (2, 3):
        yield positions(f"position ids go up by {factor}", partial(in_steps, factor=factor), rare=True)
    yield positions("position ids are the token ids", lambda f: f.inputs.input_ids % positions_of(f), rare=True)
    for layout in ("interleaved", "halves"):
        sentence = f"positions are sinusoids, sines and cosines in {layout}; RoBERTa's are learned"
        for start in (0, 1, first):
            yield Mistake(sentence, {POSITION: partial(sinusoids, start=start, layout=layout)}, rare=start == 1)


def ending(f: Forward, last: int) -> Array:
    return np.minimum(position_ids(f), last)


def beginning_again(f: Forward, period: int) -> Array:
    ids, first = position_ids(f), f.inputs.padding_idx + 1
    return np.where(ids < first, ids, first + (ids - first) % period)


def in_steps(f: Forward, factor: int) -> Array:
    ids, first = position_ids(f), f.inputs.padding_idx + 1
    return np.where(ids < first, ids, np.minimum(first + factor * (ids - first), positions_of(f) - 1))


def positions_of(f: Forward) -> int:
    """How many positions the table has."""
    return len(f.inputs.weights[f"{POSITION}.weight"])


def place(f: Forward, start: int) -> Array:
    """start, start + 1, … along each row, padding included."""
    ids = f.inputs.input_ids
    return np.broadcast_to(np.minimum(np.arange(ids.shape[1]) + start, positions_of(f) - 1), ids.shape)


def token_place(f: Forward, start: int) -> Array:
    """The same, counting tokens only; 0 for padding."""
    return np.clip(position_ids(f) - (f.inputs.padding_idx + 1) + start, 0, positions_of(f) - 1)


def constant(f: Forward, index: int) -> Array:
    return np.full_like(f.inputs.input_ids, index)


def position_ids_of(f: Forward, padding_idx: int) -> Array:
    is_token = f.inputs.input_ids != padding_idx
    return np.minimum(padding_idx + np.cumsum(is_token, axis=1) * is_token, positions_of(f) - 1)


def over_the_batch(f: Forward) -> Array:
    is_token = f.inputs.input_ids != f.inputs.padding_idx
    counted = np.cumsum(is_token).reshape(is_token.shape) * is_token
    return np.minimum(f.inputs.padding_idx + counted, positions_of(f) - 1)


def padded_over_the_batch(f: Forward) -> Array:
    ids = f.inputs.input_ids
    return np.minimum(f.inputs.padding_idx + 1 + np.arange(ids.size).reshape(ids.shape), positions_of(f) - 1)


def padded_on_the_left(f: Forward) -> Array:
    """Counted from the left edge of a batch whose padding stands on the left."""
    shift = (~f.inputs.attention_mask.astype(bool)).sum(1, keepdims=True)
    shifted = position_ids(f) + shift * (f.inputs.input_ids != f.inputs.padding_idx)
    return np.minimum(shifted, positions_of(f) - 1)


def backwards(f: Forward) -> Array:
    ids, is_token = position_ids(f), f.inputs.input_ids != f.inputs.padding_idx
    return np.where(is_token, ids.max(1, keepdims=True) - ids + f.inputs.padding_idx + 1, ids)


def sinusoids(f: Forward, name: str, start: int, layout: str) -> Array:
    """sin(p / 10000^(2i/d)) and cos of it, (b, n) -> (b, n, d): Vaswani et al. 2017, section 3.5."""
    width = f.inputs.weights[f"{name}.weight"].shape[1]
    rates = 10000.0 ** (-np.arange(0, width, 2) / width)
    angles = place(f, start)[..., None] * rates
    parts = [np.sin(angles), np.cos(angles)]
    both = np.stack(parts, -1).reshape(*angles.shape[:2], -1) if layout == "interleaved" else np.concatenate(parts, -1)
    return both[..., :width]


def wrong_rows(inputs: Inputs) -> Iterator[Mistake]:
    rows, width = inputs.weights[f"{WORD}.weight"].shape

    def words(ids: Callable[[Array], Array]) -> dict[str, Step]:
        return {WORD: lambda f, name: f.rows(name, ids(f.inputs.input_ids) % rows)}

    for shift, what in ((1, "after"), (-1, "before")):
        yield Mistake(f"each word embedding is that of the id {what}", words(partial(np.add, shift)))
        within = partial(within_table, shift=shift, rows=rows)
        yield Mistake(f"each word embedding is that of the id {what}, within the table", words(within))
    yield Mistake(
        "each word embedding is that of another id: the ids are shifted by 3 (fairseq's special tokens)",
        words(lambda ids: ids + 3), rare=True,
    )  # fmt: skip
    for table, what in zip(EMBEDDED, ("word", "position", "token-type"), strict=True):
        for backwards in (False, True):
            step = partial(in_columns, table=table, backwards=backwards)
            yield Mistake(f"the table of {what} embeddings is read in column order", {table: step}, rare=backwards)
    yield Mistake("the word embeddings of a text are in reverse", words(lambda ids: ids[:, ::-1]), scope="padding")
    yield Mistake("every token has the word embedding of <unk>", words(lambda ids: np.full_like(ids, 3)), rare=True)
    root = width**0.5
    for factor, what in ((root, "multiplied by √d"), (1 / root, "divided by √d"), (2.0, "doubled")):
        step = partial(scaled_rows, factor=factor)
        yield Mistake(f"the word embeddings are {what}", {WORD: step})
        yield Mistake(f"the word embeddings are {what} in the sum", {"embeddings": partial(scaled_sum, word=factor)})
    for factor, what in ((root, "multiplied by √d"), (1 / root, "divided by √d")):
        yield Mistake(f"the position embeddings are {what}", {POSITION: partial(scaled_positions, factor=factor)})
    for row in range(1, len(inputs.weights[f"{TOKEN_TYPE}.weight"])):
        yield Mistake(
            f"the token type is {row}; it is 0 in every text",
            {TOKEN_TYPE: partial(of_token_type, row=row)},
        )
    yield Mistake("the token-type embedding is zero", {TOKEN_TYPE: zero})
    yield Mistake("the position embedding is zero", {POSITION: zero})


def within_table(ids: Array, shift: int, rows: int) -> Array:
    return np.clip(ids + shift, 0, rows - 1)


def in_columns(f: Forward, name: str, table: str, backwards: bool) -> Array:
    """Rows of the table whose stored numbers are taken for (d, rows); backwards: the other way round."""
    stored = f.inputs.weights[f"{table}.weight"]
    ids = {WORD: f.inputs.input_ids, POSITION: position_ids(f)}.get(table, 0 * f.inputs.input_ids)
    taken = stored.T.reshape(stored.shape) if backwards else stored.reshape(stored.shape[::-1]).T
    return taken[ids].astype(np.float64)


def of_token_type(f: Forward, name: str, row: int) -> Array:
    return f.rows(name, np.full_like(f.inputs.input_ids, row))


def zero(f: Forward, name: str) -> Array:
    return np.zeros((*f.inputs.input_ids.shape, f.inputs.weights[f"{name}.weight"].shape[1]))


def scaled_rows(f: Forward, name: str, factor: float) -> Array:
    return f.rows(name, f.inputs.input_ids) * factor


def scaled_positions(f: Forward, name: str, factor: float) -> Array:
    return position_embeddings(f, name) * factor


def scaled_sum(f: Forward, name: str, word: float = 1, position: float = 1, token_type: float = 1) -> Array:
    parts = zip(EMBEDDED, (word, position, token_type), strict=True)
    return layer_norm(f, "embeddings.LayerNorm", sum(factor * f[part] for part, factor in parts))  # type: ignore[arg-type]


def wrong_sums() -> Iterator[Mistake]:
    for part, what in zip(EMBEDDED[1:], ("position", "token-type"), strict=True):
        rest = tuple(name for name in EMBEDDED if name != part)
        yield Mistake(f"the {what} embedding is left out of the sum", {"embeddings": partial(embeddings, parts=rest)})
    yield Mistake(
        "the position and token-type embeddings are left out of the sum",
        {"embeddings": partial(embeddings, parts=(WORD,))},
    )
    for part, what in zip(EMBEDDED, ("word", "position", "token-type"), strict=True):
        twice = {"embeddings": partial(embeddings, parts=(*EMBEDDED, part))}
        yield Mistake(f"the {what} embedding is added twice", twice, rare=True)
    yield Mistake(
        "the position embedding is added after the layer norm",
        {"embeddings": lambda f, name: embeddings(f, name, parts=(WORD, TOKEN_TYPE)) + f[POSITION]},
    )
    yield Mistake("the position embedding is subtracted", {"embeddings": partial(scaled_sum, position=-1)}, rare=True)
    yield Mistake(
        "the embeddings are averaged; they are summed",
        {"embeddings": partial(scaled_sum, word=1 / 3, position=1 / 3, token_type=1 / 3)}, rare=True,
    )  # fmt: skip
