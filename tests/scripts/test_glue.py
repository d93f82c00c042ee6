"""GLUE's files, metrics and probe."""

import os
import re
import subprocess
import sys

import glue
import numpy as np
import pytest
import random_model
from conftest import ROOT
from hypothesis import given, strategies as st

import numroberta
from numroberta.arithmetic import heads
from numroberta.training.metrics import ranks

LABELS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=60)
SCORES = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=60)


# --- Metrics -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(LABELS)
def test_label_metrics_equal_scikit_learns(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    gold, found = np.array(pairs).T
    assert glue.accuracy(gold, found) == pytest.approx(metrics.accuracy_score(gold, found))
    assert glue.f1(gold, found) == pytest.approx(metrics.f1_score(gold, found, zero_division=0))
    assert glue.matthews(gold, found) == pytest.approx(metrics.matthews_corrcoef(gold, found))


@given(SCORES)
def test_correlations_equal_scipys(pairs):
    stats = pytest.importorskip("scipy.stats")
    gold, found = np.array(pairs, float).T
    np.testing.assert_array_equal(ranks(gold), stats.rankdata(gold))
    if np.ptp(gold) and np.ptp(found):
        assert glue.pearson(gold, found) == pytest.approx(stats.pearsonr(gold, found).statistic)
        assert glue.spearman(gold, found) == pytest.approx(stats.spearmanr(gold, found).statistic)


def test_a_constant_prediction_correlates_with_nothing():
    assert glue.pearson(np.array([1.0, 2.0]), np.array([3.0, 3.0])) == 0
    assert glue.matthews(np.array([0, 1]), np.array([1, 1])) == 0


# --- Files -------------------------------------------------------------------------------------------------------

MNLI = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse"
    "\tsentence1\tsentence2\tlabel1\tgold_label\n"
    "0\t1\t1e\tslate\t( a )\t( b )\t(R a)\t(R b)\tA.\tB.\tneutral\tneutral\n"
)
FILES = {  # the first lines of each file as it is distributed, texts shortened
    "sst2": (
        "sentence\tlabel\nhide new secretions \t0\ncontains no wit \t1\n",
        [("hide new secretions ",), ("contains no wit ",)],
        [0, 1],
    ),
    "cola": (
        "gj04\t1\t\tOur friends won't buy it.\ngj04\t0\t*\tThey drank it \"dry.\n",
        [("Our friends won't buy it.",), ('They drank it "dry.',)],
        [1, 0],
    ),
    "mrpc": (
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t70\t71\tHe said.\tSaid he.\n",
        [("He said.", "Said he.")],
        [1],
    ),
    "stsb": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        "0\tmain\tMSRvid\t2012\t1\tnone\tnone\tA plane.\tAn air plane.\t4.800\n",
        [("A plane.", "An air plane.")],
        [4.8],
    ),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tHow?\tWhy?\t0\n", [("How?", "Why?")], [0]),
    "mnli": (MNLI, [("A.", "B.")], [1]),
    "qnli": ("index\tquestion\tsentence\tlabel\n0\tWhen?\tThen.\tnot_entailment\n", [("When?", "Then.")], [1]),
    "rte": ("index\tsentence1\tsentence2\tlabel\r\n0\tNo.\tYes.\tentailment\r\n", [("No.", "Yes.")], [0]),
}


@pytest.mark.parametrize("task", glue.TASKS)
def test_each_tasks_file_is_read_as_distributed(tmp_path, task):
    text, texts, labels = FILES[task]
    path = tmp_path / "dev.tsv"
    path.write_text(text, "utf-8", newline="")
    rows = glue.read_rows(path, task)
    assert rows.texts == texts
    assert rows.labels.tolist() == labels


def test_a_real_file_is_read_to_its_end(shared):
    rows = glue.read_rows(shared / "glue" / "SST-2" / "train.tsv", "sst2")
    assert len(rows.texts) == 60_614
    assert set(rows.labels) == {0, 1}


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        (
            "sst2",
            "sentence\tlabel\nfine \t1\nunfinished\n",
            r"line 3 has 1 columns, expected 2: 'unfinished'; complete it",
        ),
        ("sst2", "sentence\tlabel\na\tb\t1\n", r"line 2 has 3 columns, expected 2: 'a\\tb\\t1'"),
        (
            "sst2",
            "sentence\tlabel\nfine \t2\n",
            r"line 2 has the label '2', expected one of negative, positive, or 0 to 1",
        ),
        ("mnli", MNLI.replace("neutral\n", "-\n"), "line 2 has the label '-', expected one of entailment"),
        ("stsb", FILES["stsb"][0].replace("4.800", "high"), "line 2 has the label 'high', expected a number"),
        ("sst2", "index\tsentence\n0\tof the test set\n", "has no column 'label', found index, sentence: is it sst2's"),
        ("sst2", "sentence\tlabel\n", "has no rows"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(tmp_path, task, text, message):
    path = tmp_path / "dev.tsv"
    path.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=message):
        glue.read_rows(path, task)


# --- Predictions -------------------------------------------------------------------------------------------------


def checkpoint(path, labels):
    return random_model.write(path, heads.SEQUENCE, id2label={str(i): label for i, label in enumerate(labels)})


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["LABEL_0", "LABEL_1", "LABEL_2"], [0, 1, 2]),
        (["CONTRADICTION", "NEUTRAL", "ENTAILMENT"], [2, 1, 0]),
    ],
)
def test_predictions_are_the_heads_in_glues_order(tmp_path, labels, order):
    model = numroberta.load(checkpoint(tmp_path, labels))
    texts = [(chr(33 + i) * (1 + i % 7), chr(122 - i)) for i in range(40)]
    found = glue.predict(model, "mnli", texts, show=False)
    best = [labels.index(answers[0]["label"]) for answers in model.classify(texts)]
    assert found.tolist() == [order[i] for i in best]
    assert (found.tolist() == best) == (order == [0, 1, 2])


def test_the_command_prints_the_metrics_of_a_fine_tuned_head(tmp_path, capsys):
    folder = checkpoint(tmp_path / "model", ["negative", "positive"])
    texts = [f"word number {i} and" for i in range(30)]
    found = [answers[0]["label"] for answers in numroberta.load(folder).classify(texts)]
    right = [int(label == "positive") for label in found]
    right[:6] = [1 - label for label in right[:6]]  # six labels that the model does not give
    path = tmp_path / "dev.tsv"
    path.write_text("sentence\tlabel\n" + "".join(f"{t}\t{r}\n" for t, r in zip(texts, right, strict=True)))
    assert glue.main(["--task", "sst2", "--model", str(folder), "--data", str(path)]) == 0
    assert "accuracy  0.8000" in capsys.readouterr().out


def test_a_probe_finds_what_is_linear_in_the_vectors():
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((2000, 8))
    gold, found = glue.probe(vectors, (vectors @ np.arange(8) > 0).astype(float), regression=False)
    assert len(gold) == 200
    assert glue.accuracy(gold, found) > 0.95
    gold, found = glue.probe(vectors, vectors @ np.arange(8), regression=True)
    assert glue.pearson(gold, found) > 0.99


def test_features_of_pairs_are_both_vectors_and_how_they_differ(small):
    found = glue.features(small, [("a b", "c"), ("d", "e f")], show=False)
    u, v = small.encode(["a b", "d"]), small.encode(["c", "e f"])
    np.testing.assert_allclose(found, np.hstack([u, v, np.abs(u - v), u * v]), rtol=0, atol=1e-5)


def test_errors_are_one_line(tmp_path, capsys):
    assert glue.main(["--task", "rte", "--data", str(tmp_path / "no.tsv")]) == 2
    assert capsys.readouterr().err.startswith("glue.py: ")
    (tmp_path / "dev.tsv").write_text("index\tsentence1\tsentence2\tlabel\n0\tA\tB\tentailment\n")
    assert glue.main(["--task", "rte", "--data", str(tmp_path / "dev.tsv")]) == 2
    assert "tiny has no head for sequence classification" in capsys.readouterr().err


@pytest.mark.slow
def test_a_task_runs_from_training_to_its_metric_without_pytorch(tmp_path):
    """Pairs in RTE's form: fine-tuned by the command, measured by the script on another file."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 160), ("dev", 60)):
        rows = ["index\tsentence1\tsentence2\tlabel"]
        for i, same in enumerate(rng.integers(0, 2, count)):
            hypothesis = "The sun came out." if same else "It was a dull and grey day."
            rows.append(f"{i}\tIt rained in town {i}.\t{hypothesis}\t{'entailment' if same else 'not_entailment'}")
        (tmp_path / f"{name}.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    program = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None  # an import of them fails
import glue
from numroberta.cli import main
columns = ["--text", "sentence1", "--pair", "sentence2"]
plan = ["--epochs", "3", "--learning-rate", "5e-4", "--batch-size", "16"]
assert not main(["finetune", "classify", "--data", "train.tsv", "--eval", "dev.tsv", "--out", "rte", *columns, *plan])
assert not glue.main(["--task", "rte", "--model", "rte", "--data", "dev.tsv"])
"""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "scripts" / "evaluation")))}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    trained = re.search(r"60 held-out texts: accuracy (\d\.\d+)", done.stdout)
    measured = re.search(r"^rte  rte  fine-tuned head  60 rows\n  accuracy  (\d\.\d+)$", done.stdout, re.MULTILINE)
    assert trained[1] == measured[1], done.stdout
    assert float(measured[1]) > 0.9
