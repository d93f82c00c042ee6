"""Blocks of texts: bounded, computed once for identical texts, long ones in windows; and `encode_stream` on top."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

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
    np.testing.assert_allclose(found[1], expected, atol=2e-6)  # measured: 2e-7
    np.testing.assert_allclose(found[[0, 2]], small.encode(SHORT[:2]), atol=1e-5)  # measured: 2.4e-7
    normal = next(small.encode_stream([LONG], long="split", normalize_embeddings=True))
    np.testing.assert_allclose(np.linalg.norm(normal), 1, atol=1e-6)  # measured: 6.0e-8


def test_split_reads_the_end_of_a_long_text_and_truncate_does_not(small):
    ends = [LONG + "the sand", LONG + "an error"]
    split = next(small.encode_stream(ends, long="split"))
    assert np.abs(split[0] - split[1]).max() > 1e-3
    with pytest.warns(UserWarning, match="2 of 2 texts have more than 64 tokens"):
        cut = np.concatenate(list(small.encode_stream(ends)))
    np.testing.assert_array_equal(cut[0], cut[1])


def test_error_names_the_text_and_its_tokens_and_wrong_options_are_refused_at_once(small):
    with pytest.raises(ValueError, match=r'sentences\[2\] has \d+ tokens, and 64 fit: "truncate" or "split" takes it'):
        list(small.encode_stream(["a", "b", LONG], long="error"))
    with pytest.raises(ValueError, match="long='cut', expected one of 'truncate', 'split', 'error'"):
        small.encode_stream([], long="cut")
    with pytest.raises(TypeError, match=r"sentences\[1\] is int, expected a string"):
        list(small.encode_stream(["a", 7]))
