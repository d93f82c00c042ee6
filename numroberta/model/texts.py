"""What a user gives as text, told apart: one text, several, pairs, words; and errors about what is none of these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from numroberta import warn
from numroberta.checkpoint import listed, refuse_lone_surrogates

Pair = tuple[str, str]
TextOrPair = str | Pair | dict[str, str]


def texts_of(given: object, name: str) -> Iterable[Any]:
    """The items of an argument that is one text or any iterable of them; what each item is, is not looked at.

    A Series, an array of NumPy or Arrow and a generator are iterables.  Raises TypeError for what has several columns:
    its items would be their names.
    """
    if isinstance(given, str):
        return [given]
    names = _columns(given)
    if names is not None:
        column = next((name for name in names if name in ("text", "sentence")), next(iter(names), "text"))
        raise TypeError(
            f"{name} is {_kind(given)} of {listed(map(repr, names)) or 'nothing'}: give the texts of one of them, "
            f"{name}[{column!r}]"
        )
    if hasattr(given, "to_pylist"):  # pyarrow's arrays, whose items are no strings
        return given.to_pylist()
    if getattr(given, "ndim", 1) > 1:
        raise TypeError(f"{name} is an array of shape {given.shape}, expected one dimension: ravel() makes it one")  # type: ignore[attr-defined]
    if isinstance(given, bytes) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
        raise TypeError(f"{name} is {_kind(given)}, expected a string or a list of strings")
    return given


def _columns(given: object) -> list[Any] | None:
    """The names of what has columns: a frame of pandas, polars or Spark, an Arrow table, a dict; None of what has none.

    >>> _columns({"id": [1, 2], "text": ["a", "b"]}), _columns(["a", "b"])
    (['id', 'text'], None)
    """
    if isinstance(given, Mapping):
        return list(given)
    for attribute in ("column_names", "columns"):  # Arrow's `columns` are arrays
        if hasattr(type(given), attribute):  # of the class: an attribute of a Series may be one of its items
            return list(getattr(given, attribute))
    return None


def is_missing(text: object) -> bool:
    """Whether this stands for no text: None, NaN, or what pandas has for it."""
    return text is None or (isinstance(text, float) and text != text) or type(text).__name__ in ("NAType", "NaTType")


def refuse_missing(texts: Sequence[object], missing: Sequence[int], name: str) -> None:
    """Raises TypeError with the index of the first text that is missing, if any is, and the way out."""
    if missing:
        raise TypeError(
            f"{name}[{missing[0]}] is {_kind(texts[missing[0]])}, expected a string (missing in all: "
            f"{len(missing):,}); missing='zero' or missing='nan' gives such a vector to a text that is missing"
        )


def check_texts(texts: Sequence[object], name: str, first: int = 0) -> None:
    """Raises TypeError for what is no string, ValueError for half a character, with the caller's index of the text.

    first: the index of the first of these texts among all that the caller gave.
    """
    for index, text in enumerate(texts, first):
        if not isinstance(text, str) or not text.isascii():
            check_text(text, f"{name}[{index}]")


def check_text(text: object, name: str) -> str:
    """The text itself; raises TypeError for what is no string, ValueError for half a character."""
    if not isinstance(text, str):
        words = isinstance(text, (list, tuple)) and all(isinstance(word, str) for word in text)
        hint = "; a list of words becomes a text by ' '.join(words)" if words else ""
        raise TypeError(f"{name} is {_kind(text)}, expected a string{hint}")
    refuse_lone_surrogates(text, name)
    return text


def check_text_or_pair(given: object, name: str) -> str | Pair:
    """A text, or the two texts of a pair, (text, text) or {"text": …, "text_pair": …}.

    Raises TypeError or ValueError for anything else.  A list is no pair: it would look the same as a list of two words.
    """
    if isinstance(given, Mapping):
        if not {"text"} <= given.keys() <= {"text", "text_pair"}:
            raise ValueError(
                f"{name}: expected the keys 'text' and 'text_pair', found {', '.join(map(repr, given)) or 'none'}"
            )
        text = check_text(given["text"], f"{name}['text']")
        return (text, check_text(given["text_pair"], f"{name}['text_pair']")) if "text_pair" in given else text
    if isinstance(given, list):
        raise TypeError(
            f"{name} is a list: a pair is a tuple, (text, text), and a list of words becomes a text by ' '.join(words)"
        )
    if isinstance(given, tuple):
        if len(given) != 2:
            raise ValueError(f"{name}: a pair has two texts, found {len(given)}")
        return check_text(given[0], f"{name}[0]"), check_text(given[1], f"{name}[1]")
    return check_text(given, name)


def warn_of_cuts(cut: int, texts: int, left_out: int, max_length: int) -> None:
    """One warning for all texts that were too long."""
    if cut:
        warn(
            f"{cut:,} of {texts:,} texts have more than {max_length} tokens: only the first {max_length} were read, "
            f"{left_out:,} tokens were left out"
        )


def _kind(given: object) -> str:
    if getattr(given, "ndim", None) == 0:
        return "a 0-dimensional array"
    return "NaN" if isinstance(given, float) and given != given else type(given).__name__
