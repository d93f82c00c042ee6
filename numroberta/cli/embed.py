"""`numroberta embed`: texts to vectors, printed or written to one file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from numroberta.arithmetic import POOLINGS
from numroberta.cli.arguments import (
    Parsers,
    add_field_options,
    add_model_options,
    add_texts,
    inputs_of,
    load_model,
    read_texts,
)
from numroberta.cli.endings import add_note, sigterm_interrupts
from numroberta.cli.output import counted, preview

if TYPE_CHECKING:
    from numroberta.corpus import Job, Progress, Summary

MOST_LOGGED = 10  # skipped rows that are reported one by one
MOST_COMPARED = 12  # texts for which a cosine matrix is still readable
RUN_OPTIONS = ("--resume", "--overwrite", "--quiet")
FILE_OPTIONS = ("--field", "--format", "--long", "--errors", *RUN_OPTIONS)
MEANT = "embed -f {} -o vectors.npy"


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
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="write all vectors: .npy, .jsonl, .jsonl.gz or .parquet; - as --jsonl",
    )
    parser.add_argument("--jsonl", action="store_true", help="print all vectors, a JSON object a line, as a .jsonl OUT")
    parser.add_argument("--json", action="store_true", help="print them as one JSON list of these objects")
    parser.add_argument("--pooling", choices=POOLINGS, help="(default: as the model's folder says, else mean)")
    parser.add_argument("--normalize", action="store_true", help="vectors of length 1")
    add_model_options(parser, dtypes=("float32", "float16", "float64"))
    files = parser.add_argument_group("files")
    add_field_options(files)
    files.add_argument(
        "--long",
        choices=["truncate", "split", "error"],
        help="a text that is too long: its beginning only, the mean of its parts, or stop (default: truncate)",
    )
    files.add_argument(
        "--errors",
        choices=["stop", "skip"],
        help="a row without text: stop, or a zero vector and a line in OUT.skipped.jsonl (default: stop)",
    )
    files.add_argument("--resume", action="store_true", help="go on with what a killed run left")
    files.add_argument("--overwrite", action="store_true", help="replace OUT, or what a killed run left")
    files.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")
    parser.set_defaults(run=run_embed)


def run_embed(options: argparse.Namespace) -> None:
    if bool(options.files) == bool(options.texts):
        raise ValueError("embed: expected texts, or -f FILE… -o OUT, and not both")
    if options.output == Path("-"):
        options.output, options.jsonl = None, not options.json
    if options.output and (options.json or options.jsonl):
        raise ValueError(f"embed: --json and --jsonl print the vectors: leave out -o {options.output}")
    if options.output:
        embed_into_file(options)
    elif options.json or options.jsonl:
        print_json(options)
    elif options.files:
        raise ValueError(
            "embed -f: expected -o OUT, the file that the vectors are written to, or --jsonl, to print them"
        )
    else:
        print_vectors(options)


def print_json(options: argparse.Namespace) -> None:
    """All vectors on standard output, a block of rows after the other."""
    from numroberta.corpus import Rows, json_lines

    refuse_unused([flag for flag in RUN_OPTIONS if value_of(options, flag)])
    inputs = options.files or inputs_of(options.texts, MEANT)
    rows = Rows(inputs, field=options.field, format=options.format, skip_bad=options.errors == "skip")
    encoder = load_model(options)
    embedder = encoder.embedder(
        normalize_embeddings=options.normalize, pooling=options.pooling, long=options.long or "truncate"
    )
    written = False
    with rows:
        for block in json_lines(
            rows, embedder, options.dtype, lambda line: print(f"numroberta: {line}", file=sys.stderr)
        ):
            lines = block.decode().rstrip("\n").split("\n")  # splitlines would cut at U+2028, too
            if options.json:
                print(",\n" if written else "[", ",\n".join(lines), sep="", end="")
            else:
                print(*lines, sep="\n")
            written = True
    if options.json:
        print("]" if written else "[]")


def value_of(options: argparse.Namespace, flag: str) -> object:
    """What an option was given."""
    return getattr(options, flag.removeprefix("--"))


def refuse_unused(unused: Sequence[str]) -> None:
    """ValueError for options that have a meaning for files only."""
    if unused:
        raise ValueError(f"embed: {', '.join(unused)} would do nothing without -o OUT, the file that is written")


def print_vectors(options: argparse.Namespace) -> None:
    """The first numbers of each vector, and how similar the texts are."""
    half = ["--dtype float16"] if options.dtype == "float16" else []
    refuse_unused([flag for flag in FILE_OPTIONS if value_of(options, flag)] + half)
    texts = list(read_texts(options.texts, MEANT))
    vectors = load_model(options).encode(
        texts,
        pooling=options.pooling,
        normalize_embeddings=options.normalize,
        show_progress_bar=sys.stderr.isatty() and len(texts) > 100,
    )
    count, dimensions = vectors.shape
    pooling = f"{options.pooling} pooling, " if options.pooling else ""
    print(f"{counted(count, 'text')} × {dimensions} dimensions, {vectors.dtype}, {pooling}{options.model}")
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


def embed_into_file(options: argparse.Namespace) -> None:
    """All vectors into one file, which can be resumed whatever happens."""
    from numroberta.corpus import BadRow, remarks, run_job

    job = job_of(options)
    watch = Watch(job, quiet=options.quiet)
    try:
        with sigterm_interrupts(), watch:
            summary = run_job(job, load_model(options), report=watch.report, log=watch.log, within=watch.within)
    except BaseException as error:
        if isinstance(error, BadRow):
            add_note(error, "mend it, or leave such rows out with --errors skip")
        interrupted = isinstance(error, KeyboardInterrupt)
        if watch.safe or (interrupted and job.begun):
            again = ", with the same input from its beginning" if "-" in job.inputs else ""
            safe = f"{counted(watch.safe, 'text')} safe" if watch.safe else "what is done is kept"
            add_note(error, f"{safe}: the same command with --resume goes on{again}")
        elif interrupted:
            error.args = (f"interrupted before the first {watch.awaited} safe: nothing is left, start again",)
        raise
    if not options.quiet:
        print(summarized(summary, job))
        for remark in remarks(summary):
            print(f"numroberta: {remark}", file=sys.stderr)


def job_of(options: argparse.Namespace) -> Job:
    """The job that the options describe, checked."""
    from numroberta.corpus import Job

    return Job(
        options.files or inputs_of(options.texts, MEANT),
        options.output,
        field=options.field,
        format=options.format,
        dtype=options.dtype,
        pooling=options.pooling,
        normalize_embeddings=options.normalize,
        long=options.long or "truncate",
        errors=options.errors or "stop",
        resume=options.resume,
        overwrite=options.overwrite,
    )


class Watch:
    """What is said on standard error while a job runs: how far it is, and which rows it skips."""

    def __init__(self, job: Job, *, quiet: bool):
        from numroberta.corpus import Meter

        self.job = job
        self.meter = None if quiet else Meter()
        self.safe = self.skipped = 0  # texts, rows
        self.block = 0  # texts that are being computed

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        if self.meter:
            self.meter.close()

    def report(self, progress: Progress) -> None:
        self.safe = progress.texts
        if self.meter:
            self.meter(progress)

    def within(self, progress: Progress) -> None:
        self.block = progress.block
        if self.meter:
            self.meter.within(progress)

    @property
    def awaited(self) -> str:
        """What is not safe yet, with its verb."""
        return "text was" if self.block == 1 else f"{self.block:,} texts were" if self.block else "texts were"

    def log(self, line: str) -> None:
        self.skipped += 1
        if self.skipped <= MOST_LOGGED:
            print(f"numroberta: {line}", file=sys.stderr)
        elif self.skipped == MOST_LOGGED + 1:
            print(f"numroberta: further ones are listed in {self.job.skipped_list} only", file=sys.stderr)


def summarized(summary: Summary, job: Job) -> str:
    """What a run has done, in a line or two."""
    if not summary.texts and job.resume:
        return f"{job.output} is left as it is: no run of it is unfinished (--overwrite makes it anew)"
    rate = f", {summary.tokens / summary.seconds:,.0f} tokens/s" if summary.seconds else ""
    texts = counted(summary.texts, "text")
    lines = [f"{texts}, {summary.tokens:,} tokens in {summary.seconds:,.1f} s{rate}: {job.output}"]
    if summary.resumed:
        lines.append(f"{summary.resumed:,} of them had been done before")
    if summary.long and job.long == "split":
        lines.append(f"{counted(summary.long, 'long text')}: the mean of the parts")
    elif summary.long:
        left_out = f"{counted(summary.left_out, 'token')} left out"
        lines.append(f"{counted(summary.long, 'long text')} truncated, {left_out}: --long split reads all")
    if summary.skipped:
        rows = counted(summary.skipped, "row")
        lines.append(f"{rows} skipped, with a zero vector each: {summary.skipped_list} lists them")
    return "\n".join(lines)
