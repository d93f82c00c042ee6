"""Hidden states to logits: what a checkpoint has on top of the encoder.  A token is a column, as in the encoder.

Which tensors a head has, and what it reads, is said in `numroberta.checkpoint.heads`.  The files of
`numroberta.model` make answers of the logits.
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
    POOLER,
    SEQUENCE,
    SPAN,
    TOKEN,
    WORDS,
    Checkpoint,
    heads_among,
    show,
)

__all__ = [
    "MASKED_LM",
    "SEQUENCE",
    "SPAN",
    "TOKEN",
    "Layers",
    "heads_of",
    "masked_lm",
    "pooler",
    "require",
    "sequence",
    "span",
    "token",
]

Array = NDArray[Any]
Tensors = Mapping[str, Array]

TAUGHT_BY = {MASKED_LM: "mlm", SEQUENCE: "classify", TOKEN: "tag", SPAN: "answer"}  # tasks of `numroberta finetune`


def heads_of(checkpoint: Checkpoint) -> list[str]:
    """The heads that a checkpoint has."""
    return heads_among(checkpoint.stored)


def require(checkpoint: Checkpoint, head: str) -> None:
    """Raises ValueError where the checkpoint does not have this head, or its labels have gaps."""
    available = heads_of(checkpoint)
    if head not in available:
        has = f"it has one for {' and '.join(available)}" if available else "it is a bare encoder"
        makes = f" (`numroberta finetune {TAUGHT_BY[head]}` makes one: `numroberta guide heads`)"
        raise ValueError(
            f"{checkpoint.name} has no head for {head}: {has}; load a checkpoint fine-tuned for {head}{makes}"
        )
    if head in (SEQUENCE, TOKEN):
        labels = checkpoint.config.id2label
        missing = sorted(set(range(len(labels))) - labels.keys())
        if missing:
            raise ValueError(
                f"{checkpoint.name}: id2label in config.json names labels {show(sorted(labels))}, but the head's "
                f"{len(labels)} outputs are 0 to {len(labels) - 1}: {missing[0]} is missing"
            )


class Layers:
    """A checkpoint's layers by transformers' names, for what is on top of the encoder: (features, columns) in and out.

    `reproducible.ExactLayers` are the same in exact products.
    """

    def __init__(self, tensors: Tensors, eps: float):
        self.tensors, self.eps = tensors, eps

    def linear(self, name: str, x: Array) -> Array:
        """W x + b, (in, n) -> (out, n): `torch.nn.Linear`."""
        return self.tensors[f"{name}.weight"] @ x + self.tensors[f"{name}.bias"][:, None]

    def decode(self, x: Array) -> Array:
        """A score for every token of the vocabulary, E x + c: (hidden, n) -> (vocab, n).

        E is the decoder's matrix if the checkpoint stores one, else the word embeddings (tied weights); c is its bias.
        """
        return self.tensors.get(DECODER, self.tensors[WORDS]) @ x + self.tensors[DECODER_BIAS][:, None]

    def layer_norm(self, name: str, x: Array) -> Array:
        """Layer norm of each column."""
        y = x.copy()
        gain, bias = self.tensors[f"{name}.weight"][:, None], self.tensors[f"{name}.bias"][:, None]
        kernels.layer_norm(y, gain, bias, self.eps)
        return y

    def gelu(self, x: Array) -> Array:
        """x Φ(x)."""
        y = x.copy()
        kernels.bias_gelu(y, np.zeros((len(y), 1), y.dtype), kernels.Scratch(y.dtype))
        return y

    def tanh(self, x: Array) -> Array:
        """The hyperbolic tangent."""
        return np.tanh(x)


def pooler(layers: Layers, first: Array) -> Array:
    """tanh(W x + b) of texts' first tokens, (hidden, b) -> (hidden, b): `transformers.RobertaPooler`."""
    return layers.tanh(layers.linear(HEADS[POOLER].layers[0], first))


def masked_lm(layers: Layers, x: Array) -> Array:
    """E LayerNorm(gelu(W x + b)) + c, (hidden, n) -> (vocab, n): `transformers.RobertaLMHead`."""
    dense, norm = HEADS[MASKED_LM].layers
    return layers.decode(layers.layer_norm(norm, layers.gelu(layers.linear(dense, x))))


def sequence(layers: Layers, first: Array) -> Array:
    """V tanh(W x + b) + c of texts' first tokens, (hidden, b) -> (labels, b): `RobertaClassificationHead`."""
    dense, out = HEADS[SEQUENCE].layers
    return layers.linear(out, layers.tanh(layers.linear(dense, first)))


def token(layers: Layers, x: Array) -> Array:
    """W x + b, (hidden, n) -> (labels, n): `RobertaForTokenClassification`."""
    return layers.linear(HEADS[TOKEN].layers[0], x)


def span(layers: Layers, x: Array) -> Array:
    """W x + b, (hidden, n) -> (2, n), where an answer starts and where it ends: `RobertaForQuestionAnswering`."""
    return layers.linear(HEADS[SPAN].layers[0], x)


COMPUTED_BY = {POOLER: pooler, MASKED_LM: masked_lm, SEQUENCE: sequence, TOKEN: token, SPAN: span}
