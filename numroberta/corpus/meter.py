"""How far a long run is, on standard error: a bar on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numroberta.corpus.job import Summary
    from numroberta.corpus.rows import Rows

EVERY = 60.0  # seconds between two lines where there is no terminal


class Meter:
    """Called after each window; a context, which takes the bar away at the end.  quiet: says nothing."""

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self.bar: Any = None
        self.began = self.last = time.monotonic()
        self.calls = 0
        self.first: tuple[int, int] | None = None  # bytes and tokens that were done when this run began

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def _start(self, summary: Summary, rows: Rows) -> None:
        """What is done already, when nothing has been computed yet."""
        self.first = rows.done, summary.tokens
        self.began = self.last = time.monotonic()
        if sys.stderr.isatty() and not self.quiet:
            try:
                from tqdm import tqdm
            except ImportError:
                return
            left = "{percentage:3.0f}%|{bar}| {desc}, {remaining} left" if rows.size else "{desc}"
            self.bar = tqdm(total=rows.size, initial=rows.done, bar_format=left, leave=False, file=sys.stderr)

    def __call__(self, summary: Summary, rows: Rows) -> None:
        self.calls += 1
        if self.calls == (2 if summary.resumed else 1):  # a resumed run reads again what had been done, first
            self._start(summary, rows)
        if self.first is None:
            return
        now = time.monotonic()
        bytes_before, tokens_before = self.first
        rate = (summary.tokens - tokens_before) / max(now - self.began, 1e-9)
        told = f"{summary.texts:,} texts, {rate:,.0f} tokens/s"
        if self.bar is not None:
            self.bar.set_description_str(told, refresh=False)
            self.bar.update(rows.done - self.bar.n)
            self.bar.refresh()
        elif not self.quiet and now - self.last >= EVERY:
            self.last = now
            done, size = rows.done, rows.size
            if size and done > bytes_before:
                left = (now - self.began) * (size - done) / (done - bytes_before)
                told += f", {done / size:.0%}, {_clock(left)} left"
            print(f"numroberta: {told}", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    """3725 -> "1:02:05"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
