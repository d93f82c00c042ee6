"""How a text that is too long to be read at once is cut into windows."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

Span = tuple[int, int]  # from which token to which


class Window(NamedTuple):
    """A part of a text that is read at once, and the tokens in it whose vectors are kept."""

    start: int
    stop: int
    first: int  # the first token that is kept, counted in the text
    last: int  # and the one after the last


def overlapping_windows(length: int, size: int, stride: int) -> list[Span]:
    """The fewest windows that cover a text, each beginning with the last `stride` tokens of the one before.

    Args:
        length: Tokens of the text.
        size: Most tokens of a window.
        stride: Tokens that neighbours share.

    Returns:
        (start, stop) of each window; a short text is one window.  The last window may be shorter than the others.

    Raises:
        ValueError: `stride` is negative, or leaves nothing of a window.

    >>> overlapping_windows(10, 8, 2), overlapping_windows(10, 4, 1)
    ([(0, 8), (6, 10)], [(0, 4), (3, 7), (6, 10)])
    """
    if length <= size:
        return [(0, length)]
    if not 0 <= stride < size:
        raise ValueError(f"stride={stride}, expected 0 or more and less than the {size} tokens of a window")
    return [(start, min(start + size, length)) for start in range(0, length - stride, size - stride)]


def windows_with_context(length: int, size: int) -> list[Window]:
    """Windows that keep each token once, where it has most context; neighbours share a quarter of a window or more.

    Args:
        length: Tokens of the text.
        size: Most tokens of a window; of a long text every window has as many.

    >>> windows_with_context(10, 8)
    [Window(start=0, stop=8, first=0, last=5), Window(start=2, stop=10, first=5, last=10)]
    """
    spans = overlapping_windows(length, size, size // 4)
    spans[-1] = (max(length - size, 0), length)  # a full window: its first tokens have more context than in a short one
    borders = [(start + stop) // 2 for (_, stop), (start, _) in pairwise(spans)]
    return [Window(*span, *kept) for span, *kept in zip(spans, [0, *borders], [*borders, length], strict=True)]
