"""The list of commands, and the parser that has them all."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from numroberta import __version__
from numroberta.checkpoint import did_you_mean
from numroberta.cli.bench import add_compare, add_trace, add_verify
from numroberta.cli.convert import add_convert
from numroberta.cli.embed import add_embed
from numroberta.cli.finetune import add_finetune
from numroberta.cli.fingerprint import add_fingerprint
from numroberta.cli.guide import add_guide
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
    add_guide,
)


def command_parser() -> argparse.ArgumentParser:
    """The parser of `numroberta`, whose result has the chosen command's function as `run`."""
    parser = Parser(prog="numroberta", description="RoBERTa in NumPy: text in, vectors out.")
    parser.add_argument("--version", action="version", version=f"numroberta {__version__}")
    parsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(parsers)
    return parser


class Parser(argparse.ArgumentParser):
    """argparse's, and so are those of the commands: what is not known gets a near match."""

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """Refuses an option that is not known with the usage of the command that does not know it."""
        known, unknown = super().parse_known_args(args, namespace)
        for word in unknown:
            if word.startswith("--"):
                option = word.partition("=")[0]
                near = did_you_mean(option, re.findall(r"--[\w-]+", self.format_help()))
                self.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        chosen = re.search(r"invalid choice: '(.+)' \(choose from (.+)\)", message)
        near = did_you_mean(chosen[1], re.findall(r"[\w-]+", chosen[2])) if chosen else ""
        super().error(message + near)
