"""`numroberta search`: the embedded texts that are nearest to a query."""

from __future__ import annotations

import argparse
from pathlib import Path

from numroberta.arithmetic import POOLINGS
from numroberta.cli.arguments import (
    STANDARD_INPUT,
    Parsers,
    add_field_options,
    add_model_options,
    load_model,
    read_texts,
)

WIDEST = 100  # characters of a text that a ranking shows


def add_search(parsers: Parsers) -> None:
    parser = parsers.add_parser("search", help="the texts nearest to a query, by the vectors that embed wrote")
    parser.add_argument("queries", nargs="+", metavar="QUERY", help=f"a text; {STANDARD_INPUT}")
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
    from numroberta.corpus import Rows, nearest, open_vectors, rows_at

    rows = Rows(options.texts, format=options.format, field=options.field, keep_fields=False, skip_bad=True)
    queries = list(read_texts(options.queries))
    model = load_model(options)
    vectors = open_vectors(options.vectors, model.embedder(pooling=options.pooling).dimension)
    ranking = nearest(model.encode(queries, pooling=options.pooling), vectors, options.k)
    texts, count = rows_at(rows, {hit.row for hits in ranking for hit in hits})
    if count != len(vectors):
        raise ValueError(
            f"{options.vectors} has {len(vectors):,} vectors, and --texts has {count:,} rows: expected the same files, "
            "in the same order, as were embedded"
        )
    for query, hits in zip(queries, ranking, strict=True):
        print(" ".join(query.split()))
        for rank, hit in enumerate(hits, start=1):
            row = texts[hit.row]
            line = " ".join((row.text or "").split())
            where = f"{Path(row.file).name}:{row.line}"
            print(f"{rank:4d}  {hit.score:6.3f}  {where}  {line if len(line) <= WIDEST else line[:WIDEST] + '…'}")
