"""What a checkpoint's heads answer: `numroberta fill-mask`, `classify`, `tag`, `answer` and `words`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from numroberta.cli.arguments import Parsers, add_model_options, add_texts, load_model, read_texts
from numroberta.cli.output import preview, print_answers


def add_answer_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that gives answers instead of vectors."""
    parser.add_argument("--json", action="store_true", help="a JSON line a text, as when the output is not a terminal")
    add_model_options(parser)


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
    for text in read_texts(options.texts):
        found = model.fill_mask(text, top_k=options.top_k, targets=options.targets)
        for answers in [found] if isinstance(found[0], dict) else found:
            print_answers(text, answers, options.json)


def add_classify(parsers: Parsers) -> None:
    parser = parsers.add_parser("classify", help="labels of texts, from a checkpoint with a classification head")
    add_texts(parser)
    parser.add_argument("--pair", metavar="TEXT", help="the second text of each pair")
    parser.add_argument("--top-k", type=int, metavar="K", help="how many labels (default: all)")
    add_answer_options(parser)
    parser.set_defaults(run=run_classify)


def run_classify(options: argparse.Namespace) -> None:
    model = load_model(options)
    more = {} if options.pair is None else {"pair": options.pair}
    for text in read_texts(options.texts):
        given = text if options.pair is None else (text, options.pair)
        print_answers(text, model.classify(given, top_k=options.top_k), options.json, **more)


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
    for text in read_texts(options.texts):
        print_answers(text, model.tag(text, options.aggregation), options.json)


def add_answer(parsers: Parsers) -> None:
    parser = parsers.add_parser("answer", help="where a text answers a question, from a checkpoint that finds spans")
    parser.add_argument("question")
    parser.add_argument("--context", required=True, metavar="TEXT", help="the text; - reads it from standard input")
    parser.add_argument("--top-k", type=int, default=1, metavar="K", help="how many answers (default: 1)")
    parser.add_argument("--no-answer", action="store_true", help="offer an empty answer too")
    add_answer_options(parser)
    parser.set_defaults(run=run_answer)


def run_answer(options: argparse.Namespace) -> None:
    model = load_model(options)
    context = sys.stdin.read() if options.context == "-" else options.context
    found = model.answer(options.question, context, top_k=options.top_k, handle_impossible_answer=options.no_answer)
    print_answers(options.question, [found] if options.top_k == 1 else found, options.json)


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
    for text in read_texts(options.texts):
        found = model.encode_words(text, options.aggregation, options.layers)
        rows: list[dict[str, Any]] = [
            {"word": word, "begin": begin, "end": end, "embedding": [float(value) for value in vector]}
            for word, (begin, end), vector in zip(*found, strict=True)
        ]
        if sys.stdout.isatty() and not options.json:
            for row in rows:
                row["embedding"] = preview(row["embedding"])
        print_answers(text, rows, options.json)
