"""Memory and time of `numroberta embed` by the number of lines.

    python scripts/benchmarks/scale.py --corpus ../shared/corpus

Lines are drawn from all files of the corpus.  Memory is the process's peak; the rate is also compared with `encode` on
the same lines in memory, in turns, so that a machine which slows down slows both.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numroberta
from numroberta.corpus import embed_files

# ru_maxrss would be no less than the parent's own memory (man 2 getrusage; execve keeps it): the child reads its own.
CHILD = """
import resource, sys
from numroberta.cli import main
code = main()
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
used = resource.getrusage(resource.RUSAGE_SELF)
print(peak, used.ru_utime + used.ru_stime)
sys.exit(code)
"""


def run(model: str, texts: Path, output: Path) -> tuple[float, float, float]:
    """(seconds, seconds of CPU, peak MB) of one `embed` in a process of its own.  Linux."""
    command = [sys.executable, "-c", CHILD, "embed", "-q", "--model", model, "-f", str(texts), "-o", str(output)]
    began = time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.monotonic() - began
    peak, busy = map(float, done.stdout.split())
    return seconds, busy, peak / 1024


def compare(name: str, texts: Path, output: Path, turns: int) -> list[tuple[str, float, float]]:
    """(clock, lines a second of `encode`, of files to files): the best of some turns each."""
    model = numroberta.load(name)
    lines = texts.read_text(encoding="utf-8").split("\n")[:-1]
    taken = []
    for _ in range(turns):
        marks = [(time.monotonic(), time.process_time())]
        model.encode(lines)
        marks.append((time.monotonic(), time.process_time()))
        embed_files(model, [texts], output, overwrite=True)
        marks.append((time.monotonic(), time.process_time()))
        taken.append(marks)
    rates = []
    for clock, name in enumerate(("wall", "CPU")):
        memory = min(middle[clock] - start[clock] for start, middle, _ in taken)
        files = min(end[clock] - middle[clock] for _, middle, end in taken)
        rates.append((name, len(lines) / memory, len(lines) / files))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--model", default="tiny")
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
        for wanted in options.lines:
            count = min(wanted, len(lines))
            texts.write_text("".join(lines[:count]), encoding="utf-8")
            seconds, busy, peak = run(options.model, texts, output)
            output.unlink()
            print(
                f"{count:9,} lines  {peak:5.0f} MB  {seconds:7.1f} s  {count / seconds:6.0f} lines/s  "
                f"{busy / count * 1e3:6.2f} ms of CPU a line",
                flush=True,
            )
        if options.compare:
            texts.write_text("".join(lines[: options.compare]), encoding="utf-8")
            for clock, memory, files in compare(options.model, texts, output, 3):
                rates = f"encode {memory:.0f} lines/s, files {files:.0f}, {files / memory:.3f} of it"
                print(f"{options.compare:,} lines, {clock}: {rates}")


if __name__ == "__main__":
    main()
