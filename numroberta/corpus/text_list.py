"""Texts at hand, such as a command's arguments, as one of the inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from numroberta.corpus.row import Field, Row


@dataclass
class TextList:
    """Texts at hand, as an input."""

    texts: Sequence[str]


class ListedTexts:
    """The texts of a list one by one.  hash: called with each of them, so that ["ab", "c"] is not ["a", "bc"]."""

    name = "text"

    def __init__(self, listed: TextList, hash: Callable[[bytes], object]):
        self.texts, self.hash = listed.texts, hash
        self.offset = self.line = 0

    def __iter__(self) -> Iterator[str]:
        return self._read(len(self.texts))

    def skip(self, offset: int | None, line: int) -> None:
        for _ in self._read(len(self.texts) if offset is None else offset):
            pass

    def _read(self, stop: int) -> Iterator[str]:
        for text in self.texts[self.offset : stop]:
            self.hash(text.encode("utf-8", "surrogatepass") + b"\0")
            self.offset += 1
            self.line += 1
            yield text

    def bytes_read(self) -> int:
        return 0

    def close(self) -> None:
        pass


def listed_rows(listed: ListedTexts, field: Field, keep_fields: bool) -> Iterator[Row]:
    """One row for each text."""
    return (Row(text, {"text": text}, listed.line, listed.name) for text in listed)
