"""Measure numroberta on two Spark executors: `python scripts/benchmarks/spark_figures.py --lines TEXTS`.

Prints how far the vectors are from `encode`'s, rows in place after a shuffle, the rate beside one plain process on the
same two cores, the memory of the second worker beside the first, and how a job ends whose executor is killed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import numroberta


@contextmanager
def session(master: str, settings: Mapping[str, str] = {}) -> Iterator[Any]:
    """A Spark session whose executors run this interpreter and this numroberta."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    package = str(Path(numroberta.__file__).parents[1])
    builder = SparkSession.builder.master(master).appName("numroberta").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.host", "localhost").config("spark.driver.bindAddress", "127.0.0.1")
    builder = builder.config("spark.ui.showConsoleProgress", "false").config("spark.executorEnv.PYTHONPATH", package)
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    try:
        yield spark
    finally:
        spark.stop()


def descendants(pid: int) -> list[int]:
    """The processes that this one started, and those that they did."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found[1:]


def _file(pid: int, name: str) -> str:
    try:
        return (Path("/proc") / str(pid) / name).read_text(errors="replace")
    except OSError:
        return ""


def executors() -> list[int]:
    """Process ids of the executors that this process's Spark runs."""
    return [pid for pid in descendants(os.getpid()) if "CoarseGrainedExecutorBackend" in _file(pid, "cmdline")]


def workers(weights: Path) -> list[int]:
    """Process ids of the Python workers that have mapped a file of weights."""
    return [pid for pid in descendants(os.getpid()) if str(weights) in _file(pid, "maps")]


def mapped_memory(pid: int, file: Path) -> tuple[float, float]:
    """(resident, proportional) MB of a file's mapping in a process: the pages it touched; those over their sharers."""
    total = {"Rss": 0, "Pss": 0}
    inside = False
    for line in _file(pid, "smaps").splitlines():
        key, _, value = line.partition(":")
        if "-" in key.split(" ")[0] and " " in key:
            inside = str(file) in line
        elif inside and key in total:
            total[key] += int(value.split()[0])
    return total["Rss"] / 1000, total["Pss"] / 1000


def whole_memory(pid: int) -> tuple[float, float]:
    """(resident, proportional) MB of a process."""
    values = {line.split(":")[0]: line.split()[1] for line in _file(pid, "smaps_rollup").splitlines() if ":" in line}
    return int(values["Rss"]) / 1000, int(values["Pss"]) / 1000


def cpu_seconds() -> float:
    """Processor time that this process and all it started have used."""
    ticks = 0
    for pid in (os.getpid(), *descendants(os.getpid())):
        if stat := _file(pid, "stat"):
            ticks += sum(map(int, stat.rpartition(")")[2].split()[11:15]))  # own and of ended children
    return ticks / os.sysconf("SC_CLK_TCK")


def timed(work: Any) -> tuple[Any, float, float]:
    """(what work returns, seconds on the clock, seconds of processors)."""
    clock, cpu = time.perf_counter(), cpu_seconds()
    result = work()
    return result, time.perf_counter() - clock, cpu_seconds() - cpu


def count_and_discard(frame: Any) -> None:
    """Compute all of a frame and keep nothing."""
    frame.write.format("noop").mode("overwrite").save()


def read_lines(files: list[Path], count: int) -> list[str]:
    lines = [line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line]
    return lines[:: max(1, len(lines) // count)][:count]  # some of every part of the files


def rate_and_equality(spark: Any, model: str, texts: list[str]) -> None:
    from numroberta.spark import RobertaEmbeddings

    encoder = numroberta.load(model, num_threads=2)
    encoder.encode(texts[:64])
    wanted, plain, plain_cpu = timed(lambda: encoder.encode(texts))
    print(f"one process, 2 threads: {len(texts) / plain:,.0f} texts/s, {plain_cpu:.1f} s of processors")

    stage = RobertaEmbeddings(model).setInputCols("text").setOutputCol("embeddings")
    frame = spark.createDataFrame(list(enumerate(texts)), "id int, text string").repartition(16, "id").cache()
    frame.count()
    count_and_discard(stage.transform(frame.where("id < 160")))  # every worker loads the model
    embedded = stage.transform(frame).cache()
    _, spread, spread_cpu = timed(embedded.count)
    print(f"Spark, 2 executors of 1 core: {len(texts) / spread:,.0f} texts/s, {spread_cpu:.1f} s of processors")
    print(f"rate, Spark / one process: {plain / spread:.2f}; by processor time {plain_cpu / spread_cpu:.2f}")

    rows = embedded.repartition(5, "text").sort("id").collect()
    assert [row.text for row in rows] == texts
    found = np.array([row.embeddings for row in rows], np.float32)
    print(f"after shuffles: {len(rows):,} rows in place, largest difference {np.abs(found - wanted).max():.1e}")


def memory(spark: Any, model: str, texts: list[str]) -> None:
    from numroberta.spark import embed_udf

    frame = spark.createDataFrame([(text,) for text in texts], "text string").repartition(2)
    count_and_discard(frame.select(embed_udf(model)("text")))
    (weights,) = numroberta.checkpoint.open_checkpoint(model).files
    for number, pid in enumerate(sorted(workers(weights)), start=1):
        resident, proportional = mapped_memory(pid, weights)
        own = whole_memory(pid)
        print(
            f"worker {number}: weights {resident:.0f} MB resident, {proportional:.0f} MB proportional; "
            f"whole process {own[0]:.0f} and {own[1]:.0f} MB"
        )


def kill(spark: Any, model: str, texts: list[str]) -> None:
    from numroberta.spark import RobertaEmbeddings

    stage = RobertaEmbeddings(model).setInputCols("text").setOutputCol("embeddings")
    frame = spark.createDataFrame(list(enumerate(texts)), "id int, text string").repartition(16, "id")
    rows: list[Any] = []
    job = threading.Thread(target=lambda: rows.extend(stage.transform(frame).collect()))
    job.start()
    tracker = spark.sparkContext.statusTracker()
    while True:
        stages = [tracker.getStageInfo(number) for number in tracker.getActiveStageIds()]
        done = max((stage.numCompletedTasks for stage in stages if stage and stage.numTasks == 16), default=0)
        if done >= 4 or not job.is_alive():
            break
        time.sleep(0.02)
    os.kill(executors()[0], signal.SIGKILL)
    print(f"killed an executor after {done} of 16 tasks")
    job.join()
    found = np.array([row.embeddings for row in sorted(rows)], np.float32)
    wanted = numroberta.load(model).encode(texts)
    difference = np.abs(found - wanted).max()
    print(f"the job ended with {len(rows):,} of {len(texts):,} rows, largest difference {difference:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=Path, nargs="+", required=True, help="files of a text a line")
    parser.add_argument("--count", type=int, default=20_000, help="lines taken, evenly from all (default: 20,000)")
    parser.add_argument("--model", default="tiny", help="for the rate (default: tiny)")
    parser.add_argument("--mapped", default="tiny", help="for memory: float32, as a file of 16 bits is not shared")
    options = parser.parse_args()
    texts = read_lines(options.lines, options.count)
    with session("local-cluster[2,1,2048]", {"spark.default.parallelism": "2"}) as spark:
        rate_and_equality(spark, options.model, texts)
        memory(spark, options.mapped, texts[:32])
        kill(spark, options.model, texts[:1000])


if __name__ == "__main__":
    main()
