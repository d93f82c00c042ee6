"""Which tokens look at which, read from the probabilities: a mask that nobody could list."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta import textbook
from numroberta.parity.layouts import show_ranges
from numroberta.parity.measure import distance
from numroberta.parity.names import PROBS, SCORES, kind_of, same_layer
from numroberta.parity.steps import Forward

Array = NDArray[Any]

CLOSE = 1e-4
NOTHING = 1e-20  # a probability that is as good as 0


def another_mask(sound: Forward, name: str, value: Array, where: Array, tolerance: float) -> str | None:
    """A sentence on who sees whom, if the value is the softmax of the right scores under another mask; or None."""
    if kind_of(name) != PROBS:
        return None
    mask = sound.inputs.attention_mask != 0  # (b, n)
    s, seen = sound[same_layer(name, SCORES)], value > NOTHING
    with np.errstate(all="ignore"):
        expected = textbook.softmax(np.where(seen, s, -np.inf))
    wrong = (seen != mask[:, None, None, :]) & mask[:, None, :, None]  # (b, h, n, n keys)
    if not wrong.any() or not distance(value, np.nan_to_num(expected), where) <= tolerance:
        return None
    heads = np.flatnonzero(wrong.any((0, 2, 3)))
    some = f"in heads {show_ranges(heads)} only " if len(heads) < wrong.shape[1] else ""
    return f"another mask is applied {some}than that of padding: {who_sees_whom(seen[:, heads], s[:, heads], mask)}"


def another_sum(sound: Forward, name: str, value: Array, where: Array) -> str | None:
    """A sentence, if each query's probabilities are the right ones times a factor of its own; or None."""
    if kind_of(name) != PROBS or value.shape != sound[name].shape:
        return None
    right = np.where(where & (sound.inputs.attention_mask != 0)[:, None, None, :], sound[name], 0.0)
    mine = np.where(right > 0, value, 0.0)
    factors = (mine * right).sum(-1) / np.maximum(np.square(right).sum(-1), 1e-300)
    if np.linalg.norm(mine - factors[..., None] * right) > CLOSE * np.linalg.norm(right):
        return None
    queries = np.asarray(where.any(-1))
    sums = 1 / factors[queries]
    return (
        "the softmax divides by another sum, as if a block of it were left out, counted twice or not rescaled: "
        f"the denominator is {sums.min():.4g} to {sums.max():.4g} times the sum of the exponentials"
    )


def who_sees_whom(seen: Array, s: Array, mask: Array) -> str:
    """seen, s: (b, h, n, n keys), whether a token is seen, and the scores.  mask: (b, n)."""
    pairs = mask[:, None, :, None] & mask[:, None, None, :]
    hidden, kept = pairs & ~seen, pairs & seen
    padding = (seen & mask[:, None, :, None] & ~mask[:, None, None, :]).any()
    also = "padding is seen" if padding else ""
    if not hidden.any():
        return also
    if largest := by_score(hidden, kept, s):
        return largest
    if not np.array_equal(hidden, np.broadcast_to(hidden[:, :1], hidden.shape)):
        words = "it is another one in each head"
    else:
        places = np.arange(mask.shape[1])
        ahead = np.broadcast_to(np.subtract.outer(places, places).T, hidden.shape)  # key − query
        share = hidden.sum() / pairs.sum() / hidden.shape[1]
        words = (
            by_key(hidden, pairs, mask)
            or by_distance(hidden, kept, ahead)
            or f"{share:.0%} of the pairs of tokens are hidden"
        )
    return "; ".join(filter(None, [words, also]))


def by_key(hidden: Array, pairs: Array, mask: Array) -> str:
    """Whether some tokens are seen by none, and all others by all."""
    of_keys = np.asarray((hidden | ~mask[:, None, :, None]).all(2, keepdims=True)) & pairs
    if not np.array_equal(of_keys, hidden):
        return ""
    keys = np.asarray(of_keys[:, 0].any(1))
    texts = [f"tokens {show_ranges(np.flatnonzero(row))} of text {i}" for i, row in enumerate(keys) if row.any()]
    return "no token sees " + ", ".join(texts[:3]) + " …" * (len(texts) > 3)


def by_distance(hidden: Array, kept: Array, ahead: Array) -> str:
    """Whether a token sees those at some distances; perhaps some tokens are seen by all, or see all, besides.

    ahead: (b, h, n, n keys), how far the key comes after the query.
    """
    nobody = np.zeros(hidden.shape, bool)
    seen_by_all = np.broadcast_to(~hidden.any(2, keepdims=True), hidden.shape)
    seeing_all = np.broadcast_to(~hidden.any(3, keepdims=True), hidden.shape)
    for besides, words, axis in (
        (nobody, "", 0),
        (seen_by_all, "all see tokens", 0),
        (seeing_all, "all are seen by", 1),
    ):
        far = set(ahead[kept & ~besides])
        if not far or far & set(ahead[hidden]):
            continue
        low, high, furthest = int(min(far)), int(max(far)), int(ahead.max())
        ends = [(f"{-low} before", low), (f"{high} after", high)]
        few = " and ".join(way for way, end in ends if abs(end) < furthest)
        which = f"a token sees those at most {few} it" if few else f"distances {show_ranges(np.array(sorted(far)))}"
        return f"{which}; {words} {show_ranges(np.flatnonzero(besides[0, 0].any(axis)))}" if words else which
    return ""


def by_score(hidden: Array, kept: Array, s: Array) -> str | None:
    """Whether the smallest scores of each query are dropped: all but so many, or those so far below the largest."""
    low, high = np.where(hidden, s, -np.inf).max(-1), np.where(kept, s, np.inf).min(-1)
    if not np.all(low < high):
        return None
    counts = kept.sum(-1)[hidden.any(-1)]
    if len(set(counts)) == 1:
        return f"only the {counts[0]} largest scores of a query are kept"
    top = np.where(kept, s, -np.inf).max(-1, keepdims=True)
    below = (top - s)[hidden].min(), (top - s)[kept].max()
    if below[0] > below[1]:
        return f"scores more than {np.mean(below):.3g} below the largest of a query are dropped"
    return None
