"""Which heads meet in attention: whose query and key give a head's scores, whose values its context."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.measure import counted, distance
from numroberta.parity.names import CONTEXT, KEY, PROBS, QUERY, SCORES, VALUE, kind_of, same_layer
from numroberta.parity.steps import Forward, Mistake, merge

Array = NDArray[Any]

CLOSE = 1e-4


def from_heads(sound: Forward, name: str, value: Array, where: Array) -> Iterator[Mistake]:
    """The mistake by which each head of mine is a sound one of two heads, if all are."""
    kind, heads = kind_of(name), sound.inputs.num_attention_heads
    if kind not in (SCORES, CONTEXT) or value.shape != sound[name].shape:
        return
    mine = value.swapaxes(0, 1) if kind == SCORES else sound.split(value).swapaxes(0, 1)
    real = sound.inputs.attention_mask != 0  # (b, n)
    mask = counted(SCORES, (len(real), 1, real.shape[1], real.shape[1]), real)
    pairs: list[tuple[int, int]] = []
    for head in range(heads):
        found = (pair for pair in likely_first(head, heads) if same(met(sound, name, *pair), mine[head], kind, mask))
        pair = next(found, None)
        if pair is None:
            return
        pairs.append(pair)
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    yield Mistake(sentence_of(kind, first, second), {kind: lambda f, at: of_pairs(f, at, first, second)})


def likely_first(head: int, heads: int) -> Iterator[tuple[int, int]]:
    """Pairs of heads: the right one, those with one of them right, all others."""
    pairs = [(i, j) for i in range(heads) for j in range(heads)]
    return iter(sorted(pairs, key=lambda pair: (pair != (head, head), head not in pair, pair[0] != pair[1])))


def met(f: Forward, name: str, i: int, j: int) -> Array:
    """What head i's query or probabilities and head j's key or values give, (b, n, n) or (b, n, k)."""
    if kind_of(name) == SCORES:
        query, key = (f.split(f[same_layer(name, kind)]) for kind in (QUERY, KEY))
        return query[:, i] @ key[:, j].swapaxes(1, 2) / np.sqrt(query.shape[-1])
    return f[same_layer(name, PROBS)][:, i] @ f.split(f[same_layer(name, VALUE)])[:, j]


def same(expected: Array, mine: Array, kind: str, mask: Array) -> bool:
    where = mask[:, 0] if kind == SCORES else np.broadcast_to(np.asarray(mask[:, 0].any(-1))[..., None], mine.shape)
    return distance(mine, expected, where) <= CLOSE


def of_pairs(f: Forward, at: str, first: Array, second: Array) -> Array:
    parts = np.stack([met(f, at, i, j) for i, j in zip(first, second, strict=True)], 1)
    return parts if kind_of(at) == SCORES else merge(parts)


def sentence_of(kind: str, first: Array, second: Array) -> str:
    if np.array_equal(first, second):
        return f"the heads are in another order: {', '.join(map(str, first))}"
    names = ("queries", "keys") if kind == SCORES else ("probabilities", "values")
    parts = [f"each head takes the {what} {whose(order)}" for what, order in zip(names, (first, second), strict=True)
             if not np.array_equal(order, np.arange(len(order)))]  # fmt: skip
    return " and ".join(parts)


def whose(order: Array) -> str:
    """Whose they are: of the head so many before, or each one's."""
    places = np.arange(len(order))
    shift = int(order[0])
    if np.array_equal(order, np.roll(places, -shift)):
        back = len(order) - shift
        return f"of the head {shift} after it" if shift <= back else f"of the head {back} before it"
    if len(set(order)) == 1:
        return f"of head {order[0]}"
    return "of another head: " + ", ".join(f"{i} those of {j}" for i, j in enumerate(order) if i != j)
