"""Text to token ids and character offsets, and back.

tokenizer   `Tokenizer`: special tokens, pairs, truncation
windows     how a text that is too long is cut
bpe         byte-level BPE, the algorithm
backends    a text's tokens by this project's BPE or by the tokenizers library
files       what a folder's tokenizer files say
frame       the special tokens around a text or a pair
saving      a tokenizer as files
unicode16   which characters are letters, numbers and white space, in Unicode 16
words       tokens to words
"""

from typing import TYPE_CHECKING

from numroberta import door

if TYPE_CHECKING:
    from numroberta.tokenizer.bpe import SYMBOL_TO_BYTE as SYMBOL_TO_BYTE
    from numroberta.tokenizer.tokenizer import Encoding as Encoding, Tokenizer as Tokenizer
    from numroberta.tokenizer.unicode16 import WHITE_SPACE as WHITE_SPACE
    from numroberta.tokenizer.windows import (
        Window as Window,
        overlapping_windows as overlapping_windows,
        windows_with_context as windows_with_context,
    )
    from numroberta.tokenizer.words import (
        AGGREGATIONS as AGGREGATIONS,
        BLANKS as BLANKS,
        TokenVectors as TokenVectors,
        WordTokens as WordTokens,
        WordVectors as WordVectors,
        tokenize_words as tokenize_words,
        word_vectors as word_vectors,
        words_in_text as words_in_text,
    )

__getattr__, __dir__ = door(
    __name__,
    {
        "bpe": ("SYMBOL_TO_BYTE",),
        "tokenizer": (
            "Encoding",
            "Tokenizer",
        ),
        "unicode16": ("WHITE_SPACE",),
        "windows": (
            "Window",
            "overlapping_windows",
            "windows_with_context",
        ),
        "words": (
            "AGGREGATIONS",
            "BLANKS",
            "TokenVectors",
            "WordTokens",
            "WordVectors",
            "tokenize_words",
            "word_vectors",
            "words_in_text",
        ),
    },
)
