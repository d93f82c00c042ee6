"""The rows of several inputs, and a bookmark that says how far they have been read.

A run that was killed reads again up to its bookmark, compares the hash of what it read, and goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numroberta.checkpoint import lone_surrogate
from numroberta.corpus.formats import LISTED, Input, Source, format_of, size_of
from numroberta.corpus.row import VECTOR_FIELD, BadRow, Field, Row


@dataclass(frozen=True)
class Bookmark:
    """How far the inputs have been read: the input's number, how far that one, and the hash of all that was read."""

    number: int = 0
    offset: int = 0  # unpacked bytes; rows of a .parquet file; texts of a list
    line: int = 0
    sha256: str = ""


class Rows:
    """The rows of several inputs, one after the other.

    Iteration raises BadRow at a bad row; with skip_bad=True it yields the row with `cause` set.  It raises ValueError
    where a file is not of its format, and OSError.  ValueError for a `format` or `field` that no input has a use for.

    Args:
        inputs: Paths; "-" for standard input; or a `TextList`.
        format: A name in `FORMATS`, where a file name's suffix (before .gz) does not say it.  Standard input is "txt"
            unless this says otherwise.
        field: The field or column of the text, "text" by default.  In .csv and .tsv a number counts columns from 1,
            and says that the file has no header line.
        option: The command's option that chooses the field, where it is not --field.
        keep_fields: False reads no other column of a .parquet file.
        skip_bad: Whether bad rows are yielded, too.

    >>> from numroberta.corpus import TextList
    >>> [(row.text, row.line) for row in Rows([TextList(["one", "two"])])]
    [('one', 1), ('two', 2)]
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        *,
        format: str | None = None,
        field: str | None = None,
        option: str | None = None,
        keep_fields: bool = True,
        skip_bad: bool = False,
    ):
        self.inputs = inputs
        self.formats = [format_of(source, format) for source in inputs]
        if format is not None and all(kind is LISTED for kind in self.formats):
            raise ValueError(f"--format {format}: no input is a file: leave it out")
        if field is not None and not any(kind.has_fields for kind in self.formats):
            raise ValueError(f"--field {field}: in these inputs a row has no fields, a line is the text: leave it out")
        if list(map(str, inputs)).count("-") > 1:
            raise ValueError("-, standard input, is given twice: it can be read once")
        self.field = Field(field or "text", option)
        self.keep_fields = keep_fields
        self.skip_bad = skip_bad
        self.sizes = [size_of(source) for source in inputs]
        self._number = 0  # of the input that is read
        self._source: Source | None = None  # that input, once it is open
        self._rows: Iterator[Row] = iter(())
        self._digest = hashlib.sha256()

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the input that is being read."""
        if self._source is not None:
            self._source.close()

    @property
    def bookmark(self) -> Bookmark:
        """How far the rows have been read that were handed out."""
        offset, line = (self._source.offset, self._source.line) if self._source else (0, 0)
        return Bookmark(self._number, offset, line, self._digest.hexdigest())

    @property
    def schema(self) -> Any:
        """The columns of the first input as a pyarrow schema, where all inputs are .parquet; else None."""
        first = self.formats[0] if self.formats else None
        if first is None or first.schema is None or any(format is not first for format in self.formats):
            return None
        return first.schema(self.inputs[0])

    @property
    def size(self) -> int | None:
        """Bytes of all inputs, None where one of them does not say."""
        known = [size for size in self.sizes if size is not None]
        return sum(known) if len(known) == len(self.sizes) else None

    @property
    def bytes_read(self) -> int:
        """Bytes of the inputs, as they lie on the disk, that have been read."""
        before = sum(size or 0 for size in self.sizes[: self._number])
        return before + (self._source.bytes_read() if self._source else 0)

    def go_to(self, bookmark: Bookmark) -> None:
        """Read up to a bookmark, so that iteration begins behind it; ValueError where the inputs have changed."""
        while self._number < min(bookmark.number, len(self.inputs)):
            self._open().skip(None, 0)
            self._close()
        if bookmark.number < len(self.inputs):
            self._open().skip(bookmark.offset, bookmark.line)
        if self._digest.hexdigest() != bookmark.sha256:
            raise ValueError(
                "the input is not what it was: the part that had been embedded has changed; "
                "give the same input from its beginning, or start anew"
            )

    def __iter__(self) -> Iterator[Row]:
        try:
            while self._number < len(self.inputs):
                if self._source is None:
                    self._open()
                yield from map(self._checked, self._rows)
                self._close()
        finally:
            self.close()

    def _open(self) -> Source:
        format = self.formats[self._number]
        self._source = format.open(self.inputs[self._number], self._digest.update)
        self._rows = format.rows(self._source, self.field, self.keep_fields)
        return self._source

    def _close(self) -> None:
        """Leave this input for the next one."""
        self.close()
        self._source = None
        self._number += 1
        self._digest.update(b"\0end\0")  # rows that move from one file to the next change the hash

    def _checked(self, row: Row) -> Row:
        half = None if row.text is None else lone_surrogate(row.text)
        if row.text is not None and half is not None:
            character = f"half a character ({row.text[half]!r})"
            row = row.refused(f"{character} at character {half}, which stands for nothing")
        if self.keep_fields and VECTOR_FIELD in row.fields and not row.cause:
            row = row.refused(f"a field {VECTOR_FIELD!r} is there already: rename it")
        if row.cause and not self.skip_bad:
            raise BadRow(f"{row.place}: {row.cause}")
        return row
