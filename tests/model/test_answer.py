"""Answers in detail, on logits of our choice or by what the model is given: no PyTorch needed."""

import re

import numpy as np
import pytest
import random_model

import numroberta
from numroberta.arithmetic import heads
from numroberta.model.answer import answers

CONTEXT = "One fine day the rain came. Two days later the sand was dry."
OPTIONS = {"top_k": 5, "max_answer_len": 15, "align_to_words": False, "handle_impossible_answer": False}


def window(model, first, last, *, context=CONTEXT, sure=20.0, nothing=0.0):
    """An encoding whose logits are sure of the tokens from character `first` to `last`, or of <s>: no answer."""
    encoding = model.tokenizer("What?", context)
    logits = np.zeros((2, len(encoding)), np.float32)
    places = [i for i, side in enumerate(encoding.sequence_ids) if side == 1]
    logits[0, next(i for i in places if encoding.offsets[i][0] >= first)] = sure
    logits[1, next(i for i in places if encoding.offsets[i][1] >= last)] = sure
    logits[:, 0] = nothing
    return encoding, logits


def place(words, context=CONTEXT):
    return context.index(words), context.index(words) + len(words)


# --- What a score is ------------------------------------------------------------------------------------------------


def test_windows_that_give_the_same_words_add_up(small):
    """As in transformers' pipeline: so a score may exceed 1, which the docstring of `answer` says."""
    both = [window(small, *place("the rain")), window(small, *place("the rain"))]
    (one, *_), (two, *_) = answers(CONTEXT, both[:1], **OPTIONS), answers(CONTEXT, both, **OPTIONS)
    assert one["answer"] == two["answer"] == "the rain"
    assert two["score"] == pytest.approx(2 * one["score"], abs=1e-6)
    assert two["score"] > 1
    assert "exceed 1" in numroberta.TextEncoder.answer.__doc__


def test_the_same_words_in_another_case_are_one_answer(small):
    context = "Rain fell. No rain fell."
    both = [
        window(small, *place("Rain", context), context=context),
        window(small, *place("rain", context), context=context),
    ]
    found = answers(context, both, **OPTIONS)
    assert found[0]["answer"] == "Rain"
    assert found[0]["score"] == pytest.approx(2, abs=1e-3)


def test_no_answer_is_as_likely_as_in_the_window_that_is_least_sure_of_it(small):
    options = {**OPTIONS, "handle_impossible_answer": True}
    sure = window(small, *place("the rain"), sure=0.0, nothing=20.0)
    unsure = window(small, *place("the rain"), sure=20.0, nothing=0.0)
    for windows in ([sure, unsure], [unsure, sure]):
        found = answers(CONTEXT, windows, **options)
        assert found[0]["answer"] == "the rain"
        assert next((one["score"] for one in found if not one["answer"]), 0) < 1e-6
    (best, *_) = answers(CONTEXT, [sure], **options)
    assert (best["answer"], best["start"], best["end"]) == ("", 0, 0)
    assert best["score"] == pytest.approx(1, abs=1e-6)


def test_where_nothing_else_is_possible_there_is_no_answer(small):
    """In float32, exp(−200) is 0: every span has the score 0."""
    found = answers(CONTEXT, [window(small, *place("the rain"), sure=0.0, nothing=200.0)], **OPTIONS)
    assert found == [{"score": 1.0, "start": 0, "end": 0, "answer": ""}]


# --- Which words ----------------------------------------------------------------------------------------------------


def test_spans_of_tokens_that_are_one_span_of_words_are_one_answer(small):
    """So many more spans are looked at than answers are asked for."""
    context = "unbelievable"
    encoding = small.tokenizer("What?", context)
    logits = np.zeros((2, len(encoding)), np.float32)  # every span is as likely as any other
    found = answers(context, [(encoding, logits)], **{**OPTIONS, "top_k": 1, "align_to_words": True})
    inside = sum(side == 1 for side in encoding.sequence_ids)
    assert [one["answer"] for one in found] == [context]
    one_span = 1 / (inside + 1) ** 2
    assert found[0]["score"] == pytest.approx(12 * one_span, rel=1e-4)  # 2 · top_k + 10 of them


def test_white_space_alone_is_no_answer(small):
    context = "dry \n\n\n sand"
    blank = context.index("\n")
    found = answers(context, [window(small, blank, blank + 1, context=context)], **OPTIONS)
    assert found
    assert all(one["answer"].strip() for one in found)
    assert all(context[one["start"] : one["end"]] == one["answer"] for one in found)


# --- How the context is read ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_reader(tmp_path_factory):
    """A model with RoBERTa's 512 positions that answers."""
    folder = random_model.write(tmp_path_factory.mktemp("long"), heads.SPAN, max_position_embeddings=514)
    return numroberta.load(folder)


def lengths(model, monkeypatch, *arguments, **options):
    """The tokens of each window that is run, and how many neighbours share."""
    seen = []
    run = type(model.model).run

    def recorded(self, texts, *rest, **more):
        seen.extend(ids.tolist() for ids, *_ in texts)
        return run(self, texts, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(type(model.model), "run", recorded)
        model.answer(*arguments, **options)
    asked = len(model.tokenizer(arguments[0], "", truncation=False)) - 1  # <s> question </s></s>, and without </s>
    first, second, *_ = (window[asked:-1] for window in [*seen, []])
    shared = next((k for k in range(len(first), 0, -1) if second[:k] == first[len(first) - k :]), 0)
    return [len(window) for window in seen], shared


def test_a_long_context_is_read_in_windows_of_384_tokens_that_share_128(long_reader, monkeypatch):
    context = " ".join(f"word{i}" for i in range(400))
    windows, shared = lengths(long_reader, monkeypatch, "Where is it?", context)
    assert len(windows) > 3
    assert windows[0] == 384
    assert shared == 128
    windows, shared = lengths(long_reader, monkeypatch, "Where is it?", context, max_seq_len=512)
    assert (windows[0], shared) == (512, 128)
    windows, shared = lengths(long_reader, monkeypatch, "Where is it?", context, max_seq_len=100)
    assert (windows[0], shared) == (100, 50)
    windows, shared = lengths(long_reader, monkeypatch, "Where is it?", context, max_seq_len=100, doc_stride=7)
    assert (windows[0], shared) == (100, 7)


def test_beside_a_long_question_windows_share_what_there_is_room_for(long_reader, monkeypatch):
    context = " ".join(f"word{i}" for i in range(60))
    windows, shared = lengths(long_reader, monkeypatch, "Where is it that you are? ", context, max_seq_len=50)
    room = 50 - len(long_reader.tokenizer("Where is it that you are? ", "", truncation=False))
    assert 0 < room <= 25
    assert (windows[0], shared) == (50, room // 2)


def test_the_doc_stride_that_is_refused_is_the_room_itself_and_one_less_is_taken(long_reader):
    def answer(stride):
        return long_reader.answer("Where is it?", CONTEXT * 10, max_seq_len=40, doc_stride=stride)

    with pytest.raises(ValueError, match="expected less than") as refused:
        answer(39)
    room = int(re.search(r"less than (\d+)", str(refused.value))[1])
    with pytest.raises(ValueError, match=f"doc_stride={room}, expected less than {room}"):
        answer(room)
    assert answer(room - 1)


@pytest.mark.parametrize(
    ("question", "options", "message"),
    [
        (
            "Where? " * 100,
            {},
            r"the question and the special tokens are \d+ tokens, which leaves no room for context in windows of 384: "
            "ask a shorter question$",
        ),
        (
            "Where is it?",
            {"max_seq_len": 10},
            "which leaves no room for context in windows of 10: ask a shorter question or give a larger max_seq_len$",
        ),
        (
            "Where is it?",
            {"max_seq_len": 40, "doc_stride": 39},
            r"doc_stride=39, expected less than \d\d: windows of 40",
        ),
        ("Where is it?", {"max_seq_len": 513}, "max_seq_len=513, this model reads 512 tokens"),
    ],
)
def test_what_leaves_no_room_is_said_in_the_callers_words(long_reader, question, options, message):
    with pytest.raises(ValueError, match=message):
        long_reader.answer(question, CONTEXT * 10, **options)
