"""Files in, vectors out, nothing lost: `embed_files`, which `numroberta embed -f FILE… -o OUT` runs.

Rows are read, embedded and written a block at a time, so memory does not depend on their number.  The output grows as
OUT.partial (see `resumable_file.py`); a run that was killed goes on with the same blocks, and ends in the same file.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count, groupby
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numroberta import __version__
from numroberta.checkpoint import HUB_FILES
from numroberta.corpus.formats import Input
from numroberta.corpus.resumable_file import Growing, check, journal_of, named, partial_of, sealed_of
from numroberta.corpus.row import BadRow, Row
from numroberta.corpus.rows import Bookmark, Rows
from numroberta.corpus.text_list import TextList
from numroberta.corpus.vector_files import DIGITS, JsonLinesWriter, writer_of
from numroberta.model import blocks

if TYPE_CHECKING:
    from numroberta.model import Embedder, TextEncoder

Array = NDArray[Any]

MOST_NAMED = 5  # places of empty texts


@dataclass(frozen=True)
class Job:
    """What is to be made of what; `embed_files` describes the fields.

    A job is checked when it is made: ValueError or OSError say what can be seen to fail before a model is loaded.
    """

    inputs: Sequence[Input]
    output: Path
    field: str | None = None
    format: str | None = None
    dtype: str = "float32"
    pooling: str | None = None
    normalize_embeddings: bool = False
    batch_size: int = 32
    long: str = "truncate"
    errors: str = "stop"
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DIGITS:
            raise ValueError(f"dtype={self.dtype!r}, expected one of {', '.join(map(repr, DIGITS))}")
        if self.errors not in ("stop", "skip"):
            raise ValueError(f"errors={self.errors!r}, expected 'stop' or 'skip'")
        writer_of(self.output)
        self.rows()
        self._refuse_own_files()
        check(self.target, resume=self.resume, overwrite=self.overwrite)

    @property
    def target(self) -> Path:
        """The file that is made: the output, or where it points to if it is a symbolic link."""
        return Path(os.path.realpath(self.output)) if self.output.is_symlink() else self.output

    @property
    def begun(self) -> bool:
        """Whether a run has left something to go on from."""
        return journal_of(self.target).exists()

    @property
    def skipped_list(self) -> Path:
        """The file that lists which rows were skipped."""
        return self.target.with_name(f"{self.target.name}.skipped.jsonl")

    def _refuse_own_files(self) -> None:
        """ValueError where an input is the output, or a file beside it that this job would write or remove."""
        own = [partial_of(self.target), journal_of(self.target), sealed_of(self.target)]
        own += [self.skipped_list, partial_of(self.skipped_list)]
        for source in self.inputs:
            for path in [self.target, *own]:
                if not isinstance(source, TextList) and _same_file(source, path):
                    role = "the output" if path is self.target else "a file that this job writes beside the output"
                    raise ValueError(f"{source} is the input and {role}: choose another name for the output")

    def rows(self) -> Rows:
        """The inputs' rows."""
        return Rows(
            self.inputs,
            field=self.field,
            format=self.format,
            keep_fields=writer_of(self.output).keeps_fields,
            skip_bad=self.errors == "skip",
        )

    def about(self, encoder: TextEncoder) -> dict[str, Any]:
        """All that decides the vectors: a run may go on with what another one left only if this is the same."""
        return {
            "numroberta": __version__,
            "model": fingerprint(encoder),
            "dtype": f"{encoder.model.dtype} in {self.dtype}",
            "deterministic": encoder.model.deterministic,
            "reproducible": encoder.model.reproducible,
            "pooling": self.pooling or "the model's",
            "normalize": self.normalize_embeddings,
            "long": self.long,
            "field": self.field or "text",
            "format": self.format or "by name",
        }


@dataclass(frozen=True)
class Summary:
    """What a run, with those it resumed, has done."""

    texts: int = 0
    tokens: int = 0  # as the tokenizer counts them, with <s> and </s>
    seconds: float = 0.0
    long: int = 0  # texts that were truncated or split
    left_out: int = 0  # tokens that were truncated: no vector knows of them
    skipped: int = 0  # bad rows, whose vector is zero
    resumed: int = 0  # texts that earlier runs had done
    skipped_list: Path | None = None  # the file that lists the skipped rows
    empty: int = 0  # texts of no characters
    first_empty: Sequence[tuple[str, int]] = ()  # file and line of the first of them


class Progress(NamedTuple):
    """How far a run is: what is done and safe, earlier runs' share included."""

    texts: int
    tokens: int
    bytes_read: int  # of the inputs, as they lie on the disk
    bytes: int | None  # of all inputs, None where one does not say
    block: int = 0  # texts that are being computed, 0 between two blocks


Report = Callable[[Progress], object]
Log = Callable[[str], object]


def embed_files(
    encoder: TextEncoder,
    inputs: Sequence[Input],
    output: str | Path,
    *,
    field: str | None = None,
    format: str | None = None,
    dtype: str = "float32",
    pooling: str | None = None,
    normalize_embeddings: bool = False,
    batch_size: int = 32,
    long: str = "truncate",
    errors: str = "stop",
    resume: bool = False,
    overwrite: bool = False,
    report: Report = lambda progress: None,
    log: Log = lambda line: None,
) -> Summary:
    """Write one vector for each row of the inputs, in order, to a .npy, .jsonl, .jsonl.gz or .parquet file.

    Args:
        encoder: The model, as `numroberta.load` gives it.
        inputs, field, format: What is read, as in `Rows`.
        output: The file that is made; its name says the format.
        dtype: Of the numbers in the file: "float32", "float16" or "float64".
        pooling, normalize_embeddings, batch_size, long: As in `TextEncoder.encode_stream`.
        errors: "stop" raises BadRow at a bad row; "skip" gives it a zero vector, passes a sentence to `log`, and lists
            it in OUTPUT.skipped.jsonl.
        resume: Go on with what an earlier run left.  Where the encoder is deterministic, the file has the same bytes
            as if nothing had happened.  A complete file is left as it is.
        overwrite: Replace an output that is there, and drop what an earlier run left.
        report: Called at the start and after each block.
        log: Called with a sentence for each row that is skipped.

    Returns:
        What was done, earlier runs' share included.

    Raises:
        ValueError, OSError: With what to do.  Whatever is raised, KeyboardInterrupt too, the next call can resume.
    """
    job = Job(
        inputs,
        Path(output),
        field=field,
        format=format,
        dtype=dtype,
        pooling=pooling,
        normalize_embeddings=normalize_embeddings,
        batch_size=batch_size,
        long=long,
        errors=errors,
        resume=resume,
        overwrite=overwrite,
    )
    return run_job(job, encoder, report=report, log=log)


def run_job(
    job: Job,
    encoder: TextEncoder,
    *,
    report: Report = lambda progress: None,
    log: Log = lambda line: None,
    within: Report = lambda progress: None,
) -> Summary:
    """What `embed_files` does, for a job that has been checked.

    within: called at the start of a block, and now and then inside it, with what has been computed but is not safe yet.
    """
    embedder = encoder.embedder(
        batch_size=job.batch_size,
        normalize_embeddings=job.normalize_embeddings,
        pooling=job.pooling,
        long=job.long,
    )
    new_writer = writer_of(job.output)
    with (
        Growing(
            job.target, job.about(encoder), resume=job.resume, overwrite=job.overwrite, head=new_writer.head
        ) as growing,
        job.rows() as rows,
    ):
        if growing.complete:
            return Summary()
        writer = new_writer(embedder.dimension, job.dtype, rows.schema)
        summary = Summary()
        if growing.note:
            rows.go_to(Bookmark(**growing.note["bookmark"]))
            writer.resume(growing.partial)
            summary = Summary(**growing.note["summary"])
            summary = replace(summary, resumed=summary.texts)
        progress = _progress(summary, rows)
        report(progress)
        began, before = time.monotonic(), summary.seconds
        for block in blocks.blocks(rows, lambda row: len(row.text or "")):
            done = embedded(embedder, block, job.errors == "skip", _inside(progress, rows, len(block), within))
            for row in done.bad:
                log(f"{row.place}: {row.cause}: skipped")
            skipped = done.listed(first=summary.texts)
            summary = _with_block(summary, done, embedder.long, before + time.monotonic() - began)
            growing.append(writer.block(done.rows, done.vectors), _note(rows, summary, skipped))
            progress = _progress(summary, rows)
            report(progress)
        if not growing.size:  # a .npy or .parquet without rows is a file all the same
            growing.append(writer.block([], np.zeros((0, embedder.dimension), np.float32)), _note(rows, summary, []))
        summary = replace(summary, skipped_list=_list_skipped(job, growing, summary))
        with named(growing.partial):
            sealed = writer.seal(growing.partial, sealed_of(job.target), summary.texts)
        growing.finish(sealed)
    return summary


def json_lines(rows: Rows, embedder: Embedder, dtype: str = "float32", log: Log = lambda line: None) -> Iterator[bytes]:
    """The lines that a .jsonl output has, of a block of rows after the other, for who writes no file.

    log: as in `embed_files`, for the bad rows that `rows` yields, and at the end with `remarks`.
    """
    summary = Summary()
    writer = JsonLinesWriter(embedder.dimension, dtype)
    for block in blocks.blocks(rows, lambda row: len(row.text or "")):
        done = embedded(embedder, block, rows.skip_bad)
        for row in done.bad:
            log(f"{row.place}: {row.cause}: skipped")
        summary = _with_block(summary, done, embedder.long, 0.0)
        yield writer.block(done.rows, done.vectors)
    embedder.warn_of_cuts()
    for remark in remarks(summary):
        log(remark)


class Embedded(NamedTuple):
    """A block of rows with their vectors: zero for a bad row."""

    rows: list[Row]
    vectors: Array  # (rows, dimension)
    tokens: int  # of all rows, uncut
    beyond: list[int]  # of each good row, tokens that did not fit

    @property
    def bad(self) -> list[Row]:
        return [row for row in self.rows if row.cause]

    @property
    def empty(self) -> list[Row]:
        return [row for row in self.rows if row.text == ""]

    def listed(self, first: int) -> list[dict[str, Any]]:
        """What is kept of the bad rows; `first` is the number of this block's first row."""
        return [
            {"row": number, "file": row.file, "line": row.line, "cause": row.cause}
            for number, row in enumerate(self.rows, start=first)
            if row.cause
        ]


Inside = Callable[[int, int], object]


def embedded(
    embedder: Embedder, rows: list[Row], skip_bad: bool, inside: Inside = lambda windows, of: None
) -> Embedded:
    """A block of rows with their vectors.

    inside: called on this thread, now and then, with how many windows of how many have been computed.
    Raises BadRow for a text that is too long, where long="error" refuses it and bad rows are not skipped.
    """
    good = [i for i, row in enumerate(rows) if row.text is not None]
    inside(0, 1)
    block = embedder.tokenize([rows[i].text or "" for i in good])
    if embedder.long == "error":
        for i, tokens, beyond in zip(good, block.tokens, block.beyond, strict=True):
            if beyond:
                rows[i] = rows[i].refused(f"the text {embedder.too_long(tokens)}")
                if not skip_bad:
                    raise BadRow(f"{rows[i].place}: {rows[i].cause}")
    vectors: Array = np.zeros((len(rows), embedder.dimension), embedder.encoder.model.dtype)
    if good:
        computed, caller = count(1), get_ident()

        def done() -> None:
            windows = next(computed)
            if get_ident() == caller:  # a lock that Ctrl-C left held would stop the other threads for ever
                inside(windows, len(block.windows))

        vectors[good] = embedder.compute(block, done)
    vectors[[i for i, row in enumerate(rows) if row.cause]] = 0
    embedder.count(block)
    return Embedded(rows, vectors, sum(block.tokens), block.beyond)


def _with_block(summary: Summary, block: Embedded, long: str, seconds: float) -> Summary:
    return replace(
        summary,
        texts=summary.texts + len(block.rows),
        tokens=summary.tokens + block.tokens,
        seconds=seconds,
        long=summary.long + (sum(map(bool, block.beyond)) if long != "error" else 0),
        left_out=summary.left_out + (sum(block.beyond) if long == "truncate" else 0),
        skipped=summary.skipped + len(block.bad),
        empty=summary.empty + len(block.empty),
        first_empty=[*summary.first_empty, *((row.file, row.line) for row in block.empty)][:MOST_NAMED],
    )


def remarks(summary: Summary) -> Iterator[str]:
    """What may be amiss with the rows that a run has read: a sentence each."""
    if summary.empty:
        files = [
            f"{file}, {'lines' if len(lines) > 1 else 'line'} {', '.join(lines)}"
            for file, group in groupby(summary.first_empty, lambda place: place[0])
            if (lines := [f"{line:,}" for _, line in group])
        ]
        more = ", …" if summary.empty > len(summary.first_empty) else ""
        are = "is" if summary.empty == 1 else "are"
        yield f"{summary.empty:,} of {summary.texts:,} texts {are} empty: {'; '.join(files)}{more}"
    if summary.skipped and summary.skipped == summary.texts:
        yield f"no row was left: {summary.skipped:,} of {summary.texts:,} skipped; is the file of another kind?"


def _note(rows: Rows, summary: Summary, skipped: list[dict[str, Any]]) -> dict[str, Any]:
    """What the journal keeps with a block: what the next run needs to go on behind it."""
    return {"bookmark": asdict(rows.bookmark), "summary": asdict(summary), "skipped": skipped}


def _inside(before: Progress, rows: Rows, texts: int, within: Report) -> Inside:
    """Calls `within` with the progress inside a block of so many texts."""
    read = rows.bytes_read - before.bytes_read

    def inside(windows: int, of: int) -> None:
        part = windows / of
        within(
            before._replace(
                texts=before.texts + int(texts * part), bytes_read=before.bytes_read + int(read * part), block=texts
            )
        )

    return inside


def _progress(summary: Summary, rows: Rows) -> Progress:
    return Progress(summary.texts, summary.tokens, rows.bytes_read, rows.size)


def _list_skipped(job: Job, growing: Growing, summary: Summary) -> Path | None:
    """Write which rows were skipped beside the output, a JSON object a line; take away an older run's list."""
    path, new = job.skipped_list, partial_of(job.skipped_list)
    if not summary.skipped:
        path.unlink(missing_ok=True)
        return None
    with named(new), new.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for note in growing.notes():
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in note["skipped"])
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    return path


def _same_file(source: str | Path, path: Path) -> bool:
    """Whether an input is this file, whatever it is called; a file that is not there is none."""
    try:
        status = os.fstat(sys.stdin.fileno()) if str(source) == "-" and sys.stdin else os.stat(source)
        return os.path.samestat(status, os.stat(path))
    except (OSError, ValueError):
        return False


def fingerprint(encoder: TextEncoder) -> str:
    """A hash of all that decides a text's vector: the weights, and the small files beside them."""
    checkpoint = encoder.checkpoint
    digest = hashlib.sha256(checkpoint.weights_hash.encode())
    files = {path for pattern in HUB_FILES for path in checkpoint.folder.glob(pattern)}
    for path in sorted(files.difference(checkpoint.files)):
        digest.update(f"\n{path.relative_to(checkpoint.folder)}\n".encode() + path.read_bytes())
    return f"{Path(checkpoint.name).name} {digest.hexdigest()[:16]}"
