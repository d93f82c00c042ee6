"""The command line: arguments in, one call, output out.

Exit codes: 0 done, 1 a comparison that failed, 2 unusable input or arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numroberta.model import TextEncoder

Parsers = Any  # what argparse's add_subparsers returns has no public name

PREVIEW = 5  # numbers of a vector that are shown
MOST_COMPARED = 12  # texts for which a cosine matrix is still readable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="numroberta", description="RoBERTa in NumPy: text in, vectors out.")
    parsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (add_embed, add_tokenize, add_info, add_view, add_trace, add_compare):
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


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that computes with a model."""
    parser.add_argument(
        "--model", default="tiny", help="tiny (built in), a folder, or a name on the hub (default: tiny)"
    )
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"], help="of the arithmetic")
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
        dtype=options.dtype,
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
    parser = parsers.add_parser("embed", help="texts to vectors")
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="a text; - reads a text a line from standard input")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write all vectors: .npy or .jsonl")
    parser.add_argument("--pooling", default="mean", choices=["mean", "cls", "max"], help="(default: mean)")
    parser.add_argument("--normalize", action="store_true", help="vectors of length 1")
    add_model_options(parser)
    parser.set_defaults(run=run_embed)


def run_embed(options: argparse.Namespace) -> None:
    if options.output and options.output.suffix not in (".npy", ".jsonl"):
        raise ValueError(f"--output {options.output}: expected a name that ends in .npy or .jsonl")
    texts = list(read_texts(options.texts))
    model = load_model(options)
    vectors = model.encode(
        texts,
        pooling=options.pooling,
        normalize_embeddings=options.normalize,
        show_progress_bar=sys.stderr.isatty() and len(texts) > 100,
    )
    count, dimensions = vectors.shape
    print(f"{count:,} texts × {dimensions} dimensions, {vectors.dtype}, {options.pooling} pooling, {options.model}")
    if options.output:
        write_vectors(options.output, texts, vectors)
        print(f"written to {options.output}")
        return
    shown = slice(None, MOST_COMPARED)
    for number, (text, vector) in enumerate(zip(texts[shown], vectors[shown], strict=True), start=1):
        numbers = " ".join(f"{value: .3f}" for value in vector[:PREVIEW])
        print(f"{number:3d}  [{numbers} …]  {text[:60]}")
    if len(texts) > MOST_COMPARED:
        print(f"     … and {len(texts) - MOST_COMPARED:,} more: -o FILE.npy or FILE.jsonl writes all")
    if len(texts) > 1:
        from numroberta.pooling import cosine_similarity

        print("\ncosine similarity")
        print("     " + "".join(f"{number:7d}" for number in range(1, len(vectors[shown]) + 1)))
        for number, row in enumerate(cosine_similarity(vectors[shown], vectors[shown]), start=1):
            print(f"{number:3d}  " + "".join(f"{value:7.3f}" for value in row))


def write_vectors(path: Path, texts: Sequence[str], vectors: np.ndarray) -> None:
    """All vectors under this name, which appears only when it is complete."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            if path.suffix == ".npy":
                np.save(file, vectors)
            else:
                for text, vector in zip(texts, vectors, strict=True):
                    row = {"text": text, "embedding": [float(value) for value in vector]}
                    file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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

    findings = examine(load_model(options), list(read_texts(options.texts)))
    page = render(findings).encode()
    options.output.write_bytes(page)
    tokens = sum(len(text["tokens"]) for text in findings["texts"])
    print(
        f"{len(findings['texts'])} texts, {tokens} tokens, {findings['layers']} layers × {findings['heads']} heads, "
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
