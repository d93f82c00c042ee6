"""`numroberta finetune`: every option reaches the call, and an interruption says how to go on."""

import pytest

from numroberta import cli, training

OPTIONS = {
    "--model": ("somewhere", "model"),
    "--revision": ("main", "revision"),
    "--eval": ("eval.csv", "eval_data"),
    "--epochs": ("7", "epochs"),
    "--batch-size": ("5", "batch_size"),
    "--learning-rate": ("0.25", "learning_rate"),
    "--dropout": ("0.5", "dropout"),
    "--weight-decay": ("0.125", "weight_decay"),
    "--seed": ("11", "seed"),
    "--patience": ("2", "patience"),
    "--max-length": ("33", "max_length"),
    "--freeze": ("4", "frozen"),
    "--dtype": ("float16", "dtype"),
    "--threads": ("3", "num_threads"),
    "--text": ("words", "text"),
}
SWITCHES = {"--head-only": "head_only", "--checkpointing": "checkpointing", "--resume": "resume"}


@pytest.fixture
def called(monkeypatch):
    """What `numroberta.training.finetune` was called with."""
    calls = {}

    def finetune(task, data, out, **options):
        calls.update(options, task=task, data=data, out=out)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "finetune", finetune, raising=False)
    return calls


@pytest.mark.parametrize("task", training.TASKS)
def test_every_option_reaches_the_call(called, task):
    given = [word for option, (value, _) in OPTIONS.items() for word in (option, value)]
    assert cli.main(["finetune", task, "--data", "d.csv", "--out", "o", *given, *SWITCHES]) == 130
    assert called["task"] == task
    for option, (value, name) in OPTIONS.items():
        assert str(called[name]) == value, option
    assert all(called[name] is True for name in SWITCHES.values())


def test_a_task_has_the_columns_that_it_reads(called):
    options = ["--data", "d.jsonl", "--out", "o"]
    cli.main(["finetune", "answer", *options])
    assert (called["text"], called["pair"], called["label"]) == ("question", "context", "answer")
    cli.main(["finetune", "embed", *options, "--pair", "b"])
    assert (called["text"], called["pair"], called["label"]) == ("text", "b", None)
    cli.main(["finetune", "classify", *options, "--labels-are", "several", "--names", "x", "y"])
    assert (called["problem_type"], called["label_names"]) == ("multi_label_classification", ["x", "y"])


def test_an_interruption_says_where_what_was_learnt_is(called, tmp_path, capsys):
    (tmp_path / "out.training").mkdir()
    assert cli.main(["finetune", "mlm", "--data", "d.txt", "--out", str(tmp_path / "out")]) == 130
    assert (
        f"what was learnt is in {tmp_path / 'out.training'}: the same command with --resume" in capsys.readouterr().err
    )
