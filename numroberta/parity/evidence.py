"""What can be read from the numbers where nothing can be computed again: other rows, another order, random weights."""

from __future__ import annotations

from math import gcd

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.layouts import show_ranges
from numroberta.parity.mistakes.places import place_of
from numroberta.parity.names import CONTEXT, KEY, POSITION, PROBS, QUERY, SCORES, TOKEN_TYPE, VALUE, WIDE, WORD, kind_of
from numroberta.parity.steps import INPUTS_OF_LINEAR, Array, Forward, position_ids

Ids = NDArray[np.intp]

SAME_ROW = 1e-3  # of the row's length
SAME_NUMBERS = 1e-4
UNLIKE = 0.3  # the cosine of outputs and right ones, at most, that makes them strangers
FEWEST_OF_A_STEP = 4  # inputs on average that have the same output, which makes a function a table
MOST_TOKENS = 0.8  # of which the neighbours are right: those at an edge have none
FEWEST_IDS = 4  # different ones, which lie on a line by chance
FEWEST_OUTPUTS, FEWEST_TOKENS = 20, 6  # from which products of outputs say something

TABLES = {WORD: "word", POSITION: "position", TOKEN_TYPE: "token-type"}


def evidence(sound: Forward, name: str, value: Array, where: Array) -> str | None:
    """A sentence on what the value is, or None.  where: what is not padding."""
    if value.shape != sound[name].shape or not np.all(np.isfinite(value[where])):
        return None
    tokens = np.asarray(where.all(-1))
    if kind_of(name) in TABLES and (rows := other_rows(sound, name, value[tokens], tokens)):
        return rows
    if kind_of(name) in (SCORES, PROBS):
        return None
    heads = sound.inputs.num_attention_heads if kind_of(name) in (QUERY, KEY, VALUE, CONTEXT) else 0
    expected, mine = sound[name][tokens], value[tokens]
    return (
        zeroed(expected, mine, heads)
        or (kind_of(name) == WIDE and from_a_table(sound[f"{name}.dense"][tokens], mine))
        or other_order(expected, mine, heads)
        or scaled_by_token(expected, mine)
        or other_tokens(sound[name], value, tokens)
        or random_weights(sound, name, value, tokens)
        or None
    )


def zeroed(expected: Array, value: Array, heads: int) -> str | None:
    """Whether some features are zero in every token, and all else is right, (t, d)."""
    empty = ~value.any(0)
    scale = np.sqrt(np.mean(np.square(expected)))
    if expected.ndim != 2 or not empty.any() or empty.all():
        return None
    if not np.allclose(value[:, ~empty], expected[:, ~empty], atol=SAME_NUMBERS * scale):
        return None
    features = f"features {show_ranges(np.flatnonzero(empty))}"
    by_head = empty.reshape(heads or 1, -1)
    if heads and np.array_equal(by_head.any(1), by_head.all(1)):
        return f"some heads are zero: {show_ranges(np.flatnonzero(by_head.all(1)))} ({features})"
    return f"some are zero: {features}"


def from_a_table(x: Array, value: Array) -> str | None:
    """Whether the activation takes few values, each over a stretch of its inputs, (t, d), (t, d)."""
    order = np.argsort(x, axis=None)
    steps = 1 + int(np.count_nonzero(np.diff(value.ravel()[order])))
    if not 2 < steps <= x.size / FEWEST_OF_A_STEP:
        return None
    return f"the activation is read from a table, or its input is rounded: it takes only {steps} values in {x.size}"


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
    if empty.any() and not moved(right, used, len(table)):  # the row of padding is zero in the table itself
        return f"the {what} embeddings of the ids from {right[empty].min()} on are zero" if (
            right[~empty].max(initial=-1) < right[empty].min()
        ) else f"some {what} embeddings are zero: {show(right[empty])}"  # fmt: skip
    text = np.nonzero(tokens)[0]
    firsts = used[np.searchsorted(text, text)]
    if kind_of(name) == POSITION and len(set(used.tolist())) > 1 and np.array_equal(used, firsts):
        return f"every token of a text has the same position embedding, another one in each text: {show(firsts)}"
    return f"the {what} embeddings are those of other ids: {relation(right, used, len(table))}"


def moved(right: Ids, used: Ids, count: int) -> str | None:
    """Whether all ids are moved alike, within the table."""
    shift = int(np.median(used - right))
    if np.array_equal(used, np.clip(right + shift, 0, count - 1)):
        return f"each is shifted by {shift:+d}"
    return f"counted from the end of the table, {count - 1} − id" if np.array_equal(used, count - 1 - right) else None


def relation(right: Ids, used: Ids, count: int) -> str:
    """How the used ids follow from the right ones."""
    wrong = used != right
    steps = (right - used)[wrong]
    if alike := moved(right, used, count):
        return alike
    if len(set(used.tolist())) == 1:
        return f"always {used[0]}"
    moves = set((used - right)[wrong].tolist())
    still = np.clip(right + max(moves), 0, count - 1) != right  # what is at the edge of the table cannot move
    if len(moves) == 1 and right[~wrong & still].max(initial=-1) < right[wrong].min():
        return f"those of the ids from {right[wrong].min()} on are shifted by {moves.pop():+d}"
    first, period = int(right.min()), int(used.max()) - int(right.min()) + 1
    if np.array_equal(used, first + (right - first) % period):
        return f"they begin again after {period} rows"
    ids, places = np.unique(right, return_index=True)
    if len(ids) > FEWEST_IDS:
        stride = int(used[places[1]] - used[places[0]]) // int(ids[1] - ids[0])
        offset = int(used[places[0]]) - stride * int(ids[0])
        if stride and np.array_equal(used, np.clip(stride * right + offset, 0, count - 1)):
            return f"those of {stride} · id {offset:+d}"
    if len(set(used[wrong].tolist())) == 1:
        other = int(used[wrong][0])
        if right[~wrong].max(initial=-1) <= other < right[wrong].min():
            return f"ids above {other} are cut to {other}"
        return f"{wrong.sum()} of {len(right)} tokens have that of id {other}"
    modulus = gcd(*steps.tolist())
    if modulus > used.max():
        return f"ids are taken modulo {modulus}, or a divisor of it"
    return "; ".join(f"{a} has that of {b}" for a, b in zip(right[wrong][:4], used[wrong][:4], strict=True))


def scaled_by_token(expected: Array, value: Array) -> str | None:
    """Whether each token has its right numbers times a factor of its own, (t, d)."""
    factors = (value * expected).sum(-1) / np.maximum(np.square(expected).sum(-1), 1e-300)
    close = SAME_NUMBERS * np.sqrt(np.mean(np.square(value)))
    if expected.ndim != 2 or not np.allclose(value, factors[:, None] * expected, atol=close):
        return None
    lengths = np.linalg.norm(value, axis=-1)
    if np.allclose(lengths, 1, atol=SAME_NUMBERS):
        return "every token's vector is divided by its length (normalized)"
    return f"every token's vector is the right one times another factor, {factors.min():.4g} to {factors.max():.4g}"


def other_order(expected: Array, value: Array, heads: int) -> str | None:
    """Whether each token has the right numbers in another order, the same for all tokens, (t, d)."""
    scale = np.sqrt(np.mean(np.square(expected)))
    if expected.ndim != 2 or not np.allclose(np.sort(value, -1), np.sort(expected, -1), atol=SAME_NUMBERS * scale):
        return None
    squares = np.square(value).sum(0)[:, None] + np.square(expected).sum(0) - 2 * value.T @ expected  # (d, d)
    places = squares.argmin(1)
    if not np.allclose(value, expected[:, places], atol=SAME_NUMBERS * scale):
        return None
    for what, parts in (("heads", heads), ("features", len(places))):
        starts = places.reshape(parts or 1, -1)
        whole = starts[:, 0] // starts.shape[1]
        if parts and np.array_equal(places, (whole[:, None] * starts.shape[1] + np.arange(starts.shape[1])).ravel()):
            turn = int(whole[0])
            if np.array_equal(whole, np.roll(np.arange(parts), -turn)):
                return f"the {what} are shifted: {what[:-1]} 0 is {turn}, and so on"
            if what == "heads":
                return f"the heads are in another order: {', '.join(map(str, whole))}"
    moved = [f"{i} is {j}" for i, j in enumerate(places) if i != j]
    return f"the features are the right ones in another order: {', '.join(moved[:6])}" + " …" * (len(moved) > 6)


def other_tokens(expected: Array, value: Array, tokens: Array) -> str | None:
    """Whether nearly every token of mine has the right numbers of the token so many places before or after it."""
    if expected.ndim != 3 or expected.shape[:2] != tokens.shape:
        return None
    close = SAME_NUMBERS * np.sqrt(np.mean(np.square(expected[tokens])))
    for shift in (1, -1, 2, -2):
        same = np.abs(value - np.roll(expected, shift, 1)).max(-1) <= close
        if same[tokens].mean() >= MOST_TOKENS:
            where = f"{abs(shift)} place{'s' * (abs(shift) > 1)} {'before' if shift > 0 else 'after'} it"
            return f"each token has the numbers of the token {where}: shifted by {shift:+d}"
    return None


def random_weights(sound: Forward, name: str, value: Array, tokens: Array) -> str | None:
    """Whether a linear layer's weights have nothing to do with the right ones: its products are those of its inputs.

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
    return f"{place_of(kind)} has other weights altogether: {tied}random, not loaded, or read in another order"


def centred(array: Array) -> Array:
    return array - array.mean(0)


def cosine(a: Array, b: Array) -> float:
    return float((a * b).sum() / np.sqrt(np.square(a).sum() * np.square(b).sum()))


def show(ids: Ids) -> str:
    listed = sorted(set(ids.tolist()))
    return ", ".join(map(str, listed[:6])) + " …" * (len(listed) > 6)
