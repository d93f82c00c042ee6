"""What can be read from the numbers where nothing can be computed again: other rows, another order, random weights."""

from __future__ import annotations

from math import gcd

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.mistakes.places import place_of
from numroberta.parity.names import POSITION, TOKEN_TYPE, WORD, kind_of
from numroberta.parity.steps import INPUTS_OF_LINEAR, Array, Forward, position_ids

Ids = NDArray[np.intp]

SAME_ROW = 1e-3  # of the row's length
SAME_NUMBERS = 1e-4
UNLIKE = 0.3  # the cosine of outputs and right ones, at most, that makes them strangers
FEWEST_OUTPUTS, FEWEST_TOKENS = 20, 6  # from which products of outputs say something

TABLES = {WORD: "word", POSITION: "position", TOKEN_TYPE: "token-type"}


def evidence(sound: Forward, name: str, value: Array, where: Array) -> str | None:
    """A sentence on what the value is, or None.  where: what is not padding."""
    if value.shape != sound[name].shape or not np.all(np.isfinite(value[where])):
        return None
    tokens = np.asarray(where.all(-1))
    if kind_of(name) in TABLES:
        return other_rows(sound, name, value[tokens], tokens)
    return other_order(sound[name][tokens], value[tokens]) or random_weights(sound, name, value, tokens)


def other_rows(sound: Forward, name: str, rows: Array, tokens: Array) -> str | None:
    """Whether these are rows of the table that belong to other ids, (t, d)."""
    table, rows = sound.inputs.weights[f"{name}.weight"].astype(np.float32), rows.astype(np.float32)
    ids = {WORD: sound.inputs.input_ids, POSITION: position_ids(sound)}.get(name, 0 * sound.inputs.input_ids)
    right = ids[tokens].astype(np.intp)
    distances = np.square(rows).sum(-1)[:, None] + np.square(table).sum(-1) - 2 * rows @ table.T  # (t, ids)
    used = distances.argmin(-1)
    length = np.linalg.norm(table, axis=-1).mean()
    used = np.where(np.linalg.norm(rows - table[right], axis=-1) <= SAME_ROW * length, right, used)
    empty = np.linalg.norm(rows, axis=-1) <= SAME_ROW * length
    found = empty | (np.linalg.norm(rows - table[used], axis=-1) <= SAME_ROW * length)
    if not found.all() or np.array_equal(used, right):
        return None
    what = TABLES[name]
    if empty.any():
        return f"the {what} embeddings of the ids from {right[empty].min()} on are zero" if (
            right[~empty].max(initial=-1) < right[empty].min()
        ) else f"some {what} embeddings are zero: {show(right[empty])}"  # fmt: skip
    return f"the {what} embeddings are those of other ids: {relation(right, used, len(table))}"


def relation(right: Ids, used: Ids, count: int) -> str:
    """How the used ids follow from the right ones."""
    wrong = used != right
    steps = (right - used)[wrong]
    shift = int(np.median(used - right))
    if np.array_equal(used, np.clip(right + shift, 0, count - 1)):
        return f"each is shifted by {shift:+d}"
    if np.array_equal(used, count - 1 - right):
        return f"counted from the end of the table, {count - 1} − id"
    if len(set(used.tolist())) == 1:
        return f"always {used[0]}"
    if len(set(used[wrong].tolist())) == 1:
        other = int(used[wrong][0])
        if right[~wrong].max(initial=-1) <= other < right[wrong].min():
            return f"ids above {other} are cut to {other}"
        return f"{wrong.sum()} of {len(right)} tokens have that of id {other}"
    modulus = gcd(*steps.tolist())
    if modulus > used.max():
        return f"ids are taken modulo {modulus}, or a divisor of it"
    return "; ".join(f"{a} has that of {b}" for a, b in zip(right[wrong][:4], used[wrong][:4], strict=True))


def other_order(expected: Array, value: Array) -> str | None:
    """Whether each token has the right numbers in another order, the same for all tokens, (t, d)."""
    scale = np.sqrt(np.mean(np.square(expected)))
    if expected.ndim != 2 or not np.allclose(np.sort(value, -1), np.sort(expected, -1), atol=SAME_NUMBERS * scale):
        return None
    squares = np.square(value).sum(0)[:, None] + np.square(expected).sum(0) - 2 * value.T @ expected  # (d, d)
    places = squares.argmin(1)
    if not np.allclose(value, expected[:, places], atol=SAME_NUMBERS * scale):
        return None
    moved = [f"{i} is {j}" for i, j in enumerate(places) if i != j]
    return f"the features are the right ones in another order: {', '.join(moved[:6])}" + " …" * (len(moved) > 6)


def random_weights(sound: Forward, name: str, value: Array, tokens: Array) -> str | None:
    """Whether a linear layer's output is that of random weights: its products are those of its inputs, nothing else.

    With W of independent numbers ⟨W x, W y⟩ ≈ σ² ⟨x, y⟩ for all tokens x and y.
    """
    kind = kind_of(name)
    if kind != "lm_head" and kind not in INPUTS_OF_LINEAR:
        return None
    given = sound["lm_head.layer_norm"] if kind == "lm_head" else INPUTS_OF_LINEAR[kind](sound, name)
    x, y, expected = (centred(array[tokens]) for array in (given, value, sound[name]))
    if y.shape[-1] < FEWEST_OUTPUTS or len(y) < FEWEST_TOKENS:
        return None
    # A sum over so many outputs is off by the root of one in so many.
    if cosine(y, expected) > UNLIKE or cosine(y @ y.T, x @ x.T) < 1 - y.shape[-1] ** -0.5:
        return None
    tied = "not tied to the word embeddings, or " if kind == "lm_head" else ""
    return f"{place_of(kind)} has random weights: {tied}not loaded"


def centred(array: Array) -> Array:
    return array - array.mean(0)


def cosine(a: Array, b: Array) -> float:
    return float((a * b).sum() / np.sqrt(np.square(a).sum() * np.square(b).sum()))


def show(ids: Ids) -> str:
    listed = sorted(set(ids.tolist()))
    return ", ".join(map(str, listed[:6])) + " …" * (len(listed) > 6)
