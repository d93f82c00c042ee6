"""Any number of texts, a window at a time: identical texts once, long ones cut into parts.

A window is what is tokenized, sorted and computed together, and all that is in memory.  Where one ends depends on the
texts before it only, so a run that goes on at the end of a window makes the same windows as one that never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
T = TypeVar("T")

WINDOW = 1024  # texts; DistilRoBERTa computes them in about 20 seconds on two cores
WINDOW_CHARACTERS = 1 << 22  # and no further text where they hold so many characters
LONG = ("truncate", "split", "error")


class Window(NamedTuple):
    """A window of texts, tokenized: parts of distinct texts."""

    parts: list[list[int]]  # token ids, each at most `max_length`
    owner: list[int]  # the distinct text of each part
    which: list[int]  # the distinct text of each text
    tokens: list[int]  # of each text, uncut
    beyond: list[int]  # of each text, tokens that are not in its first part


def windows(items: Iterable[T], characters: Callable[[T], int]) -> Iterator[list[T]]:
    """Lists of up to WINDOW items, fewer where they are long; none is read before it is needed."""
    window: list[T] = []
    size = 0
    for item in items:
        window.append(item)
        size += characters(item)
        if len(window) == WINDOW or size >= WINDOW_CHARACTERS:
            yield window
            window, size = [], 0
    if window:
        yield window


def tokenized(
    texts: Sequence[str],
    encode_ids: Callable[[list[str]], list[list[int]]],
    *,
    max_length: int,
    head: int,
    split: bool,
) -> Window:
    """The parts of a window's texts.

    encode_ids: ids, uncut; `head` of them and the last one begin and end each part.  split: all of a long text, in
    parts; else its first `max_length` tokens.
    """
    numbers: dict[str, int] = {}
    which = [numbers.setdefault(text, len(numbers)) for text in texts]
    rows = encode_ids(list(numbers))
    parts: list[list[int]] = []
    owner: list[int] = []
    for number, ids in enumerate(rows):
        cut = (
            parts_of(ids, max_length, head) if split or len(ids) <= max_length else [[*ids[: max_length - 1], ids[-1]]]
        )
        parts += cut
        owner += [number] * len(cut)
    lengths = list(map(len, rows))
    return Window(
        parts,
        owner,
        which,
        [lengths[number] for number in which],
        [max(0, lengths[number] - max_length) for number in which],
    )


def parts_of(ids: list[int], size: int, head: int = 1) -> list[list[int]]:
    """Token ids in parts of at most `size`, each with the same beginning and end, neighbours sharing an eighth.

    parts_of([0, 11, 12, 13, 14, 2], 4) -> [[0, 11, 12, 2], [0, 13, 14, 2]]
    """
    if len(ids) <= size:
        return [ids]
    room = size - head - 1
    if room < 1:
        raise ValueError(f"the prompt has {head - 1} tokens, which leaves no room for text in {size}")
    body = ids[head:-1]
    shared = room // 8
    starts = range(0, len(body) - shared, room - shared)
    return [[*ids[:head], *body[start : start + room], ids[-1]] for start in starts]


def merged(vectors: Array, window: Window, skip: int) -> Array:
    """A vector for each distinct text: its parts' mean, weighted by their tokens.  (parts, d) -> (distinct texts, d)"""
    count = len(set(window.owner))
    if count == len(window.parts):  # (parts, d) is (distinct texts, d): nothing was split
        return vectors
    first = np.searchsorted(window.owner, np.arange(count + 1))
    weights = np.array([len(part) - skip for part in window.parts], vectors.dtype)
    rows = []
    for start, stop in pairwise(first):
        share = weights[start:stop] / weights[start:stop].sum()  # 1 for a text of one part: its vector as it is
        rows.append((vectors[start:stop] * share[:, None]).sum(axis=0))
    return np.stack(rows)
