"""How much each token counts in the vector of a text, read from the vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import POOLINGS
from numroberta.parity.layouts import show_ranges
from numroberta.parity.names import EMBEDDING, POOLED, kind_of
from numroberta.parity.steps import Forward, pool_tokens

Array = NDArray[Any]

CLOSE = 1e-4
FEWEST_MORE = 4  # features more than tokens: fewer fit by chance
FEWEST_TOKENS = 3
Weights = Callable[[int], Array]  # of so many tokens

LAWS: dict[str, Weights] = {
    "the same for all tokens": lambda n: np.ones(n),
    "1 / position": lambda n: 1 / np.arange(1, n + 1),
    "1 / √position": lambda n: np.arange(1, n + 1) ** -0.5,
    "1 / position² ": lambda n: np.arange(1.0, n + 1) ** -2,
    "position": lambda n: np.arange(1, n + 1),
    "√position": lambda n: np.arange(1, n + 1) ** 0.5,
    "position²": lambda n: np.arange(1, n + 1) ** 2,
    "position, counted from 0": lambda n: np.arange(n),
    "the position from the end": lambda n: np.arange(n, 0, -1),
    "the logarithm of the position + 1": lambda n: np.log(np.arange(2, n + 2)),
    "1 / logarithm of the position + 1": lambda n: 1 / np.log(np.arange(2, n + 2)),
}


def weighted_pooling(sound: Forward, name: str, value: Array) -> str | None:
    """A sentence, if each text's vector is a sum of its tokens' vectors, with other weights than it should have."""
    if not (name == EMBEDDING or kind_of(name).startswith(POOLED)) or value.ndim != 2:
        return None
    if mixture := of_states(sound, name, value):
        return mixture
    for number in range(-1, -len(sound.order) - 2, -1):
        state = sound.hidden_state(number)
        if state.shape[-1] != value.shape[-1]:
            return None
        found = weights_of(state, value, sound.inputs.attention_mask != 0)
        if found:
            of = "" if number == -1 else f" of hidden state {number % (len(sound.order) + 1)}"
            return f"the vector is a sum of the tokens' vectors{of} with other weights: {law(found)}"
    return None


def of_states(sound: Forward, name: str, value: Array) -> str | None:
    """A sentence, if the vectors are sums of the vectors of several hidden states."""
    pooling = kind_of(name).removeprefix(POOLED) if name != EMBEDDING else "".join(sound.inputs.pooling)
    mask, count = sound.inputs.attention_mask != 0, len(sound.order) + 1
    states = [sound.hidden_state(number) for number in range(count)]
    if pooling not in POOLINGS or states[0].shape[-1] != value.shape[-1] or value.size < 3 * count:
        return None
    columns = np.stack([pool_tokens(state, mask, pooling).ravel() for state in states], 1)
    factors, *_ = np.linalg.lstsq(columns, value.ravel(), rcond=None)
    if np.linalg.norm(value.ravel() - columns @ factors) > CLOSE * np.linalg.norm(value):
        return None
    terms = [f"{x:.4g} times that of hidden state {i}" for i, x in enumerate(factors) if abs(x) > 10 * CLOSE]
    return f"the vector is a sum of those of several layers' states: {' + '.join(terms)}"


def weights_of(state: Array, value: Array, mask: Array) -> list[Array]:
    """The weights of each text's tokens, but for texts that are too long; nothing where one does not fit."""
    found = []
    for x, vector, tokens in zip(state, value, mask, strict=True):
        x = x[tokens]
        if not FEWEST_TOKENS <= len(x) <= x.shape[1] - FEWEST_MORE:
            continue
        weights, *_ = np.linalg.lstsq(x.T, vector, rcond=None)
        if np.linalg.norm(vector - weights @ x) > CLOSE * np.linalg.norm(vector):
            return []
        found.append(weights)
    return found


def law(found: list[Array]) -> str:
    """How they follow from the positions, or the first of them."""
    for words, weights in LAWS.items():
        expected = [weights(len(each)) for each in found]
        factors = [float(w @ e / (e @ e)) for w, e in zip(found, expected, strict=True)]
        if all(
            np.allclose(w, f * e, atol=10 * CLOSE * abs(f)) for w, e, f in zip(found, expected, factors, strict=True)
        ):
            sums = [float(w.sum()) for w in found]
            return words + ("" if np.allclose(sums, 1, atol=CLOSE) else f", with the sum {sums[0]:.4g}")
    counting = [np.abs(w) > CLOSE * np.abs(w).max() for w in found]
    if all(np.ptp(w[some]) <= 10 * CLOSE * abs(w[some][0]) for w, some in zip(found, counting, strict=True)):
        parts = [f"tokens {show_ranges(np.flatnonzero(some))} of {len(some)}" for some in counting]
        return f"only some tokens count, all alike: {', '.join(parts[:4])}"
    ratios = np.concatenate([w[1:] / w[:-1] for w in found if np.all(w)] or [np.zeros(2)])
    if np.ptp(ratios) <= 10 * CLOSE * abs(ratios[0]):
        return f"each {ratios[0]:.4g} times the one before"
    text = max(found, key=len)
    return f"{', '.join(f'{x:.3g}' for x in text[:6])}{' …' * (len(text) > 6)} in a text of {len(text)} tokens"
