"""A TextEncoder goes where Python objects go: pickled, copied, to processes, through a fork."""

import copy
import multiprocessing
import os
import pickle
import shutil
import threading
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

import numroberta
from numroberta import CheckpointError, computed_once

TEXTS = ["A man is playing a guitar.", "", "Die Straße – naïve café", "the sand " * 40]
OPTIONS = {"dtype": "float64", "num_threads": 1, "deterministic": True, "reproducible": True, "low_memory": True}


@pytest.mark.parametrize("travel", [lambda enc: pickle.loads(pickle.dumps(enc)), copy.copy, copy.deepcopy])
def test_what_arrives_gives_the_same_bits_with_the_same_options(tiny, travel):
    for there in (tiny, numroberta.load("tiny", **OPTIONS)):
        there.max_seq_length = 40
        with pytest.warns(UserWarning, match="more than 40 tokens"):
            wanted = there.encode(TEXTS)
        arrived = travel(there)
        there.max_seq_length = there.config.max_length
        with pytest.warns(UserWarning, match="more than 40 tokens"):
            np.testing.assert_array_equal(arrived.encode(TEXTS), wanted)
        assert arrived is not there
        assert arrived.model.checkpoint is arrived.checkpoint
        for option in OPTIONS:
            assert getattr(arrived.model, option) == getattr(there.model, option)


def test_the_weights_stay_at_home(tiny):
    assert len(pickle.dumps(tiny)) < 1000


def test_where_no_number_of_threads_was_given_it_takes_the_cores_of_the_place(monkeypatch):
    sent = pickle.dumps(numroberta.load("tiny")), pickle.dumps(numroberta.load("tiny", num_threads=2))
    monkeypatch.setattr("numroberta.arithmetic.schedule.available_cores", lambda: 5)
    assert [pickle.loads(data).model.num_threads for data in sent] == [5, 2]


def test_it_arrives_from_a_relative_folder_in_another_directory(small_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(small_folder.parent)
    encoder = numroberta.load(small_folder.name)
    sent = pickle.dumps(encoder)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(pickle.loads(sent).encode("the sand"), encoder.encode("the sand"))


def test_a_model_of_the_hub_travels_with_its_commit(small_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    model = tmp_path / "models--someone--something"
    shutil.copytree(small_folder, model / "snapshots" / ("a" * 40))
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("a" * 40)
    sent = pickle.dumps(numroberta.load("someone/something"))
    (model / "refs" / "main").write_text("b" * 40)  # the hub's model has changed
    assert pickle.loads(sent).checkpoint.origin == ("someone/something", "a" * 40)


def test_a_folder_that_is_gone_says_so(small_folder, tmp_path):
    shutil.copytree(small_folder, tmp_path / "model")
    sent = pickle.dumps(numroberta.load(tmp_path / "model"))
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(
        CheckpointError, match=r"where the copy of a model arrived: the folder '.*model' does not exist"
    ):
        pickle.loads(sent)


def test_its_repr_says_what_it_is(tiny):
    assert repr(numroberta.load("tiny", num_threads=1, low_memory=True)) == (
        "<TextEncoder 'tiny': 6 layers × 12 heads, 192 dimensions, texts of up to 512 tokens, float32, 1 thread, "
        "low_memory>"
    )


def encoded(encoder, text):
    return encoder.encode(text)


@pytest.mark.parametrize("method", sorted({"fork", "spawn"} & {*multiprocessing.get_all_start_methods()}))
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_processes_take_it_as_an_argument(method):
    encoder = numroberta.load("tiny", num_threads=1, deterministic=True)
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        vectors = list(pool.map(encoded, [encoder] * 2, TEXTS[:2], timeout=60))
    np.testing.assert_array_equal(vectors, encoder.encode(TEXTS[:2]))


def test_joblib_takes_it():
    joblib = pytest.importorskip("joblib")
    encoder = numroberta.load("tiny", num_threads=1, deterministic=True)
    vectors = joblib.Parallel(n_jobs=2)(joblib.delayed(encoder.encode)(text) for text in TEXTS[:3])
    np.testing.assert_array_equal(vectors, encoder.encode(TEXTS[:3]))


class Slow:
    entered, leave = threading.Event(), threading.Event()

    @computed_once
    def value(self):
        self.entered.set()
        self.leave.wait(60)
        return 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_child_does_not_wait_for_what_another_thread_of_its_parent_was_computing():
    other = threading.Thread(target=lambda: Slow().value)
    other.start()
    Slow.entered.wait()
    child = os.fork()
    if not child:
        Slow.leave = threading.Event()
        Slow.leave.set()
        threading.Timer(30, os._exit, [1]).start()
        os._exit(0 if Slow().value == 1 else 2)
    Slow.leave.set()
    other.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
