"""Standard streams as a command may rely on them: open, and able to take any character."""

from __future__ import annotations

import io
import os
import sys


def prepare_streams() -> None:
    """Open what is closed, as daemons have it; read and write UTF-8 in files and pipes, whatever the locale says.

    A terminal keeps its encoding, and what that does not have is printed as an escape.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # 0, 1 and 2 stay taken: else an output would get the number of a stream, and what is printed to it
    os.close(number)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = None if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors=stream.errors if stream is sys.stdin else "backslashreplace")


def discard_output() -> None:
    """Let what is still to be printed go nowhere: its reader has gone, or its disk is full."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def why_output_cannot_be_written() -> str:
    """A sentence where standard output's disk is full or its device broken, else "".  The output is then discarded."""
    try:
        sys.stdout.flush()
    except OSError as error:
        discard_output()
        return f"standard output cannot be written: {error.strerror or error}"
    return ""
