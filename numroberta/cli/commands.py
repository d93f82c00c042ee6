"""The list of commands, and the parser that has them all."""

from __future__ import annotations

import argparse

from numroberta.cli.bench import add_compare, add_trace, add_verify
from numroberta.cli.convert import add_convert
from numroberta.cli.embed import add_embed
from numroberta.cli.finetune import add_finetune
from numroberta.cli.fingerprint import add_fingerprint
from numroberta.cli.heads import add_answer, add_classify, add_fill_mask, add_tag, add_words
from numroberta.cli.info import add_info
from numroberta.cli.search import add_search
from numroberta.cli.serve import add_serve
from numroberta.cli.tokenize import add_tokenize
from numroberta.cli.view import add_view

# Each adds its parser, in the order of `numroberta --help`.
COMMANDS = (
    add_embed,
    add_search,
    add_serve,
    add_tokenize,
    add_info,
    add_view,
    add_fill_mask,
    add_classify,
    add_tag,
    add_answer,
    add_words,
    add_finetune,
    add_trace,
    add_compare,
    add_fingerprint,
    add_verify,
    add_convert,
)


def command_parser() -> argparse.ArgumentParser:
    """The parser of `numroberta`, whose result has the chosen command's function as `run`."""
    parser = argparse.ArgumentParser(prog="numroberta", description="RoBERTa in NumPy: text in, vectors out.")
    parsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(parsers)
    return parser
