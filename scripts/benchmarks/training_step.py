"""A training step of DistilRoBERTa in full size: numroberta against transformers with `torch.optim.AdamW`.

    python scripts/benchmarks/training_step.py             # the rows of `numroberta guide fast`: a few minutes
    python scripts/benchmarks/training_step.py --shape 32x64 --dropout 0.1 --turns 3

A step is a batch's forward pass, loss (two labels, from `RobertaClassificationHead`), backward pass and AdamW, of every
tensor.  The contestants take turns, each in a process of its own, on the same number of threads; a figure is the median
of its turns, memory the peak of the process.  `products` multiplies the matrices of numroberta's step and does nothing
else: what NumPy's BLAS allows.  Needs the extra `parity`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

CONTESTANTS = ("numroberta", "PyTorch", "products")
PACKAGES = ("torch", "transformers")
RATE = 2e-5


def batch(texts: int, tokens: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """(ids, labels) of a step."""
    rng = np.random.default_rng(number)
    return rng.integers(5, 50_000, (texts, tokens)), rng.integers(0, 2, texts)


def numroberta(folder: Path, threads: int, dropout: float, checkpointing: bool) -> Callable[..., float]:
    from numroberta import training
    from numroberta.checkpoint import open_checkpoint

    model = training.Trainer(
        open_checkpoint(folder),
        training.Classify(("no", "yes")),
        num_threads=threads,
        dropout=dropout,
        checkpointing=checkpointing,
    )

    def step(ids: np.ndarray, labels: np.ndarray) -> float:
        examples = [training.Example(row, label) for row, label in zip(ids, labels, strict=True)]
        return model.step(examples, RATE)

    return step


def pytorch(folder: Path, threads: int, dropout: float, checkpointing: bool) -> Callable[..., float]:
    import torch
    from transformers import RobertaForSequenceClassification

    torch.set_num_threads(threads)
    model = RobertaForSequenceClassification.from_pretrained(
        folder,
        attn_implementation="sdpa",
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    ).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)

    def step(ids: np.ndarray, labels: np.ndarray) -> float:
        loss = model(torch.from_numpy(ids), labels=torch.from_numpy(labels)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.item())

    return step


def products(folder: Path, threads: int, dropout: float, checkpointing: bool) -> Callable[..., float]:
    from concurrent.futures import ThreadPoolExecutor

    from numroberta.arithmetic import blas
    from numroberta.arithmetic.encoder import Weights
    from numroberta.checkpoint import open_checkpoint
    from numroberta.training.step import COLUMNS

    checkpoint = open_checkpoint(folder)
    layers = Weights.from_tensors(checkpoint.tensors, checkpoint.config).layers
    heads, head_dim = checkpoint.config.num_attention_heads, checkpoint.config.head_dim

    def group(texts: int, tokens: int) -> None:
        results: dict[tuple[int, ...], np.ndarray] = {}

        def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # into memory that is there already
            shape = (*b.shape[:-2], a.shape[-2], b.shape[-1])
            return np.matmul(a, b, out=results.setdefault(shape, np.ones(shape, np.float32)))

        columns = {size: np.ones((size, texts * tokens), np.float32) for size in layers[0].wide.weight.shape}
        by_head = np.ones((texts, heads, head_dim, tokens), np.float32)
        probs = np.ones((texts, heads, tokens, tokens), np.float32)
        for number, layer in enumerate(layers):
            read = [layer.key, layer.value]
            if number < len(layers) - 1:  # of the last layer's output only <s> is read
                read += [layer.query, layer.context, layer.wide, layer.narrow]
            for linear in read:
                out, inner = linear.weight.shape
                x, dy = columns[inner], columns[out]
                product(linear.weight, x), product(linear.weight.T, dy), product(dy, x.T)
            if number < len(layers) - 1:
                for a, b in [(by_head.swapaxes(2, 3), by_head), (by_head, probs), (by_head, probs.swapaxes(2, 3))] * 2:
                    product(a, b)

    def step(ids: np.ndarray, labels: np.ndarray) -> float:
        texts, tokens = ids.shape
        each = max(1, min(COLUMNS // tokens, -(-texts // threads)))
        with blas.one_blas_thread(), ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda _: group(each, tokens), range(0, texts, each)))
        return 0.0

    return step


def serve(name: str, folder: Path, threads: int, dropout: float, checkpointing: bool) -> None:
    """In a process of its own: a line in, [texts, tokens, number], a line out, [seconds, loss, peak memory in MB]."""
    out, sys.stdout = sys.stdout, sys.stderr
    step = {"numroberta": numroberta, "PyTorch": pytorch, "products": products}[name](
        folder, threads, dropout, checkpointing
    )
    for line in sys.stdin:
        ids, labels = batch(*json.loads(line))
        start = time.perf_counter()
        loss = step(ids, labels)
        seconds = time.perf_counter() - start
        status = Path("/proc/self/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
        print(json.dumps([seconds, loss, peak]), file=out, flush=True)


def measure(
    folder: Path, shape: tuple[int, int], threads: int, dropout: float, turns: int, checkpointing: bool
) -> dict[str, dict[str, float]]:
    """Tokens/s and peak memory of each contestant, in turns."""
    processes = {}
    for name in CONTESTANTS:
        arguments = ["serve", name, str(folder), str(threads), str(dropout), str(int(checkpointing))]
        processes[name] = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    answers: dict[str, list[Any]] = {name: [] for name in CONTESTANTS}
    for turn in range(turns + 1):
        for name, process in processes.items():
            assert process.stdin
            assert process.stdout
            print(json.dumps([*shape, turn]), file=process.stdin, flush=True)
            answers[name].append(json.loads(process.stdout.readline()))
    for process in processes.values():
        process.communicate()
    columns = shape[0] * shape[1]
    return {
        name: {
            "tokens/s": columns / statistics.median(seconds for seconds, _, _ in rows[1:]),  # the first one warms up
            "MB": rows[-1][2],
        }
        for name, rows in answers.items()
    }


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        name, path, threads, dropout, checkpointing = sys.argv[2:]
        return serve(name, Path(path), int(threads), float(dropout), checkpointing == "1")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", default=["32x64", "32x128"], metavar="TEXTSxTOKENS")
    parser.add_argument("--dropout", nargs="+", type=float, default=[0.1, 0.0], metavar="P")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--checkpointing", action="store_true", help="activations computed again, on both sides")
    parser.add_argument("--work", type=Path, help="keep the 330 MB of weights here, to use them again")
    options = parser.parse_args()
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise SystemExit(f"this needs {' and '.join(missing)}: run `pip install '.[parity]'`")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        if not (folder / "model.safetensors").is_file():
            seeded = Path(__file__).parent.parent / "reference" / "seeded.py"
            subprocess.run([sys.executable, str(seeded), str(folder)], check=True, capture_output=True)
        print(f"| training step, {options.threads} threads | numroberta | PyTorch | ÷ PyTorch | ÷ products alone |")
        print("|---|---|---|---|---|")
        for shape in options.shape:
            texts, tokens = map(int, shape.split("x"))
            for dropout in options.dropout:
                found = measure(folder, (texts, tokens), options.threads, dropout, options.turns, options.checkpointing)
                label = f"{texts} × {tokens} tokens, " + (f"dropout {dropout}" if dropout else "no dropout")
                for unit in ("tokens/s", "MB"):
                    ours, theirs, alone = (found[name][unit] for name in CONTESTANTS)
                    what = "peak memory, MB" if unit == "MB" else unit
                    part = f"{ours / alone:.2f}×" if unit == "tokens/s" else ""
                    print(
                        f"| {label}, {what} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f}× | {part} |", flush=True
                    )
    return None


if __name__ == "__main__":
    main()
