"""Files to rows: a text each, with the other fields of its line, from .txt, .jsonl, .csv, .tsv and .parquet.

`Rows` reads one row at a time, and knows at any moment how far it has read and a hash of what that was: a run that
was killed reads that far again, compares the hash, and goes on.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

FORMATS = ("txt", "jsonl", "csv", "tsv", "parquet")
LONGEST_LINE = 1 << 26  # bytes; a "line" beyond it is a file of another kind, and would fill the memory
LONGEST_CELL = 1 << 24  # characters; an unclosed quote would swallow the rest of the file
VECTOR_FIELD = "embedding"


class BadRow(ValueError):
    """A row that has no text: the message names file, line and cause."""


class Row(NamedTuple):
    """One row of the input."""

    text: str | None  # None where the row is bad
    fields: dict[str, Any]  # all fields, the text's too
    line: int  # in its file, from 1; of a row of several lines the last
    file: str
    json: str = ""  # the line itself, where it is a JSON object: written back as it came
    cause: str = ""  # why there is no text


@dataclass
class Place:
    """How far the input has been read: so many bytes (or rows) of file number `file`, and the hash of all so far."""

    file: int = 0
    offset: int = 0
    line: int = 0
    sha256: str = ""


class Rows:
    """The rows of several inputs, one after the other.

    inputs: paths; "-" for standard input; or `Given` texts.
    format: one of FORMATS, where the name's suffix (before .gz) does not say it; standard input is "txt" else.
    field: the field or column of the text, "text" by default; in .csv and .tsv a number counts columns from 1 and says
        that the file has no header line.
    keep_fields: False reads no more of a .parquet file than that column.
    start: the `place` of an earlier run, from which to go on.
    Iterating raises BadRow, unless `skip_bad` asks for the row with its `cause`; ValueError where the input is not what
    it was at `start`; OSError.
    """

    def __init__(
        self,
        inputs: Sequence[str | Path | Given],
        *,
        format: str | None = None,
        field: str | None = None,
        keep_fields: bool = True,
        skip_bad: bool = False,
        start: Place | None = None,
    ):
        self.inputs = inputs
        self.formats = [format_of(source, format) for source in inputs]
        self.field = field or "text"
        self.keep_fields = keep_fields
        self.skip_bad = skip_bad
        self.start = start or Place()
        self.sizes = [input_size(source) for source in inputs]
        self.reader: Reader | None = None
        self._place = Place()
        self._digest = hashlib.sha256()

    @property
    def place(self) -> Place:
        """How far the rows have been read that were handed out."""
        offset, line = (self.reader.offset, self.reader.line) if self.reader else (0, 0)
        return Place(self._place.file, offset, line, self._digest.hexdigest())

    @property
    def schema(self) -> Any:
        """The columns of the first input as pyarrow's schema, where all are .parquet; else None."""
        if not self.inputs or set(self.formats) != {"parquet"}:
            return None
        import pyarrow.parquet

        return pyarrow.parquet.read_schema(self.inputs[0]).remove_metadata()

    @property
    def size(self) -> int | None:
        """Bytes of all inputs, None where one of them does not say."""
        known = [size for size in self.sizes if size is not None]
        return sum(known) if len(known) == len(self.sizes) else None

    @property
    def done(self) -> int:
        """Bytes of the inputs, as they lie on disk, that have been read."""
        before = sum(size or 0 for size in self.sizes[: self._place.file])
        return before + (self.reader.read_bytes() if self.reader else 0)

    def __iter__(self) -> Iterator[Row]:
        for number, (source, kind) in enumerate(zip(self.inputs, self.formats, strict=True)):
            name = "text" if isinstance(source, Given) else "standard input" if source == "-" else str(source)
            self._place.file = number
            reader = READERS["given" if isinstance(source, Given) else kind](source, self, name)
            self.reader = reader
            try:
                if number < self.start.file:
                    reader.skip(None, 0)
                else:
                    if number == self.start.file and self.start.sha256:
                        reader.skip(self.start.offset, self.start.line)
                        self._compare()
                    yield from map(self._checked, reader)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise ValueError(
                    f"{name}, after line {reader.line:,}: the gzip file is broken or cut: {error}"
                ) from None
            finally:
                reader.close()
            self._digest.update(b"\0end\0")
        self._place.file, self.reader = len(self.inputs), None
        if self.start.file >= len(self.inputs):
            self._compare()

    def hash(self, data: bytes) -> None:
        """For the readers: what they read."""
        self._digest.update(data)

    def _compare(self) -> None:
        if self._digest.hexdigest() != self.start.sha256:
            raise ValueError(
                "the input is not what it was: the part that had been embedded has changed; "
                "give the same input from its beginning, or start anew"
            )

    def _checked(self, row: Row) -> Row:
        if row.text is not None:
            try:
                row.text.isascii() or row.text.encode("utf-8")
            except UnicodeEncodeError as error:
                half = f"half a character ({row.text[error.start]!r})"
                row = row._replace(text=None, cause=f"{half} at character {error.start}, which stands for nothing")
        if self.keep_fields and VECTOR_FIELD in row.fields and not row.cause:
            row = row._replace(text=None, cause=f"a field {VECTOR_FIELD!r} is there already: rename it")
        if row.cause and not self.skip_bad:
            raise BadRow(f"{row.file}, line {row.line:,}: {row.cause}")
        return row


@dataclass
class Given:
    """Texts at hand, as an input."""

    texts: Sequence[str]


def format_of(source: str | Path | Given, format: str | None) -> str:
    """One of FORMATS: as asked for, else by the name's suffix; ValueError for an unknown one."""
    if isinstance(source, Given):
        return "txt"
    path = Path(source)
    suffix = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lstrip(".")
    kind = format or ("txt" if str(source) == "-" else suffix)
    if kind not in FORMATS:
        names = ", ".join(f".{known}" for known in FORMATS)
        raise ValueError(f"{source}: expected a name that ends in {names} (or that and .gz), or --format")
    if kind == "parquet" and (str(source) == "-" or path.suffix == ".gz"):
        raise ValueError(f"{source}: a .parquet input must be a file, and not gzipped: it is compressed inside")
    return kind


def input_size(source: str | Path | Given) -> int | None:
    """Bytes on disk; None for standard input, a pipe or given texts; OSError where there is no such file."""
    if isinstance(source, Given) or str(source) == "-":
        return None
    path = Path(source)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected a file: give {path}/*")
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    return path.stat().st_size if path.is_file() else None


# --- Readers: a file's rows, and how far they go --------------------------------------------------------------------


class LineReader:
    """Lines of a plain, gzipped or piped file; what all line formats share.  Offsets are of unpacked bytes."""

    def __init__(self, source: str | Path, rows: Rows, name: str):
        self.name, self.rows = name, rows
        self.raw: BinaryIO = sys.stdin.buffer if str(source) == "-" else open(source, "rb")  # noqa: SIM115
        packed = str(source).endswith(".gz")
        self.stream: Any = gzip.GzipFile(fileobj=self.raw) if packed else self.raw
        self.seekable = self.raw.seekable()
        self.offset = self.line = 0

    def lines(self) -> Iterator[bytes]:
        while raw := self.stream.readline(LONGEST_LINE + 1):
            if len(raw) > LONGEST_LINE:
                raise ValueError(f"{self.name}, line {self.line + 1:,}: longer than {LONGEST_LINE >> 20} MB: not text?")
            self.rows.hash(raw)
            first = not self.offset
            self.offset += len(raw)
            self.line += 1
            yield raw.removeprefix(b"\xef\xbb\xbf") if first else raw

    def __iter__(self) -> Iterator[Row]:
        for raw in self.lines():
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                yield self.bad(f"not UTF-8 from byte {error.start} of the line: {raw[error.start : error.start + 4]!r}")
                continue
            row = self.row(line.rstrip("\r\n"))
            if row is not None:
                yield row

    def row(self, line: str) -> Row | None:
        return Row(line, {"text": line}, self.line, self.name)

    def bad(self, cause: str, fields: dict[str, Any] | None = None, json: str = "") -> Row:
        return Row(None, fields or {}, self.line, self.name, json, cause)

    def skip(self, offset: int | None, line: int) -> None:
        """Read on to this offset (None: to the end), hashing what is there."""
        last = b"\n"
        while offset is None or self.offset < offset:
            left = 1 << 20 if offset is None else min(1 << 20, offset - self.offset)
            chunk = self.stream.read(left)
            if not chunk:
                if offset is not None:
                    raise ValueError(f"{self.name} is shorter than it was when the run began: give the same input")
                return
            self.rows.hash(chunk)
            self.offset += len(chunk)
            last = chunk[-1:]
        self.line = line
        if last != b"\n" and self.stream.read(1):
            raise ValueError(f"{self.name}: its last line, which had been embedded, goes on: start anew")

    def read_bytes(self) -> int:
        return self.raw.tell() if self.seekable else 0

    def close(self) -> None:
        if self.raw is not sys.stdin.buffer:
            self.raw.close()


class JsonReader(LineReader):
    """A JSON object a line; blank lines are no rows."""

    def row(self, line: str) -> Row | None:
        if not line.strip():
            return None
        try:
            found = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            return self.bad(f"not JSON: {error}: {line[:60]}")
        if not isinstance(found, dict):
            return self.bad(f"JSON, but {_kind(found)}, expected an object: {line[:60]}")
        text, cause = _text_of(found, self.rows.field)
        return Row(text, found, self.line, self.name, line, cause)


class TableReader(LineReader):
    """Comma-separated values, RFC 4180; the first row names the columns."""

    def table(self, lines: Iterator[str]) -> Iterator[list[str]]:
        csv.field_size_limit(LONGEST_CELL)
        return csv.reader(lines)

    def __init__(self, source: str | Path, rows: Rows, name: str):
        super().__init__(source, rows, name)
        # Bytes that are not UTF-8 become lone surrogates, which are refused row by row: the reader goes on behind them.
        self.cells = self.table(raw.decode("utf-8", "surrogateescape") for raw in self.lines())
        self.header: list[str] = []
        self.column = int(rows.field) - 1 if rows.field.isdecimal() else -1
        if self.column < 0:
            self.header = next(self.cells, [])
            if rows.field not in self.header:
                columns = ", ".join(map(repr, self.header)) or "nothing"
                raise ValueError(f"{name} has no column {rows.field!r}, but {columns}: choose one with --column")
            self.column = self.header.index(rows.field)

    def __iter__(self) -> Iterator[Row]:
        while True:
            try:
                cells = next(self.cells)
            except StopIteration:
                return
            except csv.Error as error:
                yield self.bad(f"not a row of a table: {error}")
                continue
            if cells:
                yield self.cut(cells)

    def cut(self, cells: list[str]) -> Row:
        names = self.header or [f"column_{number}" for number in range(1, len(cells) + 1)]
        fields = dict(zip(names, cells, strict=False))
        if self.column >= len(cells):
            return self.bad(f"{len(cells)} columns, and the text is in column {self.column + 1}", fields)
        if len(cells) > len(names):
            return self.bad(f"{len(cells)} columns, and the header names {len(names)}", fields)
        if any(map(_has_half_characters, cells)):
            return self.bad("not UTF-8")
        return Row(cells[self.column], fields, self.line, self.name)


class TabReader(TableReader):
    """Tab-separated values, text/tab-separated-values: a quote is a character like any other."""

    def table(self, lines: Iterator[str]) -> Iterator[list[str]]:
        return (line.rstrip("\r\n").split("\t") if line.strip("\r\n") else [] for line in lines)


class ParquetReader:
    """Rows of a .parquet file, through pyarrow; offsets are rows."""

    def __init__(self, source: str | Path, rows: Rows, name: str):
        try:
            import pyarrow.parquet
        except ImportError:
            raise ValueError(f"{name}: reading .parquet needs the pyarrow package: pip install pyarrow") from None
        try:
            self.file = pyarrow.parquet.ParquetFile(source)
        except pyarrow.ArrowInvalid as error:
            raise ValueError(f"{name} cannot be read as .parquet: {error}") from None
        self.name, self.rows = name, rows
        self.schema = self.file.schema_arrow
        if rows.field not in self.schema.names:
            raise ValueError(f"{name} has no column {rows.field!r}, but {', '.join(map(repr, self.schema.names))}")
        self.bytes = Path(source).stat().st_size
        with open(source, "rb") as whole:  # its parts can be read in any order: all of it is hashed now
            while chunk := whole.read(1 << 20):
                rows.hash(chunk)
        self.offset = self.line = 0
        self.first = 0

    def __iter__(self) -> Iterator[Row]:
        columns = None if self.rows.keep_fields else [self.rows.field]
        drop, group = self.first, 0
        while group < self.file.num_row_groups and drop >= self.file.metadata.row_group(group).num_rows:
            drop -= self.file.metadata.row_group(group).num_rows
            group += 1
        groups = list(range(group, self.file.num_row_groups))
        for batch in self.file.iter_batches(1024, row_groups=groups, columns=columns):
            for fields in batch.slice(drop).to_pylist() if drop < len(batch) else ():
                self.offset += 1
                self.line += 1
                text, cause = _text_of(fields, self.rows.field)
                yield Row(text, fields, self.line, self.name, "", cause)
            drop = max(0, drop - len(batch))

    def skip(self, offset: int | None, line: int) -> None:
        self.first = self.offset = self.line = self.file.metadata.num_rows if offset is None else offset

    def read_bytes(self) -> int:
        return self.bytes * self.offset // max(1, self.file.metadata.num_rows)

    def close(self) -> None:
        self.file.close()


class GivenReader:
    """Texts at hand; offsets are texts."""

    def __init__(self, source: Given, rows: Rows, name: str):
        self.texts, self.rows, self.name = source.texts, rows, name
        self.offset = self.line = 0

    def __iter__(self) -> Iterator[Row]:
        for text in self._read(len(self.texts)):
            yield Row(text, {"text": text}, self.line, self.name)

    def _read(self, stop: int) -> Iterator[str]:
        for text in self.texts[self.offset : stop]:
            self.rows.hash(text.encode("utf-8", "surrogatepass") + b"\0")
            self.offset += 1
            self.line += 1
            yield text

    def skip(self, offset: int | None, line: int) -> None:
        for _ in self._read(len(self.texts) if offset is None else offset):
            pass

    def read_bytes(self) -> int:
        return 0

    def close(self) -> None:
        pass


Reader = LineReader | ParquetReader | GivenReader
READERS: dict[str, Callable[[Any, Rows, str], Reader]] = {
    "txt": LineReader,
    "jsonl": JsonReader,
    "csv": TableReader,
    "tsv": TabReader,
    "parquet": ParquetReader,
    "given": GivenReader,
}


def _text_of(fields: dict[str, Any], field: str) -> tuple[str | None, str]:
    """(the text, "") or (None, why there is none)."""
    if field not in fields:
        return None, f"no field {field!r}, but {', '.join(map(repr, fields)) or 'none'}: choose one with --field"
    text = fields[field]
    if isinstance(text, str):
        return text, ""
    return None, f"field {field!r} is {_kind(text)}, expected a string"


def _kind(found: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(found), f"{found!r:.40}")


def _has_half_characters(cell: str) -> bool:
    return not cell.isascii() and any("\ud800" <= character <= "\udfff" for character in cell)


def place_from(note: dict[str, Any]) -> Place:
    """A `Place` from its dictionary."""
    return Place(**{key: note[key] for key in asdict(Place())})


def texts_at(rows: Iterable[Row], wanted: set[int]) -> tuple[dict[int, Row], int]:
    """(the rows of these numbers, how many rows there are)."""
    found, count = {}, 0
    for count, row in enumerate(rows, start=1):
        if count - 1 in wanted:
            found[count - 1] = row
    return found, count
