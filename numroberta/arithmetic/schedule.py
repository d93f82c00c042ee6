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
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from numroberta.arithmetic import blas
from numroberta.arithmetic.encoder import Share
from numroberta.arithmetic.kernels import Scratch

R = TypeVar("R")
T = TypeVar("T")

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
    jobs: Sequence[Callable[[Share], R]],
    num_threads: int,
    dtype: DTypeLike,
    one_at_a_time: bool = False,
    worth_sharing: bool = True,
) -> list[R]:
    """The results of the jobs, in order, on `num_threads` threads with BLAS held to one thread each.

    Each job receives a `share`, whose `run` runs the parts of its work in this thread (`alone`) or on several (`Team`).
    All threads work on one job where there are fewer jobs than threads, unless a job's parts are not `worth_sharing`,
    and where `one_at_a_time` asks for it; otherwise each thread takes one job after the other.  If a job raises an
    exception, or Ctrl-C is pressed, the other threads finish the job they are at, and the exception is raised here.
    """
    if not blas.can_be_held():  # it takes all cores for itself, and threads on top of its own would be in its way
        num_threads = 1
    if not (worth_sharing or one_at_a_time):
        num_threads = max(1, min(num_threads, len(jobs)))
    with blas.one_blas_thread(), team(num_threads, dtype) as members:
        if num_threads == 1 or (one_at_a_time and not worth_sharing):
            return [job(alone(members.scratch[0])) for job in jobs]
        if one_at_a_time or len(jobs) < num_threads:
            return [job(Share(num_threads, members.run, members.scratch[0])) for job in jobs]
        return _in_parallel(jobs, members)


def alone(scratch: Scratch) -> Share:
    """A share that runs every part in the caller's thread, when its result is asked for."""
    return Share(1, lambda function, parts: (function(part, scratch) for part in parts), scratch)


def _in_parallel(jobs: Sequence[Callable[[Share], R]], members: Team) -> list[R]:
    """Each thread of the team takes one job after the other, until there are none or one has failed."""
    results: dict[int, R] = {}
    failures: list[BaseException] = []
    waiting: SimpleQueue[int] = SimpleQueue()
    for i in range(len(jobs)):
        waiting.put(i)

    def work(_: slice, scratch: Scratch) -> None:
        share = alone(scratch)
        try:
            while not failures:
                i = waiting.get_nowait()
                results[i] = jobs[i](share)
        except Empty:
            pass
        except BaseException as failure:  # KeyboardInterrupt too: whoever meets it, all stop
            failures.append(failure)

    members.run(work, [slice(i, i + 1) for i in range(members.size)], failures)
    if failures:
        raise failures[0]
    return [results[i] for i in range(len(jobs))]


class Team:
    """Threads that run the parts of a work together: part i on thread i modulo `size`, the caller's being 0.

    They wait for the next work until `end` is called or nobody holds the team any more.
    scratch: each member's memory, lent to the team while it is at work.
    """

    _tasks: Sequence[SimpleQueue[Any]] = ()

    def __init__(self, size: int, scratch: list[Scratch]):
        self.size, self.scratch = size, scratch
        self._tasks = [SimpleQueue() for _ in range(size - 1)]
        for tasks in self._tasks:
            threading.Thread(target=_member, args=(tasks,), name="numroberta", daemon=True).start()

    def end(self) -> None:
        """Let each thread end when it has ended the part that it is at."""
        for tasks in self._tasks:
            tasks.put(None)

    __del__ = end

    def run(
        self,
        function: Callable[[slice, Scratch], R],
        parts: Sequence[slice],
        failures: list[BaseException] | None = None,
    ) -> list[R]:
        """The parts' results in their order, when all parts have ended; raises what one of them raised.

        failures: takes the exceptions as they occur, Ctrl-C among them, so that the parts may look at it.
        """
        failures = [] if failures is None else failures
        results: dict[int, R] = {}
        ended: list[int] = []
        signal: SimpleQueue[None] = SimpleQueue()

        def member(number: int) -> None:
            try:
                for i in range(number, len(parts), self.size):
                    results[i] = function(parts[i], self.scratch[number])
            except BaseException as failure:
                failures.append(failure)
            ended.append(number)
            signal.put(None)

        started = 0
        try:
            for number in range(1, min(self.size, len(parts))):
                self._tasks[number - 1].put(partial(member, number))
                started += 1
            member(0)
        except KeyboardInterrupt as failure:  # between two steps of `member`
            failures.append(failure)
        while len(set(ended) - {0}) < started:  # also after Ctrl-C: nobody may still be writing when this returns
            try:
                signal.get()
            except KeyboardInterrupt as failure:
                failures.append(failure)
        if failures:
            raise failures[0]
        return [results[i] for i in range(len(parts))]


def _member(tasks: SimpleQueue[Any]) -> None:
    """What a thread of a team does.  It knows its queue alone: a team that nobody holds can be deleted."""
    blas.claim_thread()
    while task := tasks.get():
        task()
        del task


# Kept for the next calls: as many as were at work at once.
_idle: dict[tuple[int, str], list[Team]] = {}  # by size and dtype
_spare: dict[str, list[Scratch]] = {}  # by dtype, for teams of any size


@contextmanager
def team(size: int, dtype: DTypeLike) -> Iterator[Team]:
    """A team of this size: one that an earlier call has left, or a new one.

    Whatever is raised inside, the team is ended, not kept: it might still be at work.
    """
    kind = size, np.dtype(dtype).name
    idle, spare = _idle.setdefault(kind, []), _spare.setdefault(kind[1], [])
    members = None
    try:
        scratch = [_taken(spare) or Scratch(dtype) for _ in range(size)]
        if members := _taken(idle):
            members.scratch = scratch
        else:
            members = Team(size, scratch)
            members.run(lambda part, scratch: blas.touch_workspace(dtype), [slice(i, i + 1) for i in range(size)])
        yield members
    except BaseException:
        if members:
            members.end()
        raise
    spare += members.scratch
    spare.sort(key=lambda scratch: scratch.most)  # the largest is taken first: few grow to what the longest texts need
    members.scratch = []
    idle.append(members)


def _taken(kept: list[T]) -> T | None:
    """What was put on a list last; None where it is empty."""
    try:
        return kept.pop()
    except IndexError:  # another thread may have taken it since anybody looked
        return None


if hasattr(os, "register_at_fork"):  # a forked child has none of its parent's threads
    os.register_at_fork(after_in_child=_idle.clear)
