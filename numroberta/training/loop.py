"""Epochs over the examples: an order that depends on the seed alone, a score after each, and the best one kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from numroberta.training.optimizer import linear_schedule
from numroberta.training.state import State, Stored
from numroberta.training.tasks import Example
from numroberta.training.trainer import Trainer

SAVED = 300.0  # seconds after which what was learnt is written down


@dataclass(frozen=True)
class Plan:
    """How long and how fast to learn."""

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 5e-5
    warmup: float = 0.06  # the part of all steps in which the learning rate rises; then it falls to zero
    patience: int | None = None  # stop after so many epochs without a better score; None: never
    seed: int = 0


@dataclass
class Progress:
    """How far a run is, for whoever shows it."""

    step: int = 0  # steps done
    steps: int = 0  # in all
    epoch: int = 0  # epochs done
    texts: int = 0  # learnt from since the run began or was resumed
    seconds: float = 0.0
    loss: float = float("nan")  # the mean of the last steps
    scores: dict[str, float] = field(default_factory=dict)  # of the last epoch; empty between epochs


class Diverged(ValueError):
    """The loss is no number any more."""


def fit(
    trainer: Trainer,
    examples: Callable[[int], Sequence[Example]],
    count: int,
    held_out: Sequence[Example],
    plan: Plan,
    store: Stored,
    report: Callable[[Progress], None] = lambda progress: None,
) -> State:
    """Learn; afterwards the trainer has the weights of the best epoch.

    Args:
        trainer: The weights and the task.
        examples: Gives the examples of an epoch, from 0, `count` of them, in their file's order.
        held_out: What the weights are scored on after each epoch.
        plan: How long and how fast.
        store: Where the state is written now and then; a run begins where its state says.
        report: Is called after each step and each epoch.

    Raises:
        Diverged: The loss is infinite or no number.  The state of the last good step is in the store.
    """
    state = store.load(trainer)
    per_epoch = -(-count // plan.batch_size)
    steps = plan.epochs * per_epoch
    progress = Progress(state.step, steps, state.step // per_epoch)
    began = saved = time.monotonic()
    losses: list[float] = []
    try:
        while state.step < steps and not state.stopped:
            epoch, first = divmod(state.step, per_epoch)
            batches = list(_batches(examples(epoch), plan, epoch))
            for batch in batches[first:]:
                rate = plan.learning_rate * linear_schedule(state.step + 1, steps + 1, round(plan.warmup * steps))
                loss = trainer.step(batch, rate)
                if not np.isfinite(loss):
                    raise Diverged(
                        f"step {state.step + 1}: the loss is {loss} with a learning rate of {rate:.2g}; "
                        "the step was not taken: go on from there with resume and a smaller learning rate"
                    )
                state.step += 1
                losses.append(loss)
                progress.step, progress.texts = state.step, progress.texts + len(batch)
                progress.loss, progress.seconds = float(np.mean(losses[-50:])), time.monotonic() - began
                progress.scores = {}
                report(progress)
                if time.monotonic() - saved > SAVED:
                    store.save(trainer, state)
                    saved = time.monotonic()
            _end_epoch(trainer, held_out, plan, state, store)
            progress.epoch, progress.scores = epoch + 1, state.history[-1]
            report(progress)
            store.save(trainer, state)
            saved = time.monotonic()
    except (KeyboardInterrupt, Diverged):
        store.save(trainer, state)
        raise
    store.load_best(trainer)
    return state


def _batches(examples: Sequence[Example], plan: Plan, epoch: int) -> Iterator[list[Example]]:
    order = np.random.default_rng([plan.seed, epoch]).permutation(len(examples))
    for start in range(0, len(order), plan.batch_size):
        yield [examples[i] for i in order[start : start + plan.batch_size]]


def _end_epoch(trainer: Trainer, held_out: Sequence[Example], plan: Plan, state: State, store: Stored) -> None:
    scores = trainer.score(held_out)
    state.history.append(scores)
    values = [tuple(one.values()) for one in state.history]
    best = values.index(max(values))
    if best == len(values) - 1:
        store.save_best(trainer)
    state.best = best
    state.stopped = plan.patience is not None and len(values) - 1 - best >= plan.patience
