"""Somebody else's RoBERTa, right or with one mistake: it shares no line with numroberta and is written another way.

One text at a time, one head at a time, a token a row.  `run(…, mistake="tanh gelu", layer=1)` makes that mistake in
layer 1 only; `layer=None` makes it wherever it can be made.
"""

import math

import numpy as np

erf = np.vectorize(math.erf, otypes=[float])

# What is planted, and words that the diagnosis must use.
IN_EMBEDDINGS = {
    "positions from 0": "position ids start at 0",
    "positions from 1": "position ids start at 1",
    "positions count padding": "position ids count padding",
    "no token type": "the token-type embedding is left out",
    "no position": "the position embedding is left out",
}
IN_LAYERS = {
    "tanh gelu": "GELU is the tanh approximation",
    "relu": "the activation is ReLU",
    "epsilon 1e-12": "epsilon is 1e-12",
    "unbiased variance": "unbiased variance",
    "norm before residual": "the layer norm comes before the residual",
    "no residual": "the residual is not added",
    "no scale": "the scores are not divided",
    "double scale": "the scores are divided by √d twice",
    "scale by hidden size": "the root of the hidden size",
    "softmax over queries": "the softmax runs over the queries",
    "softmax over padding": "the softmax runs over padding",
    "causal mask": "a causal mask is applied",
    "query and key swapped": "the weights of query and key are swapped",
    "query and value swapped": "the weights of query and value are swapped",
    "key and value swapped": "the weights of key and value are swapped",
    "fused by head": "cut head by head",
    "fused by feature": "cut feature by feature",
    "heads interleaved": "heads are interleaved",
    "heads interleaved in the value": "heads are interleaved",
    "heads interleaved when merged": "heads are interleaved",
    "heads split without transpose": "by a reshape without the transpose",
    "query transposed": "the weight of attention.self.query is read as (in, out)",
    "key transposed": "the weight of attention.self.key is read as (in, out)",
    "value transposed": "the weight of attention.self.value is read as (in, out)",
    "attention.output.dense transposed": "the weight of attention.output.dense is read as (in, out)",
    "query without bias": "the bias of attention.self.query is left out",
    "key without bias": "the bias of attention.self.key is left out",
    "value without bias": "the bias of attention.self.value is left out",
    "attention.output.dense without bias": "the bias of attention.output.dense is left out",
    "intermediate.dense without bias": "the bias of intermediate.dense is left out",
    "output.dense without bias": "the bias of output.dense is left out",
    "norm without bias": "the layer norm's bias is left out",
    "norm with weight and bias swapped": "the layer norm's weight and bias are swapped",
    "norm of the attention": "the feed-forward's layer norm has the weights of the attention's",
    "scale by 8": "the scores are divided by 8",
    "float16 weights": "the weights are rounded to float16",
    "float16 sums": "added up in float16",
}


def run(weights, config, input_ids, attention_mask, mistake=None, layer=None, dtype=np.float64):
    """Activations by module path, batch-first; the arithmetic is in `dtype`."""
    port = Port(weights, config, mistake, layer, dtype)
    recorded = {}
    for ids, mask in zip(np.asarray(input_ids), np.asarray(attention_mask), strict=True):
        for name, value in port.text(ids, mask).items():
            recorded.setdefault(name, []).append(value)
    return {name: np.stack(values) for name, values in recorded.items()}


class Port:
    def __init__(self, weights, config, mistake, layer, dtype):
        self.w = {name: w.astype(dtype) for name, w in weights.items()}
        self.config, self.mistake, self.only, self.dtype = config, mistake, layer, dtype
        self.now = None

    def slip(self, mistake):
        return mistake == self.mistake and (self.only is None or self.now == self.only)

    def text(self, ids, mask):
        self.now = None
        out = {}
        x = self.embed(ids, out)
        for number in range(self.config.num_hidden_layers):
            self.now = number
            x = self.layer(f"encoder.layer.{number}.", x, mask, out)
        self.now = "pooler"
        if "pooler.dense.weight" in self.w:
            out["pooler.dense"] = self.dense("pooler.dense", x[:1])[0]
            out["pooler"] = np.tanh(out["pooler.dense"])
        return out

    def embed(self, ids, out):
        pad = self.config.pad_token_id
        place, places = pad, []
        for number, i in enumerate(ids):
            place += i != pad
            at = place if i != pad else pad
            if self.mistake == "positions count padding":
                at = number + pad + 1
            elif self.mistake in ("positions from 0", "positions from 1"):
                at = max(at - (2 if self.mistake.endswith("0") else 1), 0)
            places.append(at)
        word = out["embeddings.word_embeddings"] = self.weight("embeddings.word_embeddings.weight")[ids]
        position = out["embeddings.position_embeddings"] = self.weight("embeddings.position_embeddings.weight")[places]
        kind = self.weight("embeddings.token_type_embeddings.weight")[0]
        out["embeddings.token_type_embeddings"] = np.stack([kind] * len(ids))
        total = word
        if self.mistake != "no position":
            total = total + position
        if self.mistake != "no token type":
            total = total + kind
        out["embeddings"] = self.norm("embeddings.LayerNorm", total)
        return out["embeddings"]

    def weight(self, name):
        return self.w[name].astype(np.float16).astype(self.dtype) if self.slip("float16 weights") else self.w[name]

    def dense(self, name, x):
        short = name.split("self.")[-1] if "self" in name else name.split(".", 3)[-1]
        w, b = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        if self.slip(f"{short} transposed"):
            w = w.T
        if self.slip(f"{short} without bias"):
            b = 0 * b
        if self.slip("float16 sums"):
            total = np.zeros((len(x), len(w)), np.float16)
            for i in range(x.shape[1]):
                total += (x[:, i, None] * w[None, :, i]).astype(np.float16)
            return (total + b.astype(np.float16)).astype(self.dtype)
        return np.einsum("ti,oi->to", x, w) + b

    def norm(self, name, x):
        eps = 1e-12 if self.slip("epsilon 1e-12") else self.config.layer_norm_eps
        rows = []
        for row in x:
            row = row - row.sum() / len(row)
            variance = (row * row).sum() / (len(row) - (1 if self.slip("unbiased variance") else 0))
            rows.append(row / np.sqrt(variance + self.dtype(eps)))
        if self.slip("norm of the attention"):
            name = name.replace("attention.", "").replace("output.LayerNorm", "attention.output.LayerNorm")
        gain, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        if self.slip("norm without bias"):
            bias = 0 * bias
        if self.slip("norm with weight and bias swapped"):
            gain, bias = bias, gain
        return (np.stack(rows) * gain + bias).astype(self.dtype)

    def around(self, name, past, branch):
        if self.slip("norm before residual"):
            return past + self.norm(name, branch)
        return self.norm(name, branch if self.slip("no residual") else past + branch)

    def query_key_value(self, name, x):
        parts = ["query", "key", "value"]
        for a, b in ((0, 1), (0, 2), (1, 2)):
            if self.slip(f"{parts[a]} and {parts[b]} swapped"):
                parts[a], parts[b] = parts[b], parts[a]
                break
        found = [self.dense(f"{name}attention.self.{part}", x) for part in parts]
        fused = np.concatenate(found, axis=1)
        h, d = self.config.num_attention_heads, x.shape[1]
        if self.slip("fused by head"):
            k = d // h
            starts = [[3 * k * head + k * part for head in range(h)] for part in range(3)]
            return [np.concatenate([fused[:, s : s + k] for s in ss], axis=1) for ss in starts]
        if self.slip("fused by feature"):
            return [fused[:, part::3] for part in range(3)]
        return found

    def heads(self, x, interleaved):
        h, k = self.config.num_attention_heads, x.shape[1] // self.config.num_attention_heads
        if self.slip("heads split without transpose"):
            return list(x.reshape(h, len(x), k))
        return [x[:, i::h] if interleaved else x[:, i * k : (i + 1) * k] for i in range(h)]

    def layer(self, name, x, mask, out):
        h, d = self.config.num_attention_heads, x.shape[1]
        q, k, v = self.query_key_value(name, x)
        for part, value in zip(("query", "key", "value"), (q, k, v), strict=True):
            out[f"{name}attention.self.{part}"] = value
        everywhere = self.slip("heads interleaved")
        queries, keys = self.heads(q, everywhere), self.heads(k, everywhere)
        values = self.heads(v, everywhere or self.slip("heads interleaved in the value"))
        root = math.sqrt(d / h)
        for slip, divisor in (
            ("no scale", 1),
            ("double scale", d / h),
            ("scale by hidden size", math.sqrt(d)),
            ("scale by 8", 8),
        ):
            root = divisor if self.slip(slip) else root
        scores = [q @ k.T / self.dtype(root) for q, k in zip(queries, keys, strict=True)]
        probs = [self.softmax(s, mask) for s in scores]
        mixed = [p @ v for p, v in zip(probs, values, strict=True)]
        if everywhere or self.slip("heads interleaved when merged"):
            context = np.empty_like(x)
            for i, one in enumerate(mixed):
                context[:, i::h] = one
        else:
            context = np.concatenate(mixed, axis=1)
        out[f"{name}attention.scores"], out[f"{name}attention.probs"] = np.stack(scores), np.stack(probs)
        out[f"{name}attention.context"] = context
        y = out[f"{name}attention.output.dense"] = self.dense(f"{name}attention.output.dense", context)
        x = out[f"{name}attention.output"] = self.around(f"{name}attention.output.LayerNorm", x, y)
        y = out[f"{name}intermediate.dense"] = self.dense(f"{name}intermediate.dense", x)
        y = out[f"{name}intermediate"] = self.activation(y).astype(self.dtype)
        y = out[f"{name}output.dense"] = self.dense(f"{name}output.dense", y)
        out[f"{name}output"] = self.around(f"{name}output.LayerNorm", x, y)
        return out[f"{name}output"]

    def softmax(self, s, mask):
        if not self.slip("softmax over padding"):
            s = np.where(mask[None, :] == 0, self.dtype(-1e9), s)
        if self.slip("causal mask"):
            s = np.where(np.tri(len(s)) == 0, self.dtype(-1e9), s)
        axis = 0 if self.slip("softmax over queries") else 1
        e = np.exp(s - s.max(axis=axis, keepdims=True))
        return e / e.sum(axis=axis, keepdims=True)

    def activation(self, y):
        if self.slip("relu"):
            return y * (y > 0)
        if self.slip("tanh gelu"):
            return 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y * y * y)))
        return 0.5 * y * (1 + erf(y / math.sqrt(2)))
