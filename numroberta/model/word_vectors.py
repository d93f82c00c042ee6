"""Texts of any length to one vector per token or per word."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta import computed_once
from numroberta.arithmetic import Roberta, TextOutput, fixed_order, one_of
from numroberta.model.blocks import BLOCK, with_positions
from numroberta.model.options import check_whole
from numroberta.model.texts import check_text, check_texts, texts_of
from numroberta.tokenizer import (
    AGGREGATIONS,
    BLANKS,
    Tokenizer,
    TokenVectors,
    Window,
    WordTokens,
    WordVectors,
    tokenize_words,
    windows_with_context,
    word_vectors,
    words_in_text,
)

Array = NDArray[Any]


class WordEmbedder:
    """A model and its tokenizer, which give one vector per token or per word."""

    def __init__(self, model: Roberta, tokenizer: Tokenizer):
        self.model, self.tokenizer = model, tokenizer
        self.before, self.after = tokenizer.around  # [<s>], [</s>]

    @computed_once
    def word_tokenizer(self) -> Tokenizer:
        """The tokenizer that puts a space in front of each word."""
        return self.tokenizer.for_words()

    @computed_once
    def blanks(self) -> set[int]:
        """The ids of the pieces that are only that space."""
        return {number for token in BLANKS if (number := self.tokenizer.token_to_id(token)) is not None}

    def tokens(self, text: str, layers: Sequence[int], max_length: int) -> TokenVectors:
        """What `TextEncoder.encode_tokens` returns."""
        encoding = self.tokenizer(check_text(text, "text"), truncation=False)
        body = encoding.ids[len(self.before) : len(encoding) - len(self.after)]
        vectors = self._vectors([body], self._chosen(layers), 1, max_length)[0]
        return TokenVectors(encoding.tokens, encoding.offsets, vectors)

    def words(
        self, words: object, aggregation: str, layers: Sequence[int], batch_size: int, max_length: int
    ) -> WordVectors | list[WordVectors]:
        """What `TextEncoder.encode_words` returns."""
        one_of("aggregation", aggregation, AGGREGATIONS)
        check_whole("batch_size", batch_size, 1)
        chosen = self._chosen(layers)
        if isinstance(words, str):
            encoding = self.tokenizer(check_text(words, "words"), truncation=False)
            rows = [words_in_text(words, encoding)]
            return self._word_vectors(rows, aggregation, chosen, batch_size, max_length)[0]
        texts = list(texts_of(words, "words"))
        several = bool(texts) and not isinstance(texts[0], str)
        if several:
            rows = [self._tokenized(row, f"words[{index}]") for index, row in enumerate(texts)]
            return self._word_vectors(rows, aggregation, chosen, batch_size, max_length)
        return self._word_vectors([self._tokenized(texts, "words")], aggregation, chosen, batch_size, max_length)[0]

    def _tokenized(self, words: Iterable[object], name: str) -> WordTokens:
        if isinstance(words, str):
            raise TypeError(f"{name} is a string among lists: give one text, one list of words, or lists of words")
        own = list(texts_of(words, name))
        check_texts(own, name)
        return tokenize_words(own, self.word_tokenizer, self.blanks, name)

    def _chosen(self, layers: Sequence[int]) -> list[int]:
        """The hidden states that are asked for, counted from the embeddings, which are 0."""
        depth = self.model.config.num_hidden_layers
        expected = f"expected numbers from {-depth - 1} to {depth}, at least one"
        try:
            chosen = [layer + depth + 1 if layer < 0 else layer for layer in map(operator.index, layers)]
        except TypeError:
            raise TypeError(f"layers={layers!r}, {expected}") from None
        if not chosen or not all(0 <= layer <= depth for layer in chosen):
            raise ValueError(f"layers={list(layers)}, {expected}")
        return chosen

    def _word_vectors(
        self, rows: Sequence[WordTokens], aggregation: str, chosen: list[int], batch_size: int, max_length: int
    ) -> list[WordVectors]:
        skip = len(self.before)
        results = []
        for first in range(0, len(rows), BLOCK // 4):  # token vectors of a few texts at a time are in memory
            some = rows[first : first + BLOCK // 4]
            of_tokens = self._vectors([row.ids for row in some], chosen, batch_size, max_length)
            for row, vectors in zip(some, of_tokens, strict=True):
                own = word_vectors(vectors[skip:], row.members, aggregation)
                results.append(WordVectors(row.words, row.offsets, own))
        return results

    def _vectors(self, bodies: Sequence[list[int]], chosen: list[int], batch_size: int, max_length: int) -> list[Array]:
        """Vectors of <s>, the tokens and </s> of texts of any length, (2 + tokens, hidden) each."""
        last_only = chosen == [self.model.config.num_hidden_layers]

        def use(output: TextOutput) -> Array:
            if last_only:
                return output.last_hidden_state.T.copy()  # (hidden, tokens) -> (tokens, hidden)
            return fixed_order.mean(np.stack([output.hidden_states[layer] for layer in chosen]), 0).T

        size = max_length - len(self.before) - len(self.after)
        spans = [windows_with_context(len(body), size) for body in bodies]
        ids = [
            [*self.before, *body[window.start : window.stop], *self.after]
            for body, own in zip(bodies, spans, strict=True)
            for window in own
        ]
        of_windows = iter(
            self.model.run(
                with_positions(self.model, ids), use, output_hidden_states=not last_only, most_texts=batch_size
            )
        )
        return [self._joined([(window, next(of_windows)) for window in own]) for own in spans]

    def _joined(self, of_windows: list[tuple[Window, Array]]) -> Array:
        """Windows, each (2 + tokens, hidden), to one text: (2 + tokens, hidden)."""
        skip = len(self.before)
        kept = [
            vectors[skip + window.first - window.start : skip + window.last - window.start]
            for window, vectors in of_windows
        ]
        (_, opening), (window, closing) = of_windows[0], of_windows[-1]
        return np.concatenate([opening[:skip], *kept, closing[skip + window.stop - window.start :]])
