"""Arguments that several commands share: which model, which texts, where in a file they are."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from numroberta import warn

if TYPE_CHECKING:
    from numroberta.corpus import Input
    from numroberta.model import TextEncoder

Parsers = Any  # what argparse's add_subparsers returns has no public name

MOST_THREADS = 1024  # beyond it a computer takes seconds only to start them

MODEL_NAMES = "tiny (built in), a folder, or a name on the hub"
STANDARD_INPUT = "- reads standard input, one text per line"


def add_texts(parser: argparse.ArgumentParser, *, text: str = "a text", nargs: str = "+") -> None:
    """The argument for the texts, which `read_texts` reads."""
    parser.add_argument("texts", nargs=nargs, metavar="TEXT", help=f"{text}; {STANDARD_INPUT}")


def add_model_name(parser: argparse.ArgumentParser, *, positional: bool = False) -> None:
    """Which model, and which state of it."""
    which = f"{MODEL_NAMES} (default: tiny)"
    if positional:
        parser.add_argument("model", nargs="?", default="tiny", help=which)
    else:
        parser.add_argument("--model", default="tiny", help=which)
    parser.add_argument("--revision", help="branch, tag or commit on the hub")


def add_dtype(parser: argparse.ArgumentParser, dtypes: Sequence[str] = ("float32", "float64")) -> None:
    """The precision that is computed with."""
    half = "; float16: only in the file" if "float16" in dtypes else ""
    parser.add_argument("--dtype", default="float32", choices=dtypes, help=f"of the arithmetic{half}")


def add_reproducible(parser: argparse.ArgumentParser) -> None:
    """Whether the last bit counts."""
    parser.add_argument(
        "--reproducible", action="store_true", help="the same bits on every machine, too: takes twice the time"
    )


def add_resources(parser: argparse.ArgumentParser) -> None:
    """How much of the computer is used."""
    parser.add_argument("--threads", type=thread_count, metavar="N", help="cores to use (default: all)")
    parser.add_argument("--low-memory", action="store_true", help="keep one layer's weights in memory")


def add_model_options(parser: argparse.ArgumentParser, dtypes: Sequence[str] = ("float32", "float64")) -> None:
    """The options of every command that computes with a model."""
    add_model_name(parser)
    add_arithmetic(parser, dtypes)


def add_arithmetic(parser: argparse.ArgumentParser, dtypes: Sequence[str] = ("float32", "float64")) -> None:
    """How it is computed, and with how much of the computer."""
    add_dtype(parser, dtypes)
    parser.add_argument(
        "--deterministic", action="store_true", help="the same bits in any batch, on any number of cores"
    )
    add_reproducible(parser)
    add_resources(parser)


def thread_count(text: str) -> int:
    """The number that --threads names."""
    if not text.isdecimal() or not 1 <= int(text) <= MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{text!r}, expected 1 to {MOST_THREADS:,}")
    return int(text)


def load_model(options: argparse.Namespace) -> TextEncoder:
    """The model that `add_model_options` describes."""
    from numroberta.model import load

    return load(
        options.model,
        dtype="float64" if options.dtype == "float64" else "float32",
        num_threads=options.threads,
        deterministic=options.deterministic,
        reproducible=options.reproducible,
        low_memory=options.low_memory,
        revision=options.revision,
    )


def add_field_options(parser: Any) -> None:
    """The options that say where in a file the texts are."""
    from numroberta.corpus import FORMATS

    parser.add_argument(
        "--field",
        "--column",
        metavar="NAME",
        help="field or column of the text (default: text); in .csv and .tsv a number: there is no header line",
    )
    parser.add_argument("--format", choices=FORMATS, help="where the file's name does not say it")


def inputs_of(arguments: Sequence[str], meant: str = "… - < {}") -> list[Input]:
    """The arguments themselves as inputs; `-` stands for standard input.

    meant: what should have been given in place of a file's name, which is a text, too: hence only a warning.
    """
    from numroberta.corpus import TextList

    files = [argument for argument in arguments if os.path.isfile(argument)]
    if files:
        command = meant.format(shlex.quote(files[0]))
        warn(f"the text {files[0]!r} is the name of a file, which is not read: numroberta {command} reads it")
    return ["-" if argument == "-" else TextList([argument]) for argument in arguments]


def read_whole(argument: str) -> str:
    """The argument itself; `-` stands for all of standard input, as one text."""
    from numroberta.corpus import standard_input

    if argument != "-":
        return argument
    data = standard_input().read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input: not UTF-8 from byte {error.start:,}") from None


def read_texts(arguments: Sequence[str], meant: str = "… - < {}") -> Iterator[str]:
    """The arguments themselves; `-` stands for the lines of standard input, which are read as a .txt file's are."""
    from numroberta.corpus import Rows

    yield from (row.text for row in Rows(inputs_of(arguments, meant)) if row.text is not None)
