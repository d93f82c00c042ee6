"""RoBERTa's forward pass as a textbook writes it, in plain NumPy: read it from top to bottom.

The letters of the shapes: `b` texts in the batch, `n` tokens in a text, `d` = hidden size, `h` heads, `k` = d / h.
`weights` maps a checkpoint's names (transformers' `RobertaModel`) to arrays; a linear layer's weight is `(out, in)`.
Every value on the way is kept in `activations`, under the name of the module of transformers that computes it.
This file is the specification: `numroberta.arithmetic.encoder` is faster and equals it to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
Weights = Mapping[str, Array]
Activations = dict[str, Array]


@dataclass(frozen=True)
class Output:
    """What `forward` returns: transformers' names, order and shapes."""

    last_hidden_state: Array  # (b, n, d)
    pooler_output: Array | None  # (b, d), None where the checkpoint has no pooler
    hidden_states: tuple[Array, ...]  # 1 + layers, each (b, n, d): the embeddings, then the output of each layer
    attentions: tuple[Array, ...]  # a layer each, (b, h, n queries, n keys); each row sums to 1
    activations: Activations  # every step by name, in the order of the forward pass


def forward(
    weights: Weights,
    input_ids: ArrayLike,
    attention_mask: ArrayLike | None = None,
    *,
    num_attention_heads: int = 12,
    layer_norm_eps: float = 1e-5,
    padding_idx: int = 1,
    position_ids: ArrayLike | None = None,
    token_type_ids: ArrayLike | None = None,
) -> Output:
    """Token ids to hidden states: `transformers.RobertaModel`, in the dtype of the weights.

    input_ids: (b, n) integers.  attention_mask: (b, n), 1 = a token, 0 = padding that nobody attends to; None: all 1.
    position_ids, token_type_ids: (b, n) rows of their tables, which make it `transformers.BertModel`: BERT counts
    positions from 0, and the second text of a pair has type 1.  None: RoBERTa's positions, and type 0.
    """
    input_ids = np.asarray(input_ids)
    mask = np.ones_like(input_ids) if attention_mask is None else np.asarray(attention_mask)
    acts: Activations = {}

    positions = roberta_positions(input_ids, padding_idx) if position_ids is None else np.asarray(position_ids)
    types = np.asarray(0 if token_type_ids is None else token_type_ids)
    x = embeddings(weights, input_ids, positions, types, layer_norm_eps, acts)  # (b, n) -> (b, n, d)
    blocked = np.where(mask == 0, np.finfo(x.dtype).min, 0).astype(x.dtype)
    blocked = blocked[:, None, None, :]  # (b, n) -> (b, 1, 1, n keys), added to the scores of every head and query

    hidden_states = [x]
    while f"encoder.layer.{len(hidden_states) - 1}.output.dense.weight" in weights:
        name = f"encoder.layer.{len(hidden_states) - 1}"
        x = attention(weights, f"{name}.attention", x, blocked, num_attention_heads, layer_norm_eps, acts)
        x = feed_forward(weights, name, x, layer_norm_eps, acts)
        hidden_states.append(x)

    pooled = None
    if "pooler.dense.weight" in weights:
        pooled = acts["pooler"] = np.tanh(linear(weights, "pooler.dense", x[:, 0], acts))  # (b, d)
    probs = tuple(value for name, value in acts.items() if name.endswith("attention.probs"))
    return Output(x, pooled, tuple(hidden_states), probs, acts)


def roberta_positions(input_ids: Array, padding_idx: int) -> Array:
    """Tokens count from padding_idx + 1; padding keeps padding_idx and is not counted.  (b, n) -> (b, n)

    >>> roberta_positions(np.array([[0, 4, 2, 1, 1]]), 1)
    array([[2, 3, 4, 1, 1]])
    """
    is_token = input_ids != padding_idx
    return padding_idx + np.cumsum(is_token, axis=1) * is_token


def embeddings(
    weights: Weights, input_ids: Array, position_ids: Array, type_ids: Array, eps: float, acts: Activations
) -> Array:
    """LayerNorm(word + position + token type), (b, n) -> (b, n, d): `transformers.RobertaEmbeddings`.

    type_ids: (b, n), or 0 for all tokens.
    """
    word = acts["embeddings.word_embeddings"] = weights["embeddings.word_embeddings.weight"][input_ids]
    place = acts["embeddings.position_embeddings"] = weights["embeddings.position_embeddings.weight"][position_ids]
    kind = acts["embeddings.token_type_embeddings"] = weights["embeddings.token_type_embeddings.weight"][type_ids]
    acts["embeddings"] = layer_norm(weights, "embeddings.LayerNorm", word + place + kind, eps)
    return acts["embeddings"]


def attention(
    weights: Weights, name: str, x: Array, blocked: Array, heads: int, eps: float, acts: Activations
) -> Array:
    """LayerNorm(x + W concat(softmax(Q Kᵀ / √k) V) + b), (b, n, d) -> (b, n, d): Vaswani et al. 2017, eq. 1."""
    b, n, d = x.shape

    def by_head(y: Array) -> Array:
        return y.reshape(b, n, heads, d // heads).swapaxes(1, 2)  # (b, n, d) -> (b, h, n, k)

    query, key, value = (by_head(linear(weights, f"{name}.self.{part}", x, acts)) for part in ("query", "key", "value"))
    scores = query @ key.swapaxes(2, 3) / np.sqrt(d // heads, dtype=x.dtype)  # (b, h, n, k) -> (b, h, n, n keys)
    probs = softmax(scores + blocked)  # (b, h, n, n)
    context = (probs @ value).swapaxes(1, 2).reshape(b, n, d)  # (b, h, n, k) -> (b, n, d)
    acts |= {f"{name}.scores": scores, f"{name}.probs": probs, f"{name}.context": context}

    y = linear(weights, f"{name}.output.dense", context, acts)
    acts[f"{name}.output"] = layer_norm(weights, f"{name}.output.LayerNorm", x + y, eps)
    return acts[f"{name}.output"]


def feed_forward(weights: Weights, name: str, x: Array, eps: float, acts: Activations) -> Array:
    """LayerNorm(x + W₂ gelu(W₁ x + b₁) + b₂), (b, n, d) -> (b, n, d): Vaswani et al. 2017, eq. 2, with gelu."""
    wide = acts[f"{name}.intermediate"] = gelu(linear(weights, f"{name}.intermediate.dense", x, acts))  # (b, n, 4d)
    y = linear(weights, f"{name}.output.dense", wide, acts)  # (b, n, 4d) -> (b, n, d)
    acts[f"{name}.output"] = layer_norm(weights, f"{name}.output.LayerNorm", x + y, eps)
    return acts[f"{name}.output"]


def linear(weights: Weights, name: str, x: Array, acts: Activations) -> Array:
    """x Wᵀ + b, (…, in) -> (…, out): `torch.nn.Linear`."""
    acts[name] = x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    return acts[name]


def layer_norm(weights: Weights, name: str, x: Array, eps: float) -> Array:
    """γ (x − mean) / √(variance + ε) + β over the hidden dimension: Ba et al. 2016; the variance is the biased one."""
    centred = x - x.mean(-1, keepdims=True)
    variance = np.square(centred).mean(-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def softmax(x: Array) -> Array:
    """exp(x) / Σ exp(x) over the last axis; the maximum is subtracted first, so that exp cannot overflow."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gelu(x: Array) -> Array:
    """x Φ(x) = x/2 (1 + erf(x/√2)), the exact form: Hendrycks & Gimpel 2016; in float64, rounded to x's dtype."""
    wide = x.astype(np.float64)
    return (wide / 2 * (1 + erf(wide / np.sqrt(2)))).astype(x.dtype)


def erf(x: Array) -> Array:
    """The error function in float64, to 1e-15: erf(x) = 2/π ∫₀^∞ e^(−t²) sin(2xt)/t dt, Abramowitz & Stegun 7.4.6.

    Summed at t = 0, h, 2h, … with h = 1/4: for such an integrand the trapezoidal rule is wrong by e^(−(π/h − |x|)²).
    """
    x = np.clip(np.asarray(x, np.float64), -6, 6)  # erf(6) is 1 to the last bit
    total = x / 4
    for n in range(1, 26):
        total = total + np.exp(-((n / 4) ** 2)) / n * np.sin(n / 2 * x)
    return 2 / np.pi * total
