"""Rows and their vectors as bytes: .npy, .jsonl, .jsonl.gz and .parquet, a block at a time.

Each writer turns a block into bytes that can be put behind the earlier ones, and `seal`s the whole at the end.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.corpus.rows import VECTOR_FIELD, Row

Array = NDArray[Any]

SUFFIXES = (".npy", ".jsonl", ".jsonl.gz", ".parquet")
DIGITS = {"float16": 5, "float32": 9, "float64": 17}  # enough to read back the same number
ROW_GROUP = 8192  # rows of a .parquet file that are written at once: 25 MB of DistilRoBERTa's vectors


def suffix_of(path: Path) -> str:
    """One of SUFFIXES, or ValueError."""
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return suffix
    raise ValueError(f"output {path}: expected a name that ends in {', '.join(SUFFIXES)}")


class NpyFile:
    """Version 1.0 of NumPy's format, (rows, dimension); the rows are counted in the header when all are there."""

    HEADER = 128  # bytes; np.save's own length for any number of rows

    def __init__(self, dimension: int, dtype: str):
        self.dimension, self.dtype = dimension, np.dtype(dtype).newbyteorder("<")
        self.begun = False

    def header(self, rows: int) -> bytes:
        about = {"descr": self.dtype.str, "fortran_order": False, "shape": (rows, self.dimension)}
        text = "{" + "".join(f"{key!r}: {value!r}, " for key, value in about.items()) + "}"
        body = text.ljust(self.HEADER - 11).encode() + b"\n"
        return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body

    def block(self, rows: Sequence[Row], vectors: Array) -> bytes:
        """(rows, dimension) -> their bytes."""
        start = b"" if self.begun else self.header(0)
        self.begun = True
        return start + vectors.astype(self.dtype).tobytes()

    def resume(self, partial: Path) -> None:
        self.begun = True

    def seal(self, partial: Path, rows: int) -> Path:
        with partial.open("r+b") as file:
            file.write(self.header(rows))
        return partial


class JsonLines:
    """The input's own object with one more field, a line each; compressed, a block is a gzip member of its own."""

    def __init__(self, dtype: str, packed: bool):
        self.number, self.packed = f"%.{DIGITS[dtype]}g", packed
        self.dtype = dtype

    def block(self, rows: Sequence[Row], vectors: Array) -> bytes:
        pattern = ", ".join([self.number] * vectors.shape[1])
        lines = []
        for row, vector in zip(rows, vectors.astype(self.dtype).tolist(), strict=True):
            known = (row.json or json.dumps(row.fields, ensure_ascii=False, default=str)).strip()
            if row.cause:
                known = _with_field(known, "error", json.dumps(row.cause, ensure_ascii=False))
            lines.append(_with_field(known, VECTOR_FIELD, f"[{pattern % tuple(vector)}]"))
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
        return gzip.compress(data, mtime=0) if self.packed else data

    def resume(self, partial: Path) -> None:
        pass

    def seal(self, partial: Path, rows: int) -> Path:
        return partial


def _with_field(text: str, name: str, value: str) -> str:
    """A JSON object's text with one field more: what was there stays as it was written."""
    rest = text[:-1].rstrip()
    return f"{rest}{'' if rest == '{' else ', '}{json.dumps(name)}: {value}}}"


class ParquetFile:
    """The input's columns and a column of fixed-size lists, through pyarrow.

    A .parquet file ends with a directory, so it cannot grow: what grows is an Arrow stream, which becomes one at the
    end.  The columns' types are those of the input's .parquet file, or of the first block.
    """

    def __init__(self, dimension: int, dtype: str, schema: Any = None):
        try:
            import pyarrow
        except ImportError:
            raise ValueError("writing .parquet needs the pyarrow package: pip install pyarrow") from None
        self.dimension, self.arrow = dimension, pyarrow
        kind = pyarrow.from_numpy_dtype(np.dtype(dtype))
        self.dtype = dtype
        self.vector = pyarrow.field(VECTOR_FIELD, pyarrow.list_(kind, dimension))
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
                        f"{row.file}, line {row.line:,}: no row of the first block, which made the columns, has a "
                        f"field {min(new)!r}: write .jsonl, which takes any fields"
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


Writer = NpyFile | JsonLines | ParquetFile


def writer_for(path: Path, dimension: int, dtype: str, schema: Any = None) -> Writer:
    """The writer of this name's format.  schema: the input's, where it is .parquet."""
    suffix = suffix_of(path)
    if suffix == ".npy":
        return NpyFile(dimension, dtype)
    if suffix == ".parquet":
        return ParquetFile(dimension, dtype, schema)
    return JsonLines(dtype, packed=suffix == ".jsonl.gz")
