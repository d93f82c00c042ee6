"""BLAS has one thread while ours compute, and its own number of threads afterwards, whatever happened in between."""

import asyncio
import gc
import linecache
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from numroberta.arithmetic import blas, schedule

ROOT = Path(__file__).parents[2]
OPENBLAS = blas.numpys_blas()
pytestmark = pytest.mark.skipif(not OPENBLAS or OPENBLAS.per_thread, reason="NumPy's BLAS has no such number")


@pytest.fixture(autouse=True)
def _its_own_number():
    """Two threads, on one core too, so that being held to one can be seen."""
    before = OPENBLAS.get_num_threads()
    OPENBLAS.set_num_threads(2)
    yield
    assert OPENBLAS.get_num_threads() == 2
    OPENBLAS.set_num_threads(before)


def threads_of_blas_during(enc):
    """The numbers that BLAS has while a text is encoded."""
    return set(enc.model.run([(np.array([0, 9, 2]),) * 2], lambda output: OPENBLAS.get_num_threads()))


def test_it_is_the_library_that_numpy_multiplies_with():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    numpys = [one for one in threadpoolctl.threadpool_info() if "numpy.libs" in one["filepath"]]
    assert {one["architecture"] for one in numpys} <= {OPENBLAS.core}
    with blas.one_blas_thread():
        numpys = [one for one in threadpoolctl.threadpool_info() if "numpy.libs" in one["filepath"]]
        assert {one["num_threads"] for one in numpys} <= {1}


def test_a_worker_thread_of_asyncio_is_served_like_the_main_thread(small):
    """threadpoolctl 3.8 lets only the thread that came first set the number: it is not asked."""
    assert threads_of_blas_during(small) == {1}
    assert asyncio.run(asyncio.to_thread(threads_of_blas_during, small)) == {1}


def test_the_last_of_several_users_gives_the_number_back(small):
    first_is_in, second_is_in, first_is_out = threading.Event(), threading.Event(), threading.Event()
    numbers = []

    def first():
        with blas.one_blas_thread():
            first_is_in.set()
            second_is_in.wait()
        first_is_out.set()

    def second():
        first_is_in.wait()
        with blas.one_blas_thread():
            second_is_in.set()
            first_is_out.wait()
            numbers.append(OPENBLAS.get_num_threads())

    users = [threading.Thread(target=user) for user in (first, second)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert numbers == [1]
    assert OPENBLAS.get_num_threads() == 2


def test_users_that_come_and_go_in_any_order_leave_the_number_as_it_was(small):
    wrong = []

    def user():
        for _ in range(50):
            if threads_of_blas_during(small) != {1}:
                wrong.append(user)

    users = [threading.Thread(target=user) for _ in range(8)]
    for one in users:
        one.start()
    for one in users:
        one.join()
    assert wrong == []


def test_a_number_that_the_user_has_set_is_given_back(small):
    OPENBLAS.set_num_threads(1)
    threads_of_blas_during(small)
    assert OPENBLAS.get_num_threads() == 1
    OPENBLAS.set_num_threads(2)


def test_an_exception_gives_the_number_back(small):
    with pytest.raises(ZeroDivisionError):
        small.model.run([(np.array([0, 9, 2]),) * 2], lambda output: 1 / 0)
    assert OPENBLAS.get_num_threads() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_child_forked_while_another_thread_computes_has_the_number_and_can_compute(small):
    inside, leave = threading.Event(), threading.Event()

    def use(output):
        inside.set()
        leave.wait()

    other = threading.Thread(target=small.model.run, args=([(np.array([0, 9, 2]),) * 2], use))
    other.start()
    inside.wait()
    child = os.fork()
    if not child:
        ok = OPENBLAS.get_num_threads() == 2 and threads_of_blas_during(small) == {1}
        texts = small.encode(["the sand"] * 3 + ["an inner thing " * 9] * 40)  # on several threads
        os._exit(0 if ok and np.isfinite(texts).all() and OPENBLAS.get_num_threads() == 2 else 1)
    leave.set()
    other.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def lines_run(function, stop_at=None):
    """Runs function; KeyboardInterrupt is raised at the line number `stop_at` of those that schedule and blas run.

    Not at the lines with `with`: Python takes no signal between entering a lock and the block, nor before leaving it.
    """
    files = {schedule.__file__, blas.__file__}
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if frame.f_code.co_filename not in files:
            return None
        if event == "line" and not linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith(
            "with"
        ):
            count += 1
            if count == stop_at:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("texts", [1, 4], ids=["a team", "in parallel"])
@pytest.mark.filterwarnings("ignore:Exception ignored in")  # Python drops an interrupt that comes to a destructor
def test_ctrl_c_at_any_line_gives_the_number_back_and_leaves_no_threads(texts):
    def job(share):
        return list(share.run(lambda part, scratch: part.start, [slice(0), slice(1), slice(2)]))

    def run():
        schedule.run([job] * texts, 3, "float32")

    run()
    threads = threading.active_count()  # with the team that is kept for the next call
    total = lines_run(run)
    interrupted = 0
    gc.freeze()  # what earlier tests left need not be looked at
    gc.disable()  # else garbage of one run is collected in the next, and the interrupt comes to its destructor
    try:
        for line in range(1, total + 1):
            try:
                lines_run(run, line)
            except KeyboardInterrupt:
                interrupted += 1
            assert OPENBLAS.get_num_threads() == 2, line
            gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()
    assert interrupted > total / 2  # where threads take each other's work, the lines differ from run to run
    run()
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "numroberta" and threading.active_count() > threads:
            thread.join(1)
    assert threading.active_count() <= threads


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timer")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may come in somebody's callback
def test_ctrl_c_at_any_moment_leaves_nothing_behind(small):
    def interrupt(*_):
        raise KeyboardInterrupt

    threads_of_blas_during(small)
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupts = 0
    try:
        for i in range(150):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 + 2e-5 * i)
                small.encode(["the sand", "an inner thing"] * 3)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except (KeyboardInterrupt, RuntimeError):  # RuntimeError: Python's own Thread.start, interrupted
                interrupts += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupts
    assert threads_of_blas_during(small) == {1}
    assert OPENBLAS.get_num_threads() == 2
    assert sum(thread.name == "numroberta" for thread in threading.enumerate()) < 20


def test_without_threadpoolctl_deterministic_bits_are_the_same_whatever_blas_is_told(small_folder):
    """They depend on how BLAS cuts a product for its threads, and so on how many it has."""
    code = (
        "import sys; sys.modules['threadpoolctl'] = None; import numroberta; "
        f"enc = numroberta.load({str(small_folder)!r}, deterministic=True); enc.max_length = 64; "
        "print(enc.encode('the sand and an inner thing ' * 12).tobytes().hex())"
    )
    bits = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            cwd=ROOT,
            env={**os.environ, "OPENBLAS_NUM_THREADS": number},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in ("1", "2")
    }
    assert len(bits) == 1


@pytest.mark.parametrize(("core", "products"), [("SkylakeX", 10**6), ("Haswell", 0), ("", 0)])
def test_small_products_are_known_of_openblas_with_avx512_alone(monkeypatch, core, products):
    monkeypatch.setattr(blas, "numpys_blas", lambda: OPENBLAS._replace(core=core))
    assert blas.small_products.__wrapped__() == products


def test_a_blas_on_openmp_is_held_in_each_thread_that_computes(monkeypatch):
    """A stand-in for such a build: every thread has a number of its own, 2 at first."""
    own = threading.local()
    openmp = blas.Blas(
        lambda: getattr(own, "number", 2), lambda number: setattr(own, "number", number), True, "Haswell"
    )
    monkeypatch.setattr(blas, "numpys_blas", lambda: openmp)
    monkeypatch.setattr(schedule, "_idle", {})
    parts = [slice(0), slice(1), slice(2)]
    job_results = schedule.run(
        [lambda share: list(share.run(lambda part, scratch: openmp.get_num_threads(), parts))], 3, "float32"
    )
    assert job_results == [[1, 1, 1]]
    assert openmp.get_num_threads() == 2


def test_another_blas_is_left_to_threadpoolctl_and_without_it_to_itself(monkeypatch):
    threadpoolctl = pytest.importorskip("threadpoolctl")
    monkeypatch.setattr(blas, "_libraries", lambda: iter(()))

    class Library:
        num_threads = 4

        def set_num_threads(self, number):
            self.num_threads = number

    library = Library()
    chosen = type("Chosen", (), {"lib_controllers": [library]})
    monkeypatch.setattr(
        threadpoolctl, "ThreadpoolController", type("Fake", (), {"select": lambda self, user_api: chosen})
    )
    mkl = blas.numpys_blas.__wrapped__()
    monkeypatch.setattr(blas, "numpys_blas", lambda: mkl)
    with blas.one_blas_thread():
        assert library.num_threads == 1
    assert library.num_threads == 4
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert blas._known_to_threadpoolctl() is None
