"""Every script starts, says what it needs, and is listed; the small ones do their work."""

import importlib.util
import re
import runpy
import sys

import numpy as np
import pytest
from conftest import ROOT

SCRIPTS = sorted((ROOT / "scripts").rglob("*.py"))
NOT_REQUIRED = ("torch", "transformers", "sentence_transformers", "onnxruntime", "onnx", "playwright", "pyspark")


def test_every_script_has_its_line_in_the_table():
    table = (ROOT / "scripts" / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| `([\w./]+)` \|", table, re.MULTILINE)
    there = [*SCRIPTS, *(ROOT / "scripts").rglob("*.ipynb"), *(ROOT / "scripts").rglob("Containerfile")]
    assert sorted(listed) == sorted(path.relative_to(ROOT / "scripts").as_posix() for path in there)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_without_pytorch_helps_or_says_what_to_install(path, monkeypatch, capsys):
    for name in NOT_REQUIRED:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "parity"))
    if path.name in ("tiny_data.py", "tiny_student.py", "tiny_teacher.py"):
        assert runpy.run_path(str(path))["__doc__"]  # what other scripts import
        return
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    if ended.value.code in (0, None):
        assert "usage: " in capsys.readouterr().out
    else:
        assert re.fullmatch(r"this needs [\w.]+: run `pip install '\.\[\w+\]'( \w+)?`", str(ended.value.code))


@pytest.mark.parametrize("name", ["benchmarks/benchmark.py", "benchmarks/training_step.py", "reference/record.py"])
def test_a_measurement_beside_pytorch_says_that_it_is_missing_before_it_begins(name, monkeypatch):
    monkeypatch.setattr(sys, "argv", [name])
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in NOT_REQUIRED else find_spec(name))
    with pytest.raises(SystemExit, match=r"this needs torch and .*: run `pip install '\.\[parity\]'`"):
        runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")


def test_callers_in_threads_get_what_the_main_thread_gets(tiny):
    import callers

    lines = ["Hello world", "the sea", "a house by the river"] * 4
    main, calls, other, eight, _ = (run() for run in callers.callers(tiny, lines).values())
    np.testing.assert_allclose(other, main, rtol=0, atol=1e-6)  # measured: 0; the last bits may depend on threads
    order = [i for share in range(callers.CALLERS) for i in range(share, len(lines), callers.CALLERS)]
    for shares in (calls, eight):
        np.testing.assert_allclose(np.concatenate(shares), main[order], rtol=0, atol=1e-6)  # measured: 1.5e-7


def test_tokenizer_rate_counts_the_same_tokens_with_both_backends():
    import tokenizer_rate

    figures = tokenizer_rate.rates(ROOT / "numroberta" / "tiny", ["Hello world", "the sea"] * 5)
    assert figures["python"]["tokens"] == figures["tokenizers"]["tokens"] == 50


def test_evaluate_ranks_as_people_do(tiny, tmp_path):
    import evaluate

    rows = [
        (5.0, "A man plays a guitar.", "A man is playing a guitar."),
        (0.0, "A dog runs.", "Prices fell on Monday."),
    ]
    lines = ["\t".join(["", "", "", "", str(score), left, right]) for score, left, right in rows]
    (tmp_path / "sts.csv").write_text("\n".join(lines))
    assert evaluate.sts_spearman(tiny, tmp_path / "sts.csv") == pytest.approx(1)
    top1, top5, count = evaluate.masked_accuracy(tiny, ["The cat sat on the mat and slept."], seed=1)
    assert 0 <= top1 <= top5 <= 1
    assert count > 0


def test_every_fault_of_the_list_can_still_be_planted():
    import mutate

    for fault in mutate.read_faults(mutate.FAULTS):
        fault.planted((ROOT / fault.file).read_text("utf-8"))
        assert fault.tests


@pytest.mark.slow
def test_mutate_says_which_faults_no_test_catches(tmp_path):
    import mutate

    (tmp_path / "code.py").write_text("def add(a, b):\n    return a + b\n")
    (tmp_path / "test_code.py").write_text(
        "import runpy\n\ndef test_two():\n    assert runpy.run_path('code.py')['add'](2, 2) == 4\n"
    )
    shared = {"file": "code.py", "text": "a + b", "promise": "sums", "tests": ["test_code.py"]}
    assert not mutate.survives(mutate.Fault(name="1", fault="a - b", **shared), tmp_path)
    assert mutate.survives(mutate.Fault(name="2", fault="a * b", **shared), tmp_path)
    assert (tmp_path / "code.py").read_text() == "def add(a, b):\n    return a + b\n"
    with pytest.raises(ValueError, match="2 times, expected once"):
        mutate.Fault(name="3", fault="x", **shared | {"text": "a"}).planted("a + a")
    with pytest.raises(ValueError, match="no Python with the fault"):
        mutate.Fault(name="4", fault="a +", **shared).planted("a + b")
    (tmp_path / "code.py").write_text("def add(a, b):\n    return a + b + 1\n")
    assert mutate.failure(tmp_path, ["test_code.py"]).startswith("FAILED test_code.py::test_two")
