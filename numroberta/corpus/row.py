"""A row of an input: its text, its other fields and where it stands, or why it is bad."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

VECTOR_FIELD = "embedding"  # the field that an output adds to a row's own


class BadRow(ValueError):
    """A row that has no text: the message names file, line and cause."""


class Row(NamedTuple):
    """One row of an input."""

    text: str | None  # None where the row is bad
    fields: dict[str, Any]  # all fields, the text's too
    line: int  # in its file, from 1; the last one, where a row has several lines
    file: str
    json: str = ""  # the line itself, where it is a JSON object: it is written back as it came
    cause: str = ""  # why the row is bad

    @property
    def place(self) -> str:
        """The beginning of a message about this row."""
        return f"{self.file}, line {self.line:,}"

    def refused(self, cause: str) -> Row:
        """The same row as a bad one."""
        return self._replace(text=None, cause=cause)


class Field(NamedTuple):
    """Where in a row something is."""

    name: str
    option: str | None = None  # of the command, which chooses it; None for --field and --column

    def missing(self, names: Iterable[str], what: str) -> str:
        """The end of a sentence about a file or row that has these names.  what: "field" or "column"."""
        found = ", ".join(map(repr, names)) or "none"
        return f"no {what} {self.name!r}, but {found}: choose one with {self.option or f'--{what}'}"


def text_of(fields: dict[str, Any], field: Field) -> tuple[str | None, str]:
    """(the text, "") or (None, why there is none)."""
    if field.name not in fields:
        return None, field.missing(fields, "field")
    text = fields[field.name]
    if isinstance(text, str):
        return text, ""
    return None, f"field {field.name!r} is {kind_of(text)}, expected a string"


def kind_of(value: object) -> str:
    """What JSON calls a value, for a message."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), f"{value!r:.40}")


def refuse_repeated_names(names: Sequence[str], file: str) -> None:
    """ValueError where two columns of a file have the same name: one of them would be lost."""
    repeated = [name for number, name in enumerate(names) if name in names[:number]]
    if repeated:
        raise ValueError(f"{file} has several columns {repeated[0]!r}: rename all but one")
