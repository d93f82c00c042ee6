"""Mistakes in attention itself: the scale, the heads, what is multiplied with what, the axis of the softmax."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from numroberta import textbook
from numroberta.parity.names import CONTEXT, KEY, PROBS, QUERY, SCORES, VALUE, same_layer
from numroberta.parity.steps import Array, Forward, Inputs, Mistake, Step, blocked, context, merge, probs, scores


def mistakes(inputs: Inputs) -> Iterator[Mistake]:
    yield from wrong_scales(inputs)
    yield from wrong_heads(inputs)
    yield from wrong_products()
    yield from wrong_softmax()
    yield from rotated()


def wrong_scales(inputs: Inputs) -> Iterator[Mistake]:
    heads = inputs.num_attention_heads
    for sentence, divisor in (
        ("the scores are divided by 8, the root of 64; the head dimension is another here", lambda k: 8.0),
        ("the scores are not divided by √d", lambda k: 1.0),
        ("the scores are divided by √d twice", lambda k: k),
        ("the scores are multiplied by √d instead of divided", lambda k: k**-0.5),
        ("the scores are divided by the root of the hidden size; it is the root of the head dimension",
         lambda k: (k * heads) ** 0.5),
        ("the scores are divided by the root of the number of heads; it is the root of the head dimension",
         lambda k: heads**0.5),
        ("the scores are divided by the hidden size; it is the root of the head dimension", lambda k: k * heads),
        ("the scores are divided by the number of heads; it is the root of the head dimension", lambda k: heads),
        ("the scores are divided by ∜d, as if only one of query and key were scaled", lambda k: k**0.25),
        ("the scores are divided by √(d + 1)", lambda k: (k + 1) ** 0.5),
        ("the scores are divided by √(d/2)", lambda k: (k / 2) ** 0.5),
        ("the scores are divided by √(2d)", lambda k: (k * 2) ** 0.5),
        ("the scores have their sign turned", lambda k: -(k**0.5)),
    ):  # fmt: skip
        yield Mistake(sentence, {SCORES: partial(scores_divided, divisor=divisor)})

    def with_query_scaled_later(f: Forward, name: str) -> Array:
        """(Q + b) / √d where only the product, not the bias, is scaled, or the bias alone."""
        query, key = (f.split(f[same_layer(name, kind)]) for kind in (QUERY, KEY))
        bias = f.split(np.broadcast_to(f.weight(same_layer(name, f"{QUERY}.bias")), f[same_layer(name, QUERY)].shape))
        return ((query - bias) / np.sqrt(query.shape[-1]) + bias) @ key.swapaxes(2, 3)

    yield Mistake("the scale is applied to the query before its bias is added", {SCORES: with_query_scaled_later})


def scores_divided(f: Forward, name: str, divisor: Callable[[float], float]) -> Array:
    """divisor: of the head dimension."""
    return scores(f, name, divisor=lambda f, query: divisor(query.shape[-1]))


def wrong_heads(inputs: Inputs) -> Iterator[Mistake]:
    for split, unsplit, what in (
        (interleaved, from_interleaved, "heads are interleaved: feature j belongs to head j // d, not j % heads"),
        (unmoved, from_unmoved, "heads are split or merged by a reshape without the transpose"),
    ):
        of_scores, of_context = partial(scores, split=split), partial(context, split=split)
        # A program may do so in both places where it splits and in the one where it merges, or in some of them.
        for steps in (
            {SCORES: of_scores, CONTEXT: partial(of_context, merge=unsplit)},
            {SCORES: of_scores, CONTEXT: of_context},
            {SCORES: of_scores, CONTEXT: partial(context, merge=unsplit)},
            {SCORES: of_scores},
            {CONTEXT: partial(of_context, merge=unsplit)},
            {CONTEXT: of_context},
            {CONTEXT: partial(context, merge=unsplit)},
        ):
            yield Mistake(what, steps, scope="padding")
    for kind, whose in ((VALUE, "value"), (KEY, "key"), (QUERY, "query")):
        what = (
            f"the {whose} of each head is reshaped where it must be transposed: (tokens, features) read the other way"
        )
        replaced = CONTEXT if kind == VALUE else SCORES
        yield Mistake(what, {replaced: partial(reshaped_in_heads, kind=kind)}, scope="padding", rare=True)
    for sentence, change in (
        ("the heads are merged in reverse", lambda c: c[:, ::-1]),
        ("the heads are shifted by one when they are merged", lambda c: np.roll(c, 1, 1)),
        ("the heads are shifted by one when they are merged, backwards", lambda c: np.roll(c, -1, 1)),
        ("every head is the first one", lambda c: np.broadcast_to(c[:, :1], c.shape)),
        ("the last head is left out", lambda c: c * (np.arange(c.shape[1]) < c.shape[1] - 1)[None, :, None, None]),
        ("the heads are averaged", lambda c: np.broadcast_to(c.mean(1, keepdims=True), c.shape)),
    ):
        yield Mistake(sentence, {CONTEXT: partial(context_of_heads, change=change)})
    for sentence, change in (
        ("every head has the probabilities of the first one", lambda p: np.broadcast_to(p[:, :1], p.shape)),
        ("every head has the mean of all heads' probabilities",
         lambda p: np.broadcast_to(p.mean(1, keepdims=True), p.shape)),
    ):  # fmt: skip
        yield Mistake(sentence, {PROBS: partial(probs_of_heads, change=change)})
    for turn, which in ((1, "of the head before"), (-1, "of the next head"), (2, "of the head two before")):
        for kind, whose in ((VALUE, "values"), (KEY, "keys")):
            replaced = CONTEXT if kind == VALUE else SCORES
            step: Step = partial(of_another_head, kind=kind, turn=turn)
            yield Mistake(f"each head looks up the {whose} {which}", {replaced: step}, rare=turn == 2)
        rolled = partial(probs_of_heads, change=partial(np.roll, shift=turn, axis=1))
        yield Mistake(f"each head has the probabilities {which}", {PROBS: rolled}, rare=turn == 2)
    head = inputs.weights["embeddings.LayerNorm.bias"].size // inputs.num_attention_heads
    for part in (4, 8, 16, 32, 64):
        for count, what in ((head // part * part, f"a multiple of {part}"), (part, f"{part}")):
            if 0 < count < head:
                sentence = f"the products of query and key end at {what} features of the head"
                yield Mistake(sentence, {SCORES: partial(scores, split=partial(first_features, count=count),
                                                         divisor=lambda f, q: float(np.sqrt(head)))})  # fmt: skip
    for shared, what in ((KEY, "key"), (VALUE, "value")):
        yield from one_head_for_all(shared, what)
    yield from another_count(inputs)
    yield from normalized_heads()


def reshaped_in_heads(f: Forward, name: str, kind: str) -> Array:
    def way(wanted: str) -> Array:
        x = f.split(f[same_layer(name, wanted)])  # (b, h, n, k)
        return x.swapaxes(2, 3).reshape(x.shape) if wanted == kind else x

    if kind == VALUE:
        return merge(f[same_layer(name, PROBS)] @ way(VALUE))
    query = way(QUERY)
    return query @ way(KEY).swapaxes(2, 3) / np.sqrt(query.shape[-1])


def first_features(f: Forward, values: Array, count: int) -> Array:
    return f.split(values)[..., :count]


def probs_of_heads(f: Forward, name: str, change: Callable[[Array], Array]) -> Array:
    return change(probs(f, name))


def of_another_head(f: Forward, name: str, kind: str, turn: int) -> Array:
    theirs = np.roll(f.split(f[same_layer(name, kind)]), turn, 1)
    if kind == VALUE:
        return merge(f[same_layer(name, PROBS)] @ theirs)
    query = f.split(f[same_layer(name, QUERY)])
    return query @ theirs.swapaxes(2, 3) / np.sqrt(query.shape[-1])


def another_count(inputs: Inputs) -> Iterator[Mistake]:
    """The heads' width taken for another: scores, probabilities and context of so many heads."""
    heads, width = inputs.num_attention_heads, inputs.weights["embeddings.LayerNorm.bias"].size
    for count in sorted({1, 2, 4, 8, 12, 16, heads // 2, heads * 2, width // 64} - {0, heads}):
        if width % count == 0:
            split = partial(split_into, heads=count)
            for divisor, how in ((None, ""), (np.sqrt(width // heads), ", the scale is right")):
                steps: dict[str, Step] = {
                    SCORES: partial(scores, split=split, divisor=partial(root_or, divisor=divisor)),
                    CONTEXT: partial(context, split=split),
                }
                yield Mistake(f"there are {count} heads; the config has {heads}{how}", steps, rare=divisor is not None)


def split_into(f: Forward, values: Array, heads: int) -> Array:
    b, n = values.shape[:2]
    return values.reshape(b, n, heads, -1).swapaxes(1, 2)


def root_or(f: Forward, query: Array, divisor: float | None) -> float:
    return float(np.sqrt(query.shape[-1]) if divisor is None else divisor)


def normalized_heads() -> Iterator[Mistake]:
    """Query and key normalized head by head, as newer models do (QK norm)."""
    for what, way in (
        ("divided by their lengths", lambda x: x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)),
        ("divided by their root mean squares", lambda x: x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6)),
        ("normalized to mean 0 and variance 1",
         lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)),
    ):  # fmt: skip
        yield Mistake(
            f"query and key are {what} in each head (QK norm)",
            {SCORES: partial(scores, split=partial(split_and, way=way))},
        )
        yield Mistake(
            f"query and key are {what} in each head (QK norm), and not divided by √d",
            {SCORES: partial(scores, split=partial(split_and, way=way), divisor=lambda f, query: 1.0)},
        )


def split_and(f: Forward, values: Array, way: Callable[[Array], Array]) -> Array:
    return way(f.split(values))


def context_of_heads(f: Forward, name: str, change: Callable[[Array], Array]) -> Array:
    return context(f, name, merge=lambda values: merge(change(values)))


def one_head_for_all(shared: str, what: str) -> Iterator[Mistake]:
    def split(f: Forward, values: Array, every: int) -> Array:
        parts = f.split(values)
        return parts[:, np.arange(parts.shape[1]) // every * every]

    for every, which in ((10**6, "the first head's"), (2, "every second head's")):
        if shared == VALUE:
            step: Step = partial(context, split=partial(split, every=every))
            yield Mistake(f"the {what} is {which}, as in grouped-query attention", {CONTEXT: step}, rare=True)
        else:

            def of_scores(f: Forward, name: str, every: int = every) -> Array:
                query, key = f.split(f[same_layer(name, QUERY)]), split(f, f[same_layer(name, KEY)], every)
                return query @ key.swapaxes(2, 3) / np.sqrt(query.shape[-1])

            yield Mistake(f"the {what} is {which}, as in grouped-query attention", {SCORES: of_scores}, rare=True)


def wrong_products() -> Iterator[Mistake]:
    def exchanged(f: Forward, name: str) -> Array:
        return scores(f, name).swapaxes(2, 3)

    def looked_up(f: Forward, name: str) -> Array:
        return merge(f[same_layer(name, PROBS)].swapaxes(2, 3) @ f.split(f[same_layer(name, VALUE)]))

    yield Mistake("query and key change places in the scores", {SCORES: exchanged})
    yield Mistake("the value is looked up with the transposed probabilities", {CONTEXT: looked_up}, scope="padding")
    for kind, what in ((KEY, "key"), (QUERY, "query")):
        yield Mistake(
            f"the {what} is looked up in place of the value",
            {CONTEXT: partial(looked_up_in, kind=kind)},
        )
    for a, what in ((QUERY, "query with itself"), (KEY, "key with itself")):
        yield Mistake(f"the scores compare the {what}", {SCORES: partial(product_with_itself, kind=a)})
    yield Mistake(
        "the value is looked up with the scores: there is no softmax",
        {PROBS: lambda f, name: np.where(blocked(f), 0, f[same_layer(name, SCORES)])},
    )
    yield Mistake(
        "the input of the layer is looked up in place of the value",
        {CONTEXT: lambda f, name: merge(f[same_layer(name, PROBS)] @ f.split(f.layer_input(name)))},
    )


def looked_up_in(f: Forward, name: str, kind: str) -> Array:
    return merge(f[same_layer(name, PROBS)] @ f.split(f[same_layer(name, kind)]))


def product_with_itself(f: Forward, name: str, kind: str) -> Array:
    values = f.split(f[same_layer(name, kind)])
    return values @ values.swapaxes(2, 3) / np.sqrt(values.shape[-1])


def wrong_softmax() -> Iterator[Mistake]:
    over_queries = "the softmax runs over the queries; it runs over the keys"
    for sentence, way in (
        (over_queries, lambda f, s: softmax_over(2, s, blocked(f))),
        (over_queries, softmax_over_tokens),
        (over_queries, lambda f, s: np.where(blocked(f), 0, softmax_over(2, s, blocked(f)))),
        (over_queries + ", and there is no mask", lambda f, s: textbook.softmax(s.swapaxes(2, 3)).swapaxes(2, 3)),
        (over_queries, lambda f, s: softmax_over(2, s, blocked(f) | blocked(f).swapaxes(2, 3))),
        ("the softmax runs over the heads; it runs over the keys", lambda f, s: softmax_over(1, s, blocked(f))),
        ("the softmax runs over the heads; it runs over the keys",
         lambda f, s: np.where(blocked(f), 0, softmax_over(1, s, blocked(f)))),
        ("the softmax runs over queries and keys together; it runs over the keys", over_all_of_a_head),
        ("the softmax runs over the keys of all heads together", over_all_heads),
        ("the softmax is applied twice", lambda f, s: once_more(f, softmax_over(3, s, blocked(f)))),
        ("the softmax has 2 as its base; it is e", lambda f, s: softmax_over(3, s * np.log(2), blocked(f))),
        ("the softmax has one more in its denominator", lambda f, s: one_more(s, blocked(f), shifted=False)),
        ("the softmax has one more in its denominator, after the maximum is subtracted",
         lambda f, s: one_more(s, blocked(f), shifted=True)),
        ("the probabilities are logarithms of them (log_softmax)",
         lambda f, s: np.log(np.maximum(softmax_over(3, s, blocked(f)), 1e-300))),
        ("the softmax is a sigmoid of each score", lambda f, s: np.where(blocked(f), 0, 0.5 + 0.5 * np.tanh(s / 2))),
        ("the probabilities are not divided by their sum", lambda f, s: unnormalized(s, blocked(f))),
        ("the largest score takes all: argmax instead of softmax", lambda f, s: winner(s, blocked(f))),
        ("the scores are squashed by tanh (soft-capping by 50)",
         lambda f, s: softmax_over(3, 50 * np.tanh(s / 50), blocked(f))),
        ("the scores are clamped to ±10", lambda f, s: softmax_over(3, np.clip(s, -10, 10), blocked(f))),
        ("the scores are clamped to ±5", lambda f, s: softmax_over(3, np.clip(s, -5, 5), blocked(f))),
    ):  # fmt: skip
        yield Mistake(sentence, {PROBS: partial(probabilities, way=way)}, scope="padding")
    yield Mistake(
        "the softmax runs over the texts; it runs over the keys",
        {PROBS: partial(probabilities, way=lambda f, s: softmax_over(0, s, blocked(f)))}, scope="batch",
    )  # fmt: skip


def probabilities(f: Forward, name: str, way: Callable[[Forward, Array], Array]) -> Array:
    return way(f, f[same_layer(name, SCORES)])


def softmax_over(axis: int, s: Array, hidden: Array) -> Array:
    """softmax over this axis of the scores, with −∞, as far as float64 has it, where they are hidden."""
    return textbook.softmax(np.where(hidden, -1e300, s).swapaxes(axis, 3)).swapaxes(axis, 3)


def softmax_over_tokens(f: Forward, s: Array) -> Array:
    """softmax over the queries in a program that leaves padding out: neither keys nor queries are there."""
    real = (f.inputs.attention_mask != 0)[:, None, :, None] & ~blocked(f)  # (b, 1, n queries, n keys)
    e = np.where(real, np.exp(s - s.max((2, 3), keepdims=True)), 0)
    return e / np.maximum(e.sum(2, keepdims=True), 1e-300)


def over_all_of_a_head(f: Forward, s: Array) -> Array:
    b, h, n, _ = s.shape
    s = np.where(blocked(f), -1e300, s)
    return textbook.softmax(s.reshape(b, h, n * n)).reshape(s.shape)


def over_all_heads(f: Forward, s: Array) -> Array:
    b, h, n, _ = s.shape
    s = np.where(blocked(f), -1e300, s).swapaxes(1, 2)  # (b, n, h, n)
    return textbook.softmax(s.reshape(b, n, h * n)).reshape(s.shape).swapaxes(1, 2)


def once_more(f: Forward, probs: Array) -> Array:
    return softmax_over(3, probs, blocked(f))


def one_more(s: Array, hidden: Array, shifted: bool) -> Array:
    s = np.where(hidden, -1e300, s)
    top = s.max(3, keepdims=True) if shifted else np.maximum(s.max(3, keepdims=True), 0)
    e = np.exp(s - top)
    return e / (e.sum(3, keepdims=True) + (1 if shifted else np.exp(-top)))


def winner(s: Array, hidden: Array) -> Array:
    s = np.where(hidden, -np.inf, s)
    return np.asarray(s == s.max(3, keepdims=True), np.float64)


def unnormalized(s: Array, hidden: Array) -> Array:
    s = np.where(hidden, -1e300, s)
    return np.exp(s - s.max(3, keepdims=True))


def interleaved(f: Forward, values: Array) -> Array:
    b, n = values.shape[:2]
    return values.reshape(b, n, -1, f.inputs.num_attention_heads).transpose(0, 3, 1, 2)  # (b, n, k, h) -> (b, h, n, k)


def from_interleaved(values: Array) -> Array:
    b, h, n, k = values.shape
    return values.transpose(0, 2, 3, 1).reshape(b, n, h * k)  # (b, h, n, k) -> (b, n, k, h) -> (b, n, d)


def unmoved(f: Forward, values: Array) -> Array:
    b, n = values.shape[:2]
    return values.reshape(b, f.inputs.num_attention_heads, n, -1)


def from_unmoved(values: Array) -> Array:
    b, h, n, k = values.shape
    return values.reshape(b, n, h * k)


def rotated() -> Iterator[Mistake]:
    """Rotary positions (Su et al. 2021), which newer models have, in a program that was made of one of them."""
    for halves, layout in ((True, "halves"), (False, "pairs")):
        yield Mistake(
            f"query and key are rotated by their positions (RoPE, in {layout}); RoBERTa's are in the embeddings",
            {SCORES: partial(scores, split=partial(split_and_rotate, halves=halves))},
        )


def split_and_rotate(f: Forward, values: Array, halves: bool) -> Array:
    x = f.split(values)  # (b, h, n, k)
    n, k = x.shape[2:]
    half = k // 2
    angles = np.arange(n)[:, None] * 10000.0 ** (-np.arange(half) / half)
    first, second = (x[..., :half], x[..., half : 2 * half]) if halves else (x[..., 0 : 2 * half : 2], x[..., 1::2])
    a = first * np.cos(angles) - second * np.sin(angles)
    b = second * np.cos(angles) + first * np.sin(angles)
    turned = np.concatenate([a, b], -1) if halves else np.stack([a, b], -1).reshape(*a.shape[:-1], 2 * half)
    return np.concatenate([turned, x[..., 2 * half :]], -1)
