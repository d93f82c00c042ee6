"""AdamW (Loshchilov & Hutter 2019), the learning rate's rise and fall, and clipping: from gradients to new weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import schedule
from numroberta.checkpoint import WORDS
from numroberta.training.gradients import Gradients, Rows, touched

Array = NDArray[Any]
C = TypeVar("C")

BLOCK = 32_768  # elements that are updated at once: the five arrays of a block stay in the cache


def linear_schedule(step: int, steps: int, warmup: int) -> float:
    """The learning rate of a step from 0, as a part of the largest: up over `warmup` steps, then down to zero.

    `transformers.get_linear_schedule_with_warmup`.
    """
    if step < warmup:
        return step / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))


def decays(name: str) -> bool:
    """Whether weight decay pulls at a tensor: at all but biases and the gains of norms, as in transformers' Trainer."""
    return not name.endswith("bias") and "norm" not in name.lower()


class Moments(NamedTuple):
    """Running means of a tensor's gradient and of its square."""

    first: Array
    second: Array


class AdamW:
    """`torch.optim.AdamW`, on the schedule's threads; weights are changed where they lie.

    Rows of the word embeddings that no text has read yet have no moments: nothing but the decay happens to them, and
    that is done when a text reads them first (`read`), or in a copy (`weights`).
    """

    def __init__(
        self,
        tensors: MutableMapping[str, Array],
        names: Sequence[str],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        sparse: bool = False,
        num_threads: int = 1,
    ):
        self.tensors, self.betas, self.eps, self.weight_decay = tensors, betas, eps, weight_decay
        self.num_threads = num_threads
        self.steps = 0
        self.moments = {name: Moments(np.zeros_like(tensors[name]), np.zeros_like(tensors[name])) for name in names}
        self.seen = np.zeros(len(tensors[WORDS]), bool) if sparse and WORDS in names else None
        self.unread = 1.0  # what decay has left of a row that no text has read

    def read(self, ids: Array) -> None:
        """Before a forward pass: the rows of the word embeddings that it will read."""
        if self.seen is None:
            return
        new = np.unique(ids)
        new = new[~self.seen[new]]
        self.tensors[WORDS][new] *= self.unread
        self.seen[new] = True

    def weights(self) -> dict[str, Array]:
        """The tensors as they are by now: with what decay has left of the rows that no text has read yet."""
        if self.seen is None or self.unread == 1.0:
            return dict(self.tensors)
        words = self.tensors[WORDS].copy()
        words[~self.seen] *= self.unread
        return {**self.tensors, WORDS: words}

    def step(self, parts: Sequence[Gradients], rate: float, max_norm: float | None = None) -> float:
        """New weights from the sum of the parts' gradients; returns that sum's length, and if it is infinite, no more.

        max_norm: a longer gradient is cut to this length: `torch.nn.utils.clip_grad_norm_`.
        """
        words = touched(parts) if self.seen is not None else None
        norm = self._add_up(parts, words)
        if not math.isfinite(norm):
            return norm
        factor = 1.0
        if max_norm is not None and norm > max_norm:
            factor = max_norm / (norm + 1e-6)
        self.steps += 1
        gradients = parts[0].arrays
        chunks = [(name, part) for name in self.moments if name in gradients for part in _slices(gradients[name].size)]
        first, second = self.betas
        scale = rate / (1 - first**self.steps), math.sqrt(1 - second**self.steps)

        def work(own: Sequence[tuple[str, slice]]) -> None:
            scratch = np.empty((2, BLOCK), gradients_dtype)
            for name, part in own:
                weight, m, v = (a.reshape(-1)[part] for a in (self.tensors[name], *self.moments[name]))
                decay = rate * self.weight_decay if decays(name) else 0.0
                self._update(weight, m, v, gradients[name].reshape(-1)[part], factor, scale, decay, scratch)

        gradients_dtype = parts[0].memory.dtype
        self._in_parallel(work, chunks)
        if words is not None:
            self._update_words(words, factor, scale, rate * self.weight_decay)
        return norm

    def _add_up(self, parts: Sequence[Gradients], words: Rows | None) -> float:
        """The parts' sum, in the first one's memory, and its length."""
        for part in parts:
            part.finish()
        arrays = parts[0].arrays
        chunks = [(name, part) for name in arrays for part in _slices(arrays[name].size)]
        squares: dict[tuple[str, int], float] = {}

        def work(own: Sequence[tuple[str, slice]]) -> None:
            for name, part in own:
                total = arrays[name].reshape(-1)[part]
                for other in parts[1:]:
                    total += other.arrays[name].reshape(-1)[part]
                with np.errstate(over="ignore", invalid="ignore"):  # an infinite norm changes nothing, see `step`
                    squares[name, part.start] = float(np.dot(total, total))

        self._in_parallel(work, chunks)
        rows = 0.0 if words is None else float(np.square(words[1], dtype=np.float64).sum())
        return math.sqrt(math.fsum([rows, *squares.values()]))

    def _in_parallel(self, work: Callable[[Sequence[C]], None], chunks: Sequence[C]) -> None:
        """`work` on each thread's share of the chunks."""
        by_thread = [chunks[i :: self.num_threads] for i in range(self.num_threads)]
        schedule.run([partial(_ignoring_share, work, own) for own in by_thread], self.num_threads, np.float32)

    def _update(
        self,
        weight: Array,
        m: Array,
        v: Array,
        gradient: Array,
        factor: float,
        scale: tuple[float, float],
        decay: float,
        scratch: Array,
    ) -> None:
        """w (1 − ηλ) − η m̂ / (√v̂ + ε), m and v being the running means of g and g²; all (elements,)."""
        first, second = self.betas
        a, b = scratch[0, : len(weight)], scratch[1, : len(weight)]
        if factor != 1.0:
            gradient *= factor
        if decay:
            weight *= 1 - decay
        m *= first
        m += np.multiply(gradient, 1 - first, out=a)
        v *= second
        np.multiply(gradient, gradient, out=a)
        a *= 1 - second
        v += a
        np.sqrt(v, out=a)
        a /= scale[1]
        a += self.eps
        np.divide(m, a, out=b)
        b *= scale[0]
        weight -= b

    def _update_words(self, words: Rows, factor: float, scale: tuple[float, float], decay: float) -> None:
        """The rows that were ever read: those whose gradient is zero now move on, too."""
        assert self.seen is not None
        ids = np.flatnonzero(self.seen)
        table, moments = self.tensors[WORDS], self.moments[WORDS]
        gradient = np.zeros((len(ids), table.shape[1]), table.dtype)
        gradient[np.searchsorted(ids, words[0])] = words[1]
        rows = max(1, BLOCK // table.shape[1])
        chunks = [slice(start, start + rows) for start in range(0, len(ids), rows)]

        def work(own: Sequence[slice]) -> None:
            scratch = np.empty((2, rows * table.shape[1]), table.dtype)
            for part in own:
                some = ids[part]
                w, m, v = (array[some] for array in (table, *moments))
                own_gradient = gradient[part].reshape(-1)
                self._update(w.reshape(-1), m.reshape(-1), v.reshape(-1), own_gradient, factor, scale, decay, scratch)
                table[some], moments.first[some], moments.second[some] = w, m, v

        self._in_parallel(work, chunks)
        self.unread *= 1 - decay


def _ignoring_share(work: Callable[[Sequence[C]], None], own: Sequence[C], _: object) -> None:
    """A job for `schedule.run` that does its own chunks, and needs no `Share` to split them further."""
    work(own)


def _slices(size: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK))
