"""Hidden states to logits: what a checkpoint has on top of the encoder.  A token is a column, as in the encoder.

Which tensors a head has, and what it reads, is said in `numroberta.checkpoint.heads`.  `numroberta.model.tasks` makes
answers of the logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import kernels
from numroberta.checkpoint import (
    DECODER,
    DECODER_BIAS,
    HEADS,
    MASKED_LM,
    SEQUENCE,
    SPAN,
    TOKEN,
    WORDS,
    Checkpoint,
    heads_among,
    show,
)

__all__ = ["MASKED_LM", "SEQUENCE", "SPAN", "TOKEN", "heads_of", "masked_lm", "require", "sequence", "span", "token"]

Array = NDArray[Any]
Tensors = Mapping[str, Array]


def heads_of(checkpoint: Checkpoint) -> list[str]:
    """The heads that a checkpoint has."""
    return heads_among(checkpoint.stored)


def require(checkpoint: Checkpoint, head: str) -> None:
    """Raises ValueError where the checkpoint does not have this head, or its labels have gaps."""
    available = heads_of(checkpoint)
    if head not in available:
        has = f"it has one for {' and '.join(available)}" if available else "it is a bare encoder"
        raise ValueError(f"{checkpoint.name} has no head for {head}: {has}; load a checkpoint fine-tuned for {head}")
    if head in (SEQUENCE, TOKEN):
        labels = checkpoint.config.id2label
        missing = sorted(set(range(len(labels))) - labels.keys())
        if missing:
            raise ValueError(
                f"{checkpoint.name}: id2label in config.json names labels {show(sorted(labels))}, but the head's "
                f"{len(labels)} outputs are 0 to {len(labels) - 1}: {missing[0]} is missing"
            )


def masked_lm(tensors: Tensors, x: Array, eps: float) -> Array:
    """E LayerNorm(gelu(W x + b)) + c, (hidden, n) -> (vocab, n): `transformers.RobertaLMHead`.

    E is the word embeddings, or the decoder of its own that the checkpoint stores.
    """
    dense, norm = HEADS[MASKED_LM].layers
    y = tensors[f"{dense}.weight"] @ x
    kernels.bias_gelu(y, tensors[f"{dense}.bias"][:, None], kernels.Scratch(y.dtype))
    kernels.layer_norm(y, tensors[f"{norm}.weight"][:, None], tensors[f"{norm}.bias"][:, None], eps)
    return tensors.get(DECODER, tensors[WORDS]) @ y + tensors[DECODER_BIAS][:, None]  # (hidden, n) -> (vocab, n)


def sequence(tensors: Tensors, first: Array) -> Array:
    """V tanh(W x + b) + c of texts' first tokens, (hidden, b) -> (labels, b): `RobertaClassificationHead`."""
    dense, out = HEADS[SEQUENCE].layers
    return linear(tensors, out, np.tanh(linear(tensors, dense, first)))


def token(tensors: Tensors, x: Array) -> Array:
    """W x + b, (hidden, n) -> (labels, n): `RobertaForTokenClassification`."""
    return linear(tensors, HEADS[TOKEN].layers[0], x)


def span(tensors: Tensors, x: Array) -> Array:
    """W x + b, (hidden, n) -> (2, n), where an answer starts and where it ends: `RobertaForQuestionAnswering`."""
    return linear(tensors, HEADS[SPAN].layers[0], x)


def linear(tensors: Tensors, name: str, x: Array) -> Array:
    return tensors[f"{name}.weight"] @ x + tensors[f"{name}.bias"][:, None]
