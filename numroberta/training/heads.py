"""Hidden states to logits and back: what is trained on top of the encoder, each function above its derivative.

`x` is the last hidden state of the tokens that the head reads, (hidden, m); logits are (labels, m).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import kernels
from numroberta.checkpoint import DECODER, WORDS
from numroberta.training.network import Network

Array = NDArray[Any]


def sequence(net: Network, x: Array) -> Array:
    """V tanh(W x + b) + c of texts' first tokens, (hidden, b) -> (labels, b): `RobertaClassificationHead`.

    In BERT W and b are the pooler, and nothing is dropped before it.
    """
    net.keep("classifier x", x)
    if not is_bert(net):
        x = net.drop("classifier", x)
    y = net.linear("classifier.dense", x, "classifier y")
    np.tanh(y, y)
    net.keep("classifier tanh", y.copy())
    return net.linear("classifier.out_proj", net.drop("classifier.dense", y), "logits")


def sequence_backward(net: Network, dlogits: Array) -> Array:
    """tanh′ = 1 − tanh², (labels, b) -> (hidden, b)."""
    tanh, x = net.kept["classifier tanh"], net.kept["classifier x"]
    dropped = net.drop("classifier.dense", tanh.copy(), again=True)
    dy = net.linear_backward("classifier.out_proj", dropped, dlogits, "d head")
    dy = net.drop_backward("classifier.dense", dy, "d classifier")
    dx = net.linear_backward("classifier.dense", x, dy * (1 - tanh * tanh), "d head")
    return dx if is_bert(net) else net.drop_backward("classifier", dx, "d classifier")


def is_bert(net: Network) -> bool:
    return net.config.model_type == "bert"


def token(net: Network, x: Array) -> Array:
    """W x + b, (hidden, m) -> (labels, m): `RobertaForTokenClassification`."""
    return net.linear("classifier", net.drop("classifier", net.keep("classifier x", x)), "logits")


def token_backward(net: Network, dlogits: Array) -> Array:
    dx = net.linear_backward("classifier", net.kept["classifier x"], dlogits, "d head")
    return net.drop_backward("classifier", dx, "d classifier")


def span(net: Network, x: Array) -> Array:
    """W x + b, (hidden, m) -> (2, m), where an answer starts and where it ends: `RobertaForQuestionAnswering`."""
    return net.linear("qa_outputs", net.keep("qa_outputs x", x), "logits")


def span_backward(net: Network, dlogits: Array) -> Array:
    return net.linear_backward("qa_outputs", net.kept["qa_outputs x"], dlogits, "d head")


def masked_lm(net: Network, x: Array) -> Array:
    """E LayerNorm(gelu(W x + b)) + c, (hidden, m) -> (vocab, m): `transformers.RobertaLMHead`."""
    y = net.product("lm_head.dense", net.keep("lm_head x", x), "lm_head y")
    slope = net.keep("lm_head slope", np.empty_like(y))
    kernels.bias_gelu_with_slope(y, net.tensors["lm_head.dense.bias"][:, None], slope, net.memory)
    y = net.keep("lm_head y", net.norm("lm_head.layer_norm", y, "lm_head norm"))
    return net.tensors[decoder(net)] @ y + net.tensors["lm_head.bias"][:, None]


def masked_lm_backward(net: Network, dlogits: Array) -> Array:
    """(vocab, m) -> (hidden, m).  A tied decoder's gradient is a part of that of the word embeddings."""
    net.gradients.add_product(decoder(net), dlogits, net.kept["lm_head y"])
    net.gradients.add("lm_head.bias", dlogits.sum(1))
    dy = net.norm_backward("lm_head.layer_norm", net.tensors[decoder(net)].T @ dlogits)
    dy *= net.kept["lm_head slope"]
    return net.linear_backward("lm_head.dense", net.kept["lm_head x"], dy, "d head")


def decoder(net: Network) -> str:
    return DECODER if DECODER in net.tensors else WORDS
