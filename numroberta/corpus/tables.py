"""The rows of .csv (RFC 4180) and .tsv (text/tab-separated-values), by the name or the number of a column."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from numroberta.checkpoint import lone_surrogate
from numroberta.corpus.lines import Lines
from numroberta.corpus.row import Field, Row, refuse_repeated_names

EXPLAINED = {"unexpected end of data": "a quote is never closed, so that the rest of the file would be one cell"}
LONGEST_CELL = 1 << 24  # characters; an unclosed quote would swallow the rest of the file


def csv_rows(lines: Lines, field: Field, keep_fields: bool) -> Iterator[Row]:
    """Comma-separated values; a cell in quotes may hold commas, line ends and doubled quotes."""
    csv.field_size_limit(LONGEST_CELL)
    return _rows(lines, csv.reader(_decoded(lines), strict=True), field, keep_fields)


def tsv_rows(lines: Lines, field: Field, keep_fields: bool) -> Iterator[Row]:
    """Tab-separated values: a quote is a character like any other."""
    cells = (line.rstrip("\r\n").split("\t") if line.strip("\r\n") else [] for line in _decoded(lines))
    return _rows(lines, cells, field, keep_fields)


def _decoded(lines: Lines) -> Iterator[str]:
    """Bytes that are not UTF-8 become lone surrogates, which are refused row by row: reading goes on behind them."""
    return (raw.decode("utf-8", "surrogateescape") for raw in lines)


def _rows(lines: Lines, table: Iterator[list[str]], field: Field, keep_fields: bool) -> Iterator[Row]:
    """field: a column's name in the header line, or its number from 1 where there is no header line."""
    header: list[str] = []
    column = int(field.name) - 1 if field.name.isdecimal() else -1
    if column < 0:
        try:
            header = next(table, [])  # now, not with the first row: a resumed run skips what follows it
        except csv.Error as error:
            raise ValueError(f"{lines.name}: its first line is no header of a table: {error}") from None
        if field.name not in header:
            raise ValueError(f"{lines.name} has {field.missing(header, 'column')}")
        refuse_repeated_names(header if keep_fields else [name for name in header if name == field.name], lines.name)
        column = header.index(field.name)
    return _rows_below(lines, table, header, column)


def _rows_below(lines: Lines, table: Iterator[list[str]], header: list[str], column: int) -> Iterator[Row]:
    while True:
        first = lines.line + 1
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            several = f" (it begins in line {first:,})" if first < lines.line else ""
            yield lines.bad(f"not a row of a table{several}: {EXPLAINED.get(str(error), error)}")
            continue
        if cells:
            yield _row(lines, cells, header, column)


def _row(lines: Lines, cells: list[str], header: list[str], column: int) -> Row:
    names = header or [f"column_{number}" for number in range(1, len(cells) + 1)]
    fields = dict(zip(names, cells, strict=False))
    if column >= len(cells):
        return lines.bad(f"{len(cells)} columns, and the text is in column {column + 1}", fields)
    if len(cells) > len(names):
        return lines.bad(f"{len(cells)} columns, and the header names {len(names)}", fields)
    if any(lone_surrogate(cell) is not None for cell in cells):
        return lines.bad("not UTF-8")
    return Row(cells[column], fields, lines.line, lines.name)
