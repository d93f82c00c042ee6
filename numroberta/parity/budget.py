"""How long a search may take: an amount of work, which is the same on every machine, and an end to waiting for it."""

from __future__ import annotations

import time
from collections.abc import Callable

PRICE_OF_STEP = 60e-6  # seconds, of calling a step
PRICE_OF_PRODUCT = 4e-10  # of a multiplication and addition
PATIENCE = 4.0  # a slow or busy machine may take so many times as long


class Budget:
    """How much a search may compute, and who is told how far it is.

    work: seconds, by the prices above, after which no other mistake is tried, so that a fast machine finds no more than
    a slow one; None: no limit.  seconds: of computing in this thread.  progress: called with a sentence, a few times a
    second.
    """

    def __init__(self, work: float | None, seconds: float, progress: Callable[[str], None] | None = None):
        self.began, self.shown = time.thread_time(), time.monotonic()
        self.work, self.seconds, self.progress = work, seconds, progress
        self.tried, self.worked = 0, 0.0

    @property
    def spent(self) -> bool:
        return (self.work is not None and self.worked > self.work) or self.lasted > self.seconds

    @property
    def lasted(self) -> float:
        return time.thread_time() - self.began

    def count(self, name: str, price: float = PRICE_OF_STEP) -> None:
        """Another mistake is tried on the activation of this name, for so many seconds of work."""
        self.tried += 1
        self.worked += price
        now = time.monotonic()
        if self.progress and now - self.shown > 0.2:
            self.shown = now
            self.progress(f"{name}: {self.tried} mistakes tried in {self.lasted:.0f} s")


def price_of(steps: int, products: float) -> float:
    """What so many steps cost, with so many multiplications in all."""
    return steps * PRICE_OF_STEP + products * PRICE_OF_PRODUCT
