"""The formats of inputs: a new one is a line in FORMATS, and the file that reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from numroberta.corpus.lines import Lines, json_rows, text_rows
from numroberta.corpus.parquet import ParquetTable, parquet_rows, schema_of
from numroberta.corpus.row import Field, Row
from numroberta.corpus.tables import csv_rows, tsv_rows
from numroberta.corpus.text_list import ListedTexts, TextList, listed_rows

Input = str | Path | TextList
Source = Lines | ParquetTable | ListedTexts


class Format(NamedTuple):
    """How a kind of input is read."""

    open: Callable[[Any, Callable[[bytes], object]], Source]  # the input and a hash function that is given what is read
    rows: Callable[[Any, Field, bool], Iterator[Row]]  # a source, the text's field, whether other fields are wanted
    has_fields: bool = True  # else a row is its text
    streams: bool = True  # it can be gzipped or come through a pipe
    schema: Callable[[Any], Any] | None = None  # gives a file's columns as a pyarrow schema


FORMATS = {
    "txt": Format(Lines, text_rows, has_fields=False),
    "jsonl": Format(Lines, json_rows),
    "csv": Format(Lines, csv_rows),
    "tsv": Format(Lines, tsv_rows),
    "parquet": Format(ParquetTable, parquet_rows, streams=False, schema=schema_of),
}
LISTED = Format(ListedTexts, listed_rows, has_fields=False)


def format_of(source: Input, name: str | None) -> Format:
    """An input's format: by this name, else by the file name's suffix; ValueError for an unknown one."""
    if isinstance(source, TextList):
        return LISTED
    path = Path(source)
    suffix = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lstrip(".")
    format = FORMATS.get(name or ("txt" if str(source) == "-" else suffix))
    if format is None:
        names = ", ".join(f".{known}" for known in FORMATS)
        raise ValueError(f"{source}: expected a name that ends in {names} (or that and .gz), or --format")
    if not format.streams and (str(source) == "-" or path.suffix == ".gz"):
        raise ValueError(f"{source}: a .parquet input must be a file, and not gzipped: it is compressed inside")
    return format


def size_of(source: Input) -> int | None:
    """Bytes on disk; None for standard input, a pipe or listed texts; OSError where there is no such file."""
    if isinstance(source, TextList) or str(source) == "-":
        return None
    path = Path(source)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, expected a file: give {path}/*")
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    return path.stat().st_size if path.is_file() else None
