"""The formats of outputs: rows and their vectors as bytes, a block at a time.

Each writer turns a block into bytes that can be put behind the earlier ones.  At the end `seal` makes a complete file
of them, either in their place or at another, and returns where it is.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.corpus.parquet import ParquetWriter
from numroberta.corpus.row import VECTOR_FIELD, Row

Array = NDArray[Any]

DIGITS = {"float16": 5, "float32": 9, "float64": 17}  # enough to read back the same number


class NpyWriter:
    """Version 1.0 of NumPy's format, (rows, dimension); the rows are counted in the header when all are there."""

    keeps_fields = False
    head = 128  # bytes of the header, which `seal` writes again; np.save's own length for any number of rows

    def __init__(self, dimension: int, dtype: str, schema: Any = None):
        self.dimension, self.dtype = dimension, np.dtype(dtype).newbyteorder("<")
        self.begun = False

    def header(self, rows: int) -> bytes:
        about = {"descr": self.dtype.str, "fortran_order": False, "shape": (rows, self.dimension)}
        text = "{" + "".join(f"{key!r}: {value!r}, " for key, value in about.items()) + "}"
        body = text.ljust(self.head - 11).encode() + b"\n"
        return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body

    def block(self, rows: Sequence[Row], vectors: Array) -> bytes:
        """(rows, dimension) -> their bytes."""
        start = b"" if self.begun else self.header(0)
        self.begun = True
        return start + vectors.astype(self.dtype).tobytes()

    def resume(self, partial: Path) -> None:
        self.begun = True

    def seal(self, partial: Path, sealed: Path, rows: int) -> Path:
        with partial.open("r+b") as file:
            file.write(self.header(rows))
        return partial


class JsonLinesWriter:
    """The input's own object with one more field, a line each."""

    keeps_fields = True
    head = 0

    def __init__(self, dimension: int, dtype: str, schema: Any = None):
        self.pattern = ", ".join([f"%.{DIGITS[dtype]}g"] * dimension)
        self.dtype = dtype

    def block(self, rows: Sequence[Row], vectors: Array) -> bytes:
        lines = []
        for row, vector in zip(rows, vectors.astype(self.dtype).tolist(), strict=True):
            known = (row.json or json.dumps(row.fields, ensure_ascii=False, default=str)).strip()
            if row.cause:
                known = _with_field(known, "error", json.dumps(row.cause, ensure_ascii=False))
            lines.append(_with_field(known, VECTOR_FIELD, f"[{self.pattern % tuple(vector)}]"))
        return "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")

    def resume(self, partial: Path) -> None:
        pass

    def seal(self, partial: Path, sealed: Path, rows: int) -> Path:
        return partial


class PackedJsonLinesWriter(JsonLinesWriter):
    """The same lines, each block a gzip member of its own."""

    def block(self, rows: Sequence[Row], vectors: Array) -> bytes:
        return gzip.compress(super().block(rows, vectors), mtime=0)  # no time: the same rows have the same bytes


def _with_field(text: str, name: str, value: str) -> str:
    """A JSON object's text with one field more: what was there stays as it was written."""
    rest = text[:-1].rstrip()
    return f"{rest}{'' if rest == '{' else ', '}{json.dumps(name)}: {value}}}"


Writer = NpyWriter | JsonLinesWriter | ParquetWriter
WRITERS: dict[str, type[Writer]] = {
    ".npy": NpyWriter,
    ".jsonl": JsonLinesWriter,
    ".jsonl.gz": PackedJsonLinesWriter,
    ".parquet": ParquetWriter,
}


def writer_of(path: Path) -> type[Writer]:
    """The writer of this name's format; ValueError for an unknown one.

    It is made of the vectors' dimension, their dtype in the file and, where the inputs have one, a pyarrow schema.
    """
    for suffix, writer in WRITERS.items():
        if path.name.endswith(suffix):
            return writer
    raise ValueError(f"output {path}: expected a name that ends in {', '.join(WRITERS)}")
