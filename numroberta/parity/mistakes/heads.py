"""Mistakes after the encoder: the pooler, the heads' logits, and the vectors of whole texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from numroberta import textbook
from numroberta.arithmetic import POOLINGS
from numroberta.parity.mistakes.norms import standardized
from numroberta.parity.names import EMBEDDING, POOLED, WORD
from numroberta.parity.steps import (
    STEPS,
    Array,
    Forward,
    Inputs,
    Mistake,
    Step,
    Way,
    exact_gelu,
    head_norm,
    layer_norm,
    linear,
    pool_tokens,
    sentence_embedding,
)

FROM_FIRST_TOKEN = {"pooler.dense": "the pooler", "classifier.dense": "the classifier"}
LOGITS = {
    "lm_head": "lm_head",
    "classifier.out_proj": "the classifier",
    "classifier": "the classifier",
    "qa_outputs": "qa_outputs",
}


def of_input(x: Callable[[Forward], Array]) -> Step:
    """The linear layer of a head, with another input."""
    return lambda f, name: linear(f, name, x(f))


def then(way: Callable[[Array], Array]) -> Step:
    """The sound step, and something after it."""
    return lambda f, name: way(STEPS[name](f, name))


def changed(source: str, way: Callable[[Array], Array]) -> Step:
    """A function of another activation."""
    return lambda f, name: way(f[source])


def mistakes(inputs: Inputs) -> Iterator[Mistake]:
    yield from wrong_tokens()
    yield from wrong_pooler()
    yield from wrong_classifier()
    yield from wrong_masked_lm()
    yield from wrong_logits()
    yield from wrong_vectors(inputs)


def wrong_tokens() -> Iterator[Mistake]:
    for kind, whose in FROM_FIRST_TOKEN.items():
        for what, token in (
            ("the last token", last_token),
            ("the mean of the tokens", partial(pooled_by, pooling="mean")),
            ("the mean of the tokens, padding included", mean_with_padding),
            ("the maximum over the tokens", partial(pooled_by, pooling="max")),
            ("the second token", lambda f: f.last[:, 1]),
            ("the last place, which may be padding", lambda f: f.last[:, -1]),
            ("tanh of <s>", lambda f: np.tanh(f.last[:, 0])),
            ("the sum of the tokens", lambda f: (f.last * f.inputs.attention_mask[..., None]).sum(1)),
            ("<s> in the embeddings, not in the last hidden state", lambda f: f["embeddings"][:, 0]),
            ("<s> in the last hidden state but one", lambda f: f.hidden_state(-2)[:, 0]),
            ("<s> in the last hidden state normalized again, without weights",
             lambda f: standardized(f, f.last)[:, 0]),
            ("<s> in the last hidden state normalized again",
             lambda f: layer_norm(f, f"encoder.layer.{len(f.order) - 1}.output.LayerNorm", f.last)[:, 0]),
        ):  # fmt: skip
            sentence = f"{whose} reads {what}; it reads the first token, <s>"
            yield Mistake(sentence, {kind: of_input(token)})


def pooled_by(f: Forward, pooling: str) -> Array:
    return pool_tokens(f.last, f.inputs.attention_mask != 0, pooling)


def last_token(f: Forward) -> Array:
    return pooled_by(f, "lasttoken")


def mean_with_padding(f: Forward) -> Array:
    return f.last.mean(1)


def wrong_pooler() -> Iterator[Mistake]:
    for what, way in OTHER_THAN_TANH.items():
        yield Mistake(f"the pooler's tanh is {what}", {"pooler": changed("pooler.dense", way)})
    yield Mistake("the pooler is left out: its output is <s>", {"pooler": lambda f, name: f.last[:, 0]})
    yield Mistake("the pooler's dense layer is left out", {"pooler": lambda f, name: np.tanh(f.last[:, 0])})


OTHER_THAN_TANH: dict[str, Callable[[Array], Array]] = {
    "left out": lambda x: x,
    "applied twice": lambda x: np.tanh(np.tanh(x)),
    "ReLU": lambda x: np.maximum(x, 0),
    "a sigmoid": lambda x: 0.5 + 0.5 * np.tanh(x / 2),
    "GELU": exact_gelu,
    "SiLU": lambda x: x * (0.5 + 0.5 * np.tanh(x / 2)),
    "a softmax": textbook.softmax,
}


def applied(f: Forward, way: Callable[[Array], Array]) -> Array:
    return way(f["classifier.dense"])


def wrong_classifier() -> Iterator[Mistake]:
    out = "classifier.out_proj"
    for what, way in OTHER_THAN_TANH.items():
        yield Mistake(f"the classifier's tanh is {what}", {out: of_input(partial(applied, way=way))})
    for sentence, x in (
        ("the classifier's dense layer is left out, its tanh is not", lambda f: np.tanh(f.last[:, 0])),
        ("the classifier's dense layer and tanh are left out", lambda f: f.last[:, 0]),
        (
            "the classifier's dense layer and tanh are applied twice",
            lambda f: np.tanh(linear(f, "classifier.dense", np.tanh(f["classifier.dense"]))),
        ),
        (
            "the classifier's dense layer is applied twice",
            lambda f: np.tanh(linear(f, "classifier.dense", f["classifier.dense"])),
        ),
        (
            "the classifier's tanh comes before its dense layer",
            lambda f: linear(f, "classifier.dense", np.tanh(f.last[:, 0])),
        ),
        (
            "the classifier's input is tanh of <s>, and tanh after its dense layer",
            lambda f: np.tanh(linear(f, "classifier.dense", np.tanh(f.last[:, 0]))),
        ),
        ("the classifier reads the pooler's output; it reads <s>", lambda f: f["pooler"]),
        ("the classifier reads the pooler's output and has no dense layer", lambda f: np.tanh(f["pooler"])),
    ):
        yield Mistake(sentence, {out: of_input(x)})
    yield Mistake(
        "the classifier's dense layer reads the pooler's output; it reads <s>",
        {"classifier.dense": lambda f, name: linear(f, name, f["pooler"])},
    )
    for sentence, way in (
        ("the outputs of {} are in reverse", lambda y: y[..., ::-1]),
        ("the outputs of {} are shifted by one", lambda y: np.roll(y, 1, -1)),
        ("the outputs of {} are shifted by one, backwards", lambda y: np.roll(y, -1, -1)),
    ):
        for kind in ("classifier.out_proj", "classifier", "qa_outputs"):
            yield Mistake(sentence.format(LOGITS[kind]), {kind: then(way)}, rare=True)
    for kind, whose in (("classifier", "the token classifier"), ("qa_outputs", "qa_outputs")):
        for what, state in STATES_BEFORE_HEADS.items():
            yield Mistake(
                f"{whose} reads {what}; it reads the last hidden state",
                {kind: of_input(state)},
            )


STATES_BEFORE_HEADS: dict[str, Callable[[Forward], Array]] = {
    "the hidden state before the last": lambda f: f.hidden_state(-2),
    "the embeddings": lambda f: f["embeddings"],
    "the next token's state": lambda f: np.roll(f.last, -1, 1),
    "the state of the token before": lambda f: np.roll(f.last, 1, 1),
    "tanh of the last hidden state": lambda f: np.tanh(f.last),
    "the last hidden state normalized again": lambda f: layer_norm(
        f, f"encoder.layer.{len(f.order) - 1}.output.LayerNorm", f.last
    ),
    "the last hidden state normalized again, without weights": lambda f: standardized(f, f.last),
    "the last hidden state normalized again, with the weights of the embeddings' norm": lambda f: layer_norm(
        f, "embeddings.LayerNorm", f.last
    ),
}


def wrong_masked_lm() -> Iterator[Mistake]:
    for what, state in STATES_BEFORE_HEADS.items():
        yield Mistake(
            f"lm_head reads {what}; it reads the last hidden state",
            {"lm_head.dense": of_input(state)},
        )
    no_gelu: dict[str, Step] = {"lm_head.layer_norm": partial(head_norm, gelu=lambda x: x)}
    yield Mistake("lm_head's GELU is left out", no_gelu)
    yield Mistake("lm_head's GELU is tanh", {"lm_head.layer_norm": partial(head_norm, gelu=np.tanh)})
    yield Mistake(
        "lm_head's GELU comes after its layer norm; it comes before",
        {"lm_head.layer_norm": lambda f, name: exact_gelu(layer_norm(f, name, f["lm_head.dense"]))},
    )

    def decoded(y: Callable[[Forward], Array] = lambda f: f["lm_head.layer_norm"], rows: Way | None = None,
                bias: Callable[[Array], Array] = lambda b: b) -> Step:  # fmt: skip
        def step(f: Forward, name: str) -> Array:
            own = "lm_head.decoder.weight"
            table = f.weight(own if own in f.inputs.weights else f"{WORD}.weight")
            table = rows(f, name, table) if rows else table
            return y(f) @ table.T + bias(f.weight("lm_head.bias"))

        return step

    for sentence, step in (
        ("the bias of lm_head is left out", decoded(bias=np.zeros_like)),
        ("the bias of lm_head is added twice", decoded(bias=lambda b: 2 * b)),
        ("the bias of lm_head is shifted by one", decoded(bias=lambda b: np.roll(b, 1))),
        ("the bias of lm_head is shifted by one, backwards", decoded(bias=lambda b: np.roll(b, -1))),
        ("the rows of lm_head's decoder are shifted by one", decoded(rows=lambda f, n, t: np.roll(t, 1, 0))),
        ("the rows of lm_head's decoder are shifted by one, backwards",
         decoded(rows=lambda f, n, t: np.roll(t, -1, 0))),
        ("lm_head's decoder is zero", decoded(rows=lambda f, n, t: np.zeros_like(t))),
        ("the rows of lm_head's decoder are in reverse", decoded(rows=lambda f, n, t: t[::-1])),
        ("lm_head's decoder is the transposed word embeddings",
         decoded(rows=lambda f, n, t: t.reshape(t.shape[::-1]).T)),
        ("lm_head's decoder is the word embeddings; the checkpoint has one of its own",
         decoded(rows=lambda f, n, t: f.weight(f"{WORD}.weight"))),
        ("lm_head's decoder reads the last hidden state: its dense layer and norm are left out",
         decoded(lambda f: f.last)),
        ("lm_head's layer norm is left out", decoded(lambda f: exact_gelu(f["lm_head.dense"]))),
        ("lm_head's GELU and layer norm are left out", decoded(lambda f: f["lm_head.dense"])),
        ("lm_head's dense layer is left out",
         decoded(lambda f: layer_norm(f, "lm_head.layer_norm", exact_gelu(f.last)))),
    ):  # fmt: skip
        yield Mistake(sentence, {"lm_head": step})


def wrong_logits() -> Iterator[Mistake]:
    """What is called logits is a function of them."""
    for kind in ("lm_head", "classifier", "qa_outputs"):  # of which every token has some
        for turn, which in ((1, "token before"), (-1, "next token")):
            step = then(partial(np.roll, shift=turn, axis=1))
            yield Mistake(f"what {LOGITS[kind]} gives are the logits of the {which}", {kind: step}, scope="padding")
    for kind, whose in LOGITS.items():
        for what, way in (
            ("probabilities (softmax)", textbook.softmax),
            ("logarithms of probabilities (log_softmax)", log_softmax),
            ("sigmoids of the logits", lambda y: 0.5 + 0.5 * np.tanh(y / 2)),
            ("softmaxes over the tokens", lambda y: textbook.softmax(y.swapaxes(1, -1)).swapaxes(1, -1)),
            ("softmaxes over the texts", lambda y: textbook.softmax(y.swapaxes(0, -1)).swapaxes(0, -1)),
            ("minus the logits", lambda y: -y),
            ("tanh of the logits", np.tanh),
            ("the logits divided by 2", lambda y: y / 2),
        ):
            yield Mistake(f"what {whose} gives are {what}; expected the logits", {kind: then(way)})


def log_softmax(y: Array) -> Array:
    y = y - y.max(-1, keepdims=True)
    return y - np.log(np.exp(y).sum(-1, keepdims=True))


def wrong_vectors(inputs: Inputs) -> Iterator[Mistake]:
    """One vector for each text, from other tokens, by another pooling, of another length."""
    for sentence, tokens in (
        ("padding is pooled too", lambda f: np.ones_like(f.inputs.attention_mask, bool)),
        ("<s> is left out of the pooling", lambda f: edges(f, 1, 0)),
        ("</s> is left out of the pooling", lambda f: edges(f, 0, 1)),
        ("<s> and </s> are left out of the pooling", lambda f: edges(f, 1, 1)),
    ):
        yield Mistake(sentence, vectors(partial(from_tokens, tokens=tokens)))
    for sentence, pooled in OTHER_POOLINGS.items():
        yield Mistake(sentence, vectors(lambda f, pooling, pooled=pooled: pooled(f)))  # type: ignore[misc]
    for other in ("max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"):
        yield Mistake(f"the pooling is {other}, padding included", vectors(partial(over_every_place, other=other)))
    yield Mistake("the tokens are summed and divided by the padded length", vectors(over_padded_length))
    yield Mistake("the tokens are summed; they are averaged", vectors(sum_of_tokens))
    for other in POOLINGS:
        yield Mistake(f"the pooling is {other}", vectors(partial(by_another, other=other)))
    yield Mistake("the vector is the pooler's output", vectors(lambda f, pooling: f["pooler"]))
    yield Mistake("the vector is the pooler's dense output, before tanh", vectors(lambda f, pooling: f["pooler.dense"]))
    for what, state in STATES_TO_POOL.items():
        yield Mistake(f"the pooled state is {what}; it is the last", vectors(partial(from_state, state=state)))
    ways: tuple[tuple[str, Callable[[Array], Array]], ...] = (
        ("the vector is divided by its length (normalized)", unit),
        ("the vector is divided by its largest element", lambda v: v / np.abs(v).max(-1, keepdims=True)),
        ("the vector is divided by the sum of its magnitudes", lambda v: v / np.abs(v).sum(-1, keepdims=True)),
        ("the vector is multiplied by √d", lambda v: v * np.sqrt(v.shape[-1])),
        ("the vector is divided by √d", lambda v: v / np.sqrt(v.shape[-1])),
        ("the vector has passed through tanh", np.tanh),
        ("the vector has its mean subtracted", lambda v: v - v.mean(-1, keepdims=True)),
        ("the vectors are divided by the length of all together", lambda v: v / np.linalg.norm(v)),
        ("every vector is the mean of all texts'", lambda v: np.broadcast_to(v.mean(0), v.shape)),
        ("the vectors have the mean of all texts' subtracted", lambda v: v - v.mean(0)),
        ("the vectors are standardized over the texts", lambda v: (v - v.mean(0)) / np.maximum(v.std(0), 1e-12)),
        (
            "the vector has its mean subtracted and is divided by its deviation",
            lambda v: (v - v.mean(-1, keepdims=True)) / v.std(-1, keepdims=True),
        ),
        ("the vector is divided by the square of its length", lambda v: v / np.square(v).sum(-1, keepdims=True)),
        ("the vector has passed through a sigmoid", lambda v: 0.5 + 0.5 * np.tanh(v / 2)),
        ("the vector has passed through ReLU", lambda v: np.maximum(v, 0)),
        ("the vector has passed through softmax", textbook.softmax),
        ("the vector has its sign turned", lambda v: -v),
        ("the vectors of the texts are in reverse", lambda v: v[::-1]),
        ("the vector's elements are in reverse", lambda v: v[..., ::-1]),
        *(
            (f"the vector is rounded to 8-bit integers, with one scale for {whose}", partial(in_int8, axis=axis))
            for whose, axis in (("each text", -1), ("all texts", None), ("each dimension", 0))
        ),
        ("the vector is rounded to 8-bit integers, as multiples of 1/127", lambda v: np.rint(v * 127) / 127),
        ("the vector is binary: the signs of its elements", np.sign),
    )
    for sentence, way in ways:
        yield Mistake(sentence, dict.fromkeys((*(POOLED + p for p in POOLINGS), EMBEDDING), then(way)))
    for other in POOLINGS:
        sentence = f"the pooling is {other}, and the vector is divided by its length (normalized)"
        yield Mistake(sentence, vectors(partial(by_another, other=other, way=unit)))
    if inputs.after_pooling:
        yield Mistake(
            "what the folder does after pooling is left out (normalizing, or a Dense layer)", {EMBEDDING: only_pooled}
        )


def vectors(vector: Callable[[Forward, str], Array]) -> dict[str, Step]:
    """The steps of all vectors of texts, made from the pass and the name of a pooling."""
    steps: dict[str, Step] = {POOLED + p: partial(vector_of, pooling=p, vector=vector) for p in POOLINGS}
    return {**steps, EMBEDDING: lambda f, name: sentence_embedding(f, name, partial(vector, f))}


def vector_of(f: Forward, name: str, pooling: str, vector: Callable[[Forward, str], Array]) -> Array:
    return vector(f, pooling)


def only_pooled(f: Forward, name: str) -> Array:
    return np.concatenate([pooled_by(f, pooling) for pooling in f.inputs.pooling], -1)


def from_tokens(f: Forward, pooling: str, tokens: Callable[[Forward], Array]) -> Array:
    return pool_tokens(f.last, tokens(f), pooling)


def from_state(f: Forward, pooling: str, state: Callable[[Forward], Array]) -> Array:
    return pool_tokens(state(f), f.inputs.attention_mask != 0, pooling)


def by_another(f: Forward, pooling: str, other: str, way: Callable[[Array], Array] = lambda v: v) -> Array:
    return way(pooled_by(f, other))


def in_int8(v: Array, axis: int | None) -> Array:
    scale = np.maximum(np.abs(v).max(axis, keepdims=True), 1e-30) / 127
    return np.rint(v / scale) * scale


def over_every_place(f: Forward, pooling: str, other: str) -> Array:
    return pool_tokens(f.last, np.ones_like(f.inputs.attention_mask, bool), other)


def of_each(change: Callable[[Array], Array]) -> Callable[[Forward], Array]:
    """A function of each text's tokens, (n, d) -> (d,)."""
    return lambda f: np.stack([change(x[m != 0]) for x, m in zip(f.last, f.inputs.attention_mask, strict=True)])


OTHER_POOLINGS: dict[str, Callable[[Forward], Array]] = {
    "the pooling is the median": of_each(lambda x: np.median(x, axis=0)),
    "the pooling is the minimum": of_each(lambda x: x.min(0)),
    "the pooling is the element of the largest magnitude": of_each(
        lambda x: np.take_along_axis(x, np.abs(x).argmax(0)[None], 0)[0]
    ),
    "the pooling is the mean of mean and maximum": of_each(lambda x: (x.mean(0) + x.max(0)) / 2),
    "the pooling is the mean of <s> and </s>": of_each(lambda x: (x[0] + x[-1]) / 2),
    "the pooling is the mean of <s> and the mean": of_each(lambda x: (x[0] + x.mean(0)) / 2),
    "the tokens' vectors are normalized before they are averaged": of_each(lambda x: unit(x).mean(0)),
    "the pooling is a mean with weights that fall: the first token counts most": of_each(
        lambda x: np.average(x, axis=0, weights=np.arange(len(x), 0, -1))
    ),
    "the tokens are summed and divided by one too many": of_each(lambda x: x.sum(0) / (len(x) + 1)),
    "the tokens are summed and divided by one too few": of_each(lambda x: x.sum(0) / max(len(x) - 1, 1)),
    "the tokens are summed and divided by two too few": of_each(lambda x: x.sum(0) / max(len(x) - 2, 1)),
    "the pooling is the second token": lambda f: f.last[:, 1],
    "the pooling is the last place, which may be padding": lambda f: f.last[:, -1],
    "all tokens of the batch are averaged together": lambda f: np.broadcast_to(
        f.last[f.inputs.attention_mask != 0].mean(0), f.last[:, 0].shape
    ),
}


def sum_of_tokens(f: Forward, pooling: str) -> Array:
    return np.asarray((f.last * (f.inputs.attention_mask != 0)[..., None]).sum(1))


def over_padded_length(f: Forward, pooling: str) -> Array:
    return sum_of_tokens(f, pooling) / f.last.shape[1]


STATES_TO_POOL: dict[str, Callable[[Forward], Array]] = {
    "the hidden state before the last": lambda f: f.hidden_state(-2),
    "the mean of the last two hidden states": lambda f: (f.last + f.hidden_state(-2)) / 2,
    "the mean of the first and the last hidden state": lambda f: (f.last + f["embeddings"]) / 2,
    "the embeddings": lambda f: f["embeddings"],
    "the output of the first layer": lambda f: f.hidden_state(1),
    "the mean of the first layer's output and the last": lambda f: (f.last + f.hidden_state(1)) / 2,
    "the mean of all layers' outputs": lambda f: sum_of_states(f, len(f.order)) / len(f.order),
    "the sum of all layers' outputs": lambda f: sum_of_states(f, len(f.order)),
    "the mean of all hidden states, the embeddings included": lambda f: (
        sum_of_states(f, len(f.order) + 1) / (len(f.order) + 1)
    ),
    "the word embeddings": lambda f: f[WORD],
    "the last hidden state but two": lambda f: f.hidden_state(-3),
    "the mean of the last three hidden states": lambda f: sum_of_states(f, 3) / 3,
    "the sum of the last two hidden states": lambda f: sum_of_states(f, 2),
    "the last hidden state normalized again": lambda f: layer_norm(
        f, f"encoder.layer.{len(f.order) - 1}.output.LayerNorm", f.last
    ),
    "the last hidden state normalized again, without weights": lambda f: standardized(f, f.last),
    "the last hidden state through tanh": lambda f: np.tanh(f.last),
    "the sum of the last four hidden states": lambda f: sum_of_states(f, 4),
    "the mean of the last four hidden states": lambda f: sum_of_states(f, 4) / 4,
}


def sum_of_states(f: Forward, count: int) -> Array:
    return np.sum([f.hidden_state(-1 - i) for i in range(min(count, len(f.order) + 1))], axis=0)


def edges(f: Forward, first: int, last: int) -> Array:
    """(b, n): the tokens without so many at each end; a text that has no others keeps all."""
    mask = f.inputs.attention_mask != 0
    place = np.cumsum(mask, 1)
    inner = mask & (place > first) & (place <= place[:, -1:] - last)
    return np.where(inner.any(1, keepdims=True), inner, mask)


def unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
