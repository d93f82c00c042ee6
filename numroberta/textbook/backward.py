"""The backward pass as a textbook writes it: `forward` and `heads` read from bottom to top, by the chain rule.

`x_backward` is the derivative of the function `x`.  It takes `dy`, the gradient of the loss with respect to what `x`
returned (∂L/∂y, of y's shape), and returns `dx`, that with respect to what `x` was given.  The gradients of tensors go
to `grads`, summed over texts and tokens, those of activations to `d`, each by name.  Letters as in `forward`.
This file is the specification: `numroberta.training` is faster and equals it to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from numroberta.textbook.forward import Array, Weights, erf, gelu, roberta_positions
from numroberta.textbook.heads import decoder_name

Named = dict[str, Array]


@dataclass(frozen=True)
class Backward:
    """What `backward` returns: ∂L/∂x for every x that the loss depends on, each of x's shape."""

    tensors: Named  # by the tensor's name in the checkpoint
    activations: Named  # by the activation's name in `forward` or `heads`


def backward(
    weights: Weights,
    input_ids: ArrayLike,
    acts: Named,
    given: Mapping[str, Array],
    *,
    num_attention_heads: int = 12,
    layer_norm_eps: float = 1e-5,
    padding_idx: int = 1,
    position_ids: ArrayLike | None = None,
    token_type_ids: ArrayLike = 0,
) -> Backward:
    """From the gradient of a loss at the top to that of every tensor and activation: `loss.backward()` in PyTorch.

    acts: `forward(…).activations`, and what `heads` added to them.
    given: what is known, by the activation's name: {"classifier.out_proj": cross_entropy_backward(…)}, or with the
        last hidden state {"encoder.layer.5.output": …}, or several, whose losses are added.
    position_ids, token_type_ids: as `forward` was given them.
    """
    grads: Named = {}
    d: Named = dict(given)  # a name's entry is complete when everything that was computed from it is done
    eps, layers = layer_norm_eps, sum(name.endswith(".intermediate") for name in acts)
    states = ["embeddings", *(f"encoder.layer.{i}.output" for i in range(layers))]
    heads_backward(weights, states[-1], eps, acts, d, grads)
    for i in reversed(range(layers)):
        feed_forward_backward(weights, f"encoder.layer.{i}", eps, acts, d, grads)
        name = f"encoder.layer.{i}.attention"
        attention_backward(weights, name, states[i], num_attention_heads, eps, acts, d, grads)
    embeddings_backward(weights, np.asarray(input_ids), position_ids, token_type_ids, padding_idx, eps, acts, d, grads)
    return Backward(grads, d)


def add(grads: Named, name: str, dy: Array) -> None:
    """What is used twice (a residual, tied embeddings) has the sum of both gradients: the chain rule's only plus."""
    grads[name] = grads[name] + dy if name in grads else dy


def heads_backward(weights: Weights, last: str, eps: float, acts: Named, d: Named, grads: Named) -> None:
    """The heads whose gradient is given, down to the last hidden state, (b, n, d), whose name is `last`."""
    x = acts[last]
    d.setdefault(last, np.zeros_like(x))
    if "lm_head" in d:
        add(d, last, masked_lm_head_backward(weights, x, eps, acts, d, grads))
    if "classifier.out_proj" in d:
        y = np.tanh(acts["classifier.dense"])  # (b, d)
        dy = linear_backward(weights, "classifier.out_proj", y, d["classifier.out_proj"], grads)
        d["classifier.dense"] = dy * (1 - y * y)  # y = tanh(x): dx = dy (1 − y²)
    if "pooler" in d:
        d["pooler.dense"] = d["pooler"] * (1 - np.square(acts["pooler"]))
    for name in ("classifier.dense", "pooler.dense"):
        if name in d:  # y = W x[:, 0] + b: only each text's first token has a part in it
            dx = np.zeros_like(x)  # (b, n, d)
            dx[:, 0] = linear_backward(weights, name, x[:, 0], d[name], grads)
            add(d, last, dx)
    for name in ("classifier", "qa_outputs"):
        if name in d:
            add(d, last, linear_backward(weights, name, x, d[name], grads))


def masked_lm_head_backward(weights: Weights, x: Array, eps: float, acts: Named, d: Named, grads: Named) -> Array:
    """Logits = E y + c: dy = Eᵀ dz, dE = Σ dz yᵀ; a tied E is the word embeddings, (b, n, vocabulary) -> (b, n, d)."""
    dz, y = d["lm_head"], acts["lm_head.layer_norm"]
    decoder = decoder_name(weights)
    add(grads, decoder, np.einsum("bnv,bnd->vd", dz, y, optimize=True))
    add(grads, "lm_head.bias", dz.sum((0, 1)))
    d["lm_head.layer_norm"] = dz @ weights[decoder]
    dense = acts["lm_head.dense"]
    dy = layer_norm_backward(weights, "lm_head.layer_norm", gelu(dense), d["lm_head.layer_norm"], eps, grads)
    d["lm_head.dense"] = gelu_backward(dense, dy)
    return linear_backward(weights, "lm_head.dense", x, d["lm_head.dense"], grads)


def feed_forward_backward(weights: Weights, name: str, eps: float, acts: Named, d: Named, grads: Named) -> None:
    """LayerNorm(x + W₂ gelu(W₁ x + b₁) + b₂): x has the residual's gradient and that through W₁, (b, n, d)."""
    x = acts[f"{name}.attention.output"]
    before = x + acts[f"{name}.output.dense"]
    dy = layer_norm_backward(weights, f"{name}.output.LayerNorm", before, d[f"{name}.output"], eps, grads)
    d[f"{name}.output.dense"] = dy
    wide = acts[f"{name}.intermediate"]
    d[f"{name}.intermediate"] = linear_backward(weights, f"{name}.output.dense", wide, dy, grads)  # (b, n, 4d)
    dense = f"{name}.intermediate.dense"
    d[dense] = gelu_backward(acts[dense], d[f"{name}.intermediate"])
    add(d, f"{name}.attention.output", dy + linear_backward(weights, dense, x, d[dense], grads))


def attention_backward(
    weights: Weights, name: str, below: str, heads: int, eps: float, acts: Named, d: Named, grads: Named
) -> None:
    """S = Q Kᵀ/√k, P = softmax(S), C = P V: dV = Pᵀ dC, dP = dC Vᵀ, dQ = dS K/√k, dK = dSᵀ Q/√k.

    below: the name of x, whose gradient gets what comes through Q, K, V and the residual.
    """
    x = acts[below]
    b, n, width = x.shape

    def by_head(y: Array) -> Array:
        return y.reshape(b, n, heads, width // heads).swapaxes(1, 2)  # (b, n, d) -> (b, h, n, k)

    before = x + acts[f"{name}.output.dense"]
    dy = layer_norm_backward(weights, f"{name}.output.LayerNorm", before, d[f"{name}.output"], eps, grads)
    d[f"{name}.output.dense"] = dy
    d[f"{name}.context"] = linear_backward(weights, f"{name}.output.dense", acts[f"{name}.context"], dy, grads)
    dcontext = by_head(d[f"{name}.context"])  # (b, n, d) -> (b, h, n, k)
    query, key, value = (by_head(acts[f"{name}.self.{part}"]) for part in ("query", "key", "value"))
    probs = acts[f"{name}.probs"]  # (b, h, n queries, n keys)
    d[f"{name}.probs"] = dcontext @ value.swapaxes(2, 3)
    d[f"{name}.scores"] = softmax_backward(probs, d[f"{name}.probs"])
    dscores = d[f"{name}.scores"] / np.sqrt(width // heads, dtype=x.dtype)
    dx = dy
    for part, dpart in (
        ("query", dscores @ key),
        ("key", dscores.swapaxes(2, 3) @ query),
        ("value", probs.swapaxes(2, 3) @ dcontext),
    ):
        d[f"{name}.self.{part}"] = dpart.swapaxes(1, 2).reshape(b, n, width)  # (b, h, n, k) -> (b, n, d)
        dx = dx + linear_backward(weights, f"{name}.self.{part}", x, d[f"{name}.self.{part}"], grads)
    add(d, below, dx)


def embeddings_backward(
    weights: Weights, ids: Array, position_ids: ArrayLike | None, types: ArrayLike,
    padding_idx: int, eps: float, acts: Named, d: Named, grads: Named,
) -> None:  # fmt: skip
    """y = E[ids]: a row gets the sum of the gradients of the places where it stands; padding's row gets none."""
    places = roberta_positions(ids, padding_idx) if position_ids is None else np.asarray(position_ids)
    word, place, kind = (f"embeddings.{part}_embeddings" for part in ("word", "position", "token_type"))
    before = acts[word] + acts[place] + acts[kind]
    dy = layer_norm_backward(weights, "embeddings.LayerNorm", before, d["embeddings"], eps, grads)
    d |= {word: dy, place: dy, kind: dy if np.ndim(types) else dy.sum((0, 1))}
    is_token = ids != padding_idx
    placed = is_token | (position_ids is not None)  # none of BERT's positions is padding's
    for part, rows, where in ((word, ids, is_token), (place, places, placed), (kind, types, is_token | True)):
        total = np.zeros_like(weights[f"{part}.weight"])
        np.add.at(total, np.broadcast_to(rows, ids.shape)[where], dy[where])  # (tokens, d) -> (rows, d)
        add(grads, f"{part}.weight", total)


def linear_backward(weights: Weights, name: str, x: Array, dy: Array, grads: Named) -> Array:
    """y = x Wᵀ + b: dx = dy W, dW = Σ dyᵀ x, db = Σ dy, (…, out) -> (…, in)."""
    rows = dy.reshape(-1, dy.shape[-1])  # (…, out) -> (texts and tokens, out)
    add(grads, f"{name}.weight", rows.T @ x.reshape(-1, x.shape[-1]))
    add(grads, f"{name}.bias", rows.sum(0))
    return dy @ weights[f"{name}.weight"]


def layer_norm_backward(weights: Weights, name: str, x: Array, dy: Array, eps: float, grads: Named) -> Array:
    """y = γ x̂ + β, x̂ = (x − mean)/σ: dx = (g − mean(g) − x̂ mean(g x̂)) / σ with g = γ dy, dγ = Σ dy x̂, dβ = Σ dy.

    The two means are what x's own mean and variance owe: a change in one feature moves all the others.
    """
    centred = x - x.mean(-1, keepdims=True)
    sigma = np.sqrt(np.square(centred).mean(-1, keepdims=True) + eps)
    normal, lead = centred / sigma, tuple(range(x.ndim - 1))
    add(grads, f"{name}.weight", (dy * normal).sum(lead))
    add(grads, f"{name}.bias", dy.sum(lead))
    g = dy * weights[f"{name}.weight"]
    return (g - g.mean(-1, keepdims=True) - normal * (g * normal).mean(-1, keepdims=True)) / sigma


def softmax_backward(y: Array, dy: Array) -> Array:
    """y = softmax(x): ∂yᵢ/∂xⱼ = yᵢ(δᵢⱼ − yⱼ), so dx = y (dy − Σ dy y), over the last axis."""
    return y * (dy - (dy * y).sum(-1, keepdims=True))


def gelu_backward(x: Array, dy: Array) -> Array:
    """y = x Φ(x): dx = dy (Φ(x) + x φ(x)), φ the density of the normal distribution; in float64, as `gelu`."""
    wide = x.astype(np.float64)
    slope = (1 + erf(wide / np.sqrt(2))) / 2 + wide * np.exp(-wide * wide / 2) / np.sqrt(2 * np.pi)
    return (dy * slope).astype(x.dtype)
