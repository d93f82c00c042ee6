"""The textbook's gradients against PyTorch's autograd, every tensor and activation, and against finite differences."""

import inspect

import autograd
import numpy as np
import pytest
import random_model
from hypothesis import given, settings, strategies as st

from numroberta import textbook
from numroberta.checkpoint import RobertaConfig
from numroberta.textbook import backward

CONFIG = RobertaConfig.from_dict(random_model.SIZES | {"num_labels": 3})
OPTIONS = {"num_attention_heads": CONFIG.num_attention_heads, "layer_norm_eps": CONFIG.layer_norm_eps}
IDS = np.array([[0, 9, 8, 7, 2, 2, 11, 8, 2], [0, 5, 5, 9, 2, 1, 1, 1, 1], [0, 30, 31, 32, 33, 34, 35, 2, 1]])
MASK = (IDS != 1).astype(np.int64)
HEADS = {  # head: (the logits' activation, the shape of its labels)
    "masked language model": ("lm_head", IDS.shape),
    "sequence classification": ("classifier.out_proj", (3,)),
    "token classification": ("classifier", IDS.shape),
}
EXACT = 3e-13  # RMS relative error of a tensor's gradient; measured: 4.2e-14 at most, with AVX-512 kernels 1.04e-13


def weights_of(*heads, tied=True, seed=0):
    weights = random_model.tensors(CONFIG, *heads, seed=seed, dtype=np.float64)
    if not tied:
        weights["lm_head.decoder.weight"] = np.random.default_rng(1).standard_normal(weights[autograd.WORDS].shape)
    return weights


def labels_of(shape, classes, seed=0):
    """Labels, −100 where there is padding, and for one token in three."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, shape)
    return np.where((MASK == 0) | (rng.random(shape) < 0.3), -100, labels) if len(shape) == 2 else labels


def ours(weights):
    out = textbook.forward(weights, IDS, MASK, **OPTIONS)
    textbook.heads(weights, out.last_hidden_state, CONFIG.layer_norm_eps, out.activations)
    return out


def hold(model):
    """Hooks that keep the gradient of what each module of the forward pass returns."""
    held = {}

    def keep(name):
        def hook(module, arguments, output):
            output = output[0] if isinstance(output, tuple) else output
            if getattr(output, "requires_grad", False):
                output.retain_grad()
                held[name] = output

        return hook

    for name, module in model.named_modules():
        module.register_forward_hook(keep(name.removeprefix("roberta.")))
    return held


@pytest.mark.parity
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("head", HEADS)
def test_every_tensors_gradient_is_pytorchs(head, tied):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    if not tied and head != "masked language model":
        pytest.skip("only the masked-LM head has a decoder")
    weights = weights_of(head, tied=tied)
    name, shape = HEADS[head]
    labels = labels_of(shape, CONFIG.vocab_size if name == "lm_head" else 3)
    model = autograd.pytorch(weights, CONFIG, head, "float64")
    output = model(torch.from_numpy(IDS), torch.from_numpy(MASK), labels=torch.from_numpy(labels))
    output.loss.backward()

    out = ours(weights)
    logits = out.activations[name]
    assert textbook.cross_entropy(logits, labels) == pytest.approx(output.loss.item(), rel=1e-14)
    given = {name: textbook.cross_entropy_backward(logits, labels)}
    found = textbook.backward(weights, IDS, out.activations, given, **OPTIONS)
    autograd.check(found.tensors, autograd.gradients(model), EXACT)


@pytest.mark.parity
def test_every_span_gradient_is_pytorchs():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    weights = weights_of("question answering")
    model = autograd.pytorch(weights, CONFIG, "question answering", "float64")
    starts, ends = np.array([1, 2, 0]), np.array([3, 2, 5])
    places = {"start_positions": torch.from_numpy(starts), "end_positions": torch.from_numpy(ends)}
    output = model(torch.from_numpy(IDS), torch.from_numpy(MASK), **places)
    output.loss.backward()

    out = ours(weights)
    logits = out.activations["qa_outputs"].swapaxes(1, 2)  # (b, n, 2) -> (b, 2, n): a softmax over the tokens
    labels = np.stack([starts, ends], 1)
    assert textbook.cross_entropy(logits, labels) == pytest.approx(output.loss.item(), rel=1e-14)
    given = {"qa_outputs": textbook.cross_entropy_backward(logits, labels).swapaxes(1, 2)}
    found = textbook.backward(weights, IDS, out.activations, given, **OPTIONS)
    autograd.check(found.tensors, autograd.gradients(model), EXACT)


@pytest.mark.parity
def test_every_gradient_of_a_cosine_of_mean_vectors_and_of_the_pooler_is_pytorchs():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    weights = weights_of("pooler")
    model = autograd.pytorch(weights, CONFIG, "pooler", "float64")
    held = hold(model)
    output = model(torch.from_numpy(IDS), torch.from_numpy(MASK), output_attentions=True)
    for attention in output.attentions:
        attention.retain_grad()
    mask = torch.from_numpy(MASK)[..., None]
    mean = (output.last_hidden_state * mask).sum(1) / mask.sum(1)
    cosine = torch.nn.functional.cosine_similarity(mean, mean.roll(1, 0))
    (cosine.square().sum() + output.pooler_output.square().sum()).backward()

    out = ours(weights)
    mean = textbook.mean_pooling(out.last_hidden_state, MASK)
    other = np.roll(mean, 1, 0)
    np.testing.assert_allclose(textbook.cosine_similarity(mean, other), cosine.detach().numpy(), rtol=1e-14)
    du, dv = textbook.cosine_similarity_backward(mean, other, 2 * textbook.cosine_similarity(mean, other))
    given = {
        "encoder.layer.2.output": textbook.mean_pooling_backward(MASK, du + np.roll(dv, -1, 0)),
        "pooler": 2 * out.pooler_output,
    }
    found = textbook.backward(weights, IDS, out.activations, given, **OPTIONS)
    autograd.check(found.tensors, autograd.gradients(model), EXACT)

    theirs = {name: tensor.grad.numpy() for name, tensor in held.items() if tensor.grad is not None}
    theirs |= {f"encoder.layer.{i}.attention.probs": a.grad.numpy() for i, a in enumerate(output.attentions)}
    renamed = {
        "pooler": None,
        "embeddings.LayerNorm": "embeddings",
        **{f"encoder.layer.{i}.intermediate.intermediate_act_fn": f"encoder.layer.{i}.intermediate" for i in range(3)},
    }
    compared = 0
    for name, gradient in theirs.items():
        mine = found.activations.get(renamed.get(name) or name)
        if mine is not None and mine.shape == gradient.shape:
            assert autograd.error(mine, gradient) <= EXACT, name
            compared += 1
    # Of 46, PyTorch's modules do not show the scores, the context, and what dropout or a residual changes at once.
    assert compared >= 30
    assert {name: a.shape for name, a in found.activations.items()} == {
        name: out.activations[name].shape for name in found.activations
    }
    assert found.activations.keys() == out.activations.keys()


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_a_small_step_changes_the_loss_as_the_gradient_says(seed, data):
    """(L(w + εu) − L(w − εu)) / 2ε = ∂L/∂w · u, for a random direction u of any tensor."""
    heads = ["pooler", *HEADS, "question answering"]
    weights = weights_of(heads[data.draw(st.integers(1, 3))], "pooler", seed=seed)
    out = ours(weights)
    top = {
        name: np.random.default_rng(seed).standard_normal(out.activations[name].shape)
        for name in ("pooler", "lm_head", "classifier.out_proj", "classifier", "encoder.layer.1.output")
        if name in out.activations
    }
    grads = textbook.backward(weights, IDS, out.activations, top, **OPTIONS).tensors
    name = data.draw(st.sampled_from(sorted(grads)))
    direction = np.random.default_rng(seed + 1).standard_normal(weights[name].shape)
    if name.startswith(("embeddings.word", "embeddings.position")):
        direction[1] = 0  # the row of padding, which is not trained

    def loss(step):
        out = ours(weights | {name: weights[name] + step * direction})
        return sum((out.activations[name] * slope).sum() for name, slope in top.items())

    step = 1e-6
    slope = (loss(step) - loss(-step)) / (2 * step)
    # Measured: 2e-8 of the gradient's length at most, with what the third derivative adds.
    assert slope == pytest.approx((grads[name] * direction).sum(), abs=1e-6 * np.linalg.norm(grads[name]) + 1e-6)


def test_the_backward_pass_fits_two_hundred_lines():
    assert len(inspect.getsource(inspect.getmodule(backward)).splitlines()) < 200


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_gradient_has_the_dtype_of_the_weights(dtype):
    weights = random_model.tensors(CONFIG, "pooler", "masked language model", dtype=dtype)
    out = ours(weights)
    top = {name: np.ones_like(out.activations[name]) for name in ("pooler", "lm_head")}
    found = textbook.backward(weights, IDS, out.activations, top, **OPTIONS)
    assert {a.dtype for a in [*found.tensors.values(), *found.activations.values()]} == {np.dtype(dtype)}
    assert {name: a.shape for name, a in found.tensors.items()} == {name: a.shape for name, a in weights.items()}
