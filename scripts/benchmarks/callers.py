"""Whether it matters who calls `encode`: the first call, another thread, eight at once, asyncio; and Python's lock.

    python scripts/benchmarks/callers.py [--model M]     # the seeded full-size model by default; a minute on two cores

All in one process, with as many threads as the machine has cores.  The contestants take turns on the same 64 lines of
real text; a figure is the median of its turns.  `pip install gilknocker` adds the share of time in which Python's lock
is held: it is measured with one thread, and so many threads as go into 1 would have to wait for it all the time.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmark import SENTENCE, corpus_lines, prepare_seeded

from numroberta import TextEncoder, load

CALLERS = 8
TURNS = 5


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def first_and_later(model: str) -> tuple[float, float]:
    """Seconds of the first `encode` of a short text after `load`, and the median of later ones."""
    encoder = load(model)
    first = seconds(lambda: encoder.encode(SENTENCE))
    return first, statistics.median(seconds(lambda: encoder.encode(SENTENCE)) for _ in range(20))


def callers(encoder: TextEncoder, lines: list[str]) -> dict[str, Callable[[], Any]]:
    """Ways to have these lines encoded, by name."""
    shares = [lines[i::CALLERS] for i in range(CALLERS)]
    one, many = ThreadPoolExecutor(1), ThreadPoolExecutor(CALLERS)

    async def from_asyncio() -> None:
        await asyncio.gather(*(asyncio.to_thread(encoder.encode, share) for share in shares))

    return {
        "the main thread": lambda: encoder.encode(lines),
        f"the main thread, {CALLERS} calls": lambda: [encoder.encode(share) for share in shares],
        "another thread": lambda: one.submit(encoder.encode, lines).result(),
        f"{CALLERS} threads at once": lambda: list(many.map(encoder.encode, shares)),
        f"asyncio, {CALLERS} to_thread": lambda: asyncio.run(from_asyncio()),
    }


def share_of_lock(run: Callable[[], Any]) -> float:
    """How much of the time Python's lock is held while this runs in this thread alone."""
    from gilknocker import KnockKnock

    knocker = KnockKnock(polling_interval_micros=1000, sampling_interval_micros=100, sleeping_interval_micros=100)
    knocker.start()
    for _ in range(3):
        run()
    share = float(knocker.contention_metric)
    knocker.stop()
    return share


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", help="a folder or a name; default: seeded weights of full size")
    parser.add_argument("--lines", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if not options.model:
            prepare_seeded(Path(temporary))
        model = options.model or temporary
        lines = corpus_lines(options.lines)
        first, later = first_and_later(model)
        print(f"first call after load {1000 * first:.1f} ms, later ones {1000 * later:.1f} ms: {first / later:.2f}×")
        ways = callers(load(model), lines)
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(TURNS):
            for way, run in ways.items():
                taken[way].append(seconds(run))
        base = statistics.median(taken["the main thread"])
        for way, values in taken.items():
            median = statistics.median(values)
            rate = f"{len(lines) / median:.1f} texts/s, {base / median:.2f}× the main thread's"
            print(f"{len(lines)} lines from {way}: {rate}")
        if find_spec("gilknocker"):
            alone = load(model, num_threads=1)
            for name, texts in (("one short text", [SENTENCE]), (f"{len(lines)} lines", lines)):
                share = share_of_lock(partial(alone.encode, texts))
                print(f"{name}, one thread: Python's lock is held {share:.0%} of the time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
