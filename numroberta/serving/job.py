"""What an endpoint asks to be computed, and the answer that is made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

# What is done to the inputs of a batch, on so many threads: a result for each.
Run = Callable[[int, list[Any]], Sequence[Any]]


@dataclass(frozen=True)
class Kind:
    """Inputs of one kind are computed in one batch, whichever requests they came with."""

    key: tuple[object, ...]
    run: Run = field(compare=False)


@dataclass(frozen=True)
class Job:
    """The inputs of a request, and how many tokens each has; `answer` makes the body of what they gave."""

    kind: Kind
    inputs: Sequence[Any]
    tokens: Sequence[int]
    answer: Callable[[list[Any]], bytes]
