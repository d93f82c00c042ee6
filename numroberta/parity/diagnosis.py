"""Which classic mistake explains a wrong activation: the step is computed again, with each mistake in its turn.

The steps of the forward pass are a table, and a mistake is a table of a few steps that replace the sound ones.  A value
is computed on demand from what is known to be right, so the same table serves a file with every activation and a file
with the hidden states only.  The arithmetic is float64 whatever the file's, so that rounding cannot pass for a mistake.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta import textbook
from numroberta.checkpoint import DECODER, DECODER_BIAS, HEADS, MASKED_LM, SEQUENCE, SPAN, TOKEN, WORDS

Array = NDArray[Any]
Step = Callable[["Forward", str], Array]  # the pass and the name of the value -> the value
Way = Callable[["Forward", str, Array], Array]  # of computing a linear layer or a norm: the pass, its name, its input

LAYER = "encoder.layer.*"
INPUT = ("input_ids", "attention_mask")
# An explanation must leave less than this part of the error unexplained.
LEFT = 1 / 4
NOTHING_LEFT = 1 / 1000  # and one that leaves so little ends the search
# Numbers that float16 can hold are at most this much, relative, away from float32 ones that only look so.
EXACT = 1e-6


@dataclass(frozen=True)
class Given:
    """What the forward pass starts from.  input_ids and attention_mask: (b, n)."""

    weights: Mapping[str, Array]
    input_ids: Array
    attention_mask: Array
    num_attention_heads: int
    layer_norm_eps: float
    padding_idx: int
    widened: dict[str, Array] = field(default_factory=dict)  # the weights that were needed so far, in float64


class Forward:
    """The forward pass on demand: `f[name]` is known, or computed by the step of that name from what it needs."""

    def __init__(self, given: Given, known: Mapping[str, Array], mistake: Mistake):
        self.given = given
        self.known = known
        self.steps = {**STEPS, **mistake.steps}
        self.rounded = mistake.rounded
        self.found: dict[str, Array] = {}
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> Array:
        if name in self.known:
            self.used.add(name)
            return self.known[name]
        if name not in self.found:
            self.found[name] = self.steps[kind(name)](self, name)
        return self.found[name]

    def weight(self, name: str) -> Array:
        """A tensor of the checkpoint, in float64."""
        if name not in self.given.widened:
            self.given.widened[name] = self.given.weights[name].astype(np.float64)
        return self.rounded(self.given.widened[name])

    def rows(self, table: str, rows: Array) -> Array:
        """Rows of an embedding table, in float64."""
        return self.rounded(self.given.weights[f"{table}.weight"][rows].astype(np.float64))

    def input(self, name: str) -> Array:
        """What goes into the layer of this name."""
        number = int(name.split(".")[2])
        return self[f"encoder.layer.{number - 1}.output" if number else "embeddings"]

    @property
    def last(self) -> Array:
        """The last hidden state."""
        count = sum(
            re.fullmatch(r"encoder\.layer\.\d+\.output\.dense\.bias", name) is not None for name in self.given.weights
        )
        return self[f"encoder.layer.{count - 1}.output"]

    def split(self, values: Array) -> Array:
        """(b, n, d) -> (b, h, n, k)"""
        b, n = values.shape[:2]
        return values.reshape(b, n, self.given.num_attention_heads, -1).swapaxes(1, 2)


@cache
def kind(name: str) -> str:
    """The step that computes this value: its name without the number of the layer."""
    return re.sub(r"^encoder\.layer\.\d+", LAYER, name)


def of_layer(name: str, rest: str) -> str:
    """Another value of the same layer: of_layer("encoder.layer.3.output", "intermediate")."""
    return ".".join([*name.split(".")[:3], rest])


@cache
def in_order(name: str) -> tuple[int, int, int]:
    """Sorts names into the order of the forward pass; what it does not know comes last."""
    kinds = list(STEPS)
    if name in INPUT:
        return -1, 0, INPUT.index(name)
    if kind(name) not in STEPS:
        return 3, 0, 0
    place = kinds.index(kind(name))
    if kind(name) != name:
        return 1, int(name.split(".")[2]), place
    return (0 if name.startswith("embeddings") else 2), 0, place


# --- The sound steps ----------------------------------------------------------------------------------------


def linear(f: Forward, name: str, x: Array) -> Array:
    return x @ f.weight(f"{name}.weight").T + f.weight(f"{name}.bias")


def layer_norm(f: Forward, name: str, x: Array) -> Array:
    weights = {f"{name}.{part}": f.weight(f"{name}.{part}") for part in ("weight", "bias")}
    return textbook.layer_norm(weights, name, x, f.given.layer_norm_eps)


def erf(x: Array) -> Array:
    return np.asarray(of_numbers(x), np.float64)


of_numbers = np.frompyfunc(math.erf, 1, 1)  # ten times as fast as `textbook.erf`, whose lesson is not needed here


def exact_gelu(x: Array) -> Array:
    return x / 2 * (1 + erf(x / np.sqrt(2)))


def position_ids(f: Forward) -> Array:
    is_token = f.given.input_ids != f.given.padding_idx
    return f.given.padding_idx + np.cumsum(is_token, axis=1) * is_token


def blocked(f: Forward) -> Array:
    """(b, 1, 1, n keys): true where the key is padding."""
    return (f.given.attention_mask == 0)[:, None, None, :]


def root_of_head_dim(f: Forward, query: Array) -> float:
    return float(np.sqrt(query.shape[-1]))


def scores(
    f: Forward,
    name: str,
    split: Callable[[Forward, Array], Array] = Forward.split,
    divisor: Callable[[Forward, Array], float] = root_of_head_dim,
) -> Array:
    query, key = (split(f, f[of_layer(name, f"attention.self.{part}")]) for part in ("query", "key"))
    return query @ key.swapaxes(2, 3) / divisor(f, query)  # (b, h, n, k) -> (b, h, n, n keys)


def probs(f: Forward, name: str) -> Array:
    return textbook.softmax(np.where(blocked(f), -np.inf, f[of_layer(name, "attention.scores")]))


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
    return merge(f[of_layer(name, "attention.probs")] @ split(f, f[of_layer(name, "attention.self.value")]))


def last_hidden_state(f: Forward, name: str) -> Array:
    return f.last


def first_tokens(f: Forward, name: str) -> Array:
    return f.last[:, 0]


LM_DENSE, LM_NORM = HEADS[MASKED_LM].layers
CLASSIFIER_DENSE, CLASSIFIER_OUT = HEADS[SEQUENCE].layers

# The input of every linear layer, and the two terms under every layer norm: what is carried past, what is added.
INPUTS: dict[str, Callable[[Forward, str], Array]] = {
    f"{LAYER}.attention.self.query": lambda f, name: f.input(name),
    f"{LAYER}.attention.self.key": lambda f, name: f.input(name),
    f"{LAYER}.attention.self.value": lambda f, name: f.input(name),
    f"{LAYER}.attention.output.dense": lambda f, name: f[of_layer(name, "attention.context")],
    f"{LAYER}.intermediate.dense": lambda f, name: f[of_layer(name, "attention.output")],
    f"{LAYER}.output.dense": lambda f, name: f[of_layer(name, "intermediate")],
    **{head.layers[0]: first_tokens if head.first_token else last_hidden_state for head in HEADS.values()},
    CLASSIFIER_OUT: lambda f, name: np.tanh(f[CLASSIFIER_DENSE]),
}
RESIDUALS: dict[str, Callable[[Forward, str], Array]] = {
    f"{LAYER}.attention.output": lambda f, name: f.input(name),
    f"{LAYER}.output": lambda f, name: f[of_layer(name, "attention.output")],
}
EMBEDDED = ("embeddings.word_embeddings", "embeddings.position_embeddings", "embeddings.token_type_embeddings")


def through(way: Way, name: str) -> Step:
    """The step of the linear layer of this kind, computed this way."""
    return lambda f, at: way(f, at, INPUTS[name](f, at))


def added(way: Way, name: str) -> Step:
    """The step LayerNorm(x + f(x)) of this kind, the norm computed this way."""
    return lambda f, at: way(f, f"{at}.LayerNorm", RESIDUALS[name](f, at) + f[f"{at}.dense"])


def embeddings(f: Forward, name: str, way: Way = layer_norm, parts: tuple[str, ...] = EMBEDDED) -> Array:
    return way(f, "embeddings.LayerNorm", np.sum([f[part] for part in parts], axis=0))


def head_norm(f: Forward, name: str, way: Way = layer_norm, gelu: Callable[[Array], Array] = exact_gelu) -> Array:
    return way(f, name, gelu(f[LM_DENSE]))


def decoder(f: Forward, name: str, bias: bool = True) -> Array:
    weight = f.weight(DECODER if DECODER in f.given.weights else WORDS)
    return f[LM_NORM] @ weight.T + (f.weight(DECODER_BIAS) if bias else 0)


def position_embeddings(f: Forward, name: str, ids: Callable[[Forward], Array] = position_ids) -> Array:
    return f.rows(name, ids(f))


def activate(f: Forward, name: str, gelu: Callable[[Array], Array] = exact_gelu) -> Array:
    return gelu(f[f"{name}.dense"])


# In the order of the forward pass.
STEPS: dict[str, Step] = {
    "embeddings.word_embeddings": lambda f, name: f.rows(name, f.given.input_ids),
    "embeddings.position_embeddings": position_embeddings,
    "embeddings.token_type_embeddings": lambda f, name: f.rows(name, np.zeros_like(f.given.input_ids)),
    "embeddings": embeddings,
    **{name: through(linear, name) for name in list(INPUTS)[:3]},
    f"{LAYER}.attention.scores": scores,
    f"{LAYER}.attention.probs": probs,
    f"{LAYER}.attention.context": context,
    f"{LAYER}.attention.output.dense": through(linear, f"{LAYER}.attention.output.dense"),
    f"{LAYER}.attention.output": added(layer_norm, f"{LAYER}.attention.output"),
    f"{LAYER}.intermediate.dense": through(linear, f"{LAYER}.intermediate.dense"),
    f"{LAYER}.intermediate": activate,
    f"{LAYER}.output.dense": through(linear, f"{LAYER}.output.dense"),
    f"{LAYER}.output": added(layer_norm, f"{LAYER}.output"),
    "pooler.dense": through(linear, "pooler.dense"),
    "pooler": lambda f, name: np.tanh(f["pooler.dense"]),
    LM_DENSE: through(linear, LM_DENSE),
    LM_NORM: head_norm,
    "lm_head": decoder,
    **{name: through(linear, name) for head in (SEQUENCE, TOKEN, SPAN) for name in HEADS[head].layers},
}


# --- The classic mistakes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mistake:
    """What somebody's program does instead: a sentence for its author, and the steps it replaces."""

    sentence: str
    steps: Mapping[str, Step] = field(default_factory=dict)
    rounded: Callable[[Array], Array] = lambda weight: weight


SOUND = Mistake("nothing is wrong")


def mistakes(given: Given) -> Iterator[Mistake]:
    """The catalogue.  Of two that give the same numbers the first is named, so the more particular comes first."""
    yield from wrong_positions(given)
    yield from wrong_linear_layers()
    yield from wrong_attention(given)
    yield from wrong_norms(given)
    yield from wrong_activations()
    yield from wrong_heads()
    for name, way in (("float16", to_float16), ("bfloat16", to_bfloat16)):
        yield Mistake(f"the weights are rounded to {name}", rounded=way)


def wrong_positions(given: Given) -> Iterator[Mistake]:
    first = given.padding_idx + 1

    def at(ids: Callable[[Forward], Array]) -> dict[str, Step]:
        return {"embeddings.position_embeddings": partial(position_embeddings, ids=ids)}

    for start in (0, 1):
        sentence = f"position ids start at {start}; RoBERTa's start at padding_idx + 1 = {first}"
        yield Mistake(sentence, at(partial(token_place, start=start)))
        yield Mistake(f"{sentence}, and they count padding", at(partial(place, start=start)))
    yield Mistake("position ids count padding; RoBERTa's count tokens only", at(partial(place, start=first)))
    for part, what in zip(EMBEDDED[1:], ("position", "token-type"), strict=True):
        rest = tuple(name for name in EMBEDDED if name != part)
        yield Mistake(f"the {what} embedding is left out of the sum", {"embeddings": partial(embeddings, parts=rest)})


def place(f: Forward, start: int) -> Array:
    """start, start + 1, … along each row, padding included."""
    return np.broadcast_to(np.arange(f.given.input_ids.shape[1]) + start, f.given.input_ids.shape)


def token_place(f: Forward, start: int) -> Array:
    """The same, counting tokens only; 0 for padding."""
    return np.maximum(position_ids(f) - (f.given.padding_idx + 1) + start, 0)


def wrong_linear_layers() -> Iterator[Mistake]:
    def without_bias(f: Forward, name: str, x: Array) -> Array:
        return x @ f.weight(f"{name}.weight").T

    def transposed(f: Forward, name: str, x: Array) -> Array:
        weight = f.weight(f"{name}.weight")
        return x @ weight.reshape(weight.shape[::-1]) + f.weight(f"{name}.bias")

    def tensor_cores(f: Forward, name: str, x: Array) -> Array:
        return to_mantissa(x, 11) @ to_mantissa(f.weight(f"{name}.weight"), 11).T + f.weight(f"{name}.bias")

    query, key, value = list(INPUTS)[:3]
    yield Mistake(
        "products are computed in TF32, which keeps 10 bits of each factor (allow_tf32 in PyTorch)",
        {name: through(tensor_cores, name) for name in INPUTS},
    )
    for way, what, all_of_them in (
        (without_bias, "the bias of {} is left out", "the biases of the linear layers are left out"),
        (transposed, "the weight of {} is read as (in, out); it is stored as (out, in)",
         "the weights are read as (in, out); they are stored as (out, in)"),
    ):  # fmt: skip
        for name in INPUTS:
            yield Mistake(what.format(name.removeprefix(f"{LAYER}.")), {name: through(way, name)})
        parts = {name: through(way, name) for name in (query, key, value)}
        yield Mistake(what.format("query, key and value"), parts)
        yield Mistake(all_of_them, {name: through(way, name) for name in INPUTS})

    for a, b in ((query, key), (query, value), (key, value)):
        names = [name.rsplit(".", 1)[1] for name in (a, b)]
        yield Mistake(f"the weights of {names[0]} and {names[1]} are swapped", {a: as_if(b), b: as_if(a)})
    for sentence, cut in (
        ("the fused matrix of query, key and value is cut head by head; its first third is the whole query", 0),
        ("the fused matrix of query, key and value is cut feature by feature; its first third is the whole query", 1),
    ):
        parts = {name: partial(cut_from_fused, part=i, way=cut) for i, name in enumerate((query, key, value))}
        yield Mistake(sentence, parts)


def as_if(other: str) -> Step:
    """The linear layer of another kind, in the same layer."""
    return lambda f, name: linear(f, of_layer(name, other.removeprefix(f"{LAYER}.")), f.input(name))


def cut_from_fused(f: Forward, name: str, part: int, way: int) -> Array:
    """Query, key or value, cut out of the product with all three matrices as if they were stored head by head."""
    x = f.input(name)
    fused = [linear(f, of_layer(name, f"attention.self.{one}"), x) for one in ("query", "key", "value")]
    whole = np.concatenate(fused, axis=-1)  # (b, n, 3d)
    if way:
        return whole.reshape(*x.shape, 3)[..., part]  # (b, n, 3d) -> (b, n, d, 3) -> (b, n, d)
    heads = f.given.num_attention_heads
    return whole.reshape(*x.shape[:2], heads, 3, -1)[..., part, :].reshape(x.shape)  # (b, n, h, 3, k) -> (b, n, d)


def wrong_attention(given: Given) -> Iterator[Mistake]:
    of_scores, of_probs, of_context = (f"{LAYER}.attention.{part}" for part in ("scores", "probs", "context"))
    heads = given.num_attention_heads

    for sentence, divisor in (
        ("the scores are divided by 8, the root of 64; the head dimension is another here", lambda f, query: 8.0),
        ("the scores are not divided by √d", lambda f, query: 1.0),
        ("the scores are divided by √d twice", lambda f, query: query.shape[-1]),
        ("the scores are multiplied by √d instead of divided", lambda f, query: query.shape[-1] ** -0.5),
        ("the scores are divided by the root of the hidden size; it is the root of the head dimension",
         lambda f, query: (query.shape[-1] * heads) ** 0.5),
        ("the scores are divided by the root of the number of heads; it is the root of the head dimension",
         lambda f, query: heads**0.5),
    ):  # fmt: skip
        yield Mistake(sentence, {of_scores: partial(scores, divisor=divisor)})

    def query_and_key_exchanged(f: Forward, name: str) -> Array:
        return scores(f, name).swapaxes(2, 3)

    yield Mistake("query and key change places in the scores", {of_scores: query_and_key_exchanged})

    for split, unsplit, what in (
        (interleaved, from_interleaved, "heads are interleaved: feature j belongs to head j // d, not j % heads"),
        (unmoved, from_unmoved, "heads are split or merged by a reshape without the transpose"),
    ):
        for steps in (
            {of_scores: partial(scores, split=split), of_context: partial(context, split=split, merge=unsplit)},
            {of_scores: partial(scores, split=split), of_context: partial(context, split=split)},
            {of_scores: partial(scores, split=split)},
            {of_context: partial(context, split=split, merge=unsplit)},
            {of_context: partial(context, split=split)},
            {of_context: partial(context, merge=unsplit)},
        ):
            yield Mistake(what, steps)

    over_queries = "the softmax runs over the queries; it runs over the keys"
    for sentence, softmax in (
        (over_queries, lambda f, s: over(2, s, blocked(f))),
        (over_queries, over_tokens),
        ("the softmax runs over the heads; it runs over the keys", lambda f, s: over(1, s, blocked(f))),
        ("the softmax runs over padding too: the mask is not applied", lambda f, s: over(3, s, False)),
        ("the mask is inverted: tokens look at padding only", lambda f, s: over(3, s, ~blocked(f))),
        ("padded scores are set to 0 before the softmax; they must become −∞",
         lambda f, s: textbook.softmax(np.where(blocked(f), 0, s))),
        ("padded probabilities are set to 0 after the softmax, so that a row no longer sums to 1",
         lambda f, s: np.where(blocked(f), 0, textbook.softmax(s))),
        ("a causal mask is applied; every token may look at every other",
         lambda f, s: over(3, s, blocked(f) | later(s))),
        ("the mask of 0 and 1 is added to the scores; padding must become −∞",
         lambda f, s: textbook.softmax(s + ~blocked(f))),
    ):  # fmt: skip
        yield Mistake(sentence, {of_probs: partial(masked_softmax, way=softmax)})
    yield Mistake(
        "the value is looked up with the transposed probabilities",
        {of_context: lambda f, name: merge(
            f[of_layer(name, "attention.probs")].swapaxes(2, 3) @ f.split(f[of_layer(name, "attention.self.value")])
        )},
    )  # fmt: skip


def masked_softmax(f: Forward, name: str, way: Callable[[Forward, Array], Array]) -> Array:
    return way(f, f[of_layer(name, "attention.scores")])


def over(axis: int, s: Array, hidden: Any) -> Array:
    """softmax over this axis of the scores, with −∞, as far as float64 has it, where they are hidden."""
    s = np.where(hidden, -1e300, s)
    e = np.exp(s - s.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def over_tokens(f: Forward, s: Array) -> Array:
    """softmax over the queries in a program that leaves padding out: neither keys nor queries are there."""
    real = (f.given.attention_mask != 0)[:, None, :, None] & ~blocked(f)  # (b, 1, n queries, n keys)
    e = np.where(real, np.exp(s - s.max((2, 3), keepdims=True)), 0)
    return e / np.maximum(e.sum(2, keepdims=True), 1e-300)


def later(s: Array) -> Array:
    """(n, n): true where the key comes after the query."""
    return np.triu(np.ones(s.shape[2:], bool), 1)


def interleaved(f: Forward, values: Array) -> Array:
    b, n = values.shape[:2]
    return values.reshape(b, n, -1, f.given.num_attention_heads).transpose(0, 3, 1, 2)  # (b, n, k, h) -> (b, h, n, k)


def from_interleaved(values: Array) -> Array:
    b, h, n, k = values.shape
    return values.transpose(0, 2, 3, 1).reshape(b, n, h * k)  # (b, h, n, k) -> (b, n, k, h) -> (b, n, d)


def unmoved(f: Forward, values: Array) -> Array:
    b, n = values.shape[:2]
    return values.reshape(b, f.given.num_attention_heads, n, -1)


def from_unmoved(values: Array) -> Array:
    b, h, n, k = values.shape
    return values.reshape(b, n, h * k)


def wrong_norms(given: Given) -> Iterator[Mistake]:
    def everywhere(way: Way) -> Iterator[dict[str, Step]]:
        steps: dict[str, Step] = {name: added(way, name) for name in RESIDUALS}
        steps |= {"embeddings": partial(embeddings, way=way), LM_NORM: partial(head_norm, way=way)}
        yield steps
        yield from ({name: step} for name, step in steps.items())

    def normalize(
        f: Forward,
        name: str,
        x: Array,
        eps: float,
        freedom: int = 0,
        outside: bool = False,
        parts: tuple[bool, bool] = (True, True),
    ) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        variance = np.square(centred).sum(-1, keepdims=True) / (x.shape[-1] - freedom)
        y = centred / (np.sqrt(variance) + eps if outside else np.sqrt(variance + eps))
        gain, bias = parts
        return y * (f.weight(f"{name}.weight") if gain else 1) + (f.weight(f"{name}.bias") if bias else 0)

    def swapped(f: Forward, name: str, x: Array) -> Array:
        plain = normalize(f, name, x, given.layer_norm_eps, parts=(False, False))
        return plain * f.weight(f"{name}.bias") + f.weight(f"{name}.weight")

    right = given.layer_norm_eps
    sentence = "the layer norm's epsilon is {}; the config's is {}"
    ways: list[tuple[str, Way]] = [
        (sentence.format(show(eps), show(right)), partial(normalize, eps=eps))
        for eps in (1e-12, 1e-6, 1e-5, 1e-3)
        if eps != right
    ]
    ways += [
        ("the layer norm divides by the unbiased variance (n − 1); it is the biased one (n)",
         partial(normalize, eps=right, freedom=1)),
        ("the layer norm adds epsilon to the standard deviation, not to the variance under the root",
         partial(normalize, eps=right, outside=True)),
        ("the layer norm divides by the unbiased standard deviation plus epsilon; it is √(biased variance + epsilon)",
         partial(normalize, eps=right, freedom=1, outside=True)),
        ("the layer norm's bias is left out", partial(normalize, eps=right, parts=(True, False))),
        ("the layer norm's weight is left out", partial(normalize, eps=right, parts=(False, True))),
        ("the layer norm's weight and bias are left out", partial(normalize, eps=right, parts=(False, False))),
        ("the layer norm's weight and bias are swapped", swapped),
        ("the layer norm is left out", lambda f, name, x: x),
    ]  # fmt: skip
    for what, way in ways:
        for steps in everywhere(way):
            yield Mistake(what, steps)

    def before(name: str) -> Step:
        return lambda f, at: RESIDUALS[name](f, at) + layer_norm(f, f"{at}.LayerNorm", f[f"{at}.dense"])

    def without_residual(name: str) -> Step:
        return lambda f, at: layer_norm(f, f"{at}.LayerNorm", f[f"{at}.dense"])

    for what, changed in (
        ("the layer norm comes before the residual is added; it comes after", before),
        ("the residual is not added", without_residual),
    ):
        yield Mistake(what, {name: changed(name) for name in RESIDUALS})
        for name in RESIDUALS:
            yield Mistake(what, {name: changed(name)})
    last = f"{LAYER}.output"
    yield Mistake(
        "the feed-forward's layer norm has the weights of the attention's",
        {
            last: lambda f, at: layer_norm(
                f, of_layer(at, "attention.output.LayerNorm"), RESIDUALS[last](f, at) + f[f"{at}.dense"]
            )
        },
    )
    yield Mistake(
        "the feed-forward's residual is the layer's input; it is the attention's output",
        {last: lambda f, at: layer_norm(f, f"{at}.LayerNorm", f.input(at) + f[f"{at}.dense"])},
    )


def wrong_activations() -> Iterator[Mistake]:
    for what, gelu in (
        ("GELU is the tanh approximation; RoBERTa's is the exact one, with erf",
         lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))),
        ("the activation is x · sigmoid(1.702 x); RoBERTa's is the exact GELU, with erf",
         lambda x: x * sigmoid(1.702 * x)),
        ("the activation is SiLU; RoBERTa's is the exact GELU, with erf", lambda x: x * sigmoid(x)),
        ("the activation is ReLU; RoBERTa's is the exact GELU, with erf", lambda x: np.maximum(x, 0)),
        ("GELU's erf takes x; it takes x / √2", lambda x: x / 2 * (1 + erf(x))),
        ("GELU is left out", lambda x: x),
    ):  # fmt: skip
        steps: dict[str, Step] = {
            f"{LAYER}.intermediate": partial(activate, gelu=gelu),
            LM_NORM: partial(head_norm, gelu=gelu),
        }
        yield Mistake(what, steps)


def sigmoid(x: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(x / 2)


def wrong_heads() -> Iterator[Mistake]:
    yield Mistake("the pooler's tanh is left out", {"pooler": lambda f, name: f["pooler.dense"]})
    for what, read in (("the last token", last_token), ("the mean of the tokens", mean_of_tokens)):
        sentence = f"the pooler reads {what}; it reads the first token, <s>"
        yield Mistake(sentence, {"pooler.dense": partial(pooled_from, read=read)})
    yield Mistake("the bias of lm_head is left out", {"lm_head": partial(decoder, bias=False)})


def pooled_from(f: Forward, name: str, read: Callable[[Forward], Array]) -> Array:
    return linear(f, name, read(f))


def last_token(f: Forward) -> Array:
    mask = f.given.attention_mask != 0
    return f.last[np.arange(len(mask)), mask.shape[1] - 1 - mask[:, ::-1].argmax(1)]  # (b, n, d) -> (b, d)


def mean_of_tokens(f: Forward) -> Array:
    mask = (f.given.attention_mask != 0)[..., None]
    return (f.last * mask).sum(1) / mask.sum(1)


def to_float16(values: Array) -> Array:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(values.dtype)


def to_bfloat16(values: Array) -> Array:
    return to_mantissa(values, 8)


def to_mantissa(values: Array, bits: int) -> Array:
    """Rounded to the nearest number with so many bits of mantissa, the leading one included."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2**bits) / 2**bits, exponent)


def show(number: float) -> str:
    """1e-05 as people write it."""
    return f"{number:g}".replace("e-0", "e-")


# --- The search ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Diagnosis:
    """The mistake that explains a value, or None where no classic one does.

    before, after: the value's RMS relative error against the step as it should be, and with the mistake.
    since: the values, known to be right, from which both were computed.
    """

    name: str
    mistake: str | None
    before: float
    after: float
    since: tuple[str, ...]


def diagnose(
    given: Given, right: Mapping[str, Array], name: str, value: Array, counted: Array, tolerance: float
) -> Diagnosis:
    """Name the mistake that turns what is `right` into this wrong value.

    right: values known to agree with the reference, by name.  value: the first that does not.  counted: true where it
    is not padding.  tolerance: the RMS relative error that rounding may cause.
    """
    nearest = None
    for known in starting_points(right):
        found = attempt(given, known, name, value, counted, tolerance)
        if found.mistake:
            return found
        nearest = nearest or found
    assert nearest is not None  # the token ids are always a starting point
    return nearest


def starting_points(right: Mapping[str, Array]) -> Iterator[Mapping[str, Array]]:
    """What to compute from: the nearest values, then the hidden states, then the token ids alone.

    Further back is less precise, and needed where a mistake hides below the tolerance, or in another layout, at first.
    """
    yield right
    states = {name: value for name, value in right.items() if kind(name) in ("embeddings", f"{LAYER}.output")}
    if len(states) < len(right):
        yield states
    if states:
        yield {}


def attempt(
    given: Given, known: Mapping[str, Array], name: str, value: Array, counted: Array, tolerance: float
) -> Diagnosis:
    """The mistake that comes nearest to the value, if it comes near enough."""
    sound = Forward(given, known, SOUND)
    before = distance(value, sound[name], counted)
    since = tuple(sorted(sound.used, key=in_order))
    best, after = None, before
    for mistake in mistakes(given) if before > tolerance else ():
        places = [in_order(step) for step in sound.found if kind(step) in mistake.steps]
        if mistake.steps and not places:
            continue
        earlier = {step: v for step, v in sound.found.items() if places and in_order(step) < min(places)}
        error = distance(value, Forward(given, {**known, **earlier}, mistake)[name], counted)
        # Another mistake with the same numbers comes later in the catalogue; rounding must not promote it.
        if error < after * (1 if best is None else 1 / 2):
            best, after = mistake, error
        if after <= min(tolerance, before * NOTHING_LEFT):
            break
    rounded = rounded_to(value[counted]) if before > tolerance else None
    if best is not None and after <= min(tolerance, before * LEFT):
        return Diagnosis(name, best.sentence, before, after, since)
    if rounded and before < 0.1:
        return Diagnosis(
            name, f"the values are those of {rounded}: computed, added up or kept in it", before, 0.0, since
        )
    return Diagnosis(name, None, before, before, since)


def distance(value: Array, expected: Array, counted: Array) -> float:
    """RMS of the difference over RMS of the expected values; infinite where the value is no number."""
    expected = expected[counted]
    with np.errstate(all="ignore"):
        error = np.sqrt(np.mean(np.square(value[counted] - expected)) / np.mean(np.square(expected)))
    return float(error) if np.isfinite(error) else np.inf


def rounded_to(values: Array) -> str | None:
    """The 16-bit type that holds all of these values, which are of a wider one."""
    for name, way in (("float16", to_float16), ("bfloat16", to_bfloat16)):
        if values.dtype.itemsize > 2 and np.all(np.abs(way(values) - values) <= EXACT * np.abs(values)):
            return name
    return None
