"""The porter's bench: `numroberta trace`, `compare` and `verify`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from numroberta.cli.arguments import Parsers, add_dtype, add_model_name, add_reproducible, add_texts, read_texts
from numroberta.cli.output import counted


def add_trace(parsers: Parsers) -> None:
    parser = parsers.add_parser("trace", help="record every activation, for a port to be compared with")
    add_texts(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="a name in .safetensors")
    add_model_name(parser)
    add_dtype(parser)
    add_reproducible(parser)
    parser.add_argument(
        "--gradients", choices=["mlm", "classify", "tag", "answer", "embed"], help="a loss, and its gradients, too"
    )
    parser.set_defaults(run=run_trace)


def run_trace(options: argparse.Namespace) -> None:
    from numroberta import parity
    from numroberta.model import load

    if options.output.suffix != ".safetensors":
        raise ValueError(f"--output {options.output}: expected a name that ends in .safetensors")
    texts = list(read_texts(options.texts))
    model = load(options.model, dtype=options.dtype, reproducible=options.reproducible, revision=options.revision)
    recorded = parity.trace(model, *parity.batch(model, texts), gradients=options.gradients)
    parity.save(options.output, recorded, parity.provenance(model, texts))
    rows, tokens = recorded["input_ids"].shape
    size = f"{counted(rows, 'text')} of up to {counted(tokens, 'token')}"
    print(f"{size}: {len(recorded)} tensors, {model.model.dtype}, {options.model}")
    print(f"written to {options.output}")
    if recorded["attention_mask"].all():
        print("no text is padded, so that masks will not be tested: add a shorter one")


def add_compare(parsers: Parsers) -> None:
    parser = parsers.add_parser("compare", help="where another program's activations first differ, and why")
    parser.add_argument("reference", type=Path, metavar="REFERENCE", help="what `numroberta trace` wrote")
    parser.add_argument(
        "mine", type=Path, metavar="MINE", help="the other program's: .safetensors, .npz, .npy, .json or a folder"
    )
    parser.add_argument("--model", help="the weights, for the diagnosis (default: the reference's)")
    parser.add_argument(
        "--map", type=Path, metavar="FILE", help="JSON object from my names to the reference's; {n}: a number"
    )
    parser.add_argument("--rtol", type=float, help="accept |mine - reference| <= atol + rtol * |reference| instead")
    parser.add_argument("--atol", type=float, help="of the tolerance that follows from dtype and depth")
    parser.add_argument(
        "--seconds", type=float, help="to look for the mistake (default: work for about 5, for large models 60)"
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.set_defaults(run=run_compare)


def run_compare(options: argparse.Namespace) -> int:
    from numroberta import parity

    names = parity.load_names(options.map) if options.map else {}
    comparison = parity.compare(
        options.reference,
        options.mine,
        model=options.model,
        rtol=options.rtol,
        atol=options.atol,
        names=names,
        seconds=options.seconds,
        progress=show_progress if sys.stderr.isatty() else None,
    )
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    if options.json:
        print(json.dumps(comparison.as_dict(), ensure_ascii=False))
    else:
        print(parity.report(comparison, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
    return 0 if comparison.alike else 1


def show_progress(sentence: str) -> None:
    """One line that is written over and over."""
    print(f"\r\033[K{sentence}", end="", file=sys.stderr, flush=True)


def add_verify(parsers: Parsers) -> None:
    parser = parsers.add_parser("verify", help="hold a model against PyTorch, layer by layer")
    add_model_name(parser, positional=True)
    parser.set_defaults(run=run_verify)


def run_verify(options: argparse.Namespace) -> int:
    from numroberta.parity import beside_pytorch as verify

    found = verify.verify(options.model, revision=options.revision)
    print(verify.report(found))
    return 0 if found.right else 1
