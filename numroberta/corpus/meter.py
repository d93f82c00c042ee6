"""How far a long run is, on standard error: a bar on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numroberta.corpus.job import Progress

EVERY = 60.0  # seconds between two lines where there is no terminal
REDRAWN = 0.2  # seconds between two pictures of the bar inside a block


class Meter:
    """Shows the progress of a run: called with it at the start and after each block, `within` inside one.

    `close` takes the bar away.
    """

    def __init__(self) -> None:
        self.bar: Any = None
        self.rate = ""  # as it was after the last block
        self.start: Progress | None = None  # what had been done before this run, which its rate must not count
        self.began = self.last = self.drawn = time.monotonic()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, progress: Progress) -> None:
        if self.start is None:
            self._begin(progress)
        else:
            self._show(progress, self.start)

    def within(self, progress: Progress) -> None:
        """Move the bar on inside a block, where there is one."""
        now = time.monotonic()
        if self.bar is not None and self.start is not None and now - self.drawn >= REDRAWN:
            self.drawn = now
            self.bar.set_description_str(f"{progress.texts:,} texts{self.rate}", refresh=False)
            self.bar.update(progress.bytes_read - self.bar.n)
            self.bar.refresh()

    def _begin(self, progress: Progress) -> None:
        self.start = progress
        self.began = self.last = time.monotonic()
        if sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return
            left = "{percentage:3.0f}%|{bar}| {desc}, {remaining} left" if progress.bytes else "{desc}"
            self.bar = tqdm(
                total=progress.bytes, initial=progress.bytes_read, bar_format=left, leave=False, file=sys.stderr
            )

    def _show(self, progress: Progress, start: Progress) -> None:
        now = time.monotonic()
        rate = (progress.tokens - start.tokens) / max(now - self.began, 1e-9)
        self.rate = f", {rate:,.0f} tokens/s"
        line = f"{progress.texts:,} texts{self.rate}"
        if self.bar is not None:
            self.bar.set_description_str(line, refresh=False)
            self.bar.update(progress.bytes_read - self.bar.n)
            self.bar.refresh()
        elif now - self.last >= EVERY:
            self.last = now
            if progress.bytes and progress.bytes_read > start.bytes_read:
                rest = (progress.bytes - progress.bytes_read) / (progress.bytes_read - start.bytes_read)
                line += f", {progress.bytes_read / progress.bytes:.0%}, {_clock((now - self.began) * rest)} left"
            print(f"numroberta: {line}", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    """3725 -> "1:02:05"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
