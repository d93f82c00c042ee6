"""A mistake that can be made in several places: in all of them, or in one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from numroberta.parity.names import LAYER
from numroberta.parity.steps import Mistake, Step


def place_of(kind: str) -> str:
    """How a report calls a kind of activation or tensor."""
    return kind.removeprefix(f"{LAYER}.")


def steps_everywhere_or_once(
    sentence: str, kinds: Iterable[str], step: Callable[[str], Step], *, rare: bool = False
) -> Iterator[Mistake]:
    """The mistake in all of these steps, then in one of them.  step: by kind, how it is computed instead."""
    steps = {kind: step(kind) for kind in kinds}
    yield Mistake(sentence, steps, rare=rare)
    if len(steps) > 1:
        for kind in steps:
            yield Mistake(f"{sentence} (at {place_of(kind)} only)", {kind: steps[kind]}, rare=True)
