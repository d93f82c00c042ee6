"""Tokens per second of both tokenizer backends on one core.

    python scripts/benchmarks/tokenizer_rate.py TOKENIZER FILE…

Each backend is loaded afresh for each file and encodes it once, line by line, so the time includes meeting each word
for the first time.  `scripts/benchmarks/benchmark.py tokenizer` prints the same figures.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from numroberta.tokenizer import Tokenizer


def rates(tokenizer: str | Path, texts: list[str]) -> dict[str, dict[str, float]]:
    """For "python" and "tokenizers": seconds to load, tokens in all, tokens per second (ids alone; with offsets)."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core each
    figures = {}
    for backend in ("python", "tokenizers"):
        start = time.perf_counter()
        tok = Tokenizer.load(tokenizer, backend)
        loaded = time.perf_counter()
        ids, _ = tok.encode_ids(texts, truncation=False)
        encoded = time.perf_counter()
        count = sum(map(len, ids))
        some = texts[:: max(1, len(texts) // 2000)]
        start_some = time.perf_counter()
        count_some = sum(len(encoding.ids) for encoding in tok(some, truncation=False))
        figures[backend] = {
            "load_seconds": loaded - start,
            "tokens": count,
            "ids_per_second": count / (encoded - loaded),
            "with_offsets_per_second": count_some / (time.perf_counter() - start_some),
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", help="tokenizer.json, or the folder of a model")
    parser.add_argument("files", nargs="+", metavar="FILE", help="one text per line")
    options = parser.parse_args()
    print(f"{'file':16} {'backend':12} {'tokens':>10} {'load s':>8} {'ids/s':>10} {'with offsets/s':>15}")
    for file in options.files:
        texts = Path(file).read_text(encoding="utf-8").splitlines()
        for backend, found in rates(options.tokenizer, texts).items():
            print(
                f"{Path(file).name:16} {backend:12} {found['tokens']:10.0f} {found['load_seconds']:8.3f} "
                f"{found['ids_per_second']:10.0f} {found['with_offsets_per_second']:15.0f}"
            )


if __name__ == "__main__":
    main()
