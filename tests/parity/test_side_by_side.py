"""Mistakes side by side give the numbers that each gives alone, and a budget of work is the same on every machine."""

import numpy as np
import pytest
import random_model

import numroberta
from numroberta import parity
from numroberta.parity.budget import Budget
from numroberta.parity.mistakes import catalogue
from numroberta.parity.side_by_side import side_by_side
from numroberta.parity.steps import Forward, Inputs

LAST = "encoder.layer.2.output"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    model = numroberta.load(random_model.write(tmp_path_factory.mktemp("model"), "pooler"), dtype="float64")
    ids, mask = parity.batch(model, ["The rest and others", "one"])
    return Inputs(model.checkpoint.tensors, ids, mask != 0, 4, model.config.layer_norm_eps, model.config.pad_token_id)


@pytest.mark.parametrize("layer", [None, 1])
def test_mistakes_side_by_side_give_what_each_gives_alone(inputs, layer):
    sound = Forward(inputs, {})
    sound[LAST]
    mistakes = [m for m in catalogue(inputs) if not m.inputs and not m.order and m.kinds & {*map(kind, sound.computed)}]
    mistakes = [m.only_in(layer) for m in mistakes[::23]]
    for mistake, value in zip(mistakes, side_by_side(sound, [(m,) for m in mistakes], LAST), strict=True):
        own = Forward(inputs, {}, mistake)
        alone = own.attempt(LAST)
        if any(sound.computed[name].shape != array.shape for name, array in own.computed.items()):
            assert value is None, mistake.sentence  # another number of heads: what it computes fits beside no other
        elif value is None or alone is None:
            assert value is alone is None, mistake.sentence
        else:
            np.testing.assert_allclose(value, alone, rtol=1e-9, atol=1e-9, err_msg=mistake.sentence)


def kind(name):
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def test_a_budget_of_work_does_not_depend_on_the_time_that_it_takes():
    budget = Budget(work=1.0, seconds=1e9)
    for _ in range(10):
        assert not budget.spent
        budget.count("embeddings", 0.1001)
    assert budget.spent
