"""What a checkpoint may have on top of the encoder: each head's name, its layers, their shapes, what it reads.

This is the one place that knows the heads' tensors, under transformers' names.  `numroberta.arithmetic.heads` computes
with them, and `numroberta.parity` records and compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from numroberta.checkpoint.config import RobertaConfig
from numroberta.checkpoint.stored_tensor import Shape

POOLER = "pooler"
MASKED_LM = "masked language model"
SEQUENCE = "sequence classification"
TOKEN = "token classification"
SPAN = "question answering"

WORDS = "embeddings.word_embeddings.weight"
DECODER = "lm_head.decoder.weight"  # stored where it is not the word embeddings
DECODER_BIAS = "lm_head.bias"


class Head(NamedTuple):
    """A head of transformers: `classifier` of `RobertaForTokenClassification`, for example."""

    layers: tuple[str, ...]  # the modules that have weights, in the order in which they compute
    shapes: Callable[[RobertaConfig], dict[str, Shape]]  # of its tensors, without a decoder of its own
    first_token: bool  # reads the hidden state of <s> alone; otherwise that of every token

    @property
    def marker(self) -> str:
        """The tensor by which the head is known: who has it has them all."""
        return f"{self.layers[0]}.weight"


def linear_shapes(name: str, outputs: int, inputs: int) -> dict[str, Shape]:
    """The tensors of a linear layer; its weight is (out, in)."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm_shapes(name: str, size: int) -> dict[str, Shape]:
    """The tensors of a layer norm."""
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


HEADS: Mapping[str, Head] = {
    POOLER: Head(
        ("pooler.dense",),
        lambda config: linear_shapes("pooler.dense", config.hidden_size, config.hidden_size),
        first_token=True,
    ),
    MASKED_LM: Head(
        ("lm_head.dense", "lm_head.layer_norm"),
        lambda config: {
            **linear_shapes("lm_head.dense", config.hidden_size, config.hidden_size),
            **norm_shapes("lm_head.layer_norm", config.hidden_size),
            DECODER_BIAS: (config.vocab_size,),
        },
        first_token=False,
    ),
    SEQUENCE: Head(
        ("classifier.dense", "classifier.out_proj"),
        lambda config: {
            **linear_shapes("classifier.dense", config.hidden_size, config.hidden_size),
            **linear_shapes("classifier.out_proj", config.num_labels, config.hidden_size),
        },
        first_token=True,
    ),
    TOKEN: Head(
        ("classifier",),
        lambda config: linear_shapes("classifier", config.num_labels, config.hidden_size),
        first_token=False,
    ),
    SPAN: Head(
        ("qa_outputs",),
        lambda config: linear_shapes("qa_outputs", 2, config.hidden_size),
        first_token=False,
    ),
}


def heads_among(names: Collection[str]) -> list[str]:
    """The names of the heads whose tensors are among these; the pooler, which answers nothing by itself, is none."""
    return [name for name, head in HEADS.items() if name != POOLER and head.marker in names]


def head_shapes(config: RobertaConfig, *, own_decoder: bool) -> dict[str, dict[str, Shape]]:
    """The tensors of each head; a checkpoint has all of a head's or none."""
    shapes = {name: head.shapes(config) for name, head in HEADS.items()}
    if own_decoder:
        shapes[MASKED_LM][DECODER] = (config.vocab_size, config.hidden_size)
    if any(name.endswith("ForMultipleChoice") for name in config.architectures):
        # Its classifier gives one score a choice: another head under the name of token classification's.
        del shapes[TOKEN]
    return shapes
