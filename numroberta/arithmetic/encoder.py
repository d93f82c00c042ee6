"""The forward pass, as fast as NumPy can run it.  It equals `numroberta.textbook`, in another layout.

A token is a column: an activation is `(hidden, columns)`, feature-major, and a linear layer is `Y = W X + b` with the
weight as the checkpoint stores it.  Texts lie side by side as spans of columns; padding never enters.

A layer's work is cut into parts that do not depend on each other: groups of heads, and slices of the feed-forward
width.  The parts' results are added up in a fixed order.  That serves three ends: float32 sums stay short and so
exact, the wide activation stays in the cache, and `schedule` may give the parts to several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import kernels
from numroberta.arithmetic.converted import ROWS, AtUse, Converted, Table
from numroberta.arithmetic.kernels import Scratch
from numroberta.checkpoint import RobertaConfig

# Elements of one block of attention scores: 512 KB of float32, written, exponentiated and read again in the cache.
SCORES = 131_072
# A text of more tokens than LONG is looked at in blocks of so many keys: with all of its keys a block would have few
# queries, and products of few columns are slow (at 8,000 keys and 16 queries, less than half the rate).
LONG, KEYS = 1024, 256

Array = NDArray[Any]


class Share(NamedTuple):
    """How the parts of a layer's work are run: in the caller's thread, or by several workers at the same time.

    run(function, parts): calls `function(part, scratch)` for each part and gives the results in the parts' order.
    `scratch` is the memory of the worker who runs the part.  One worker runs a part when its result is asked for.
    scratch: the caller's own memory, which is that of the first part's worker, too.
    """

    workers: int
    run: Callable[[Callable[[slice, Scratch], Array], Sequence[slice]], Iterable[Array]]
    scratch: Scratch


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

    word: Array | Table  # (vocab, hidden)
    position: Array | Table  # (positions, hidden)
    token_type: Array  # (types, hidden)
    embedding_norm: Norm
    layers: Sequence[Layer]
    pooler: Linear | None

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array], config: RobertaConfig) -> Weights:
        """Tensors by transformers' names -> the same arrays (views, nothing is copied) by what they do.

        Of `Converted` tensors the tables convert the rows that are asked for, and `at_use` makes each layer when it is
        asked for.
        """

        def linear(name: str) -> Linear:
            return Linear(tensors[f"{name}.weight"], tensors[f"{name}.bias"][:, None])

        def norm(name: str) -> Norm:
            return Norm(tensors[f"{name}.weight"][:, None], tensors[f"{name}.bias"][:, None])

        def layer(i: int) -> Layer:
            return Layer(
                query=linear(f"encoder.layer.{i}.attention.self.query"),
                key=linear(f"encoder.layer.{i}.attention.self.key"),
                value=linear(f"encoder.layer.{i}.attention.self.value"),
                context=linear(f"encoder.layer.{i}.attention.output.dense"),
                attention_norm=norm(f"encoder.layer.{i}.attention.output.LayerNorm"),
                wide=linear(f"encoder.layer.{i}.intermediate.dense"),
                narrow=linear(f"encoder.layer.{i}.output.dense"),
                output_norm=norm(f"encoder.layer.{i}.output.LayerNorm"),
            )

        def table(name: str) -> Array | Table:
            return tensors.table(name) if isinstance(tensors, Converted) else tensors[name]

        count = config.num_hidden_layers
        at_use = isinstance(tensors, Converted) and tensors.at_use
        return cls(
            word=table("embeddings.word_embeddings.weight"),
            position=table("embeddings.position_embeddings.weight"),
            token_type=tensors["embeddings.token_type_embeddings.weight"],
            embedding_norm=norm("embeddings.LayerNorm"),
            layers=AtUse(layer, count) if at_use else tuple(map(layer, range(count))),
            pooler=linear("pooler.dense") if "pooler.dense.weight" in tensors else None,
        )


class Cut(NamedTuple):
    """How a layer's work is cut; part of the arithmetic, since it fixes the order in which products are added."""

    heads: int  # heads in a part of the attention
    width: int  # feed-forward rows in a part
    piece: int  # most products added to one float32 sum
    small: int  # rows × inner × columns of a product that BLAS does at once, see `kernels.product`


class Plan(NamedTuple):
    """What is the same in every layer: the sizes of the model, and how its work is cut and run."""

    config: RobertaConfig
    cut: Cut
    share: Share


class Texts(NamedTuple):
    """Texts side by side: what goes into `forward`."""

    ids: Array  # (n,)
    positions: Array  # (n,), the rows of the position table
    type_ids: Array  # (n,), the rows of the table of token types
    spans: list[slice]


class States(NamedTuple):
    """Hidden states of texts side by side."""

    x: Array  # (hidden, n)
    spans: list[slice]  # each text's columns

    def select(self, wanted: list[Array]) -> States:
        """Some columns of each text, side by side; wanted: their numbers, counted from the text's first."""
        columns = [span.start + numbers for span, numbers in zip(self.spans, wanted, strict=True)]
        return States(self.x[:, np.concatenate(columns)], side_by_side([len(numbers) for numbers in wanted]))


class Trace(NamedTuple):
    """What `forward` records on its way, each where a list is given to be filled."""

    hidden_states: list[Array] | None = None  # (hidden, n) each: the embeddings, then each layer's output
    attentions: list[list[Array]] | None = None  # a list per layer, of an array per text: (heads, queries, keys)


def forward(
    weights: Weights,
    texts: Texts,
    plan: Plan,
    *,
    wanted: list[Array] | None = None,
    trace: Trace = Trace(),  # noqa: B008  (immutable)
    done: Callable[[str], None] | None = None,
) -> States:
    """Ids to the last hidden state: (n,) -> (hidden, n), or (hidden, wanted columns) where `wanted` is given.

    Args:
        weights, texts, plan: the model, its input, and how the work is cut and run.
        wanted: for each text the numbers of the tokens whose hidden state somebody will use; the last layer computes
            only those.
        trace: takes what is to be recorded on the way.
        done: called with a module's name, "embeddings", "encoder.layer.0", …, once its weights are no longer needed.

    Returns:
        The states and their spans, in scratch memory: use or copy them before the next text is run.
    """
    config = plan.config
    states = States(embed(weights, texts, config.layer_norm_eps, plan.share), texts.spans)
    if done:
        done("embeddings")
    if trace.hidden_states is not None:
        trace.hidden_states.append(states.x.copy())
    for index in range(len(weights.layers)):  # `enumerate` would hold a layer while the next one is converted
        layer = weights.layers[index]
        probs = None
        if trace.attentions is not None:
            lengths = [span.stop - span.start for span in texts.spans]
            probs = [np.empty((config.num_attention_heads, n, n), states.x.dtype) for n in lengths]
            trace.attentions.append(probs)
        last = index == len(weights.layers) - 1
        asking = states.select(wanted) if last and wanted is not None else states
        states = States(encoder_layer(layer, states, asking, plan, probs), asking.spans)
        if trace.hidden_states is not None:
            trace.hidden_states.append(states.x.copy())
        if done:
            done(f"encoder.layer.{index}")
        del layer  # before the next one is converted
    return states


def embed(weights: Weights, texts: Texts, eps: float, share: Share) -> Array:
    """LayerNorm(word + position + token type), (n,) -> (hidden, n)."""
    hidden, n = weights.token_type.shape[1], len(texts.ids)
    x = share.scratch(memory_for("feed-forward", slice(0, 1), share), (hidden, n))  # as each layer leaves its output
    for some in slices(n, ROWS):
        rows = weights.word[texts.ids[some]]  # (rows,) -> (rows, hidden)
        rows += weights.position[texts.positions[some]]
        types = texts.type_ids[some]
        rows += weights.token_type[types] if types.any() else weights.token_type[0]
        x[:, some] = rows.T
    kernels.layer_norm(x, *weights.embedding_norm, eps)
    return x


def encoder_layer(layer: Layer, states: States, asking: States, plan: Plan, probs: list[Array] | None) -> Array:
    """Attention, then feed-forward, each with its residual and norm: (hidden, n) -> (hidden, m).

    Args:
        layer: the weights.
        states: the tokens that are looked at, (hidden, n).
        asking: the tokens that look and whose next state is computed, (hidden, m): all of them, or some of each text.
        plan: how the work is cut and run.
        probs: for each text an array (heads, queries, keys) that takes the attention, or None.
    """
    config, cut, share = plan

    def some_heads(rows: slice, scratch: Scratch) -> Array:
        return attention(layer, states, asking, rows, plan, scratch, probs)

    between = total(share.run(some_heads, slices(config.hidden_size, config.head_dim * cut.heads)))
    between += layer.context.bias
    between += asking.x
    kernels.layer_norm(between, *layer.attention_norm, config.layer_norm_eps)

    def some_width(rows: slice, scratch: Scratch) -> Array:
        return feed_forward(layer, between, rows, plan, scratch)

    y = total(share.run(some_width, slices(config.intermediate_size, cut.width)))
    y += layer.narrow.bias
    y += between
    kernels.layer_norm(y, *layer.output_norm, config.layer_norm_eps)
    return y


def attention(
    layer: Layer, states: States, asking: States, rows: slice, plan: Plan, scratch: Scratch, probs: list[Array] | None
) -> Array:
    """W softmax(QᵀK / √d) V of some heads: Vaswani et al. 2017, eq. 1, feature-major.  -> (hidden, m)

    rows: those of Q, K and V that are these heads'.  Other arguments as in `encoder_layer`.
    """
    head_dim, cut = plan.config.head_dim, plan.cut

    product, piece, small = kernels.product, cut.piece, cut.small
    query = product(layer.query.weight[rows], asking.x, piece, small, scratch, "query")  # (hidden, m) -> (rows, m)
    query += layer.query.bias[rows]
    query *= head_dim**-0.5
    # The key's bias would add the same number to all scores of a query, and softmax does not see that.
    key = product(layer.key.weight[rows], states.x, piece, small, scratch, "key")  # (hidden, n) -> (rows, n)
    value = product(layer.value.weight[rows], states.x, piece, small, scratch, "value")
    value += layer.value.bias[rows]
    by_head = (rows.stop - rows.start) // head_dim, head_dim, -1
    query, key, value = query.reshape(by_head), key.reshape(by_head), value.reshape(by_head)  # -> (heads, d, n), views
    context = scratch("context", query.shape)
    heads = slice(rows.start // head_dim, rows.stop // head_dim)
    most = SCORES // len(query) if probs is None else 0
    for texts, keys, queries in alike(states.spans, asking.spans, most):
        q, k, v, c = query[..., queries], key[..., keys], value[..., keys], context[..., queries]
        count = texts.stop - texts.start
        if count > 1:
            attend_block(by_text(q, count), by_text(k, count), by_text(v, count), by_text(c, count), scratch, None)
        else:
            attend(q, k, v, c, scratch, None if probs is None else probs[texts.start][heads])
    context = context.reshape(rows.stop - rows.start, -1)  # (heads, d, m) -> (rows, m)
    name = memory_for("attention", rows, plan.share)
    return product(layer.context.weight[:, rows], context, piece, small, scratch, name)


def alike(keys: Sequence[slice], queries: Sequence[slice], most: int) -> Iterator[tuple[slice, slice, slice]]:
    """Neighbouring texts of one length with at most so many pairs of a key and a query, or single texts.

    Yields their numbers, and the columns that they have together.
    """
    sizes = [(k.stop - k.start, q.stop - q.start) for k, q in zip(keys, queries, strict=True)]
    first = 0
    for end in range(1, len(sizes) + 1):
        n, m = sizes[first]
        if end == len(sizes) or sizes[end] != (n, m) or (end + 1 - first) * n * m > most:
            together = slice(keys[first].start, keys[end - 1].stop), slice(queries[first].start, queries[end - 1].stop)
            yield slice(first, end), *together
            first = end


def by_text(x: Array, texts: int) -> Array:
    """Texts side by side, (heads, d, texts · n) -> (texts, heads, d, n), a view."""
    heads, d, columns = x.shape
    return x.reshape(heads, d, texts, columns // texts).transpose(2, 0, 1, 3)


def attend(query: Array, key: Array, value: Array, context: Array, scratch: Scratch, probs: Array | None) -> None:
    """`attend_block` over all heads and queries of one text, as many at a time as SCORES allows."""
    heads, _, keys = key.shape
    queries = query.shape[-1]
    if keys > LONG and probs is None:
        for head in range(heads):
            for q in slices(queries, SCORES // KEYS):
                attend_in_blocks(query[head, :, q], key[head], value[head], context[head, :, q], scratch)
        return
    # Few heads and many queries in a block of a long text: NumPy is slow on short rows.
    most_heads = max(1, SCORES // max(1, keys * queries))
    most_queries = max(1, SCORES // max(1, keys * min(most_heads, heads)))
    for h in slices(heads, most_heads):
        for q in slices(queries, most_queries):
            own = None if probs is None else probs[h, q]
            attend_block(query[h, :, q], key[h], value[h], context[h, :, q], scratch, own)


def attend_block(query: Array, key: Array, value: Array, context: Array, scratch: Scratch, probs: Array | None) -> None:
    """context = V softmax(KᵀQ) of some heads and queries of a text, or of several texts; the softmax is over the keys.

    Args:
        query, context: (heads, d, queries) or (texts, heads, d, queries).
        key, value: (heads, d, keys) or (texts, heads, d, keys).
        scratch: lends the memory for the scores.
        probs: (heads, queries, keys), takes the softmax, or None.
    """
    *lead, _, keys = key.shape
    scores = scratch("scores", (keys, *lead, query.shape[-1]))  # long rows, since NumPy is slow on short ones
    by_head = np.moveaxis(scores, 0, -2)  # -> (…, heads, keys, queries), a view
    np.matmul(key.swapaxes(-1, -2), query, out=by_head)  # (…, keys, d) @ (…, d, queries)
    sums = kernels.softmax(scores.reshape(keys, -1)).reshape(*lead, 1, -1)
    np.matmul(value, by_head, out=context)  # (…, d, keys) @ (…, keys, queries)
    context /= sums
    if probs is not None:
        probs[...] = (by_head / sums).swapaxes(1, 2)  # (heads, keys, queries) -> (heads, queries, keys)


def attend_in_blocks(query: Array, key: Array, value: Array, context: Array, scratch: Scratch) -> None:
    """What `attend_block` computes, for one head, a block of keys after the other: Milakov & Gimelshein 2018, alg. 3.

    After each block, `context` and `sums` are what they would be if the text ended there, but for their common factor
    exp(−top), which changes as larger scores are found.

    Args:
        query, context: (d, queries).
        key, value: (d, keys).
        scratch: lends the memory for the scores.
    """
    queries = query.shape[1]
    top = np.full(queries, -np.inf, query.dtype)
    sums = np.zeros(queries, query.dtype)
    context[...] = 0
    for some in slices(key.shape[1], KEYS):
        scores = scratch("scores", (some.stop - some.start, queries))
        np.matmul(key[:, some].T, query, out=scores)  # (keys, d) @ (d, queries)
        higher = np.maximum(top, scores.max(axis=0))
        shrunk = np.exp(top - higher)
        scores -= higher
        np.exp(scores, scores)
        sums *= shrunk
        sums += kernels.column_sums(scores)
        context *= shrunk
        context += np.matmul(value[:, some], scores, out=scratch("part", context.shape))
        top = higher
    context /= sums


def feed_forward(layer: Layer, x: Array, rows: slice, plan: Plan, scratch: Scratch) -> Array:
    """W₂ gelu(W₁ x + b₁) over some of the wide rows: Vaswani et al. 2017, eq. 2, with gelu.  (hidden, n) -> same."""
    cut = plan.cut
    wide = kernels.product(layer.wide.weight[rows], x, cut.piece, cut.small, scratch, "wide")  # -> (rows, n)
    kernels.bias_gelu(wide, layer.wide.bias[rows], scratch)
    name = memory_for("feed-forward", rows, plan.share)
    return kernels.product(layer.narrow.weight[:, rows], wide, cut.piece, cut.small, scratch, name)


def slices(length: int, step: int) -> list[slice]:
    """range(length) in slices of `step`."""
    return [slice(first, min(first + step, length)) for first in range(0, length, step)]


def memory_for(what: str, rows: slice, share: Share) -> str:
    """The name of the scratch memory for a part's result, (hidden, n).

    One worker's first part keeps its own; `total` has added each other one to it before the next is computed.
    """
    return f"{what} from {rows.start}" if share.workers > 1 or not rows.start else "part of a sum"


def total(parts: Iterable[Array]) -> Array:
    """The sum of the parts, added up in their order, in the first one's memory."""
    remaining = iter(parts)
    first = next(remaining)
    for part in remaining:
        first += part
    return first


def side_by_side(lengths: Sequence[int]) -> list[slice]:
    """The spans of texts of these lengths, one after the other."""
    ends = np.cumsum(lengths).tolist()
    return [slice(start, stop) for start, stop in zip([0, *ends[:-1]], ends, strict=True)]
