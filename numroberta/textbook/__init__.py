"""The model as a textbook writes it, in plain NumPy: the specification that everything fast is tested against.

forward   token ids to hidden states, every value on the way kept under its name
"""

# Not lazily: `forward` is a function here and the file's name, and the function is meant.
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
    softmax,
)

__all__ = [
    "Output",
    "attention",
    "embeddings",
    "erf",
    "feed_forward",
    "forward",
    "gelu",
    "layer_norm",
    "linear",
    "softmax",
]
