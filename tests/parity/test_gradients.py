"""Recordings with gradients: what they hold, in which order, and how they are compared."""

import numpy as np
import pytest
import random_model

import numroberta
from numroberta import parity
from numroberta.cli import main
from numroberta.parity.measure import rms
from numroberta.parity.steps import Forward, Inputs

TEXTS = ["The rest and others, in a garden of roses", "one", "a third text stands here"]
HEAD_OF = {
    "mlm": "masked language model",
    "classify": "sequence classification",
    "tag": "token classification",
    "answer": "question answering",
    "embed": "pooler",
}


def model_for(folder, task, **sizes):
    return numroberta.load(random_model.write(folder, HEAD_OF[task], **sizes), dtype="float64")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_for(tmp_path_factory.mktemp("model"), "mlm")


@pytest.fixture(scope="module")
def reference(model):
    return parity.trace(model, *parity.batch(model, TEXTS), gradients="mlm")


@pytest.mark.parametrize("task", HEAD_OF)
def test_a_loss_and_the_gradient_of_every_tensor_and_activation_that_it_depends_on_are_recorded(tmp_path, task):
    model = model_for(tmp_path, task)
    ids, mask = parity.batch(model, TEXTS)
    recorded = parity.trace(model, ids, mask, gradients=task)
    names = [name.removesuffix(".grad") for name in recorded if name.endswith(".grad")]
    tensors = {name: t for name, t in model.checkpoint.tensors.items() if not name.startswith("pooler")}
    assert tensors.keys() <= set(names)
    for name in names:
        shape = tensors[name].shape if name in tensors else recorded[name].shape
        assert recorded[f"{name}.grad"].shape == shape, name
    assert recorded["loss"].shape == (1,)
    assert ("labels" in recorded) == (task != "embed")

    inputs = Inputs(
        model.checkpoint.tensors, ids, mask != 0, 4, model.config.layer_norm_eps, 1, task=task,
        labels=recorded.get("labels"),
    )  # fmt: skip
    steps = Forward(inputs, {})
    for name in ["loss", *(f"{name}.grad" for name in names)]:  # float64's rounding, and biases that drop out: 1e-15
        error = rms(np.asarray(steps[name] - recorded[name]))
        assert error <= 1e-12 * rms(recorded[name]) + 1e-13 * ("bias" in name), name


def test_the_recorded_loss_falls_as_fast_as_its_gradients_say(model, reference):
    labels, name = reference["labels"], "encoder.layer.1.output.dense.weight"
    weights = dict(model.model.tensors)
    step = 1e-6 * np.random.default_rng(0).standard_normal(weights[name].shape)
    ends = []
    for sign in (1, -1):
        moved = random_model.roberta(weights=weights | {name: weights[name] + sign * step})
        ends.append(parity.trace(moved, reference["input_ids"], reference["attention_mask"], gradients="mlm")["loss"])
    assert (ends[0] - ends[1]).item() == pytest.approx(2 * (reference[f"{name}.grad"] * step).sum(), rel=1e-5)
    assert np.array_equal(labels, np.where(reference["attention_mask"] == 1, reference["input_ids"], -100))


def test_gradients_follow_the_activations_from_the_loss_to_the_embeddings(model, reference):
    mine = {name: a for name, a in reversed(reference.items()) if name != "attention_mask"}
    names = [row.name for row in parity.compare(reference, mine, model=model.checkpoint).rows]
    grads = [name for name in names if name.endswith(".grad")]
    assert names == [*(name for name in reference if name in mine and name not in grads), *grads]
    assert names[-len(grads) - 1 :][:2] == ["loss", "lm_head.grad"]
    assert grads[-1] == "embeddings.word_embeddings.weight.grad"
    assert [
        g for g in grads if ".1.attention.probs" in g or ".1.attention.scores" in g or ".1.attention.self.q" in g
    ] == [
        f"encoder.layer.1.attention.{part}.grad"
        for part in ("probs", "scores", "self.query", "self.query.bias", "self.query.weight")
    ]


def test_labels_of_ones_own_are_used_and_recorded(model, reference):
    labels = np.where(reference["attention_mask"] == 1, 7, -100)
    ids, mask = parity.batch(model, TEXTS)
    mine = parity.trace(model, ids, mask, gradients="mlm", labels=labels)
    assert np.array_equal(mine["labels"], labels)
    comparison = parity.compare(reference, mine, model=model.checkpoint)
    assert comparison.first.name == "labels"
    assert "given the same labels" in comparison.remark


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"gradients": "classify"}, "no classifier.out_proj"),
        ({"gradients": "masked"}, "gradients='masked', expected one of 'mlm'"),
        ({"gradients": "mlm", "labels": [[1, 2]]}, "labels of shape"),
        ({"gradients": "mlm", "labels": np.full((3, 33), -100)}, "needs labels from 0"),
        ({"gradients": "embed", "labels": [1]}, "embed has no labels"),
        ({"labels": [1]}, "say which with gradients="),
    ],
)
def test_what_has_no_gradient_is_refused_with_the_reason(model, options, found):
    ids, mask = parity.batch(model, TEXTS)
    if "labels" in options and np.shape(options["labels"]) == (3, 33):
        options = options | {"labels": np.full(ids.shape, -100)}
    with pytest.raises(ValueError, match=found):
        parity.trace(model, ids, mask, **options)


def test_a_reproducible_model_says_that_it_has_no_gradients(tmp_path):
    model = numroberta.load(random_model.write(tmp_path, "masked language model"), reproducible=True)
    with pytest.raises(ValueError, match="without reproducible"):
        parity.trace(model, [[0, 5, 2]], gradients="mlm")


def test_the_names_of_pytorchs_gradients_are_understood(model, reference):
    mine = {
        f"roberta.{n}" if n.startswith(("enc", "emb")) else n: a for n, a in reference.items() if "weight.grad" in n
    }
    comparison = parity.compare(reference, mine, model=model.checkpoint)
    assert comparison.alike
    assert len(comparison.rows) == len(mine) == 30


def test_a_weights_gradient_may_be_stored_the_other_way_round(model, reference):
    name = "encoder.layer.0.output.dense.weight.grad"
    comparison = parity.compare(reference, {name: reference[name].T}, model=model.checkpoint)
    assert comparison.alike
    assert comparison.rows[0].note == "stored as columns × rows"


def test_gradients_of_some_of_the_texts_are_not_compared(model, reference):
    mine = parity.trace(model, [reference["input_ids"][0]], gradients="mlm")
    comparison = parity.compare(reference, mine, model=model.checkpoint)
    assert comparison.alike
    assert "its loss and gradients are not compared" in comparison.remark
    assert not any(row.name.endswith("grad") for row in comparison.rows)


def test_gradients_of_a_batch_that_is_padded_further_are_compared(model, reference):
    ids, mask = (np.pad(reference[name], ((0, 0), (0, 2)), constant_values=c) for name, c in
                 (("input_ids", 1), ("attention_mask", 0)))  # fmt: skip
    mine = parity.trace(model, ids, mask, gradients="mlm")
    comparison = parity.compare(reference, mine, model=model.checkpoint)
    assert comparison.alike
    assert sum(row.name.endswith("grad") for row in comparison.rows) > 100


def test_the_command_writes_them_into_the_same_file(tmp_path, capsys):
    files = [str(tmp_path / f"{name}.safetensors") for name in ("a", "b")]
    for file in files:
        assert not main(["trace", "--gradients", "mlm", "It rained.", "-o", file])
    assert "tensors" in capsys.readouterr().out
    assert not main(["compare", *files])
    assert "embeddings.word_embeddings.weight.grad" in capsys.readouterr().out
