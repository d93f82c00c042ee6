"""Mistakes in what is given to the model: other tokens, other texts, another order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import permutations

import numpy as np

from numroberta.parity.steps import Array, Inputs, Mistake

MOST_TEXTS = 4  # of which every order is tried; of more, only two at a time and turns


def mistakes(inputs: Inputs) -> Iterator[Mistake]:
    yield Mistake("the tokens of a text are in reverse", inputs=partial(of_tokens, change=lambda ids: ids[::-1]))
    yield Mistake(
        "the tokens between <s> and </s> are in reverse",
        inputs=lambda given: of_tokens(given, lambda ids: np.concatenate([ids[:1], ids[1:-1][::-1], ids[-1:]])),
    )
    yield Mistake("the ids of a row are in reverse, padding included",
                  inputs=lambda given: replace(given, input_ids=given.input_ids[:, ::-1]))  # fmt: skip
    yield Mistake("the ids of a row and its mask are in reverse: padding comes first",
                  inputs=lambda given: replace(given, input_ids=given.input_ids[:, ::-1],
                                               attention_mask=given.attention_mask[:, ::-1]))  # fmt: skip
    count = len(inputs.input_ids)
    for order in orders(count):
        moved = ", ".join(f"{i} is {j}" for i, j in enumerate(order) if i != j)
        yield Mistake(f"the texts are in another order: {moved}", inputs=partial(reordered, order=order))
    for i in range(count if count > 1 else 0):
        yield Mistake(f"every text is text {i}", inputs=partial(reordered, order=[i] * count))
    for sentence, tokens in (
        ("<s> and </s> are missing", lambda ids: ids[1:-1]),
        ("<s> is missing", lambda ids: ids[1:]),
        ("</s> is missing", lambda ids: ids[:-1]),
        ("<s> and </s> are exchanged", lambda ids: np.concatenate([ids[-1:], ids[1:-1], ids[:1]])),
        ("<s> stands twice at the beginning", lambda ids: np.concatenate([ids[:1], ids])),
        ("</s> stands twice at the end", lambda ids: np.concatenate([ids, ids[-1:]])),
        ("the tokens are shifted by one: the first is at the end", lambda ids: np.roll(ids, -1)),
        ("the tokens are shifted by one: the last is at the beginning", lambda ids: np.roll(ids, 1)),
        ("<s> is 101 and </s> is 102, as in BERT", lambda ids: np.concatenate([[101], ids[1:-1], [102]])),
        ("<s> is replaced by </s>", lambda ids: np.concatenate([ids[-1:], ids[1:]])),
        ("</s> is replaced by <s>", lambda ids: np.concatenate([ids[:-1], ids[:1]])),
        ("the last token of the text is missing before </s>", lambda ids: np.concatenate([ids[:-2], ids[-1:]])),
        ("the first token of the text is missing after <s>", lambda ids: np.concatenate([ids[:1], ids[2:]])),
    ):
        yield Mistake(sentence, inputs=partial(of_tokens, change=tokens))
    longest = int(inputs.attention_mask.sum(1).max(initial=0))
    for count in range(2, longest):
        yield Mistake(
            f"texts are cut to {count} tokens", inputs=partial(of_tokens, change=partial(cut, count=count)), rare=True
        )
        ending = partial(cut, count=count, ending=True)
        yield Mistake(
            f"texts are cut to {count} tokens, of which </s> is the last",
            inputs=partial(of_tokens, change=ending),
            rare=True,
        )
    mask_token = len(inputs.weights["embeddings.word_embeddings.weight"]) - 1
    if (inputs.input_ids == mask_token).any():
        yield Mistake("<mask> is read as <unk>", inputs=partial(replaced, old=mask_token, new=3))
    for sentence, turned in (
        ("the ids (texts, tokens) are taken for (tokens, texts)", lambda ids: ids.reshape(ids.shape[::-1]).T),
        ("the ids (tokens, texts) are taken for (texts, tokens)", lambda ids: ids.T.reshape(ids.shape)),
    ):
        if len(inputs.input_ids) > 1:
            yield Mistake(sentence, inputs=partial(with_ids, change=turned))
            yield Mistake(f"{sentence}, and the mask too", inputs=partial(with_ids, change=turned, mask_too=True))
    for index in (0, 2, 3):
        if index != inputs.padding_idx and not inputs.attention_mask.all():
            yield Mistake(
                f"padding has the id {index}; it is {inputs.padding_idx}",
                inputs=partial(padded_with, index=index),
            )


def cut(ids: Array, count: int, ending: bool = False) -> Array:
    return np.concatenate([ids[: count - 1], ids[-1:]]) if ending and len(ids) > count else ids[:count]


def replaced(given: Inputs, old: int, new: int) -> Inputs:
    return replace(given, input_ids=np.where(given.input_ids == old, new, given.input_ids))


def with_ids(given: Inputs, change: Callable[[Array], Array], mask_too: bool = False) -> Inputs:
    mask = change(given.attention_mask) if mask_too else given.attention_mask
    return replace(given, input_ids=change(given.input_ids), attention_mask=mask)


def orders(count: int) -> Iterator[list[int]]:
    """Orders of so many texts, without the right one."""
    right = list(range(count))
    if count <= MOST_TEXTS:
        yield from (list(order) for order in permutations(right) if list(order) != right)
        return
    yield right[::-1]
    yield from (right[i:] + right[:i] for i in range(1, count))
    for i in right:
        for j in right[i + 1 :]:
            yield [j if k == i else i if k == j else k for k in right]


def padded_with(given: Inputs, index: int) -> Inputs:
    return replace(given, input_ids=np.where(given.attention_mask != 0, given.input_ids, index))


def reordered(given: Inputs, order: list[int]) -> Inputs:
    return replace(given, input_ids=given.input_ids[order], attention_mask=given.attention_mask[order])


def of_tokens(given: Inputs, change: Callable[[Array], Array]) -> Inputs:
    """Each text's tokens changed; a row with fewer is filled with padding up to the width that is given."""
    texts = [change(ids[mask != 0]) for ids, mask in zip(given.input_ids, given.attention_mask, strict=True)]
    width = max([len(ids) for ids in texts] + [given.width])
    input_ids = np.full((len(texts), width), given.padding_idx)
    mask = np.zeros((len(texts), width), bool)
    for row, ids in enumerate(texts):
        input_ids[row, : len(ids)], mask[row, : len(ids)] = ids, True
    vocabulary = len(given.weights["embeddings.word_embeddings.weight"])
    return replace(given, input_ids=np.minimum(input_ids, vocabulary - 1), attention_mask=mask)
