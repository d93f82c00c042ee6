"""How vectors and answers are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

PREVIEW = 5  # numbers of a vector that are shown


def preview(vector: Iterable[float]) -> str:
    """The first numbers of a vector.

    >>> preview([0.5, -1, 0, 0.25, 2, 7])
    '[ 0.500 -1.000  0.000  0.250  2.000 …]'
    """
    return f"[{' '.join(f'{value: .3f}' for value in islice(vector, PREVIEW))} …]"


def counted(number: int, thing: str) -> str:
    """A number of things, in English.

    >>> counted(1, "text"), counted(1200, "text")
    ('1 text', '1,200 texts')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def print_answers(text: str, answers: Sequence[Mapping[str, Any]], json_lines: bool, **more: str) -> None:
    """A table for people, or a line for programs: `{"text": …, "answers": [{…}, …]}`."""
    if json_lines or not sys.stdout.isatty():
        print(json.dumps({"text": text, **more, "answers": answers}, ensure_ascii=False))
        return
    print(" ".join(" ".join([text, *more.values()]).split()))
    rows = [
        [f"{value:.4f}" if isinstance(value, float) else " ".join(str(value).split()) for value in row.values()]
        for row in answers
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  " + "  ".join(f"{cell:{width}s}" for cell, width in zip(row, widths, strict=True)).rstrip())
