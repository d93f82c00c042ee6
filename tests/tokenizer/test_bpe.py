"""Byte-level BPE as an algorithm: nothing is lost, and merging is the rule in the docstring, only faster."""

import time
from itertools import pairwise

import pytest
from hypothesis import example, given, strategies as st

from numroberta.tokenizer.bpe import BYTE_TO_SYMBOL, ByteLevelBPE, Memo, split, to_symbols, to_text

TEXT = st.text(st.one_of(st.sampled_from("'s 've\t\n\x1c\u3000½Ⅷ_é😀"), st.characters(exclude_categories=["Cs"])))


@given(TEXT)
def test_words_joined_are_the_text(text):
    assert "".join(split(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("Hello world", ["Hello", " world"]),
        ("we're they'Re", ["we", "'re", " they", "'", "Re"]),
        ("’s it’s", ["’", "s", " it", "’", "s"]),  # only the straight apostrophe contracts
        ("a  b", ["a", " ", " b"]),
        ("a \n b ", ["a", " \n", " b", " "]),
        ("tail   ", ["tail", "   "]),
        ("x\u00a0y", ["x", "\u00a0", "y"]),
        ("x\u3000\u3000y", ["x", "\u3000", "\u3000", "y"]),
        ("a\x1cb", ["a", "\x1c", "b"]),  # not white space to a regex engine, though it is to str.isspace
        ("2½ Ⅷ", ["2½", " Ⅷ"]),
        ("e\u0301t", ["e", "\u0301", "t"]),  # a combining accent is no letter
        ("naïve123абв", ["naïve", "123", "абв"]),
        ("'é's", ["'", "é", "'s"]),
    ],
)
def test_split_is_gpt2s(text, words):
    assert split(text) == words


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_symbols_are_one_a_byte_and_come_back(text):
    symbols = to_symbols(text)
    assert len(symbols) == len(text.encode())
    assert set(symbols) <= set(BYTE_TO_SYMBOL)
    assert to_text([symbols]) == text
    assert to_text(symbols) == text


def test_the_alphabet_is_gpt2s():
    assert len(set(BYTE_TO_SYMBOL)) == 256
    assert to_symbols(" \n\tA~¡\xad") == "ĠĊĉA~Â¡ÂŃ"


def test_broken_utf8_becomes_replacement_characters():
    half = to_symbols("😀")[:2]
    assert to_text(["a", half, "b"]) == "a\ufffdb"
    assert to_text(["<with space>"]) == "<with space>"


def merge_slowly(word, merges):
    """The rule itself: of all neighbours take the pair that stands first in the list, the leftmost of those."""
    parts = list(to_symbols(word))
    while True:
        pairs = [f"{left} {right}" for left, right in pairwise(parts)]
        ranked = [(merges.index(pair), place) for place, pair in enumerate(pairs) if pair in merges]
        if not ranked:
            return tuple(parts)
        place = min(ranked)[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]


@st.composite
def merge_lists(draw):
    """Lists that training would never give too: a piece may be made in two ways, a late merge may feed an early one."""
    pieces = ["a", "b", "c"]
    merges = []
    for _ in range(draw(st.integers(0, 12))):
        left, right = draw(st.sampled_from(pieces)), draw(st.sampled_from(pieces))
        merges.append(f"{left} {right}")
        pieces.append(left + right)
    merges = draw(st.permutations(list(dict.fromkeys(merges))))
    return list(dict.fromkeys(pieces)), merges


@given(merge_lists(), st.text("abc", max_size=40))
@example((["a", "aa", "aaa"], ["aa a", "a a"]), "aaaaaaa")
def test_merging_with_a_heap_is_merging_by_the_rule(lists, word):
    pieces, merges = lists
    fast = ByteLevelBPE({piece: n for n, piece in enumerate(pieces)}, merges)
    assert fast.merge(word) == merge_slowly(word, merges)


def test_a_word_of_a_hundred_thousand_letters_takes_seconds_not_hours():
    encoder = ByteLevelBPE({"a": 0, "b": 1, "ab": 2, "abab": 3}, ["a b", "ab ab"])
    start = time.perf_counter()
    assert encoder.encode("ab" * 50_000) == [3] * 25_000
    assert time.perf_counter() - start < 20  # 0.4 s here; quadratic merging takes over an hour


def test_unknown_bytes_are_left_out_or_become_unk():
    vocab = {"a": 0, "b": 1, "ab": 2, "<unk>": 3}
    assert ByteLevelBPE(vocab, ["a b"]).encode("a?b") == [0, 1]
    assert ByteLevelBPE(vocab, ["a b"]).encode("zab") == [2]
    assert ByteLevelBPE(vocab, ["a b"], unk_id=3).encode("zab") == [3, 2]


def test_the_memory_for_words_is_bounded():
    memo = Memo(len, max_words=100)
    for number in range(250):
        assert memo[f"w{number}"] == len(f"w{number}")
        assert 1 <= len(memo) <= 100
    assert memo["x" * 10_000] == 10_000
    assert "x" * 10_000 not in memo
