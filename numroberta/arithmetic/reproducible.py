"""The forward pass with the same bits on every machine: `numroberta.arithmetic.encoder` in another arithmetic.

Products are exact (`exact_products`) and everything else keeps a fixed order (`fixed_order`), so nothing depends on the
processor, the BLAS, the number of threads, or the texts beside a text.  All numbers are float64 on the way; the dtype
says how exact the products are, and what the results are rounded to.

One thing still decides the bits: the parts in which a layer's work is cut, since the products of parts are rounded
when they are added up.  So the cut depends on the config alone, and the parts are added up in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import blas, fixed_order, schedule
from numroberta.arithmetic.cut import DETERMINISTIC_ROWS, DETERMINISTIC_WIDTH
from numroberta.arithmetic.encoder import Share, States, Texts, Trace, slices, total
from numroberta.arithmetic.exact_products import COLUMN_BITS, ROW_BITS, SLICES, product, shift_for, slices_of
from numroberta.arithmetic.heads import COMPUTED_BY, Layers
from numroberta.arithmetic.kernels import Scratch
from numroberta.checkpoint import DECODER, DECODER_BIAS, HEADS, POOLER, WORDS, RobertaConfig

Array = NDArray[Any]
Slices = Sequence[Array]

# Elements of a weight that are rounded and multiplied at a time, 1.2 MB, and of attention scores, 512 KB.
WEIGHTS, SCORES = 147_456, 65_536
ALL = slice(None)


class Reproducible:
    """A checkpoint's layers by transformers' names, in exact products, and the forward pass that is made of them.

    Activations are `(features, columns)` float64, a token a column, as in `encoder`.
    """

    def __init__(self, tensors: Mapping[str, Array], config: RobertaConfig, dtype: np.dtype[Any]):
        self.tensors, self.config, self.dtype = tensors, config, dtype
        self._shifts: dict[tuple[str, int], Array] = {}

    def note(self, name: str, value: Array, where: Any = ..., shape: tuple[int, ...] | None = None) -> None:
        """Called with every activation on the way, or with a part of it, which is `where` in an array of that shape."""

    # --- Layers --------------------------------------------------------------------------------------------------

    def split(self, x: Array, scratch: Scratch, name: str, axis: int = -2, bits: int = COLUMN_BITS) -> Slices:
        """The slices of a right factor's columns (axis -2), or of a left factor's rows (-1)."""
        outs = scratch(f"slices of {name}", (SLICES[self.dtype], *x.shape))
        return slices_of(x, shift_for(x, axis, bits), axis, bits, outs)

    def linear(self, name: str, x: Slices, scratch: Scratch, rows: slice = ALL, memory: str = "linear") -> Array:
        """W x + b, or some of its rows, (in, n) -> (rows, n): `torch.nn.Linear`."""
        y = self.product(f"{name}.weight", x, scratch, memory, rows=rows)
        y += self.bias(name)[rows]
        self.note(name, y, rows, (len(self.tensors[f"{name}.bias"]), y.shape[1]))
        return y

    def bias(self, name: str) -> Array:
        """(out, 1), without −0: added to a product that is 0, it gives +0 whatever sign the BLAS gave the zero."""
        return self.tensors[f"{name}.bias"][:, None] + 0.0

    def decode(self, x: Slices, scratch: Scratch) -> Array:
        """E x + c, (hidden, n) -> (vocab, n): the decoder of the masked language model, see `heads`."""
        y = self.product(DECODER if DECODER in self.tensors else WORDS, x, scratch, "decode")
        y += self.tensors[DECODER_BIAS][:, None] + 0.0
        self.note("lm_head", y)
        return y

    def product(
        self, name: str, x: Slices, scratch: Scratch, memory: str, rows: slice = ALL, inner: slice = ALL
    ) -> Array:
        """The product of a weight, or some rows or columns of it, and x: (inner, n) -> (rows, n).

        The weight is rounded anew at each use, a block at a time: that costs less time than memory would cost that no
        other process shares.
        """
        weight = self.tensors[name][:, inner]
        step = max(1, WEIGHTS // max(1, weight.shape[1]))
        key = name, inner.start or 0
        if key not in self._shifts:
            blocks = [shift_for(weight[some], -1, ROW_BITS) for some in slices(len(weight), step)]
            self._shifts[key] = np.concatenate(blocks)
        weight, shifts = weight[rows], self._shifts[key][rows]
        y = scratch(memory, (len(weight), x[0].shape[1]))
        for some in slices(len(weight), step):
            outs = scratch("slices of a weight", (len(x), *weight[some].shape))
            factors = slices_of(weight[some], shifts[some], -1, ROW_BITS, outs)
            product(factors, x, y[some], scratch("spare", y[some].shape))
        return y

    def layer_norm(self, name: str, x: Array) -> None:
        """x becomes its layer norm, column by column."""
        gain, bias = self.tensors[f"{name}.weight"][:, None], self.tensors[f"{name}.bias"][:, None]
        fixed_order.layer_norm(x, gain, bias, self.config.layer_norm_eps)
        self.note(name.removesuffix(".LayerNorm"), x)

    # --- The forward pass ----------------------------------------------------------------------------------------

    def forward(
        self,
        texts: Texts,
        share: Share,
        *,
        wanted: list[Array] | None = None,
        trace: Trace = Trace(),  # noqa: B008  (immutable)
        done: Callable[[str], None] | None = None,
    ) -> States:
        """Ids to the last hidden state, as `encoder.forward`, whose arguments these are; in the model's dtype."""
        scratch = Scratch(np.float64)
        states = States(self.embed(texts), texts.spans)
        if done:
            done("embeddings")
        if trace.hidden_states is not None:
            trace.hidden_states.append(states.x.astype(self.dtype))
        last = self.config.num_hidden_layers - 1
        for index in range(last + 1):
            probs = None
            if trace.attentions is not None:
                lengths = [span.stop - span.start for span in texts.spans]
                probs = [np.empty((self.config.num_attention_heads, n, n), self.dtype) for n in lengths]
                trace.attentions.append(probs)
            asking = states.select(wanted) if index == last and wanted is not None else states
            x = self.encoder_layer(f"encoder.layer.{index}", states, asking, share, scratch, probs)
            states = States(x, asking.spans)
            if trace.hidden_states is not None:
                trace.hidden_states.append(x.astype(self.dtype))
            if done:
                done(f"encoder.layer.{index}")
        return States(states.x.astype(self.dtype), states.spans)

    def embed(self, texts: Texts) -> Array:
        """LayerNorm(word + position + token type), (n,) -> (hidden, n)."""
        rows = {"word": texts.ids, "position": texts.positions, "token_type": texts.type_ids}
        x: Any = 0.0
        for table, numbers in rows.items():
            name = f"embeddings.{table}_embeddings"
            found = self.tensors[f"{name}.weight"][numbers].T.astype(np.float64, order="C")  # (n,) -> (hidden, n)
            self.note(name, found)
            x = x + found
        self.layer_norm("embeddings.LayerNorm", x)
        return x

    def encoder_layer(
        self, name: str, states: States, asking: States, share: Share, scratch: Scratch, probs: list[Array] | None
    ) -> Array:
        """Attention, then feed-forward, each with its residual and norm: `encoder.encoder_layer`."""
        config = self.config
        x = self.split(states.x, scratch, "x")
        asking_x = x if asking is states else self.split(asking.x, scratch, "asking")

        def some_heads(rows: slice, scratch: Scratch) -> Array:
            context = self.attention(
                f"{name}.attention", (x, states.spans), (asking_x, asking.spans), rows, scratch, probs
            )
            weight, memory = f"{name}.attention.output.dense.weight", f"attention from {rows.start}"
            return self.product(weight, self.split(context, scratch, "context"), scratch, memory, inner=rows)

        heads = max(1, DETERMINISTIC_ROWS // config.head_dim)
        between = total(share.run(some_heads, slices(config.hidden_size, heads * config.head_dim)))
        self.finish(f"{name}.attention.output", between, asking.x)
        between_x = self.split(between, scratch, "x")

        def some_width(rows: slice, scratch: Scratch) -> Array:
            wide = self.linear(f"{name}.intermediate.dense", between_x, scratch, rows, memory="wide")
            fixed_order.gelu(wide, scratch, self.dtype)
            self.note(f"{name}.intermediate", wide, rows, (config.intermediate_size, wide.shape[1]))
            weight, memory = f"{name}.output.dense.weight", f"feed-forward from {rows.start}"
            return self.product(weight, self.split(wide, scratch, "wide"), scratch, memory, inner=rows)

        y = total(share.run(some_width, slices(config.intermediate_size, DETERMINISTIC_WIDTH)))
        self.finish(f"{name}.output", y, between)
        return y

    def finish(self, name: str, y: Array, x: Array) -> None:
        """y becomes LayerNorm(x + y + b): `transformers.RobertaOutput` after its product."""
        y += self.bias(f"{name}.dense")
        self.note(f"{name}.dense", y)
        y += x
        self.layer_norm(f"{name}.LayerNorm", y)

    def attention(
        self,
        name: str,
        x: tuple[Slices, list[slice]],
        asking: tuple[Slices, list[slice]],
        rows: slice,
        scratch: Scratch,
        probs: list[Array] | None,
    ) -> Array:
        """softmax(QᵀK / √d) V of some heads, (hidden, n) -> (rows, m).

        Args:
            name: the module's.
            x, asking: the tokens that are looked at, and those that look, as slices with the texts' spans.
            rows: those of Q, K and V that are these heads'.
            scratch: the worker's memory.
            probs: for each text an array (heads, queries, keys) that takes the attention, or None.
        """
        config, head_dim = self.config, self.config.head_dim
        some = slice(rows.start // head_dim, rows.stop // head_dim)

        def project(part: str, x: Slices) -> Array:
            y = self.linear(f"{name}.self.{part}", x, scratch, rows, memory=part)
            return y.reshape(some.stop - some.start, head_dim, -1)  # (rows, n) -> (heads, d, n), a view

        query = project("query", asking[0]) / np.sqrt(np.float64(head_dim))
        key, value = project("key", x[0]), project("value", x[0])
        query_slices = self.split(query, scratch, "query")
        key_slices = self.split(key, scratch, "key", bits=ROW_BITS)  # as rows of Kᵀ
        context = scratch("context", query.shape)
        for text, (keys, queries) in enumerate(zip(x[1], asking[1], strict=True)):
            k = [s[..., keys].swapaxes(1, 2) for s in key_slices]  # (heads, d, keys) -> (heads, keys, d)
            v = self.split(value[..., keys], scratch, "value", axis=-1, bits=ROW_BITS)
            q = [s[..., queries] for s in query_slices]
            own = None if probs is None else probs[text][some]
            self.attend(name, q, k, v, context[..., queries], some, scratch, own)
        context = context.reshape(rows.stop - rows.start, -1)  # (heads, d, m) -> (rows, m)
        self.note(f"{name}.context", context, rows, (config.hidden_size, context.shape[1]))
        return context

    def attend(
        self,
        name: str,
        query: Slices,
        key: Slices,
        value: Slices,
        context: Array,
        heads: slice,
        scratch: Scratch,
        probs: Array | None,
    ) -> None:
        """context = V softmax(KᵀQ) of one text, in blocks of heads and queries: `encoder.attend`.

        query (heads, d, queries), key (heads, keys, d) and value (heads, d, keys) are slices.
        """
        count, _, queries = context.shape
        keys = key[0].shape[1]
        most_heads = max(1, SCORES // max(1, keys * queries))
        most_queries = max(1, SCORES // max(1, keys * min(most_heads, count)))
        for h in slices(count, most_heads):
            for q in slices(queries, most_queries):
                out = context[h, :, q]
                scores = scratch("scores", (len(out), keys, out.shape[-1]))
                product([k[h] for k in key], [s[h, :, q] for s in query], scores, scratch("spare", scores.shape))
                where, shape = (
                    (slice(heads.start + h.start, heads.start + h.stop), q),
                    (self.config.num_attention_heads, queries, keys),
                )
                self.note(f"{name}.scores", scores.swapaxes(1, 2), where, shape)
                sums = fixed_order.softmax_in_place(scores, scratch, self.dtype)
                by_query = self.split(scores, scratch, "probs")
                product([v[h] for v in value], by_query, out, scratch("spare", out.shape))
                out /= sums
                out += 0.0  # +0, whatever sign the BLAS gave a zero
                if probs is not None:
                    probs[h, q] = (scores / sums).swapaxes(1, 2)  # (heads, keys, queries) -> (heads, queries, keys)


class ExactLayers(Layers):
    """`heads.Layers` in exact products.  What a layer gives is rounded to the model's dtype before the next one."""

    def __init__(self, exact: Reproducible):
        super().__init__(exact.tensors, exact.config.layer_norm_eps)
        self.exact = exact

    def linear(self, name: str, x: Array) -> Array:
        scratch = Scratch(np.float64)
        return self.exact.linear(name, self._slices(x, scratch), scratch).astype(x.dtype)

    def decode(self, x: Array) -> Array:
        scratch = Scratch(np.float64)
        return self.exact.decode(self._slices(x, scratch), scratch).astype(x.dtype)

    def _slices(self, x: Array, scratch: Scratch) -> Slices:
        return self.exact.split(x.astype(np.float64), scratch, "x")

    def layer_norm(self, name: str, x: Array) -> Array:
        y = x.astype(np.float64)
        self.exact.layer_norm(name, y)
        return y.astype(x.dtype)

    def gelu(self, x: Array) -> Array:
        y = x.astype(np.float64)
        fixed_order.gelu(y, Scratch(np.float64), self.exact.dtype)
        return y.astype(x.dtype)

    def tanh(self, x: Array) -> Array:
        return fixed_order.tanh(x)


class Recorder(Reproducible):
    """A forward pass of one text that keeps every activation: the very numbers that `Reproducible` computes with."""

    def __init__(self, exact: Reproducible):
        super().__init__(exact.tensors, exact.config, exact.dtype)
        self._shifts = exact._shifts
        self.activations: dict[str, Array] = {}

    def note(self, name: str, value: Array, where: Any = ..., shape: tuple[int, ...] | None = None) -> None:
        found = self.activations.setdefault(name, np.empty(value.shape if shape is None else shape, self.dtype))
        found[where] = value + 0.0  # +0 for −0, whose sign a BLAS may choose

    def record(self, ids: Array, positions: Array) -> dict[str, Array]:
        """Every activation by name, the heads' too: (features, n), (heads, queries, keys), or (features, 1) of <s>."""
        trace = Trace(None, [])
        text = Texts(ids, positions, np.zeros_like(ids), [slice(0, len(ids))])
        with blas.one_blas_thread():
            x = self.forward(text, schedule.alone(Scratch(np.float64)), trace=trace).x
            for index, (probs,) in enumerate(trace.attentions or ()):
                self.note(f"encoder.layer.{index}.attention.probs", probs)
            for name, head in HEADS.items():
                if head.marker in self.tensors:
                    y = COMPUTED_BY[name](ExactLayers(self), x[:, :1] if head.first_token else x)
                    if name == POOLER:
                        self.note(POOLER, y)
        return self.activations
