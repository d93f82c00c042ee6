"""The steps of the backward pass on demand, as `steps` has those of the forward pass: each can be replaced.

`Forward(inputs, known)["encoder.layer.2.output.grad"]` computes that gradient from the nearest known ones and from the
activations.  `numroberta.textbook.backward` is the same pass, to be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta import textbook
from numroberta.parity.loss import NO_LABEL, TASKS, over_tokens
from numroberta.parity.names import (
    ATTENTION,
    ATTENTION_DENSE,
    CONTEXT,
    GRAD,
    KEY,
    LOSS,
    OUTPUT,
    OUTPUT_DENSE,
    POOLED,
    POSITION,
    PROBS,
    QUERY,
    SCORES,
    SUM,
    TOKEN_TYPE,
    VALUE,
    WIDE,
    WIDE_DENSE,
    WORD,
    kind_of,
    layer_of,
    same_layer,
    step_of_gradient,
)
from numroberta.parity.steps import (
    EMBEDDED,
    INPUTS_OF_LINEAR,
    LINEARS,
    RESIDUALS,
    Forward,
    Step,
    erf,
    exact_gelu,
    merge,
    position_ids,
)

Array = NDArray[Any]
NormBackward = Callable[[Array, Array, Array, float], Array]  # x, dy, γ and ε -> dx
SHARES = f"{LOSS}.shares"


# --- The loss -------------------------------------------------------------------------------------------------------


def shares(f: Forward, name: str) -> Array:
    """The part that each label has in the mean, of the labels' shape."""
    labelled = np.asarray(f.inputs.labels) != NO_LABEL
    return labelled / np.count_nonzero(labelled)


def logits(f: Forward) -> Array:
    """What the loss is computed from, (…, c)."""
    y = f[TASKS[f.inputs.task]]
    return over_tokens(y, f.inputs.attention_mask != 0) if f.inputs.task == "answer" else y


def labels(f: Forward) -> Array:
    """Rows of the last axis of the logits; where there is no label, padding's, which has no share in the mean."""
    nothing = f.inputs.padding_idx if f.inputs.task == "mlm" else 0
    own = np.asarray(f.inputs.labels)
    return np.where(own == NO_LABEL, nothing, own)[..., None]


def loss(f: Forward, name: str) -> Array:
    """−Σ share · log softmax(z)[label]; of vectors half their mean square length."""
    if f.inputs.labels is None:
        vectors = f[TASKS[f.inputs.task]]
        return np.array([np.square(vectors).sum() / 2 / len(vectors)])
    z = logits(f)
    z = z - z.max(-1, keepdims=True)
    chosen = np.take_along_axis(z - np.log(np.exp(z).sum(-1, keepdims=True)), labels(f), -1)[..., 0]
    return np.array([-(f[SHARES] * chosen).sum()])


def logits_gradient(f: Forward, name: str) -> Array:
    """dz = share (softmax(z) − onehot(label))."""
    if f.inputs.labels is None:
        return f[name.removesuffix(GRAD)] / len(f.inputs.input_ids)
    dz, right = textbook.softmax(logits(f)), labels(f)
    np.put_along_axis(dz, right, np.take_along_axis(dz, right, -1) - 1, -1)
    dz *= f[SHARES][..., None]
    return dz.swapaxes(1, 2) if f.inputs.task == "answer" else dz


# --- What the layers are made of ------------------------------------------------------------------------------------


def through(f: Forward, name: str) -> Array:
    """y = x Wᵀ + b: dx = dy W.  name: of the linear layer."""
    return f[name + GRAD] @ f.weight(f"{name}.weight")


def layer_norm_backward(x: Array, dy: Array, gain: Array, eps: float, mean: bool = True, scale: bool = True) -> Array:
    """(g − mean(g) − x̂ mean(g x̂)) / σ with g = γ dy.  mean, scale: whether the second and third term are there."""
    normal, sigma = normalized(x, eps)
    g = dy * gain
    dx = g - g.mean(-1, keepdims=True) if mean else g
    return (dx - normal * (g * normal).mean(-1, keepdims=True) if scale else dx) / sigma


def normalized(x: Array, eps: float) -> tuple[Array, Array]:
    """x̂ and σ."""
    centred = x - x.mean(-1, keepdims=True)
    sigma = np.sqrt(np.square(centred).mean(-1, keepdims=True) + eps)
    return centred / sigma, sigma


def gelu_slope(x: Array) -> Array:
    """Φ(x) + x φ(x)"""
    return (1 + erf(x / np.sqrt(2))) / 2 + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def under_norm(f: Forward, name: str) -> Array:
    """What the layer norm of this step is given."""
    if kind_of(name) in RESIDUALS:
        return RESIDUALS[kind_of(name)](f, name) + f[f"{name}.dense"]
    return exact_gelu(f["lm_head.dense"]) if name == "lm_head.layer_norm" else np.sum([f[part] for part in EMBEDDED], 0)


def norm_of(name: str) -> str:
    """The layer norm of a step, as the checkpoint calls it."""
    return name if name == "lm_head.layer_norm" else f"{name}.LayerNorm"


def sum_gradient(f: Forward, name: str, way: NormBackward = layer_norm_backward) -> Array:
    """Through the layer norm.  name: "….sum.grad" """
    step = name.removesuffix(SUM + GRAD)
    return way(under_norm(f, step), f[step + GRAD], f.weight(f"{norm_of(step)}.weight"), f.inputs.layer_norm_eps)


# --- The heads ------------------------------------------------------------------------------------------------------


def last_gradient(f: Forward) -> Array:
    """From the head, or the pooling, whose loss it is, to the last hidden state."""
    top = TASKS[f.inputs.task]
    if top.startswith(POOLED):
        return textbook.mean_pooling_backward(f.inputs.attention_mask != 0, f[top + GRAD])
    if top == "classifier.out_proj":
        dx = np.zeros((*f.inputs.input_ids.shape, f["classifier.dense"].shape[-1]))
        dx[:, 0] = through(f, "classifier.dense")
        return dx
    return through(f, "lm_head.dense" if top == "lm_head" else top)


def tanh_slope(y: Array) -> Array:
    return 1 - y * y


def classifier_gradient(f: Forward, name: str, slope: Callable[[Array], Array] = tanh_slope) -> Array:
    return through(f, "classifier.out_proj") * slope(np.tanh(f["classifier.dense"]))


def decoder_name(f: Forward) -> str:
    own = "lm_head.decoder.weight"
    return own if own in f.inputs.weights else f"{WORD}.weight"


def decoder_gradient(f: Forward) -> Array:
    """Σ dz yᵀ, (vocabulary, d)"""
    return rows(f["lm_head" + GRAD]).T @ rows(f["lm_head.layer_norm"])


# --- The layers -----------------------------------------------------------------------------------------------------


def state_gradient(f: Forward, name: str, parts: tuple[str, ...] = (QUERY, KEY, VALUE), residual: bool = True) -> Array:
    """Of a hidden state: what comes back through the queries, keys, values and the residual of the layer above."""
    below = layer_of(name)
    above = 0 if below is None else below + 1
    if above == len(f.order):
        return last_gradient(f)
    layer = f"encoder.layer.{above}"
    dx = [through(f, same_layer(layer, part)) for part in parts]
    return np.sum([*dx, f[same_layer(layer, ATTENTION + SUM + GRAD)]] if residual else dx, axis=0)


def attention_gradient(f: Forward, name: str, residual: bool = True, branch: bool = True) -> Array:
    """Of what the feed-forward block is given: its residual's, and what comes back through W₁."""
    parts = [f[same_layer(name, OUTPUT + SUM + GRAD)]] if residual else []
    return np.sum([*parts, *([through(f, same_layer(name, WIDE_DENSE))] if branch else [])], axis=0)


def wide_dense_gradient(f: Forward, name: str, slope: Callable[[Array], Array] = gelu_slope) -> Array:
    wide = name.removesuffix(".dense" + GRAD)
    return f[wide + GRAD] * slope(f[f"{wide}.dense"])


def head_dense_gradient(f: Forward, name: str, slope: Callable[[Array], Array] = gelu_slope) -> Array:
    return f["lm_head.layer_norm" + SUM + GRAD] * slope(f["lm_head.dense"])


def softmax_gradient(f: Forward, name: str) -> Array:
    return textbook.softmax_backward(f[same_layer(name, PROBS)], f[same_layer(name, PROBS + GRAD)])


def root_of_head_dim(k: int) -> float:
    return float(np.sqrt(k))


def query_gradient(f: Forward, name: str, divisor: Callable[[int], float] = root_of_head_dim) -> Array:
    key = f.split(f[same_layer(name, KEY)])
    return merge(f[same_layer(name, SCORES + GRAD)] @ key) / divisor(key.shape[-1])


def key_gradient(
    f: Forward, name: str, divisor: Callable[[int], float] = root_of_head_dim, transposed: bool = True
) -> Array:
    query, dscores = f.split(f[same_layer(name, QUERY)]), f[same_layer(name, SCORES + GRAD)]
    return merge((dscores.swapaxes(2, 3) if transposed else dscores) @ query) / divisor(query.shape[-1])


def value_gradient(f: Forward, name: str, transposed: bool = True) -> Array:
    probs, dcontext = f[same_layer(name, PROBS)], f.split(f[same_layer(name, CONTEXT + GRAD)])
    return merge((probs.swapaxes(2, 3) if transposed else probs) @ dcontext)


def probs_gradient(f: Forward, name: str) -> Array:
    value = f.split(f[same_layer(name, VALUE)])
    return f.split(f[same_layer(name, CONTEXT + GRAD)]) @ value.swapaxes(2, 3)


# --- Tensors --------------------------------------------------------------------------------------------------------


def rows(x: Array) -> Array:
    """(…, d) -> (texts and tokens, d)"""
    return x.reshape(-1, x.shape[-1])


def weight_gradient(f: Forward, name: str) -> Array:
    layer = step_of_gradient(name)
    return rows(f[layer + GRAD]).T @ rows(INPUTS_OF_LINEAR[kind_of(layer)](f, layer))


def bias_gradient(f: Forward, name: str) -> Array:
    return rows(f[step_of_gradient(name) + GRAD]).sum(0)


def gain_gradient(f: Forward, name: str) -> Array:
    step = step_of_gradient(name)
    normal, _ = normalized(under_norm(f, step), f.inputs.layer_norm_eps)
    return rows(f[step + GRAD] * normal).sum(0)


def table_gradient(f: Forward, name: str, ids: Callable[[Forward], Array], added: bool = True) -> Array:
    """A row gets the sum of the gradients of the places where it stands; padding's row gets none."""
    table = step_of_gradient(name)
    dy, is_token = f[table + GRAD], f.inputs.input_ids != f.inputs.padding_idx
    total = np.zeros(f.inputs.weights[f"{table}.weight"].shape)
    places = np.broadcast_to(ids(f), is_token.shape)[is_token]
    if added:
        np.add.at(total, places, dy[is_token])
    else:
        total[places] = dy[is_token]
    return total


def types_gradient(f: Forward, name: str) -> Array:
    total = np.zeros(f.inputs.weights[f"{TOKEN_TYPE}.weight"].shape)
    total[0] = rows(f[TOKEN_TYPE + GRAD]).sum(0)
    return total


def words_gradient(f: Forward, name: str, added: bool = True, decoder: bool = True, embedded: bool = True) -> Array:
    """Of the word embeddings: where they were looked up and, if they are the masked-LM head's decoder, of that."""
    tied = f.inputs.task == "mlm" and decoder_name(f) == f"{WORD}.weight" and decoder
    total = table_gradient(f, name, lambda f: f.inputs.input_ids, added) if embedded else 0
    return total + decoder_gradient(f) if tied else np.asarray(total)


NORMS = ("embeddings", ATTENTION, OUTPUT, "lm_head.layer_norm")
_OF_ACTIVATIONS: Mapping[str, Step] = {
    **{TASKS[task]: logits_gradient for task in TASKS},
    "lm_head.layer_norm": lambda f, name: f["lm_head" + GRAD] @ f.weight(decoder_name(f)),
    **{f"{norm}{SUM}": sum_gradient for norm in NORMS},
    "lm_head.dense": head_dense_gradient,
    "classifier.dense": classifier_gradient,
    OUTPUT: state_gradient,
    "embeddings": state_gradient,
    OUTPUT_DENSE: lambda f, name: f[same_layer(name, OUTPUT + SUM + GRAD)],
    WIDE: lambda f, name: through(f, same_layer(name, OUTPUT_DENSE)),
    WIDE_DENSE: wide_dense_gradient,
    ATTENTION: attention_gradient,
    ATTENTION_DENSE: lambda f, name: f[same_layer(name, ATTENTION + SUM + GRAD)],
    CONTEXT: lambda f, name: through(f, same_layer(name, ATTENTION_DENSE)),
    PROBS: probs_gradient,
    SCORES: softmax_gradient,
    VALUE: value_gradient,
    KEY: key_gradient,
    QUERY: query_gradient,
    **{part: lambda f, name: f["embeddings" + SUM + GRAD] for part in EMBEDDED},
}
BIASES = (*(f"{linear}.bias" for linear in LINEARS), *(f"{norm_of(norm)}.bias" for norm in NORMS), "lm_head.bias")
_OF_TENSORS: Mapping[str, Step] = {
    **{f"{linear}.weight": weight_gradient for linear in LINEARS},
    **{f"{norm_of(norm)}.weight": gain_gradient for norm in NORMS},
    **dict.fromkeys(BIASES, bias_gradient),
    "lm_head.decoder.weight": lambda f, name: decoder_gradient(f),
    f"{WORD}.weight": words_gradient,
    f"{POSITION}.weight": partial(table_gradient, ids=position_ids),
    f"{TOKEN_TYPE}.weight": types_gradient,
}
BACKWARD_STEPS: Mapping[str, Step] = {
    SHARES: shares,
    LOSS: loss,
    **{name + GRAD: step for name, step in (*_OF_ACTIVATIONS.items(), *_OF_TENSORS.items())},
}
