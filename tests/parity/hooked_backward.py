"""Somebody else's backward pass of the masked-LM loss, right or with one mistake, on top of `hooked_roberta`'s forward.

It shares no line with numroberta nor with the catalogue, and is written another way: Jacobians as matrices, a head at a
time, a token at a time where that is plain.  `backward(…, mistake="softmax", layer=1)` makes that mistake in layer 1
only.
"""

import math
import re

import hooked_roberta
import numpy as np

# What is planted, and words that the diagnosis must use.
PLANTS = {
    "softmax without second term": "Jacobian has its second term left out",
    "softmax diagonal": "Jacobian is its diagonal",
    "softmax over queries": "sums over the queries",
    "norm without means": "two mean terms left out",
    "norm without mean": r"mean\(g\) left out",
    "norm without variance": r"x̂ mean\(g x̂\) left out",
    "norm without gain": "lacks its gain",
    "tanh gelu": "that of its tanh form",
    "gelu without density": "x φ\\(x\\) is left out",
    "no scale": "scale √d is forgotten",
    "no scale in the keys": "scale √d is forgotten.*self.key.grad only",
    "bias averaged": "bias is averaged over all places",
    "bias averaged over tokens": "bias is averaged over all tokens",
    "bias averaged over texts": "bias is averaged over the texts",
    "no residual past attention": "residual's gradient is not added: what is carried past attention",
    "no residual past feed-forward": "residual's gradient is not added: what is carried past the feed-forward",
    "nothing through the keys": "through the keys is not added",
    "keys not transposed": "dK = dS Q",
    "fresh dropout mask": "dropout mask of the forward pass is not used again",
}
OUTSIDE_LAYERS = {
    "loss over padding": "averaged over padding too",
    "padding has a label": "padding has a label",
    "loss summed": "the loss is summed",
    "gradient of the summed loss": "that of the summed loss",
    "decoder not added": "that of the decoder is left out",
    "lookup not added": "that of the looked-up rows is left out",
    "rows overwritten": "gradient of the last place where it stands",
}
ERF = np.vectorize(math.erf, otypes=[np.float64])


def forward(weights, heads, eps, pad, ids, mask, rounding=None):
    """(activations by name, the port that made them)."""
    points = [f"attention.self.{part}" for part in ("query", "key", "value")]
    points += ["embeddings.word_embeddings", "embeddings", "attention.scores", "attention.probs", "attention.context",
               "attention.output.dense", "attention.output", "intermediate.dense", "intermediate", "output.dense",
               "output", "lm_head.dense", "lm_head.layer_norm", "lm_head"]  # fmt: skip
    hooks = {point: lambda value, port, layer: rounding(value) for point in points} if rounding else {}
    port = hooked_roberta.Port(weights, heads, eps, pad, hooks)
    return {name: a for name, a in port.run(ids, mask).items() if not name.startswith("classifier")}, port


def backward(weights, heads, eps, pad, ids, mask, labels, mistake=None, layer=None, rounding=None):
    """Activations, loss and gradients by name."""
    acts, _ = forward(weights, heads, eps, pad, ids, mask, rounding)
    return acts | Backward(weights, heads, eps, pad, acts, mistake, layer, rounding).run(ids, mask, labels)


class Backward:
    def __init__(self, weights, heads, eps, pad, acts, mistake, layer, rounding):
        self.w, self.heads, self.eps, self.pad, self.acts = weights, heads, eps, pad, acts
        self.mistake, self.only, self.rounding = mistake, layer, rounding or (lambda value: value)
        self.now, self.out, self.rng = None, {}, np.random.default_rng(7)

    def slip(self, mistake):
        return mistake == self.mistake and (self.only is None or self.only == self.now)

    def keep(self, name, value):
        if self.slip("fresh dropout mask") and name.endswith("output.dense.grad"):
            value = value * (self.rng.random(value.shape) >= 0.1) / 0.9
        self.out[name] = self.rounding(value)
        return self.out[name]

    def run(self, ids, mask, labels):
        self.mask = mask != 0
        self.loss(labels)
        dz = self.out["lm_head.grad"]
        y = self.acts["lm_head.layer_norm"]
        self.keep("lm_head.bias.grad", self.over_rows(dz))
        decoder = np.einsum("btv,btd->vd", dz, y)
        dy = self.keep(
            "lm_head.layer_norm.grad", np.einsum("btv,vd->btd", dz, self.w["embeddings.word_embeddings.weight"])
        )
        dense = self.acts["lm_head.dense"]
        dx = self.norm("lm_head.layer_norm", 0.5 * dense * (1 + ERF(dense / 2**0.5)), dy)
        dx = self.keep("lm_head.dense.grad", dx * self.slope(dense))
        layers = len({name.split(".")[2] for name in self.w if name.startswith("encoder.layer.")})
        states = ["embeddings", *(f"encoder.layer.{i}.output" for i in range(layers))]
        dx = self.keep(f"{states[-1]}.grad", self.linear("lm_head.dense", self.acts[states[-1]], dx))
        for i in reversed(range(layers)):
            self.now = i
            dx = self.feed_forward(f"encoder.layer.{i}.", dx)
            dx = self.keep(f"{states[i]}.grad", self.attention(f"encoder.layer.{i}.", self.acts[states[i]], dx))
            self.now = None
        self.embeddings(ids, dx, decoder)
        return self.out

    def loss(self, labels):
        z, known = self.acts["lm_head"], labels != -100
        terms = {"loss over padding": known.size, "loss summed": 1}.get(self.mistake, known.sum())
        if self.mistake == "padding has a label":
            labels, known, terms = np.where(known, labels, self.pad), np.ones_like(known), known.size
        dz, total = np.zeros_like(z), 0.0
        for b, t in zip(*np.nonzero(known), strict=True):
            e = np.exp(z[b, t] - z[b, t].max())
            dz[b, t] = e / e.sum()
            total -= math.log(dz[b, t, labels[b, t]])
            dz[b, t, labels[b, t]] -= 1
        self.out["loss"] = np.array(total / terms)
        self.keep("lm_head.grad", dz / (1 if self.mistake == "gradient of the summed loss" else terms))

    def over_rows(self, dy):
        total = np.einsum("btd->d", dy)
        b, t, _ = dy.shape
        count = {
            "bias averaged": b * t,
            "bias averaged over tokens": self.mask.sum(),
            "bias averaged over texts": b,
        }.get(self.mistake, 1)
        return total / (count if self.slip(self.mistake) else 1)

    def linear(self, name, x, dy):
        self.keep(f"{name}.bias.grad", self.over_rows(dy))
        self.keep(f"{name}.weight.grad", np.einsum("bto,bti->oi", dy, x))
        return np.einsum("bto,oi->bti", dy, self.w[f"{name}.weight"])

    def slope(self, x):
        if self.slip("tanh gelu"):
            h = 1e-5  # by differences, which are as good as the formula here
            tanh = [
                0.5 * v * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v * v * v))) for v in (x - h, x + h)
            ]
            return (tanh[1] - tanh[0]) / (2 * h)
        density = 0 if self.slip("gelu without density") else np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
        return 0.5 * (1 + ERF(x / math.sqrt(2))) + x * density

    def norm(self, name, x, dy):
        """A token at a time: J = (1 − 11ᵀ/d − x̂ x̂ᵀ/d) / σ."""
        gain, d = self.w[f"{name}.weight"], x.shape[-1]
        middle = x - x.mean(axis=-1)[..., None]
        sigma = np.sqrt((middle**2).mean(axis=-1) + self.eps)
        hat = middle / sigma[..., None]
        self.keep(f"{name}.bias.grad", self.over_rows(dy))
        self.keep(f"{name}.weight.grad", np.einsum("btd,btd->d", dy, hat))
        dx = np.empty_like(dy)
        for b in range(len(x)):
            for t in range(x.shape[1]):
                jacobian = np.eye(d)
                if not (self.slip("norm without means") or self.slip("norm without mean")):
                    jacobian -= 1 / d
                if not (self.slip("norm without means") or self.slip("norm without variance")):
                    jacobian -= np.outer(hat[b, t], hat[b, t]) / d
                dx[b, t] = jacobian @ (dy[b, t] * (1 if self.slip("norm without gain") else gain)) / sigma[b, t]
        return dx

    def feed_forward(self, p, dy):
        acts = self.acts
        x = acts[f"{p}attention.output"]
        past = self.norm(f"{p}output.LayerNorm", x + acts[f"{p}output.dense"], dy)
        dy = self.keep(f"{p}output.dense.grad", past)
        dwide = self.keep(f"{p}intermediate.grad", self.linear(f"{p}output.dense", acts[f"{p}intermediate"], dy))
        dense = f"{p}intermediate.dense"
        dwide = self.keep(f"{dense}.grad", dwide * self.slope(acts[dense]))
        dx = self.linear(dense, x, dwide)
        return self.keep(f"{p}attention.output.grad", dx if self.slip("no residual past feed-forward") else past + dx)

    def attention(self, p, x, dy):
        acts, a = self.acts, f"{p}attention."
        b, n, d = x.shape
        k = d // self.heads
        past = self.norm(f"{a}output.LayerNorm", x + acts[f"{a}output.dense"], dy)
        dy = self.keep(f"{a}output.dense.grad", past)
        dc = self.keep(f"{a}context.grad", self.linear(f"{a}output.dense", acts[f"{a}context"], dy))
        probs = acts[f"{a}probs"]
        found = {part: np.zeros_like(x) for part in ("query", "key", "value")}
        dprobs, dscores = np.zeros_like(probs), np.zeros_like(probs)
        for text in range(b):
            for head in range(self.heads):
                at = slice(head * k, (head + 1) * k)
                dprobs[text, head] = dc[text, :, at] @ acts[f"{a}self.value"][text, :, at].T
        dprobs = self.keep(f"{a}probs.grad", dprobs)
        for text in range(b):
            for head in range(self.heads):
                at, soft = slice(head * k, (head + 1) * k), probs[text, head]
                for query in range(n):
                    s = soft[query]
                    jacobian = np.diag(s) - np.outer(s, s)
                    if self.slip("softmax without second term"):
                        jacobian = np.diag(s)
                    elif self.slip("softmax diagonal"):
                        jacobian = np.diag(s * (1 - s))
                    dscores[text, head, query] = jacobian @ dprobs[text, head, query]
                if self.slip("softmax over queries"):
                    for key in range(n):
                        s = soft[:, key]
                        dscores[text, head, :, key] = (np.diag(s) - np.outer(s, s)) @ dprobs[text, head, :, key]
        dscores = self.keep(f"{a}scores.grad", dscores)
        root = {part: 1 if self.slip("no scale") else math.sqrt(k) for part in ("query", "key")}
        root["key"] = 1 if self.slip("no scale in the keys") else root["key"]
        for text in range(b):
            for head in range(self.heads):
                at, ds = slice(head * k, (head + 1) * k), dscores[text, head]
                found["value"][text, :, at] = probs[text, head].T @ dc[text, :, at]
                found["query"][text, :, at] = ds @ acts[f"{a}self.key"][text, :, at] / root["query"]
                turned = ds if self.slip("keys not transposed") else ds.T
                found["key"][text, :, at] = turned @ acts[f"{a}self.query"][text, :, at] / root["key"]
        dx = 0 if self.slip("no residual past attention") else past
        for part in ("value", "key", "query"):
            grad = self.keep(f"{a}self.{part}.grad", found[part])
            through = self.linear(f"{a}self.{part}", x, grad)
            dx = dx + (0 if part == "key" and self.slip("nothing through the keys") else through)
        return dx

    def embeddings(self, ids, dy, decoder):
        parts = [f"embeddings.{part}_embeddings" for part in ("word", "position", "token_type")]
        dx = self.norm("embeddings.LayerNorm", sum(self.acts[part] for part in parts), dy)
        for part in parts:
            self.keep(f"{part}.grad", dx)
        word, position, kind = (np.zeros_like(self.w[f"{part}.weight"]) for part in parts)
        for b, row in enumerate(ids):
            place = self.pad
            for t, number in enumerate(row):
                if number != self.pad:
                    place += 1
                    overwritten = self.mistake == "rows overwritten"
                    word[number] = dx[b, t] + (0 if overwritten else word[number])
                    position[place] = dx[b, t] + (0 if overwritten else position[place])
                kind[0] += dx[b, t]
        if self.mistake == "lookup not added":
            word = 0 * word
        if self.mistake != "decoder not added":
            word = word + decoder
        for part, value in zip(parts, (word, position, kind), strict=True):
            self.keep(f"{part}.weight.grad", value)


def matches(words, sentence):
    """Whether a diagnosis has the words of a plant."""
    return re.search(words, sentence or "") is not None
