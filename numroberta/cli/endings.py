"""How a command ends early: by a signal, or by an error that has something to add."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupted_at_the_end() -> Iterator[None]:
    """Within this context Ctrl-C waits for the end of it.

    NumPy that is interrupted while it is imported says that its installation is broken.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    arrived: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: arrived.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if arrived:
        signal.raise_signal(signal.SIGINT)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which stops a run as Ctrl-C does."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Within this context SIGTERM raises Terminated, so that what has been begun is left in order."""

    def terminate(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def add_note(error: BaseException, note: str) -> None:
    """`BaseException.add_note` of Python 3.11: a line that is printed below the error's own."""
    error.__notes__ = [*getattr(error, "__notes__", ()), note]
