"""Which numbers are dropped: the same ones for the same seed and step, however often they are asked for."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Dropout:
    """Probabilities of transformers' config, and what the random numbers are drawn from.  The default drops nothing.

    hidden: of a number of an activation, `hidden_dropout_prob`.  attention: `attention_probs_dropout_prob`.
    seed: of the run, the step and the group of texts.  Two places of the network never share their numbers.
    """

    hidden: float = 0.0
    attention: float = 0.0
    seed: tuple[int, ...] = ()

    def of(self, group: int) -> Dropout:
        """The same for one group of texts."""
        return replace(self, seed=(*self.seed, group))

    def mask(self, p: float, place: str, shape: tuple[int, ...]) -> Array:
        """Booleans of this shape, each False with probability p (rounded to a multiple of 1/65,536)."""
        size = int(np.prod(shape))
        generator = np.random.Generator(np.random.SFC64([*self.seed, zlib.crc32(place.encode())]))
        bits = generator.integers(0, 2**64 - 1, -(-size // 4), np.uint64, endpoint=True)
        return (bits.view(np.uint16)[:size] >= round(p * 65_536)).reshape(shape)

    @staticmethod
    def apply(x: Array, mask: Array, p: float) -> None:
        """x becomes 0 where the mask is False, and x / (1 − p) elsewhere: its expectation stays as it was."""
        np.multiply(x, mask, out=x)
        x *= 1 / (1 - p)
