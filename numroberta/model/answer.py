"""Where in a context the answer to a question stands, by the rules of `QuestionAnsweringPipeline` (transformers 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import fixed_order, heads
from numroberta.model.blocks import with_types
from numroberta.model.options import check_whole
from numroberta.model.scores import largest
from numroberta.model.texts import check_text
from numroberta.tokenizer import Encoding

if TYPE_CHECKING:
    from numroberta.model.text_encoder import TextEncoder

Array = NDArray[Any]

LONGEST_WINDOW = 384  # tokens, question included: the length that question answering is fine-tuned and evaluated at
MOST_SHARED = 128  # tokens that neighbouring windows share, if a window has twice as many


class Answer(TypedDict):
    """A span of the context, as transformers' pipeline gives it."""

    score: float
    start: int  # context[start:end] == answer
    end: int
    answer: str


def answer(
    encoder: TextEncoder,
    question: str,
    context: str,
    top_k: int,
    *,
    max_answer_len: int,
    doc_stride: int | None,
    max_seq_len: int | None,
    align_to_words: bool,
    handle_impossible_answer: bool,
) -> Answer | list[Answer]:
    """What `TextEncoder.answer` returns."""
    heads.require(encoder.checkpoint, heads.SPAN)
    check_whole("top_k", top_k, 1)
    check_whole("max_answer_len", max_answer_len, 1)
    for name, text in (("question", question), ("context", context)):
        if not check_text(text, name).strip():
            raise ValueError(f"the {name} is empty: give a text")
    windows = _windows(encoder, question, context, max_seq_len, doc_stride)
    model = encoder.model
    logits = model.run(
        with_types(model, windows),
        lambda output: heads.span(model.layers, output.last_hidden_state),
    )
    ranked = answers(
        context,
        list(zip(windows, logits, strict=True)),
        top_k=top_k,
        max_answer_len=max_answer_len,
        align_to_words=align_to_words,
        handle_impossible_answer=handle_impossible_answer,
    )
    return ranked[0] if top_k == 1 else ranked


def _windows(
    encoder: TextEncoder, question: str, context: str, max_seq_len: int | None, doc_stride: int | None
) -> list[Encoding]:
    """The question with each window of the context."""
    length = min(encoder.max_length, LONGEST_WINDOW)
    if max_seq_len is not None:
        length = check_whole("max_seq_len", max_seq_len, 1)
    if length > encoder.max_length:
        raise ValueError(f"max_seq_len={length}, this model reads {encoder.max_length} tokens")
    asked = len(encoder.tokenizer(question, "", truncation=False))  # with all special tokens
    room = length - asked
    if room < 1:
        raise ValueError(
            f"the question and the special tokens are {asked} tokens, which leaves no room for context in windows of "
            f"{length}: ask a shorter question" + ("" if max_seq_len is None else " or give a larger max_seq_len")
        )
    if doc_stride is None:
        shared = min(length // 2, MOST_SHARED)
        shared = shared if shared < room else room // 2  # beside a long question
    else:
        shared = check_whole("doc_stride", doc_stride, 0)
        if shared >= room and len(encoder.tokenizer(question, context, truncation=False)) > length:
            raise ValueError(
                f"doc_stride={doc_stride}, expected less than {room}: windows of {length} tokens have room for so many "
                "of the context"
            )
    first = encoder.tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=length,
        stride=shared,
        return_overflowing_tokens=True,
    )
    return [first, *first.overflowing]


def answers(
    context: str,
    windows: Sequence[tuple[Encoding, Array]],
    *,
    top_k: int,
    max_answer_len: int,
    align_to_words: bool,
    handle_impossible_answer: bool,
) -> list[Answer]:
    """The likeliest answers, the likeliest first; windows: encodings with logits, (2, tokens) each.

    The probability of a span is P(start) P(end), each a softmax over its window's context and <s>; <s> to <s> means
    that there is no answer (Rajpurkar et al. 2018).  An answer's score is the sum over the spans that spell it, in all
    windows, in whatever case, as in the pipeline: it exceeds 1 where several windows are sure of the same words.
    """
    by_words: dict[str, Answer] = {}
    no_answer = 1.0
    for encoding, logits in windows:
        allowed = np.array([side == 1 for side in encoding.sequence_ids])
        said = [_characters(encoding, i, i, align_to_words) for i in range(len(encoding))]
        visible = np.array([bool(context[start:end].strip()) for start, end in said])
        allowed[0] = True
        starts, ends = fixed_order.softmax(np.where(allowed, logits, -10000.0).astype(logits.dtype))
        no_answer = min(no_answer, float(starts[0] * ends[0]))
        starts[0] = ends[0] = 0
        spans = np.tril(np.triu(np.outer(starts, ends)), max_answer_len - 1)
        spans[~allowed] = spans[:, ~allowed] = 0
        until = np.cumsum(visible)
        spans[until[None, :] - until[:, None] + visible[:, None] == 0] = 0  # white space alone answers nothing
        # Several spans of tokens may be one span of words.
        for flat in largest(spans.ravel(), 2 * top_k + 10 if align_to_words else top_k):
            first, last = divmod(int(flat), len(encoding))
            score = float(spans[first, last])
            if score == 0:
                break
            start, end = _characters(encoding, first, last, align_to_words)
            words = context[start:end]
            known = by_words.setdefault(words.lower(), {"score": 0.0, "start": start, "end": end, "answer": words})
            known["score"] += score
    ranked = list(by_words.values())
    if handle_impossible_answer or not ranked:  # beside a sure "no answer", float32 may hold nothing else
        ranked.append({"score": no_answer, "start": 0, "end": 0, "answer": ""})
    return sorted(ranked, key=lambda answer: -answer["score"])[:top_k]


def _characters(encoding: Encoding, first: int, last: int, align_to_words: bool) -> tuple[int, int]:
    """From and to which character the tokens reach, or the words they belong to, as far as the window holds them."""
    if align_to_words:
        words = encoding.word_ids
        while encoding.sequence_ids[first - 1] == 1 and words[first - 1] == words[first]:
            first -= 1
        while last + 1 < len(encoding) and encoding.sequence_ids[last + 1] == 1 and words[last + 1] == words[last]:
            last += 1
    return encoding.offsets[first][0], encoding.offsets[last][1]
