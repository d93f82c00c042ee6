"""`finetune`: a file of labelled texts in, the folder of a checkpoint out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from numroberta.arithmetic import schedule
from numroberta.checkpoint import CheckpointError, open_checkpoint, show
from numroberta.tokenizer import Tokenizer
from numroberta.training.data import Data, label_names, load_data, several, split, spread
from numroberta.training.examples import examples, masked
from numroberta.training.folder import write_folder
from numroberta.training.loop import Plan, Progress, fit
from numroberta.training.state import Stored
from numroberta.training.tasks import (
    REGRESSION,
    SEVERAL,
    SINGLE,
    Answer,
    Classify,
    Embed,
    Example,
    MaskedLM,
    Tag,
    Task,
)
from numroberta.training.trainer import Trainer

TASKS = ("classify", "tag", "answer", "mlm", "embed")
HELD_OUT = 0.1  # the part of the texts that the weights are scored on, where there is no other file for that


@dataclass(frozen=True)
class Result:
    """What a run has made."""

    folder: Path
    task: Task
    scores: dict[str, float]  # of the epoch whose weights are in the folder
    epoch: int  # that epoch, from 1
    epochs: int  # how many there were
    learnt_from: int  # texts
    held_out: int


def finetune(
    task: str,
    data: str | Path,
    out: str | Path,
    *,
    model: str | os.PathLike[str] = "tiny",
    revision: str | None = None,
    eval_data: str | Path | None = None,
    text: str = "text",
    pair: str | None = None,
    label: str | None = "label",
    problem_type: str = SINGLE,
    label_names: Sequence[str] | None = None,
    epochs: int = 3,
    batch_size: int = 32,
    learning_rate: float = 5e-5,
    warmup: float = 0.06,
    weight_decay: float = 0.01,
    max_norm: float = 1.0,
    dropout: float = 0.1,
    patience: int | None = None,
    max_length: int | None = None,
    frozen: int = 0,
    head_only: bool = False,
    checkpointing: bool = False,
    num_threads: int | None = None,
    dtype: str = "float32",
    seed: int = 0,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Result:
    """Fine-tune a checkpoint on a file and write the new one as a folder, which transformers loads, too.

    Args:
        task: "classify", "tag", "answer", "mlm" or "embed".
        data: What to learn from: .csv, .tsv, .jsonl, each also .gz, or .parquet; for "mlm" .txt, too.
        out: The new folder.  Beside it, in `OUT.training`, lies what an interrupted run has learnt.
        model, revision: Where to begin: "tiny", a folder, or a name on the hub, and its branch, tag or commit there.
        eval_data: What to score each epoch on; None holds a tenth of `data` out, of `classify` with its share of each
            label.
        text, pair, label: Columns.  classify: a text, or a pair, and its label.  tag: a text and a label for each
            word (a list, or a cell with blanks), or spans (start, end, label).  answer: `text` is the question, `pair`
            the context, and the label the answer: a text in the context, {"text": …, "answer_start": …} of SQuAD, or
            "" for none.  embed: a pair and its score (`label` None: the two belong together).
        problem_type: Of "classify": "single_label_classification", "multi_label_classification" (a list of labels, or
            a cell with semicolons) or "regression" (a number).
        label_names: Names for the labels, in the order of those in the file as they sort; they go to `id2label`.
        epochs, batch_size, learning_rate, warmup, patience, seed: See `Plan`.
        weight_decay, max_norm, dropout: See `Trainer`.
        max_length: The most tokens of a text; None for what the checkpoint reads.
        frozen: So many layers, and the embeddings, stay as they are.  head_only: all of the encoder does.
        checkpointing: Less memory, a third more time.
        num_threads: None for all cores.
        dtype: Of the weights in the folder: "float32" or "float16".
        resume: Go on with what an interrupted run learnt; the bits are those of a run that was not.
        report: Is called after each step and each epoch.

    Raises:
        ValueError: The texts or labels do not fit the task; or the loss became infinite, see `Diverged`.
        CheckpointError: The folder is there already, or cannot be written: what was learnt is kept.
    """
    out = Path(out)
    if task not in TASKS:
        raise ValueError(f"task {task!r}, expected one of {', '.join(map(repr, TASKS))}")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise CheckpointError(f"{out} is there already; remove it, or give another name")
    checkpoint = open_checkpoint(model, revision=revision)
    tokenizer = Tokenizer.load(checkpoint.model_folder)
    longest = min(max_length or tokenizer.max_length, tokenizer.max_length, checkpoint.config.max_length)
    learns_alone = task == "mlm"
    columns = (text, pair if not learns_alone else None, label if not learns_alone else None)
    given = load_data(data, *columns)
    held = None if eval_data is None else load_data(eval_data, *columns)
    what, given, held = understood(task, given, held, problem_type, label_names)
    if held is None:
        order = np.random.default_rng([seed, 2]).permutation(len(given.texts)).tolist()
        if isinstance(what, Classify) and what.problem_type == SINGLE and given.labels is not None:
            order = spread(order, given.labels)
        own, other = split(len(given.texts), HELD_OUT, order)
        if not own:
            raise ValueError(f"{data} has {len(given.texts)} texts: too few to learn from and to hold some out")
        given, held = chosen(given, own), chosen(given, other)
    learnt = examples(what, tokenizer, longest, given.texts, given.labels)
    scored = examples(what, tokenizer, longest, held.texts, held.labels)
    if isinstance(what, MaskedLM):
        scored = [masked(example, tokenizer, np.random.default_rng([seed, 3, i])) for i, example in enumerate(scored)]

    def of_epoch(epoch: int) -> Sequence[Example]:
        if not isinstance(what, MaskedLM):
            return learnt
        rng = np.random.default_rng([seed, 4, epoch])
        return [masked(example, tokenizer, rng) for example in learnt]

    layers = checkpoint.config.num_hidden_layers
    if not 0 <= frozen <= layers:
        raise ValueError(f"frozen={frozen}, expected 0 to {layers}, the layers of {model}")
    if head_only and what.head is None:
        raise ValueError("head_only: vectors have no head, and nothing would be learnt")
    trainer = Trainer(
        checkpoint,
        what,
        num_threads=num_threads,
        dropout=dropout,
        frozen=layers if head_only else frozen,
        checkpointing=checkpointing,
        weight_decay=weight_decay,
        max_norm=max_norm,
        seed=seed,
    )
    plan = Plan(epochs, batch_size, learning_rate, warmup, patience, seed)
    settings = {
        "task": task,
        "model": os.fspath(model),
        "revision": revision,
        "data": sha256(data),
        "eval_data": eval_data and sha256(eval_data),
        "columns": list(columns),
        "problem_type": problem_type,
        "label_names": label_names and list(label_names),
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "warmup": warmup,
        "weight_decay": weight_decay,
        "max_norm": max_norm,
        "dropout": dropout,
        "patience": patience,
        "max_length": longest,
        "frozen": layers if head_only else frozen,
        "threads": num_threads or schedule.available_cores(),
        "seed": seed,
    }
    store = Stored(training_folder(out), settings, resume)
    state = fit(trainer, of_epoch, len(learnt), scored, plan, store, report)
    scores = state.history[state.best]
    files = {"data": Path(data).name, "eval_data": eval_data and Path(eval_data).name}
    counts = {"texts": len(given.texts), "held out": len(held.texts), "epoch": state.best + 1}
    write_folder(out, trainer, tokenizer, longest, settings | files | counts, scores, dtype)
    store.remove()
    return Result(out, what, scores, state.best + 1, len(state.history), len(given.texts), len(held.texts))


def training_folder(out: Path) -> Path:
    """Where a run keeps what it has learnt until its folder is written."""
    return out.with_name(f"{out.name}.training")


def understood(
    task: str, given: Data, held: Data | None, problem_type: str, names: Sequence[str] | None
) -> tuple[Task, Data, Data | None]:
    """The task that these texts and labels are for, and the labels as it takes them."""
    if task == "mlm":
        return MaskedLM(), given, held
    if task == "embed":
        return Embed(scored=given.labels is not None), given, held
    if given.labels is None:
        raise ValueError(f"{task} learns from labels: name their column")
    everything = [*given.labels, *((held and held.labels) or [])]
    if task == "answer":
        return (
            Answer(),
            Data(given.texts, answer_spans(given)),
            held and Data(held.texts, answer_spans(held)),
        )
    if task == "tag":
        tags = [tags_of(labels) for labels in everything]
        found = label_names(sorted({tag if isinstance(tag, str) else tag[2] for row in tags for tag in row} | {"O"}))
        count = len(given.labels)
        return (
            Tag(with_insides(found)),
            Data(given.texts, tags[:count]),
            held and Data(held.texts, tags[count:]),
        )
    if problem_type == REGRESSION:
        return Classify((), REGRESSION), given, held
    own = [several(one) if problem_type == SEVERAL else [str(one)] for one in everything]
    found = label_names([name for row in own for name in row])
    if len(found) < 2:
        raise ValueError(
            f"all texts have the label {show(found[0] if found else None)}: there is nothing to tell apart"
        )
    if names is not None and len(names) != len(found):
        raise ValueError(f"{len(names)} names for {len(found)} labels: the file has {', '.join(map(repr, found))}")
    numbers = {name: number for number, name in enumerate(found)}
    as_numbers: list[Any] = [[numbers[name] for name in row] for row in own]
    if problem_type == SINGLE:
        as_numbers = [row[0] for row in as_numbers]
    count = len(given.labels)
    return (
        Classify(tuple(names or found), problem_type),
        Data(given.texts, as_numbers[:count]),
        held and Data(held.texts, as_numbers[count:]),
    )


def tags_of(labels: Any) -> list[Any]:
    """A label for each word, or spans: a cell with blanks, a list of labels, or a list of (start, end, label)."""
    if isinstance(labels, str):
        return labels.split()
    rows = [tuple(one.values()) if isinstance(one, dict) else one for one in labels]
    if not all(isinstance(row, str) or (len(row) == 3 and isinstance(row[2], str)) for row in rows):
        raise ValueError(f"labels {show(labels)}; expected a label for each word, or (start, end, label) of characters")
    return [row if isinstance(row, str) else tuple(row) for row in rows]


def with_insides(tags: Sequence[str]) -> tuple[str, ...]:
    """With each B- its I-, for the tokens that go on with a word."""
    return tuple(dict.fromkeys([*tags, *(f"I-{tag[2:]}" for tag in tags if tag.startswith("B-"))]))


def answer_spans(data: Data) -> list[tuple[int, int] | None]:
    """Where each answer stands in its context."""
    spans: list[tuple[int, int] | None] = []
    for number, ((_, context), label) in enumerate(zip(data.texts, data.labels or [], strict=True), start=1):
        start, answer = None, label
        if isinstance(label, dict):
            answer, start = label.get("text"), label.get("answer_start")
            answer, start = (one[0] if isinstance(one, list) and one else one for one in (answer, start))
        if answer in (None, "", []):
            spans.append(None)
            continue
        if not isinstance(answer, str):
            raise ValueError(f"answer {number} is {show(label)}; expected a text of the context")
        if start is None:
            start = context.find(answer)
        if start < 0 or context[start : start + len(answer)] != answer:
            raise ValueError(f"answer {number}, {show(answer)}, does not stand in its context")
        spans.append((start, start + len(answer)))
    return spans


def chosen(data: Data, numbers: Sequence[int]) -> Data:
    """Some of the texts."""
    labels = None if data.labels is None else [data.labels[i] for i in numbers]
    return Data([data.texts[i] for i in numbers], labels)


def sha256(path: str | Path) -> str:
    """Of a file's bytes: a run is resumed with the data that it began with."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
