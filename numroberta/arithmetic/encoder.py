"""The forward pass, as fast as NumPy can run it.  It equals `numroberta.textbook`, in another layout.

A token is a column: an activation is `(hidden, columns)`, feature-major, and a linear layer is `Y = W X + b` with the
weight as the checkpoint stores it.  Texts lie side by side as spans of columns; padding never enters.

A layer's work is cut into parts that do not depend on each other: groups of heads, and slices of the feed-forward
width.  The parts' results are added up in a fixed order.  That serves three ends: float32 sums stay short and so
exact, the wide activation stays in the cache, and `schedule` may give the parts to several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import kernels
from numroberta.arithmetic.kernels import Scratch
from numroberta.checkpoint import RobertaConfig

# Elements of one block of attention scores: 512 KB of float32, written, exponentiated and read again in the cache.
SCORES = 131_072

Array = NDArray[Any]
Span = tuple[int, int]  # the first column of a text, and the one after its last


class Share(NamedTuple):
    """Calls a function for each part of a layer's work, on so many threads; lends it the thread's scratch memory."""

    threads: int
    run: Callable[[Callable[[slice, Scratch], Any], Sequence[slice]], Iterable[Any]]

    def __call__(self, function: Callable[[slice, Scratch], Array], parts: Sequence[slice]) -> Iterable[Array]:
        return self.run(function, parts)


class Linear(NamedTuple):
    weight: Array  # (out, in)
    bias: Array  # (out, 1)


class Norm(NamedTuple):
    gain: Array  # (hidden, 1)
    bias: Array  # (hidden, 1)


class Layer(NamedTuple):
    query: Linear
    key: Linear
    value: Linear
    context: Linear  # attention.output.dense
    attention_norm: Norm
    wide: Linear  # intermediate.dense
    narrow: Linear  # output.dense
    output_norm: Norm


class Weights(NamedTuple):
    """A checkpoint's tensors by what they do."""

    word: Array  # (vocab, hidden)
    position: Array  # (positions, hidden)
    token_type: Array  # (1, hidden)
    embedding_norm: Norm
    layers: tuple[Layer, ...]
    pooler: Linear | None

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array], config: RobertaConfig) -> Weights:
        """Tensors by transformers' names -> the same arrays (views, nothing is copied) by what they do."""

        def linear(name: str) -> Linear:
            return Linear(tensors[f"{name}.weight"], tensors[f"{name}.bias"][:, None])

        def norm(name: str) -> Norm:
            return Norm(tensors[f"{name}.weight"][:, None], tensors[f"{name}.bias"][:, None])

        layers = [
            Layer(
                query=linear(f"encoder.layer.{i}.attention.self.query"),
                key=linear(f"encoder.layer.{i}.attention.self.key"),
                value=linear(f"encoder.layer.{i}.attention.self.value"),
                context=linear(f"encoder.layer.{i}.attention.output.dense"),
                attention_norm=norm(f"encoder.layer.{i}.attention.output.LayerNorm"),
                wide=linear(f"encoder.layer.{i}.intermediate.dense"),
                narrow=linear(f"encoder.layer.{i}.output.dense"),
                output_norm=norm(f"encoder.layer.{i}.output.LayerNorm"),
            )
            for i in range(config.num_hidden_layers)
        ]
        return cls(
            word=tensors["embeddings.word_embeddings.weight"],
            position=tensors["embeddings.position_embeddings.weight"],
            token_type=tensors["embeddings.token_type_embeddings.weight"],
            embedding_norm=norm("embeddings.LayerNorm"),
            layers=tuple(layers),
            pooler=linear("pooler.dense") if "pooler.dense.weight" in tensors else None,
        )


class Cut(NamedTuple):
    """How a layer's work is cut; part of the arithmetic, since it fixes the order in which products are added."""

    heads: int  # heads in a part of the attention
    width: int  # feed-forward rows in a part
    piece: int  # most products added to one float32 sum
    small: int  # rows × inner × columns of a product that BLAS does at once, see `kernels.product`


class Texts(NamedTuple):
    """Texts side by side: what goes into `forward`."""

    ids: Array  # (n,)
    positions: Array  # (n,), the rows of the position table
    spans: list[Span]


class Trace(NamedTuple):
    """What `forward` records on its way, each where a list is given to be filled."""

    hidden_states: list[Array] | None = None  # (hidden, n) each: the embeddings, then each layer's output
    attentions: list[list[Array]] | None = None  # a list per layer, of an array per text: (heads, queries, keys)


def forward(
    weights: Weights,
    texts: Texts,
    config: RobertaConfig,
    cut: Cut,
    share: Share,
    *,
    wanted: list[Array] | None = None,
    trace: Trace = Trace(),  # noqa: B008  (immutable)
    done: Callable[[str], None] = lambda part: None,
) -> Array:
    """Ids to the last hidden state: (n,) -> (hidden, n), or (hidden, wanted columns) where `wanted` is given.

    wanted: for each text the columns of the result that somebody will read; the last layer computes only those.
    done: called with a part's name, "embeddings", "encoder.layer.0", …, once its weights have been read.
    The result lies in scratch memory: read it at once.
    """
    x = embed(weights, texts.ids, texts.positions, config.layer_norm_eps)
    done("embeddings")
    if trace.hidden_states is not None:
        trace.hidden_states.append(x.copy())
    for index, layer in enumerate(weights.layers):
        seen = None
        if trace.attentions is not None:
            seen = [np.empty((config.num_attention_heads, b - a, b - a), x.dtype) for a, b in texts.spans]
            trace.attentions.append(seen)
        last = index == len(weights.layers) - 1
        x = encoder_layer(layer, x, texts.spans, config, cut, share, wanted if last else None, seen)
        if trace.hidden_states is not None:
            trace.hidden_states.append(x.copy())
        done(f"encoder.layer.{index}")
    return x


def embed(weights: Weights, ids: Array, positions: Array, eps: float) -> Array:
    """LayerNorm(word + position + token type), ids and positions (n,) -> (hidden, n)."""
    rows = weights.word[ids]  # (n,) -> (n, hidden)
    rows += weights.position[positions]
    rows += weights.token_type[0]
    x = np.ascontiguousarray(rows.T)  # (n, hidden) -> (hidden, n)
    kernels.layer_norm(x, *weights.embedding_norm, eps)
    return x


def encoder_layer(
    layer: Layer,
    x: Array,
    spans: list[Span],
    config: RobertaConfig,
    cut: Cut,
    share: Share,
    wanted: list[Array] | None,
    seen: list[Array] | None,
) -> Array:
    """Attention, then feed-forward, each with its residual and norm: (hidden, n) -> (hidden, n or wanted columns)."""
    asking, asking_spans = (x, spans) if wanted is None else select(x, wanted)
    rows = config.head_dim * cut.heads

    def heads_part(part: slice, scratch: Scratch) -> Array:
        return attention(layer, x, spans, asking, asking_spans, part, config.head_dim, cut, seen, scratch)

    def width_part(part: slice, scratch: Scratch) -> Array:
        return feed_forward(layer, between, part, cut, scratch)

    between = total(share(heads_part, slices(config.hidden_size, rows)))
    between += layer.context.bias
    between += asking
    kernels.layer_norm(between, *layer.attention_norm, config.layer_norm_eps)

    y = total(share(width_part, slices(config.intermediate_size, cut.width)))
    y += layer.narrow.bias
    y += between
    kernels.layer_norm(y, *layer.output_norm, config.layer_norm_eps)
    return y


def attention(
    layer: Layer,
    x: Array,
    spans: list[Span],
    asking: Array,
    asking_spans: list[Span],
    part: slice,
    head_dim: int,
    cut: Cut,
    seen: list[Array] | None,
    scratch: Scratch,
) -> Array:
    """W softmax(QᵀK / √d) V of some heads, the rows `part` of Q, K and V: Vaswani et al. 2017, eq. 1, feature-major.

    x: (hidden, n), what is looked at; asking: (hidden, m), who looks, text by text the same.  -> (hidden, m)
    """

    def project(linear: Linear, x: Array, name: str) -> Array:  # W x, (hidden, n) -> (part, n)
        return kernels.product(linear.weight[part], x, cut.piece, cut.small, scratch, name)

    query = project(layer.query, asking, "query")  # (part, m)
    query += layer.query.bias[part]
    query *= head_dim**-0.5
    key = project(layer.key, x, "key")  # (part, n); its bias adds the same to all scores of a query: softmax drops it
    value = project(layer.value, x, "value")
    value += layer.value.bias[part]
    by_head = (part.stop - part.start) // head_dim, head_dim, -1
    query, key, value = (a.reshape(by_head) for a in (query, key, value))  # (part, n) -> (heads, d, n), views
    context = scratch("context", query.shape)
    for text, ((start, stop), (first, end)) in enumerate(zip(spans, asking_spans, strict=True)):
        keys, values = key[..., start:stop].swapaxes(1, 2), value[..., start:stop]  # (heads, keys, d), (heads, d, keys)
        # Few heads and many queries in a block of a long text: NumPy is slow on short rows.
        heads = max(1, SCORES // max(1, (stop - start) * (end - first)))
        queries = max(1, SCORES // max(1, (stop - start) * min(heads, len(key))))
        for some in slices(len(key), heads):
            for a in range(first, end, queries):
                b = min(a + queries, end)
                probs = scratch("probs", (some.stop - some.start, stop - start, b - a))
                kernels.matmul(keys[some], query[some, :, a:b], probs, cut.small)  # (heads, keys, queries)
                sums = kernels.softmax(probs)
                kernels.matmul(values[some], probs, context[some, :, a:b], cut.small)
                context[some, :, a:b] /= sums
                if seen is not None:
                    skip = part.start // head_dim
                    own = slice(skip + some.start, skip + some.stop)
                    seen[text][own, a - first : b - first] = (probs / sums).swapaxes(1, 2)
    context = context.reshape(part.stop - part.start, -1)  # (heads, d, m) -> (part, m)
    name = f"attention from {part.start}"
    return kernels.product(layer.context.weight[:, part], context, cut.piece, cut.small, scratch, name)


def feed_forward(layer: Layer, x: Array, part: slice, cut: Cut, scratch: Scratch) -> Array:
    """W₂ gelu(W₁ x + b₁) over some of the wide rows: Vaswani et al. 2017, eq. 2, with gelu.  (hidden, n) -> same."""
    wide = kernels.product(layer.wide.weight[part], x, cut.piece, cut.small, scratch, "wide")  # -> (part, n)
    kernels.bias_gelu(wide, layer.wide.bias[part], scratch)
    name = f"feed-forward from {part.start}"
    return kernels.product(layer.narrow.weight[:, part], wide, cut.piece, cut.small, scratch, name)


def slices(length: int, step: int) -> list[slice]:
    """range(length) in slices of `step`."""
    return [slice(first, min(first + step, length)) for first in range(0, length, step)]


def total(parts: Iterable[Array]) -> Array:
    """The sum of the parts, added up in their order, in the first one's memory."""
    remaining = iter(parts)
    first = next(remaining)
    for part in remaining:
        first += part
    return first


def select(x: Array, wanted: list[Array]) -> tuple[Array, list[Span]]:
    """The wanted columns of x side by side, and each text's span among them."""
    return x[:, np.concatenate(wanted)], side_by_side([len(columns) for columns in wanted])


def side_by_side(lengths: Sequence[int]) -> list[Span]:
    """The spans of texts of these lengths, one after the other."""
    ends = np.cumsum(lengths).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))
