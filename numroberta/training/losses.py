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


def cross_entropy(logits: Array, labels: Array, total: float) -> tuple[float, Array]:
    """−log softmax(z)[label], labels (m,): `torch.nn.CrossEntropyLoss`."""
    places = np.arange(len(labels))
    shifted = logits - logits.max(axis=0)
    powers = np.exp(shifted)
    sums = powers.sum(axis=0)
    loss = (np.log(sums) - shifted[labels, places]).sum(dtype=np.float64) / total
    powers /= sums * total
    powers[labels, places] -= 1 / total
    return float(loss), powers


def binary_cross_entropy(logits: Array, targets: Array, total: float) -> tuple[float, Array]:
    """−t log σ(z) − (1 − t) log σ(−z), the mean over labels too, targets (labels, m): `torch.nn.BCEWithLogitsLoss`."""
    total = total * len(logits)
    loss = (np.logaddexp(0, logits) - targets * logits).sum(dtype=np.float64) / total
    sigmoid = np.exp(-np.logaddexp(0, -logits))
    return float(loss), ((sigmoid - targets) / total).astype(logits.dtype)


def squared_error(logits: Array, targets: Array, total: float) -> tuple[float, Array]:
    """(z − t)², targets (labels, m): `torch.nn.MSELoss`."""
    total = total * len(logits)
    difference = logits - targets
    return float(np.square(difference).sum(dtype=np.float64) / total), (2 / total * difference).astype(logits.dtype)


def span_cross_entropy(logits: Array, lengths: Sequence[int], spans: Array, total: float) -> tuple[float, Array]:
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


def distillation(u: Array, t: Array, temperature: float, similarity: float) -> tuple[float, Array]:
    """1 − cos(u, t), the mean over texts, and `similarity` times what u's cosines with each other lack of t's.

    The second is the mean of KL(softmax(t's cosines / τ) ‖ softmax(u's)), each text among all others of the batch:
    "similarity-preserving" (Tung & Mori 2019) with the temperature of Hinton et al. 2015.
    u: (hidden, b), the vectors that learn; t: (hidden, b), the teacher's, of length 1.
    Returns the loss and its gradient with respect to u.
    """
    texts = u.shape[1]
    u, norm = _normalized(u)
    cosine = (u * t).sum(axis=0)
    loss, du = float((1 - cosine).mean(dtype=np.float64)), -t / texts
    if similarity and texts > 2:
        ours, theirs = _log_softmax(u.T @ u / temperature), _log_softmax(t.T @ t / temperature)
        wanted = np.exp(theirs)
        loss += similarity * float((wanted * (theirs - ours)).sum(dtype=np.float64)) / texts
        slope = (np.exp(ours) - wanted) * (similarity / (temperature * texts))  # (others, b)
        du = du + u @ (slope + slope.T)
    return loss, ((du - u * (u * du).sum(axis=0)) / norm).astype(u.dtype)


def _log_softmax(scores: Array) -> Array:
    """log softmax over each column, its own text left out, (b, b) -> (b, b)."""
    np.fill_diagonal(scores, -1e9)
    scores -= scores.max(axis=0)
    scores -= np.log(np.exp(scores).sum(axis=0))
    return scores


def _normalized(x: Array) -> tuple[Array, Array]:
    """x / ‖x‖ and ‖x‖, column by column; a zero vector stays zero."""
    norm = np.maximum(np.linalg.norm(x, axis=0), 1e-12).astype(x.dtype)
    return x / norm, norm
