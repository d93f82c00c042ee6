"""What this wing raises, and how its messages write what they quote."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

NAMES_SHOWN = 8


class CheckpointError(ValueError):
    """A checkpoint cannot be found, is broken, or is not a RoBERTa; the message says which and what to do."""


class ConfigError(CheckpointError):
    """`config.json` says something impossible, or something this encoder does not compute."""


def show(value: object) -> str:
    """A value as the reader of a message wants it: quoted, and short however long it is.

    >>> show("tiny"), len(show("a" * 1000))
    ("'tiny'", 100)
    """
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print whole numbers of thousands of digits
        return "a huge number"
    return text if len(text) <= 100 else text[:97] + "..."


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6, before: str = "") -> str:
    """The end of a message about a name that is not known; nothing where none of the known ones is near.

    cutoff: how like the two must be, from 0 to 1.  before: stands before the known name in the message.

    >>> did_you_mean("normalise", ["normalize", "pooling"]), did_you_mean("x", ["normalize", "pooling"])
    ('; did you mean normalize?', '')
    """
    near = get_close_matches(name, known, 1, cutoff)
    return f"; did you mean {before}{near[0]}?" if near else ""


def listed(items: Iterable[str]) -> str:
    """The first few of many things, and how many more there are.

    >>> listed("abcdefghijk")
    'a, b, c, d, e, f, g, h and 3 more'
    """
    items = list(items)
    more = len(items) - NAMES_SHOWN
    return ", ".join(items[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
