"""Rows out of .parquet and rows with vectors into it, through pyarrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.corpus.row import VECTOR_FIELD, Field, Row, refuse_repeated_names, text_of

Array = NDArray[Any]

ROWS_READ = 1024  # rows that are unpacked at a time
ROW_GROUP = 8192  # rows that are written at once: 25 MB of DistilRoBERTa's vectors


class ParquetTable:
    """A .parquet file that is read.  offset, line: how many rows have been read."""

    def __init__(self, path: str | Path, hash: Callable[[bytes], object]):
        self.name = str(path)
        with _readable(self.name):
            from pyarrow.parquet import ParquetFile

            self.file = ParquetFile(path)
        self.bytes = Path(path).stat().st_size
        with open(path, "rb") as whole:  # its parts can be read in any order: all of it is hashed now
            while chunk := whole.read(1 << 20):
                hash(chunk)
        self.offset = self.line = 0

    def skip(self, offset: int | None, line: int) -> None:
        """Go on behind so many rows; behind the last one where it is None."""
        self.offset = self.line = self.file.metadata.num_rows if offset is None else offset

    def bytes_read(self) -> int:
        return self.bytes * self.offset // max(1, self.file.metadata.num_rows)

    def close(self) -> None:
        self.file.close()


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """ValueError that names the file, for whatever pyarrow raises where it cannot read one."""
    try:
        import pyarrow
    except ImportError:
        raise ValueError(f"{name}: reading .parquet needs the pyarrow package: pip install pyarrow") from None
    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{name} cannot be read as .parquet: {error}") from None


def schema_of(path: str | Path) -> Any:
    """A file's columns as a pyarrow schema."""
    with _readable(str(path)):
        from pyarrow.parquet import read_schema

        return read_schema(path).remove_metadata()


def parquet_rows(table: ParquetTable, field: Field, keep_fields: bool) -> Iterator[Row]:
    """One row for each of the table's."""
    names = table.file.schema_arrow.names
    refuse_repeated_names(names if keep_fields else [name for name in names if name == field.name], table.name)
    if field.name not in names:
        raise ValueError(f"{table.name} has {field.missing(names, 'column')}")
    return _rows(table, field, None if keep_fields else [field.name])


def _rows(table: ParquetTable, field: Field, columns: list[str] | None) -> Iterator[Row]:
    drop, group = table.offset, 0
    while group < table.file.num_row_groups and drop >= table.file.metadata.row_group(group).num_rows:
        drop -= table.file.metadata.row_group(group).num_rows
        group += 1
    groups = list(range(group, table.file.num_row_groups))
    with _readable(f"{table.name}, line {table.line + 1:,} or later,"):
        for batch in table.file.iter_batches(ROWS_READ, row_groups=groups, columns=columns):
            for fields, cause in _unpacked(batch.slice(drop)) if drop < len(batch) else ():
                table.offset += 1
                table.line += 1
                text, no_text = (None, cause) if cause else text_of(fields, field)
                yield Row(text, fields, table.line, table.name, "", no_text)
            drop = max(0, drop - len(batch))


def _unpacked(batch: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """(fields, "") of each row, or ({}, why Python has no such value): a string that is not UTF-8, the year 10,000."""
    try:
        yield from ((fields, "") for fields in batch.to_pylist())
    except (ValueError, OverflowError):  # of one row or several: take each alone
        for number in range(len(batch)):
            try:
                yield batch.slice(number, 1).to_pylist()[0], ""
            except (ValueError, OverflowError) as error:
                yield {}, f"a field has no value in Python: {error}"


class ParquetWriter:
    """The input's columns and a column of fixed-size lists.

    A .parquet file ends with a directory, so it cannot grow: what grows is an Arrow stream, which becomes one at the
    end.  The columns' types are those of the input's .parquet file, or of the first block.
    """

    keeps_fields = True
    head = 0

    def __init__(self, dimension: int, dtype: str, schema: Any = None):
        try:
            import pyarrow
        except ImportError:
            raise ValueError("writing .parquet needs the pyarrow package: pip install pyarrow") from None
        self.dimension, self.arrow = dimension, pyarrow
        self.dtype = dtype
        self.vector = pyarrow.field(VECTOR_FIELD, pyarrow.list_(pyarrow.from_numpy_dtype(np.dtype(dtype)), dimension))
        self.unfit = (pyarrow.ArrowException, OverflowError, UnicodeEncodeError, TypeError)
        self.columns = None if schema is None else self._checked(schema, "the input")
        self.begun = False

    def block(self, rows: Sequence[Row], vectors: Array) -> bytes:
        columns = self._columns(rows)
        arrow = self.arrow
        schema = columns.schema.append(self.vector)
        flat = arrow.array(vectors.astype(self.dtype).ravel())
        lists = arrow.FixedSizeListArray.from_arrays(flat, self.dimension)
        batch = arrow.RecordBatch.from_arrays([*columns.columns, lists], schema=schema)
        start = b"" if self.begun else schema.serialize().to_pybytes()
        self.begun = True
        return start + batch.serialize().to_pybytes()

    def _columns(self, rows: Sequence[Row]) -> Any:
        """The rows' fields as a record batch of the file's columns, which the first block decides."""
        fields = [row.fields for row in rows]
        if self.columns is not None:
            known = set(self.columns.names)
            for row in rows:
                if new := row.fields.keys() - known:
                    raise ValueError(
                        f"{row.place}: no row of the first block, which made the columns, has a field {min(new)!r}: "
                        "write .jsonl, which takes any fields"
                    )
            return self._batch(rows, fields, self.columns)
        if not rows:
            self.columns = self.arrow.schema([("text", self.arrow.string())])
            return self._batch(rows, fields, self.columns)
        names = list(dict.fromkeys(name for row in fields for name in row))
        batch = self._batch(rows, [{name: row.get(name) for name in names} for row in fields], None)
        self.columns = self._checked(batch.schema, f"{rows[0].place}, and the rows behind it")
        return batch

    def _batch(self, rows: Sequence[Row], fields: list[dict[str, Any]], schema: Any) -> Any:
        make = self.arrow.RecordBatch.from_pylist
        try:
            return make(fields, schema=schema)
        except self.unfit as error:
            for row, own in zip(rows, fields, strict=True):
                for name, value in own.items():
                    try:
                        self.arrow.array([value], None if schema is None else schema.field(name).type)
                    except self.unfit as cause:
                        raise ValueError(
                            f"{row.place}: field {name!r} does not fit a .parquet column ({cause}): write .jsonl, "
                            "which takes any fields"
                        ) from None
            where = f"{rows[0].file}, lines {rows[0].line:,} to {rows[-1].line:,}"
            raise ValueError(f"{where}: fields of several types in one column ({error}): write .jsonl") from None

    def _checked(self, schema: Any, where: str) -> Any:
        """The columns as they are written; ValueError, now and not when all is computed, where .parquet has no such."""
        from pyarrow.parquet import ParquetWriter as Writer

        schema = self.arrow.schema([self.arrow.field(field.name, _plain(field.type)) for field in schema])
        try:
            Writer(self.arrow.BufferOutputStream(), schema.append(self.vector)).close()
        except self.unfit as error:
            raise ValueError(f"{where}: a field does not fit a .parquet column ({error}): write .jsonl") from None
        return schema

    def resume(self, partial: Path) -> None:
        with self.arrow.ipc.open_stream(partial) as stream:
            self.columns = self.arrow.schema(list(stream.schema)[:-1])
        self.begun = True

    def seal(self, partial: Path, sealed: Path, rows: int) -> Path:
        import pyarrow.parquet

        with (
            self.arrow.ipc.open_stream(partial) as stream,
            pyarrow.parquet.ParquetWriter(sealed, stream.schema) as out,
        ):
            waiting: list[Any] = []
            for batch in stream:
                waiting.append(batch)
                if sum(map(len, waiting)) >= ROW_GROUP:
                    out.write_table(self.arrow.Table.from_batches(waiting))
                    waiting = []
            if waiting:
                out.write_table(self.arrow.Table.from_batches(waiting))
        return sealed


def _plain(kind: Any) -> Any:
    """A type without dictionaries inside, such as those of pandas' categories: an Arrow stream cannot add to them."""
    import pyarrow

    if pyarrow.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pyarrow.types.is_struct(kind):
        return pyarrow.struct([kind.field(i).with_type(_plain(kind.field(i).type)) for i in range(kind.num_fields)])
    if pyarrow.types.is_map(kind):
        return pyarrow.map_(_plain(kind.key_type), _plain(kind.item_type))
    if pyarrow.types.is_fixed_size_list(kind):
        return pyarrow.list_(_plain(kind.value_type), kind.list_size)
    if pyarrow.types.is_large_list(kind):
        return pyarrow.large_list(_plain(kind.value_type))
    if pyarrow.types.is_list(kind):
        return pyarrow.list_(_plain(kind.value_type))
    return kind
