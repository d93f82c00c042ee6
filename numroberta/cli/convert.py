"""`numroberta convert`: any model as a folder of the files that others read."""

from __future__ import annotations

import argparse
from pathlib import Path

from numroberta.cli.arguments import MODEL_NAMES, Parsers


def add_convert(parsers: Parsers) -> None:
    parser = parsers.add_parser("convert", help="a model as a new folder: safetensors, tokenizer.json, config.json")
    parser.add_argument("model", help=MODEL_NAMES)
    parser.add_argument("output", type=Path, metavar="OUT", help="the new folder")
    parser.add_argument(
        "--dtype",
        choices=["float32", "float16", "bfloat16", "float64"],
        help="of the weights (default: as in the model's file)",
    )
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.set_defaults(run=run_convert)


def run_convert(options: argparse.Namespace) -> None:
    from numroberta.checkpoint import open_checkpoint
    from numroberta.model import load

    load(options.model, revision=options.revision).save(options.output, options.dtype)
    written = open_checkpoint(options.output)
    parameters = sum(written.parameters.values())
    print(f"{parameters:,} parameters, {written.dtype}, {written.file_size / 1e6:,.1f} MB\nwritten to {options.output}")
