"""Files to texts and labels: .csv, .tsv, .jsonl and .parquet, with the columns that the caller names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from numroberta.checkpoint import show
from numroberta.corpus import Field, Rows

SEPARATOR = ";"  # between several labels in one cell


class Data(NamedTuple):
    """What a file has to teach."""

    texts: list[Any]  # strings, or pairs of strings
    labels: list[Any] | None  # as the file has them; None where no column was named


def load_data(path: str | Path, text: str, pair: str | None, label: str | None, format: str | None = None) -> Data:
    """The texts and labels of a file.

    Args:
        path: .csv, .tsv, .jsonl, each also .gz, or .parquet.
        text, pair, label: The columns; without `pair` a text stands alone, and without `label` it has none.
        format: One of `numroberta.corpus.FORMATS`, where the name does not say it.

    Raises:
        ValueError: A column is not there, a row has no text or no label, or there are no rows.
    """
    texts: list[Any] = []
    labels: list[Any] | None = None if label is None else []
    has_fields = format != "txt" and not str(path).removesuffix(".gz").endswith(".txt")
    if not has_fields and (pair is not None or label is not None):
        raise ValueError(
            f"{path}: a line of a .txt is a text alone; give a .csv, .tsv, .jsonl or .parquet with columns"
        )
    columns = [text] if pair is None else [text, pair]
    given = {"--text": text, "--pair": pair, "--label": label} if has_fields else {}
    fields = [Field(name, option) for option, name in given.items() if name is not None]
    for row in Rows([path], field=text if has_fields else None, option="--text", format=format):
        for field in fields:
            if field.name not in row.fields:
                raise ValueError(f"{row.place}: {field.missing(row.fields, 'column')}")
        own = [row.fields[column] for column in columns] if has_fields else [row.text]
        for column, value in zip(columns, own, strict=True):
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"{row.place}: {column!r} is {show(value)}: there is nothing to learn from")
        texts.append(own[0] if pair is None else tuple(own))
        if labels is not None and label is not None:
            value = row.fields[label]
            if value is None or value == "":
                raise ValueError(f"{row.place}: {label!r} is empty: give each text a label, or take the row out")
            labels.append(value)
    if not texts:
        raise ValueError(f"{path} has no rows")
    return Data(texts, labels)


def split(count: int, part: float, order: Sequence[int]) -> tuple[list[int], list[int]]:
    """(to learn from, held out): of so many texts in this order the first part is held out, at least one."""
    held = max(1, round(count * part))
    return list(order[held:]), list(order[:held])


def spread(order: Sequence[int], labels: Sequence[Any]) -> list[int]:
    """The order, changed so that its first part, however long, has of each label about the share that all have.

    >>> spread([0, 1, 2, 3, 4, 5], ["a", "a", "a", "a", "b", "b"])
    [0, 4, 1, 2, 5, 3]
    """
    there, seen = Counter(labels), Counter[Any]()
    place = {}
    for i in order:
        seen[labels[i]] += 1
        place[i] = (seen[labels[i]] - 0.5) / there[labels[i]]
    return sorted(order, key=place.__getitem__)


def label_names(labels: Sequence[Any]) -> tuple[str, ...]:
    """The different labels of a file, sorted: as numbers if all are, else by their letters.

    >>> label_names(["10", "9", "9"])
    ('9', '10')
    """
    names = {str(label) for label in labels}
    try:
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    except ValueError:
        return tuple(sorted(names))


def several(label: Any) -> list[str]:
    """The labels of one text: a list, or a cell with semicolons.

    >>> several("joy; love")
    ['joy', 'love']
    """
    parts = label.split(SEPARATOR) if isinstance(label, str) else label
    return [name for part in parts if (name := str(part).strip())]
