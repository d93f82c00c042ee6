"""The command line: arguments in, one call, output out.

A file holds a command or a family of commands, each with its arguments beside its function:

embed       texts to vectors, printed or written to a file
search      the embedded texts nearest to a query
tokenize    what the model reads in place of a text
info        what a checkpoint consists of
convert     a model as a new folder
view        a page that shows what the model does with a text
bench       `trace`, `compare` and `verify`, for whoever ports RoBERTa
finetune    a task taught to a model
heads       `fill-mask`, `classify`, `tag`, `answer` and `words`
arguments   what several commands share: which model, which texts
streams     standard input, output and error, closed or not
endings     signals, and errors that have something to add
output      how vectors and answers are printed

Exit codes: 0 done, 1 a comparison that failed, 2 unusable input or arguments, 130 interrupted (Ctrl-C),
143 told to stop (SIGTERM).
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

from numroberta.cli.bench import add_compare, add_trace, add_verify
from numroberta.cli.convert import add_convert
from numroberta.cli.embed import add_embed
from numroberta.cli.endings import Terminated
from numroberta.cli.finetune import add_finetune
from numroberta.cli.heads import add_answer, add_classify, add_fill_mask, add_tag, add_words
from numroberta.cli.info import add_info
from numroberta.cli.search import add_search
from numroberta.cli.streams import discard_output, prepare_streams
from numroberta.cli.tokenize import add_tokenize
from numroberta.cli.view import add_view

# Each adds its parser, in the order of `numroberta --help`.
COMMANDS = (
    add_embed,
    add_search,
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    prepare_streams()
    options = command_parser().parse_args(arguments)
    warnings.showwarning = lambda message, *_: print(f"numroberta: {message}", file=sys.stderr)
    try:
        code = int(options.run(options) or 0)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `numroberta … | head` has read enough
        discard_output()
        return 0
    except (ValueError, TypeError, OSError) as error:
        complain(error)
        return 2
    except MemoryError as error:
        complain(error, f"there is not enough memory: {error}" if str(error) else "there is not enough memory")
        return 2
    except KeyboardInterrupt as error:
        complain(error, "interrupted")
        return 143 if isinstance(error, Terminated) else 130


def complain(error: BaseException, sentence: str = "") -> None:
    """Say on standard error what is wrong, and what the error has to add in a line each."""
    for line in (sentence or error, *getattr(error, "__notes__", ())):
        print(f"numroberta: {line}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:  # the disk that standard output goes to is full: Python would say so again at its end
        discard_output()
