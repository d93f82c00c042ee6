"""What stands on top of the encoder, as a textbook writes it.

The letters of the shapes are those of `forward`; `c` labels.
"""

from __future__ import annotations

import numpy as np

from numroberta.textbook.forward import Activations, Array, Weights, gelu, layer_norm, linear


def heads(weights: Weights, x: Array, eps: float, acts: Activations) -> None:
    """The logits of every head that the weights have, from the last hidden state (b, n, d), into `acts`."""
    if "lm_head.dense.weight" in weights:
        masked_lm_head(weights, x, eps, acts)
    if "classifier.dense.weight" in weights:
        sequence_head(weights, x, acts)
    for name in ("classifier", "qa_outputs"):  # token labels; where an answer starts and ends
        if f"{name}.weight" in weights:
            linear(weights, name, x, acts)  # (b, n, d) -> (b, n, c), (b, n, 2)


def masked_lm_head(weights: Weights, x: Array, eps: float, acts: Activations) -> Array:
    """E LayerNorm(gelu(W x + b)) + c, (b, n, d) -> (b, n, vocabulary): `transformers.RobertaLMHead`.

    E is the word embeddings ("tied"), or a decoder of its own.
    """
    y = gelu(linear(weights, "lm_head.dense", x, acts))
    y = acts["lm_head.layer_norm"] = layer_norm(weights, "lm_head.layer_norm", y, eps)
    acts["lm_head"] = y @ weights[decoder_name(weights)].T + weights["lm_head.bias"]
    return acts["lm_head"]


def decoder_name(weights: Weights) -> str:
    own = "lm_head.decoder.weight"
    return own if own in weights else "embeddings.word_embeddings.weight"


def sequence_head(weights: Weights, x: Array, acts: Activations) -> Array:
    """V tanh(W x + b) + c of each text's first token, (b, n, d) -> (b, c): `RobertaClassificationHead`."""
    y = np.tanh(linear(weights, "classifier.dense", x[:, 0], acts))  # (b, n, d) -> (b, d)
    return linear(weights, "classifier.out_proj", y, acts)
