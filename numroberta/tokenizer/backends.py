"""Two ways from a text to its tokens that never differ: the project's own BPE, and the `tokenizers` library.

For every text both give the same ids, pieces, character offsets and word numbers
(`tests/tokenizer/test_tokenizer.py` compares them).  Neither adds special tokens or truncates: `tokenizer.py` does.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

from numroberta.tokenizer.bpe import ByteLevelBPE, Memo, split
from numroberta.tokenizer.files import AddedToken, TokenizerSpec
from numroberta.tokenizer.unicode16 import WHITE_SPACE, is_word
from numroberta.tokenizer.windows import Span


class Tokens(NamedTuple):
    """The tokens of one text without special tokens: four lists of the same length."""

    ids: list[int]
    tokens: list[str]  # their pieces, as the vocabulary spells them
    offsets: list[Span]  # text[start:stop]; half a character has the offsets of the whole character
    word_ids: list[int]  # which word of the split, or which added token, each token comes from

    def window(self, start: int, stop: int) -> Tokens:
        return Tokens(
            self.ids[start:stop], self.tokens[start:stop], self.offsets[start:stop], self.word_ids[start:stop]
        )


# An added token, or None for the text between two of them; from which character to which.
Segment = tuple[AddedToken | None, int, int]


class PythonBackend:
    """Cuts the added tokens out of a text and gives the rest to `bpe.py`."""

    name = "python"

    def __init__(self, spec: TokenizerSpec):
        unk_id = None if spec.unk_token is None else spec.vocab[spec.unk_token]
        self.bpe = ByteLevelBPE(spec.vocab, spec.merges, unk_id)
        self.unk_token = spec.unk_token
        self._located = Memo(self._locate, max_words=1 << 14)  # 12 MB when full
        self.add_prefix_space = spec.add_prefix_space
        self.added = {token.content: token for token in spec.added}
        # Added tokens are cut out in two passes: those matched in the text as it is, then those in the normalized text.
        by_pass = [[t.content for t in spec.added if t.normalized is normalized] for normalized in (False, True)]
        self.passes = [_any_of(contents) for contents in by_pass if contents]

    def ids(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text, without special tokens."""
        return [self._ids(text) for text in texts]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = []
        for token, start, stop in self._cut(text):
            if token is None:
                ids += self.bpe.encode(self._prefixed(text[start:stop]))
            else:
                ids.append(token.id)
        return ids

    def tokenize(self, text: str) -> Tokens:
        """The tokens of one text, with their offsets and word numbers."""
        result = Tokens([], [], [], [])
        word_id = 0
        for token, start, stop in self._cut(text):
            if token is not None:
                result.ids.append(token.id)
                result.tokens.append(text[start:stop])
                result.offsets.append((start, stop))
                result.word_ids.append(word_id)
                word_id += 1
                continue
            stretch = self._prefixed(text[start:stop])
            position = stop - len(stretch)  # one before `start` if `_prefixed` put a space in front
            first = len(result.ids)
            for word in split(stretch):
                ids, tokens, spans = self._located[word]
                result.ids.extend(ids)
                result.tokens.extend(tokens)
                result.offsets.extend([(position + left, position + right) for left, right in spans])
                result.word_ids.extend([word_id] * len(ids))
                position += len(word)
                word_id += 1
            if len(stretch) > stop - start and len(result.ids) > first:  # the library counts that space as character 0
                left, right = result.offsets[first]
                result.offsets[first] = (max(left, start), max(right, start + 1))
        return result

    def _locate(self, word: str) -> tuple[list[int], list[str], list[tuple[int, int]]]:
        """A word's ids, pieces, and the characters of the word that each piece touches."""
        ids, tokens, spans = [], [], []
        character = range(len(word)) if word.isascii() else _character_of_byte(word)
        byte = 0
        for piece in self.bpe.merge(word):
            token = piece if piece in self.bpe.vocab else str(self.unk_token)
            ids.append(self.bpe.vocab[token])
            tokens.append(token)
            spans.append((character[byte], character[byte + len(piece) - 1] + 1))
            byte += len(piece)
        return ids, tokens, spans

    def _prefixed(self, stretch: str) -> str:
        return f" {stretch}" if self.add_prefix_space and stretch and not stretch.startswith(" ") else stretch

    def _cut(self, text: str) -> list[Segment]:
        """The text as a sequence of added tokens and of the stretches between them."""
        segments: list[Segment] = [(None, 0, len(text))]
        for pattern in self.passes:
            if pattern.search(text):
                segments = [smaller for segment in segments for smaller in self._cut_out(text, segment, pattern)]
        return segments

    def _cut_out(self, text: str, segment: Segment, pattern: re.Pattern[str]) -> Iterator[Segment]:
        """A segment cut at the added tokens that a pattern matches."""
        token, done, end = segment
        if token is not None:
            yield segment
            return
        first = done
        for match in pattern.finditer(text, first, end):
            token = self.added[match[0]]
            start, stop = match.span()
            if token.single_word and (
                (start > first and is_word(text[start - 1])) or (stop < end and is_word(text[stop]))
            ):
                continue
            while token.lstrip and start > done and text[start - 1] in WHITE_SPACE:
                start -= 1
            while token.rstrip and stop < end and text[stop] in WHITE_SPACE:
                stop += 1
            if done < start:
                yield None, done, start
            yield token, start, stop
            done = stop
        if done < end:
            yield None, done, end


def _any_of(contents: list[str]) -> re.Pattern[str]:
    """A pattern for the leftmost of several tokens; of those that begin at the same character, for the longest."""
    return re.compile("|".join(map(re.escape, sorted(contents, key=len, reverse=True))))


def _character_of_byte(word: str) -> list[int]:
    """For each UTF-8 byte of a word the index of its character.

    >>> _character_of_byte("aé")
    [0, 1, 1]
    """
    return [index for index, character in enumerate(word) for _ in character.encode("utf-8")]


class TokenizersBackend:
    """The same through Hugging Face's `tokenizers`, which also reads what is not byte-level BPE."""

    name = "tokenizers"

    def __init__(self, spec: TokenizerSpec):
        self.library = _foreign_tokenizer(spec) if spec.foreign else _roberta_tokenizer(spec)

    def ids(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text, without special tokens.

        The library starts its own threads only if TOKENIZERS_PARALLELISM asks for them: once they have run, a process
        that forks gets warnings and may hang.
        """
        if os.environ.get("TOKENIZERS_PARALLELISM", "").lower() in ("1", "true", "on", "yes", "y"):
            return [encoding.ids for encoding in self.library.encode_batch_fast(texts, add_special_tokens=False)]
        return [self.library.encode(text, add_special_tokens=False).ids for text in texts]

    def tokenize(self, text: str) -> Tokens:
        """The tokens of one text, with their offsets and word numbers."""
        encoding = self.library.encode(text, add_special_tokens=False)
        return Tokens(encoding.ids, encoding.tokens, encoding.offsets, encoding.word_ids)


def _roberta_tokenizer(spec: TokenizerSpec) -> Any:
    """The library's tokenizer, built from the checked description so that both backends agree on it."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocab = spec.vocab | {
        token.content: token.id for token in spec.added
    }  # an id of its own, whatever the library would give
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in spec.merges)]
    library = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token=spec.unk_token))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spec.add_prefix_space)
    library.add_tokens(list(map(_library_token, spec.added)))
    return library


def _library_token(token: AddedToken) -> Any:
    from tokenizers import AddedToken as LibraryToken

    flags = {key: value for key, value in asdict(token).items() if key not in ("content", "id")}
    return LibraryToken(token.content, **flags)


def _foreign_tokenizer(spec: TokenizerSpec) -> Any:
    from tokenizers import Tokenizer

    try:
        if spec.content is None:
            library = Tokenizer.from_file(str(spec.path))
        else:
            library = Tokenizer.from_str(json.dumps(spec.content))
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"{spec.path} ({spec.foreign}): the tokenizers library cannot read it: {error}") from error
    library.no_truncation()
    library.no_padding()
    library.add_tokens(list(map(_library_token, spec.added)))  # those that stand beside the main file
    return library


def trimmed(tokens: Tokens, keeps_prefix: bool) -> list[Span]:
    """The offsets of tokens without the white space at their ends, by the rule of `tokenizers`' RobertaProcessing.

    A token of white space alone becomes empty, at its end.

    Args:
        tokens: With the offsets of all their characters.
        keeps_prefix: Leave the first token one leading space, which `add_prefix_space` put there.

    >>> trimmed(Tokens([0, 1], ["Hi", "Ġyou"], [(0, 2), (2, 6)], [0, 1]), keeps_prefix=False)
    [(0, 2), (3, 6)]
    """
    result = []
    for index, (token, (start, stop)) in enumerate(zip(tokens.tokens, tokens.offsets, strict=True)):
        if token[0] not in _BLANK and token[-1] not in _BLANK:
            result.append((start, stop))
            continue
        leading = len(token) - len(token.lstrip(_BLANK))
        trailing = len(token) - len(token.rstrip(_BLANK))
        if leading and not (keeps_prefix and leading == 1 and (index == 0 or start == 0)):
            start = min(start + leading, stop)
        if trailing and stop >= trailing:
            stop = max(stop - trailing, start)
        result.append((start, stop))
    return result


_BLANK = "Ġ" + WHITE_SPACE
