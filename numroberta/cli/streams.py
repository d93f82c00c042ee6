"""Standard streams as a command may rely on them: open, and able to take any character."""

from __future__ import annotations

import os
import sys


def prepare_streams() -> None:
    """Open what is closed, as daemons have it; print as an escape what the terminal's encoding does not have."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # 0, 1 and 2 stay taken: else an output would get the number of a stream, and what is printed to it
    os.close(number)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def discard_output() -> None:
    """Let what is still to be printed go nowhere: its reader has gone, or its disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
