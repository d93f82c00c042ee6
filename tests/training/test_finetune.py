"""A file of labelled texts becomes a folder that everyone loads; a run that is killed ends as one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import random_model
from conftest import ROOT

import numroberta
from numroberta import cli
from numroberta.checkpoint import WORDS, CheckpointError, open_checkpoint
from numroberta.training import (
    Classify,
    Diverged,
    Example,
    Plan,
    Stored,
    Trainer,
    finetune,
    finetuning,
    folder,
    loss_and_gradients,
)
from numroberta.training.loop import fit
from numroberta.training.tasks import Answer, Embed, MaskedLM, Tag

GOOD, BAD = ["warm", "funny", "great"], ["dull", "cold", "awful"]


def reviews(count, seed=0):
    """Texts of a few words, one of which says whether they are good."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        label = rng.randrange(2)
        words = [rng.choice(["the", "film", "was", "and", "so", "plot"]) for _ in range(rng.randrange(2, 8))]
        words.insert(rng.randrange(len(words)), rng.choice((BAD, GOOD)[label]))
        rows.append((" ".join(words), label))
    return rows


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A small random checkpoint."""
    return random_model.write(tmp_path_factory.mktemp("base"))


def write_csv(path, rows, header="text,label"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", "utf-8")
    return path


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


OPTIONS = {"epochs": 4, "batch_size": 16, "learning_rate": 5e-4}  # `tiny` learns such things in a few seconds


@pytest.mark.slow
def test_a_csv_becomes_a_classifier_that_knows_the_words(tmp_path):
    data = write_csv(tmp_path / "reviews.csv", reviews(200))
    result = finetune("classify", data, tmp_path / "out", label_names=["bad", "good"], **OPTIONS)
    assert result.scores["accuracy"] >= 0.9
    encoder = numroberta.load(tmp_path / "out")
    assert encoder.classify("the film was great")[0]["label"] == "good"
    assert encoder.classify("so awful and the plot")[0]["label"] == "bad"
    assert not (tmp_path / "out.training").exists()
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert f"| accuracy | {result.scores['accuracy']:.4f} |" in card
    assert '    numroberta classify "A text." --model out\n' in card
    assert "    numroberta classify - --model out < texts.txt\n" in card


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_transformers_loads_the_folder_and_gives_the_same_scores(tmp_path, dtype):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    data = write_csv(tmp_path / "reviews.csv", reviews(100))
    finetune("classify", data, tmp_path / "out", dtype=dtype, **OPTIONS | {"epochs": 1})
    texts = ["the film was great", "dull"]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", dtype="float32")
    pipeline = transformers.pipeline(
        "text-classification",
        model=model,
        tokenizer=transformers.AutoTokenizer.from_pretrained(tmp_path / "out"),
        top_k=None,
    )
    for mine, their in zip(numroberta.load(tmp_path / "out").classify(texts), pipeline(texts), strict=True):
        assert [one["label"] for one in mine] == [one["label"] for one in their]
        assert [one["score"] for one in mine] == pytest.approx([one["score"] for one in their], abs=1e-5)


@pytest.mark.slow
def test_a_pair_has_a_number(tmp_path):
    rows = [{"a": text, "b": "the film", "score": label + 0.5} for text, label in reviews(200)]
    data = write_jsonl(tmp_path / "pairs.jsonl", rows)
    columns = {"text": "a", "pair": "b", "label": "score", "problem_type": "regression"}
    result = finetune("classify", data, tmp_path / "out", **columns, **OPTIONS)
    assert result.scores["pearson"] >= 0.5
    encoder = numroberta.load(tmp_path / "out")
    answer = encoder.classify(("the film was great", "the film"))
    assert answer[0]["score"] > encoder.classify(("dull film", "the film"))[0]["score"]


@pytest.mark.slow
def test_a_text_has_several_labels(tmp_path):
    rows = [
        (text, "good;film" if label and "film" in text else "good" if label else "bad") for text, label in reviews(200)
    ]
    data = write_csv(tmp_path / "several.csv", rows)
    result = finetune("classify", data, tmp_path / "out", problem_type="multi_label_classification", **OPTIONS)
    assert result.scores["f1"] >= 0.6
    encoder = numroberta.load(tmp_path / "out")
    good, bad = (
        {one["label"]: one["score"] for one in encoder.classify(f"the film was {word}")} for word in ("great", "awful")
    )
    assert good["good"] > bad["good"]
    assert bad["bad"] > good["bad"]


@pytest.mark.slow
def test_words_get_tags(tmp_path):
    rows = [
        {"text": text, "label": ["B-NICE" if word in GOOD else "O" for word in text.split()]}
        for text, _ in reviews(200)
    ]
    data = write_jsonl(tmp_path / "tags.jsonl", rows)
    result = finetune("tag", data, tmp_path / "out", **OPTIONS | {"epochs": 12})  # few words have a tag
    assert result.scores["f1"] >= 0.8  # measured: 0.89
    (entity,) = numroberta.load(tmp_path / "out").tag("the film was great", aggregation="simple")
    assert (entity["entity_group"], entity["start"], entity["end"]) == ("NICE", 13, 18)


@pytest.mark.slow
def test_questions_get_answers(tmp_path):
    rows = [
        {"question": "how", "context": text, "answer": next(word for word in text.split() if word in GOOD + BAD)}
        for text, _ in reviews(200)
    ]
    data = write_jsonl(tmp_path / "squad.jsonl", rows)
    columns = {"text": "question", "pair": "context", "label": "answer"}
    result = finetune("answer", data, tmp_path / "out", **columns, **OPTIONS)
    assert result.scores["exact match"] >= 0.8
    assert numroberta.load(tmp_path / "out").answer("how", "the film was great and so")["answer"] == "great"


@pytest.mark.slow
def test_masked_words_are_learnt_from_plain_text(tmp_path):
    data = tmp_path / "lines.txt"
    data.write_text("\n".join(text for text, _ in reviews(200)), "utf-8")
    first = finetune("mlm", data, tmp_path / "one", **OPTIONS | {"epochs": 1, "learning_rate": 1e-9})
    result = finetune("mlm", data, tmp_path / "out", **OPTIONS)
    assert result.scores["log likelihood"] > first.scores["log likelihood"] + 0.5
    assert numroberta.load(tmp_path / "out").fill_mask("the film<mask>")[0]["score"] > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("scored", [True, False])
def test_vectors_learn_which_texts_are_alike(tmp_path, scored):
    rng, others = random.Random(0), reviews(50, seed=1)
    rows = []
    for text, label in reviews(100):
        other = rng.choice([one for one, own in others if own == label])
        rows.append({"a": text, "b": other if scored and rng.random() < 0.5 else text.upper(), "s": 1.0})
        if scored:
            wrong = rng.choice([one for one, own in others if own != label])
            rows.append({"a": text, "b": wrong, "s": 0.0})
    data = write_jsonl(tmp_path / "pairs.jsonl", rows)
    columns = {"text": "a", "pair": "b", "label": "s" if scored else None}
    result = finetune("embed", data, tmp_path / "out", **columns, **OPTIONS | {"epochs": 12})
    assert next(iter(result.scores.values())) >= 0.3
    encoder = numroberta.load(tmp_path / "out")
    assert encoder.sentence.pooling == ("mean",)
    assert encoder.encode("the film").shape == (192,)


@pytest.mark.parity
def test_sentence_transformers_loads_the_folder(tmp_path):
    library = pytest.importorskip("sentence_transformers")
    data = write_jsonl(tmp_path / "pairs.jsonl", [{"a": text, "b": text} for text, _ in reviews(50)])
    columns = {"text": "a", "pair": "b", "label": None}
    finetune("embed", data, tmp_path / "out", **columns, **OPTIONS | {"epochs": 1})
    texts = ["the film was great", "dull"]
    theirs = library.SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(texts)
    np.testing.assert_allclose(
        numroberta.load(tmp_path / "out").encode(texts), theirs, rtol=0, atol=4e-6
    )  # measured: 1.1e-6


# --- Interrupted ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_that_is_killed_ends_in_the_same_bits(tmp_path, base):
    data = write_csv(tmp_path / "reviews.csv", reviews(300))
    arguments = ["finetune", "classify", "--data", str(data), "--model", str(base), "--epochs", "3", "--threads", "2"]
    arguments += ["--learning-rate", "1e-3", "--batch-size", "8"]
    assert cli.main([*arguments, "--out", str(tmp_path / "whole")]) == 0

    out = tmp_path / "killed"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "numroberta", *arguments, "--out", str(out)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("epoch 1"):
            break
    state = tmp_path / "killed.training" / "state.safetensors"
    while not state.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not out.exists()
    assert cli.main([*arguments, "--out", str(out)]) == 2  # what it learnt is not thrown away unasked
    assert cli.main([*arguments, "--out", str(out), "--resume"]) == 0
    assert open_checkpoint(out).weights_hash == open_checkpoint(tmp_path / "whole").weights_hash
    assert not (tmp_path / "killed.training").exists()


def test_ctrl_c_keeps_what_was_learnt_to_the_step(tmp_path, base):
    data = write_csv(tmp_path / "reviews.csv", reviews(200))
    whole = finetune("classify", data, tmp_path / "whole", model=base, **OPTIONS | {"epochs": 2, "dropout": 0.1})

    def stop(progress):
        if progress.step == 17:
            raise KeyboardInterrupt

    options = OPTIONS | {"epochs": 2, "dropout": 0.1}
    with pytest.raises(KeyboardInterrupt):
        finetune("classify", data, tmp_path / "out", model=base, report=stop, **options)
    steps = []
    result = finetune(
        "classify", data, tmp_path / "out", model=base, resume=True, report=lambda p: steps.append(p.step), **options
    )
    assert steps[0] == 18
    assert result.scores == whole.scores
    assert open_checkpoint(tmp_path / "out").weights_hash == open_checkpoint(tmp_path / "whole").weights_hash


def test_a_resumed_run_must_be_the_same_run(tmp_path, base):
    data = write_csv(tmp_path / "reviews.csv", reviews(100))

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune("classify", data, tmp_path / "out", model=base, report=stop, **OPTIONS)
    with pytest.raises(ValueError, match="this run had batch_size=16, and now 8: resume it as it began"):
        finetune("classify", data, tmp_path / "out", model=base, resume=True, **OPTIONS | {"batch_size": 8})
    with pytest.raises(
        ValueError, match="this run had epochs=4, and now 9"
    ):  # whose rate would have fallen more slowly
        finetune("classify", data, tmp_path / "out", model=base, resume=True, **OPTIONS | {"epochs": 9})
    write_csv(data, reviews(101))
    with pytest.raises(ValueError, match="this run had data="):
        finetune("classify", data, tmp_path / "out", model=base, resume=True, **OPTIONS)


def test_the_best_epoch_is_kept_and_a_run_that_gets_no_better_stops(tmp_path, base):
    data = write_csv(tmp_path / "reviews.csv", reviews(200))
    seen = []
    result = finetune(
        "classify",
        data,
        tmp_path / "out",
        model=base,
        patience=2,
        report=lambda p: seen.append(dict(p.scores)) if p.scores else None,
        **OPTIONS | {"epochs": 30, "learning_rate": 1e-4},
    )
    values = [scores["accuracy"] for scores in seen]
    assert len(values) == result.epochs < 30
    assert values[result.epoch - 1] == max(values) == result.scores["accuracy"]
    assert result.epochs == result.epoch + 2


def test_what_is_held_out_has_its_share_of_each_label(tmp_path, base, monkeypatch):
    """Of 60 texts, 45 of them good, 6 are held out: 4 or 5 good ones, whatever the seed."""
    data = write_csv(tmp_path / "reviews.csv", [(f"the film was {i}", int(i % 4 > 0)) for i in range(60)])
    good = []

    def fit(trainer, of_epoch, count, held_out, *_):
        good.append(sum(int(example.target) for example in held_out))
        raise KeyboardInterrupt

    monkeypatch.setattr(finetuning, "fit", fit)
    for seed in range(20):
        with pytest.raises(KeyboardInterrupt):
            finetune("classify", data, tmp_path / "out", model=base, seed=seed)
    assert set(good) <= {4, 5}


def test_a_model_that_gives_all_texts_one_label_is_told_of(tmp_path, base, capsys):
    data = write_csv(tmp_path / "reviews.csv", reviews(40))
    options = ["--data", str(data), "--model", str(base), "--epochs", "1", "--learning-rate", "0"]
    assert cli.main(["finetune", "classify", *options, "--out", str(tmp_path / "out")]) == 0
    sentence = "Its answers say nothing of the labels"
    assert sentence in capsys.readouterr().out
    assert sentence in (tmp_path / "out" / "README.md").read_text("utf-8")


def test_of_epochs_as_accurate_the_one_that_tells_labels_apart_is_kept(tmp_path, base):
    scores = [{"accuracy": 0.5, "matthews": 0.0}, {"accuracy": 0.5, "matthews": 0.25}, {"accuracy": 0.5, "matthews": 0}]
    trainer = Trainer(open_checkpoint(base), Classify(labels=("bad", "good")))
    trainer.score = lambda examples: scores.pop(0)
    texts = [Example(np.array([0, 9, 2]), 0)] * 2
    store = Stored(tmp_path / "training", {}, False)
    state = fit(trainer, lambda epoch: texts, 2, texts, Plan(3, 2, 1e-4), store, lambda progress: None)
    assert state.best == 1


# --- Bad input -----------------------------------------------------------------------------------------------------


def test_words_that_no_text_has_decay_in_the_best_epoch_too(tmp_path, base):
    """As in PyTorch, where weight decay pulls at every row of the table at every step."""
    trainer = Trainer(open_checkpoint(base), Classify(("bad", "good")), num_threads=1, weight_decay=0.5)
    before = trainer.tensors[WORDS][9].copy()
    texts = [Example(np.array([0, 20, 21, 2]), 1)]
    plan = Plan(epochs=1, batch_size=1, learning_rate=0.1, warmup=0.0)  # one step, at half of that rate
    fit(trainer, lambda epoch: texts, len(texts), texts, plan, Stored(tmp_path / "run", {}))
    np.testing.assert_allclose(trainer.tensors[WORDS][9], before * (1 - 0.05 * 0.5), rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([("a", 1), ("b", 1)], {}, "all texts have the label '1': there is nothing to tell apart"),
        ([("a", 1), ("", 0)], {}, r"line 3: 'text' is '': there is nothing to learn from"),
        ([("a", 1), ("b", "")], {}, r"line 3: 'label' is empty: give each text a label"),
        ([("a", 1)], {"label": "mark"}, r"no column 'mark', but 'text', 'label': choose one with --label$"),
        ([("a", 1)], {"pair": "other"}, r"no column 'other', but 'text', 'label': choose one with --pair$"),
        ([("a", 1)], {"text": "words"}, r"has no column 'words', but 'text', 'label': choose one with --text$"),
        ([("a", 1), ("b", 0)], {"label_names": ["one"]}, "1 names for 2 labels: the file has '0', '1'"),
        ([("a", "x"), ("b", 0)], {"problem_type": "regression"}, "the label 'x' is no number, as regression needs"),
        ([], {}, "has no rows"),
        ([("a", 1)], {}, "all texts have the label '1'"),
        ([("a", 1), ("b", 0)], {"frozen": 4}, "frozen=4, expected 0 to 3"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence_before_anything_is_learnt(tmp_path, base, rows, options, message):
    data = write_csv(tmp_path / "data.csv", rows)
    with pytest.raises(ValueError, match=message):
        finetune("classify", data, tmp_path / "out", model=base, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.csv"]


@pytest.mark.parametrize(
    ("task", "command"),
    [
        (Classify(("a", "b")), "classify - --model 'a folder' < texts.txt"),
        (Tag(("O", "B-X")), "tag - --model 'a folder' < texts.txt"),
        (Answer(), "answer \"A question?\" --context - --model 'a folder' < text.txt"),
        (MaskedLM(), "fill-mask - --model 'a folder' < texts.txt"),
        (Embed(scored=True), "embed -f texts.txt -o vectors.npy --model 'a folder'"),
    ],
)
def test_the_card_has_the_command_that_reads_a_file(task, command):
    card = folder.card(Path("a folder"), task, {"model": "tiny", "task": "a task"}, {"score": 1.0})
    assert card.endswith(f"    numroberta {command}\n")


def test_lines_without_columns_have_no_labels_to_learn(tmp_path, base):
    (tmp_path / "data.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match=r"data\.txt: a line of a \.txt is a text alone; give a \.csv"):
        finetune("classify", tmp_path / "data.txt", tmp_path / "out", model=base)


def test_a_field_that_no_object_has_is_named_with_the_option_of_finetune(tmp_path, base):
    data = write_jsonl(tmp_path / "data.jsonl", [{"sentence": "a", "label": 1}])
    with pytest.raises(ValueError, match=r"no field 'text', but 'sentence', 'label': choose one with --text$"):
        finetune("classify", data, tmp_path / "out", model=base)


def test_an_answer_must_stand_in_its_context(tmp_path, base):
    data = write_jsonl(tmp_path / "squad.jsonl", [{"question": "who", "context": "the cat", "answer": "the dog"}])
    with pytest.raises(ValueError, match="answer 1, 'the dog', does not stand in its context"):
        finetune("answer", data, tmp_path / "out", model=base, text="question", pair="context", label="answer")


def test_there_must_be_a_tag_for_each_word(tmp_path, base):
    data = write_jsonl(tmp_path / "tags.jsonl", [{"text": "the cat sat", "label": ["O", "O"]}] * 20)
    with pytest.raises(ValueError, match="3 words and 2 labels: 'the cat sat'"):
        finetune("tag", data, tmp_path / "out", model=base)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_rate_that_makes_the_loss_infinite_stops_at_its_step_and_keeps_the_last_good_state(tmp_path, base):
    data = write_csv(tmp_path / "reviews.csv", reviews(100))
    options = OPTIONS | {"learning_rate": 1e30}
    with pytest.raises(
        Diverged, match=r"step \d+: the loss is .* go on from there with resume and a smaller learning rate"
    ):
        finetune("classify", data, tmp_path / "out", model=base, **options)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.training" / "state.safetensors").exists()


def test_a_folder_that_is_there_is_not_replaced(tmp_path, base):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    with pytest.raises(CheckpointError, match="is there already; remove it, or give another name"):
        finetune("classify", write_csv(tmp_path / "d.csv", reviews(10)), tmp_path / "out", model=base)


def test_a_disk_that_is_full_loses_nothing(tmp_path, base, monkeypatch):
    data = write_csv(tmp_path / "reviews.csv", reviews(100))
    from numroberta.checkpoint import writing

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(writing, "write_json", full)
        with pytest.raises(OSError, match="No space left"):
            finetune("classify", data, tmp_path / "out", model=base, **OPTIONS)
    assert not (tmp_path / "out").exists()
    result = finetune("classify", data, tmp_path / "out", model=base, resume=True, **OPTIONS)
    assert result.epochs == OPTIONS["epochs"]
    assert (tmp_path / "out" / "config.json").exists()


# --- A loop of one's own -------------------------------------------------------------------------------------------


def test_a_loop_of_ones_own_lowers_the_loss(tmp_path):
    path = random_model.write(tmp_path / "classifier", "sequence classification", num_labels=2)
    encoder = numroberta.load(path)
    rows = reviews(16)
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    weights = {name: tensor.copy() for name, tensor in encoder.model.tensors.items()}
    losses = []
    for _ in range(20):
        loss, gradients = loss_and_gradients(encoder, "classify", texts, labels, weights=weights)
        losses.append(loss)
        for name, gradient in gradients.items():
            weights[name] -= 0.05 * gradient
    assert losses[-1] < losses[0] - 0.02
    assert gradients.keys() == {name for name in weights if not name.startswith("pooler")}
    with pytest.raises(ValueError, match="has no head for token classification"):
        loss_and_gradients(encoder, "tag", texts, labels)
