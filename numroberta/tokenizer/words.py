"""Where a text's tokens and words are, and one vector for each word.

The tokenizer's pieces are finer than words and its windows shorter than books: here pieces become words, and windows
become one row of vectors, in which each token has been read with as much context as there was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numroberta.tokenizer.tokenizer import Encoding, Tokenizer
from numroberta.tokenizer.unicode16 import WHITE_SPACE
from numroberta.tokenizer.windows import Span

Array = NDArray[Any]

AGGREGATIONS = ("first", "mean")
BLANKS = {"Ġ", "▁"}  # pieces that are the space in front of a word and nothing of it


class TokenVectors(NamedTuple):
    """One text, token by token."""

    tokens: list[str]  # pieces in the vocabulary's spelling, with <s> and </s>
    offsets: list[Span]  # text[begin:end]; (0, 0) for <s> and </s>
    vectors: Array  # (tokens, hidden)


class WordVectors(NamedTuple):
    """One text, word by word."""

    words: list[str]
    offsets: list[Span]  # text[begin:end] == word
    vectors: Array  # (words, hidden)


class WordTokens(NamedTuple):
    """A text's tokens, and which of them make up each word."""

    ids: list[int]  # without <s> and </s>
    words: list[str]
    offsets: list[Span]
    members: list[list[int]]  # for each word the indices of its tokens


def words_in_text(text: str, encoding: Encoding) -> WordTokens:
    """The words of a text as its tokenizer cuts them; white space is not a word.

    RoBERTa's tokenizer cuts runs of letters, of digits and of other signs, and 's, 't, 're, 've, 'm, 'll, 'd; those of
    XLM-RoBERTa and CamemBERT cut at white space.
    """
    found = WordTokens([], [], [], [])
    last: int | None = None
    for number, token, (begin, end), word, special in zip(
        encoding.ids, encoding.tokens, encoding.offsets, encoding.word_ids, encoding.special_tokens_mask, strict=True
    ):
        if special:
            continue
        found.ids.append(number)
        if token in BLANKS or not text[begin:end].strip(WHITE_SPACE):
            continue
        index = len(found.ids) - 1
        if word == last:
            start, stop = found.offsets[-1]
            found.offsets[-1] = (start, max(stop, end))
            found.members[-1].append(index)
        else:
            found.offsets.append((begin, end))
            found.members.append([index])
        last = word
    for index, (begin, end) in enumerate(found.offsets):
        inside = text[begin:end]
        letters = inside.strip(WHITE_SPACE)
        begin += inside.index(letters)
        found.offsets[index] = (begin, begin + len(letters))
        found.words.append(letters)
    return found


def tokenize_words(words: Sequence[str], tokenizer: Tokenizer, blanks: set[int]) -> WordTokens:
    """Words that are cut already; offsets are those in `" ".join(words)`.

    tokenizer: one that puts a space in front of each word, as `is_split_into_words=True` does in transformers.
    Raises ValueError for a word that is empty or has white space in it.
    """
    for index, word in enumerate(words):
        if not isinstance(word, str):
            raise TypeError(f"words[{index}] is {type(word).__name__}, expected a string")
        if not word or any(character in WHITE_SPACE for character in word):
            what = "has white space in it" if word.strip(WHITE_SPACE) else "is no word"
            raise ValueError(f"words[{index}] is {word!r}, which {what}: give words as text.split() cuts them")
    found = WordTokens([], list(words), [], [])
    begin = 0
    for word, ids in zip(
        words, tokenizer.encode_ids(words, add_special_tokens=False, truncation=False)[0], strict=True
    ):
        first = len(found.ids)
        found.ids.extend(ids)
        found.offsets.append((begin, begin + len(word)))
        # A space that found no letters to merge with is not the word's first piece.
        own = [first + k for k, number in enumerate(ids) if number not in blanks]
        found.members.append(own or list(range(first, len(found.ids))))
        begin += len(word) + 1
    return found


def word_vectors(vectors: Array, members: Sequence[Sequence[int]], aggregation: str) -> Array:
    """Each word's first token or the mean of its tokens, (tokens, hidden) -> (words, hidden).

    A word that has no token, which some SentencePiece vocabularies leave out, gets zeros.
    """
    result = np.zeros((len(members), vectors.shape[1]), vectors.dtype)
    for row, own in zip(result, members, strict=True):
        if own:
            row[...] = vectors[own[0]] if aggregation == "first" else vectors[own].mean(axis=0)
    return result
