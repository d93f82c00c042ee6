"""A bar that shows how many texts are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(total: int | None, show: bool) -> Iterator[Callable[[int], object]]:
    """A function that moves a bar on; none is drawn unless asked for, or where tqdm is missing."""
    if show:
        try:
            from tqdm import tqdm
        except ImportError:
            show = False
    if not show:
        yield lambda count: None
        return
    with tqdm(total=total, unit=" texts", smoothing=0) as bar:
        yield bar.update
