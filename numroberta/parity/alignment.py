"""Which texts of the reference's batch mine holds, and where its padding is: the reference, rearranged to fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.files import Recording
from numroberta.parity.layouts import arrangements
from numroberta.parity.loss import NO_LABEL
from numroberta.parity.measure import counted, distance
from numroberta.parity.names import EMBEDDING, INPUT, LABELS, LOSS, POOLED, WORD, in_order, is_gradient, is_of_tensor

Array = NDArray[Any]

MOST_TOKENS = 1024  # in a text; no RoBERTa reads more
EMPTY = {"input_ids": 1, LABELS: NO_LABEL}  # what padding has, if not 0
LIKE_THAT = 0.1  # the error from which a tensor is taken for another one
NOWHERE = -1  # the column of the reference from which padding comes that the reference does not have


def aligned(reference: Recording, mine: Recording) -> tuple[Recording, str]:
    """The reference with the texts and the padding of mine, and a note on what had to be done; as it is if that fits.

    Mine may hold some of the texts, or have been padded to another length or on the other side.
    """
    ids = reference.tensors.get("input_ids")
    both = (reference.tensors.keys() & mine.tensors.keys()) - {*INPUT, LOSS}
    shared = sorted((name for name in both if not is_gradient(name)), key=in_order)
    if ids is None or ids.ndim != 2:
        return reference, ""
    mask = reference.tensors.get("attention_mask", np.ones_like(ids)) != 0
    theirs = mine.tensors.get("input_ids")
    if theirs is not None and theirs.ndim == 2 and theirs.shape != ids.shape:
        found = by_tokens(ids, mask, theirs)
        if found:
            rows, columns = found
            return rearranged(reference, rows, columns), note(rows, columns, reference)
    if all(fits(reference, mine, name) for name in shared):
        return padded_on_the_left(reference, mine, shared, mask) or (reference, "")
    best, least = None, (sum(not fits(reference, mine, name) for name in shared), np.inf)
    needed = {*shared, *INPUT} & reference.tensors.keys()
    compared = Recording({name: reference.tensors[name] for name in needed}, reference.metadata)
    for rows, columns in selections(mask, reference, mine, shared):
        candidate = rearranged(compared, rows, columns)
        badness = sum(not fits(candidate, mine, name) for name in shared), error(candidate, mine, shared)
        if badness[0] < least[0] or (badness[0] == least[0] and badness[1] < least[1] and least[1] < np.inf):
            best, least = (rows, columns), badness
    return (rearranged(reference, *best), note(*best, reference)) if best else (reference, "")


def padded_on_the_left(
    reference: Recording, mine: Recording, shared: Sequence[str], mask: Array
) -> tuple[Recording, str] | None:
    """The reference with its padding on the left, if that makes the first of mine's activations the right one."""
    first = next((name for name in shared if reference.tensors[name].shape[:2] == mask.shape), None)
    if first is None or mask.all() or mine.tensors[first].shape != reference.tensors[first].shape:
        return None
    rows = list(range(len(mask)))
    columns = padded(mask, rows, mask.shape[1], left=True)
    needed = {first, *INPUT} & reference.tensors.keys()
    moved = rearranged(Recording({name: reference.tensors[name] for name in needed}), rows, columns)
    errors = []
    for recording, tokens in ((reference, mask), (moved, columns != NOWHERE)):
        where = counted(first, recording.tensors[first].shape, tokens)
        errors.append(distance(mine.tensors[first], recording.tensors[first], where))
    if errors[1] > LIKE_THAT or errors[0] < LIKE_THAT:
        return None
    return rearranged(reference, rows, columns), "mine is padded on the left"


def by_tokens(ids: Array, mask: Array, theirs: Array) -> tuple[list[int], Array] | None:
    """The rows and columns of the reference where the tokens of mine stand, or None if mine has others."""
    padding = ids[~mask][0] if not mask.all() else 1
    rows, columns = [], np.full(theirs.shape, NOWHERE)
    for number, row in enumerate(theirs):
        places = np.flatnonzero(row != padding)
        same = [i for i in range(len(ids)) if np.array_equal(ids[i, mask[i]], row[places])]
        if not same:
            return None
        rows.append(same[0])
        columns[number, places] = np.flatnonzero(mask[same[0]])
    return rows, columns


def widths(reference: Recording, mine: Recording, shared: Sequence[str]) -> set[int]:
    """How many tokens wide mine's batch may be, by the size of each tensor of all texts."""
    found = set()
    for name in shared:
        shape, size = reference.tensors[name].shape, mine.tensors[name].size
        if len(shape) == 3 and size % (shape[0] * shape[2]) == 0:
            found.add(size // (shape[0] * shape[2]))
    return {width for width in found if width <= MOST_TOKENS}


def selections(
    mask: Array, reference: Recording, mine: Recording, shared: Sequence[str]
) -> Iterator[tuple[list[int], Array]]:
    """Rows and columns that mine may hold: all texts padded otherwise, each text alone, the first few."""
    count, width = mask.shape
    for wider in sorted(n for n in widths(reference, mine, shared) if n > mask.sum(1).max() and n != width):
        for left in (False, True):
            columns = padded(mask, range(count), wider, left)
            if not tokens_in_padding(mine, columns):
                yield list(range(count)), columns
    for i in range(count):
        yield [i], padded(mask, [i], int(mask[i].sum()), left=False)
        yield [i], padded(mask, [i], width, left=False)
    for few in range(2, count):
        rows = list(range(few))
        yield rows, padded(mask, rows, width, left=False)
        yield rows, padded(mask, rows, int(mask[rows].sum(1).max()), left=False)


def tokens_in_padding(mine: Recording, columns: Array) -> bool:
    """Whether mine has different word embeddings where it is said to have padding: those are tokens."""
    words = mine.tensors.get(WORD)
    if words is None or words.shape[:2] != columns.shape or words.ndim != 3:
        return False
    padding = words[columns == NOWHERE]
    return bool(np.all(np.isfinite(padding)) and np.ptp(padding, axis=0).any())


def padded(mask: Array, rows: Sequence[int], width: int, left: bool) -> Array:
    """For each place of a batch of this width the reference's column, (rows, width)."""
    columns = np.full((len(rows), width), NOWHERE)
    for number, row in enumerate(rows):
        places = np.flatnonzero(mask[row])
        start = width - len(places) if left else 0
        columns[number, start : start + len(places)] = places[:width]
    return columns


def rearranged(reference: Recording, rows: Sequence[int], columns: Array) -> Recording:
    """The recording of these texts, with these columns; padding that it does not have is 0."""
    ids = reference.tensors["input_ids"]
    count, width = ids.shape
    mask = reference.tensors.get("attention_mask", np.ones_like(ids)) != 0
    here, at = columns != NOWHERE, np.maximum(columns, 0)
    numbers = np.arange(len(rows))[:, None]

    def of(name: str, array: Array) -> Array:
        if array.shape[:2] == (count, width) and not name.startswith(POOLED) and name != EMBEDDING:
            taken = array[rows][numbers, at]  # (b, n, …) -> (rows, width, …)
            empty = EMPTY.get(name, 0)
            if name == "input_ids" and not mask.all():
                empty = ids[~mask][0]
            return np.where(here.reshape(*here.shape, *[1] * (array.ndim - 2)), taken, empty).astype(array.dtype)
        if array.ndim == 4 and array.shape[0] == count and array.shape[2:] == (width, width):
            taken = array[rows].transpose(0, 2, 3, 1)[numbers[..., None], at[:, :, None], at[:, None, :]]
            both = here[:, :, None] & here[:, None, :]
            return np.where(both[..., None], taken, 0).transpose(0, 3, 1, 2).astype(array.dtype)
        return array[rows] if len(array) == count else array

    whole = list(rows) == list(range(count))  # a loss is of all texts together, and so are its gradients
    kept = {n: array for n, array in reference.tensors.items() if whole or not (is_gradient(n) or n == LOSS)}
    tensors = {name: array if name == LOSS or is_of_tensor(name) else of(name, array) for name, array in kept.items()}
    tensors.setdefault("attention_mask", here.astype(np.int64))
    tensors["attention_mask"] = np.where(here, mask[rows][numbers, at], 0).astype(np.int64)
    return Recording(tensors, reference.metadata, reference.bfloat16)


def fits(reference: Recording, mine: Recording, name: str) -> bool:
    """Whether one transpose and reshape of mine has the reference's shape."""
    here, there = reference.tensors[name], mine.tensors[name]
    if here.shape == there.shape or here.shape[here.ndim - there.ndim :] == there.shape:
        return True
    mask = reference.tensors.get("attention_mask")
    heads = next((array.shape[1] for array in reference.tensors.values() if array.ndim == 4), None)
    if here.size != there.size and mask is None:
        return False
    real = np.ones(here.shape[:2], bool) if mask is None else mask != 0
    return bool(arrangements(here.shape, there.shape, heads, real))


def error(reference: Recording, mine: Recording, names: Sequence[str]) -> float:
    """How far the first tensor that has the reference's size is from it."""
    for name in names:
        here, there = reference.tensors[name], mine.tensors[name]
        if here.size == there.size and here.size:
            return float(np.sqrt(np.mean(np.square(here.reshape(-1).astype(float) - there.reshape(-1).astype(float)))))
    return np.inf


def note(rows: Sequence[int], columns: Array, reference: Recording) -> str:
    """What a reader should know of the rearrangement."""
    count = len(reference.tensors["input_ids"])
    if list(rows) == list(range(count)):
        return f"mine is padded to {columns.shape[1]} tokens"
    some = f"mine holds only text{'s' * (len(rows) > 1)} {', '.join(map(str, rows))} of the reference's {count}"
    return f"{some}: its loss and gradients are not compared, which are of all" if LOSS in reference.tensors else some
