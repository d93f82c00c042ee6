"""A third RoBERTa, in einsum, with a hook at each value and weights that may be edited: mistakes are planted into it.

It shares no code with numroberta, nor with the catalogue of mistakes.  A `Plant` is the
words that the diagnosis must use, and what is done to the port; `PLANTS` has them all by name.
"""

import math
import re

import numpy as np

ERF = np.vectorize(math.erf, otypes=[np.float64])


def gelu(x):
    return x * 0.5 * (1.0 + ERF(x / math.sqrt(2.0)))


def norm(x, weight, bias, eps):
    mean = x.mean(axis=-1)[..., None]
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(axis=-1)[..., None] + eps) * weight + bias


class Port:
    """One run.  hooks: {point: function(value, port, layer) -> value}; a point is a value's name without its layer."""

    def __init__(self, weights, heads, eps, pad, hooks=None, order=None):
        self.w = weights
        self.heads, self.eps, self.pad = heads, eps, pad
        self.hooks = hooks or {}
        layers = len({name.split(".")[2] for name in weights if name.startswith("encoder.layer.")})
        self.order = list(range(layers)) if order is None else order
        self.acts = {}

    def keep(self, point, value, layer=None):
        if point in self.hooks:
            value = self.hooks[point](value, self, layer)
        if value is not None and not point.startswith("_"):
            self.acts[point if layer is None else f"encoder.layer.{layer}.{point}"] = value
        return value

    def lin(self, name, x):
        return np.einsum("...i,oi->...o", x, self.w[name + ".weight"]) + self.w[name + ".bias"]

    def run(self, ids, mask):
        self.ids, self.mask = ids, mask != 0
        w = self.w
        counts = np.cumsum(ids != self.pad, axis=1)
        places = np.where(ids != self.pad, counts + self.pad, self.pad)
        places = self.keep("_positions", places)
        word = self.keep("embeddings.word_embeddings", w["embeddings.word_embeddings.weight"][ids])
        table = w["embeddings.position_embeddings.weight"]
        place = self.keep("embeddings.position_embeddings", table[np.clip(places, 0, len(table) - 1)])
        kind = np.broadcast_to(w["embeddings.token_type_embeddings.weight"][0], word.shape)
        kind = self.keep("embeddings.token_type_embeddings", kind)
        total = self.keep("_sum", word + place + kind)
        ln = "embeddings.LayerNorm."
        x = self.keep("embeddings", norm(total, w[ln + "weight"], w[ln + "bias"], self.eps))
        for place_in_stack, source in enumerate(self.order):
            x = self.block(x, place_in_stack, source)
        x = self.keep("_last", x)
        self.last = x
        if "pooler.dense.weight" in w:
            first = self.keep("_first", x[:, 0])
            y = self.keep("pooler.dense", self.lin("pooler.dense", first))
            self.keep("pooler", np.tanh(y))
        if "lm_head.dense.weight" in w:
            y = gelu(self.keep("lm_head.dense", self.lin("lm_head.dense", x)))
            y = self.keep(
                "lm_head.layer_norm", norm(y, w["lm_head.layer_norm.weight"], w["lm_head.layer_norm.bias"], self.eps)
            )
            decoder = self.keep("_decoder", w["embeddings.word_embeddings.weight"])
            self.keep("lm_head", np.einsum("btd,vd->btv", y, decoder) + w["lm_head.bias"])
        if "classifier.dense.weight" in w:
            y = self.keep("classifier.dense", self.lin("classifier.dense", self.keep("_classified", x[:, 0])))
            self.keep("classifier.out_proj", self.lin("classifier.out_proj", self.keep("_squashed", np.tanh(y))))
        weights = self.mask[..., None] * 1.0
        self.keep("sentence_embedding", (x * weights).sum(1) / weights.sum(1))
        return self.acts

    def block(self, x, layer, source):
        p = f"encoder.layer.{source}."
        x = self.entered = self.keep("_entering", x, layer)
        entering = self.keep("_input", x, layer)
        q, k, v = (
            self.keep(f"attention.self.{part}", self.lin(f"{p}attention.self.{part}", entering), layer)
            for part in ("query", "key", "value")
        )
        b, n, d = x.shape
        h = self.heads
        q, k, v = (t.reshape(b, n, h, d // h) for t in (q, k, v))
        s = np.einsum("bqhe,bkhe->bhqk", q, k) / math.sqrt(d // h)
        s = self.keep("attention.scores", s, layer)
        masked = self.keep("_masked", np.where(self.mask[:, None, None, :], s, -1e30), layer)
        e = np.exp(masked - masked.max(-1, keepdims=True))
        a = self.keep("attention.probs", e / e.sum(-1, keepdims=True), layer)
        c = np.einsum("bhqk,bkhe->bqhe", a, v).reshape(b, n, d)
        c = self.keep("attention.context", c, layer)
        y = self.keep("attention.output.dense", self.lin(p + "attention.output.dense", c), layer)
        mid = self.residual("attention.output", x, y, layer, p)
        fed = self.keep("_fed", mid, layer)
        wide = self.keep("intermediate.dense", self.lin(p + "intermediate.dense", fed), layer)
        wide = self.keep("intermediate", gelu(wide), layer)
        y = self.keep("output.dense", self.lin(p + "output.dense", wide), layer)
        return self.residual("output", mid, y, layer, p)

    def residual(self, name, past, y, layer, p):
        total = self.keep("_" + name, past + y, layer)
        ln = f"{p}{name}.LayerNorm."
        self.ln, self.total, self.past, self.branch = ln, total, past, y
        return self.keep(name, norm(total, self.w[ln + "weight"], self.w[ln + "bias"], self.eps), layer)


# --- The plants -----------------------------------------------------------------------------------------------


class Plant:
    """words: what the diagnosis must say.  hooks, weights, order, ids, eps: what the port does otherwise."""

    def __init__(self, part, words, hooks=None, weights=None, order=None, ids=None, layered=False, eps=None):
        self.part, self.words, self.hooks, self.weights = part, re.compile(words), hooks or {}, weights
        self.order, self.ids, self.layered, self.eps = order, ids, layered, eps

    def run(self, weights, heads, eps, pad, ids, mask, layer=None):
        """The port's activations.  layer: the only one in which the mistake is made, if it is of a layer."""
        w = dict(weights)
        if self.weights:
            self.weights(w, layer)
        hooks = {
            point: (lambda value, port, at, f=f: f(value, port, at) if layer is None or at in (None, layer) else value)
            for point, f in self.hooks.items()
        }
        count = len({name.split(".")[2] for name in weights if name.startswith("encoder.layer.")})
        order = self.order(count) if self.order else None
        if self.ids:
            ids, mask = self.ids(ids.copy(), mask.copy())
        with np.errstate(all="ignore"):
            return Port(w, heads, self.eps or eps, pad, hooks, order).run(ids, mask)


def edit(pattern, change):
    """Change every tensor whose name matches, in one layer or in all."""

    def apply(w, layer):
        for name in list(w):
            number = name.split(".")[2] if name.startswith("encoder.layer") else None
            if re.search(pattern, name) and (layer is None or number in (None, str(layer))):
                w[name] = change(w[name])

    return apply


def swap(a, b):
    def apply(w, layer):
        before = dict(w)
        for name in before:
            number = name.split(".")[2] if name.startswith("encoder.layer") else None
            if layer is not None and number not in (None, str(layer)):
                continue
            if a in name:
                w[name] = before[name.replace(a, b)]
            elif b in name:
                w[name] = before[name.replace(b, a)]

    return apply


def quantize(bits, per_row=False, block=0):
    def change(t):
        size = block if block and t.shape[-1] % block == 0 else t.shape[-1]
        rows = t.reshape(-1, size) if block else t
        top = np.abs(rows).max(axis=1, keepdims=True) if per_row or block else np.abs(rows).max()
        step = top / (2 ** (bits - 1) - 1)
        return (np.round(rows / step) * step).reshape(t.shape)

    return change


def half(t):
    return t.astype(np.float16).astype(np.float64)


def bf16(t):
    bits = t.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32).astype(np.float64)


def renorm(way):
    """A hook on a norm's result that computes it again from the sum."""

    def hook(value, port, layer):
        return way(port.total, port.w[port.ln + "weight"], port.w[port.ln + "bias"], port)

    return hook


def rms(x, weight, bias, port):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + port.eps) * weight + bias


def triangle(s):
    n = s.shape[-1]
    return np.arange(n)[None, :] > np.arange(n)[:, None]


def quick_rsqrt(x, weight, bias, port):
    c = x - x.mean(-1, keepdims=True)
    v = ((c * c).mean(-1, keepdims=True) + port.eps).astype(np.float32)
    y = (np.int32(0x5F3759DF) - (v.view(np.int32) >> 1)).view(np.float32).astype(np.float64)
    return c * (y * (1.5 - 0.5 * v * y * y)) * weight + bias


def erf_of_a_book(z):
    t = 1 / (1 + 0.3275911 * np.abs(z))
    y = 1 - ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t * np.exp(
        -z * z
    )
    return np.sign(z) * y


def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def both_norms(way):
    return {"attention.output": renorm(way), "output": renorm(way)}


def everywhere(value):
    return lambda old, port, layer: value(old)


def from_dense(f):
    """A hook on the activation that computes it from what went in."""
    return {"intermediate": lambda value, port, layer: f(port.acts[f"encoder.layer.{layer}.intermediate.dense"])}


def from_scores(f):
    return {"_masked": lambda value, port, layer: f(port.acts[f"encoder.layer.{layer}.attention.scores"], port)}


def turned(ids, mask):
    for row, keep in zip(ids, mask, strict=True):
        row[keep != 0] = row[keep != 0][::-1]
    return ids, mask


def bare(ids, mask):
    out, kept = np.ones_like(ids), np.zeros_like(mask)
    for i, (row, keep) in enumerate(zip(ids, mask, strict=True)):
        inner = row[keep != 0][1:-1]
        out[i, : len(inner)], kept[i, : len(inner)] = inner, 1
    return out[:, : kept.sum(1).max()], kept[:, : kept.sum(1).max()]


def dropped(rate, seed=5):
    def hook(value, port, layer):
        keep = np.random.default_rng(seed).random(value.shape) >= rate
        return value * keep / (1 - rate)

    return hook


def blocks(bits, top, least=False):
    """Blocks of 32 with a scale, and perhaps a minimum, in float16."""

    def change(t):
        return np.concatenate([block(t[:, i : i + 32]) for i in range(0, t.shape[1], 32)], axis=1)

    def block(rows):
        low = rows.min(1, keepdims=True) if least else 0.0
        step = (rows - low).max(1, keepdims=True) / (2**bits - 1) if least else np.abs(rows).max(1, keepdims=True) / top
        return np.round((rows - low) / step) * half(step) + half(np.asarray(low))

    return change


def back(port, layer, by):
    return port.acts[f"encoder.layer.{layer - by}.output"] if layer >= by else port.acts["embeddings"]


def wrong_axis(axes):
    """softmax over other axes of (b, h, q, k)."""

    def hook(value, port, layer):
        s = np.where(port.mask[:, None, None, :], port.acts[f"encoder.layer.{layer}.attention.scores"], -1e30)
        e = np.exp(s - s.max(axes, keepdims=True))
        return e / e.sum(axes, keepdims=True)

    return hook


def masks_by_turns(s, port):
    b, h = s.shape[:2]
    keep = np.tile(port.mask, (h, 1)).reshape(b, h, -1)  # b · h masks, where each should stand h times in a row
    return np.where(keep[:, :, None, :], s, -1e30)


def far_from(s, before, after):
    back = np.arange(s.shape[-1])[:, None] - np.arange(s.shape[-1])[None, :]
    return (back > before) | (-back > after)


def deep(value, past, layers):
    return value + ((2 * layers) ** 0.25 - 1) * past


def random_matrix(t):
    return np.random.default_rng(11).normal(0, t.std(), t.shape)


def each_text(change):
    return {"sentence_embedding": lambda v, p, a: np.stack([change(x[m]) for x, m in zip(p.last, p.mask, strict=True)])}


def exchange_norms(w, layer):
    for name in [n for n in w if "attention.output.LayerNorm" in n and layer in (None, int(n.split(".")[2]))]:
        other = name.replace("attention.output", "output")
        w[name], w[other] = w[other], w[name]


LAYER = {"layered": True}
PLANTS = {
    # Layers
    "layers reversed": Plant("layers", "reverse", order=lambda n: list(range(n))[::-1]),
    "layers 0 and 1 exchanged": Plant("layers", "0 and 1 are exchanged", order=lambda n: [1, 0, *range(2, n)]),
    "layer 1 for all": Plant("layers", "layer 1 are used in every layer", order=lambda n: [1] * n),
    "first layer skipped": Plant("layers", "first layer is skipped", order=lambda n: list(range(1, n))),
    "last layer skipped": Plant(
        "layers", "last layer is skipped|hidden state before the last", order=lambda n: list(range(n - 1))
    ),
    "layer 1 twice": Plant("layers", "layer 1 runs twice|layers? .*twice", order=lambda n: [0, 1, 1, *range(2, n)]),
    "layer 1 instead of 2": Plant(
        "layers", "layer 2 runs with the weights of layer 1", order=lambda n: [0, 1, 1, *range(3, n)]
    ),
    # Rows and order
    "words one row on": Plant(
        "rows",
        "id after",
        hooks={
            "embeddings.word_embeddings": lambda v, p, a: p.w["embeddings.word_embeddings.weight"][
                (p.ids + 1) % len(p.w["embeddings.word_embeddings.weight"])
            ]
        },
    ),
    "positions from 0": Plant("rows", "start at 0", hooks={"_positions": lambda v, p, a: np.maximum(v - 2, 0)}),
    "positions from 1": Plant("rows", "start at 1", hooks={"_positions": lambda v, p, a: np.maximum(v - 1, 0)}),
    "positions from 3": Plant("rows", "start at 3", hooks={"_positions": lambda v, p, a: np.where(v > 1, v + 1, 0)}),
    "positions plain": Plant(
        "rows",
        "start at 0.*padding",
        hooks={"_positions": lambda v, p, a: np.broadcast_to(np.arange(v.shape[1]), v.shape)},
    ),
    "padding index 0": Plant(
        "rows",
        "padding index is 0|start at 0",
        hooks={"_positions": lambda v, p, a: np.cumsum(p.ids != 0, 1) * (p.ids != 0)},
    ),
    "positions over the batch": Plant(
        "rows", "go on from one text", hooks={"_positions": lambda v, p, a: 2 + np.arange(v.size).reshape(v.shape)}
    ),
    "positions backwards": Plant(
        "rows", "backwards", hooks={"_positions": lambda v, p, a: np.where(v > 1, v.max(1, keepdims=True) + 2 - v, v)}
    ),
    "sinusoids": Plant(
        "rows",
        "sinusoids",
        hooks={
            "embeddings.position_embeddings": lambda v, p, a: (
                np.stack(
                    [
                        f(np.arange(v.shape[1])[:, None] / 10000 ** (np.arange(0, v.shape[2], 2) / v.shape[2]))
                        for f in (np.sin, np.cos)
                    ],
                    -1,
                ).reshape(1, v.shape[1], -1)
                + 0 * v
            )
        },
    ),
    "ids reversed": Plant("rows", "reverse", ids=turned),
    "texts exchanged": Plant(
        "rows",
        "texts are in another order",
        ids=lambda i, m: (i[[1, 0, *range(2, len(i))]], m[[1, 0, *range(2, len(i))]]),
    ),
    "no special tokens": Plant("rows", "<s> and </s> are missing", ids=bare),
    "no token type": Plant(
        "rows",
        "token-type embedding is (left out|zero)",
        hooks={"_sum": lambda v, p, a: v - p.acts["embeddings.token_type_embeddings"]},
    ),
    "words × √d": Plant(
        "rows",
        "multiplied by √d",
        hooks={"embeddings.word_embeddings": everywhere(lambda v: v * math.sqrt(v.shape[-1]))},
    ),
    # Masks
    "causal": Plant(
        "masks",
        "causal",
        from_scores(lambda s, p: np.where(triangle(s) | ~p.mask[:, None, None, :], -1e30, s)),
        **LAYER,
    ),
    "inverted": Plant(
        "masks", "inverted", from_scores(lambda s, p: np.where(p.mask[:, None, None, :], -1e30, s)), **LAYER
    ),
    "no mask": Plant("masks", "padding too|not applied", from_scores(lambda s, p: s), **LAYER),
    "0/1 added": Plant(
        "masks", "0 and 1 is added|−1 is added", from_scores(lambda s, p: s + p.mask[:, None, None, :]), **LAYER
    ),
    "mask −1": Plant(
        "masks", "−1 is added|0 and 1 is added", from_scores(lambda s, p: s - ~p.mask[:, None, None, :]), **LAYER
    ),
    "mask −10": Plant("masks", "−10 is added", from_scores(lambda s, p: s - 10.0 * ~p.mask[:, None, None, :]), **LAYER),
    "mask on queries": Plant(
        "masks",
        "axis of the queries|not applied",
        from_scores(lambda s, p: np.where(p.mask[:, None, :, None], s, -1e30)),
        **LAYER,
    ),
    "another text's mask": Plant(
        "masks",
        "mask is that of the",
        from_scores(lambda s, p: np.where(np.roll(p.mask, 1, 0)[:, None, None, :], s, -1e30)),
        **LAYER,
    ),
    "</s> masked": Plant(
        "masks",
        "</s> is masked",
        from_scores(
            lambda s, p: np.where(
                (p.mask & (np.cumsum(p.mask, 1) < p.mask.sum(1, keepdims=True)))[:, None, None, :], s, -1e30
            )
        ),
        **LAYER,
    ),
    "causal in the scores": Plant(
        "masks",
        "causal",
        {"attention.scores": lambda s, p, a: np.where(triangle(s) | ~p.mask[:, None, None, :], -np.inf, s)},
        **LAYER,
    ),
    "causal of −10000": Plant("masks", "causal", {"attention.scores": lambda s, p, a: s - 1e4 * triangle(s)}, **LAYER),
    # Attention
    "no scale": Plant(
        "attention",
        "not divided by √d",
        {
            "attention.scores": lambda s, p, a: (
                s * math.sqrt(p.w["encoder.layer.0.attention.self.query.bias"].size / p.heads)
            )
        },
        **LAYER,
    ),
    "softmax + 1": Plant(
        "numbers",
        "one more in its denominator",
        {
            "attention.probs": lambda v, p, a: (
                v
                * (lambda e: e / (e + 1))(
                    np.exp(
                        np.where(p.mask[:, None, None, :], p.acts[f"encoder.layer.{a}.attention.scores"], -1e30)
                    ).sum(-1, keepdims=True)
                )
            )
        },
        **LAYER,
    ),
    "softmax over queries": Plant(
        "attention",
        "over the queries",
        {
            "attention.probs": lambda v, p, a: (lambda m: np.exp(m) / np.exp(m).sum(2, keepdims=True))(
                np.where(p.mask[:, None, None, :], p.acts[f"encoder.layer.{a}.attention.scores"], -700.0)
            )
        },
        **LAYER,
    ),
    "uint8 probabilities": Plant(
        "numbers", "8-bit integers", {"attention.probs": everywhere(lambda v: np.round(v * 255) / 255)}, **LAYER
    ),
    "float16 softmax": Plant(
        "numbers", "(probabilities|softmax).*float16", {"attention.probs": everywhere(half)}, **LAYER
    ),
    "query and value swapped": Plant(
        "linear", "query and value are swapped", weights=swap("self.query", "self.value"), **LAYER
    ),
    "key with query's weights": Plant(
        "linear",
        "query are used for key|key.*taken from.*query|query with itself",
        weights=lambda w, layer: w.update(
            {
                n: w[n.replace("key", "query")]
                for n in list(w)
                if "self.key" in n and layer in (None, int(n.split(".")[2]))
            }
        ),
        **LAYER,
    ),
    # Norms and residuals
    "RMSNorm": Plant("norms", "RMSNorm", both_norms(rms), **LAYER),
    "1 + weight": Plant("norms", r"1 \+ its weight", weights=edit("output.LayerNorm.weight", lambda t: 1 + t), **LAYER),
    "norms exchanged": Plant("norms", "norms? .*(exchanged|weights of the)", weights=exchange_norms, **LAYER),
    "a norm more": Plant(
        "norms",
        "a layer norm more at the end",
        {"output": lambda v, p, a: norm(v, 1, 0, p.eps) if a == len(p.order) - 1 else v},
    ),
    "no residual": Plant(
        "norms",
        "residual is not added",
        {"_attention.output": lambda v, p, a: p.acts[f"encoder.layer.{a}.attention.output.dense"]},
        **LAYER,
    ),
    "residual twice": Plant(
        "norms",
        "residual is added twice",
        {"_output": lambda v, p, a: 2 * v - p.acts[f"encoder.layer.{a}.output.dense"]},
        **LAYER,
    ),
    "residual of the layer's input": Plant(
        "norms",
        "residual is the layer's input",
        {
            "_output": lambda v, p, a: (
                p.acts[f"encoder.layer.{a}.output.dense"]
                + (p.acts[f"encoder.layer.{a - 1}.output"] if a else p.acts["embeddings"])
            )
        },
        **LAYER,
    ),
    "epsilon 1e-3": Plant("norms", "epsilon is 0.001", eps=1e-3),
    "unbiased": Plant(
        "norms",
        "unbiased variance",
        both_norms(
            lambda x, w, b, p: (
                (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, ddof=1, keepdims=True) + p.eps) * w + b
            )
        ),
        **LAYER,
    ),
    "biases doubled": Plant(
        "linear", "bias of .* added twice", weights=edit("intermediate.dense.bias", lambda t: 2 * t), **LAYER
    ),
    "bias cut": Plant(
        "linear",
        "bias of .* cut off",
        weights=edit("query.bias", lambda t: t * (np.arange(t.size) < t.size // 2)),
        **LAYER,
    ),
    "bias rotated": Plant(
        "linear", "bias of .* shifted", weights=edit("attention.output.dense.bias", lambda t: np.roll(t, 1)), **LAYER
    ),
    "bias of another matrix": Plant(
        "linear",
        "bias(es)? .*(taken from|swapped|used for)",
        weights=lambda w, layer: w.update(
            {
                n: w[n.replace("value", "query")]
                for n in list(w)
                if "value.bias" in n and layer in (None, int(n.split(".")[2]))
            }
        ),
        **LAYER,
    ),
    "dense transposed": Plant(
        "linear", r"read as \(in, out\)", weights=edit("attention.output.dense.weight", lambda t: t.T.copy()), **LAYER
    ),
    "layer's query weight in all": Plant(
        "layers",
        "tensor of layer 0|weights of layer 0",
        weights=lambda w, layer: w.update(
            {
                n: w["encoder.layer.0.attention.self.query.weight"]
                for n in list(w)
                if "query.weight" in n and layer in (None, int(n.split(".")[2]))
            }
        ),
        **LAYER,
    ),
    # Numbers
    "int8 tensor": Plant(
        "numbers",
        "int8, one scale for each tensor",
        weights=edit(r"(query|key|value|dense)\.weight", quantize(8)),
        **LAYER,
    ),
    "int8 rows": Plant(
        "numbers",
        "int8, one scale for each row",
        weights=edit(r"(query|key|value|dense)\.weight", quantize(8, True)),
        **LAYER,
    ),
    "4 bits in blocks": Plant(
        "numbers", "4 bits in blocks", weights=edit(r"(query|key|value|dense)\.weight", quantize(4, block=32)), **LAYER
    ),
    "float16 weights": Plant("numbers", "rounded to float16", weights=edit("weight|bias", half), **LAYER),
    "bfloat16 weights": Plant("numbers", "rounded to bfloat16", weights=edit("weight|bias", bf16), **LAYER),
    "float16 norms": Plant(
        "numbers", "norms? .*float16", {"attention.output": everywhere(half), "output": everywhere(half)}, **LAYER
    ),
    "fast rsqrt": Plant("numbers", "Quake", both_norms(quick_rsqrt), **LAYER),
    "erf of a book": Plant(
        "activations", "7.1.26", from_dense(lambda x: x / 2 * (1 + erf_of_a_book(x / math.sqrt(2)))), **LAYER
    ),
    "tanh GELU": Plant(
        "activations",
        "tanh approximation;",
        from_dense(lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
        **LAYER,
    ),
    "mistyped GELU": Plant(
        "activations",
        "0.44715",
        from_dense(lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.44715 * x**3)))),
        **LAYER,
    ),
    "quick GELU": Plant("activations", "1.702", from_dense(lambda x: x / (1 + np.exp(-1.702 * x))), **LAYER),
    "GELU clamped": Plant("activations", "clamped", from_dense(lambda x: gelu(np.clip(x, -2, 2))), **LAYER),
    "GELU table": Plant("activations", "table", from_dense(lambda x: gelu(np.rint(x * 16) / 16)), **LAYER),
    "ReLU": Plant("activations", "ReLU", from_dense(lambda x: np.maximum(x, 0)), **LAYER),
    "dropout on": Plant("numbers", "dropout", {"attention.probs": dropped(0.1)}, **LAYER),
    "dropout in the embeddings": Plant("numbers", "dropout", {"embeddings": dropped(0.1)}),
    "dropout before the residual": Plant("numbers", "dropout", {"output.dense": dropped(0.1)}, **LAYER),
    # Heads and ends
    "pooler of the mean": Plant("heads", "mean of the tokens", {"_first": lambda v, p, a: p.last.mean(1)}),
    "pooler of the last token": Plant(
        "heads",
        "last token|last place",
        {"_first": lambda v, p, a: np.stack([x[m][-1] for x, m in zip(p.last, p.mask, strict=True)])},
    ),
    "pooler without tanh": Plant("heads", "tanh is left out", {"pooler": lambda v, p, a: p.acts["pooler.dense"]}),
    "classifier of the last token": Plant(
        "heads",
        "classifier reads the last",
        {"_classified": lambda v, p, a: np.stack([x[m][-1] for x, m in zip(p.last, p.mask, strict=True)])},
    ),
    "classifier of the mean": Plant(
        "heads",
        "classifier reads the mean",
        {"_classified": lambda v, p, a: (p.last * p.mask[..., None]).sum(1) / p.mask.sum(1)[:, None]},
    ),
    "classifier without tanh": Plant(
        "heads", "tanh is left out", {"_squashed": lambda v, p, a: p.acts["classifier.dense"]}
    ),
    "classifier without dense": Plant("heads", "dense layer.* left out", {"_squashed": lambda v, p, a: p.last[:, 0]}),
    "logits as probabilities": Plant("heads", "probabilities", {"classifier.out_proj": everywhere(softmax)}),
    "logits as logs": Plant("heads", "logarithms", {"lm_head": everywhere(lambda v: np.log(softmax(v)))}),
    "decoder shifted": Plant("heads", "decoder are shifted", {"_decoder": everywhere(lambda v: np.roll(v, 1, 0))}),
    "padding in the mean": Plant("heads", "padding is pooled", {"sentence_embedding": lambda v, p, a: p.last.mean(1)}),
    "<s> as the vector": Plant("heads", "pooling is cls", {"sentence_embedding": lambda v, p, a: p.last[:, 0]}),
    "mean without specials": Plant(
        "heads",
        "<s> and </s> are left out",
        {
            "sentence_embedding": lambda v, p, a: np.stack(
                [x[m][1:-1].mean(0) for x, m in zip(p.last, p.mask, strict=True)]
            )
        },
    ),
    "vector normalized": Plant(
        "heads",
        "normalized",
        {"sentence_embedding": everywhere(lambda v: v / np.linalg.norm(v, axis=-1, keepdims=True))},
    ),
    # What is connected with what
    "attention left out": Plant(
        "connections", "attention.* left out", {"attention.output": lambda v, p, a: p.past}, **LAYER
    ),
    "feed-forward left out": Plant(
        "connections", "feed-forward.* left out", {"output": lambda v, p, a: p.past}, **LAYER
    ),
    "layers read the embeddings": Plant(
        "connections", "enters a layer is the embeddings", {"_entering": lambda v, p, a: p.acts["embeddings"]}
    ),
    "layers read the state two before": Plant(
        "connections", "entered the layer below, which is skipped", {"_entering": lambda v, p, a: back(p, a, 2)}
    ),
    "feed-forward reads the layer's input": Plant(
        "connections", "feed-forward reads the layer's input", {"_fed": lambda v, p, a: p.entered}, **LAYER
    ),
    "parallel": Plant(
        "connections",
        "parallel|feed-forward reads the layer's input",
        {
            "_fed": lambda v, p, a: p.entered,
            "_output": lambda v, p, a: (
                p.entered + sum(p.acts[f"encoder.layer.{a}.{part}.dense"] for part in ("attention.output", "output"))
            ),
        },
        **LAYER,
    ),
    "DeepNorm": Plant(
        "norms",
        "DeepNorm",
        {
            "_attention.output": lambda v, p, a: deep(v, p.entered, len(p.order)),
            "_output": lambda v, p, a: deep(v, p.acts[f"encoder.layer.{a}.attention.output"], len(p.order)),
        },
    ),
    "masks tiled": Plant("masks", "in the wrong order", from_scores(masks_by_turns), **LAYER),
    "window": Plant(
        "masks",
        "3 tokens on each side",
        from_scores(lambda s, p: np.where(far_from(s, 3, 3) | ~p.mask[:, None, None, :], -1e30, s)),
        **LAYER,
    ),
    "window of what comes before": Plant(
        "masks",
        "4 tokens before it",
        from_scores(lambda s, p: np.where(far_from(s, 4, 0) | ~p.mask[:, None, None, :], -1e30, s)),
        **LAYER,
    ),
    "softmax over heads": Plant("attention", "over the heads", {"attention.probs": wrong_axis(1)}, **LAYER),
    "softmax over all": Plant(
        "attention", "queries and keys together", {"attention.probs": wrong_axis((2, 3))}, **LAYER
    ),
    "8 bits in blocks, narrow scales": Plant(
        "numbers",
        "8 bits in blocks of 32.* float16|int8 in blocks of 32",
        weights=edit(r"(query|key|value|dense)\.weight", blocks(8, 127)),
        **LAYER,
    ),
    "4 bits from the minimum, narrow scales": Plant(
        "numbers",
        "4 bits in blocks of 32.*minimum",
        weights=edit(r"(query|key|value|dense)\.weight", blocks(4, 7, least=True)),
        **LAYER,
    ),
    "words seven rows on": Plant(
        "rows",
        r"other ids: each is shifted by \+7",
        {
            "embeddings.word_embeddings": lambda v, p, a: p.w["embeddings.word_embeddings.weight"][
                np.minimum(p.ids + 7, len(p.w["embeddings.word_embeddings.weight"]) - 1)
            ]
        },
    ),
    "word ids cut": Plant(
        "rows",
        "ids above 90 are cut to 90",
        {"embeddings.word_embeddings": lambda v, p, a: p.w["embeddings.word_embeddings.weight"][np.minimum(p.ids, 90)]},
    ),
    "words in column order": Plant(
        "rows",
        "column order",
        weights=edit("word_embeddings", lambda t: t.T.copy().reshape(t.shape)),
    ),
    "features in another order": Plant(
        "linear",
        "features .* another order",
        {"attention.context": everywhere(lambda v: v[..., [*range(1, 6), 0, *range(6, v.shape[-1])]])},
    ),
    "random dense": Plant(
        "linear", "other weights altogether", weights=edit(r"attention.output.dense.weight", random_matrix), **LAYER
    ),
    "random decoder": Plant("heads", "other weights altogether: not tied", {"_decoder": everywhere(random_matrix)}),
    "median": Plant("heads", "median", each_text(lambda x: np.median(x, 0))),
    "padding in the maximum": Plant("heads", "max, padding", {"sentence_embedding": lambda v, p, a: p.last.max(1)}),
    "centred vectors": Plant(
        "heads", "mean of all texts'", {"sentence_embedding": everywhere(lambda v: v - v.mean(0))}
    ),
    "int8 vectors": Plant(
        "heads",
        "8-bit integers",
        {"sentence_embedding": everywhere(lambda v: np.round(v / np.abs(v).max() * 127) * np.abs(v).max() / 127)},
    ),
    "mean of all layers": Plant(
        "heads",
        "mean of all layers",
        {
            "sentence_embedding": lambda v, p, a: np.mean(
                [
                    (x * p.mask[..., None]).sum(1) / p.mask.sum(1)[:, None]
                    for x in (p.acts[f"encoder.layer.{i}.output"] for i in range(len(p.order)))
                ],
                axis=0,
            )
        },
    ),
    # Numbers that nobody lists, and parts of a value
    "mistyped quick GELU": Plant(
        "activations", r"sigmoid\(1\.782 x\)", from_dense(lambda x: x / (1 + np.exp(-1.782 * x))), **LAYER
    ),
    "epsilon 3.3e-3": Plant("norms", "epsilon is 0.0033", eps=3.3e-3),
    "no value bias after the first token": Plant(
        "linear",
        "bias of attention.self.value is left out",
        {
            "attention.self.value": lambda v, p, a: (
                v - p.w[f"encoder.layer.{a}.attention.self.value.bias"] * (np.arange(v.shape[1]) > 0)[:, None]
            )
        },
        **LAYER,
    ),
    "mask in the first head only": Plant(
        "masks",
        "padding too|not applied|padding is seen",
        from_scores(
            lambda s, p: np.where(p.mask[:, None, None, :] | (np.arange(s.shape[1]) > 0)[:, None, None], s, -1e30)
        ),
        **LAYER,
    ),
}
SEEN_IN_VECTORS_ONLY = tuple(name for name, plant in PLANTS.items() if "sentence_embedding" in plant.hooks)
# What a head does otherwise is not in the last hidden state.
AFTER_THE_LAST_STATE = {name for name, plant in PLANTS.items() if plant.part == "heads"}
