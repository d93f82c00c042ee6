"""Mistakes in a backward pass that shares no code with the catalogue are named, and sound ones are not accused."""

import autograd
import hooked_backward
import hooked_roberta
import numpy as np
import pytest
import random_model
from hooked_backward import OUTSIDE_LAYERS, PLANTS

import numroberta
from numroberta import parity

TEXTS = ["The rest and others, in a garden of roses", "one", "a third text stands here"]


class Case:
    def __init__(self, folder):
        self.model = numroberta.load(folder, dtype="float64")
        ids, mask = parity.batch(self.model, TEXTS)
        self.reference = parity.trace(self.model, ids, mask, gradients="mlm")
        self.weights = {n: t.astype(np.float64) for n, t in self.model.checkpoint.tensors.items()}

    def port(self, **options):
        config, recorded = self.model.config, self.reference
        given = (recorded[name] for name in ("input_ids", "attention_mask", "labels"))
        heads, eps, pad = config.num_attention_heads, config.layer_norm_eps, config.pad_token_id
        return hooked_backward.backward(self.weights, heads, eps, pad, *given, **options)

    def compare(self, mine):
        return parity.compare(self.reference, mine, model=self.model.checkpoint)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(random_model.write(tmp_path_factory.mktemp("case"), "masked language model"))


def check(words, comparison):
    found = comparison.diagnosis
    assert found, comparison.remark
    assert hooked_backward.matches(words, found.mistake), (found.mistake, comparison.remark)


CLASSIC = (
    "softmax without second term", "norm without means", "tanh gelu", "no scale", "bias averaged",
    "fresh dropout mask", "loss over padding", "decoder not added",
)  # fmt: skip


def names(plants):
    """The eight classic mistakes always, the others with the slow tests."""
    return [name if name in CLASSIC else pytest.param(name, marks=pytest.mark.slow) for name in plants]


@pytest.mark.parametrize("name", names(PLANTS))
def test_a_mistake_planted_in_one_layer_is_named_and_nothing_else(case, name):
    comparison = case.compare(case.port(mistake=name, layer=1))
    check(PLANTS[name], comparison)
    assert comparison.further == ()
    assert ".0." in comparison.first.name or ".1." in comparison.first.name


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTS)
def test_a_mistake_planted_everywhere_is_named(case, name):
    check(PLANTS[name], case.compare(case.port(mistake=name)))


@pytest.mark.parametrize("name", names(OUTSIDE_LAYERS))
def test_a_mistake_planted_outside_the_layers_is_named(case, name):
    check(OUTSIDE_LAYERS[name], case.compare(case.port(mistake=name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["softmax without second term", "tanh gelu", "bias averaged", "no scale"])
def test_a_mistake_is_named_from_the_gradients_of_tensors_alone(case, name):
    mine = case.port(mistake=name, layer=2)
    check(PLANTS[name], case.compare({n: a for n, a in mine.items() if n.endswith((".weight.grad", ".bias.grad"))}))


def test_a_mistake_of_the_forward_pass_is_named_before_any_gradient(case):
    plant = hooked_roberta.PLANTS["tanh GELU"]
    config = case.model.config
    given = (case.reference[name] for name in ("input_ids", "attention_mask"))
    acts = plant.run(case.weights, config.num_attention_heads, config.layer_norm_eps, config.pad_token_id, *given)
    comparison = case.compare({**acts, **{n: a for n, a in case.port().items() if n.endswith(".grad")}})
    assert plant.words.search(comparison.diagnosis.mistake)
    assert not comparison.first.name.endswith(".grad")


ROUNDINGS = {
    "float32": lambda v: v.astype(np.float32).astype(np.float64),
    "float16": hooked_roberta.half,
    "bfloat16": hooked_roberta.bf16,
}


@pytest.mark.parametrize(
    ("dtype", "layers"),
    [
        ("float32", 3),
        ("float16", 3),
        *(pytest.param(*of, marks=pytest.mark.slow) for of in (("bfloat16", 3), ("float32", 12), ("bfloat16", 12))),
    ],
)
def test_a_sound_backward_pass_is_never_accused(tmp_path, dtype, layers):
    """In 12 random layers all tokens become alike: the gradients of queries and keys are little but rounding.

    In float16 they are smaller than its smallest number there, and are told to be off.
    """
    case = Case(random_model.write(tmp_path, "masked language model", num_hidden_layers=layers))
    mine = {name: a.astype(np.float32) for name, a in case.port(rounding=ROUNDINGS[dtype]).items()}
    comparison = case.compare(mine)
    assert comparison.alike, (comparison.first, comparison.diagnosis)
    assert sum(row.name.endswith("grad") for row in comparison.rows) > 90


@pytest.mark.parity
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ROUNDINGS)
def test_pytorchs_own_gradients_are_never_accused(dtype):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    case = Case("tiny")
    weights = {n: t.astype(np.float32) for n, t in case.weights.items() if not n.startswith("pooler")}
    model = autograd.pytorch(weights, case.model.config, "masked language model", "float32").to(getattr(torch, dtype))
    given = (torch.from_numpy(case.reference[name]) for name in ("input_ids", "attention_mask"))
    loss = model(*given, labels=torch.from_numpy(case.reference["labels"])).loss
    loss.backward()
    mine = {f"{name}.grad": p.grad.float().numpy() for name, p in model.named_parameters() if p.grad is not None}
    comparison = case.compare(mine | {"loss": loss.detach().float().numpy()})
    assert comparison.alike, (comparison.first, comparison.diagnosis)
    assert len(comparison.rows) > 100
