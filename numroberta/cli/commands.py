"""The list of commands, and the parser that has them all."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable
from typing import NamedTuple, NoReturn

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


FILES = ("-f", "--file", "--files")  # what `embed` has, and others may be given


class Way(NamedTuple):
    """How a command that takes no files reads one."""

    what: str
    arguments: Callable[[list[str]], list[str]]  # the others of the call -> all


# By the argument that reads standard input.
WAYS = {
    "texts": Way("lines", lambda others: ["-", *others]),
    "--context": Way("the context", lambda others: [*others, "--context", "-"]),
}


class Parser(argparse.ArgumentParser):
    """argparse's, and so are those of the commands: what is not known gets a near match."""

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """Refuses an option that is not known with the usage of the command that does not know it."""
        if args is not None and (hint := self._instead_of_files(list(args))):
            self.error(hint)
        known, unknown = super().parse_known_args(args, namespace)
        for word in unknown:
            if word.startswith("-"):
                option = word.partition("=")[0]
                near = did_you_mean(option, re.findall(r"--[\w-]+", self.format_help()))
                self.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
        return known, unknown

    def _instead_of_files(self, words: list[str]) -> str:
        """What to give in place of `-f FILE`, where the command reads standard input and no files."""
        way = next(
            (WAYS[name] for action in self._actions if (name := "".join(action.option_strings) or action.dest) in WAYS),
            None,
        )
        own = words[: words.index("--")] if "--" in words else words
        given = next((word for word in own if word in FILES), None)
        if way is None or given is None or given in self._option_string_actions:
            return ""
        place = words.index(given)
        file = "".join(words[place + 1 : place + 2]) or "FILE"
        rest = [word for word in words[:place] + words[place + 2 :] if word != "-"]
        command = " ".join(map(shlex.quote, way.arguments(rest)))
        return (
            f"unrecognized arguments: {given}; {self.prog.split()[-1]} reads {way.what} from standard input: "
            f"{self.prog} {command} < {shlex.quote(file)}"
        )

    def error(self, message: str) -> NoReturn:
        chosen = re.search(r"invalid choice: '(.+)' \(choose from (.+)\)", message)
        near = did_you_mean(chosen[1], re.findall(r"[\w-]+", chosen[2])) if chosen else ""
        super().error(message + near)
