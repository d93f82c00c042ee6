r"""Byte-level byte-pair encoding, the tokenizer of GPT-2 and RoBERTa (Radford et al. 2019, section 2.2).

Text becomes ids in four steps:

1. **split** into words; a space belongs to the word after it:          "Hello lowest" -> ["Hello", " lowest"]
2. **bytes**: a word's UTF-8 bytes, each written as one visible character (a space becomes Ġ), so that any text at all
   can be written in 256 symbols and nothing is ever unknown:           " lowest" -> Ġ l o w e s t
3. **merge** neighbours, again and again, always the pair that stands first in the list of merges:
       merges: 1. l o   2. lo w   3. e s   4. es t   5. Ġ low   6. Ġlow est
       Ġ l o w e s t -> Ġ lo w e s t -> Ġ low e s t -> Ġ low es t -> Ġ low est -> Ġlow est -> Ġlowest
   The list was learned once, on the training text: the pair seen most often was merged first (Sennrich et al. 2016).
4. **look up** each piece's number in the vocabulary.

>>> symbols = [*BYTE_TO_SYMBOL, "lo", "low", "es", "est", "Ġlow", "Ġlowest"]
>>> vocab = {symbol: number for number, symbol in enumerate(symbols)}
>>> bpe = ByteLevelBPE(vocab, ["l o", "lo w", "e s", "es t", "Ġ low", "Ġlow est"])
>>> [bpe.merge(word) for word in split("low lowest lost")]
[('low',), ('Ġlowest',), ('Ġ', 'lo', 's', 't')]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from itertools import accumulate, chain, pairwise
from typing import TypeVar

from numroberta.tokenizer.unicode16 import WHITE_SPACE, is_letter, is_number

# Step 1.  GPT-2's pattern is 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
# Python's `re` has no \p, so the pattern is written for ASCII, and text beyond ASCII is first spelled in it:
# each letter as A, each number as 0, each white space as \t, anything else as !.  The cuts fall in the same places.
_SPLIT = re.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+",
    re.ASCII,  # \s is then \t \n \v \f \r and space; without the flag it would also be \x1c-\x1f
)


class _AsciiSpelling(dict[int, str]):
    """The table for `str.translate`, filled as characters are met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if code < 128:
            spelling = character
        elif is_letter(character):
            spelling = "A"  # a capital: a lower-case letter could complete 's or 't
        elif is_number(character):
            spelling = "0"
        else:
            spelling = "\t" if character in WHITE_SPACE else "!"
        self[code] = spelling
        return spelling


_ASCII_SPELLING = _AsciiSpelling()


def split(text: str) -> list[str]:
    """The words of a text; joined they are the text again.

    >>> split("I'll pay 20€,  näive Ⅷ")
    ['I', "'ll", ' pay', ' 20', '€,', ' ', ' näive', ' Ⅷ']
    """
    if text.isascii():
        return _SPLIT.findall(text)
    lengths = map(len, _SPLIT.findall(text.translate(_ASCII_SPELLING)))
    return [text[start:stop] for start, stop in pairwise(accumulate(lengths, initial=0))]


# Step 2.  The bytes that print as themselves in Latin-1 do so here; the other 68 take the characters from U+0100 on.
_VISIBLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]
_SYMBOLS = {byte: chr(byte) for byte in _VISIBLE} | {byte: chr(256 + n) for n, byte in enumerate(_HIDDEN)}
BYTE_TO_SYMBOL = [_SYMBOLS[byte] for byte in range(256)]  # 256 strings; BYTE_TO_SYMBOL[32] is "Ġ"
SYMBOL_TO_BYTE = {symbol: byte for byte, symbol in enumerate(BYTE_TO_SYMBOL)}
_LATIN1_TO_SYMBOL = "".join(BYTE_TO_SYMBOL)


def to_symbols(text: str) -> str:
    """One visible character per UTF-8 byte of the text.

    >>> to_symbols("é x")
    'Ã©Ġx'
    """
    return text.encode("utf-8").decode("latin-1").translate(_LATIN1_TO_SYMBOL)


def to_text(tokens: Iterable[str]) -> str:
    """The text that tokens spell when they are laid end to end: the inverse of `to_symbols`.

    Bytes that are not UTF-8 become U+FFFD.  A token that is not written in byte symbols, such as an added token with a
    space in it, stands for itself.

    >>> to_text(["Ã", "©Ġx", "new york"])
    'é xnew york'
    """
    return b"".join(map(_to_bytes, tokens)).decode("utf-8", errors="replace")


def _to_bytes(token: str) -> bytes:
    try:
        return bytes([SYMBOL_TO_BYTE[symbol] for symbol in token])
    except KeyError:
        return token.encode("utf-8")


Value = TypeVar("Value")


class Memo(dict[str, Value]):
    """A dictionary that computes the value of a word it does not have: text repeats its words, and merging is slow.

    When it is full, it forgets everything.  A very long word is never kept.

    >>> lengths = Memo(len, max_words=1000)
    >>> lengths["hello"], lengths
    (5, {'hello': 5})
    """

    MAX_LENGTH = 64

    def __init__(self, compute: Callable[[str], Value], max_words: int):
        super().__init__()
        self.compute = compute
        self.max_words = max_words

    def __missing__(self, word: str) -> Value:
        value = self.compute(word)
        if len(word) <= self.MAX_LENGTH:
            if len(self) >= self.max_words:
                self.clear()
            self[word] = value
        return value


class ByteLevelBPE:
    """Text to ids, by a vocabulary and a list of merges.

    Args:
        vocab: The id of each piece.
        merges: "left right" strings; the first is merged first.
        unk_id: The id of a byte whose symbol is not in `vocab`; None leaves such a byte out.
    """

    def __init__(self, vocab: dict[str, int], merges: Iterable[str], unk_id: int | None = None):
        self.vocab = vocab
        self.rank = {pair: rank for rank, pair in enumerate(merges)}
        self.unk_id = unk_id
        self._ids: Memo[tuple[int, ...]] = Memo(self._word_ids, max_words=1 << 14)  # 4 MB when full

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without special tokens: steps 1 to 4."""
        return list(chain.from_iterable(map(self._ids.__getitem__, split(text))))

    def _word_ids(self, word: str) -> tuple[int, ...]:
        ids = (self.vocab.get(piece, self.unk_id) for piece in self.merge(word))
        return tuple(number for number in ids if number is not None)

    def merge(self, word: str) -> tuple[str, ...]:
        """Step 3 on one word, in O(n log n) for n bytes.

        The pairs that can be merged wait in a heap, the lowest rank first, the leftmost among equals.  A merge writes
        the new piece over the left one and empties the place of the right one.  Pairs that are still in the heap
        although one of their pieces has changed are recognised, and passed over, when they come up.
        """
        rank = self.rank
        parts = [symbol for symbol in to_symbols(word) if symbol in self.vocab or self.unk_id is not None]
        end = len(parts)
        after = list(range(1, end + 1))  # after[i]: the place to the right of place i, `end` for the last
        before = list(range(-1, end - 1))  # before[i]: the place to its left, -1 for the first
        pairs = map(" ".join, pairwise(parts))
        heap = [(rank[pair], left, pair) for left, pair in enumerate(pairs) if pair in rank]
        heapify(heap)
        while heap:
            _, left, pair = heappop(heap)
            right = after[left]
            if right == end or f"{parts[left]} {parts[right]}" != pair:
                continue  # one of the two has been merged with its other neighbour since
            parts[left] += parts[right]
            parts[right] = ""
            right = after[left] = after[right]
            if right < end:
                before[right] = left
            for a, b in ((before[left], left), (left, right)):
                if a >= 0 and b < end:
                    pair = f"{parts[a]} {parts[b]}"
                    if pair in rank:
                        heappush(heap, (rank[pair], a, pair))
        return tuple(part for part in parts if part)
