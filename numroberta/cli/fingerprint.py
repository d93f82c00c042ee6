"""`numroberta fingerprint`: does another machine compute the same bits?"""

from __future__ import annotations

import argparse
from pathlib import Path

from numroberta.cli.arguments import (
    STANDARD_INPUT,
    Parsers,
    add_dtype,
    add_model_name,
    add_resources,
    load_model,
    read_texts,
)

# What a difference in each line means; for all others, some product or sum had other bits.
MEANING = {
    "dtype": "give the same --dtype",
    "weights": "it is not the same checkpoint",
    "input_ids": "the texts are others, or the tokenizer is",
}


def add_fingerprint(parsers: Parsers) -> None:
    parser = parsers.add_parser("fingerprint", help="hashes of each layer's numbers, the same on every machine")
    parser.add_argument(
        "texts", nargs="*", metavar="TEXT", help=f"a text (default: three short ones); {STANDARD_INPUT}"
    )
    parser.add_argument("--check", type=Path, metavar="FILE", help="compare with what was printed elsewhere")
    add_model_name(parser)
    add_dtype(parser)
    add_resources(parser)
    parser.set_defaults(run=run_fingerprint, deterministic=False, reproducible=True)


def run_fingerprint(options: argparse.Namespace) -> int:
    from numroberta import parity

    expected = parity.read_fingerprint(options.check) if options.check else None
    found = parity.fingerprint(load_model(options), list(read_texts(options.texts)))
    if expected is None:
        print("\n".join(parity.fingerprint_lines(found)))
        return 0
    differs = parity.first_difference(expected, found)
    if differs is None:
        print(f"the same bits: all {len(found)} lines of {options.check}")
        return 0
    print(f"the first to differ: {differs}, {expected.get(differs, 'missing')} in {options.check}")
    print(f"  {MEANING.get(differs, 'the bits are other ones here')}; here it is {found.get(differs, 'missing')}")
    return 1
