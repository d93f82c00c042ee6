"""Mistakes in the attention mask: who looks at whom, and what is added to whose score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Literal

import numpy as np

from numroberta import textbook
from numroberta.parity.mistakes.attention import probabilities
from numroberta.parity.names import CONTEXT, KEY, PROBS, QUERY, SCORES, VALUE, same_layer
from numroberta.parity.steps import Array, Forward, Inputs, Mistake, Step, blocked, merge, scores

NEVER = -1e300  # −∞ as far as float64 has it, so that a row of nothing else is still a softmax
Hidden = Callable[[Forward, Array], Array]  # the pass and the scores -> what is added to them
Sees = Callable[[Array, Array], Array]  # the numbers of two texts -> whether tokens of the first look at the second


def mistakes(inputs: Inputs) -> Iterator[Mistake]:
    terms: tuple[tuple[str, Hidden], ...] = (
        ("the softmax runs over padding too: the mask is not applied", lambda f, s: np.zeros(1)),
        ("the mask is inverted: tokens look at padding only", lambda f, s: never(~blocked(f))),
        ("a causal mask is applied; every token may look at every other", lambda f, s: never(blocked(f) | later(s))),
        ("a causal mask is applied in place of the mask of padding", lambda f, s: never(later(s))),
        ("a causal mask is applied the other way round: no token sees one before it",
         lambda f, s: never(blocked(f) | later(s).T)),
        ("no token may look at itself", lambda f, s: never(blocked(f) | np.eye(s.shape[3], dtype=bool))),
        ("the mask of 0 and 1 is added to the scores; padding must become −∞", lambda f, s: 1.0 * ~blocked(f)),
        ("1 is added to padded scores; they must become −∞", lambda f, s: 1.0 * blocked(f)),
        *((f"{show(by)} is added to padded scores, too little to hide them; they must become −∞",
           partial(added_to_padding, by=by)) for by in (-1, -2, -5, -8, -10, -20, -30, -50, -100)),
        ("the mask has its sign turned: padded scores become +10,000", partial(added_to_padding, by=1e4)),
        ("the mask is on the axis of the queries; it is on that of the keys",
         lambda f, s: never(blocked(f).swapaxes(2, 3))),
        ("the mask is on the queries and the keys", lambda f, s: never(blocked(f) | blocked(f).swapaxes(2, 3))),
        ("</s> is masked", lambda f, s: never(blocked(f) | last_token(f))),
        ("<s> is masked", lambda f, s: never(blocked(f) | first_token(f))),
        ("<s> and </s> are masked", lambda f, s: never(blocked(f) | first_token(f) | last_token(f))),
        ("the mask ends one token too late", lambda f, s: never(blocked(f) & ~after_last(f))),
        ("the mask is as if padding were on the left", lambda f, s: never(blocked(f)[..., ::-1])),
        *((f"a token sees only the {w} tokens on each side (a window)",
           partial(window, width=w)) for w in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 32, 64, 128)),
        *((f"a token sees only itself and the {w} tokens before it (a sliding window)",
           partial(window, width=w, causal=True)) for w in (1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64)),
        *((f"a token sees only its own block of {size} tokens (local attention)",
           partial(in_blocks, size=size)) for size in (2, 4, 8, 16, 32, 64)),
        ("the mask is shifted by one token to the right", lambda f, s: never(np.roll(blocked(f), 1, 3))),
        ("the mask is shifted by one token to the left", lambda f, s: never(np.roll(blocked(f), -1, 3))),
        *((f"the mask hides the tokens of id {i}, as if that were padding",
           partial(hiding, ids=(i,))) for i in (0, 2, 3)),
        *((f"the mask hides the tokens of id {i} besides padding", partial(hiding, ids=(i, None))) for i in (0, 2, 3)),
        ("the mask hides <mask> besides padding",
         lambda f, s: never(blocked(f) | (f.inputs.input_ids == vocabulary(f) - 1)[:, None, None, :])),
        *((f"a token sees only the {w} tokens on each side, <s> all and all <s> (as in Longformer)",
           partial(window_and_first, width=w)) for w in (1, 2, 3, 4, 8, 16)),
        ("the query of <s> sees only itself", lambda f, s: never(blocked(f) | (
            first_token(f).swapaxes(2, 3) & ~first_token(f)))),
        ("every token sees only <s>", lambda f, s: never(~first_token(f))),
        ("every token sees only itself", lambda f, s: never(~np.eye(s.shape[3], dtype=bool))),
        ("the mask is on the last keys of the whole batch's width, whatever the text's length",
         lambda f, s: never(np.arange(s.shape[3]) >= f.inputs.attention_mask.sum(1).min())),
        ("a bias that grows with the distance is added to the scores (ALiBi)", alibi),
        *((f"no token sees the last {count} of its text", partial(hiding_last, count=count)) for count in (2, 3, 4)),
        *((f"no token sees those from place {start} on", partial(hiding_places, places=slice(start, None)))
          for start in range(2, inputs.input_ids.shape[1])),
        *((f"no token sees the one at place {place}", partial(hiding_places, places=slice(place, place + 1)))
          for place in range(1, min(inputs.input_ids.shape[1], 9))),
    )  # fmt: skip
    yield from in_probs_or_scores(terms, "padding")
    yield from in_probs_or_scores(
        (
            ("the mask is that of the next text in the batch", lambda f, s: never(np.roll(blocked(f), -1, 0))),
            ("the mask is that of the text before it in the batch", lambda f, s: never(np.roll(blocked(f), 1, 0))),
            ("the mask of the first text is used for all", lambda f, s: never(blocked(f)[:1])),
            ("the mask of the last text is used for all", lambda f, s: never(blocked(f)[-1:])),
            ("the masks are repeated in the wrong order: texts by turns for the heads of one text (tiled)", tiled),
            ("the masks are repeated in the wrong order: one text's for as many texts as it has heads", repeated),
            ("the masks of the batch are in reverse", lambda f, s: never(blocked(f)[::-1])),
            (
                "a key is hidden if it is padding in any text",
                lambda f, s: never(np.asarray(blocked(f).any(0, keepdims=True))),
            ),
            (
                "a key is hidden only if it is padding in every text",
                lambda f, s: never(np.asarray(blocked(f).all(0, keepdims=True))),
            ),
        ),
        "batch",
    )
    for sentence, way in (
        ("padded scores are set to 0 before the softmax; they must become −∞",
         lambda f, s: textbook.softmax(np.where(blocked(f), 0, s))),
        ("padded scores are set to 1e-9 before the softmax; they must become −∞ (−1e9)",
         lambda f, s: textbook.softmax(np.where(blocked(f), 1e-9, s))),
        ("scores are multiplied by the mask of 0 and 1 and by −10,000",
         lambda f, s: textbook.softmax(s * np.where(blocked(f), -1e4, 1))),
        ("padded probabilities are set to 0 after the softmax, so that a row no longer sums to 1",
         lambda f, s: np.where(blocked(f), 0, textbook.softmax(s))),
    ):  # fmt: skip
        yield Mistake(sentence, {PROBS: partial(probabilities, way=way)}, scope="padding")
    for which, hidden in (("last", last_token), ("first", first_token)):
        yield Mistake(
            f"the value of the {which} token is not added to the context; the probabilities are right",
            {CONTEXT: partial(context_without, hidden=hidden)}, scope="padding",
        )  # fmt: skip
    for sentence, sees in (
        ("texts see each other: the batch is packed without a mask between them", lambda i, j: i + j >= 0),
        ("each text sees the text before it too: the packed masks overlap", lambda i, j: (i - j) // 2 == 0),
        ("each text sees the text after it too: the packed masks overlap", lambda i, j: (j - i) // 2 == 0),
        ("each text sees all texts before it too: the packed masks are causal", lambda i, j: i >= j),
    ):
        steps: dict[str, Step] = {PROBS: partial(packed_probs, sees=sees), CONTEXT: partial(packed_context, sees=sees)}
        yield Mistake(sentence, steps, scope="batch")


def in_probs_or_scores(terms: Iterable[tuple[str, Hidden]], scope: Literal["padding", "batch"]) -> Iterator[Mistake]:
    """The mistake where the softmax is, and in the scores: the program may have recorded them with the mask in them."""
    for sentence, term in terms:
        yield Mistake(sentence, {PROBS: partial(masked_softmax, term=term)}, scope=scope)
        yield Mistake(sentence, {SCORES: partial(masked_scores, term=term)}, rare=True, scope=scope)


def show(number: float) -> str:
    return f"{number:,}".replace("-", "−")


def never(hidden: Array) -> Array:
    return np.where(hidden, NEVER, 0.0)


def masked_softmax(f: Forward, name: str, term: Hidden) -> Array:
    s = f[same_layer(name, SCORES)]
    return textbook.softmax(np.maximum(s + term(f, s), NEVER))


def masked_scores(f: Forward, name: str, term: Hidden) -> Array:
    s = scores(f, name)
    return np.maximum(s + term(f, s), NEVER)


def added_to_padding(f: Forward, s: Array, by: float) -> Array:
    return by * blocked(f)


def later(s: Array) -> Array:
    """(n, n): true where the key comes after the query."""
    return np.triu(np.ones(s.shape[2:], bool), 1)


def first_token(f: Forward) -> Array:
    """(b, 1, 1, n): true for the first token of each text."""
    mask = f.inputs.attention_mask != 0
    return (np.arange(mask.shape[1]) == mask.argmax(1)[:, None])[:, None, None, :]


def last_token(f: Forward) -> Array:
    mask = f.inputs.attention_mask != 0
    last = mask.shape[1] - 1 - mask[:, ::-1].argmax(1)
    return (np.arange(mask.shape[1]) == last[:, None])[:, None, None, :]


def after_last(f: Forward) -> Array:
    return np.roll(last_token(f), 1, 3)


def hiding_last(f: Forward, s: Array, count: int) -> Array:
    length = f.inputs.attention_mask.sum(1)[:, None]
    return never(blocked(f) | (np.arange(s.shape[3]) >= np.maximum(length - count, 1))[:, None, None, :])


def hiding_places(f: Forward, s: Array, places: slice) -> Array:
    hidden = np.zeros(s.shape[3], bool)
    hidden[places] = True
    return never(blocked(f) | hidden)


def window(f: Forward, s: Array, width: int, causal: bool = False) -> Array:
    n = s.shape[3]
    back = np.subtract.outer(np.arange(n), np.arange(n))  # how far the key lies before the query
    return never(blocked(f) | (back > width) | (back < 0 if causal else -back > width))


def vocabulary(f: Forward) -> int:
    return len(f.inputs.weights["embeddings.word_embeddings.weight"])


def hiding(f: Forward, s: Array, ids: tuple[int | None, ...]) -> Array:
    """Hides keys with one of these ids; None stands for padding."""
    hidden = blocked(f) if None in ids else np.zeros_like(blocked(f))
    return never(hidden | np.isin(f.inputs.input_ids, [i for i in ids if i is not None])[:, None, None, :])


def window_and_first(f: Forward, s: Array, width: int) -> Array:
    either = first_token(f) | first_token(f).swapaxes(2, 3)
    return never(blocked(f) | ((window(f, s, width) != 0) & ~either))


def in_blocks(f: Forward, s: Array, size: int) -> Array:
    block = np.arange(s.shape[3]) // size
    return never(blocked(f) | (block[:, None] != block))


def tiled(f: Forward, s: Array) -> Array:
    """Of text i and head j, numbered i · heads + j, the mask of text (i · heads + j) % texts."""
    b, h = s.shape[:2]
    return never(blocked(f)[np.arange(b * h).reshape(b, h) % b, 0, 0][:, :, None])


def repeated(f: Forward, s: Array) -> Array:
    """Of head j and text i, numbered j · texts + i, the mask of text (j · texts + i) // heads."""
    b, h = s.shape[:2]
    return never(blocked(f)[np.arange(h * b).reshape(h, b).T // h, 0, 0][:, :, None])


def alibi(f: Forward, s: Array) -> Array:
    """−m |i − j| with m = 2^(−8 h / heads) of head h: Press et al. 2021."""
    h, n = s.shape[1:3]
    slopes = 2.0 ** (-8 * np.arange(1, h + 1) / h)[:, None, None]
    return never(blocked(f)) - slopes * np.abs(np.subtract.outer(np.arange(n), np.arange(n)))


def context_without(f: Forward, name: str, hidden: Callable[[Forward], Array]) -> Array:
    probs = np.where(hidden(f), 0, f[same_layer(name, PROBS)])
    return merge(probs @ f.split(f[same_layer(name, VALUE)]))


def packed(f: Forward, name: str, sees: Sees) -> tuple[Array, Array]:
    """Probabilities and values where tokens of other texts are keys, too: (h, b·n, b·n), (h, b·n, k)."""

    def side_by_side(kind: str) -> Array:
        parts = f.split(f[same_layer(name, kind)]).swapaxes(0, 1)  # (b, h, n, k) -> (h, b, n, k)
        return parts.reshape(len(parts), -1, parts.shape[-1])

    query, key, value = (side_by_side(kind) for kind in (QUERY, KEY, VALUE))
    s = query @ key.swapaxes(1, 2) / np.sqrt(query.shape[-1])
    text = np.repeat(np.arange(len(f.inputs.attention_mask)), f.inputs.attention_mask.shape[1])
    hidden = (f.inputs.attention_mask.ravel() == 0) | ~sees(text[:, None], text)
    return textbook.softmax(np.maximum(s + never(hidden), NEVER)), value


def packed_probs(f: Forward, name: str, sees: Sees) -> Array:
    b, n = f.inputs.attention_mask.shape
    probs = packed(f, name, sees)[0].reshape(-1, b, n, b, n)
    return probs[:, np.arange(b), :, np.arange(b)]  # (h, b, n, b, n) -> (b, h, n, n), each text's own


def packed_context(f: Forward, name: str, sees: Sees) -> Array:
    b, n = f.inputs.attention_mask.shape
    probs, value = packed(f, name, sees)
    return (probs @ value).transpose(1, 0, 2).reshape(b, n, -1)  # (h, b·n, k) -> (b, n, d)
