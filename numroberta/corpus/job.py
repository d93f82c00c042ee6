"""Files in, vectors out, nothing lost: `embed_files`, what `numroberta embed -f FILE… -o OUT` runs.

Rows are read, embedded and written a window at a time, so memory does not depend on their number.  The output grows
as OUT.partial (see `growing.py`); a run that was killed goes on with the same windows, and ends in the same file.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numroberta import __version__
from numroberta.checkpoint import HUB_FILES
from numroberta.corpus.growing import Growing, check
from numroberta.corpus.rows import BadRow, Given, Row, Rows, place_from
from numroberta.corpus.vector_files import DIGITS, Writer, suffix_of, writer_for
from numroberta.model import stream

if TYPE_CHECKING:
    from numroberta.model import Embedder, TextEncoder

Array = NDArray[Any]


@dataclass
class Summary:
    """What a run, with those it resumed, has done."""

    texts: int = 0
    tokens: int = 0  # as the tokenizer counts them, with <s> and </s>
    seconds: float = 0.0
    long: int = 0  # texts that were truncated or split
    left_out: int = 0  # tokens that no vector tells of
    skipped: int = 0  # bad rows, whose vector is zero
    resumed: int = 0  # texts that earlier runs had done
    skipped_list: Path | None = field(default=None)


def check_files(
    inputs: Sequence[str | Path | Given], output: Path, *, format: str | None, resume: bool, overwrite: bool
) -> None:
    """ValueError or OSError for what can be seen to fail before a model is loaded."""
    suffix_of(output)
    Rows(inputs, format=format)
    for source in inputs:
        if not isinstance(source, Given) and Path(source).resolve() == output.resolve():
            raise ValueError(f"{output} is the input and the output: choose another name for the output")
    check(output, resume=resume, overwrite=overwrite)


def embed_files(
    encoder: TextEncoder,
    inputs: Sequence[str | Path | Given],
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
    report: Callable[[Summary, Rows], object] = lambda summary, rows: None,
    log: Callable[[str], object] = lambda line: None,
) -> Summary:
    """One vector for each row of the inputs, in order, in a .npy, .jsonl, .jsonl.gz or .parquet file.

    inputs, field, format: see `rows.Rows`.  dtype: of the numbers in the file, "float32", "float16" or "float64".
    long: see `TextEncoder.encode_stream`.  errors: "stop" raises BadRow at a bad row, "skip" gives it a zero vector,
        passes a sentence to `log`, and lists it in OUTPUT.skipped.jsonl.
    resume: go on with what an earlier run left; with `deterministic` the file has the same bytes as if nothing had
        happened.  overwrite: replace an output, and what an earlier run left.
    report: called at the start and after each window.
    Raises ValueError and OSError; whatever was raised, KeyboardInterrupt too, the next call can resume.
    """
    output = Path(output)
    check_files(inputs, output, format=format, resume=resume, overwrite=overwrite)
    if dtype not in DIGITS:
        raise ValueError(f"dtype={dtype!r}, expected one of {', '.join(map(repr, DIGITS))}")
    if errors not in ("stop", "skip"):
        raise ValueError(f"errors={errors!r}, expected 'stop' or 'skip'")
    embedder = encoder.embedder(
        batch_size=batch_size, normalize_embeddings=normalize_embeddings, pooling=pooling, long=long
    )
    about = {
        "numroberta": __version__,
        "model": fingerprint(encoder),
        "dtype": f"{encoder.model.dtype} in {dtype}",
        "deterministic": encoder.model.deterministic,
        "pooling": pooling or "the model's",
        "normalize": normalize_embeddings,
        "long": long,
        "field": field or "text",
        "format": format or "by name",
    }
    with Growing(output, about, resume=resume, overwrite=overwrite) as growing:
        if growing.complete:
            return Summary()
        rows = Rows(
            inputs,
            field=field,
            format=format,
            keep_fields=suffix_of(output) != ".npy",
            skip_bad=errors == "skip",
            start=place_from(growing.note) if growing.note else None,
        )
        writer = writer_for(output, embedder.dimension, dtype, rows.schema)
        summary = Summary()
        if growing.note:
            summary = Summary(**growing.note["summary"])
            summary.resumed = summary.texts
            writer.resume(growing.partial)
        report(summary, rows)
        _grow(growing, rows, embedder, writer, summary, errors, report, log)
        summary.skipped_list = _list_skipped(growing, summary)
        growing.finish(writer.seal(growing.partial, summary.texts))
    return summary


def _grow(
    growing: Growing,
    rows: Rows,
    embedder: Embedder,
    writer: Writer,
    summary: Summary,
    errors: str,
    report: Callable[[Summary, Rows], object],
    log: Callable[[str], object],
) -> None:
    """Append window after window."""
    began, before = time.monotonic(), summary.seconds
    for window in stream.windows(rows, lambda row: len(row.text or "")):
        good = [i for i, row in enumerate(window) if row.text is not None]
        read = embedder.read([window[i].text or "" for i in good])
        if embedder.long == "error":
            for i, tokens, beyond in zip(good, read.tokens, read.beyond, strict=True):
                if beyond:
                    window[i] = _refused(window[i], embedder.too_long(tokens), errors)
        vectors: Array = np.zeros((len(window), embedder.dimension), embedder.encoder.model.dtype)
        if good:
            vectors[good] = embedder.compute(read)
        bad = [(i, row) for i, row in enumerate(window) if row.cause]
        for i, row in bad:
            vectors[i] = 0
            log(f"{row.file}, line {row.line:,}: {row.cause}: skipped")
        skipped = [{"row": summary.texts + i, "file": r.file, "line": r.line, "cause": r.cause} for i, r in bad]
        summary.texts += len(window)
        summary.tokens += sum(read.tokens)
        summary.long += sum(map(bool, read.beyond)) if embedder.long != "error" else 0
        summary.left_out += sum(read.beyond) if embedder.long == "truncate" else 0
        summary.skipped += len(bad)
        summary.seconds = before + time.monotonic() - began
        growing.append(writer.block(window, vectors), _note(rows, summary, skipped))
        report(summary, rows)
    if not summary.texts and not growing.size:  # a .npy or .parquet without rows is a file all the same
        growing.append(writer.block([], np.zeros((0, embedder.dimension), np.float32)), _note(rows, summary, []))


def _note(rows: Rows, summary: Summary, skipped: list[dict[str, Any]]) -> dict[str, Any]:
    return {**asdict(rows.place), "summary": asdict(summary), "skipped": skipped}


def _refused(row: Row, cause: str, errors: str) -> Row:
    if errors == "stop":
        raise BadRow(f"{row.file}, line {row.line:,}: the text {cause}")
    return row._replace(text=None, cause=f"the text {cause}")


def _list_skipped(growing: Growing, summary: Summary) -> Path | None:
    """Write which rows were skipped beside the output, a JSON object a line; take away an older run's list."""
    path = growing.path.with_name(f"{growing.path.name}.skipped.jsonl")
    if not summary.skipped:
        path.unlink(missing_ok=True)
        return None
    new = path.with_name(f"{path.name}.partial")
    with new.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for note in growing.notes():
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in note.get("skipped", ()))
    new.replace(path)
    return path


def fingerprint(encoder: TextEncoder) -> str:
    """A hash of all that decides a text's vector: the weights, and the small files beside them."""
    checkpoint = encoder.checkpoint
    digest = hashlib.sha256(checkpoint.weights_hash.encode())
    found = {path for pattern in HUB_FILES for path in checkpoint.folder.glob(pattern)}
    for path in sorted(found.difference(checkpoint.files)):
        digest.update(f"\n{path.relative_to(checkpoint.folder)}\n".encode() + path.read_bytes())
    return f"{Path(checkpoint.name).name} {digest.hexdigest()[:16]}"
