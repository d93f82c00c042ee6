"""`numroberta tokenize`: what the model reads in place of a text."""

from __future__ import annotations

import argparse

from numroberta.cli.arguments import Parsers, add_model_name, add_texts, read_texts
from numroberta.cli.output import counted


def add_tokenize(parsers: Parsers) -> None:
    parser = parsers.add_parser("tokenize", help="pieces, ids and character offsets of a text")
    add_texts(parser)
    add_model_name(parser)
    parser.set_defaults(run=run_tokenize)


def run_tokenize(options: argparse.Namespace) -> None:
    from numroberta.checkpoint import find_folder
    from numroberta.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(find_folder(options.model, revision=options.revision))
    for text in read_texts(options.texts):
        encoding = tokenizer(text, truncation=False)
        print(counted(len(encoding), "token"))
        width = max(map(len, encoding.tokens))
        for token, number, (start, stop) in zip(encoding.tokens, encoding.ids, encoding.offsets, strict=True):
            piece = text[start:stop]
            print(
                f"{number:6d}  {token:{width}s}  {start:4d}:{stop:<4d}  {piece!r}" if piece else f"{number:6d}  {token}"
            )
