"""The folder that a run makes: what transformers and sentence-transformers load, and a card that says how it came."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numroberta.checkpoint import new_folder, write_checkpoint, write_file, write_json
from numroberta.tokenizer import Tokenizer
from numroberta.training.tasks import Answer, Classify, Distill, Embed, Joint, MaskedLM, Tag, Task
from numroberta.training.trainer import Trainer

# What the hub calls the tasks, and the commands that ask the folder: for a text, and for the lines of a file.
PIPELINES = {Classify: "text-classification", Tag: "token-classification", Answer: "question-answering"}
PIPELINES |= {MaskedLM: "fill-mask", Embed: "sentence-similarity", Distill: "sentence-similarity"}
COMMANDS = {
    Classify: ('numroberta classify "A text." --model {0}', "numroberta classify - --model {0} < texts.txt"),
    Tag: ('numroberta tag "A text." --model {0}', "numroberta tag - --model {0} < texts.txt"),
    Answer: (
        'numroberta answer "A question?" --context "A text." --model {0}',
        'numroberta answer "A question?" --context - --model {0} < text.txt',
    ),
    MaskedLM: ('numroberta fill-mask "A <mask>." --model {0}', "numroberta fill-mask - --model {0} < texts.txt"),
    Embed: (
        'numroberta embed "A text." "Another one." --model {0}',
        "numroberta embed -f texts.txt -o vectors.npy --model {0}",
    ),
}
COMMANDS[Distill] = COMMANDS[Embed]


def write_folder(
    folder: Path,
    trainer: Trainer,
    tokenizer: Tokenizer,
    max_length: int,
    settings: Mapping[str, Any],
    scores: Mapping[str, float],
    dtype: str,
) -> None:
    """Write the trainer's weights with their tokenizer as a new folder; nothing is left where that fails.

    Args:
        folder: Where to.
        trainer: The weights, the config and the task.
        tokenizer: That of the checkpoint.
        max_length: The most tokens of a text.
        settings: What the run was asked for, for the card.
        scores: On held-out texts, for the card.
        dtype: "float32" or "float16".

    Raises:
        CheckpointError: The folder is there already, or cannot be written.
    """
    with new_folder(folder) as partial:
        write_checkpoint(partial, trainer.tensors, trainer.config, dtype)
        tokenizer.save(partial)
        if isinstance(trainer.task, Joint):
            _write_sentence_files(partial, trainer.task, trainer.config.hidden_size, max_length)
        write_file(
            partial / "README.md", lambda file: file.write(card(folder, trainer.task, settings, scores).encode())
        )


def _write_sentence_files(folder: Path, task: Joint, hidden: int, max_length: int) -> None:
    """What sentence-transformers reads: the encoder, then a pooling."""
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    write_json(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules)
        ],
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    (folder / "1_Pooling").mkdir()
    modes = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max"}
    flags = {f"pooling_mode_{key}": mode == task.pooling for key, mode in modes.items()}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": hidden, **flags})


def remark(scores: Mapping[str, float]) -> str:
    """What scores on held-out texts do not say by themselves, or nothing."""
    if scores.get("matthews", 1.0) > 0:
        return ""
    return (
        "Its answers say nothing of the labels (matthews is 0 where all texts get the same one): more texts or epochs "
        "may help, or a linear model on the vectors of `encode`."
    )


def card(folder: Path, task: Task, settings: Mapping[str, Any], scores: Mapping[str, float]) -> str:
    """The model card: what was learnt from what, how, and how good it is."""
    kind = type(task)
    labels = f"\nLabels: {', '.join(task.labels)}.\n" if isinstance(task, Classify | Tag) and task.labels else ""
    measured = "\n".join(f"| {name} | {value:.4f} |" for name, value in scores.items())
    told = f"\n{said}\n" if (said := remark(scores)) else ""
    commands = "\n".join(f"    {command.format(shlex.quote(folder.name))}" for command in COMMANDS[kind])
    asked = "\n".join(f"| {name} | {value} |" for name, value in settings.items() if value is not None)
    return f"""---
library_name: numroberta
pipeline_tag: {PIPELINES[kind]}
base_model: {settings["model"]}
---

# {folder.name}

{settings["model"]}, fine-tuned by `numroberta finetune {settings["task"]}`.
{labels}
## How good

| on texts that were held out | |
|---|---|
{measured}
{told}
## How it was made

| setting | |
|---|---|
{asked}

## How to use it

{commands}
"""
