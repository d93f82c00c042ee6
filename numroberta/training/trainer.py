"""`Trainer`: the weights of a checkpoint, a task, and what a step does to them."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import normalize, schedule
from numroberta.checkpoint import DECODER, HEADS, MASKED_LM, POOLER, SEQUENCE, Checkpoint, RobertaConfig
from numroberta.training.dropout import Dropout
from numroberta.training.network import Network
from numroberta.training.optimizer import AdamW
from numroberta.training.step import Step, Text
from numroberta.training.tasks import FIRST, Answer, Classify, Embed, Example, Joint, MaskedLM, Tag, Task

Array = NDArray[Any]

SCORED = 32  # texts whose masked tokens are scored at once
INITIAL = 0.02  # the standard deviation of a new head's weights: `initializer_range` of transformers' config


class Trainer:
    """A checkpoint that learns a task.

    Args:
        checkpoint: Where to begin; it is not changed.
        task: What to learn.  A head that the checkpoint does not have is made of random numbers.
        num_threads: None for all cores.
        dtype: "float32" or "float64".
        dropout: The probability with which a number is dropped, of hidden states and of attention.
        frozen: So many layers, and the embeddings, stay as they are; None: nothing does.
        checkpointing: Keep the layers' inputs only and compute the rest again: less memory, a third more time.
        weight_decay, max_norm, betas: See `AdamW`.
        seed: Of a new head and of dropout.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        task: Task,
        *,
        num_threads: int | None = None,
        dtype: str = "float32",
        dropout: float = 0.0,
        frozen: int = 0,
        checkpointing: bool = False,
        weight_decay: float = 0.01,
        max_norm: float | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        seed: int = 0,
    ):
        self.task, self.dropout, self.seed, self.max_norm = task, dropout, seed, max_norm
        self.config = config_for(checkpoint.config, task)
        self.tensors = weights_for(checkpoint, self.config, task, np.dtype(dtype), seed)
        self.num_threads = num_threads or schedule.available_cores()
        names = [name for name in self.tensors if is_trained(name, frozen)]
        tied = task.head == MASKED_LM and DECODER not in self.tensors
        self.computation = Step(
            self.tensors,
            self.config,
            names,
            num_threads=self.num_threads,
            first=frozen,
            tied=tied,
            checkpointing=checkpointing,
        )
        self.tasks = 0  # that this step has learnt
        self.optimizer = AdamW(
            self.tensors,
            names,
            betas=betas,
            weight_decay=weight_decay,
            sparse=not tied,
            num_threads=self.num_threads,
        )

    def step(self, examples: Sequence[Example], rate: float) -> float:
        """One step of the optimizer on the mean loss of these examples, which is returned.

        Where the loss or its gradient is infinite or no number, that is returned and the weights stay as they are.
        """
        self.clear()
        loss = self.add_gradients(examples)
        if not np.isfinite(loss):
            return loss
        norm = self.update(rate)
        return loss if np.isfinite(norm) else norm

    # A step in its parts, for who learns several tasks at once: `clear`, `add_gradients` for each task, `update`.

    def clear(self) -> None:
        """Begin a step: there are no gradients."""
        self.computation.clear()
        self.tasks = 0

    def add_gradients(self, examples: Sequence[Example], task: Task | None = None, weight: float = 1.0) -> float:
        """Add the gradients of `weight` times the examples' mean loss to those of this step; returns that product.

        task: None for the trainer's own; another one has no head, or the same.
        """
        task = task or self.task
        if task.head not in (None, self.task.head):
            raise ValueError(
                f"{type(task).__name__} reads the head of {task.head}; this trainer has that of {self.task.head}"
            )
        self.optimizer.read(np.concatenate([text.ids for text in texts_of(task, examples)]))
        place = (self.tasks,) if self.tasks else ()  # each task drops numbers of its own
        dropout = Dropout(self.dropout, self.dropout, (self.seed, self.optimizer.steps, *place))
        self.tasks += 1
        return add_gradients(self.computation, task, examples, dropout, weight)

    def update(self, rate: float) -> float:
        """End a step: new weights from its gradients, whose length is returned; if that is infinite, the old ones."""
        return self.optimizer.step(self.computation.parts, rate, self.max_norm)

    def score(self, examples: Sequence[Example]) -> dict[str, float]:
        """How good the weights are on examples that were held out: measures by name, see `score`."""
        return score(self.computation, self.task, examples)


def texts_of(task: Task, examples: Sequence[Example]) -> list[Text]:
    """Each text that the network reads."""
    texts = [Text(example.ids, example.types) for example in examples]
    return [*texts, *(Text(example.target[0]) for example in examples)] if isinstance(task, Embed) else texts


def wanted_of(task: Task, examples: Sequence[Example]) -> list[Array] | None:
    """For each text the tokens that the task reads; None: all."""
    if isinstance(task, Answer) or (isinstance(task, Joint) and task.pooling == "mean"):
        return None
    if isinstance(task, Joint):
        return [FIRST] * len(texts_of(task, examples))
    return [task.wanted(example) for example in examples]


def add_gradients(
    computation: Step,
    task: Task,
    examples: Sequence[Example],
    dropout: Dropout = Dropout(),  # noqa: B008  (immutable)
    weight: float = 1.0,
) -> float:
    """Add the gradients of `weight` times the examples' mean loss; returns that product."""
    texts, wanted = texts_of(task, examples), wanted_of(task, examples)
    if isinstance(task, Joint):
        joint = task

        def joint_loss(vectors: Array) -> tuple[float, Array]:
            loss, gradient = joint.joint_loss(vectors, examples)
            return weight * loss, weight * gradient

        return computation.add_jointly(texts, joint_loss, wanted=wanted, dropout=dropout)
    alone, total = task, task.count(examples) / weight  # a mean over fewer of them weighs more

    def loss(net: Network, x: Array, numbers: Sequence[int]) -> tuple[float, Array]:
        return alone.loss(net, x, [examples[i] for i in numbers], total)

    return computation.add(texts, loss, wanted=wanted, dropout=dropout)


def score(computation: Step, task: Task, examples: Sequence[Example]) -> dict[str, float]:
    """Measures of a task by name, the one that decides which epoch is best first; more is better in all of them."""
    texts, wanted = texts_of(task, examples), wanted_of(task, examples)
    if isinstance(task, Joint):
        vectors = computation.outputs(texts, lambda net, x: x, wanted)
        return task.score(normalize(np.stack([vector.mean(axis=1) for vector in vectors])), examples)
    if isinstance(task, MaskedLM):  # logits are as many as the vocabulary has entries: some texts at a time
        parts = [examples[i : i + SCORED] for i in range(0, len(examples), SCORED)]
        scores = [
            task.score(computation.outputs(texts_of(task, part), task.logits, wanted_of(task, part)), part)
            for part in parts
        ]
        weights = [task.count(part) for part in parts]
        return {name: float(np.average([one[name] for one in scores], weights=weights)) for name in scores[0]}
    return task.score(computation.outputs(texts, task.logits, wanted), examples)


def config_for(config: RobertaConfig, task: Task) -> RobertaConfig:
    """The config of the checkpoint that comes of it."""
    if isinstance(task, Classify):
        labels = task.labels or ("LABEL_0",)
        return replace(config, id2label=dict(enumerate(labels)), problem_type=task.problem_type)
    if isinstance(task, Tag):
        return replace(config, id2label=dict(enumerate(task.labels)), problem_type=None)
    return replace(config, id2label={0: "LABEL_0", 1: "LABEL_1"}, problem_type=None)


def weights_for(
    checkpoint: Checkpoint, config: RobertaConfig, task: Task, dtype: np.dtype[Any], seed: int
) -> dict[str, Array]:
    """Copies of the encoder's weights and the task's head, new where the checkpoint has none that fits."""
    own = HEADS[task.head].shapes(config) if task.head else {}
    fits = all(name in checkpoint.stored and checkpoint.stored[name].shape == shape for name, shape in own.items())
    fits = fits and (task.head == MASKED_LM or checkpoint.config.id2label == config.id2label)
    tensors = {}
    for name, array in checkpoint.tensors.items():
        encoder = name.startswith(("embeddings.", "encoder."))
        pooler = task.head is None and name.startswith(HEADS[POOLER].layers[0])
        if encoder or pooler or (fits and name in own) or (task.head == MASKED_LM and name == DECODER):
            tensors[name] = np.array(array, dtype)
    for module in checkpoint.parameters:
        for mapping, start, length in checkpoint.pages(module):
            mapping.madvise(mmap.MADV_DONTNEED, start, length)  # the file's pages: the copies are what is used now
    if not fits:
        rng = np.random.default_rng([seed, 1])
        for name, shape in own.items():
            draw = rng.normal(0, INITIAL, shape) if len(shape) == 2 else np.full(shape, "norm.weight" in name)
            tensors[name] = draw.astype(dtype)
        if (
            config.model_type == "bert" and task.head == SEQUENCE
        ):  # whose classifier stands on the pooler, if there is one
            for part in ("weight", "bias"):
                if f"pooler.dense.{part}" in checkpoint.stored:
                    tensors[f"classifier.dense.{part}"] = np.array(checkpoint.tensors[f"pooler.dense.{part}"], dtype)
    return tensors


def is_trained(name: str, frozen: int) -> bool:
    """Whether a tensor is changed where the embeddings and so many layers stay as they are (0: all are changed)."""
    if name.startswith("pooler.") or (frozen and name.startswith("embeddings.")):
        return False
    return not name.startswith("encoder.layer.") or int(name.split(".")[2]) >= frozen
