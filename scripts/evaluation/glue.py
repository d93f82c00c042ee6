"""GLUE's metrics from a fine-tuned checkpoint, or from a linear probe on frozen sentence vectors.

    python scripts/evaluation/glue.py --task sst2 --model FOLDER --data SST-2/dev.tsv
    python scripts/evaluation/glue.py --task sst2 --probe --data SST-2/train.tsv  # pip install 'numroberta[glue]'

Reads the files as https://gluebenchmark.com distributes them: tab-separated, unquoted, a header line in all but CoLA's.
A probe is fitted on nine tenths of the lines, drawn at random, and measured on the rest.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import numroberta
from numroberta.model import TextEncoder, progress
from numroberta.training.metrics import accuracy, f1, matthews, pearson, spearman

CHUNK = 512  # texts between two steps of the progress bar


class Task(NamedTuple):
    columns: tuple[str, ...]  # one text or two
    label: str  # the label's column
    names: tuple[str, ...]  # of the labels, in GLUE's order; none: the label is a number
    metrics: tuple[str, ...]
    published: float  # DistilRoBERTa's, on the test set, from its model card


TASKS = {
    "sst2": Task(("sentence",), "label", ("negative", "positive"), ("accuracy",), 92.5),
    "cola": Task(("sentence",), "label", ("unacceptable", "acceptable"), ("matthews",), 59.3),
    "mrpc": Task(("#1 String", "#2 String"), "Quality", ("not_equivalent", "equivalent"), ("accuracy", "f1"), 86.6),
    "stsb": Task(("sentence1", "sentence2"), "score", (), ("pearson", "spearman"), 88.3),
    "qqp": Task(("question1", "question2"), "is_duplicate", ("not_duplicate", "duplicate"), ("accuracy", "f1"), 89.4),
    "mnli": Task(
        ("sentence1", "sentence2"), "gold_label", ("entailment", "neutral", "contradiction"), ("accuracy",), 84.0
    ),
    "qnli": Task(("question", "sentence"), "label", ("entailment", "not_entailment"), ("accuracy",), 90.8),
    "rte": Task(("sentence1", "sentence2"), "label", ("entailment", "not_entailment"), ("accuracy",), 67.9),
}
COLA_HEADER = ["source", "label", "star", "sentence"]  # its file has none


class Rows(NamedTuple):
    texts: list[tuple[str, ...]]
    labels: np.ndarray  # (n,), label numbers in GLUE's order, or scores


def read_rows(path: Path, task: str) -> Rows:
    """Texts and labels of a GLUE file.  Raises ValueError with the number and the text of a line that is unfinished."""
    what = TASKS[task]
    lines = path.read_text("utf-8-sig").split("\n")  # not splitlines: some texts hold other line separators
    header = COLA_HEADER if task == "cola" else lines[0].rstrip("\r").split("\t")
    missing = [column for column in (*what.columns, what.label) if column not in header]
    if missing:
        raise ValueError(
            f"{path} has no column {missing[0]!r}, found {', '.join(header)}: is it {task}'s train.tsv or dev.tsv?"
        )
    places = [header.index(column) for column in what.columns]
    texts, labels = [], []
    for number, line in enumerate(lines, start=1):
        line = line.rstrip("\r")
        if not line or (number == 1 and task != "cola"):
            continue
        cells = line.split("\t")
        if len(cells) != len(header):
            raise ValueError(
                f"{path}, line {number} has {len(cells)} columns, expected {len(header)}: {line[:80]!r}; "
                "complete it or take it out"
            )
        texts.append(tuple(cells[place] for place in places))
        labels.append(label_value(cells[header.index(what.label)], what.names, f"{path}, line {number}"))
    if not texts:
        raise ValueError(f"{path} has no rows")
    return Rows(texts, np.array(labels))


def label_value(cell: str, names: Sequence[str], where: str) -> float:
    """A score, or the number of a label that is written as its name or its number."""
    try:
        value = float(names.index(cell) if cell in names else cell)
    except ValueError:
        value = np.nan
    if not np.isfinite(value) or (names and value not in range(len(names))):
        expected = f"one of {', '.join(names)}, or 0 to {len(names) - 1}" if names else "a number"
        raise ValueError(f"{where} has the label {cell!r}, expected {expected}")
    return value


# --- Metrics -----------------------------------------------------------------------------------------------------

METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}


# --- Predictions -------------------------------------------------------------------------------------------------


def predict(model: TextEncoder, task: str, texts: Sequence[tuple[str, ...]], show: bool) -> np.ndarray:
    """What the checkpoint's own head says: label numbers in GLUE's order, or scores."""
    what = TASKS[task]
    place = label_places(model, what.names)
    found: list[float] = []
    with progress(len(texts), show) as advance:
        for first in range(0, len(texts), CHUNK):
            chunk = [row[0] if len(row) == 1 else (row[0], row[1]) for row in texts[first : first + CHUNK]]
            answers = model.classify(chunk, top_k=1, function_to_apply=None if what.names else "none")
            found += [place[answer["label"]] if what.names else answer["score"] for (answer,) in answers]
            advance(len(chunk))
    return np.array(found)


def label_places(model: TextEncoder, names: Sequence[str]) -> dict[str, int]:
    """From the checkpoint's label names to GLUE's numbers: by name where they are the same, else in their order."""
    own = [model.config.id2label[i] for i in sorted(model.config.id2label)]
    if len(own) != max(len(names), 1):
        raise ValueError(f"{model.checkpoint.name} has labels {', '.join(own)}; expected {', '.join(names) or 'one'}")
    lower = [label.lower().replace(" ", "_") for label in own]
    order = [names.index(label) for label in lower] if set(lower) == set(names) else range(len(own))
    return dict(zip(own, order, strict=True))


def features(model: TextEncoder, texts: Sequence[tuple[str, ...]], show: bool) -> np.ndarray:
    """Sentence vectors u, (n, hidden); for pairs u, v, |u − v| and u v side by side, (n, 4 hidden)."""
    sides = [model.encode(list(side), show_progress_bar=show) for side in zip(*texts, strict=True)]
    if len(sides) == 1:
        return sides[0]
    u, v = sides
    return np.concatenate([u, v, np.abs(u - v), u * v], axis=1)


def probe(vectors: np.ndarray, labels: np.ndarray, regression: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(gold, found) on a random tenth, from a linear model fitted on the rest."""
    try:
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise ValueError("--probe needs scikit-learn: pip install 'numroberta[glue]'") from None
    order = np.random.default_rng(seed).permutation(len(labels))
    held, rest = order[: len(order) // 10], order[len(order) // 10 :]
    if not len(held):
        raise ValueError(f"{len(labels)} rows are too few to hold a tenth out: expected 10 or more")
    linear: Any = Ridge(alpha=100.0) if regression else LogisticRegression(C=0.1, max_iter=1000)
    fitted = make_pipeline(StandardScaler(), linear).fit(vectors[rest], labels[rest])
    return labels[held], fitted.predict(vectors[held])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--model", default="tiny", help="tiny (built in), a folder, or a name on the hub")
    parser.add_argument("--data", required=True, type=Path, metavar="FILE.tsv")
    parser.add_argument("--probe", action="store_true", help="fit a linear model on frozen vectors")
    parser.add_argument("--threads", type=int, help="cores to use (default: all)")
    options = parser.parse_args(arguments)
    try:
        run(options)
    except (ValueError, OSError) as error:
        print(f"glue.py: {error}", file=sys.stderr)
        return 2
    return 0


def run(options: argparse.Namespace) -> None:
    what = TASKS[options.task]
    rows = read_rows(options.data, options.task)
    model = numroberta.load(options.model, num_threads=options.threads)
    show = sys.stderr.isatty()
    if options.probe:
        vectors = features(model, rows.texts, show)
        gold, found = probe(vectors, rows.labels, regression=not what.names)
        how = f"linear probe on {vectors.shape[1]} dimensions, held-out tenth"
    else:
        gold, found = rows.labels, predict(model, options.task, rows.texts, show)
        how = "fine-tuned head"
    print(f"{options.task}  {options.model}  {how}  {len(gold):,} rows")
    for metric in what.metrics:
        print(f"  {metric:9s} {METRICS[metric](gold, found):.4f}")
    if what.names:
        commonest = np.bincount(gold.astype(int)).argmax()
        print(f"  (always {what.names[commonest]!r}: accuracy {accuracy(gold, np.full(len(gold), commonest)):.4f})")
    print(f"  (DistilRoBERTa fine-tuned, as published, test set: {what.published})")


if __name__ == "__main__":
    sys.exit(main())
