"""Blocks of texts: bounded, computed once for identical texts, long ones in windows; and `encode_stream` on top."""

import json
import shutil
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import random_model
from hypothesis import given, strategies as st

import numroberta
from numroberta.arithmetic import heads
from numroberta.model import blocks as blocks_file
from numroberta.model.blocks import blocks, windows_of

SHORT = ["the sand", "an inner thing", "", "the sand"]
LONG = "the inner sand and " * 40


@given(st.lists(st.integers(0, 30)), st.integers(1, 8), st.integers(1, 60))
def test_blocks_hold_all_in_order_and_depend_only_on_what_came_before(sizes, texts, characters):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks_file, "BLOCK", texts)
        patch.setattr(blocks_file, "BLOCK_CHARACTERS", characters)
        found = list(blocks(sizes, lambda size: size))
        assert [size for block in found for size in block] == sizes
        assert all(1 <= len(block) <= texts and sum(block[:-1]) < characters for block in found)
        done = 0
        for number, block in enumerate(found):
            assert list(blocks(sizes[done:], lambda size: size)) == found[number:]
            done += len(block)


@given(st.integers(0, 300), st.integers(4, 70), st.integers(1, 2))
def test_windows_cover_every_token_and_share_an_eighth(length, size, head):
    ids = [*range(-head, 0), *range(1, length + 1), -9]
    windows = windows_of(ids, size, head)
    assert all(window[:head] == ids[:head] and window[-1] == -9 and len(window) <= size for window in windows)
    bodies = [window[head:-1] for window in windows]
    assert sorted({token for body in bodies for token in body}) == list(range(1, length + 1))
    shared = (size - head - 1) // 8
    for one, other in pairwise(bodies):
        assert other[:shared] == one[len(one) - shared :]
        assert len(one) == size - head - 1
    if len(ids) <= size:
        assert windows == [ids]


def test_a_stream_gives_what_encode_gives_and_reads_no_further_than_a_block(small):
    texts = [f"the sand {number} and {number % 7}" for number in range(2500)]
    read = 0

    def source():
        nonlocal read
        for text in texts:
            read += 1
            yield text

    blocks = []
    for block in small.encode_stream(source()):
        blocks.append(block)
        assert read == sum(map(len, blocks))  # not a text ahead
    np.testing.assert_array_equal(np.concatenate(blocks), small.encode(texts))
    assert [len(block) for block in blocks] == [1024, 1024, 452]


def test_identical_texts_of_a_block_are_computed_once(small, monkeypatch):
    computed = []
    run = type(small.model).run
    monkeypatch.setattr(
        type(small.model),
        "run",
        lambda self, texts, *rest, **more: (computed.append(len(texts)), run(self, texts, *rest, **more))[1],
    )
    vectors = small.encode(["the sand", "an inner thing"] * 700)
    assert computed == [2, 2]
    np.testing.assert_array_equal(vectors[0::2], np.broadcast_to(vectors[0], (700, 24)))
    np.testing.assert_array_equal(vectors[1::2], np.broadcast_to(vectors[1], (700, 24)))


@pytest.mark.parametrize("pooling", [None, "mean", "cls", "max"])
def test_split_leaves_the_bits_of_short_texts_as_they_are(small, pooling):
    whole = next(small.encode_stream(SHORT, pooling=pooling))
    split = next(small.encode_stream(SHORT, pooling=pooling, long="split"))
    np.testing.assert_array_equal(split, whole)


def test_split_is_the_mean_of_the_windows_weighted_by_their_tokens(small):
    ids = small.tokenizer(LONG, truncation=False).ids
    windows = windows_of(ids, small.max_length)
    assert len(windows) > 2
    weights = np.array([len(window) for window in windows], float)
    expected = weights @ small.vectors(windows).astype(float) / weights.sum()
    found = next(small.encode_stream([SHORT[0], LONG, SHORT[1]], long="split"))
    np.testing.assert_allclose(found[1], expected, rtol=0, atol=4e-7)  # measured: 1.2e-7
    np.testing.assert_allclose(found[[0, 2]], small.encode(SHORT[:2]), rtol=0, atol=8e-7)  # measured: 2.4e-7
    normal = next(small.encode_stream([LONG], long="split", normalize_embeddings=True))
    np.testing.assert_allclose(np.linalg.norm(normal), 1, rtol=0, atol=2.4e-7)  # measured: 6.0e-8


def test_split_reads_the_end_of_a_long_text_and_truncate_does_not(small):
    ends = [LONG + "the sand", LONG + "an error"]
    split = next(small.encode_stream(ends, long="split"))
    assert np.abs(split[0] - split[1]).max() > 1e-3
    with pytest.warns(UserWarning, match="2 of 2 texts have more than 64 tokens"):
        cut = np.concatenate(list(small.encode_stream(ends)))
    np.testing.assert_allclose(cut[0], cut[1], rtol=0, atol=4.8e-7)  # on one core, side by side: 1.2e-7


@pytest.mark.parametrize("text", ["the inner sand and the rest ", "In the rain: "])
def test_each_of_several_equal_long_texts_counts(small, text):
    """They are computed once, but each is a text that was cut."""
    long = text * 40
    beyond = len(small.tokenizer(long, truncation=False)) - 64
    texts = ["the sand", long, "the sand", long, long, "an error"]
    with pytest.warns(
        UserWarning, match=rf"^3 of 6 texts have more than 64 tokens: .* {3 * beyond:,} tokens were left"
    ):
        small.encode(texts)
    block = small.embedder().tokenize(texts)
    assert block.beyond == [0, beyond, 0, beyond, beyond, 0]
    assert block.tokens == [len(small.tokenizer(text, truncation=False)) for text in texts]
    with pytest.raises(ValueError, match=r"sentences\[1\] has"):
        list(small.encode_stream(texts, long="error"))


def test_split_texts_are_weighted_without_a_prompt_that_is_not_pooled(small_folder, tmp_path):
    """The last window is a short one, so its weight shows whether the prompt's tokens count."""
    shutil.copytree(small_folder, tmp_path, dirs_exist_ok=True)
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": kind} for kind in ("Transformer", "Pooling")]
    (tmp_path / "modules.json").write_text(json.dumps([{**modules[0], "path": ""}, modules[1]]))
    (tmp_path / "Pooling").mkdir()
    (tmp_path / "Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true, "include_prompt": false}')
    encoder = numroberta.load(tmp_path)
    prompt = "a prompt of many tokens: "
    head = len(encoder.tokenizer(prompt)) - 1
    ids = encoder.tokenizer(prompt + LONG[:150], truncation=False).ids
    windows = windows_of(ids, 64, head)
    assert len(windows) > 2
    assert len(windows[-1]) < 64
    weights = [len(window) - head for window in windows]
    means = [encoder.model([window]).last_hidden_state[0, head:].mean(0) for window in windows]
    expected = sum(weight * mean for weight, mean in zip(weights, means, strict=True)) / sum(weights)
    (block,) = encoder.encode_stream([LONG[:150]], prompt=prompt, long="split")
    np.testing.assert_allclose(block[0], expected, rtol=0, atol=4e-7)  # measured: 1.2e-7


def test_long_texts_are_split_on_two_threads_as_on_one(small_folder):
    texts = [f"{number} {LONG}" for number in range(12)]
    one, two, same = (
        numroberta.load(small_folder, num_threads=threads, deterministic=deterministic)
        for threads, deterministic in ((1, True), (2, False), (2, True))
    )
    expected = next(one.encode_stream(texts, long="split"))
    np.testing.assert_allclose(
        next(two.encode_stream(texts, long="split")), expected, rtol=0, atol=8e-7
    )  # measured: 2.4e-7
    np.testing.assert_array_equal(next(same.encode_stream(texts, long="split")), expected)


HEAD_CALLS = {
    "fill_mask": lambda model, texts: model.fill_mask([f"{text} <mask>" for text in texts]),
    "classify": lambda model, texts: model.classify(texts),
    "tag": lambda model, texts: model.tag(texts),
}


@pytest.mark.parametrize("method", HEAD_CALLS)
def test_heads_answer_a_block_of_texts_after_the_other(model_with, method, monkeypatch):
    """Memory does not grow with the number of texts."""
    model, texts = model_with(method), [f"the sand {number}" for number in range(10)]
    expected = [HEAD_CALLS[method](model, [text])[0] for text in texts]
    seen = []
    run = type(model.model).run
    monkeypatch.setattr(blocks_file, "BLOCK", 4)
    monkeypatch.setattr(
        type(model.model),
        "run",
        lambda self, rows, *rest, **more: (seen.append(len(rows)), run(self, rows, *rest, **more))[1],
    )
    found = HEAD_CALLS[method](model, texts)
    assert seen == [4, 4, 2]
    assert [[part["start"] if method == "tag" else 0 for part in answers] for answers in found] == [
        [part["start"] if method == "tag" else 0 for part in answers] for answers in expected
    ]
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(
            [part["score"] for part in mine], [part["score"] for part in theirs], rtol=0, atol=1e-6
        )  # measured: 4.2e-7


def test_filling_masks_keeps_no_logits(tmp_path):
    """20,000 logits a mask are 80 KB: those of 400 texts, if they were kept, 32 MB."""
    folder = random_model.write(tmp_path, heads.MASKED_LM, vocab_size=20_000)
    model = numroberta.load(folder, num_threads=1)
    model.fill_mask(["the <mask>"], targets=["Ġthe"])
    tracemalloc.start()
    model.fill_mask([f"the <mask> {number}" for number in range(400)], top_k=2, targets=["Ġthe", "Ġand"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000  # measured: 2.5 MB


def test_error_names_the_text_and_its_tokens_and_wrong_options_are_refused_at_once(small):
    with pytest.raises(ValueError, match=r'sentences\[2\] has \d+ tokens, and 64 fit: "truncate" or "split" takes it'):
        list(small.encode_stream(["a", "b", LONG], long="error"))
    with pytest.raises(ValueError, match="long='cut', expected one of 'truncate', 'split', 'error'"):
        small.encode_stream([], long="cut")
    with pytest.raises(TypeError, match=r"sentences\[1\] is int, expected a string"):
        list(small.encode_stream(["a", 7]))
