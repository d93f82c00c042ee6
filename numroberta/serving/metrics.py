"""Counters for Prometheus, in its text format."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

from numroberta.serving.batching import Batcher

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # seconds


class Metrics:
    """How many requests of which path ended how, and how long they took."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds: Counter[str] = Counter()
        self.within: Counter[tuple[str, float]] = Counter()

    def count(self, path: str, status: int, seconds: float) -> None:
        """A request that has ended; path: one that there is, so that their number is bounded."""
        self.requests[path, status] += 1
        self.seconds[path] += seconds  # type: ignore[assignment]
        for bound in BOUNDS:
            self.within[path, bound] += seconds <= bound

    def text(self, batcher: Batcher) -> str:
        """https://prometheus.io/docs/instrumenting/exposition_formats/"""
        return "".join(f"{line}\n" for line in self._lines(batcher))

    def _lines(self, batcher: Batcher) -> Iterator[str]:
        yield "# TYPE numroberta_requests_total counter"
        for (path, status), count in sorted(self.requests.items()):
            yield f'numroberta_requests_total{{path="{path}",status="{status}"}} {count}'
        yield "# TYPE numroberta_request_seconds histogram"
        for path in sorted(self.seconds):
            for bound in BOUNDS:
                yield f'numroberta_request_seconds_bucket{{path="{path}",le="{bound}"}} {self.within[path, bound]}'
            count = sum(count for (own, _), count in self.requests.items() if own == path)
            yield f'numroberta_request_seconds_bucket{{path="{path}",le="+Inf"}} {count}'
            yield f'numroberta_request_seconds_sum{{path="{path}"}} {self.seconds[path]}'
            yield f'numroberta_request_seconds_count{{path="{path}"}} {count}'
        for name, kind, value in (
            ("numroberta_waiting_tokens", "gauge", batcher.waiting),
            ("numroberta_running_batches", "gauge", len(batcher.running)),
            ("numroberta_batches_total", "counter", batcher.batches_done),
            ("numroberta_tokens_total", "counter", batcher.tokens_done),
            ("numroberta_thread_seconds_total", "counter", batcher.seconds_busy),
            *process_figures(),
        ):
            yield f"# TYPE {name} {kind}"
            yield f"{name} {value}"


def process_figures() -> Iterator[tuple[str, str, float]]:
    """Memory and open files of this process, where the system tells."""
    try:
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[1])
        yield "process_resident_memory_bytes", "gauge", pages * os.sysconf("SC_PAGE_SIZE")
        yield "process_open_fds", "gauge", len(os.listdir("/proc/self/fd"))
    except OSError:
        return
