"""`numroberta serve` under load on loopback, beside other embedding servers; client and server share the cores.

    python scripts/benchmarks/serving.py --lines mixed.txt --tokenizer tokenizer.json   # full size, seeded weights
    python scripts/benchmarks/serving.py --lines mixed.txt --model tiny
    python scripts/benchmarks/serving.py --lines mixed.txt --model tiny --requests 100000 memory
    python scripts/benchmarks/serving.py --lines mixed.txt --model tiny stop

The wrapper that everybody writes around sentence-transformers needs `pip install fastapi` beside `.[parity,serve]`;
infinity-emb lives in an environment of its own, whose Python --infinity names.  Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SHORT = "The quick brown fox jumps over the lazy dog near the old oak."  # 16 tokens of roberta-base's
WRAPPER = """
import sys
import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(sys.argv[1], device="cpu", model_kwargs={"dtype": torch.float32})
app = FastAPI()

class Request(BaseModel):
    input: str | list[str]

@app.post("/v1/embeddings")
def embeddings(request: Request):
    texts = [request.input] if isinstance(request.input, str) else request.input
    vectors = model.encode(texts, normalize_embeddings=True)
    return {"data": [{"index": i, "embedding": vector.tolist()} for i, vector in enumerate(vectors)]}

uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""
RATE = """
import sys, time, warnings
from pathlib import Path
import numroberta
warnings.simplefilter("ignore")
lines = Path(sys.argv[2]).read_text("utf-8").splitlines()
encoder = numroberta.load(sys.argv[1])
encoder.encode(lines[:32])
start = time.perf_counter()
encoder.encode(lines)
print(len(lines) / (time.perf_counter() - start))
start = time.perf_counter()
for first in range(0, len(lines), 16):
    encoder.encode(lines[first : first + 16])
print(len(lines) / (time.perf_counter() - start))
encoder.encode(sys.argv[3])
taken = []
for _ in range(100):
    start = time.perf_counter()
    encoder.encode(sys.argv[3])
    taken.append(time.perf_counter() - start)
print(sorted(taken)[50])
"""


# --- Servers ---------------------------------------------------------------------------------------------------------


class Running(NamedTuple):
    """A server process that answers, and how long it took until the first answer."""

    process: subprocess.Popen[bytes]
    port: int
    seconds: float

    def status(self, field: str) -> float:
        """A field of /proc/…/status in MB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024

    def cpu(self) -> tuple[float, float]:
        """CPU seconds so far: of the main thread, which speaks HTTP, and of all others, which compute."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        taken = {int(task.name): int((task / "schedstat").read_text().split()[0]) / 1e9 for task in tasks.iterdir()}
        main = taken.pop(self.process.pid)
        return main, sum(taken.values())


def command(name: str, folder: str, port: int, infinity: str | None) -> list[str]:
    if name == "numroberta":
        return [sys.executable, "-m", "numroberta", "serve", "--model", folder, "--port", str(port), "--auto-truncate"]
    if name == "FastAPI + sentence-transformers":
        return [sys.executable, "-c", WRAPPER, folder, str(port)]
    assert infinity
    options = ["--model-id", folder, "--engine", "torch", "--device", "cpu", "--url-prefix", "/v1", "--no-model-warmup"]
    served = ["--served-model-name", Path(folder).name, "--log-level", "error", "--port", str(port)]
    return [str(Path(infinity).with_name("infinity_emb")), "v2", *options, *served]


@contextlib.contextmanager
def started(name: str, folder: str, infinity: str | None = None) -> Iterator[Running]:
    """A server that has given its first answer."""
    port = random.randrange(20_000, 30_000)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    start = time.perf_counter()
    process = subprocess.Popen(command(name, folder, port, infinity), env=environment, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                asyncio.run(load(port, [body_of(SHORT, folder)], 1))
                break
            except OSError:
                if process.poll() is not None or time.perf_counter() - start > 300:
                    raise
                time.sleep(0.005)
        yield Running(process, port, time.perf_counter() - start)
    finally:
        process.terminate()
        process.wait(60)


def body_of(text: str, model: str) -> bytes:
    """A request as one of OpenAI's clients makes it; infinity wants the model's name, the others take any or none."""
    return json.dumps({"input": text, **({"model": Path(model).name} if model else {})}).encode()


# --- A client that costs little --------------------------------------------------------------------------------------


class Answers(NamedTuple):
    """Of a load: how long it took in all, each request's latency, and the statuses by their count."""

    seconds: float
    latencies: list[float]
    statuses: dict[int, int]

    def percentile(self, share: float) -> float:
        return sorted(self.latencies)[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


def request(body: bytes, path: str = "/v1/embeddings") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of an answer with a Content-Length."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


async def load(port: int, bodies: Sequence[bytes], clients: int, until: asyncio.Event | None = None) -> Answers:
    """All requests by so many clients, with a connection each; until: stop when it is set."""
    waiting = iter(bodies)
    latencies: list[float] = []
    statuses: dict[int, int] = {}

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in waiting:
            start = time.perf_counter()
            writer.write(request(body))
            status, _ = await answer(reader)
            latencies.append(time.perf_counter() - start)
            statuses[status] = statuses.get(status, 0) + 1
            if until and until.is_set():
                break
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return Answers(time.perf_counter() - start, latencies, statuses)


# --- What is measured ------------------------------------------------------------------------------------------------


def speed(folder: str, lines: list[str], turns: int, infinity: str | None) -> None:
    """Throughput beside the others, latency over `encode`, short texts beside long ones, and the start."""
    names = ["numroberta", "FastAPI + sentence-transformers", *(["infinity-emb"] if infinity else [])]
    rates: dict[str, list[float]] = {name: [] for name in ("encode", "encode, 16 texts at a time", *names)}
    over, starts, alone, beside, memory, shares = [], [], [], [], [], []
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n".join(lines))
        file.flush()
        for _ in range(turns):
            done = subprocess.run(
                [sys.executable, "-c", RATE, folder, file.name, SHORT],
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                check=True,
                capture_output=True,
                text=True,
            )
            rate, rate_of_16, one = map(float, done.stdout.split())
            rates["encode"].append(rate)
            rates["encode, 16 texts at a time"].append(rate_of_16)
            for name in names:
                with started(name, folder, infinity) as server:
                    asyncio.run(load(server.port, [body_of(line, folder) for line in lines[:32]], 16))
                    before = (time.process_time(), *server.cpu())
                    found = asyncio.run(load(server.port, [body_of(line, folder) for line in lines], 16))
                    after = (time.process_time(), *server.cpu())
                    if set(found.statuses) != {200}:
                        raise RuntimeError(f"{name} answered {found.statuses}")
                    rates[name].append(len(lines) / found.seconds)
                    if name == "numroberta":
                        shares.append([1e3 * (b - a) / len(lines) for a, b in zip(before, after, strict=True)])
                        starts.append(server.seconds)
                        over.append(
                            asyncio.run(load(server.port, [body_of(SHORT, folder)] * 100, 1)).percentile(0.5) - one
                        )
                        a, b = asyncio.run(short_beside_long(server.port, folder))
                        alone.append(a)
                        beside.append(b)
                        memory.append(server.status("VmHWM"))
    median = statistics.median
    print(f"{len(lines):,} lines, one text a request, 16 clients; median of {turns}")
    ours = median(rates["numroberta"])
    for name, found_rates in rates.items():
        print(f"  {name:34s} {median(found_rates):8.1f} texts/s   numroberta is {ours / median(found_rates):.2f}×")
    client, http, computing = (median(column) for column in zip(*shares, strict=True))
    print(f"CPU a text: client {client:.2f} ms, HTTP and JSON {http:.2f} ms, arithmetic {computing:.2f} ms")
    print(f"latency of one client, 16 tokens: encode + {1e3 * median(over):.2f} ms")
    print(
        f"p99 of short texts: alone {1e3 * median(alone):.0f} ms, beside 512 tokens without pause "
        f"{1e3 * median(beside):.0f} ms, {median(beside) / median(alone):.1f}×"
    )
    print(f"start to first answer {median(starts):.2f} s; peak memory {median(memory):.0f} MB")


async def short_beside_long(port: int, folder: str, requests: int = 200) -> tuple[float, float]:
    """p99 of short texts one after the other, alone and while another client sends 512 tokens without pause."""
    short = [body_of(SHORT, folder)] * requests
    alone = await load(port, short, 1)
    done = asyncio.Event()
    long = asyncio.ensure_future(load(port, [body_of("word " * 600, folder)] * 10_000, 1, done))
    await asyncio.sleep(1)
    beside = await load(port, short, 1)
    done.set()
    await long
    return alone.percentile(0.99), beside.percentile(0.99)


def memory(folder: str, lines: list[str], requests: int) -> None:
    """Resident memory by the number of requests, and its slope over the second half."""
    with started("numroberta", folder) as server:
        bodies = [body_of(line, folder) for line in lines]
        done, points = 0, []
        while done < requests:
            chunk = [bodies[(done + i) % len(bodies)] for i in range(min(5000, requests - done))]
            found = asyncio.run(load(server.port, chunk, 16))
            if set(found.statuses) != {200}:
                raise RuntimeError(f"answers: {found.statuses}")
            done += len(chunk)
            points.append((done, server.status("VmRSS")))
            print(f"{done:8,} requests  {points[-1][1]:7.1f} MB", flush=True)
        half = points[len(points) // 2 :]
        if len(half) > 1:
            slope = statistics.linear_regression(*zip(*half, strict=True)).slope
            print(f"slope of the second half: {1e5 * slope:+.2f} MB in 100,000 requests")


def stop(folder: str, lines: list[str], times: int = 5) -> None:
    """SIGTERM while 16 clients ask without pause: all get their own vectors until they are refused, none nothing."""
    import numroberta

    lines = lines[:100]
    expected = numroberta.load(folder).encode(lines, normalize_embeddings=True)

    async def client(port: int, number: int, ends: Counter[str]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for index in itertools.count(number):
            writer.write(request(body_of(lines[index % len(lines)], folder)))
            try:
                status, body = await answer(reader)
            except (asyncio.IncompleteReadError, ConnectionError):
                ends["lost"] += 1
                return
            ends[str(status)] += 1
            if status != 200:
                return
            vector = json.loads(body)["data"][0]["embedding"]
            ends["wrong"] += bool(max(map(abs, vector - expected[index % len(lines)])) > 1e-5)

    async def stopped(server: Running, ends: Counter[str]) -> float:
        clients = [asyncio.ensure_future(client(server.port, number, ends)) for number in range(16)]
        await asyncio.sleep(1 + random.random())
        start = time.perf_counter()
        server.process.terminate()
        await asyncio.gather(*clients)
        server.process.wait(60)
        return time.perf_counter() - start

    for _ in range(times):
        ends: Counter[str] = Counter(lost=0, wrong=0)
        with started("numroberta", folder) as server:
            seconds = asyncio.run(stopped(server, ends))
            print(f"{dict(ends)}, exit {server.process.returncode} after {seconds:.2f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["speed", "memory", "stop"], default="speed")
    parser.add_argument("--lines", type=Path, required=True, help="a text a line")
    parser.add_argument("--model", help="a folder or a name; without it, DistilRoBERTa's size with seeded weights")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json for the seeded weights")
    parser.add_argument("--texts", type=int, default=500, help="lines drawn (default: 500)")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--requests", type=int, default=100_000, help="of memory")
    parser.add_argument("--infinity", help="the Python of an environment with infinity-emb")
    options = parser.parse_args()
    lines = [line for line in options.lines.read_text("utf-8").splitlines() if line.strip()]
    lines = random.Random(0).sample(lines, min(options.texts, len(lines)))
    with tempfile.TemporaryDirectory() as scratch:
        folder = str(folder_of(options.model, options.tokenizer, Path(scratch)))
        if options.what == "memory":
            memory(folder, lines, options.requests)
        elif options.what == "stop":
            stop(folder, lines)
        else:
            speed(folder, lines, options.turns, options.infinity)


def folder_of(model: str | None, tokenizer: Path | None, scratch: Path) -> Path:
    """The folder of a model, which every server can read; of the built-in one, which has a name for us alone, too."""
    sys.path.insert(0, str(ROOT))
    from numroberta.checkpoint import find_folder

    return find_folder(model) if model else seeded_folder(scratch / "seeded", tokenizer)


def seeded_folder(folder: Path, tokenizer: Path | None) -> Path:
    """DistilRoBERTa's geometry with seeded weights; the given tokenizer, or that of `tiny`."""
    sys.path.insert(0, str(ROOT / "scripts" / "reference"))
    import seeded

    seeded.write(folder)
    if tokenizer:
        shutil.copy(tokenizer, folder)
        (folder / "tokenizer_config.json").write_text('{"model_max_length": 512}')
        for name in ("vocab.json", "merges.txt"):
            (folder / name).unlink()
    return folder


if __name__ == "__main__":
    main()
