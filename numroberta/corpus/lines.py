"""Lines of a file, of a pipe or of standard input, and the rows of .txt and .jsonl.

This is the one reader of standard input: UTF-8 whatever the locale says, without a byte order mark, as files are read.
"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from numroberta.corpus.row import Field, Row, kind_of, text_of

LONGEST_LINE = 1 << 26  # bytes; a "line" beyond it is a file of another kind, and would fill the memory
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
STANDARD_INPUT = "standard input"  # its name in messages


class Lines:
    """The lines of a plain, gzipped or piped file, or of standard input ("-"), as bytes with their line ends.

    path: a name that ends in .gz is unpacked.  hash: called with all bytes that are read, unpacked.
    offset, line: how many unpacked bytes and lines have been read.
    """

    def __init__(self, path: str | Path, hash: Callable[[bytes], object]):
        self.name = name_of(path)
        self.hash = hash
        self.raw: BinaryIO = standard_input() if str(path) == "-" else open(path, "rb")  # noqa: SIM115
        self.stream: Any = gzip.GzipFile(fileobj=self.raw) if str(path).endswith(".gz") else self.raw
        self.seekable = self.raw.seekable()
        self.offset = self.line = 0

    def __iter__(self) -> Iterator[bytes]:
        while raw := self._read(self.stream.readline, LONGEST_LINE + 1):
            if len(raw) > LONGEST_LINE:
                raise ValueError(f"{self.name}, line {self.line + 1:,}: longer than {LONGEST_LINE >> 20} MB: not text?")
            first = not self.offset
            self.offset += len(raw)
            self.line += 1
            yield raw.removeprefix(BYTE_ORDER_MARK) if first else raw

    def skip(self, offset: int | None, line: int) -> None:
        """Read on to this offset, after so many lines; to the end where it is None."""
        last = b"\n"
        while offset is None or self.offset < offset:
            chunk = self._read(self.stream.read, 1 << 20 if offset is None else min(1 << 20, offset - self.offset))
            if not chunk:
                if offset is not None:
                    raise ValueError(f"{self.name} is shorter than it was when the run began: give the same input")
                return
            self.offset += len(chunk)
            last = chunk[-1:]
        self.line = line
        if last != b"\n" and self.stream.read(1):
            raise ValueError(f"{self.name}: its last line, which had been embedded, goes on: start anew")

    def _read(self, read: Callable[[int], bytes], most: int) -> bytes:
        try:
            data = read(most)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{self.name}, after line {self.line:,}: the gzip file is broken or cut: {error}"
            ) from None
        self.hash(data)
        return data

    def bad(self, cause: str, fields: dict[str, Any] | None = None, json: str = "") -> Row:
        """The row that ends with the line that was read last, as a bad one."""
        return Row(None, fields or {}, self.line, self.name, json, cause)

    def bytes_read(self) -> int:
        """Of the file as it lies on the disk; 0 for a pipe."""
        return self.raw.tell() if self.seekable else 0

    def close(self) -> None:
        if self.name != STANDARD_INPUT:
            self.raw.close()


def name_of(path: str | Path) -> str:
    """An input's name in messages."""
    return STANDARD_INPUT if str(path) == "-" else str(path)


def standard_input() -> BinaryIO:
    """Standard input's bytes; ValueError where it is closed."""
    if sys.stdin is None:
        raise ValueError("standard input is closed: give a file, or texts as arguments")
    return sys.stdin.buffer


def text_rows(lines: Lines, field: Field, keep_fields: bool) -> Iterator[Row]:
    """One row for each line, blank ones too."""
    return _rows(lines, lambda line: Row(line, {"text": line}, lines.line, lines.name))


def json_rows(lines: Lines, field: Field, keep_fields: bool) -> Iterator[Row]:
    """One row for each line, a JSON object; blank lines are no rows."""

    def row_of(line: str) -> Row | None:
        if not line.strip():
            return None
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:  # ValueError: an integer of more than 4,300 digits, too
            return lines.bad(f"not JSON: {error}: {line[:60]}")
        if not isinstance(value, dict):
            return lines.bad(f"JSON, but {kind_of(value)}, expected an object: {line[:60]}")
        text, cause = text_of(value, field)
        return Row(text, value, lines.line, lines.name, line, cause)

    return _rows(lines, row_of)


def _rows(lines: Lines, row_of: Callable[[str], Row | None]) -> Iterator[Row]:
    for raw in lines:
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            sample = raw[error.start : error.start + 4]
            yield lines.bad(f"not UTF-8 from byte {error.start} of the line: {sample!r}")
            continue
        row = row_of(line.rstrip("\r\n"))
        if row is not None:
            yield row
