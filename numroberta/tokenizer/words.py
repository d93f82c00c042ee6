"""Which tokens make up each word of a text, and one vector per word.

A tokenizer cuts finer than words: "Ångström" is four tokens of one word.
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
BLANKS = {"Ġ", "▁"}  # the pieces of tokens that are the space in front of a word, and nothing of the word


class TokenVectors(NamedTuple):
    """One vector per token of a text."""

    tokens: list[str]  # their pieces, as the vocabulary spells them, with <s> and </s>
    offsets: list[Span]  # text[begin:end]; (0, 0) for <s> and </s>
    vectors: Array  # (tokens, hidden)


class WordVectors(NamedTuple):
    """One vector per word of a text."""

    words: list[str]
    offsets: list[Span]  # text[begin:end] == word
    vectors: Array  # (words, hidden)


class WordTokens(NamedTuple):
    """The tokens of a text, and which of them make up each word."""

    ids: list[int]  # without <s> and </s>
    words: list[str]
    offsets: list[Span]
    members: list[list[int]]  # for each word the indices of its tokens


def words_in_text(text: str, encoding: Encoding) -> WordTokens:
    """The words of a text as its tokenizer cuts them; white space is not a word.

    RoBERTa's tokenizer makes a word of each run of letters, of digits or of other signs, and of 's, 't, 're, 've, 'm,
    'll and 'd.  Those of XLM-RoBERTa and CamemBERT cut at white space.

    Args:
        text: The text.
        encoding: What the tokenizer made of it, not truncated.

    >>> from numroberta.checkpoint import find_folder
    >>> from numroberta.tokenizer import Tokenizer
    >>> text = "We're lowing, 42!"
    >>> words_in_text(text, Tokenizer.load(find_folder("tiny"))(text)).words
    ['We', "'re", 'lowing', ',', '42', '!']
    """
    result = WordTokens([], [], [], [])
    last: int | None = None
    for number, token, (begin, end), word, special in zip(
        encoding.ids, encoding.tokens, encoding.offsets, encoding.word_ids, encoding.special_tokens_mask, strict=True
    ):
        if special:
            continue
        result.ids.append(number)
        if token in BLANKS or not text[begin:end].strip(WHITE_SPACE):
            continue
        index = len(result.ids) - 1
        if word == last:
            start, stop = result.offsets[-1]
            result.offsets[-1] = (start, max(stop, end))
            result.members[-1].append(index)
        else:
            result.offsets.append((begin, end))
            result.members.append([index])
        last = word
    for index, (begin, end) in enumerate(result.offsets):
        inside = text[begin:end]
        letters = inside.strip(WHITE_SPACE)
        begin += inside.index(letters)
        result.offsets[index] = (begin, begin + len(letters))
        result.words.append(letters)
    return result


def tokenize_words(words: Sequence[str], tokenizer: Tokenizer, blanks: set[int], name: str = "words") -> WordTokens:
    """The tokens of words that were cut out of their text before; offsets are those in `" ".join(words)`.

    Args:
        words: The words of one text.
        tokenizer: `Tokenizer.for_words()`, which puts a space in front of each word, as transformers does where it is
            told `is_split_into_words=True`.
        blanks: The ids of the tokens that are only that space.
        name: What messages call the list of words.

    Raises:
        TypeError: A word is no string.
        ValueError: A word is empty, has white space in it, or has a lone surrogate.
    """
    for index, word in enumerate(words):
        if not isinstance(word, str):
            raise TypeError(f"{name}[{index}] is {type(word).__name__}, expected a string")
        if not word or any(character in WHITE_SPACE for character in word):
            what = "has white space in it" if word.strip(WHITE_SPACE) else "is no word"
            raise ValueError(f"{name}[{index}] is {word!r}, which {what}: give words as text.split() cuts them")
    result = WordTokens([], list(words), [], [])
    begin = 0
    for word, ids in zip(
        words, tokenizer.encode_ids(words, add_special_tokens=False, truncation=False)[0], strict=True
    ):
        first = len(result.ids)
        result.ids.extend(ids)
        result.offsets.append((begin, begin + len(word)))
        # A space that was not merged with the letters behind it is not the first token of the word.
        own = [first + k for k, number in enumerate(ids) if number not in blanks]
        result.members.append(own or list(range(first, len(result.ids))))
        begin += len(word) + 1
    return result


def word_vectors(vectors: Array, members: Sequence[Sequence[int]], aggregation: str) -> Array:
    """One vector per word, (tokens, hidden) -> (words, hidden).

    Args:
        vectors: One vector per token.
        members: The indices of each word's tokens.  A word without any gets zeros: some SentencePiece vocabularies
            leave out characters that they do not know.
        aggregation: "first", the vector of the word's first token, or "mean", that of all its tokens.

    >>> word_vectors(np.array([[1.0, 2.0], [3.0, 4.0]]), [[0, 1], []], "mean")
    array([[2., 3.],
           [0., 0.]])
    """
    result = np.zeros((len(members), vectors.shape[1]), vectors.dtype)
    for row, own in zip(result, members, strict=True):
        if own:
            row[...] = vectors[own[0]] if aggregation == "first" else sum(vectors[i] for i in own) / len(own)
    return result
