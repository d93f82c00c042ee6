"""On the executors: columns of texts, as pandas Series, to columns of vectors."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, groupby
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from pyspark import TaskContext

from numroberta.arithmetic import POOLINGS
from numroberta.checkpoint import CheckpointError
from numroberta.model import BLOCK, TextEncoder, load
from numroberta.spark.location import ModelLocation
from numroberta.tokenizer import BLANKS, Tokenizer, tokenize_words

R = TypeVar("R")

LONGEST = 512  # RoBERTa's positions
WORDS_AT_ONCE = 2048  # Spark makes a Python object of every number: 57 MB for so many words of 768 dimensions


@dataclass(frozen=True)
class Options:
    """How a column is embedded: made and checked on the driver, used in the workers.

    Raises ValueError for a value that cannot be.
    """

    model: ModelLocation
    pooling: str | None = None  # None: as the model's folder says
    normalize_embeddings: bool = False
    batch_size: int = 32
    max_length: int = LONGEST  # most tokens that are read at once, <s> and </s> included
    case_sensitive: bool = True
    reproducible: bool = False  # the same bits on every executor's machine

    def __post_init__(self) -> None:
        if self.pooling is not None and self.pooling not in POOLINGS:
            known = ", ".join(map(repr, POOLINGS))
            raise ValueError(f"pooling={self.pooling!r}, expected one of {known}, or None")
        check_between("max_length", self.max_length, 1, LONGEST)
        check_between("batch_size", self.batch_size, 1)

    def in_case(self, text: str) -> str:
        """The text that the model reads."""
        return text if self.case_sensitive else text.lower()


def check_between(name: str, value: int, least: int, most: int | None = None) -> int:
    """The value; raises ValueError where it is less than `least` or more than `most`."""
    if value < least or (most is not None and value > most):
        raise ValueError(f"{name}={value}, expected {least}{f' to {most}' if most else ' or more'}")
    return value


def embed_batches(batches: Iterator[pd.Series], options: Options) -> Iterator[pd.Series]:
    """Series of texts to series of vectors, at most BLOCK texts at a time; null stays null."""
    encoder = encoder_for(options.model, options.max_length, cores_of_task(), options.reproducible)
    for batch in batches:
        for start in range(0, len(batch), BLOCK):
            texts = [None if missing else text for text, missing in with_nulls(batch[start : start + BLOCK])]
            yield text_vectors(encoder, texts, options)


def text_vectors(encoder: TextEncoder, texts: Sequence[str | None], options: Options) -> pd.Series:
    """The vector of each text; null for null."""
    vectors = iter(
        encoder.encode(
            [options.in_case(text) for text in texts if text is not None],
            batch_size=options.batch_size,
            pooling=options.pooling,
            normalize_embeddings=options.normalize_embeddings,
        )
    )
    return pd.Series([None if text is None else next(vectors) for text in texts], dtype=object)


def embed_words_batches(batches: Iterator[tuple[pd.Series, pd.Series]], options: Options) -> Iterator[pd.Series]:
    """Series of texts and of their words to series of lists of dicts, some thousand words at a time."""
    encoder = encoder_for(options.model, options.max_length, cores_of_task(), options.reproducible)
    for texts, words in batches:
        both = zip(with_nulls(texts), with_nulls(words), strict=True)
        rows = (
            None if no_text or no_words else (text, [word for word in given if word is not None and word.strip()])
            for (text, no_text), (given, no_words) in both
        )
        for some in in_blocks(rows, lambda row: len(row[1])):
            yield word_structs(encoder, some, options)


def in_blocks(rows: Iterable[R | None], words_of: Callable[[R], int]) -> Iterator[list[R | None]]:
    """The rows, so many at a time that they have some thousand words.  words_of: how many a row has that is no null."""
    some: list[R | None] = []
    count = 0
    for row in rows:
        some.append(row)
        count += 0 if row is None else words_of(row)
        if count >= WORDS_AT_ONCE or len(some) == BLOCK:
            yield some
            some, count = [], 0
    if some:
        yield some


def word_structs(encoder: TextEncoder, rows: Sequence[tuple[str, list[str]] | None], options: Options) -> pd.Series:
    """For each text and its words, a dict of begin, end, result and embeddings per word; null for null."""
    vectors = first_vectors(encoder, [row[1] for row in rows if row is not None], options)
    structs: list[list[dict[str, Any]] | None] = []
    for row in rows:
        structs.append(None)
        if row is not None:
            text, words = row
            given = zip(words, find_words(text, words), next(vectors), strict=True)
            structs[-1] = [
                {"begin": begin, "end": end, "result": word, "embeddings": vector}
                for word, (begin, end), vector in given
            ]
    return pd.Series(structs, dtype=object)


def first_vectors(encoder: TextEncoder, rows: Sequence[Sequence[str]], options: Options) -> Iterator[list[Any]]:
    """For each row of words, the vectors of their first pieces."""
    # To the model a word has no white space in it; "New York" is two, of which the first has the first piece.
    parts = [[options.in_case(word).split() for word in words] for words in rows]
    flat = [[part for word in row for part in word] for row in parts]
    encoded = iter(
        encoder.encode_words([row for row in flat if row], batch_size=options.batch_size) if any(flat) else ()
    )
    for row in parts:
        vectors: Iterator[Any] = iter(next(encoded).vectors if row else ())
        of_parts = [[next(vectors) for _ in word] for word in row]
        yield [of_word[0] for of_word in of_parts]


def embed_annotations_batches(batches: Iterator[tuple[pd.Series, ...]], options: Options) -> Iterator[pd.Series]:
    """Series of the arrays that `annotations.taken_apart` gives, to series of lists of dicts, one for each token."""
    encoder = encoder_for(options.model, options.max_length, cores_of_task(), options.reproducible)
    for columns in batches:
        both = zip(*columns, columns[0].isna(), strict=True)
        rows = (None if missing else tokens_of(*values) for *values, missing in both)
        for some in in_blocks(rows, len):
            yield token_structs(encoder, some, options)


class Token(NamedTuple):
    """A token of Spark NLP, and the number of its sentence."""

    sentence: int
    begin: int
    end: int
    text: str


def tokens_of(begins: Any, ends: Any, numbers: Any, token_begins: Any, token_ends: Any, texts: Any) -> list[Token]:
    """The tokens of each sentence that are not blank, the sentences in the order of their numbers.

    >>> tokens_of([0, 4], [2, 6], [0, 1], [0, 3, 4], [2, 3, 6], ["one", " ", "two"])
    [Token(sentence=0, begin=0, end=2, text='one'), Token(sentence=1, begin=4, end=6, text='two')]
    """
    first, last = np.asarray(token_begins, np.int64), np.asarray(token_ends, np.int64)
    found = []
    for begin, end, number in zip(begins, ends, numbers, strict=True):
        inside = np.flatnonzero((first >= begin) & (last <= end))
        found += [Token(int(number), int(first[i]), int(last[i]), texts[i]) for i in inside if (texts[i] or "").strip()]
    return sorted(found, key=lambda token: token.sentence)  # which keeps the order of a sentence's tokens


def token_structs(encoder: TextEncoder, rows: Sequence[Sequence[Token] | None], options: Options) -> pd.Series:
    """For each row of tokens a dict of each one, with its first piece's id and vector; null for null."""
    sentences = [
        [token.text for token in sentence]
        for row in rows
        for _, sentence in groupby(row or (), key=lambda token: token.sentence)
    ]
    vectors = chain.from_iterable(first_vectors(encoder, sentences, options))
    words, blanks = word_tokenizer_of(encoder)

    def struct(token: Token) -> dict[str, Any]:
        text = options.in_case(token.text)
        pieces = tokenize_words(text.split()[:1], words, blanks)
        return {
            "sentence": token.sentence,
            "begin": token.begin,
            "end": token.end,
            "token": text,
            "pieceId": pieces.ids[pieces.members[0][0]],
            "embeddings": next(vectors),
        }

    return pd.Series([None if row is None else [struct(token) for token in row] for row in rows], dtype=object)


@lru_cache(maxsize=4)
def word_tokenizer_of(encoder: TextEncoder) -> tuple[Tokenizer, set[int]]:
    """The tokenizer that `encode_words` has, and the ids of pieces that are only the space in front of a word."""
    found = (encoder.tokenizer.token_to_id(piece) for piece in BLANKS)
    return encoder.tokenizer.for_words(), {number for number in found if number is not None}


def find_words(text: str, words: Sequence[str]) -> list[tuple[int, int] | tuple[None, None]]:
    """First and last character of each word, one after the other, in whatever case; (None, None) if it is not there.

    >>> find_words("Don't stop", ["don", "'t", "stopped", "stop"])
    [(0, 2), (3, 4), (None, None), (6, 9)]
    """
    folded = folded_case(text)
    places: list[tuple[int, int] | tuple[None, None]] = []
    position = 0
    for word in map(folded_case, words):
        begin = next_word(folded, word, position)
        if begin < 0:
            places.append((None, None))
        else:
            position = begin + len(word)
            places.append((begin, position - 1))
    return places


def next_word(text: str, word: str, position: int) -> int:
    """Where the next word begins: here, after white space; or as a whole word; or inside of one; or -1."""
    here = position
    while text[here : here + 1].isspace():
        here += 1
    if text.startswith(word, here):
        return here
    first = begin = text.find(word, position)
    while begin >= 0:
        before, after = text[begin - 1 : begin], text[begin + len(word) : begin + len(word) + 1]
        if not (before.isalnum() and word[0].isalnum()) and not (after.isalnum() and word[-1].isalnum()):
            return begin
        begin = text.find(word, begin + 1)
    return first


def folded_case(text: str) -> str:
    """Lower case, character by character: places stay the same."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def with_nulls(series: pd.Series) -> Iterator[tuple[Any, bool]]:
    """Each value, and whether it is null."""
    return zip(series, series.isna(), strict=True)


def cores_of_task() -> int:
    """Threads of a task: `spark.task.cpus`, or what its resource profile says."""
    context = TaskContext.get()
    return context.cpus() if context else 1


@lru_cache(maxsize=4)
def encoder_for(model: ModelLocation, max_length: int, num_threads: int, reproducible: bool) -> TextEncoder:
    """The model, loaded once in a worker process."""
    try:
        encoder = load(
            model.on_this_host(), num_threads=num_threads, reproducible=reproducible, revision=model.revision
        )
    except (ValueError, OSError) as error:
        raise CheckpointError(f"on {socket.gethostname()}, where an executor runs: {error}") from error
    encoder.max_seq_length = min(max(3, max_length), encoder.max_length)  # 3: <s>, a token, </s>
    return encoder
