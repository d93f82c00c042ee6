"""`numroberta view`: a page that shows what the model does with a text."""

from __future__ import annotations

import argparse
from pathlib import Path

from numroberta.cli.arguments import Parsers, add_model_options, add_texts, load_model, read_texts
from numroberta.cli.output import counted


def add_view(parsers: Parsers) -> None:
    parser = parsers.add_parser("view", help="a page that shows tokens, attention, predictions and similarity")
    add_texts(parser)
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
    texts = counted(len(findings["texts"]), "text")
    tokens = counted(sum(len(text["tokens"]) for text in findings["texts"]), "token")
    size = f"{findings['layers']} layers × {findings['heads']} heads, {len(page) / 1e6:.2f} MB"
    print(f"{texts}, {tokens}, {size}\nwritten to {options.output}")
    if options.open:
        import webbrowser

        webbrowser.open(options.output.resolve().as_uri())
