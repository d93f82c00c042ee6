"""What a run has to know to go on as if it had never stopped: weights, moments, how far it is, what it was asked."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from numroberta.checkpoint import load_safetensors, write_safetensors
from numroberta.training.trainer import Trainer

STATE, BEST = "state.safetensors", "best.safetensors"
FREE = ("learning_rate",)  # settings that a resumed run may change


@dataclass
class State:
    """How far a run is."""

    step: int = 0  # steps done
    best: int = 0  # the epoch with the best score, from 0
    stopped: bool = False  # before the last epoch, since the score became no better
    history: list[dict[str, float]] = field(default_factory=list)  # scores after each epoch


class Stored:
    """A folder with the state of a run and the weights of its best epoch.

    settings: what the run was asked for, with hashes of its data; a run that is resumed must be asked for the same.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], resume: bool = False):
        self.folder, self.settings, self.resume = folder, settings, resume
        if (folder / STATE).exists() and not resume:
            raise ValueError(f"{folder} has what an interrupted run learnt: go on with --resume, or remove it")

    def load(self, trainer: Trainer) -> State:
        """The state that was saved, its weights and moments put into the trainer; without one, a new state.

        Raises:
            ValueError: The run was asked for something else then, or had other data.
        """
        path = self.folder / STATE
        if not self.resume or not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            return State()
        tensors, metadata = load_safetensors(path)
        before = json.loads(metadata["settings"])
        for name, value in self.settings.items():
            if name not in FREE and before.get(name) != value:
                raise ValueError(
                    f"{self.folder}: this run had {name}={before.get(name)!r}, and now {value!r}: "
                    "resume it as it began, or remove that folder"
                )
        for name, array in trainer.tensors.items():
            array[...] = tensors[name]
        optimizer = trainer.optimizer
        for name, moments in optimizer.moments.items():
            moments.first[...], moments.second[...] = tensors[f"{name} first"], tensors[f"{name} second"]
        if optimizer.seen is not None:
            optimizer.seen[...] = tensors["seen"]
        kept = json.loads(metadata["state"])
        optimizer.steps, optimizer.unread = kept.pop("optimizer_steps"), kept.pop("unread")
        return State(**kept)

    def save(self, trainer: Trainer, state: State) -> None:
        """Write the state; the file appears under its name when it is complete."""
        optimizer = trainer.optimizer
        tensors = dict(trainer.tensors)
        for name, moments in optimizer.moments.items():
            tensors[f"{name} first"], tensors[f"{name} second"] = moments
        if optimizer.seen is not None:
            tensors["seen"] = optimizer.seen
        kept = asdict(state) | {"optimizer_steps": optimizer.steps, "unread": optimizer.unread}
        metadata = {"settings": json.dumps(self.settings), "state": json.dumps(kept)}
        write_safetensors(self.folder / STATE, tensors, metadata)

    def save_best(self, trainer: Trainer) -> None:
        """Write the weights as they are now: no epoch so far had a better score."""
        write_safetensors(self.folder / BEST, trainer.optimizer.weights())

    def load_best(self, trainer: Trainer) -> None:
        """Put the weights of the best epoch into the trainer."""
        tensors, _ = load_safetensors(self.folder / BEST)
        for name, array in trainer.tensors.items():
            np.copyto(array, tensors[name])

    def remove(self) -> None:
        """When the run's result is written."""
        for name in (STATE, BEST):
            (self.folder / name).unlink(missing_ok=True)
        self.folder.rmdir()
