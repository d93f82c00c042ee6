"""Every text once and in order; threads end and BLAS gets its own threads back, whatever happens."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import random_model
from hypothesis import given, strategies as st

import numroberta
from numroberta.arithmetic import blas, cut, schedule
from numroberta.arithmetic.kernels import Scratch
from numroberta.checkpoint import RobertaConfig

LENGTHS = st.lists(st.integers(0, 600), max_size=60)


def own_threads():
    return {thread for thread in threading.enumerate() if thread.name == "numroberta"}


@pytest.fixture(autouse=True)
def _threads_end_with_their_team(monkeypatch):
    before, teams = own_threads(), {}
    with monkeypatch.context() as patched:
        patched.setattr(schedule, "_idle", teams)
        yield
    teams.clear()
    gc.collect()  # what a test has caught may hold its team
    for thread in own_threads() - before:
        thread.join(5)
    assert own_threads() <= before


@given(LENGTHS, st.integers(1, 40), st.booleans(), st.integers(1, 4))
def test_every_text_is_in_one_group_which_is_not_too_large(lengths, most_texts, one_text_each, at_least):
    groups = schedule.groups(lengths, most_texts, one_text_each, at_least)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) <= (1 if one_text_each else most_texts)
        assert len(group) == 1 or sum(lengths[i] for i in group) <= schedule.COLUMNS


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(2, 4))
def test_texts_of_64_tokens_for_each_thread_give_each_thread_a_group(lengths, threads):
    lengths += [60] * (threads + 1)
    assert sum(lengths) < 5 * schedule.COLUMNS
    assert len(schedule.groups(lengths, 32, one_text_each=False, at_least=threads)) >= threads


@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_jobs_run_one_at_a_time_where_that_is_asked_for(one_at_a_time):
    """Each on all threads: with `low_memory` two jobs would need the weights of two layers."""
    names = set()

    def job(share):
        time.sleep(0.001)
        names.add(threading.current_thread().name)
        return len(set(share.run(lambda part, _: threading.current_thread().name, [slice(0), slice(1)])))

    threads_of_a_job = schedule.run([job] * 30, 2, "float32", one_at_a_time)
    assert set(threads_of_a_job) == {2 if one_at_a_time else 1}
    assert len(names) == (1 if one_at_a_time else 2)


def test_with_low_memory_texts_are_run_one_after_the_other(small_folder):
    enc = numroberta.load(small_folder, low_memory=True, num_threads=2)
    ids = np.array([0, *[9] * 60, 2])
    texts = [(ids, enc.model.position_ids(ids))] * 40
    assert set(enc.model.run(texts, lambda output: threading.current_thread())) == {threading.current_thread()}


def test_parts_too_small_to_be_shared_are_run_by_the_caller():
    def job(share):
        return set(share.run(lambda part, _: threading.current_thread(), [slice(0), slice(1)]))

    assert schedule.run([job], 2, "float32", worth_sharing=False) == [{threading.current_thread()}]


@pytest.mark.parametrize("workers", [2, 3, 4, 6])
@pytest.mark.parametrize("columns", [16, 500])
def test_each_of_several_workers_has_a_part_of_the_heads_and_of_the_width(columns, workers):
    config = RobertaConfig.from_dict(random_model.SIZES | {"num_attention_heads": 12, "intermediate_size": 3072})
    parts = cut.choose(config, "float32", False, columns, workers)
    assert -(-12 // parts.heads) >= workers
    assert -(-3072 // parts.width) >= workers


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("number", [0, 1, 2, 7, 50])
@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_results_come_in_the_order_of_the_jobs(number, threads, one_at_a_time):
    def job(i):
        def work(share):
            time.sleep(0.001 * (i % 3))
            return i, sum(share.run(lambda part, scratch: part.stop, [slice(i), slice(2 * i)]))

        return work

    results = schedule.run([job(i) for i in range(number)], threads, "float32", one_at_a_time)
    assert results == [(i, 3 * i) for i in range(number)]


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_a_team_gives_what_one_thread_gives_in_the_order_of_the_parts(threads):
    parts = [slice(i, i + 1) for i in range(11)]

    def function(part, scratch):
        time.sleep(0.001 * (part.start % 3))
        return part.start, threading.current_thread().name

    expected = [i for i, _ in schedule.alone(Scratch("float32")).run(function, parts)]
    with schedule.team(threads, "float32") as team:
        for _ in range(3):
            results = list(team.run(function, parts))
            assert [i for i, _ in results] == expected
            assert len({name for _, name in results}) == min(threads, 2)  # the caller's thread, and "numroberta"
        assert list(team.run(function, [])) == []


def test_members_of_a_team_have_scratch_memory_of_their_own():
    with schedule.team(3, "float64") as team:
        results = team.run(lambda part, scratch: scratch("a", (2,)), [slice(i) for i in range(3)])
    assert {a.dtype for a in results} == {np.dtype("float64")}
    assert not any(np.shares_memory(results[i], results[j]) for i in range(3) for j in range(i))


def test_teams_of_all_sizes_use_the_same_memory_the_largest_first(monkeypatch):
    monkeypatch.setattr(schedule, "_spare", {})
    for size, elements in ((1, 10), (2, 1000), (3, 10), (1, 5)):
        with schedule.team(size, "float32") as team:
            team.scratch[0]("a", (elements,))
    assert [scratch.most for scratch in schedule._spare["float32"]] == sorted(
        scratch.most for scratch in schedule._spare["float32"]
    )
    assert len(schedule._spare["float32"]) == 3
    with schedule.team(1, "float32") as team:
        assert team.scratch[0].most == 1000


@pytest.mark.parametrize("failure", [ValueError, MemoryError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_what_a_job_raises_is_raised_and_the_jobs_after_it_are_left(failure, threads, one_at_a_time):
    done = []

    def job(i):
        def work(share):
            if i == 3:
                raise failure("job 3")
            time.sleep(0.002)
            done.append(i)

        return work

    with pytest.raises(failure, match="job 3"):
        schedule.run([job(i) for i in range(200)], threads, "float32", one_at_a_time)
    assert len(done) < 20


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_what_a_member_of_a_team_raises_is_raised_when_all_have_ended(failing):
    running = set()

    def function(part, scratch):
        running.add(part.start)
        time.sleep(0.01)
        if part.start == failing:
            raise ValueError(f"part {failing}")
        time.sleep(0.02)
        running.discard(part.start)

    with schedule.team(3, "float32") as team, pytest.raises(ValueError, match=f"part {failing}"):
        team.run(function, [slice(i, i) for i in range(3)])
    assert running == {failing}


@pytest.mark.skipif(os.name == "nt", reason="sends the signal of Ctrl-C to itself")
@pytest.mark.parametrize("one_at_a_time", [False, True])
@pytest.mark.parametrize("slow", ["caller", "worker"])
def test_ctrl_c_ends_the_run(slow, one_at_a_time):
    caller = threading.get_ident()
    ends = []

    def work(share):
        def part(_, scratch):
            here = "caller" if threading.get_ident() == caller else "worker"
            for _ in range(30 if here == slow else 1):
                time.sleep(0.01)
            ends.append(here)

        list(share.run(part, [slice(0), slice(1)]))

    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        schedule.run([work] * 200, 2, "float32", one_at_a_time)
    timer.join()
    assert len(ends) < 200


def test_two_users_at_once_get_their_own_results():
    model = random_model.roberta(dtype="float32", num_threads=2, deterministic=True)
    rng = np.random.default_rng(0)
    batches = [rng.integers(4, 200, (6, 30)) for _ in range(2)]
    expected = [model(ids).last_hidden_state for ids in batches]
    wrong = []

    def user(number):
        for _ in range(25):
            if not np.array_equal(model(batches[number]).last_hidden_state, expected[number]):
                wrong.append(number)

    users = [threading.Thread(target=user, args=(number,)) for number in range(2)]
    for thread in users:
        thread.start()
    for thread in users:
        thread.join()
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_cores_are_those_this_process_may_use():
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    code += "from numroberta.arithmetic.schedule import available_cores; print(available_cores())"
    root = Path(__file__).parents[2]
    child = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert child.stdout == "1\n"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"/sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"/sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2.5),
        ({"/sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        (
            {
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_a_containers_quota_is_read_as_version_2_and_1_write_it(files, cores, monkeypatch, tmp_path):
    def fake_open(path):
        if path not in files:
            raise FileNotFoundError(path)
        copy = tmp_path / Path(path).name
        copy.write_text(files[path])
        return copy.open()

    monkeypatch.setattr(schedule, "open", fake_open, raising=False)
    assert schedule._cgroup_quota() == cores
    assert schedule.available_cores() <= (cores or 10**6)


def test_where_blas_cannot_be_held_the_jobs_run_one_after_the_other(monkeypatch):
    """Its threads and ours would be in each other's way."""
    monkeypatch.setattr(blas, "numpys_blas", lambda: None)
    threads = schedule.run([lambda share: threading.current_thread()] * 5, 4, "float32")
    assert set(threads) == {threading.main_thread()}
