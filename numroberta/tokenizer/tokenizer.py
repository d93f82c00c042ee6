"""Text to ids and character offsets, and back: `Tokenizer`.

>>> from numroberta.checkpoint import find_folder
>>> tokenizer = Tokenizer.load(find_folder("tiny"))
>>> encoding = tokenizer("Hello world")
>>> encoding.ids
[0, 43, 478, 82, 1021, 2]
>>> encoding.tokens
['<s>', 'H', 'ell', 'o', 'Ġworld', '</s>']
>>> encoding.offsets
[(0, 0), (0, 1), (1, 4), (4, 5), (6, 11), (0, 0)]
>>> tokenizer.decode(encoding.ids)
'<s>Hello world</s>'
>>> tokenizer("Who?", "The end.").tokens  # a pair, such as a question and its context
['<s>', 'Who', '?', '</s>', '</s>', 'The', 'Ġend', '.', '</s>']

How a text becomes tokens is written in `bpe.py`.  This file adds special tokens, joins pairs and truncates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, overload

from numroberta import computed_once
from numroberta.checkpoint import refuse_lone_surrogates
from numroberta.tokenizer.backends import PythonBackend, TokenizersBackend, Tokens, trimmed
from numroberta.tokenizer.bpe import to_text
from numroberta.tokenizer.files import TokenizerSpec, load_tokenizer_spec
from numroberta.tokenizer.frame import BARE, Frame
from numroberta.tokenizer.windows import Span, overlapping_windows

Backend = Literal["python", "tokenizers"]
Truncation = bool | Literal["longest_first", "only_first", "only_second"]


@dataclass
class Encoding:
    """One text, or one pair, as the model reads it; every list has one entry per token.

    `truncated` counts the tokens of the text that are not in this encoding.  If the tokenizer was called with
    `return_overflowing_tokens=True`, they are in the encodings of `overflowing`.
    """

    ids: list[int] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)  # their pieces; in byte symbols "Ġ" is a space
    offsets: list[Span] = field(default_factory=list)  # text[start:stop]; (0, 0) for special tokens
    attention_mask: list[int] = field(default_factory=list)  # 1 everywhere: who makes a batch adds the padding
    special_tokens_mask: list[int] = field(default_factory=list)  # 1 for the special tokens around the text
    word_ids: list[int | None] = field(default_factory=list)  # the word of its text; None for special tokens
    sequence_ids: list[int | None] = field(default_factory=list)  # 0 first text, 1 second, None special tokens
    type_ids: list[int] = field(default_factory=list)  # 1 for the second text of BERT's pairs, else 0
    truncated: int = 0
    overflowing: list[Encoding] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)


class Tokenizer:
    """RoBERTa's tokenizer; `Tokenizer.load(path)` makes one.

    Attributes:
        max_length: The most tokens of an encoding, special tokens included; a longer text is truncated.
        vocab_size: One more than the largest id.
        mask_token, mask_token_id: The piece and the id of a special token, and so for bos, eos, cls, sep, unk and pad.
            The id is None if the vocabulary has no such token.
    """

    bos_token: str | None = None  # BERT has none
    eos_token: str | None = None
    cls_token: str
    sep_token: str
    unk_token: str
    pad_token: str
    mask_token: str
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    cls_token_id: int | None
    sep_token_id: int | None
    unk_token_id: int | None
    pad_token_id: int | None
    mask_token_id: int | None

    def __init__(self, spec: TokenizerSpec, backend: Backend):
        self.max_length = spec.max_length
        self._spec = spec
        self._backend = PythonBackend(spec) if backend == "python" else TokenizersBackend(spec)
        known = spec.vocab
        if isinstance(self._backend, TokenizersBackend) and spec.foreign:
            known = self._backend.library.get_vocab(with_added_tokens=True)
        added = {token.content: token.id for token in spec.added}
        self._id_of = known if added.items() <= known.items() else known | added  # a copy of 50,000 entries is 2.5 MB
        self._special_ids = {token.id for token in spec.added if token.special}
        self.vocab_size = max(self._id_of.values()) + 1
        for kind, token in spec.names.items():
            setattr(self, f"{kind}_token", token)
            setattr(self, f"{kind}_token_id", self._id_of.get(token))

    @classmethod
    def load(cls, path: str | Path, backend: Backend | None = None) -> Tokenizer:
        """The tokenizer of a folder, of a `tokenizer.json`, a `vocab.json` with its `merges.txt`, or a `vocab.txt`.

        Args:
            path: The folder or the file.
            backend: "python" is this project's BPE, "tokenizers" the library.  None takes the library for what only
                the library can read, and this project's BPE otherwise: it loads in half the time, and on one core it
                is the faster one on text that repeats its words, as text does.

        Raises:
            FileNotFoundError: There is no tokenizer, or a file of it is missing.
            ValueError: A file is broken, or this backend cannot read it; the message says what is wrong.
        """
        if backend not in (None, "python", "tokenizers"):
            raise ValueError(f"backend={backend!r}, expected 'python', 'tokenizers' or None")
        spec = load_tokenizer_spec(path)
        if backend is None:
            backend = "tokenizers" if spec.foreign else "python"
        if spec.foreign and backend == "python":
            raise ValueError(
                f"{spec.path} is {spec.foreign}, and this backend reads byte-level BPE only: "
                "load it with backend='tokenizers'"
            )
        if backend == "tokenizers" and find_spec("tokenizers") is None:
            what = f"{spec.path} is {spec.foreign}, which" if spec.foreign else "backend='tokenizers'"
            raise ValueError(f"{what} needs the tokenizers package: pip install tokenizers")
        return cls(spec, backend)

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, which transformers and the tokenizers library read.

        The folder must exist.  A tokenizer loaded from it gives the same encodings.
        """
        from numroberta.tokenizer.saving import save_tokenizer  # which needs NumPy, as nothing else here does

        save_tokenizer(replace(self._spec, max_length=self.max_length), Path(folder))

    def for_words(self) -> Tokenizer:
        """The same tokenizer for words that were cut out of their text: it puts a space in front of each.

        It is what `is_split_into_words=True` with `add_prefix_space=True` does in transformers.
        """
        backend: Backend = "python" if self.backend == "python" else "tokenizers"
        return Tokenizer(replace(self._spec, add_prefix_space=True), backend)

    @computed_once
    def _token_of(self) -> dict[int, str]:
        return {number: token for token, number in self._id_of.items()}

    @property
    def backend(self) -> str:
        """ "python" or "tokenizers"."""
        return self._backend.name

    @computed_once
    def ids(self) -> list[int]:
        """Every id that has a token, in order: a padded vocabulary leaves some out."""
        return sorted(self._id_of.values())

    @property
    def around(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after a single text: ([0], [2]) are <s> and </s>."""
        ids = [slot.part for slot in self._spec.single]
        text = ids.index("A")
        return [part for part in ids[:text] if isinstance(part, int)], [
            part for part in ids[text:] if isinstance(part, int)
        ]

    @property
    def uses_type_ids(self) -> bool:
        """Whether the model is told which tokens belong to the second text of a pair, as BERT is."""
        return self._spec.uses_type_ids

    def __repr__(self) -> str:
        return f"Tokenizer({str(self._spec.path)!r}, vocab_size={self.vocab_size}, backend={self.backend!r})"

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is an Iterable[str] too
        self,
        text: str,
        text_pair: str | None = None,
        *,
        add_special_tokens: bool = True,
        truncation: Truncation = True,
        max_length: int | None = None,
        stride: int = 0,
        return_overflowing_tokens: bool = False,
    ) -> Encoding: ...

    @overload
    def __call__(
        self,
        text: Iterable[str] | Iterable[tuple[str, str]],
        text_pair: Iterable[str] | None = None,
        *,
        add_special_tokens: bool = True,
        truncation: Truncation = True,
        max_length: int | None = None,
        stride: int = 0,
        return_overflowing_tokens: bool = False,
    ) -> list[Encoding]: ...

    def __call__(
        self,
        text: str | Iterable[str] | Iterable[tuple[str, str]],
        text_pair: str | Iterable[str] | None = None,
        *,
        add_special_tokens: bool = True,
        truncation: Truncation = True,
        max_length: int | None = None,
        stride: int = 0,
        return_overflowing_tokens: bool = False,
    ) -> Encoding | list[Encoding]:
        """Tokenize a text or a pair; a list of texts, or of (text, text) pairs, gives a list of encodings.

        Args:
            text: A text, or a list of texts or pairs.
            text_pair: The second text of a pair, or of each pair.
            add_special_tokens: Put <s> and </s> around the text, as the model expects it.
            truncation: True or "longest_first" keeps `max_length` tokens and takes them from the longer text of a
                pair; "only_first" and "only_second" cut one text of a pair; False cuts nothing.
            max_length: None means `self.max_length`.
            stride: How many tokens neighbouring windows share.
            return_overflowing_tokens: Put what was cut off into `Encoding.overflowing`, in windows of at most
                `max_length` tokens, each of which begins with the last `stride` tokens of the one before.

        Raises:
            TypeError: A text is no string.
            ValueError: A text has a lone surrogate, or `max_length` leaves no room for text.
        """
        encodings = []
        for texts in _rows(text, text_pair):
            frame = self._frame(len(texts), add_special_tokens)
            tokens = list(map(self._backend.tokenize, texts))
            room = self._room(frame, truncation, max_length)
            kept = _fit([len(one.ids) for one in tokens], room, truncation)
            spans = [overlapping_windows(len(one.ids), size, stride) for one, size in zip(tokens, kept, strict=True)]
            first, *others = [self._assemble(frame, tokens, chosen) for chosen in _in_order(spans)]
            if return_overflowing_tokens:
                first.overflowing = others
            encodings.append(first)
        return encodings[0] if isinstance(text, str) else encodings

    def encode_ids(
        self,
        texts: Iterable[str] | Iterable[tuple[str, str]],
        text_pairs: Iterable[str] | None = None,
        *,
        add_special_tokens: bool = True,
        truncation: Truncation = True,
        max_length: int | None = None,
    ) -> tuple[list[list[int]], list[int]]:
        """Only the ids of many texts, several times faster than calling the tokenizer.

        Args and errors are those of `__call__`.

        Returns:
            The ids of each text, and how many tokens of each text were cut off.
        """
        rows = _rows(texts, text_pairs)
        bodies = iter(self._backend.ids([text for row in rows for text in row]))
        all_ids, dropped = [], []
        for row in rows:
            frame = self._frame(len(row), add_special_tokens)
            ids = [next(bodies) for _ in row]
            lengths = list(map(len, ids))
            kept = _fit(lengths, self._room(frame, truncation, max_length), truncation)
            all_ids.append(_fill(frame, [body[:size] for body, size in zip(ids, kept, strict=True)]))
            dropped.append(sum(lengths) - sum(kept))
        return all_ids, dropped

    def decode(self, ids: Iterable[int] | int, skip_special_tokens: bool = False) -> str:
        """The text of ids; bytes that are not UTF-8, such as half a character, become U+FFFD.

        Raises:
            ValueError: An id is not in the vocabulary.
        """
        numbers = [int(number) for number in (ids if isinstance(ids, Iterable) else [ids])]
        for number in numbers:
            if number not in self._token_of:
                raise ValueError(f"id {number} is not in the vocabulary, whose ids end at {self.vocab_size - 1}")
        if skip_special_tokens:
            numbers = [number for number in numbers if number not in self._special_ids]
        if isinstance(self._backend, TokenizersBackend) and self._spec.foreign:
            text: str = self._backend.library.decode(numbers, skip_special_tokens=False)
            return text
        return to_text(self._token_of[number] for number in numbers)

    def token_to_id(self, token: str) -> int | None:
        """The id of a piece, written as in `Encoding.tokens` ("Ġworld"); None if the vocabulary does not have it."""
        return self._id_of.get(token)

    def id_to_token(self, number: int) -> str | None:
        """The piece with this id; None if the vocabulary does not have it."""
        return self._token_of.get(int(number))

    def _frame(self, texts: int, add_special_tokens: bool) -> Frame:
        single, pair = (self._spec.single, self._spec.pair) if add_special_tokens else BARE
        return single if texts == 1 else pair

    def _room(self, frame: Frame, truncation: Truncation, max_length: int | None) -> int | None:
        """How many tokens of text fit into the frame; None if nothing limits them."""
        if truncation is False:
            return None
        texts = sum(isinstance(slot.part, str) for slot in frame)
        length = self.max_length if max_length is None else max_length
        room = length - (len(frame) - texts)
        if room < texts:
            raise ValueError(
                f"max_length={length} leaves no room for text: {len(frame) - texts} special tokens and a token "
                f"of each text need {len(frame)}"
            )
        return room

    def _assemble(self, frame: Frame, tokens: list[Tokens], spans: tuple[Span, ...]) -> Encoding:
        """The encoding of one window of each text, in the frame of special tokens."""
        result = Encoding()
        for part, type_id in frame:
            before = len(result.ids)
            if isinstance(part, str):
                sequence = "AB".index(part)
                window = tokens[sequence].window(*spans[sequence])
                result.ids += window.ids
                result.tokens += window.tokens
                result.offsets += self._offsets(window)
                result.special_tokens_mask += [0] * len(window.ids)
                result.word_ids += window.word_ids
                result.sequence_ids += [sequence] * len(window.ids)
            else:
                result.ids.append(part)
                result.tokens.append(self._token_of[part])
                result.offsets.append((0, 0))
                result.special_tokens_mask.append(1)
                result.word_ids.append(None)
                result.sequence_ids.append(None)
            result.type_ids += [type_id * self._spec.uses_type_ids] * (len(result.ids) - before)
        result.attention_mask = [1] * len(result.ids)
        result.truncated = sum(len(one.ids) for one in tokens) - sum(stop - start for start, stop in spans)
        return result

    def _offsets(self, window: Tokens) -> list[Span]:
        if self._spec.foreign or not self._spec.trim_offsets:
            return window.offsets  # the library has trimmed those of a foreign tokenizer already
        return trimmed(window, self._spec.trim_keeps_prefix)


def _rows(
    text: str | Iterable[str] | Iterable[tuple[str, str]], text_pair: str | Iterable[str] | None
) -> list[tuple[str, ...]]:
    """The arguments as rows of one text or two, each of them checked."""
    if isinstance(text, str):
        rows: list[object] = [text if text_pair is None else (text, text_pair)]
    elif not isinstance(text, Iterable) or isinstance(text, (bytes, dict)):
        raise TypeError(f"expected a string or a list of strings, found {type(text).__name__}")
    elif text_pair is None:
        rows = list(text)
    else:
        firsts, seconds = list(text), [text_pair] if isinstance(text_pair, str) else list(text_pair)
        if len(firsts) != len(seconds):
            raise ValueError(
                f"{len(firsts)} texts and {len(seconds)} second texts: expected as many of one as the other"
            )
        rows = list(zip(firsts, seconds, strict=True))
    return [_row(index, row) for index, row in enumerate(rows)]


def _row(index: int, row: object) -> tuple[str, ...]:
    texts = tuple(row) if isinstance(row, (tuple, list)) and len(row) == 2 else (row,)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"text {index} is {type(text).__name__} ({text!r:.40}), expected a string")
        refuse_lone_surrogates(text, f"text {index}")
    return texts


def _fit(lengths: list[int], room: int | None, truncation: Truncation) -> list[int]:
    """How many tokens of each text stay so that all of them fit into `room`."""
    if truncation not in (True, False, "longest_first", "only_first", "only_second"):
        raise ValueError(
            f"truncation={truncation!r}, expected True, False, 'longest_first', 'only_first' or 'only_second'"
        )
    if truncation == "only_second" and len(lengths) == 1:
        raise ValueError("truncation='only_second' needs a second text: use True or 'only_first'")
    if room is None or sum(lengths) <= room:
        return lengths
    if truncation in ("only_first", "only_second"):
        cut = 0 if truncation == "only_first" else 1
        others = sum(lengths) - lengths[cut]
        if others >= room:
            raise ValueError(
                f"truncation={truncation!r}: the other text alone has {others} of the {room} tokens there is room for; "
                "use truncation=True or a larger max_length"
            )
        return [room - others if index == cut else length for index, length in enumerate(lengths)]
    if len(lengths) == 1:
        return [room]
    shorter = min(min(lengths), room // 2)
    return [shorter, room - shorter] if lengths[0] <= lengths[1] else [room - shorter, shorter]


def _in_order(spans: list[list[Span]]) -> list[tuple[Span, ...]]:
    """Every combination of the windows of one text or two, in the order in which `tokenizers` gives them.

    The first is the one that a call without overflowing tokens gives; then the first text's later windows with each
    of the second's, then the second's later windows with the first one of the first text.
    """
    if len(spans) == 1:
        return [(span,) for span in spans[0]]
    firsts, seconds = spans
    later = [(first, second) for first in firsts[1:] for second in seconds]
    return [(firsts[0], seconds[0]), *later, *((firsts[0], second) for second in seconds[1:])]


def _fill(frame: Frame, texts: list[list[int]]) -> list[int]:
    ids: list[int] = []
    for part, _ in frame:
        if isinstance(part, str):
            ids += texts["AB".index(part)]
        else:
            ids.append(part)
    return ids
