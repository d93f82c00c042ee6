"""What several test files need: data beside the project, a full-size model, a small one, and the built-in one."""

import os
import shutil
from pathlib import Path

import pytest
import random_model
import seeded
from hypothesis import HealthCheck, settings

import numroberta
from numroberta.arithmetic import heads

# Machines differ in speed, so nothing has a deadline; CI draws the same examples every time.
settings.register_profile(
    "numroberta", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("numroberta")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared():
    """The folder of data beside the project."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder ../shared (corpora, the tokenizer of roberta-base), which is not here")
    return folder


@pytest.fixture(scope="session")
def full_size_folder(tmp_path_factory):
    """DistilRoBERTa's geometry with weights from `seeded.py` and a small tokenizer; removed at the end."""
    folder = seeded.write(tmp_path_factory.mktemp("full-size"))
    random_model.write_tokenizer(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory):
    """A random model of 3 layers and 24 dimensions with a tokenizer, for 64 tokens at most."""
    return random_model.write(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def small(small_folder):
    return numroberta.load(small_folder)


@pytest.fixture(scope="session")
def tiny():
    """The built-in model."""
    return numroberta.load("tiny")


@pytest.fixture(scope="session")
def masked(tmp_path_factory):
    """The folder of a small random model that fills masks."""
    return random_model.write_with_head(tmp_path_factory.mktemp("masked"), heads.MASKED_LM)


@pytest.fixture(scope="session")
def sorter(tmp_path_factory):
    """One that classifies."""
    return random_model.write_with_head(tmp_path_factory.mktemp("sorter"), heads.SEQUENCE, id2label=random_model.LABELS)


@pytest.fixture(scope="session")
def tagger(tmp_path_factory):
    """One that tags."""
    return random_model.write_with_head(tmp_path_factory.mktemp("tagger"), heads.TOKEN, id2label=random_model.TAGS)


@pytest.fixture(scope="session")
def reader(tmp_path_factory):
    """One that answers."""
    return random_model.write_with_head(tmp_path_factory.mktemp("reader"), heads.SPAN)


@pytest.fixture(scope="session")
def model_with(small, masked, sorter, tagger, reader):
    """The small model that has the head which a method of TextEncoder needs."""
    loaded = {
        "fill_mask": numroberta.load(masked),
        "classify": numroberta.load(sorter),
        "tag": numroberta.load(tagger),
        "answer": numroberta.load(reader),
    }
    return lambda method: loaded.get(method, small)
