"""A file that grows block by block, survives being killed at any byte, and has its name only when it is complete.

    OUT.partial   the blocks so far
    OUT.journal   a line of JSON that says what is being made; then one line for each block: how long OUT.partial is
                  with it, a hash of OUT.partial up to there, and whatever its maker wants to know to go on

A block is written and synced before its line in the journal is, so what the journal lists is on the disk.  Each line
ends with a checksum of its own.  A run that resumes goes on behind the last block that is whole, and drops the rest:
what was half-written when the machine went down, and what has been damaged since.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from numroberta.checkpoint import sync_folder

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two runs apart there
    fcntl = None  # type: ignore[assignment]

AT_ONCE = 1 << 20  # bytes that are read to be hashed


def partial_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def journal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.journal")


def sealed_of(path: Path) -> Path:
    """Where a format that cannot grow is made of the blocks, when all are there."""
    return path.with_name(f"{path.name}.partial.sealed")


def check(path: Path, *, resume: bool = False, overwrite: bool = False) -> None:
    """ValueError or OSError with what to do, where this file cannot be made, or must not be: before the computing."""
    if resume and overwrite:
        raise ValueError("--resume goes on with what an earlier run left, --overwrite starts anew: give one of them")
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

    Attributes:
        note: What was noted with the last block, None at the start.
        size: Bytes of all blocks so far.
        complete: Whether there is nothing left to do.

    Args:
        about: What is being made.  It must be the same in a run that resumes: ValueError says what differs.
        head: So many bytes at the file's beginning are no block's: who seals the file may write them again.
    """

    def __init__(
        self, path: Path, about: dict[str, Any], *, resume: bool = False, overwrite: bool = False, head: int = 0
    ):
        check(path, resume=resume, overwrite=overwrite)
        self.path, self.about, self.head = path, about, head
        self.partial, self.journal_path = partial_of(path), journal_of(path)
        self.note: dict[str, Any] | None = None
        self.size = 0
        self.digest = hashlib.sha256()  # of all blocks, without the head
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
        if not self.complete and self.note is None:
            self._forget()

    def _forget(self) -> None:
        """Take away what was begun, where there is nothing yet to go on from."""
        self.partial.unlink(missing_ok=True)
        self.journal_path.unlink(missing_ok=True)

    def append(self, block: bytes, note: dict[str, Any]) -> None:
        """Add a block: when this returns, it is on the disk."""
        self._check_that_it_is_there()
        with named(self.partial, kept=self.note is not None):
            _write(self.file, block)
        self._hash(block)
        self._write({"bytes": self.size, "sha256": self.digest.hexdigest(), "note": note})
        self.note = note

    def notes(self) -> Iterator[dict[str, Any]]:
        """All that was noted, in order."""
        with self.journal_path.open("rb") as journal:
            next(journal)
            yield from (json.loads(line)["note"] for line in journal)

    def finish(self, sealed: Path) -> None:
        """Give a complete file, OUT.partial or one made of it, the name."""
        self._check_that_it_is_there()
        with named(sealed), sealed.open("rb+") as file:  # Windows syncs only what may be written
            os.fsync(file.fileno())
            sha256 = _sha256(file)
        self._write({"complete": sealed.name, "sha256": sha256})
        self._rename(sealed)

    def _rename(self, sealed: Path) -> None:
        if hasattr(self, "file"):
            self.file.close()  # Windows neither renames nor removes what is open
        if sealed.exists():  # else it was killed right after this
            sealed.replace(self.path)
        sync_folder(self.path.parent)
        self.partial.unlink(missing_ok=True)
        holds_the_lock = fcntl is not None
        if not holds_the_lock:
            self.journal.close()
        self.journal_path.unlink()
        self.complete = True

    def _locked(self) -> BinaryIO:
        with named(self.journal_path, kept=self.journal_path.exists()):
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
        try:
            with named(self.partial, kept=False):
                self.file = _unbuffered(self.partial, "wb")
                sync_folder(self.path.parent)
            self._write({"about": self.about})
        except OSError:
            self._forget()
            raise

    def _continue(self) -> bool:
        """Go on behind the last block that is whole; False where there is nothing to go on from."""
        complete = None
        with self.journal_path.open("rb") as journal:
            first = journal.readline()
            if not first.endswith(b"\n"):
                return False
            self._compare(first)
            end = len(first)
            with open(self.partial if self.partial.exists() else os.devnull, "rb") as blocks:
                for raw in journal:
                    line = _unsealed(raw) or {}
                    if "complete" in line and self._is_complete(line):
                        complete = line["complete"]
                        break
                    if not ("note" in line and self._has_block(blocks, line)):
                        break
                    self.note = line["note"]
                    end += len(raw)
        if complete is not None:
            self._rename(self.path.with_name(complete))
            return True
        self.journal.truncate(end)
        self.file = _unbuffered(self.partial, "ab")
        self.file.truncate(self.size)
        return True

    def _compare(self, first: bytes) -> None:
        """ValueError where the journal's first line says that something else was being made."""
        before = (_unsealed(first) or {}).get("about")
        if before is None:
            raise ValueError(
                f"{self.journal_path} is damaged, or of another version of numroberta: start anew with --overwrite"
            )
        changed = [key for key in sorted({*before, *self.about}) if before.get(key) != self.about.get(key)]
        if changed:
            changes = "; ".join(f"{key} was {before.get(key)!r} and is {self.about.get(key)!r}" for key in changed)
            raise ValueError(f"{self.path} cannot be resumed: {changes}: give the same, or start anew with --overwrite")

    def _has_block(self, blocks: BinaryIO, line: dict[str, Any]) -> bool:
        """Whether the next block of OUT.partial is the one that this line lists; it then counts."""
        digest, size = self.digest.copy(), self.size
        while chunk := blocks.read(min(AT_ONCE, line["bytes"] - self.size)):
            self._hash(chunk)
        if self.size == line["bytes"] and self.digest.hexdigest() == line["sha256"]:
            return True
        self.digest, self.size = digest, size
        return False

    def _is_complete(self, line: dict[str, Any]) -> bool:
        """Whether the file that was about to be renamed, or had just been, is whole."""
        sealed = self.path.with_name(line["complete"])
        whole = sealed if sealed.exists() else self.path
        if not whole.exists():
            return False
        with whole.open("rb") as file:
            return _sha256(file) == line["sha256"]

    def _check_that_it_is_there(self) -> None:
        """FileNotFoundError where somebody has taken the files away, or replaced them, while they were written."""
        for path, file in ((self.partial, self.file), (self.journal_path, self.journal)):
            try:
                same = os.path.samestat(os.stat(path), os.fstat(file.fileno()))
            except FileNotFoundError:
                same = False
            if not same:
                raise FileNotFoundError(f"{path} was removed or replaced while this run wrote it: start anew")

    def _hash(self, data: bytes) -> None:
        """Count the bytes that follow those so far."""
        self.digest.update(memoryview(data)[max(0, self.head - self.size) :])
        self.size += len(data)

    def _write(self, line: dict[str, Any]) -> None:
        with named(self.journal_path, kept=self.note is not None):
            _write(self.journal, _sealed(line))


def _sealed(line: dict[str, Any]) -> bytes:
    """A line of the journal, with a checksum of itself as its last member."""
    body = json.dumps(line).encode()[:-1]
    return body + b', "crc32": %d}\n' % zlib.crc32(body)


def _unsealed(raw: bytes) -> dict[str, Any] | None:
    """The line, or None where it is not what `_sealed` wrote."""
    body, mark, checksum = raw.rpartition(b', "crc32": ')
    if not mark or checksum != b"%d}\n" % zlib.crc32(body):
        return None
    line: dict[str, Any] = json.loads(body + b"}")
    return line


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(AT_ONCE):
        digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def named(path: Path, *, kept: bool = True) -> Iterator[None]:
    """Say in an OSError which file could not be written, and what to do.  kept: there is something to go on from."""
    try:
        yield
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno else str(error)
        if kept:
            sentence = OSError(f"{path}: {cause}: mend that, then --resume goes on")
        else:
            sentence = OSError(f"cannot write {path.name} in {path.parent}: {cause}: mend that, then start again")
        sentence.errno = error.errno
        raise sentence from None


def _unbuffered(path: Path, mode: str) -> BinaryIO:
    """Without a buffer, whose rest `close` would try to write again when the disk is full."""
    return cast(BinaryIO, path.open(mode, buffering=0))


def _write(file: BinaryIO, data: bytes) -> None:
    """Write all of it, and wait until it is on the disk."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
    os.fsync(file.fileno())
