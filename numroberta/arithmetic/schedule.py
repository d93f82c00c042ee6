"""Which texts run side by side, and on which thread: the only file that starts threads.

There are two ways to use several cores.  Many texts run in groups of about 512 columns, each group on one thread, with
BLAS held to one thread (this is faster than BLAS's own threads, since everything between the products runs in parallel
too).  A single group is run by a team of threads, which share each layer: some heads and some of the feed-forward width
each.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from numpy.typing import DTypeLike

from numroberta.arithmetic.encoder import Share
from numroberta.arithmetic.kernels import Scratch

R = TypeVar("R")

# Columns in a group: the products reach their full rate (384 to 1,024 do), and a thread needs about 20 MB.
COLUMNS = 512


def available_cores() -> int:
    """Cores this process may use: its CPU affinity and its container's quota (cgroup v2 and v1), at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(cores, int(quota)) if quota else cores)


def _cgroup_quota() -> float | None:
    """Cores' worth of time a container may use, None where nothing limits it."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            limit, period = file.read().split()
    except (OSError, ValueError):
        try:
            with (
                open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") as quota,
                open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as p,
            ):
                limit, period = quota.read().strip(), p.read().strip()
        except OSError:
            return None
    return None if limit in ("max", "-1") else max(1.0, int(limit) / int(period))


def groups(lengths: Sequence[int], most_texts: int, one_text_each: bool, at_least: int = 1) -> list[list[int]]:
    """Put texts into groups of at most COLUMNS columns and `most_texts` texts: lists of indices, longest texts first.

    Args:
        lengths: of the texts, in tokens.  A text of more than COLUMNS tokens is a group of its own.
        most_texts: the most texts in a group.
        one_text_each: make every text a group of its own.
        at_least: make this many groups of about the same size where there is enough to do, so that each thread has one.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    if one_text_each:
        return [[i] for i in order]
    size = min(COLUMNS, max(-(-sum(lengths) // at_least), COLUMNS // 8))
    result: list[list[int]] = []
    columns = 0
    for i in order:
        if not result or columns + lengths[i] > size or len(result[-1]) == most_texts:
            result.append([])
            columns = 0
        result[-1].append(i)
        columns += lengths[i]
    return result


def run(
    jobs: Sequence[Callable[[Share], R]], num_threads: int, dtype: DTypeLike, one_at_a_time: bool = False
) -> list[R]:
    """The results of the jobs, in order, on `num_threads` threads with BLAS held to one thread each.

    Each job receives a `share`, whose `run` runs the parts of its work in this thread (`alone`) or on several (`team`).
    A team serves where there are fewer jobs than threads, or where `one_at_a_time` asks for it; otherwise each thread
    takes one job after the other.  If a job raises an exception, or Ctrl-C is pressed, the other threads finish the job
    they are at, and the exception is raised here.
    """
    if not _controller():  # BLAS takes all cores for itself, and threads on top of its own would only be in its way
        num_threads = 1
    with one_blas_thread():
        if num_threads == 1:
            share = alone(Scratch(dtype))
            return [job(share) for job in jobs]
        if one_at_a_time or len(jobs) < num_threads:
            with team(num_threads, dtype) as share:
                return [job(share) for job in jobs]
        return _in_parallel(jobs, num_threads, dtype)


def alone(scratch: Scratch) -> Share:
    """A share that runs every part in the caller's thread, one after the other, when its result is asked for."""
    return Share(1, lambda function, parts: (function(part, scratch) for part in parts))


def _in_parallel(jobs: Sequence[Callable[[Share], R]], num_threads: int, dtype: DTypeLike) -> list[R]:
    results: dict[int, R] = {}
    failures: list[BaseException] = []
    waiting: SimpleQueue[int] = SimpleQueue()
    for i in range(len(jobs)):
        waiting.put(i)

    def work() -> None:
        share = alone(Scratch(dtype))
        try:
            while not failures:
                i = waiting.get_nowait()
                results[i] = jobs[i](share)
        except Empty:
            pass
        except BaseException as failure:  # KeyboardInterrupt too: whoever meets it, all stop
            failures.append(failure)

    threads = [threading.Thread(target=work, name="numroberta", daemon=True) for _ in range(num_threads - 1)]
    for thread in threads:
        thread.start()
    work()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt as failure:  # while the caller's thread had nothing left to do
        failures.append(failure)
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    return [results[i] for i in range(len(jobs))]


@contextmanager
def team(num_threads: int, dtype: DTypeLike) -> Iterator[Share]:
    """A share that runs the parts on several threads: part i on thread i modulo `num_threads`, the caller's being 0."""
    scratch = [Scratch(dtype) for _ in range(num_threads)]
    todo: list[SimpleQueue[Any]] = [SimpleQueue() for _ in range(num_threads - 1)]
    done: SimpleQueue[BaseException | None] = SimpleQueue()

    def member(queue: SimpleQueue[Any]) -> None:
        while (task := queue.get()) is not None:
            try:
                task()
                done.put(None)
            except BaseException as failure:
                done.put(failure)

    def share(function: Callable[[slice, Scratch], R], parts: Sequence[slice]) -> list[R]:
        results: dict[int, R] = {}

        def every(first: int) -> None:
            for i in range(first, len(parts), num_threads):
                results[i] = function(parts[i], scratch[first])

        busy = todo[: len(parts) - 1]
        for number, queue in enumerate(busy, start=1):
            queue.put(lambda number=number: every(number))
        failures: list[BaseException | None] = []
        try:
            every(0)
        finally:  # also after Ctrl-C: nobody may still be writing when this returns
            failures += [done.get() for _ in busy]
        for failure in failures:
            if failure is not None:
                raise failure
        return [results[i] for i in range(len(parts))]

    members = [threading.Thread(target=member, args=(queue,), name="numroberta", daemon=True) for queue in todo]
    for thread in members:
        thread.start()
    try:
        yield Share(num_threads, share)
    finally:
        for queue in todo:
            queue.put(None)
        for thread in members:
            thread.join()


@cache
def small_products() -> int:
    """rows × inner × columns up to which this process's BLAS reads the operands of a float32 product where they lie.

    OpenBLAS does on processors with AVX-512 (`interface/gemm.c`, `sgemm_small_matrix_permit`); 0: it never does, or
    nothing is known of it.
    """
    direct = {"SkylakeX", "Cooperlake", "SapphireRapids"}
    libraries = _controller().select(user_api="blas").info() if _controller() else []
    return 1_000_000 if any(library.get("architecture") in direct for library in libraries) else 0


_lock = threading.Lock()
_holders = 0
_limit: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread.  The setting is the whole process's: the last of several callers sets it back."""
    global _holders, _limit
    controller = _controller()
    with _lock:
        _holders += 1
        if _holders == 1 and controller:
            _limit = controller.limit(limits=1, user_api="blas")
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0 and _limit is not None:
                _limit.restore_original_limits()
                _limit = None


@cache
def _controller() -> Any:
    """threadpoolctl's controller, made once (it searches the process's libraries); None where it is not installed."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()
