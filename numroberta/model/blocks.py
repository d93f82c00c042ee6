"""Any number of texts, a block at a time: identical texts once, long ones in windows.

A block is what is tokenized, sorted and computed together, and all that is in memory.  Where one ends depends on the
texts before it only, so a run that goes on at the end of a block makes the same blocks as one that never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import Roberta, TextInput, fixed_order
from numroberta.tokenizer import Encoding, overlapping_windows

Array = NDArray[Any]
T = TypeVar("T")

BLOCK = 1024  # texts; DistilRoBERTa computes them in about 20 seconds on two cores
BLOCK_CHARACTERS = 1 << 22  # and no further text where they hold so many characters


class Block(NamedTuple):
    """Texts that are tokenized and run together: the windows of distinct texts, and which of them each text has."""

    windows: list[list[int]]  # token ids, each at most `max_length`
    owner: list[int]  # the distinct text of each window
    which: list[int]  # the distinct text of each text
    tokens: list[int]  # of each text, uncut
    beyond: list[int]  # of each text, tokens that are not in its first window


def blocks(items: Iterable[T], characters: Callable[[T], int]) -> Iterator[list[T]]:
    """Lists of up to BLOCK items, fewer where they are long; no item is taken before it is needed."""
    block: list[T] = []
    size = 0
    for item in items:
        block.append(item)
        size += characters(item)
        if len(block) == BLOCK or size >= BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block


def characters(text: object) -> int:
    """The length of what may be a text or a pair of texts, or neither, which is for somebody else to say."""
    return len(str(text))


def tokenized(
    texts: Sequence[str],
    encode_ids: Callable[[list[str]], list[list[int]]],
    *,
    max_length: int,
    head: int,
    tail: int,
    split: bool,
) -> Block:
    """A block of texts.

    Args:
        texts: the texts, of which equal ones are tokenized once.
        encode_ids: gives the ids of texts, uncut.
        max_length: the most ids of a window.
        head, tail: so many ids of each text begin and end each of its windows: <s> and a prompt, and </s>.
        split: cut a long text into windows that hold all of it; else it has one, of its first tokens.
    """
    numbers: dict[str, int] = {}
    which = [numbers.setdefault(text, len(numbers)) for text in texts]
    distinct = encode_ids(list(numbers))
    rows: list[list[int]] = []
    owner: list[int] = []
    for number, ids in enumerate(distinct):
        if len(ids) <= max_length:
            cut = [ids]
        elif split:
            cut = windows_of(ids, max_length, head, tail)
        else:
            cut = [[*ids[: max_length - tail], *ids[len(ids) - tail :]]]
        rows += cut
        owner += [number] * len(cut)
    tokens = [len(distinct[number]) for number in which]
    return Block(rows, owner, which, tokens, [max(0, count - max_length) for count in tokens])


def windows_of(ids: list[int], size: int, head: int = 1, tail: int = 1) -> list[list[int]]:
    """Token ids in windows of at most `size`, each with the same beginning and end; neighbours share an eighth.

    >>> windows_of([0, 11, 12, 13, 14, 2], 4)
    [[0, 11, 12, 2], [0, 13, 14, 2]]
    """
    room = size - head - tail
    if room < 1:
        raise ValueError(f"the prompt has {head - 1} tokens, which leaves no room for text in {size}")
    end = len(ids) - tail
    body = ids[head:end]
    spans = overlapping_windows(len(body), room, room // 8)
    return [[*ids[:head], *body[start:stop], *ids[end:]] for start, stop in spans]


def merged(vectors: Array, block: Block, skip: int) -> Array:
    """A vector for each distinct text: the mean of its windows, weighted by their tokens but for the first `skip`.

    vectors: (windows, d) -> (distinct texts, d); a text of one window keeps its vector as it is.
    """
    first = np.searchsorted(block.owner, np.arange(max(block.owner) + 2))
    weights = np.array([len(window) - skip for window in block.windows], vectors.dtype)
    rows = []
    for start, stop in pairwise(first):
        share = weights[start:stop] / weights[start:stop].sum()  # 1 for a text of one window
        rows.append(fixed_order.total(vectors[start:stop] * share[:, None], 0)[0].astype(vectors.dtype))
    return np.stack(rows)


def with_positions(model: Roberta, ids: Iterable[Sequence[int]]) -> list[TextInput]:
    """Token ids, each with its positions, as `Roberta.run` takes them."""
    rows = [np.asarray(row, np.int64) for row in ids]
    return [(row, model.position_ids(row)) for row in rows]


def with_types(model: Roberta, encodings: Iterable[Encoding]) -> list[TextInput]:
    """The same of encodings, with the types of their tokens, which tell BERT the texts of a pair apart."""
    encodings = list(encodings)
    rows = with_positions(model, (encoding.ids for encoding in encodings))
    return [(*row[:2], np.array(encoding.type_ids, np.int64)) for row, encoding in zip(rows, encodings, strict=True)]
