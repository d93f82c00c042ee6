"""`numroberta finetune`: a file of labelled texts in, a checkpoint of one's own out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numroberta.cli.arguments import Parsers, add_model_name
from numroberta.cli.endings import add_note, sigterm_interrupts

if TYPE_CHECKING:
    from numroberta.training import Progress, Result

PROBLEMS = {"single": "single_label_classification", "several": "multi_label_classification", "number": "regression"}
WHAT = {
    "classify": "a label of each text or pair",
    "tag": "a label of each word",
    "answer": "where a text answers a question",
    "mlm": "the language of texts, from masked tokens",
    "embed": "vectors that are alike where texts are",
}


def add_finetune(parsers: Parsers) -> None:
    parser = parsers.add_parser("finetune", help="teach a model a task: a file of texts and labels in, a folder out")
    tasks = parser.add_subparsers(metavar="TASK", required=True)
    for task, what in WHAT.items():
        add_task(tasks.add_parser(task, help=what), task)


def add_task(parser: argparse.ArgumentParser, task: str) -> None:
    """The options of a task: the columns that it reads, and what all tasks have."""
    add_model_name(parser)
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help=".csv, .tsv, .jsonl, .parquet")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the new folder")
    parser.add_argument("--eval", type=Path, metavar="FILE", help="to score on (default: a tenth of FILE, held out)")
    text = {"answer": "question", "embed": "first text"}.get(task, "text")
    default = {"answer": "question", "embed": "text"}.get(task, "text")
    parser.add_argument("--text", default=default, metavar="COLUMN", help=f"of the {text} (default: {default})")
    if task in ("classify", "answer", "embed"):
        pair = {"answer": "context", "embed": "text2"}.get(task)
        usual = f" (default: {pair})" if pair else ""
        parser.add_argument("--pair", default=pair, metavar="COLUMN", help=f"of the second text{usual}")
    if task != "mlm":
        label = {"answer": "answer", "embed": None}.get(task, "label")
        usual = f" (default: {label})" if label else ": pairs without one belong together"
        parser.add_argument("--label", default=label, metavar="COLUMN", help=f"what to learn{usual}")
    if task == "classify":
        parser.add_argument("--names", nargs="+", metavar="NAME", help="of the labels, as they sort")
        parser.add_argument(
            "--labels-are",
            default="single",
            choices=PROBLEMS,
            help="one of several, any of them (a;b;c), or a number (default: single)",
        )
    add_plan(parser)
    parser.set_defaults(run=run_finetune, task=task)


def add_plan(parser: argparse.ArgumentParser) -> None:
    """How to learn."""
    group = parser.add_argument_group("how to learn")
    for name, kind, default, metavar, what in (
        ("epochs", int, 3, "N", "times through the texts"),
        ("batch-size", int, 32, "N", "texts of a step"),
        ("learning-rate", float, 5e-5, "RATE", "the largest; it rises, and falls to zero"),
        ("dropout", float, 0.1, "P", "how often a number is dropped"),
        ("weight-decay", float, 0.01, "RATE", "of AdamW"),
        ("seed", int, 0, "N", "of a new head, the order of the texts, dropout"),
    ):
        group.add_argument(
            f"--{name}", type=kind, default=default, metavar=metavar, help=f"{what} (default: {default})"
        )
    group.add_argument("--patience", type=int, metavar="N", help="stop after so many epochs without a better score")
    group.add_argument("--max-length", type=int, metavar="N", help="tokens of a text that are read (default: all)")
    group.add_argument("--freeze", type=int, default=0, metavar="N", help="layers that stay as they are, from below")
    group.add_argument("--head-only", action="store_true", help="all layers stay as they are")
    group.add_argument("--checkpointing", action="store_true", help="less memory, a third more time")
    group.add_argument("--dtype", default="float32", choices=["float32", "float16"], help="of the folder's weights")
    group.add_argument("--threads", type=int, metavar="N", help="cores to use (default: all)")
    group.add_argument("--resume", action="store_true", help="go on with what an interrupted run learnt")


def run_finetune(options: argparse.Namespace) -> None:
    from numroberta.checkpoint import CheckpointError
    from numroberta.training import Diverged, remark, training_folder

    try:
        with sigterm_interrupts(), Bar() as bar:
            result = learn(options, bar)
    except (OSError, CheckpointError, KeyboardInterrupt, Diverged) as error:
        if (kept := training_folder(options.out)).exists():
            add_note(error, f"what was learnt is in {kept}: the same command with --resume goes on")
        raise
    scores = ", ".join(f"{name} {value:.4f}" for name, value in result.scores.items())
    print(f"learnt from {result.learnt_from:,} texts; {result.held_out:,} held-out texts: {scores}")
    print(f"epoch {result.epoch} of {result.epochs}, written to {result.folder}")
    if told := remark(result.scores):
        print(told)


def learn(options: argparse.Namespace, bar: Bar) -> Result:
    """The call that the options describe."""
    from numroberta.training import finetune

    return finetune(
        options.task,
        options.data,
        options.out,
        model=options.model,
        revision=options.revision,
        eval_data=options.eval,
        text=options.text,
        pair=getattr(options, "pair", None),
        label=getattr(options, "label", None),
        problem_type=PROBLEMS[getattr(options, "labels_are", "single")],
        label_names=getattr(options, "names", None),
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        dropout=options.dropout,
        patience=options.patience,
        max_length=options.max_length,
        frozen=options.freeze,
        head_only=options.head_only,
        checkpointing=options.checkpointing,
        num_threads=options.threads,
        dtype=options.dtype,
        seed=options.seed,
        resume=options.resume,
        report=bar,
    )


class Bar:
    """Loss and texts/s on standard error: a bar on a terminal, a line per epoch everywhere."""

    def __init__(self) -> None:
        self.bar: Any = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, progress: Progress) -> None:
        rate = progress.texts / max(progress.seconds, 1e-9)
        if progress.scores:
            scores = ", ".join(f"{name} {value:.4f}" for name, value in progress.scores.items())
            line = f"epoch {progress.epoch}: loss {progress.loss:.4f}, {scores}, {rate:,.0f} texts/s"
            if self.bar is not None:
                self.bar.write(line, file=sys.stderr)
            else:
                print(line, file=sys.stderr, flush=True)
            return
        if self.bar is None and sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self.bar = tqdm(
                total=progress.steps, initial=progress.step - 1, unit=" steps", file=sys.stderr, leave=False
            )
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {progress.loss:.4f}, {rate:,.0f} texts/s", refresh=False)
            self.bar.update(progress.step - self.bar.n)
