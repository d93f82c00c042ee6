"""Losses and their gradients.  Logits are (labels, m), a column for each text or token; vectors (hidden, b).

Each function returns (its share of the loss, dL/dlogits): `total` is the number of texts, tokens or pairs over which
the loss is a mean, in all groups of a step together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def cross_entropy(logits: Array, labels: Array, total: int) -> tuple[float, Array]:
    """−log softmax(z)[label], labels (m,): `torch.nn.CrossEntropyLoss`."""
    places = np.arange(len(labels))
    shifted = logits - logits.max(axis=0)
    powers = np.exp(shifted)
    sums = powers.sum(axis=0)
    loss = (np.log(sums) - shifted[labels, places]).sum(dtype=np.float64) / total
    powers /= sums * total
    powers[labels, places] -= 1 / total
    return float(loss), powers


def binary_cross_entropy(logits: Array, targets: Array, total: int) -> tuple[float, Array]:
    """−t log σ(z) − (1 − t) log σ(−z), the mean over labels too, targets (labels, m): `torch.nn.BCEWithLogitsLoss`."""
    total = total * len(logits)
    loss = (np.logaddexp(0, logits) - targets * logits).sum(dtype=np.float64) / total
    sigmoid = np.exp(-np.logaddexp(0, -logits))
    return float(loss), ((sigmoid - targets) / total).astype(logits.dtype)


def squared_error(logits: Array, targets: Array, total: int) -> tuple[float, Array]:
    """(z − t)², targets (labels, m): `torch.nn.MSELoss`."""
    total = total * len(logits)
    difference = logits - targets
    return float(np.square(difference).sum(dtype=np.float64) / total), (2 / total * difference).astype(logits.dtype)


def span_cross_entropy(logits: Array, lengths: Sequence[int], spans: Array, total: int) -> tuple[float, Array]:
    """Half of the cross entropies of where an answer starts and where it ends, each a softmax over a text's tokens.

    logits: (2, n), texts of these lengths side by side; spans: (b, 2), places in the text.  Unlike in transformers,
    padding has no share in the softmax.
    """
    loss, gradient, start = 0.0, np.empty_like(logits), 0
    for length, span in zip(lengths, spans, strict=True):
        own = logits[:, start : start + length].T  # (2, tokens) -> (tokens, 2): starts and ends are columns
        part, slope = cross_entropy(own, span, 2 * total)
        gradient[:, start : start + length] = slope.T
        loss += part
        start += length
    return loss, gradient


def cosine_similarity(u: Array, v: Array, scores: Array) -> tuple[float, Array, Array]:
    """(cos(u, v) − score)², the mean over pairs: `CosineSimilarityLoss`.  (hidden, b), (hidden, b), (b,)."""
    (u, norm_u), (v, norm_v) = _normalized(u), _normalized(v)
    cosine = (u * v).sum(axis=0)
    slope = 2 / len(scores) * (cosine - scores).astype(u.dtype)
    loss = np.square(cosine - scores).mean(dtype=np.float64)
    return float(loss), slope * (v - cosine * u) / norm_u, slope * (u - cosine * v) / norm_v


def multiple_negatives_ranking(u: Array, v: Array, scale: float = 20.0) -> tuple[float, Array, Array]:
    """Cross entropy of which v belongs to each u, among all of the batch, with scale · cos(u, v) as the logits.

    `MultipleNegativesRankingLoss` (Henderson et al. 2017).  (hidden, b), (hidden, b).
    """
    (u, norm_u), (v, norm_v) = _normalized(u), _normalized(v)
    cosine = v.T @ u  # (hidden, b), (hidden, b) -> (candidates, b)
    loss, slope = cross_entropy(scale * cosine, np.arange(u.shape[1]), u.shape[1])
    slope *= scale
    product = slope * cosine
    du = (v @ slope - u * product.sum(axis=0)) / norm_u
    dv = (u @ slope.T - v * product.sum(axis=1)) / norm_v
    return loss, du, dv


def _normalized(x: Array) -> tuple[Array, Array]:
    """x / ‖x‖ and ‖x‖, column by column; a zero vector stays zero."""
    norm = np.maximum(np.linalg.norm(x, axis=0), 1e-12).astype(x.dtype)
    return x / norm, norm
