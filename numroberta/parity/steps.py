"""The steps of the forward pass, each computed on demand from what is known, and each replaceable by a mistaken one.

`Forward(inputs, known)["encoder.layer.2.output"]` computes that value from the nearest known ones, so the same steps
serve a file with every activation and a file with the hidden states only.  The arithmetic is float64 whatever the
file's, so that rounding cannot pass for a mistake.  `numroberta.textbook` is the same pass, to be read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from numroberta import textbook
from numroberta.arithmetic import POOLINGS
from numroberta.parity.names import (
    ATTENTION,
    ATTENTION_DENSE,
    CONTEXT,
    EMBEDDING,
    KEY,
    OUTPUT,
    OUTPUT_DENSE,
    POOLED,
    POSITION,
    PROBS,
    QUERY,
    SCORES,
    TOKEN_TYPE,
    VALUE,
    WIDE,
    WIDE_DENSE,
    WORD,
    kind_of,
    layer_of,
    same_layer,
    step_of_tensor,
)

Array = NDArray[Any]
Step = Callable[["Forward", str], Array]  # the pass and the name of an activation -> the activation
Way = Callable[["Forward", str, Array], Array]  # of computing a linear layer or a norm: the pass, its name, its input
TensorChange = Callable[["Forward", str, Array], Array]  # the pass, the name of a tensor, the tensor -> what is used


@dataclass(frozen=True)
class Inputs:
    """What the forward pass starts from.

    weights: the checkpoint's tensors.  input_ids: (b, n).  attention_mask: (b, n), true where a token is.  pooling,
    after_pooling: how the folder makes one vector of a text.  task, labels: what the loss is of, if there is one, see
    `numroberta.parity.loss`.  width: how many tokens a batch of other tokens is wide, at least.
    """

    weights: Mapping[str, Array]
    input_ids: Array
    attention_mask: Array
    num_attention_heads: int
    layer_norm_eps: float
    padding_idx: int
    pooling: Sequence[str] = ("mean",)
    after_pooling: Sequence[Callable[[Array], Array]] = ()
    task: str = ""
    labels: Array | None = None
    width: int = 1
    in_float64: dict[str, Array] = field(default_factory=dict)  # the tensors that were needed so far

    @cached_property
    def layers(self) -> int:
        """How many layers the weights have."""
        return sum(
            name.startswith("encoder.layer.") and name.endswith(".intermediate.dense.bias") for name in self.weights
        )


@dataclass(frozen=True, eq=False)
class Mistake:
    """What somebody's program does instead.

    sentence: what is wrong, for its author.  steps: by kind of activation, how it is computed instead.  tensors: by
    kind of tensor, what is used instead.  inputs: the tokens that the program works with.  order: of how many layers
    there are, whose weights run at each place.  layer: the only layer in which the mistake is made; None: all.
    rare: tried after the others.  unit: eps of the type that a sound program may compute in so.  scope: what of the
    batch it depends on: a "text" alone, its "padding" too, or the other texts of the "batch".  of_numbers: one of
    precision, whose weights take long to change.
    """

    sentence: str
    steps: Mapping[str, Step] = field(default_factory=dict)
    tensors: Mapping[str, TensorChange] = field(default_factory=dict)
    inputs: Callable[[Inputs], Inputs] | None = None
    order: Callable[[int], Sequence[int]] | None = None
    layer: int | None = None
    rare: bool = False
    unit: float | None = None
    scope: Literal["text", "padding", "batch"] = "text"
    of_numbers: bool = False

    def only_in(self, layer: int) -> Mistake:
        """The same mistake, made in one layer only."""
        return replace(self, layer=layer)

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The kinds of activations that it changes at once."""
        return frozenset(self.steps) | {step_of_tensor(kind) for kind in self.tensors}

    def changes(self, name: str) -> bool:
        """Whether it changes the activation of this name at once."""
        return kind_of(name) in self.kinds and self.layer in (None, layer_of(name))


def backward_step(kind: str) -> Step:
    """The step of the backward pass, which is written with those of the forward pass."""
    from numroberta.parity.gradients import BACKWARD_STEPS

    return BACKWARD_STEPS[kind]


class Forward:
    """The forward and the backward pass on demand.

    `f[name]` is known, or computed by the step of that name from what it needs.
    """

    def __init__(self, inputs: Inputs, known: Mapping[str, Array], *mistakes: Mistake):
        self.known = known
        self.mistakes = mistakes
        self.order: Sequence[int] = range(inputs.layers)
        for mistake in mistakes:
            inputs = mistake.inputs(inputs) if mistake.inputs else inputs
            self.order = mistake.order(inputs.layers) if mistake.order else self.order
        self.inputs = inputs
        self.computed: dict[str, Array] = {}
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> Array:
        if name in self.known:
            self.used.add(name)
            return self.known[name]
        if name not in self.computed:
            self.computed[name] = self._step(name)(self, name)
        return self.computed[name]

    def attempt(self, name: str) -> Array | None:
        """The activation, or None where the mistakes cannot be made with these weights, tokens and shapes."""
        try:
            with np.errstate(all="ignore"):
                return self[name]
        except (ValueError, IndexError, KeyError, ArithmeticError, MemoryError):
            return None

    def _step(self, name: str) -> Step:
        kind, layer = kind_of(name), layer_of(name)
        for mistake in self.mistakes:
            if kind in mistake.steps and mistake.layer in (None, layer):
                return mistake.steps[kind]
        return STEPS[kind] if kind in STEPS else backward_step(kind)

    def weight(self, name: str) -> Array:
        """The tensor that the pass uses under this name, in float64."""
        layer = layer_of(name)
        stored = self.stored(name if layer is None else same_layer(f"encoder.layer.{self.order[layer]}", kind_of(name)))
        return self._changed(name, stored)

    def rows(self, table: str, rows: Array) -> Array:
        """Rows of an embedding table, in float64."""
        name = f"{table}.weight"
        return self._changed(name, self.inputs.weights[name][rows].astype(np.float64))

    def _changed(self, name: str, tensor: Array) -> Array:
        for mistake in self.mistakes:
            change = mistake.tensors.get(kind_of(name))
            if change and mistake.layer in (None, layer_of(name)):
                tensor = change(self, name, tensor)
        return tensor

    def stored(self, name: str) -> Array:
        """A tensor of the checkpoint, in float64."""
        kept = self.inputs.in_float64
        if name not in kept:
            kept[name] = self.inputs.weights[name].astype(np.float64)
        return kept[name]

    def layer_input(self, name: str) -> Array:
        """What goes into the layer that this name belongs to."""
        number = layer_of(name)
        return self[f"encoder.layer.{number - 1}.output" if number else "embeddings"]

    @property
    def last_name(self) -> str:
        """The name of the last hidden state."""
        return f"encoder.layer.{len(self.order) - 1}.output" if self.order else "embeddings"

    @property
    def last(self) -> Array:
        """The last hidden state."""
        return self[self.last_name]

    def hidden_state(self, number: int) -> Array:
        """A hidden state by its number: 0 the embeddings, −1 the last."""
        number %= len(self.order) + 1
        return self[f"encoder.layer.{number - 1}.output" if number else "embeddings"]

    def split(self, values: Array) -> Array:
        """(b, n, d) -> (b, h, n, k)"""
        b, n = values.shape[:2]
        return values.reshape(b, n, self.inputs.num_attention_heads, -1).swapaxes(1, 2)


def linear(f: Forward, name: str, x: Array) -> Array:
    weight, bias = (f.weight(f"{name}.{part}") for part in ("weight", "bias"))
    y = x.reshape(-1, x.shape[-1]) @ weight.T  # all texts in one product
    return y.reshape(*x.shape[:-1], -1) + bias


def layer_norm(f: Forward, name: str, x: Array) -> Array:
    weights = {f"{name}.{part}": f.weight(f"{name}.{part}") for part in ("weight", "bias")}
    return textbook.layer_norm(weights, name, x, f.inputs.layer_norm_eps)


_ERF_STEP = 1 / 512
_ERF_AT = np.array([math.erf(i * _ERF_STEP) for i in range(-3072, 3073)])  # from −6 to 6, where it is ±1
_SLOPE_AT = 2 / np.sqrt(np.pi) * np.exp(-np.square(np.arange(-3072, 3073) * _ERF_STEP))


_AT_ONCE = 16_384  # numbers that stay in the processor's cache on the way


def erf(x: Array) -> Array:
    """The error function to 3e-16: a fast `textbook.erf`."""
    flat = np.ascontiguousarray(x, np.float64).ravel()
    y = np.empty_like(flat)
    for start in range(0, len(flat), _AT_ONCE):
        y[start : start + _AT_ONCE] = _erf(flat[start : start + _AT_ONCE])
    return y.reshape(np.shape(x))


def _erf(x: Array) -> Array:
    """Its Taylor series at the nearest multiple of 1/512, in place: an array the less is time the less."""
    x = np.clip(x, -6, 6)
    at = np.rint(x / _ERF_STEP)
    places = at.astype(np.intp) + 3072
    at *= _ERF_STEP
    h, square = x - at, at * at
    y = (3 - 2 * square) * at * h / 6
    for term in ((2 * square - 1) / 3, -at, 1):
        y += term
        y *= h
    y *= _SLOPE_AT[places]
    y += _ERF_AT[places]
    return y


def exact_gelu(x: Array) -> Array:
    return x / 2 * (1 + erf(x / np.sqrt(2)))


def position_ids(f: Forward) -> Array:
    is_token = f.inputs.input_ids != f.inputs.padding_idx
    return f.inputs.padding_idx + np.cumsum(is_token, axis=1) * is_token


def blocked(f: Forward) -> Array:
    """(b, 1, 1, n keys): true where the key is padding."""
    return (f.inputs.attention_mask == 0)[:, None, None, :]


def root_of_head_dim(f: Forward, query: Array) -> float:
    return float(np.sqrt(query.shape[-1]))


def scores(
    f: Forward,
    name: str,
    split: Callable[[Forward, Array], Array] = Forward.split,
    divisor: Callable[[Forward, Array], float] = root_of_head_dim,
) -> Array:
    query, key = (split(f, f[same_layer(name, kind)]) for kind in (QUERY, KEY))
    return query @ key.swapaxes(2, 3) / divisor(f, query)  # (b, h, n, k) -> (b, h, n, n keys)


def probs(f: Forward, name: str) -> Array:
    return textbook.softmax(np.where(blocked(f), -np.inf, f[same_layer(name, SCORES)]))


def merge(values: Array) -> Array:
    """(b, h, n, k) -> (b, n, d)"""
    b, h, n, k = values.shape
    return values.swapaxes(1, 2).reshape(b, n, h * k)


def context(
    f: Forward,
    name: str,
    split: Callable[[Forward, Array], Array] = Forward.split,
    merge: Callable[[Array], Array] = merge,
) -> Array:
    return merge(f[same_layer(name, PROBS)] @ split(f, f[same_layer(name, VALUE)]))


# The input of every linear layer, and the two terms under every layer norm: what is carried past, what is added.
INPUTS_OF_LINEAR: dict[str, Callable[[Forward, str], Array]] = {
    QUERY: lambda f, name: f.layer_input(name),
    KEY: lambda f, name: f.layer_input(name),
    VALUE: lambda f, name: f.layer_input(name),
    ATTENTION_DENSE: lambda f, name: f[same_layer(name, CONTEXT)],
    WIDE_DENSE: lambda f, name: f[same_layer(name, ATTENTION)],
    OUTPUT_DENSE: lambda f, name: f[same_layer(name, WIDE)],
    "pooler.dense": lambda f, name: f.last[:, 0],
    "lm_head.dense": lambda f, name: f.last,
    "classifier.dense": lambda f, name: f.last[:, 0],
    "classifier.out_proj": lambda f, name: np.tanh(f["classifier.dense"]),
    "classifier": lambda f, name: f.last,
    "qa_outputs": lambda f, name: f.last,
}
LINEARS = tuple(INPUTS_OF_LINEAR)
RESIDUALS: dict[str, Callable[[Forward, str], Array]] = {
    ATTENTION: lambda f, name: f.layer_input(name),
    OUTPUT: lambda f, name: f[same_layer(name, ATTENTION)],
}
EMBEDDED = (WORD, POSITION, TOKEN_TYPE)
TENSORS = (
    *(f"{name}.weight" for name in EMBEDDED),
    *(f"{name}.LayerNorm.{part}" for name in ("embeddings", *RESIDUALS) for part in ("weight", "bias")),
    *(f"{name}.{part}" for name in LINEARS for part in ("weight", "bias")),
    "lm_head.layer_norm.weight",
    "lm_head.layer_norm.bias",
    "lm_head.decoder.weight",
    "lm_head.bias",
)


def through(way: Way, name: str) -> Step:
    """The step of the linear layer of this kind, computed this way."""
    return lambda f, at: way(f, at, INPUTS_OF_LINEAR[name](f, at))


def added(way: Way, name: str) -> Step:
    """The step LayerNorm(x + f(x)) of this kind, the norm computed this way."""
    return lambda f, at: way(f, f"{at}.LayerNorm", RESIDUALS[name](f, at) + f[f"{at}.dense"])


def embeddings(f: Forward, name: str, way: Way = layer_norm, parts: tuple[str, ...] = EMBEDDED) -> Array:
    return way(f, "embeddings.LayerNorm", np.sum([f[part] for part in parts], axis=0))


def head_norm(f: Forward, name: str, way: Way = layer_norm, gelu: Callable[[Array], Array] = exact_gelu) -> Array:
    return way(f, name, gelu(f["lm_head.dense"]))


def decoder(f: Forward, name: str) -> Array:
    own = "lm_head.decoder.weight"
    weight = f.weight(own if own in f.inputs.weights else f"{WORD}.weight")
    return f["lm_head.layer_norm"] @ weight.T + f.weight("lm_head.bias")


def position_embeddings(f: Forward, name: str, ids: Callable[[Forward], Array] = position_ids) -> Array:
    return f.rows(name, ids(f))


def activate(f: Forward, name: str, gelu: Callable[[Array], Array] = exact_gelu) -> Array:
    return gelu(f[f"{name}.dense"])


def pool_tokens(x: Array, tokens: Array, pooling: str) -> Array:
    """One vector per text from the tokens that count, (b, n, d), (b, n) -> (b, d): `numroberta.arithmetic.pool`."""
    counted = tokens[..., None]
    place = np.cumsum(tokens, axis=1)
    if pooling == "cls":
        return x[np.arange(len(x)), tokens.argmax(1)]
    if pooling == "lasttoken":
        return x[np.arange(len(x)), place.argmax(1)]
    if pooling == "max":
        return np.where(counted, x, -np.inf).max(1)
    weights = counted * (place[..., None] if pooling == "weightedmean" else 1)
    total, weight = (x * weights).sum(1), np.maximum(weights.sum(1), 1)
    return total / (np.sqrt(weight) if pooling == "mean_sqrt_len_tokens" else weight)


def sentence_embedding(f: Forward, name: str, vector: Callable[[str], Array] | None = None) -> Array:
    """What the folder makes of a text.  vector: the vectors of a pooling; None: as they should be."""
    parts = [vector(pooling) if vector else f[POOLED + pooling] for pooling in f.inputs.pooling]
    vectors = np.concatenate(parts, axis=-1)
    for step in f.inputs.after_pooling:
        vectors = step(vectors)
    return vectors


STEPS: dict[str, Step] = {
    **{name: through(linear, name) for name in LINEARS},
    **{name: added(layer_norm, name) for name in RESIDUALS},
    WORD: lambda f, name: f.rows(name, f.inputs.input_ids),
    POSITION: position_embeddings,
    TOKEN_TYPE: lambda f, name: f.rows(name, np.zeros_like(f.inputs.input_ids)),
    "embeddings": embeddings,
    SCORES: scores,
    PROBS: probs,
    CONTEXT: context,
    WIDE: activate,
    "pooler": lambda f, name: np.tanh(f["pooler.dense"]),
    "lm_head.layer_norm": head_norm,
    "lm_head": decoder,
    **{
        f"{POOLED}{p}": lambda f, name: pool_tokens(f.last, f.inputs.attention_mask != 0, name.removeprefix(POOLED))
        for p in POOLINGS
    },
    EMBEDDING: sentence_embedding,
}
