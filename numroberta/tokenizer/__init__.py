"""Text to token ids and character offsets, and back.

tokenizer   `Tokenizer`: special tokens, pairs, truncation, windows
bpe         byte-level BPE, the algorithm
backends    pieces by this project's BPE or by the tokenizers library
files       what a folder's tokenizer files say
unicode16   which characters are letters, numbers and white space, in Unicode 16
words       tokens to words
"""

from typing import TYPE_CHECKING

from numroberta import door

if TYPE_CHECKING:
    from numroberta.tokenizer.bpe import SYMBOL_TO_BYTE as SYMBOL_TO_BYTE
    from numroberta.tokenizer.tokenizer import Encoding as Encoding, Tokenizer as Tokenizer
    from numroberta.tokenizer.unicode16 import WHITE_SPACE as WHITE_SPACE
    from numroberta.tokenizer.words import (
        AGGREGATIONS as AGGREGATIONS,
        BLANKS as BLANKS,
        Pieces as Pieces,
        TokenVectors as TokenVectors,
        Window as Window,
        WordVectors as WordVectors,
        pieces_of_text as pieces_of_text,
        pieces_of_words as pieces_of_words,
        windows as windows,
        word_vectors as word_vectors,
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
        "words": (
            "AGGREGATIONS",
            "BLANKS",
            "Pieces",
            "TokenVectors",
            "Window",
            "WordVectors",
            "pieces_of_text",
            "pieces_of_words",
            "windows",
            "word_vectors",
        ),
    },
)
