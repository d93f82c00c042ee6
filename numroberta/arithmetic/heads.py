"""Hidden states to logits: what a checkpoint has on top of the encoder.  A token is a column, as in the encoder.

A head is found by its tensors, under transformers' names.  `numroberta.model.tasks` makes answers of the logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import kernels
from numroberta.checkpoint import Checkpoint, show

Array = NDArray[Any]
Tensors = Mapping[str, Array]

MASKED_LM = "masked language model"
SEQUENCE = "sequence classification"
TOKEN = "token classification"
SPAN = "question answering"

HEADS = {  # the tensor by which a head is known
    MASKED_LM: "lm_head.dense.weight",
    SEQUENCE: "classifier.dense.weight",
    TOKEN: "classifier.weight",
    SPAN: "qa_outputs.weight",
}


def heads_of(checkpoint: Checkpoint) -> list[str]:
    """The heads that a checkpoint has."""
    return [head for head, tensor in HEADS.items() if tensor in checkpoint.stored]


def require(checkpoint: Checkpoint, head: str) -> None:
    """Raises ValueError where the checkpoint does not have this head, or its labels have gaps."""
    found = heads_of(checkpoint)
    if head not in found:
        has = f"it has one for {' and '.join(found)}" if found else "it is a bare encoder"
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
    y = tensors["lm_head.dense.weight"] @ x
    kernels.bias_gelu(y, tensors["lm_head.dense.bias"][:, None], kernels.Scratch(y.dtype))
    norm = "lm_head.layer_norm"
    kernels.layer_norm(y, tensors[f"{norm}.weight"][:, None], tensors[f"{norm}.bias"][:, None], eps)
    decoder = tensors.get("lm_head.decoder.weight", tensors["embeddings.word_embeddings.weight"])
    return decoder @ y + tensors["lm_head.bias"][:, None]  # (hidden, n) -> (vocab, n)


def sequence(tensors: Tensors, first: Array) -> Array:
    """V tanh(W x + b) + c of texts' first tokens, (hidden, b) -> (labels, b): `RobertaClassificationHead`."""
    return linear(tensors, "classifier.out_proj", np.tanh(linear(tensors, "classifier.dense", first)))


def token(tensors: Tensors, x: Array) -> Array:
    """W x + b, (hidden, n) -> (labels, n): `RobertaForTokenClassification`."""
    return linear(tensors, "classifier", x)


def span(tensors: Tensors, x: Array) -> Array:
    """W x + b, (hidden, n) -> (2, n), where an answer starts and where it ends: `RobertaForQuestionAnswering`."""
    return linear(tensors, "qa_outputs", x)


def linear(tensors: Tensors, name: str, x: Array) -> Array:
    return tensors[f"{name}.weight"] @ x + tensors[f"{name}.bias"][:, None]
