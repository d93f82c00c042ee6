"""`numroberta info`: what a checkpoint consists of."""

from __future__ import annotations

import argparse

from numroberta.cli.arguments import Parsers, add_model_name


def add_info(parsers: Parsers) -> None:
    parser = parsers.add_parser("info", help="config, parameters, dtype and size of a model")
    add_model_name(parser, positional=True)
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
