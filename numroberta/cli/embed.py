"""`numroberta embed`: texts to vectors, printed or written to one file."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from numroberta.arithmetic import POOLINGS
from numroberta.cli.arguments import Parsers, add_field_options, add_model_options, add_texts, load_model, read_texts
from numroberta.cli.output import preview

if TYPE_CHECKING:
    from numroberta.corpus import Rows, Summary

MOST_LOGGED = 10  # skipped rows that are reported one by one
MOST_COMPARED = 12  # texts for which a cosine matrix is still readable


def add_embed(parsers: Parsers) -> None:
    parser = parsers.add_parser("embed", help="texts to vectors: texts as arguments, or -f FILE… -o OUT for any number")
    add_texts(parser, nargs="*")
    parser.add_argument(
        "-f",
        "--files",
        nargs="+",
        metavar="FILE",
        help=".txt (a text a line), .jsonl, .csv, .tsv, each also .gz; .parquet; - for standard input",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="OUT", help="write all vectors: .npy, .jsonl, .jsonl.gz or .parquet"
    )
    parser.add_argument("--pooling", choices=POOLINGS, help="(default: as the model's folder says, else mean)")
    parser.add_argument("--normalize", action="store_true", help="vectors of length 1")
    add_model_options(parser, dtypes=("float32", "float16", "float64"))
    files = parser.add_argument_group("files")
    add_field_options(files)
    files.add_argument(
        "--long",
        default="truncate",
        choices=["truncate", "split", "error"],
        help="a text that is too long: its beginning only, the mean of its parts, or stop (default: truncate)",
    )
    files.add_argument(
        "--errors",
        default="stop",
        choices=["stop", "skip"],
        help="a row without text: stop, or a zero vector and a line in OUT.skipped.jsonl (default: stop)",
    )
    files.add_argument("--resume", action="store_true", help="go on with what a killed run left")
    files.add_argument("--overwrite", action="store_true", help="replace OUT, or what a killed run left")
    files.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")
    parser.set_defaults(run=run_embed)


def run_embed(options: argparse.Namespace) -> int:
    if bool(options.files) == bool(options.texts):
        raise ValueError("embed: expected texts, or -f FILE… -o OUT, and not both")
    if options.output:
        return embed_into(options)
    if options.files:
        raise ValueError("embed -f: expected -o OUT, the file that the vectors are written to")
    texts = list(read_texts(options.texts))
    vectors = load_model(options).encode(
        texts,
        pooling=options.pooling,
        normalize_embeddings=options.normalize,
        show_progress_bar=sys.stderr.isatty() and len(texts) > 100,
    )
    count, dimensions = vectors.shape
    pooling = f"{options.pooling} pooling, " if options.pooling else ""
    print(f"{count:,} texts × {dimensions} dimensions, {vectors.dtype}, {pooling}{options.model}")
    shown = slice(None, MOST_COMPARED)
    for number, (text, vector) in enumerate(zip(texts[shown], vectors[shown], strict=True), start=1):
        print(f"{number:3d}  {preview(vector)}  {text[:60]}")
    if len(texts) > MOST_COMPARED:
        print(f"     … and {len(texts) - MOST_COMPARED:,} more: -o FILE.npy or FILE.jsonl writes all")
    if len(texts) > 1:
        from numroberta.arithmetic import cosine_similarity

        print("\ncosine similarity")
        print("     " + "".join(f"{number:7d}" for number in range(1, len(vectors[shown]) + 1)))
        for number, row in enumerate(cosine_similarity(vectors[shown], vectors[shown]), start=1):
            print(f"{number:3d}  " + "".join(f"{value:7.3f}" for value in row))
    return 0


class Terminated(KeyboardInterrupt):
    """SIGTERM, which stops a run as Ctrl-C does."""


def embed_into(options: argparse.Namespace) -> int:
    """All vectors into one file, which can be resumed whatever happens."""
    from dataclasses import replace

    from numroberta.corpus import BadRow, Given, Meter, Summary, check_files, embed_files

    def terminate(*_: object) -> None:
        raise Terminated

    inputs = options.files or ["-" if text == "-" else Given([text]) for text in options.texts]
    done = Summary()
    skipped = 0

    def log(line: str) -> None:
        nonlocal skipped
        skipped += 1
        if skipped <= MOST_LOGGED:
            print(f"numroberta: {line}", file=sys.stderr)
        elif skipped == MOST_LOGGED + 1:
            print(f"numroberta: further ones are listed in {options.output}.skipped.jsonl only", file=sys.stderr)

    def report(summary: Summary, rows: Rows) -> None:
        nonlocal done
        done = replace(summary)
        meter(summary, rows)

    checks = {"format": options.format, "resume": options.resume, "overwrite": options.overwrite}
    check_files(inputs, options.output, **checks)
    earlier = signal.signal(signal.SIGTERM, terminate)
    try:
        with Meter(options.quiet) as meter:
            summary = embed_files(
                load_model(options),
                inputs,
                options.output,
                field=options.field,
                dtype=options.dtype,
                pooling=options.pooling,
                normalize_embeddings=options.normalize,
                long=options.long,
                errors=options.errors,
                report=report,
                log=log,
                **checks,
            )
    except (ValueError, OSError, KeyboardInterrupt) as error:
        stopped = isinstance(error, KeyboardInterrupt)
        hint = ": mend it, or leave such rows out with --errors skip" if isinstance(error, BadRow) else ""
        print(f"numroberta: {'interrupted' if stopped else error}{hint}", file=sys.stderr)
        if done.texts:
            again = ", with the same input from its beginning" if "-" in inputs else ""
            print(
                f"numroberta: {done.texts:,} texts are safe: the same command with --resume goes on{again}",
                file=sys.stderr,
            )
        return 143 if isinstance(error, Terminated) else 130 if stopped else 2
    finally:
        signal.signal(signal.SIGTERM, earlier)
    if not options.quiet:
        print(told(summary, options))
    return 0


def told(summary: Summary, options: argparse.Namespace) -> str:
    """What a run has done, in a line or two."""
    if not summary.texts and options.resume:
        return f"{options.output} is complete: nothing to resume (--overwrite starts anew)"
    rate = f", {summary.tokens / summary.seconds:,.0f} tokens/s" if summary.seconds else ""
    lines = [f"{summary.texts:,} texts, {summary.tokens:,} tokens in {summary.seconds:,.1f} s{rate}: {options.output}"]
    if summary.resumed:
        lines.append(f"{summary.resumed:,} of them had been done before")
    if summary.long and options.long == "split":
        lines.append(f"{summary.long:,} long texts: the mean of their parts")
    elif summary.long:
        lines.append(
            f"{summary.long:,} long texts were truncated, {summary.left_out:,} tokens left out: --long split reads all"
        )
    if summary.skipped:
        lines.append(f"{summary.skipped:,} rows were skipped and have zero vectors: {summary.skipped_list} lists them")
    return "\n".join(lines)
