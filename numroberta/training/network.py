"""The encoder and its backward pass, fast: each function stands above its derivative.  It equals the textbook's.

A token is a column, as in `numroberta.arithmetic`: an activation is `(hidden, n)`, a linear layer `Y = W X + b`, and so
the backward pass transposes nothing: `dX = Wᵀ dY`, `dW = dY Xᵀ`.  Texts lie side by side and padding never enters.

Memory is planned.  Of a layer are kept: queries, keys, values, probabilities and their context, the wide activation
with the slope of its gelu, and what the norms made of their input before gain and bias.  What those were given is
computed again where it is needed, for one multiplication and one addition.  With `checkpointing` only the layers'
inputs are kept, and each layer is computed again on the way back (Chen et al. 2016).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import kernels
from numroberta.checkpoint import RobertaConfig
from numroberta.training.dropout import Dropout
from numroberta.training.gradients import Gradients

Array = NDArray[Any]

# Elements of one block of attention scores: 512 KB of float32, written, exponentiated and read again in the cache.
SCORES = 131_072


class Group(NamedTuple):
    """Texts side by side in one forward and backward pass."""

    ids: Array  # (n,)
    positions: Array  # (n,), the rows of the position table
    types: Array  # (n,), those of the table of token types
    lengths: Sequence[int]  # of the texts; equal ones that are neighbours are computed at once
    wanted: Sequence[Array] | None = None  # for each text the tokens whose last state is read; None: all


class Block(NamedTuple):
    """Neighbouring texts of one length, whose attention is computed at once."""

    texts: int
    keys: int  # columns of each text
    queries: int  # of them those that the layer computes
    key: int  # the first text's first column
    query: int  # and among those that are computed


def blocks(keys: Sequence[int], queries: Sequence[int], heads: int) -> Iterator[Block]:
    """Texts with so many columns each, in blocks whose scores stay in the cache."""
    first = key = query = 0
    for i in range(1, len(keys) + 1):
        texts, own = i - first, (keys[first], queries[first])
        most = max(1, SCORES // max(1, heads * own[0] * own[1]))
        if i == len(keys) or texts == most or (keys[i], queries[i]) != own:
            yield Block(texts, *own, key, query)
            first, key, query = i, key + texts * own[0], query + texts * own[1]


class Network:
    """An encoder that is trained: one group of texts at a time through it and back, on one thread.

    tensors: weights by canonical name; `gradients` says which of them are trained, and is what gets their gradients.
    The layers below `first` and, unless it is 0, the embeddings are not trained.
    """

    def __init__(
        self,
        tensors: Mapping[str, Array],
        config: RobertaConfig,
        gradients: Gradients,
        *,
        first: int = 0,
        checkpointing: bool = False,
    ):
        self.tensors, self.config, self.gradients = tensors, config, gradients
        self.first, self.checkpointing = first, checkpointing
        self.memory = gradients.memory
        self.heads, self.layers = config.num_attention_heads, config.num_hidden_layers
        self.dropout = Dropout()
        self.kept: dict[str, Array] = {}  # masks and scales by name; large arrays lie in `memory`

    def forward(self, group: Group, dropout: Dropout) -> Array:
        """Ids to the last hidden state of the wanted tokens, (n,) -> (hidden, m)."""
        self.group, self.dropout = group, dropout
        lengths = group.lengths
        wanted = group.wanted
        self.blocks = list(blocks(lengths, lengths, self.heads))
        self.last_blocks, self.columns = self.blocks, None
        if wanted is not None:
            starts = np.cumsum([0, *lengths[:-1]])
            self.columns = np.concatenate([start + tokens for start, tokens in zip(starts, wanted, strict=True)])
            self.last_blocks = list(blocks(lengths, [len(tokens) for tokens in wanted], self.heads))
        x = self.embeddings(group)
        for layer in range(self.layers):
            x = self.feed_forward(layer, self.attention(layer, x))
        return x

    def backward(self, dy: Array) -> None:
        """The gradient with respect to what `forward` returned, (hidden, m), to those of the tensors.  dy is lost."""
        for layer in reversed(range(self.first, self.layers)):
            if self.checkpointing:
                self.wide(layer, self.attention(layer, self.input_of(layer)))
            dy = self.attention_backward(layer, self.feed_forward_backward(layer, dy))
        if self.first == 0:
            self.embeddings_backward(dy)

    # --- Embeddings ----------------------------------------------------------------------------------------------

    def embeddings(self, group: Group) -> Array:
        """LayerNorm(word + position + token type), (n,) -> (hidden, n)."""
        rows = self.tensors["embeddings.word_embeddings.weight"][group.ids]  # (n,) -> (n, hidden)
        rows += self.tensors["embeddings.position_embeddings.weight"][group.positions]
        rows += self.tensors["embeddings.token_type_embeddings.weight"][group.types]
        y = self.memory("embeddings", (rows.shape[1], rows.shape[0]))
        y[...] = rows.T  # (n, hidden) -> (hidden, n)
        x = self.norm("embeddings.LayerNorm", y, "x")
        return self.drop("embeddings", x)

    def embeddings_backward(self, dy: Array) -> None:
        """A row of a table gets the sum of the gradients of its columns; padding's row gets none."""
        dy = self.norm_backward("embeddings.LayerNorm", self.drop_backward("embeddings", dy, "d embeddings"))
        rows = np.ascontiguousarray(dy.T)  # (hidden, n) -> (n, hidden)
        self.gradients.add_rows("embeddings.token_type_embeddings.weight", self.group.types, rows)
        is_token = self.group.ids != self.config.pad_token_id
        placed = is_token if self.config.first_position else np.ones_like(is_token)  # BERT's have no row for padding
        for table, ids, where in (("word", self.group.ids, is_token), ("position", self.group.positions, placed)):
            name = f"embeddings.{table}_embeddings.weight"
            self.gradients.add_rows(name, *((ids, rows) if where.all() else (ids[where], rows[where])))

    # --- Attention -----------------------------------------------------------------------------------------------

    def attention(self, layer: int, x: Array) -> Array:
        """LayerNorm(x + W softmax(QᵀK / √d) V + b), (hidden, n) -> (hidden, n or m): Vaswani et al. 2017, eq. 1."""
        name, slot = f"encoder.layer.{layer}.attention", self.slot(layer)
        asking = self.asking(layer, x)
        query = self.linear(f"{name}.self.query", asking, f"query{slot}")
        query *= self.config.head_dim**-0.5
        # A key's bias adds the same to all scores of a query: softmax drops it, and its gradient is zero.
        key = self.product(f"{name}.self.key", x, f"key{slot}")
        value = self.linear(f"{name}.self.value", x, f"value{slot}")
        context = self.memory(f"context{slot}", asking.shape)
        for number, (block, probs) in enumerate(self.probs(layer)):
            k, v, q, c = self.by_head(block, key, value, query, context)
            scores = probs.reshape(-1, *probs.shape[2:])  # (texts, heads, …) -> (texts · heads, keys, queries)
            np.matmul(k.swapaxes(2, 3), q, out=probs)
            scores /= kernels.softmax(scores)
            np.matmul(v, self.drop_probs(layer, number, probs), out=c)
        y = self.linear(f"{name}.output.dense", context, f"attention{slot}")
        y = self.drop(f"{name}.output", y)
        y += asking
        return self.norm(f"{name}.output.LayerNorm", y, "between")

    def attention_backward(self, layer: int, dy: Array) -> Array:
        """dV = dC Pᵀ, dP = Vᵀ dC, dS = P (dP − Σ dP P), dQ = K dS / √d, dK = Q dSᵀ / √d, (hidden, m) -> (hidden, n).

        Σ dP P over the keys could be had as Σ dC C over a head's features, which is shorter; but then the rounding
        errors of dP and of its sum are not the same, and do not cancel: dQ and dK were up to 8 times less exact.
        """
        name, slot = f"encoder.layer.{layer}.attention", self.slot(layer)
        dy = self.norm_backward(f"{name}.output.LayerNorm", dy)
        x = self.input_of(layer)
        asking = self.asking(layer, x)
        query, context = (self.memory(f"{part}{slot}", asking.shape) for part in ("query", "context"))
        key, value = (self.memory(f"{part}{slot}", x.shape) for part in ("key", "value"))
        dense = f"{name}.output.dense"
        dcontext = self.linear_backward(
            dense, context, self.drop_backward(f"{name}.output", dy, "d dropped"), "d context"
        )
        dquery, dkey, dvalue = (
            self.memory(f"d {part}", a.shape) for part, a in (("q", query), ("k", key), ("v", value))
        )
        for number, (block, probs) in enumerate(self.probs(layer)):
            k, v, q, dc = self.by_head(block, key, value, query, dcontext)
            dk, dv, dq, _ = self.by_head(block, dkey, dvalue, dquery, dcontext)
            np.matmul(dc, self.drop_probs(layer, number, probs, again=True).swapaxes(2, 3), out=dv)
            dscores = np.matmul(v.swapaxes(2, 3), dc, out=self.memory("d scores", probs.shape))
            self.drop_probs_backward(layer, number, dscores)
            dscores *= probs
            sums = kernels.column_sums(dscores)[..., None, :]  # (texts, heads, keys, queries) -> (…, 1, queries)
            dscores -= np.multiply(probs, sums, out=self.memory("dropped", probs.shape))
            np.matmul(k, dscores, out=dq)
            np.matmul(q, dscores.swapaxes(2, 3), out=dk)
        dquery *= self.config.head_dim**-0.5
        below = layer > self.first or self.first == 0
        dx = self.linear_backward(f"{name}.self.query", asking, dquery, "d asking", below)
        if below:
            dx += dy
            if self.columns is not None and layer == self.layers - 1:
                wide = self.memory("d x", x.shape)
                wide[...] = 0
                wide[:, self.columns] = dx
                dx = wide
            dx += self.linear_backward(f"{name}.self.value", x, dvalue, "d part")
            dx += self.linear_backward(f"{name}.self.key", x, dkey, "d part", bias=False)
        else:
            self.linear_backward(f"{name}.self.value", x, dvalue, "d part", below)
            self.linear_backward(f"{name}.self.key", x, dkey, "d part", below, bias=False)
        return dx

    def probs(self, layer: int) -> Iterator[tuple[Block, Array]]:
        """Each block of texts with the memory of its probabilities, (texts, heads, keys, queries)."""
        own = self.last_blocks if layer == self.layers - 1 else self.blocks
        sizes = [self.heads * block.texts * block.keys * block.queries for block in own]
        memory, start = self.memory(f"probs{self.slot(layer)}", (sum(sizes),)), 0
        for block, size in zip(own, sizes, strict=True):
            part = memory[start : start + size].reshape(block.texts, self.heads, block.keys, block.queries)
            yield block, part
            start += size

    def by_head(self, block: Block, key: Array, value: Array, query: Array, context: Array) -> list[Array]:
        """A block's columns by text and head, (hidden, n) -> (texts, heads, d, keys or queries), views."""
        ends = (
            (block.key, block.keys),
            (block.key, block.keys),
            (block.query, block.queries),
            (block.query, block.queries),
        )
        views = []
        for array, (start, columns) in zip((key, value, query, context), ends, strict=True):
            own = array[:, start : start + block.texts * columns]
            views.append(own.reshape(self.heads, -1, block.texts, columns).transpose(2, 0, 1, 3))
        return views

    def asking(self, layer: int, x: Array) -> Array:
        """The columns that the layer computes: in the last one those that somebody reads."""
        return x if self.columns is None or layer < self.layers - 1 else x[:, self.columns]

    # --- Feed-forward --------------------------------------------------------------------------------------------

    def feed_forward(self, layer: int, x: Array) -> Array:
        """LayerNorm(x + W₂ gelu(W₁ x + b₁) + b₂), (hidden, n) -> (hidden, n): Vaswani et al. 2017, eq. 2, with gelu."""
        name = f"encoder.layer.{layer}.output"
        y = self.linear(f"{name}.dense", self.wide(layer, x), f"{name}.dense")
        y = self.drop(name, y)
        y += x
        return self.norm(f"{name}.LayerNorm", y, "x")

    def wide(self, layer: int, x: Array) -> Array:
        """gelu(W₁ x + b₁), whose slope is kept beside it, (hidden, n) -> (inner, n)."""
        name, slot = f"encoder.layer.{layer}.intermediate.dense", self.slot(layer)
        wide = self.product(name, x, f"wide{slot}")
        slope = self.memory(f"slope{slot}", wide.shape)
        kernels.bias_gelu_with_slope(wide, self.tensors[f"{name}.bias"][:, None], slope, self.memory)
        return wide

    def feed_forward_backward(self, layer: int, dy: Array) -> Array:
        """dx = dy + W₁ᵀ (gelu′ · W₂ᵀ dy), behind the norm, (hidden, n) -> (hidden, n)."""
        name, slot = f"encoder.layer.{layer}", self.slot(layer)
        dy = self.norm_backward(f"{name}.output.LayerNorm", dy)
        shape = (self.config.intermediate_size, dy.shape[1])
        wide, slope = self.memory(f"wide{slot}", shape), self.memory(f"slope{slot}", shape)
        dropped = self.drop_backward(f"{name}.output", dy, "d dropped")
        dwide = self.linear_backward(f"{name}.output.dense", wide, dropped, "d wide")
        dwide *= slope
        x = self.denormalized(f"{name}.attention.output.LayerNorm", self.memory("between", dy.shape))
        dx = self.linear_backward(f"{name}.intermediate.dense", x, dwide, "d between")
        dx += dy
        return dx

    # --- What the layers are made of -----------------------------------------------------------------------------

    def product(self, name: str, x: Array, out: str) -> Array:
        """W x, (in, n) -> (out, n)."""
        weight = self.tensors[f"{name}.weight"]
        return np.matmul(weight, x, out=self.memory(out, (len(weight), x.shape[1])))

    def linear(self, name: str, x: Array, out: str) -> Array:
        """W x + b, (in, n) -> (out, n), into the memory called `out`."""
        y = self.product(name, x, out)
        y += self.tensors[f"{name}.bias"][:, None]
        return y

    def linear_backward(
        self, name: str, x: Array, dy: Array, out: str, below: bool = True, *, bias: bool = True
    ) -> Array:
        """dx = Wᵀ dy (if somebody `below` needs it), dW = dy xᵀ, db = Σ dy, (out, n) -> (in, n)."""
        self.gradients.add_product(f"{name}.weight", dy, x)
        if bias:
            self.gradients.add(f"{name}.bias", dy.sum(1))
        if not below:
            return dy
        weight = self.tensors[f"{name}.weight"]
        return np.matmul(weight.T, dy, out=self.memory(out, (weight.shape[1], dy.shape[1])))

    def keep(self, name: str, array: Array) -> Array:
        """Remember an array by name until the backward pass."""
        self.kept[name] = array
        return array

    def norm(self, name: str, y: Array, out: str) -> Array:
        """γ ŷ + β with ŷ = (y − mean) / σ, (hidden, n) -> same.  y becomes ŷ, and is kept with 1/σ."""
        y -= kernels.column_sums(y) / y.dtype.type(len(y))
        scale = kernels.column_sums(y, squared=True)
        scale /= len(y)
        scale += self.config.layer_norm_eps
        np.sqrt(scale, scale)
        np.divide(1.0, scale, scale)
        y *= scale
        self.kept[name], self.kept[f"{name} scale"] = y, scale
        return self.denormalized(name, self.memory(out, y.shape))

    def denormalized(self, name: str, out: Array) -> Array:
        """γ ŷ + β, what `norm` returned, computed again."""
        np.multiply(self.kept[name], self.tensors[f"{name}.weight"][:, None], out=out)
        out += self.tensors[f"{name}.bias"][:, None]
        return out

    def norm_backward(self, name: str, dy: Array) -> Array:
        """dx = (g − mean(g) − ŷ mean(g ŷ)) / σ with g = γ dy, dγ = Σ dy ŷ, dβ = Σ dy; dy becomes dx."""
        normal, scale = self.kept[name], self.kept[f"{name} scale"]
        product = np.multiply(dy, normal, out=self.memory("d norm", dy.shape))
        self.gradients.add(f"{name}.weight", product.sum(1))
        self.gradients.add(f"{name}.bias", dy.sum(1))
        gain = self.tensors[f"{name}.weight"][:, None]
        dy *= gain
        product *= gain
        mean, slope = kernels.column_sums(dy), kernels.column_sums(product)
        mean /= len(dy)
        slope /= len(dy)
        dy -= mean
        dy -= np.multiply(normal, slope, out=product)
        dy *= scale
        return dy

    def input_of(self, layer: int) -> Array:
        """What a layer was given, computed again."""
        name = f"encoder.layer.{layer - 1}.output" if layer else "embeddings"
        x = self.denormalized(f"{name}.LayerNorm", self.memory("x", self.kept[f"{name}.LayerNorm"].shape))
        return x if layer else self.drop("embeddings", x, again=True)

    def slot(self, layer: int) -> str:
        """The name of the memory for what is kept of a layer: one for all of them, where they are computed again."""
        return "" if self.checkpointing or layer < self.first else f" {layer}"

    # --- Dropout -------------------------------------------------------------------------------------------------

    def drop(self, name: str, y: Array, *, again: bool = False) -> Array:
        """y with some numbers zero and the others larger: `torch.nn.Dropout`, in place."""
        if self.dropout.hidden:
            if not again:
                self.kept[f"{name} mask"] = self.dropout.mask(self.dropout.hidden, name, y.shape)
            self.dropout.apply(y, self.kept[f"{name} mask"], self.dropout.hidden)
        return y

    def drop_backward(self, name: str, dy: Array, out: str) -> Array:
        """The gradient passes where the number did; in the memory called `out`, since dy is a residual's, too."""
        if not self.dropout.hidden:
            return dy
        dx = self.memory(out, dy.shape)
        np.copyto(dx, dy)
        self.dropout.apply(dx, self.kept[f"{name} mask"], self.dropout.hidden)
        return dx

    def drop_probs(self, layer: int, number: int, probs: Array, *, again: bool = False) -> Array:
        """A block's probabilities with some zero and the others larger, in memory of their own."""
        p = self.dropout.attention
        if not p:
            return probs
        name = f"probs mask {number}{self.slot(layer)}"
        if not again:
            self.kept[name] = self.dropout.mask(p, f"{layer} {number}", probs.shape)
        dropped = np.multiply(probs, self.kept[name], out=self.memory("dropped", probs.shape))
        dropped *= 1 / (1 - p)
        return dropped

    def drop_probs_backward(self, layer: int, number: int, dprobs: Array) -> None:
        if p := self.dropout.attention:
            self.dropout.apply(dprobs, self.kept[f"probs mask {number}{self.slot(layer)}"], p)
