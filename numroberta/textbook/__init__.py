"""The model as a textbook writes it, in plain NumPy: the specification that everything fast is tested against.

forward    token ids to hidden states, every value on the way kept under its name
heads      hidden states to logits
losses     logits or hidden states to a loss, each with its derivative
backward   the gradient of a loss to every tensor and every activation
"""

# Not lazily: `forward`, `heads` and `backward` are functions here and files' names, and the functions are meant.
from numroberta.textbook.backward import Backward, backward, gelu_backward, layer_norm_backward, softmax_backward
from numroberta.textbook.forward import (
    Output,
    attention,
    embeddings,
    erf,
    feed_forward,
    forward,
    gelu,
    layer_norm,
    linear,
    roberta_positions,
    softmax,
)
from numroberta.textbook.heads import heads, masked_lm_head, sequence_head
from numroberta.textbook.losses import (
    cosine_similarity,
    cosine_similarity_backward,
    cross_entropy,
    cross_entropy_backward,
    mean_pooling,
    mean_pooling_backward,
)

__all__ = [
    "Backward",
    "Output",
    "attention",
    "backward",
    "cosine_similarity",
    "cosine_similarity_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "embeddings",
    "erf",
    "feed_forward",
    "forward",
    "gelu",
    "gelu_backward",
    "heads",
    "layer_norm",
    "layer_norm_backward",
    "linear",
    "masked_lm_head",
    "mean_pooling",
    "mean_pooling_backward",
    "roberta_positions",
    "sequence_head",
    "softmax",
    "softmax_backward",
]
