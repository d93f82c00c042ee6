"""Texts and labels to examples: what the network reads, and what is to be learnt of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.tokenizer import Encoding, Tokenizer
from numroberta.training.tasks import REGRESSION, SINGLE, Answer, Classify, Distill, Embed, Example, MaskedLM, Tag, Task

Array = NDArray[Any]

NO_LABEL = -100  # of a token that has none, as in PyTorch
STRIDE = 128  # tokens that neighbouring windows of a long context share
MASKED = 0.15  # of the tokens; of them 8 in 10 become <mask>, 1 another token, and 1 stays (Devlin et al. 2018)


def examples(task: Task, tokenizer: Tokenizer, max_length: int, texts: Sequence[Any], labels: Any) -> list[Example]:
    """An example for each text; `Answer` has one for each window of a long context.

    Args:
        task: What is to be learnt.
        tokenizer: That of the checkpoint.
        max_length: The most tokens of a text; what is longer is cut.
        texts: Strings; pairs of strings where the task reads pairs.
        labels: One for each text, None where the task needs none.
            Classify: a label's name or number; a list of them (several labels); or a number (regression).
            Tag: spans (start, end, label) of characters, or a label for each word between blanks.
            Answer: (start, end) of characters in the context, None for no answer.
            Embed: scores from −1 to 1.
            Distill: the teacher's vectors, of the model's width.

    Raises:
        ValueError: A text has nothing in it, a label is none of the task's, or a text has none.
    """
    if labels is not None and len(labels) != len(texts):
        raise ValueError(f"{len(texts)} texts and {len(labels)} labels; expected one for each")
    needs_labels = not isinstance(task, MaskedLM) and not (isinstance(task, Embed) and not task.scored)
    if labels is None and needs_labels:
        raise ValueError(f"{type(task).__name__} learns from labels; there are none")
    for number, text in enumerate(texts):
        for part in text if isinstance(text, (tuple, list)) else [text]:
            if not isinstance(part, str) or not part.strip():
                raise ValueError(f"text {number + 1} is {part!r:.40}: there is nothing to learn from")
    if isinstance(task, Classify):
        rows = [tuple(text) if isinstance(text, list) else text for text in texts]
        if tokenizer.uses_type_ids:
            read = [(encoding.ids, types_of(encoding)) for encoding in tokenizer(rows, max_length=max_length)]
        else:
            read = [(ids, None) for ids in tokenizer.encode_ids(rows, max_length=max_length)[0]]
        numbers = {label: i for i, label in enumerate(task.labels)}
        return [
            Example(np.array(ids), class_target(label, numbers, task.problem_type), types)
            for (ids, types), label in zip(read, labels, strict=True)
        ]
    if isinstance(task, Tag):
        return [tagged(task, tokenizer, max_length, *row) for row in zip(texts, labels, strict=True)]
    if isinstance(task, Answer):
        return [example for row in zip(texts, labels, strict=True) for example in windows(tokenizer, max_length, *row)]
    if isinstance(task, Embed):
        first, second = (
            [np.array(row) for row in tokenizer.encode_ids([text[i] for text in texts], max_length=max_length)[0]]
            for i in range(2)
        )
        scores = [None] * len(texts) if labels is None else [float(score) for score in labels]
        return [Example(a, (b, score)) for a, b, score in zip(first, second, scores, strict=True)]
    ids, _ = tokenizer.encode_ids(list(texts), max_length=max_length)
    targets = [np.asarray(vector) for vector in labels] if isinstance(task, Distill) else [None] * len(ids)
    return [Example(np.array(row), target) for row, target in zip(ids, targets, strict=True)]


def types_of(encoding: Encoding) -> Array | None:
    """The token types of a pair, which BERT reads; None where all are 0."""
    return np.array(encoding.type_ids) if any(encoding.type_ids) else None


def class_target(label: Any, numbers: dict[str, int], problem_type: str) -> Any:
    """A label's number, zeros and ones, or a number."""
    if problem_type == REGRESSION:
        try:
            value = float(label)
        except (TypeError, ValueError):
            value = np.nan
        if not np.isfinite(value):
            raise ValueError(f"the label {label!r:.40} is no number, as regression needs")
        return value
    if problem_type == SINGLE:
        return _number(label, numbers)
    target = np.zeros(len(numbers))
    target[[_number(one, numbers) for one in label]] = 1
    return target


def _number(label: Any, numbers: dict[str, int]) -> int:
    if isinstance(label, (int, np.integer)) and not isinstance(label, bool) and 0 <= label < len(numbers):
        return int(label)
    if label not in numbers:
        raise ValueError(f"the label {label!r:.40} is none of {', '.join(map(repr, numbers))}")
    return numbers[label]


def word_spans(text: str, labels: Sequence[str]) -> list[tuple[int, int, str]]:
    """A label for each word between blanks, as spans of characters; ValueError where their numbers differ.

    >>> word_spans("Ann met Bo", ["B-PER", "O", "B-PER"])
    [(0, 3, 'B-PER'), (4, 7, 'O'), (8, 10, 'B-PER')]
    """
    words = text.split()
    if len(words) != len(labels):
        raise ValueError(f"{len(words)} words and {len(labels)} labels: {text!r:.60}")
    spans, end = [], 0
    for word, label in zip(words, labels, strict=True):
        start = text.index(word, end)
        end = start + len(word)
        spans.append((start, end, label))
    return spans


def tagged(task: Tag, tokenizer: Tokenizer, max_length: int, text: str, labels: Any) -> Example:
    """A token has the label of the span that it begins in: B- for the span's first token, I- for the others."""
    spans = labels if labels and not isinstance(labels[0], str) else word_spans(text, labels)
    numbers = {label: i for i, label in enumerate(task.labels)}
    encoding = tokenizer(text, max_length=max_length)
    target = np.full(len(encoding), NO_LABEL)
    outside = numbers.get("O", NO_LABEL)
    for place, ((start, stop), special) in enumerate(zip(encoding.offsets, encoding.special_tokens_mask, strict=True)):
        if special:
            continue
        span = next(((a, b, label) for a, b, label in spans if start < b and a < stop), None)
        if span is None:
            target[place] = outside
            continue
        first, _, label = span
        inside = f"I-{label[2:]}" if label.startswith("B-") else label
        target[place] = _number(label if start <= first or inside not in numbers else inside, numbers)
    return Example(np.array(encoding.ids), target)


def windows(
    tokenizer: Tokenizer, max_length: int, pair: tuple[str, str], span: tuple[int, int] | None
) -> list[Example]:
    """A question with each window of its context, and where the answer stands in it: 0, 0 where it does not."""
    question, context = pair
    encoding = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=max_length,
        stride=min(max_length // 4, STRIDE),
        return_overflowing_tokens=True,
    )
    found = []
    for part in [encoding, *encoding.overflowing]:
        inside = (
            []
            if span is None
            else [
                place
                for place, ((a, b), side) in enumerate(zip(part.offsets, part.sequence_ids, strict=True))
                if side == 1 and a < span[1] and span[0] < b
            ]
        )
        whole = bool(inside) and span is not None
        whole = whole and part.offsets[inside[0]][0] <= span[0] and span[1] <= part.offsets[inside[-1]][1]  # type: ignore[index]
        target = np.array([inside[0], inside[-1]] if whole else [0, 0])
        found.append(Example(np.array(part.ids), target, types_of(part)))
    return found


def masked(example: Example, tokenizer: Tokenizer, rng: np.random.Generator) -> Example:
    """Some tokens hidden, anew each time ("dynamic masking", Liu et al. 2019); the target is what they were."""
    ids, special = example.ids.copy(), special_ids(tokenizer)
    body = np.flatnonzero(~np.isin(ids, special))
    chosen = body[rng.random(len(body)) < MASKED]
    if not len(chosen):  # every text has something to learn
        chosen = rng.choice(body, 1)
    target = np.full(len(ids), NO_LABEL)
    target[chosen] = ids[chosen]
    what = rng.random(len(chosen))
    ids[chosen[what < 0.8]] = tokenizer.mask_token_id
    place, other = chosen[what >= 0.9], rng.integers(0, tokenizer.vocab_size, int((what >= 0.9).sum()))
    plain = ~np.isin(other, special)
    ids[place[plain]] = other[plain]
    return Example(ids, target)


def special_ids(tokenizer: Tokenizer) -> list[int]:
    """The ids of <s>, </s>, <pad>, <mask> and whatever else stands for no text."""
    kinds = ("bos", "eos", "cls", "sep", "unk", "pad", "mask")
    return [number for kind in kinds if (number := getattr(tokenizer, f"{kind}_token_id")) is not None]
