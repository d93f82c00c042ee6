"""A file that grows block by block, survives being killed at any byte, and has its name only when it is complete.

    OUT.partial   the blocks so far
    OUT.journal   a line of JSON: what is being made; then one for each block: how long OUT.partial is with it, and
                  whatever the maker wants to know when it goes on

A block is written and synced before its line in the journal is: what the journal tells of is on the disk.  Whoever
resumes cuts off what the journal does not tell of.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two runs apart there
    fcntl = None  # type: ignore[assignment]


def partial_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def journal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.journal")


def check(path: Path, *, resume: bool = False, overwrite: bool = False) -> None:
    """OSError with what to do, where this file cannot be made, or must not be: before anything is computed."""
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{path}: the folder {folder} cannot be written to")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path} is there, and no plain file")
    if resume or overwrite:
        return
    if journal_of(path).exists():
        raise FileExistsError(f"{path} has been begun by an earlier run: --resume goes on, --overwrite starts anew")
    if path.exists():
        raise FileExistsError(f"{path} is there already: --overwrite replaces it when the new one is complete")


class Growing:
    """The file at `path` while it is made.  A context: leaving it by an exception leaves everything to be resumed.

    about: what is being made; a resumed run's must be the same, or ValueError says what differs.
    note: what was noted with the last block, None at the start.  complete: there is nothing left to do.
    """

    def __init__(self, path: Path, about: dict[str, Any], *, resume: bool = False, overwrite: bool = False):
        check(path, resume=resume, overwrite=overwrite)
        self.path, self.about = path, about
        self.partial, self.journal_path = partial_of(path), journal_of(path)
        self.note: dict[str, Any] | None = None
        self.size = 0
        self.complete = resume and path.exists() and not self.journal_path.exists()
        if self.complete:
            return
        self.journal = self._locked()
        try:
            if not (resume and self._continue()):
                self._begin()
        except BaseException:
            self.journal.close()
            raise

    def __enter__(self) -> Growing:
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "file"):
            self.file.close()
        if hasattr(self, "journal"):
            self.journal.close()

    def append(self, block: bytes, note: dict[str, Any]) -> None:
        """Add a block: when this returns, it is on the disk."""
        try:
            _write(self.file, block)
            self.size += len(block)
            self._write({"bytes": self.size, **note})
        except OSError as error:
            raise OSError(error.errno, f"{self.partial}: {error.strerror}: mend that, then --resume goes on") from None
        self.note = note

    def notes(self) -> Iterator[dict[str, Any]]:
        """All that was noted, in order."""
        with self.journal_path.open("rb") as journal:
            next(journal)
            yield from map(json.loads, journal)

    def finish(self, sealed: Path) -> None:
        """Give a complete file, OUT.partial or one made of it, the name."""
        with sealed.open("rb") as file:
            os.fsync(file.fileno())
        self._write({"complete": sealed.name})
        self._rename(sealed)

    def _rename(self, sealed: Path) -> None:
        if sealed.exists():  # else it was killed right after this
            sealed.replace(self.path)
        _sync_folder(self.path.parent)
        self.partial.unlink(missing_ok=True)
        self.journal_path.unlink()
        self.complete = True

    def _locked(self) -> BinaryIO:
        journal = _unbuffered(self.journal_path, "ab")
        if fcntl is not None:
            try:
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                journal.close()
                raise FileExistsError(f"{self.path} is being made by another process") from None
        return journal

    def _begin(self) -> None:
        self.journal.truncate(0)
        self.file = _unbuffered(self.partial, "wb")
        _sync_folder(self.path.parent)
        self._write(self.about)

    def _continue(self) -> bool:
        """Go on from the last block that is whole; False where there is nothing to go on from."""
        lines, end = _whole_lines(self.journal_path)
        self.journal.truncate(end)
        if not lines:
            return False
        self._compare(lines[0])
        last: dict[str, Any] = lines[-1] if len(lines) > 1 else {"bytes": 0}
        if "complete" in last:
            self._rename(self.path.with_name(last["complete"]))
            return True
        self.size = last.pop("bytes")
        found = self.partial.stat().st_size if self.partial.exists() else 0
        if found < self.size:
            raise ValueError(f"{self.partial} has {found:,} bytes, the journal tells of {self.size:,}: start anew")
        self.note = last or None
        self.file = _unbuffered(self.partial, "ab")
        self.file.truncate(self.size)
        return True

    def _compare(self, before: dict[str, Any]) -> None:
        changed = [key for key in sorted({*before, *self.about}) if before.get(key) != self.about.get(key)]
        if changed:
            told = "; ".join(f"{key} was {before.get(key)!r} and is {self.about.get(key)!r}" for key in changed)
            raise ValueError(f"{self.path} cannot be resumed: {told}: give the same, or start anew with --overwrite")

    def _write(self, line: dict[str, Any]) -> None:
        _write(self.journal, json.dumps(line).encode() + b"\n")


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """(the journal's first and last line, or the one there is; where the last whole one ends)."""
    lines: list[dict[str, Any]] = []
    end = 0
    with path.open("rb") as journal:
        for raw in journal:
            try:
                line = json.loads(raw) if raw.endswith(b"\n") else None
            except ValueError:
                line = None
            if line is None:
                break
            lines = [*lines[:1], line]
            end += len(raw)
    return lines, end


def _unbuffered(path: Path, mode: str) -> BinaryIO:
    """Without a buffer, whose rest `close` would try to write again when the disk is full."""
    return cast(BinaryIO, path.open(mode, buffering=0))


def _write(file: BinaryIO, data: bytes) -> None:
    """Write all of it, and wait until it is on the disk."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
