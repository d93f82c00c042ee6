"""What several test files need: data beside the project, a full-size model, a small one, and the built-in one."""

import os
import shutil
from pathlib import Path

import pytest
import random_model
import seeded
from hypothesis import HealthCheck, settings

import numroberta

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
