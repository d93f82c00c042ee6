"""Text to pieces, two ways that never differ: the project's own BPE, and the `tokenizers` library.

Both give the same ids, pieces, character offsets and word numbers for every text (`tests/test_tokenizer.py` holds them
against each other); neither adds special tokens or truncates, which is `tokenizer.py`'s part.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from numroberta.tokenizer.bpe import ByteLevelBPE, Memo, split
from numroberta.tokenizer.files import AddedToken, TokenizerSpec
from numroberta.tokenizer.unicode16 import WHITE_SPACE, is_word


class Pieces(NamedTuple):
    """One text's pieces: four lists of one length."""

    ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]  # characters of the text; a piece of a character has the whole character's
    word_ids: list[int]  # which word of the split (or which added token) each piece comes from

    def window(self, start: int, stop: int) -> Pieces:
        return Pieces(
            self.ids[start:stop], self.tokens[start:stop], self.offsets[start:stop], self.word_ids[start:stop]
        )


Part = tuple[AddedToken | None, int, int]  # an added token or, None, text between them; from and to which character


class PythonBackend:
    """Added tokens are cut out of the text, the rest goes through `bpe.py`."""

    name = "python"

    def __init__(self, spec: TokenizerSpec):
        unk_id = None if spec.unk_token is None else spec.vocab[spec.unk_token]
        self.bpe = ByteLevelBPE(spec.vocab, spec.merges, unk_id)
        self.unk_token = spec.unk_token
        self._located = Memo(self._locate, max_words=1 << 14)  # 12 MB when full
        self.add_prefix_space = spec.add_prefix_space
        self.added = {token.content: token for token in spec.added}
        kinds = [[t.content for t in spec.added if t.normalized is normalized] for normalized in (False, True)]
        self.passes = [_any_of(contents) for contents in kinds if contents]

    def ids(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text."""
        return [self._ids(text) for text in texts]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = []
        for token, start, stop in self._cut(text):
            if token is None:
                ids += self.bpe.encode(self._prefixed(text[start:stop]))
            else:
                ids.append(token.id)
        return ids

    def pieces(self, text: str) -> Pieces:
        """Ids, pieces, offsets and word numbers of one text."""
        found = Pieces([], [], [], [])
        word_id = 0
        for token, start, stop in self._cut(text):
            if token is not None:
                found.ids.append(token.id)
                found.tokens.append(text[start:stop])
                found.offsets.append((start, stop))
                found.word_ids.append(word_id)
                word_id += 1
                continue
            segment = self._prefixed(text[start:stop])
            position = stop - len(segment)  # one before `start` where a space was put in front
            first = len(found.ids)
            for word in split(segment):
                ids, tokens, spans = self._located[word]
                found.ids.extend(ids)
                found.tokens.extend(tokens)
                found.offsets.extend([(position + left, position + right) for left, right in spans])
                found.word_ids.extend([word_id] * len(ids))
                position += len(word)
                word_id += 1
            if len(segment) > stop - start and len(found.ids) > first:  # the library counts that space as character 0
                left, right = found.offsets[first]
                found.offsets[first] = (max(left, start), max(right, start + 1))
        return found

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

    def _prefixed(self, segment: str) -> str:
        return f" {segment}" if self.add_prefix_space and segment and not segment.startswith(" ") else segment

    def _cut(self, text: str) -> list[Part]:
        """The text as a row of added tokens and stretches between them."""
        parts: list[Part] = [(None, 0, len(text))]
        for pattern in self.passes:
            if pattern.search(text):
                parts = [found for part in parts for found in self._find(text, part, pattern)]
        return parts

    def _find(self, text: str, part: Part, pattern: re.Pattern[str]) -> Iterator[Part]:
        token, done, end = part
        if token is not None:
            yield part
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
    """A pattern for the leftmost of several tokens, the longest where several begin at one place."""
    return re.compile("|".join(map(re.escape, sorted(contents, key=len, reverse=True))))


def _character_of_byte(word: str) -> list[int]:
    """For each UTF-8 byte the index of its character: "aé" -> [0, 1, 1]."""
    return [index for index, character in enumerate(word) for _ in character.encode("utf-8")]


class TokenizersBackend:
    """The same through Hugging Face's `tokenizers`, which also reads what is not byte-level BPE."""

    name = "tokenizers"

    def __init__(self, spec: TokenizerSpec):
        self.library = _foreign_tokenizer(spec) if spec.foreign else _roberta_tokenizer(spec)

    def ids(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text; on the library's own threads only where TOKENIZERS_PARALLELISM asks for them.

        Once its threads have run, a process that forks gets warnings and may hang: a library must not start them.
        """
        if os.environ.get("TOKENIZERS_PARALLELISM", "").lower() in ("1", "true", "on", "yes", "y"):
            return [found.ids for found in self.library.encode_batch_fast(texts, add_special_tokens=False)]
        return [self.library.encode(text, add_special_tokens=False).ids for text in texts]

    def pieces(self, text: str) -> Pieces:
        """Ids, pieces, offsets and word numbers of one text."""
        found = self.library.encode(text, add_special_tokens=False)
        return Pieces(found.ids, found.tokens, found.offsets, found.word_ids)


def _roberta_tokenizer(spec: TokenizerSpec) -> Any:
    """Built from the checked description, so that both backends hold the same one."""
    from tokenizers import AddedToken as LibraryToken, Tokenizer, models, pre_tokenizers

    vocab = spec.vocab | {
        token.content: token.id for token in spec.added
    }  # an id of its own, whatever the library would give
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in spec.merges)]
    library = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token=spec.unk_token))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spec.add_prefix_space)
    library.add_tokens(
        [
            LibraryToken(
                token.content,
                special=token.special,
                lstrip=token.lstrip,
                rstrip=token.rstrip,
                single_word=token.single_word,
                normalized=token.normalized,
            )
            for token in spec.added
        ]
    )
    return library


def _foreign_tokenizer(spec: TokenizerSpec) -> Any:
    from tokenizers import Tokenizer

    try:
        library = Tokenizer.from_file(str(spec.path))
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"{spec.path} ({spec.foreign}): the tokenizers library cannot read it: {error}") from error
    library.no_truncation()
    library.no_padding()
    return library


def trimmed(pieces: Pieces, keeps_prefix: bool) -> list[tuple[int, int]]:
    """Offsets without the white space at a piece's ends, by the rule of `tokenizers`' RobertaProcessing.

    " Hello" at characters 5 to 11 becomes 6 to 11; a piece of white space alone becomes empty, at its end.
    keeps_prefix: one leading space of the first piece stays counted (`add_prefix_space` put it there).
    """
    result = []
    for index, (token, (start, stop)) in enumerate(zip(pieces.tokens, pieces.offsets, strict=True)):
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
