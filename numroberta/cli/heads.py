"""What a checkpoint's heads answer: `numroberta fill-mask`, `classify`, `tag`, `answer` and `words`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from numroberta.arithmetic import heads
from numroberta.cli.arguments import Parsers, add_model_options, add_texts, inputs_of, load_model, read_whole
from numroberta.cli.output import preview, print_answers


def add_answer_options(parser: argparse.ArgumentParser, *, several: bool = True) -> None:
    """The options of every command that gives answers instead of vectors.  several: it takes any number of texts."""
    parser.add_argument("--json", action="store_true", help="one JSON line per text, even on a terminal")
    if several:
        parser.add_argument(
            "--errors",
            default="stop",
            choices=["stop", "skip"],
            help="a text without an answer: stop, or say so and go on (default: stop)",
        )
    add_model_options(parser)


def answer_each(options: argparse.Namespace, answer: Callable[[str], None]) -> None:
    """Call `answer` with each text; --errors says what becomes of one that has none."""
    from numroberta.corpus import Rows

    for row in Rows(inputs_of(options.texts), skip_bad=options.errors == "skip"):
        try:
            if row.text is None:
                raise ValueError(row.cause)
            answer(row.text)
        except ValueError as error:
            # Of the texts on the command line the message quotes the one; of many lines it gives the number.
            sentence = f"{row.place}: {error}" if "-" in options.texts else str(error)
            if options.errors == "stop":
                raise ValueError(sentence) from error
            print(f"numroberta: skipped: {sentence}", file=sys.stderr)


def add_fill_mask(parsers: Parsers) -> None:
    parser = parsers.add_parser("fill-mask", help="the likeliest words for <mask>")
    add_texts(parser, text="a text with <mask>")
    parser.add_argument("--top-k", type=int, default=5, metavar="K", help="how many for each mask (default: 5)")
    parser.add_argument(
        "--targets", nargs="+", metavar="WORD", help='score only these; " word" is one inside a sentence'
    )
    add_answer_options(parser)
    parser.set_defaults(run=run_fill_mask)


def run_fill_mask(options: argparse.Namespace) -> None:
    model = load_model(options)
    heads.require(model.checkpoint, heads.MASKED_LM)

    def answer(text: str) -> None:
        fillings = model.fill_mask(text, top_k=options.top_k, targets=options.targets)
        for of_one_mask in [fillings] if isinstance(fillings[0], dict) else fillings:
            print_answers(text, of_one_mask, options.json)

    answer_each(options, answer)


def add_classify(parsers: Parsers) -> None:
    parser = parsers.add_parser("classify", help="labels of texts, from a checkpoint with a classification head")
    add_texts(parser)
    parser.add_argument("--pair", metavar="TEXT", help="the second text of each pair")
    parser.add_argument("--top-k", type=int, metavar="K", help="how many labels (default: all)")
    add_answer_options(parser)
    parser.set_defaults(run=run_classify)


def run_classify(options: argparse.Namespace) -> None:
    model = load_model(options)
    heads.require(model.checkpoint, heads.SEQUENCE)
    second = {} if options.pair is None else {"pair": options.pair}

    def answer(text: str) -> None:
        labels = model.classify(text if options.pair is None else (text, options.pair), top_k=options.top_k)
        print_answers(text, labels, options.json, **second)

    answer_each(options, answer)


def add_tag(parsers: Parsers) -> None:
    parser = parsers.add_parser("tag", help="names and the like in texts, from a checkpoint that labels tokens")
    add_texts(parser)
    parser.add_argument(
        "--aggregation",
        default="simple",
        choices=["none", "simple", "first", "average", "max"],
        help="a row a token, or tokens joined to entities (default: simple)",
    )
    add_answer_options(parser)
    parser.set_defaults(run=run_tag)


def run_tag(options: argparse.Namespace) -> None:
    model = load_model(options)
    heads.require(model.checkpoint, heads.TOKEN)
    answer_each(options, lambda text: print_answers(text, model.tag(text, options.aggregation), options.json))


def add_answer(parsers: Parsers) -> None:
    parser = parsers.add_parser("answer", help="where a text answers a question, from a checkpoint that finds spans")
    parser.add_argument("question", metavar="QUESTION", help="what the text may answer")
    parser.add_argument("--context", required=True, metavar="TEXT", help="the text; - reads it from standard input")
    parser.add_argument("--top-k", type=int, default=1, metavar="K", help="how many answers (default: 1)")
    parser.add_argument("--no-answer", action="store_true", help="offer an empty answer too")
    add_answer_options(parser, several=False)
    parser.set_defaults(run=run_answer)


def run_answer(options: argparse.Namespace) -> None:
    model = load_model(options)
    context = read_whole(options.context)
    answers = model.answer(options.question, context, top_k=options.top_k, handle_impossible_answer=options.no_answer)
    print_answers(options.question, [answers] if options.top_k == 1 else answers, options.json)


def add_words(parsers: Parsers) -> None:
    parser = parsers.add_parser("words", help="a vector for each word of a text")
    add_texts(parser)
    parser.add_argument(
        "--aggregation", default="first", choices=["first", "mean"], help="of a word's pieces (default: first)"
    )
    parser.add_argument(
        "--layers", nargs="+", type=int, default=[-1], metavar="L", help="hidden states to average (default: -1)"
    )
    add_answer_options(parser)
    parser.set_defaults(run=run_words)


def run_words(options: argparse.Namespace) -> None:
    model = load_model(options)

    def answer(text: str) -> None:
        rows: list[dict[str, Any]] = [
            {"word": word, "begin": begin, "end": end, "embedding": [float(value) for value in vector]}
            for word, (begin, end), vector in zip(
                *model.encode_words(text, options.aggregation, options.layers), strict=True
            )
        ]
        if sys.stdout.isatty() and not options.json:
            for row in rows:
                row["embedding"] = preview(row["embedding"])
        print_answers(text, rows, options.json)

    answer_each(options, answer)
