"""Memory and time of `numroberta embed` by the number of lines: `python scripts/scale.py --corpus ../shared/corpus`.

Lines are drawn from all files of the corpus.  Memory is the process's peak; the rate is also compared with `encode` on
the same lines in memory, in turns, so that a machine which slows down slows both.
"""

import argparse
import os
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numroberta
from numroberta.corpus import embed_files


def run(texts: Path, output: Path) -> tuple[float, float, float]:
    """(seconds, seconds of CPU, peak MB) of one `embed` in a process of its own."""
    began = time.monotonic()
    command = [sys.executable, "-m", "numroberta", "embed", "-q", "-f", str(texts), "-o", str(output)]
    child = os.posix_spawn(sys.executable, command, os.environ)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"embed ended with {status}")
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def compare(texts: Path, output: Path, turns: int) -> tuple[float, float]:
    """(texts a second of `encode`, of files to files): the best of some turns each."""
    model = numroberta.load("tiny")
    lines = texts.read_text(encoding="utf-8").split("\n")[:-1]
    best = {"encode": 1e9, "files": 1e9}
    for _ in range(turns):
        began = time.monotonic()
        model.encode(lines)
        middle = time.monotonic()
        embed_files(model, [texts], output, overwrite=True)
        best["encode"] = min(best["encode"], middle - began)
        best["files"] = min(best["files"], time.monotonic() - middle)
    return len(lines) / best["encode"], len(lines) / best["files"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--lines", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--compare", type=int, default=4_096, help="lines of the comparison with encode")
    parser.add_argument("--longest", type=int, default=10_000, help="leave out lines of more characters")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = [line for path in sorted(options.corpus.glob("*.txt")) for line in path.open(encoding="utf-8", newline="")]
    lines = [line.rstrip("\r\n") + "\n" for line in lines if len(line) <= options.longest]
    random.Random(0).shuffle(lines)
    with tempfile.TemporaryDirectory() as name:
        texts, output = Path(name) / "texts.txt", Path(name) / "out.npy"
        for count in options.lines:
            texts.write_text("".join(lines[:count]), encoding="utf-8")
            seconds, busy, peak = run(texts, output)
            output.unlink()
            print(
                f"{count:9,} lines  {peak:5.0f} MB  {seconds:7.1f} s  {count / seconds:6.0f} lines/s  "
                f"{busy / count * 1e3:6.2f} ms of CPU a line",
                flush=True,
            )
        if options.compare:
            texts.write_text("".join(lines[: options.compare]), encoding="utf-8")
            memory, files = compare(texts, output, 3)
            print(
                f"{options.compare:,} lines: encode {memory:.0f} lines/s, files {files:.0f}, {files / memory:.3f} of it"
            )


if __name__ == "__main__":
    main()
