"""The command line: arguments in, one call, output out.

Exit codes: 0 done, 1 a comparison that failed, 2 unusable input or arguments, 130 interrupted (Ctrl-C),
143 told to stop (SIGTERM).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numroberta.arithmetic import POOLINGS

if TYPE_CHECKING:
    from numroberta.corpus import Rows, Summary
    from numroberta.model import TextEncoder

Parsers = Any  # what argparse's add_subparsers returns has no public name

PREVIEW = 5  # numbers of a vector that are shown
WIDEST = 100  # characters of a text that a ranking shows
MOST_LOGGED = 10  # skipped rows that are told one by one
MOST_COMPARED = 12  # texts for which a cosine matrix is still readable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="numroberta", description="RoBERTa in NumPy: text in, vectors out.")
    parsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (
        add_embed,
        add_tokenize,
        add_info,
        add_view,
        add_trace,
        add_compare,
        add_search,
        add_verify,
        add_fill_mask,
        add_classify,
        add_tag,
        add_answer,
        add_words,
    ):
        add(parsers)
    options = parser.parse_args(arguments)
    warnings.showwarning = lambda message, *_: print(f"numroberta: {message}", file=sys.stderr)
    try:
        return int(options.run(options) or 0)
    except (ValueError, TypeError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # `numroberta … | head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"numroberta: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("numroberta: interrupted", file=sys.stderr)
        return 130


def add_model_options(parser: argparse.ArgumentParser, dtypes: Sequence[str] = ("float32", "float64")) -> None:
    """The options of every command that computes with a model."""
    parser.add_argument(
        "--model", default="tiny", help="tiny (built in), a folder, or a name on the hub (default: tiny)"
    )
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    half = "; float16: only in the file" if "float16" in dtypes else ""
    parser.add_argument("--dtype", default="float32", choices=dtypes, help=f"of the arithmetic{half}")
    parser.add_argument("--threads", type=int, metavar="N", help="cores to use (default: all)")
    parser.add_argument(
        "--deterministic", action="store_true", help="the same bits in any batch, on any number of cores"
    )
    parser.add_argument("--low-memory", action="store_true", help="keep one layer's weights in memory")


def load_model(options: argparse.Namespace) -> TextEncoder:
    """The model that `add_model_options` describes."""
    from numroberta.model import load

    return load(
        options.model,
        dtype="float64" if options.dtype == "float64" else "float32",
        num_threads=options.threads,
        deterministic=options.deterministic,
        low_memory=options.low_memory,
        revision=options.revision,
    )


def read_texts(arguments: Iterable[str]) -> Iterator[str]:
    """The arguments themselves; `-` stands for the lines of standard input."""
    for argument in arguments:
        if argument == "-":
            yield from (line.rstrip("\r\n") for line in sys.stdin)
        else:
            yield argument


def add_embed(parsers: Parsers) -> None:
    parser = parsers.add_parser("embed", help="texts to vectors: texts as arguments, or -f FILE… -o OUT for any number")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="a text; - reads a text a line from standard input")
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


def add_field_options(parser: Any) -> None:
    """The options that say where in a file the texts are."""
    parser.add_argument(
        "--field",
        "--column",
        metavar="NAME",
        help="field or column of the text (default: text); in .csv and .tsv a number: there is no header line",
    )
    parser.add_argument(
        "--format", choices=["txt", "jsonl", "csv", "tsv", "parquet"], help="where the file's name does not say it"
    )


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
        numbers = " ".join(f"{value: .3f}" for value in vector[:PREVIEW])
        print(f"{number:3d}  [{numbers} …]  {text[:60]}")
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


def add_tokenize(parsers: Parsers) -> None:
    parser = parsers.add_parser("tokenize", help="pieces, ids and character offsets of a text")
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="a text; - reads a text a line from standard input")
    parser.add_argument(
        "--model", default="tiny", help="tiny (built in), a folder, or a name on the hub (default: tiny)"
    )
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.set_defaults(run=run_tokenize)


def run_tokenize(options: argparse.Namespace) -> None:
    from numroberta.checkpoint import find_folder
    from numroberta.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(find_folder(options.model, revision=options.revision))
    for text in read_texts(options.texts):
        encoding = tokenizer(text, truncation=False)
        print(f"{len(encoding)} tokens")
        width = max(map(len, encoding.tokens))
        for token, number, (start, stop) in zip(encoding.tokens, encoding.ids, encoding.offsets, strict=True):
            piece = text[start:stop]
            print(
                f"{number:6d}  {token:{width}s}  {start:4d}:{stop:<4d}  {piece!r}" if piece else f"{number:6d}  {token}"
            )


def add_info(parsers: Parsers) -> None:
    parser = parsers.add_parser("info", help="config, parameters, dtype and size of a model")
    parser.add_argument("model", nargs="?", default="tiny", help="tiny (built in), a folder, or a name on the hub")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.set_defaults(run=run_info)


def run_info(options: argparse.Namespace) -> None:
    from dataclasses import fields

    from numroberta.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(options.model, revision=options.revision)
    print(f"{checkpoint.name}  {checkpoint.model_folder}")
    for field in fields(checkpoint.config):
        print(f"  {field.name:24s} {getattr(checkpoint.config, field.name)}")
    print("parameters")
    for part, count in checkpoint.parameters.items():
        print(f"  {part:24s} {count:>13,}")
    print(f"  {'total':24s} {sum(checkpoint.parameters.values()):>13,}")
    files = ", ".join(path.name for path in checkpoint.files)
    print(f"{checkpoint.dtype}, {checkpoint.file_size / 1e6:,.1f} MB in {files}")


def add_view(parsers: Parsers) -> None:
    parser = parsers.add_parser("view", help="a page that shows tokens, attention, predictions and similarity")
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="a text; - reads a text a line from standard input")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("view.html"), metavar="FILE", help="the page (default: view.html)"
    )
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    add_model_options(parser)
    parser.set_defaults(run=run_view)


def run_view(options: argparse.Namespace) -> None:
    from numroberta.view import examine, render

    if not options.output.parent.is_dir():
        raise ValueError(f"--output {options.output}: {options.output.parent} is not a folder")
    findings = examine(load_model(options), list(read_texts(options.texts)))
    page = render(findings).encode()
    options.output.write_bytes(page)
    texts, tokens = len(findings["texts"]), sum(len(text["tokens"]) for text in findings["texts"])
    print(
        f"{texts} text{'s' * (texts > 1)}, {tokens} tokens, {findings['layers']} layers × {findings['heads']} heads, "
        f"{len(page) / 1e6:.2f} MB\nwritten to {options.output}"
    )
    if options.open:
        import webbrowser

        webbrowser.open(options.output.resolve().as_uri())


def add_trace(parsers: Parsers) -> None:
    parser = parsers.add_parser("trace", help="record every activation, for a port to be compared with")
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="a text; - reads a text a line from standard input")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="a name in .safetensors")
    add_model_options(parser)
    parser.set_defaults(run=run_trace)


def run_trace(options: argparse.Namespace) -> None:
    from numroberta import parity

    if options.output.suffix != ".safetensors":
        raise ValueError(f"--output {options.output}: expected a name that ends in .safetensors")
    texts = list(read_texts(options.texts))
    model = load_model(options)
    recorded = parity.trace(model, *parity.batch(model, texts))
    parity.save(options.output, recorded, parity.provenance(model, texts))
    rows, tokens = recorded["input_ids"].shape
    print(f"{rows} texts of up to {tokens} tokens: {len(recorded)} tensors, {model.model.dtype}, {options.model}")
    print(f"written to {options.output}")


def add_compare(parsers: Parsers) -> None:
    parser = parsers.add_parser("compare", help="where another program's activations first differ, and why")
    parser.add_argument("reference", type=Path, metavar="REFERENCE", help="what `numroberta trace` wrote")
    parser.add_argument("mine", type=Path, metavar="MINE", help="the other program's: .safetensors or .npz")
    parser.add_argument("--model", help="the weights, for the diagnosis (default: the reference's)")
    parser.add_argument("--map", type=Path, metavar="FILE", help="JSON object from my names to the reference's")
    parser.add_argument("--rtol", type=float, help="accept |mine - reference| <= atol + rtol * |reference| instead")
    parser.add_argument("--atol", type=float, help="of the tolerance that follows from dtype and depth")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.set_defaults(run=run_compare)


def run_compare(options: argparse.Namespace) -> int:
    from numroberta import parity

    names = parity.read_names(options.map) if options.map else {}
    comparison = parity.compare(
        options.reference, options.mine, model=options.model, rtol=options.rtol, atol=options.atol, names=names
    )
    if options.json:
        print(json.dumps(comparison.as_dict(), ensure_ascii=False))
    else:
        print(parity.report(comparison, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
    return 0 if comparison.alike else 1


def add_search(parsers: Parsers) -> None:
    parser = parsers.add_parser("search", help="the texts nearest to a query, by the vectors that embed wrote")
    parser.add_argument(
        "queries", nargs="+", metavar="QUERY", help="a text; - reads a query a line from standard input"
    )
    parser.add_argument("--vectors", type=Path, required=True, metavar="OUT.npy", help="what `embed -o` wrote")
    parser.add_argument(
        "--texts", nargs="+", required=True, metavar="FILE", help="the files that were embedded, in the same order"
    )
    parser.add_argument("-k", type=int, default=10, help="how many (default: 10)")
    parser.add_argument("--pooling", choices=POOLINGS, help="as it was for the vectors")
    add_field_options(parser)
    add_model_options(parser)
    parser.set_defaults(run=run_search)


def run_search(options: argparse.Namespace) -> None:
    from numroberta.corpus import Rows, nearest, open_vectors, texts_at

    rows = Rows(options.texts, format=options.format, field=options.field, keep_fields=False, skip_bad=True)
    queries = list(read_texts(options.queries))
    model = load_model(options)
    vectors = open_vectors(options.vectors, model.embedder(pooling=options.pooling).dimension)
    found = nearest(model.encode(queries, pooling=options.pooling), vectors, options.k)
    texts, count = texts_at(rows, {hit.row for hits in found for hit in hits})
    if count != len(vectors):
        raise ValueError(
            f"{options.vectors} has {len(vectors):,} vectors, and --texts has {count:,} rows: expected the same files, "
            "in the same order, as were embedded"
        )
    for query, hits in zip(queries, found, strict=True):
        print(" ".join(query.split()))
        for rank, hit in enumerate(hits, start=1):
            row = texts[hit.row]
            line = " ".join((row.text or "").split())
            where = f"{Path(row.file).name}:{row.line}"
            print(f"{rank:4d}  {hit.score:6.3f}  {where}  {line if len(line) <= WIDEST else line[:WIDEST] + '…'}")


def add_verify(parsers: Parsers) -> None:
    parser = parsers.add_parser("verify", help="hold a model against PyTorch, layer by layer")
    parser.add_argument("model", help="tiny (built in), a folder, or a name on the hub")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.set_defaults(run=run_verify)


def run_verify(options: argparse.Namespace) -> int:
    from numroberta.parity import beside_pytorch as verify

    found = verify.verify(options.model, revision=options.revision)
    print(verify.report(found))
    return 0 if found.right else 1


def add_answer_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that gives answers instead of vectors."""
    parser.add_argument("--json", action="store_true", help="a JSON line a text, as when the output is not a terminal")
    add_model_options(parser)


def print_answers(text: str, answers: Sequence[dict[str, Any]], json_lines: bool, **more: str) -> None:
    """A table for people, or a line for programs: `{"text": …, "answers": [{…}, …]}`."""
    if json_lines or not sys.stdout.isatty():
        print(json.dumps({"text": text, **more, "answers": answers}, ensure_ascii=False))
        return
    print(" ".join(" ".join([text, *more.values()]).split()))
    rows = [
        [f"{value:.4f}" if isinstance(value, float) else " ".join(str(value).split()) for value in row.values()]
        for row in answers
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  " + "  ".join(f"{cell:{width}s}" for cell, width in zip(row, widths, strict=True)).rstrip())


def add_fill_mask(parsers: Parsers) -> None:
    parser = parsers.add_parser("fill-mask", help="the likeliest words for <mask>")
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="a text with <mask>; - reads one a line")
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
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="a text; - reads one a line")
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
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="a text; - reads one a line")
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
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="a text; - reads one a line")
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
                row["embedding"] = f"[{' '.join(f'{value: .3f}' for value in row['embedding'][:PREVIEW])} …]"
        print_answers(text, rows, options.json)
