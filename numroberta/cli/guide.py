"""`numroberta guide`: the pages that explain this package, in the terminal."""

from __future__ import annotations

import argparse

from numroberta.cli.arguments import Parsers
from numroberta.guide import TOPICS, page, title


def add_guide(parsers: Parsers) -> None:
    parser = parsers.add_parser("guide", help="a page on a topic; without one, the list of topics")
    parser.add_argument("topic", nargs="?", choices=TOPICS, metavar="TOPIC", help="which page (default: the list)")
    parser.set_defaults(run=run_guide)


def run_guide(options: argparse.Namespace) -> None:
    if options.topic:
        print(page(options.topic), end="")
        return
    for topic in TOPICS:
        print(f"{topic:12s}  {title(topic)}")
    print("\nnumroberta guide TOPIC prints a page")
