"""Kill `numroberta embed` at random moments, resume it, and compare the files.

    python scripts/benchmarks/kill_corpus.py --model FOLDER --texts ../shared/corpus/mixed.txt --kills 100

Each job embeds the same texts, is killed (SIGKILL) after a random time, is resumed, and so on until it is done; its
file must have the bytes of a job that nobody disturbed.  Windows of 32 texts instead of 1,024, so that a second has
many blocks, syncs and journal lines in which to die.
"""

import argparse
import gzip
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUN = """
import sys
from numroberta import cli
from numroberta.model import blocks
blocks.BLOCK = 32
sys.exit(cli.main())
"""
SUFFIXES = (".npy", ".jsonl", ".jsonl.gz", ".parquet")


def command(model: Path, texts: Path, output: Path) -> list[str]:
    options = ["-f", str(texts), "-o", str(output), "--model", str(model), "--deterministic", "--threads", "1", "-q"]
    return [sys.executable, "-c", RUN, "embed", *options, "--resume"]


def left_behind(folder: Path) -> list[str]:
    """What a complete job must not leave."""
    return [path.name for path in folder.iterdir() if path.name.endswith((".partial", ".journal", ".sealed"))]


def survive(job: list[str], most: int, longest: float, chance: random.Random) -> int:
    """Kill a job up to `most` times, then let it end; how many times it was killed."""
    kills = 0
    while True:
        process = subprocess.Popen(job)
        try:
            code = process.wait(chance.uniform(0.0, longest) if kills < most else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            continue
        if code:
            raise SystemExit(f"after {kills} kills the job ended with exit code {code}: {' '.join(job[3:])}")
        return kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--model", type=Path, required=True, help="a folder; a small random model will do")
    parser.add_argument("--texts", type=Path, required=True, help=".txt; its first lines are embedded")
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    kills = jobs = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = folder / "texts.txt.gz"
        with options.texts.open("rb") as source, gzip.open(texts, "wb") as packed:
            packed.writelines(line for _, line in zip(range(options.lines), source, strict=False))
        whole: dict[str, tuple[bytes, float]] = {}
        for suffix in SUFFIXES:
            output = folder / f"undisturbed{suffix}"
            began = time.monotonic()
            subprocess.run(command(options.model, texts, output), check=True)
            whole[suffix] = output.read_bytes(), time.monotonic() - began
        while kills < options.kills:
            suffix = SUFFIXES[jobs % len(SUFFIXES)]
            expected, seconds = whole[suffix]
            work = folder / "job"
            work.mkdir()
            output = work / f"out{suffix}"
            died = survive(command(options.model, texts, output), 12, seconds / 1.5, chance)
            kills += died
            jobs += 1
            if output.read_bytes() != expected:
                raise SystemExit(f"job {jobs}, {suffix}: the file differs from the undisturbed one")
            if left := left_behind(work):
                raise SystemExit(f"job {jobs}, {suffix}: left behind {', '.join(left)}")
            shutil.rmtree(work)
            print(f"job {jobs}, {suffix}: killed {died} times, the same bytes", flush=True)
    print(f"{kills} of {kills} kills survived: {jobs} jobs ended in the bytes of an undisturbed one")


if __name__ == "__main__":
    main()
