"""`loss_and_gradients`: for who writes the loop himself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import heads
from numroberta.checkpoint import DECODER, HEADS, MASKED_LM, WORDS
from numroberta.model import TextEncoder
from numroberta.training.dropout import Dropout
from numroberta.training.examples import examples, masked
from numroberta.training.gradients import touched
from numroberta.training.step import Step
from numroberta.training.tasks import SINGLE, Answer, Classify, Embed, MaskedLM, Tag, Task
from numroberta.training.trainer import add_gradients

Array = NDArray[Any]


def loss_and_gradients(
    encoder: TextEncoder,
    task: str,
    texts: Sequence[Any],
    labels: Sequence[Any] | None = None,
    *,
    weights: Mapping[str, Array] | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    checkpointing: bool = False,
) -> tuple[float, dict[str, Array]]:
    """The mean loss of some texts, and its gradient with respect to every tensor that it depends on.

    A loop of one's own:

        weights = {name: tensor.copy() for name, tensor in encoder.model.tensors.items()}
        loss, gradients = loss_and_gradients(encoder, "classify", texts, labels, weights=weights)
        for name, gradient in gradients.items():
            weights[name] -= 1e-5 * gradient

    Args:
        encoder: A model with the head that the task needs.
        task: "classify" (what kind of labels, the config's `problem_type` says), "tag", "answer", "mlm" or "embed".
        texts: Strings, or pairs: of "answer" question and context, of "embed" two texts.
        labels: See `numroberta.training.examples`; "mlm" has none, and "embed" without any means that pairs belong
            together.
        weights: By canonical name; None: those of the encoder.
        dropout: The probability with which a number is dropped.
        seed: Of dropout, and of which tokens "mlm" masks.
        checkpointing: Less memory, a third more time.

    Returns:
        The loss, and gradients by canonical name, in the encoder's dtype.
    """
    what = task_of(encoder, task, labels is not None)
    tensors = encoder.model.tensors if weights is None else weights
    own = examples(what, encoder.tokenizer, encoder.max_length, texts, labels)
    if isinstance(what, MaskedLM):
        own = [masked(example, encoder.tokenizer, np.random.default_rng([seed, i])) for i, example in enumerate(own)]
    head = HEADS[what.head].layers if what.head else ()
    names = [name for name in tensors if name.startswith(("embeddings.", "encoder.", *(f"{layer}." for layer in head)))]
    names += [name for name in ("lm_head.bias", DECODER) if what.head == MASKED_LM and name in tensors]
    tied = what.head == MASKED_LM and DECODER not in tensors
    computation = Step(
        tensors, encoder.config, names, num_threads=encoder.model.num_threads, tied=tied, checkpointing=checkpointing
    )
    loss = add_gradients(computation, what, own, Dropout(dropout, dropout, (seed,)))
    for part in computation.parts:
        part.finish()
    first, *others = computation.parts
    gradients = dict(first.arrays)
    for name, total in gradients.items():
        for other in others:
            total += other.arrays[name]
    if first.sparse:
        ids, rows = touched(computation.parts)
        gradients[WORDS] = np.zeros_like(tensors[WORDS])
        gradients[WORDS][ids] = rows
    return loss, gradients


def task_of(encoder: TextEncoder, name: str, scored: bool) -> Task:
    """The task of this name for the head that the encoder has; ValueError where it has none."""
    config = encoder.config
    labels = tuple(config.id2label[i] for i in sorted(config.id2label))
    tasks: dict[str, Task] = {
        "classify": Classify(labels, config.problem_type or SINGLE),
        "tag": Tag(labels),
        "answer": Answer(),
        "mlm": MaskedLM(),
        "embed": Embed(scored, encoder.sentence.pooling[0]),
    }
    if name not in tasks:
        raise ValueError(f"task {name!r}, expected one of {', '.join(map(repr, tasks))}")
    task = tasks[name]
    if task.head is not None:
        heads.require(encoder.checkpoint, task.head)
    elif encoder.sentence.pooling not in (("mean",), ("cls",)) or encoder.sentence.steps:
        raise ValueError(f"{encoder.checkpoint.name} makes its vectors in another way than mean or cls pooling alone")
    return task
