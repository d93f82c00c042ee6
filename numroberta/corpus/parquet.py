"""Rows out of .parquet and rows with vectors into it, through pyarrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.corpus.row import VECTOR_FIELD, Row, text_of

Array = NDArray[Any]

ROWS_READ = 1024  # rows that are unpacked at a time
ROW_GROUP = 8192  # rows that are written at once: 25 MB of DistilRoBERTa's vectors


class ParquetTable:
    """A .parquet file that is read.  offset, line: how many rows have been read."""

    def __init__(self, path: str | Path, hash: Callable[[bytes], object]):
        try:
            import pyarrow.parquet
        except ImportError:
            raise ValueError(f"{path}: reading .parquet needs the pyarrow package: pip install pyarrow") from None
        try:
            self.file = pyarrow.parquet.ParquetFile(path)
        except pyarrow.ArrowInvalid as error:
            raise ValueError(f"{path} cannot be read as .parquet: {error}") from None
        self.name = str(path)
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


def schema_of(path: Path) -> Any:
    """A file's columns as a pyarrow schema."""
    import pyarrow.parquet

    return pyarrow.parquet.read_schema(path).remove_metadata()


def parquet_rows(table: ParquetTable, field: str, keep_fields: bool) -> Iterator[Row]:
    """One row for each of the table's."""
    names = table.file.schema_arrow.names
    if field not in names:
        raise ValueError(f"{table.name} has no column {field!r}, but {', '.join(map(repr, names))}")
    return _rows(table, field, None if keep_fields else [field])


def _rows(table: ParquetTable, field: str, columns: list[str] | None) -> Iterator[Row]:
    drop, group = table.offset, 0
    while group < table.file.num_row_groups and drop >= table.file.metadata.row_group(group).num_rows:
        drop -= table.file.metadata.row_group(group).num_rows
        group += 1
    groups = list(range(group, table.file.num_row_groups))
    for batch in table.file.iter_batches(ROWS_READ, row_groups=groups, columns=columns):
        for fields in batch.slice(drop).to_pylist() if drop < len(batch) else ():
            table.offset += 1
            table.line += 1
            text, cause = text_of(fields, field)
            yield Row(text, fields, table.line, table.name, "", cause)
        drop = max(0, drop - len(batch))


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
        self.columns = schema
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
        fields = [row.fields for row in rows]
        if self.columns is None:
            names = list(dict.fromkeys(name for row in fields for name in row))
            fields = [{name: row.get(name) for name in names} for row in fields]
        else:
            known = set(self.columns.names)
            for row in rows:
                if new := row.fields.keys() - known:
                    raise ValueError(
                        f"{row.place}: no row of the first block, which made the columns, has a field {min(new)!r}: "
                        "write .jsonl, which takes any fields"
                    )
        schema = self.columns if fields else self.columns or self.arrow.schema([("text", self.arrow.string())])
        try:
            batch = self.arrow.RecordBatch.from_pylist(fields, schema=schema)
        except (self.arrow.ArrowInvalid, self.arrow.ArrowTypeError, self.arrow.ArrowNotImplementedError) as error:
            where = f"{rows[0].file}, lines {rows[0].line:,} to {rows[-1].line:,}"
            raise ValueError(f"{where}: fields of several types in one column ({error}): write .jsonl") from None
        self.columns = batch.schema
        return batch

    def resume(self, partial: Path) -> None:
        with self.arrow.ipc.open_stream(partial) as stream:
            self.columns = self.arrow.schema(list(stream.schema)[:-1])
        self.begun = True

    def seal(self, partial: Path, rows: int) -> Path:
        import pyarrow.parquet

        sealed = partial.with_name(f"{partial.name}.sealed")
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
