"""The bias of a linear layer, the weight and bias of a norm, as a program used them: read from its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.gradients import norm_of, under_norm
from numroberta.parity.mistakes.norms import NORMS, standardized
from numroberta.parity.mistakes.places import place_of
from numroberta.parity.names import kind_of
from numroberta.parity.origins import origins
from numroberta.parity.steps import LINEARS, Forward, Mistake, TensorChange

Array = NDArray[Any]

FEWEST_TOKENS = 6
CONSTANT = 1e-4  # of the values' size: what varies less from token to token is a constant


def from_tensors(sound: Forward, name: str, value: Array, where: Array) -> Iterator[Mistake]:
    """Mistakes in the vectors of this step, if other vectors explain its values."""
    kind, tokens = kind_of(name), np.asarray(where.all(-1))
    if tokens.sum() < FEWEST_TOKENS or value.shape != sound[name].shape:
        return
    mine, scale = value[tokens], float(np.sqrt(np.mean(np.square(value[tokens]))))
    if kind in LINEARS:
        rest = mine - (sound[name][tokens] - sound.weight(f"{name}.bias"))
        if np.all(rest.std(0) <= CONSTANT * scale):
            yield from of_vectors(sound, {f"{name}.bias": rest.mean(0)})
    elif kind in NORMS:
        prefix = norm_of(name)
        x = standardized(sound, under_norm(sound, name)[tokens])
        slope = (x * (mine - mine.mean(0))).sum(0) / np.maximum(np.square(x - x.mean(0)).sum(0), 1e-300)
        level = mine.mean(0) - slope * x.mean(0)
        if np.sqrt(np.mean(np.square(mine - slope * x - level))) <= CONSTANT * scale:
            yield from of_vectors(sound, {f"{prefix}.weight": slope, f"{prefix}.bias": level})


def of_vectors(sound: Forward, found: dict[str, Array]) -> Iterator[Mistake]:
    """The mistakes that put these vectors, by name, in the right ones' place."""
    ways: list[list[tuple[str, str, TensorChange]]] = []
    for name, vector in found.items():
        right = sound.weight(name)
        if np.all(np.abs(vector - right) <= 10 * CONSTANT * (np.abs(right).max() or 1.0)):
            continue
        known = [(name, words, change) for words, change in origins(sound, name, vector, right)]
        other = f"{place_of(kind_of(name))} is another vector: {', '.join(f'{x:.4g}' for x in vector[:4])} …"
        ways.append([*known, (name, other, constant(vector))])
    for way in ways[0] if ways else ():
        both = [way, *(other[0] for other in ways[1:])]
        sentence = "; ".join(words for _, words, _ in both)
        yield Mistake(sentence, tensors={kind_of(name): change for name, _, change in both})


def constant(vector: Array) -> TensorChange:
    return lambda f, name, tensor: vector
