"""A batch's loss and its gradients: groups of texts, a thread each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import kernels, schedule
from numroberta.checkpoint import RobertaConfig
from numroberta.training.dropout import Dropout
from numroberta.training.gradients import Gradients
from numroberta.training.network import Group, Network

Array = NDArray[Any]
R = TypeVar("R")

# Columns that pass through the network together.  More need more memory for what is kept, fewer spend more time on
# adding up weights' gradients, which are as large whatever the number of columns.
COLUMNS = 1024


class Text(NamedTuple):
    """A text as the network reads it."""

    ids: Array  # (tokens,)
    types: Array | None = None  # (tokens,); None: all 0


class Step:
    """What computes gradients of a network on several threads: memory that is used again at each step.

    names: the tensors that are trained.
    """

    def __init__(
        self,
        tensors: Mapping[str, Array],
        config: RobertaConfig,
        names: Sequence[str],
        *,
        num_threads: int,
        first: int = 0,
        tied: bool = False,
        checkpointing: bool = False,
    ):
        self.config, self.num_threads = config, num_threads
        shapes = {name: tensors[name].shape for name in names}
        dtype = next(iter(tensors.values())).dtype
        self.parts = [Gradients(shapes, kernels.Scratch(dtype), tied=tied) for _ in range(num_threads)]
        self.networks = [
            Network(tensors, config, part, first=first, checkpointing=checkpointing) for part in self.parts
        ]

    def clear(self) -> None:
        for part in self.parts:
            part.clear()

    def add(
        self,
        texts: Sequence[Text],
        loss: Callable[[Network, Array, Sequence[int]], tuple[float, Array]],
        *,
        wanted: Sequence[Array] | None = None,
        dropout: Dropout = Dropout(),  # noqa: B008  (immutable)
    ) -> float:
        """Add the gradients of these texts' loss; returns the loss.

        wanted: for each text the tokens that `loss` reads.
        loss(network, x, numbers): of the texts of these numbers, x the last hidden state of their wanted tokens side
            by side, (hidden, m) -> (their share of the loss, its gradient with respect to x).
        """
        groups = self.groups([len(text.ids) for text in texts])

        def job(number: int) -> float:
            total = 0.0
            for i in range(number, len(groups), self.num_threads):  # the same thread for the same texts: the same bits
                net, group = self.networks[number], groups[i]
                x = net.forward(self.group(texts, wanted, group), dropout.of(i))
                share, dx = loss(net, x, group)
                net.backward(dx)
                total += share
            return total

        return sum(self._on_threads(job, self.num_threads))

    def add_jointly(
        self,
        texts: Sequence[Text],
        loss: Callable[[Array], tuple[float, Array]],
        *,
        wanted: Sequence[Array] | None = None,
        dropout: Dropout = Dropout(),  # noqa: B008  (immutable)
    ) -> float:
        """Add the gradients of a loss that needs the vectors of all texts at once; returns the loss.

        loss: (hidden, texts), the mean of each text's wanted tokens, -> (loss, its gradient with respect to them).
        """
        groups = self.groups([len(text.ids) for text in texts], each=1)
        lengths = [len(text.ids) for text in texts] if wanted is None else [len(tokens) for tokens in wanted]
        sizes = [np.array([lengths[i] for i in group]) for group in groups]

        def forward(number: int) -> Array:
            x = self.networks[number].forward(self.group(texts, wanted, groups[number]), dropout.of(number))
            starts = np.cumsum([0, *sizes[number][:-1]])
            return np.add.reduceat(x, starts, axis=1) / sizes[number].astype(x.dtype)  # (hidden, m) -> (hidden, texts)

        parts = self._on_threads(forward, len(groups))
        order = np.concatenate(groups)
        vectors = np.empty((len(parts[0]), len(texts)), parts[0].dtype)
        vectors[:, order] = np.concatenate(parts, axis=1)
        value, gradient = loss(vectors)

        def backward(number: int) -> None:
            own = gradient[:, groups[number]] / sizes[number].astype(gradient.dtype)
            self.networks[number].backward(np.repeat(own, sizes[number], axis=1))

        self._on_threads(backward, len(groups))
        return value

    def outputs(
        self, texts: Sequence[Text], use: Callable[[Network, Array], Array], wanted: Sequence[Array] | None = None
    ) -> list[Array]:
        """For each text what `use` makes of it: (hidden, m) -> (any, m), its wanted tokens' part, without dropout."""
        groups = self.groups([len(text.ids) for text in texts])
        results: dict[int, Array] = {}

        def job(number: int) -> None:
            net = self.networks[number]
            for own in groups[number :: self.num_threads]:
                group = self.group(texts, wanted, own)
                y = use(net, net.forward(group, Dropout()))
                lengths = group.lengths if group.wanted is None else [len(tokens) for tokens in group.wanted]
                parts = np.split(y.copy(), np.cumsum(lengths)[:-1], axis=1)
                results.update(zip(own, parts, strict=True))

        self._on_threads(job, self.num_threads)
        return [results[i] for i in range(len(texts))]

    def _on_threads(self, function: Callable[[int], R], count: int) -> list[R]:
        def job(number: int) -> R:
            with np.errstate(over="ignore", invalid="ignore"):  # a loss that is no number is the caller's affair
                return function(number)

        jobs = [lambda _, number=number: job(number) for number in range(count)]
        return schedule.run(jobs, self.num_threads, self.parts[0].memory.dtype)

    def group(self, texts: Sequence[Text], wanted: Sequence[Array] | None, numbers: Sequence[int]) -> Group:
        own = [texts[i] for i in numbers]
        ids = np.concatenate([text.ids for text in own])
        positions = np.concatenate([self.positions(text.ids) for text in own])
        types = np.concatenate([np.zeros_like(text.ids) if text.types is None else text.types for text in own])
        lengths = [len(text.ids) for text in own]
        return Group(ids, positions, types, lengths, wanted and [wanted[i] for i in numbers])

    def positions(self, ids: Array) -> Array:
        """Rows of the position table: tokens count from pad_token_id + 1, padding is not counted; BERT's from 0."""
        if self.config.first_position == 0:
            return np.arange(len(ids))
        is_token = ids != self.config.pad_token_id
        return self.config.pad_token_id + np.cumsum(is_token) * is_token

    def groups(self, lengths: Sequence[int], each: int | None = None) -> list[list[int]]:
        """Numbers of texts, the longest first, in so many groups for `each` thread, or as many as keep them small."""
        order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
        count = self.num_threads * (each or max(1, round(sum(lengths) / (COLUMNS * self.num_threads))))
        ends = np.cumsum([lengths[i] for i in order])
        cuts = np.searchsorted(ends, ends[-1] * np.arange(1, count) / count)
        parts = np.split(np.array(order), np.unique(cuts + 1))
        return [part.tolist() for part in parts if len(part)]
