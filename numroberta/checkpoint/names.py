"""The names of tensors: what each is called in files, and what in this package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from numroberta.checkpoint.config import RobertaConfig
from numroberta.checkpoint.heads import WORDS, linear_shapes, norm_shapes
from numroberta.checkpoint.stored_tensor import Shape

T = TypeVar("T")

# BERT's names for the head that RoBERTa calls lm_head; the same layers.
BERT_LM_HEAD = {
    "cls.predictions.transform.dense.": "lm_head.dense.",
    "cls.predictions.transform.LayerNorm.": "lm_head.layer_norm.",
    "cls.predictions.decoder.": "lm_head.decoder.",
    "cls.predictions.bias": "lm_head.bias",
}
# BERT classifies with the pooler and a linear layer: in RoBERTa both belong to the head.
BERT_CLASSIFIER = {"pooler.dense.": "classifier.dense.", "classifier.": "classifier.out_proj."}

# Tensors that checkpoints have and nothing here computes with: buffers of early transformers, which hold 0, 1, 2, … and
# zeros, and the head with which BERT was trained to tell which sentences follow each other.
UNUSED = ("embeddings.position_ids", "embeddings.token_type_ids", "cls.seq_relationship.")


def canonical_name(name: str) -> str:
    """A tensor's name in this package, from any of the names that it has in checkpoints.

    >>> canonical_name("roberta.embeddings.LayerNorm.gamma")
    'embeddings.LayerNorm.weight'
    >>> canonical_name("cls.predictions.transform.dense.weight")
    'lm_head.dense.weight'
    """
    name = name.removeprefix("roberta.").removeprefix("bert.")
    # TensorFlow's names for layer norm, in checkpoints of 2019.
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return _renamed(name, BERT_LM_HEAD)


def _renamed(name: str, starts: Mapping[str, str]) -> str:
    start = next((start for start in starts if name.startswith(start)), None)
    return name if start is None else starts[start] + name.removeprefix(start)


def settle_berts_classifier(tensors: dict[str, T], config: RobertaConfig) -> dict[str, T]:
    """BERT's `classifier`, a linear layer in each of its classes, as the head that it is by the config's class.

    A config without a class is one of sequences if there is a pooler: classifiers of tokens have none.
    """
    if config.model_type != "bert" or "classifier.weight" not in tensors:
        return tensors
    named = next((name for name in config.architectures if name.startswith("BertFor")), None)
    if named != "BertForSequenceClassification" and (named is not None or "pooler.dense.weight" not in tensors):
        return tensors
    return {_renamed(name, BERT_CLASSIFIER): tensor for name, tensor in tensors.items()}


def name_in_file(name: str, config: RobertaConfig, has_head: bool) -> str:
    """A canonical name as transformers writes it: a model with a head calls its encoder roberta or bert."""
    if config.model_type == "bert":
        name = _renamed(name, {own: theirs for theirs, own in (BERT_LM_HEAD | BERT_CLASSIFIER).items()})
    prefix = "bert." if config.model_type == "bert" else "roberta."
    return prefix + name if has_head and name.startswith(("embeddings.", "encoder.", "pooler.")) else name


def encoder_shapes(config: RobertaConfig) -> dict[str, Shape]:
    """The shapes of the tensors that every checkpoint has, by canonical name.  A linear layer's weight is (out, in)."""
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes: dict[str, Shape] = {
        WORDS: (config.vocab_size, hidden),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, hidden),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, hidden),
    }
    shapes |= norm_shapes("embeddings.LayerNorm", hidden)
    for i in range(config.num_hidden_layers):
        layer = f"encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= linear_shapes(f"{layer}.attention.{part}", hidden, hidden)
        shapes |= norm_shapes(f"{layer}.attention.output.LayerNorm", hidden)
        shapes |= linear_shapes(f"{layer}.intermediate.dense", inner, hidden)
        shapes |= linear_shapes(f"{layer}.output.dense", hidden, inner)
        shapes |= norm_shapes(f"{layer}.output.LayerNorm", hidden)
    return shapes
