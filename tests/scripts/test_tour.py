"""The tour, `scripts/tour.ipynb`, runs from top to bottom; its own assertions are the proof of what it says."""

import ast
import json
import os
import re

import pytest
from conftest import ROOT

from numroberta.parity import load_recording

NOTEBOOK = ROOT / "scripts" / "tour.ipynb"


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def printed(cell):
    return "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")


def seconds_of_children():
    """Of the processor, which a busy machine does not stretch as it does the clock's."""
    used = os.times()
    return used.children_user + used.children_system


@pytest.fixture(scope="module")
def stored():
    return json.loads(NOTEBOOK.read_text("utf-8"))


def test_it_is_stored_as_it_ran_fifteen_cells_in_order(stored):
    assert [cell["execution_count"] for cell in code_cells(stored)] == list(range(1, 16))
    assert all(cell["outputs"] for cell in code_cells(stored))
    assert NOTEBOOK.stat().st_size < 300_000


def test_every_step_from_the_ids_on_prints_a_shape(stored):
    for cell in [*code_cells(stored)[2:11], *code_cells(stored)[12:]]:
        assert re.search(r"\(\d+,[\d, ]*\)", printed(cell)), cell["source"]


def test_pytorchs_numbers_in_it_are_the_recorded_ones(stored):
    (cell,) = (source for cell in code_cells(stored) if (source := "".join(cell["source"])).startswith("theirs = "))
    (assigned, *_) = ast.parse(cell).body
    told = ast.literal_eval(assigned.value)
    recorded = load_recording(ROOT / "tests" / "reference" / "tiny.safetensors").tensors
    assert told == {name: recorded[name][0, 4, :3].tolist() for name in told}  # of "Hello world", its fifth token
    assert len(told) == 7


def test_the_tour_runs_offline_and_far_from_the_clone_in_under_a_minute_and_every_assertion_in_it_holds(
    monkeypatch, tmp_path
):
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat (pip install '.[notebook]')")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient (pip install '.[notebook]')")
    for package in ("ipykernel", "matplotlib"):
        pytest.importorskip(package, reason=f"needs {package} (pip install '.[notebook]')")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    began = seconds_of_children()
    settings = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=settings).execute()
    assert seconds_of_children() - began < 60  # 12 s
    errors = [output for cell in code_cells(notebook) for output in cell["outputs"] if output["output_type"] == "error"]
    assert errors == []
