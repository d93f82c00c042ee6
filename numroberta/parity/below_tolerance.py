"""A mistake that hides below the tolerance of 16-bit numbers, where the numbers still show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.budget import Budget, price_of
from numroberta.parity.measure import counted
from numroberta.parity.names import in_order, kind_of, layer_of
from numroberta.parity.search import products_of_steps
from numroberta.parity.steps import Forward, Inputs, Mistake

Array = NDArray[Any]

SURE = 8.0  # standard errors by which an effect must stand out of the noise
NEARLY_ONE = 0.15  # how far from 1 the share of the effect may be that is in the error


def hidden_mistake(
    inputs: Inputs, catalogue: Sequence[Mistake], known: Mapping[str, Array], budget: Budget
) -> str | None:
    """The likeliest mistake in a program whose values are all within their tolerance, or None.

    Each step is computed from the program's own values.  Rounding errors point anywhere; a mistake's effect d shows in
    the error e as ⟨e, d⟩ / ⟨d, d⟩ ≈ 1, many standard errors |e| / |d| away from 0.
    """
    best, surest = None, SURE
    products = products_of_steps(inputs.weights)
    for name in sorted(known, key=in_order):
        before = {each: value for each, value in known.items() if in_order(each) < in_order(name)}
        sound = Forward(inputs, before)
        expected = sound[name]
        where = counted(name, expected.shape, inputs.attention_mask != 0)
        if (layer_of(name) or 0) > 1 or expected.shape != known[name].shape or not sound.computed:
            continue
        error = (known[name] - expected)[where]
        for mistake in catalogue:
            kinds = {kind_of(each) for each in sound.computed}
            if budget.spent or mistake.rare or mistake.unit or mistake.order or mistake.inputs:
                continue
            if not mistake.kinds & kinds:
                continue
            work = inputs.input_ids.size * sum(products.get(kind_of(each), 0) for each in sound.computed)
            budget.count(name, price_of(len(sound.computed), work))
            value = Forward(inputs, before, mistake).attempt(name)
            if value is None or value.shape != expected.shape:
                continue
            effect = (value - expected)[where]
            with np.errstate(all="ignore"):
                square = float(effect @ effect)
            if not np.isfinite(square) or square == 0:
                continue
            share = float(error @ effect) / square
            left = error - share * effect
            sure = share * np.sqrt(square / max(float(left @ left) / len(left), 1e-300))
            if abs(share - 1) < NEARLY_ONE and sure > surest:
                best, surest = mistake.sentence, float(sure)
        if best:
            return f"{best} (seen in {name})"
    return None
