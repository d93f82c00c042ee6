"""From logits or hidden states to a loss, and each function's derivative beside it.

`x_backward` takes `dy`, the gradient of the loss with respect to what `x` returned; see `backward`.
"""

from __future__ import annotations

import numpy as np

from numroberta.textbook.forward import Array, softmax


def cross_entropy(logits: Array, labels: Array) -> float:
    """−log softmax(z)[label], the mean over what has a label, (…, c), (…) -> (); −100 says that there is none."""
    labelled = labels != -100
    probs = softmax(logits[labelled])  # (…, c) -> (labelled, c)
    return float(-np.log(np.take_along_axis(probs, labels[labelled][:, None], -1)).mean())


def cross_entropy_backward(logits: Array, labels: Array) -> Array:
    """dz = (softmax(z) − onehot(label)) / count, (…, c) -> (…, c); 0 where there is no label."""
    labelled = labels != -100
    dz = softmax(logits)
    dz[labelled, labels[labelled]] -= 1
    return np.where(labelled[..., None], dz / labelled.sum(dtype=logits.dtype), 0)


def mean_pooling(x: Array, mask: Array) -> Array:
    """The mean of each text's tokens without its padding, (b, n, d), (b, n) -> (b, d)."""
    share = (mask / mask.sum(1, keepdims=True)).astype(x.dtype)
    return (share[..., None] * x).sum(1)


def mean_pooling_backward(mask: Array, dy: Array) -> Array:
    """Each token has an equal share of its text's vector, padding none, (b, d) -> (b, n, d)."""
    share = (mask / mask.sum(1, keepdims=True)).astype(dy.dtype)
    return share[..., None] * dy[:, None]


def cosine_similarity(u: Array, v: Array) -> Array:
    """û·v̂ with û = u / ‖u‖, (b, d), (b, d) -> (b,)."""
    return (u * v).sum(-1) / (np.linalg.norm(u, axis=-1) * np.linalg.norm(v, axis=-1))


def cosine_similarity_backward(u: Array, v: Array, dy: Array) -> tuple[Array, Array]:
    """du = dy (v̂ − cos û) / ‖u‖, what of v̂ is not along û, and dv by symmetry, (b,) -> (b, d), (b, d)."""
    norm_u, norm_v = (np.linalg.norm(a, axis=-1, keepdims=True) for a in (u, v))
    u, v = u / norm_u, v / norm_v
    cosine, dy = (u * v).sum(-1, keepdims=True), dy[:, None]
    return dy * (v - cosine * u) / norm_u, dy * (u - cosine * v) / norm_v
