"""The catalogue of classic mistakes, a file for each part of the network.

A mistake is a sentence and what it replaces: steps, tensors, the order of the layers, or the inputs (`steps.Mistake`).
To add one, add an entry to the file of its part.  Of two that give the same numbers the first is named, so the more
particular comes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType

from numroberta.parity.mistakes import (
    activations,
    arrangements,
    attention,
    backward,
    connections,
    embeddings,
    heads,
    layers,
    linear_layers,
    masks,
    norms,
    numbers,
    texts,
)
from numroberta.parity.steps import Inputs, Mistake

PARTS = (
    backward,
    embeddings,
    linear_layers,
    attention,
    masks,
    norms,
    activations,
    connections,
    heads,
    texts,
    layers,
    numbers,
    arrangements,
)


def catalogue(inputs: Inputs, without: ModuleType | None = None) -> Iterator[Mistake]:
    """Every mistake that can be made with these weights and tokens.  without: a part to leave out."""
    for part in PARTS:
        if part is not without:
            for mistake in part.mistakes(inputs):
                yield replace(mistake, of_numbers=True) if part is numbers else mistake
