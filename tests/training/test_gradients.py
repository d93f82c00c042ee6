"""The fast gradients are PyTorch's, every tensor and every head, in float64; in float32 they are as exact."""

import tracemalloc

import autograd
import numpy as np
import pytest
import random_model
from hypothesis import given, settings, strategies as st

from numroberta import textbook
from numroberta.arithmetic import kernels
from numroberta.checkpoint import MASKED_LM, SEQUENCE, TOKEN, WORDS, RobertaConfig, open_checkpoint
from numroberta.training import Answer, Classify, Distill, Embed, Example, MaskedLM, Tag, Trainer
from numroberta.training.dropout import Dropout
from numroberta.training.gradients import touched
from numroberta.training.step import Step
from numroberta.training.trainer import add_gradients

LABELS = ("a", "b", "c")
CONFIG = RobertaConfig.from_dict(random_model.SIZES | {"num_labels": 3})
# Texts of 9, 9, 7, 5 and 2 tokens; a pair is a text with </s></s> in it; one holds the padding id as a token.
TEXTS = [
    np.array([0, 9, 8, 7, 2, 2, 11, 8, 2]),
    np.array([0, 30, 31, 32, 33, 34, 35, 12, 2]),
    np.array([0, 40, 41, 5, 43, 40, 2]),
    np.array([0, 5, 1, 9, 2]),
    np.array([0, 2]),
]
EXACT = 1e-12  # the promise; measured: 5e-14 at most


def targets(task, seed=0):
    """Examples of the texts, with random targets."""
    rng = np.random.default_rng(seed)

    def target(ids):
        if isinstance(task, (Tag, MaskedLM)):
            labels = rng.integers(0, CONFIG.vocab_size if isinstance(task, MaskedLM) else 3, len(ids))
            return np.where(rng.random(len(ids)) < 0.4, -100, labels)
        if isinstance(task, Answer):
            return rng.integers(0, len(ids), 2)
        if isinstance(task, Embed):
            return rng.permutation(TEXTS[0])[: rng.integers(2, 9)], rng.uniform(-1, 1)
        if isinstance(task, Distill):
            return rng.standard_normal(CONFIG.hidden_size)
        if task.problem_type == "regression":
            return rng.standard_normal()
        return rng.integers(0, 2, 3) if task.problem_type.startswith("multi") else rng.integers(0, 3)

    return [Example(ids, target(ids)) for ids in TEXTS]


def mine(task, weights, examples, threads=1, dropout=Dropout(), **options):  # noqa: B008
    """(loss, gradients by name)."""
    tied = isinstance(task, MaskedLM) and "lm_head.decoder.weight" not in weights
    names = [name for name in weights if not name.startswith("pooler")]
    step = Step(weights, CONFIG, names, num_threads=threads, tied=tied, **options)
    loss = add_gradients(step, task, examples, dropout)
    for part in step.parts:
        part.finish()
    grads = {name: sum(part.arrays[name] for part in step.parts) for name in step.parts[0].arrays}
    if not tied:
        ids, rows = touched(step.parts)
        grads[WORDS] = np.zeros_like(weights[WORDS])
        grads[WORDS][ids] = rows
    return loss, grads


def weights_of(head, dtype=np.float64, tied=True, config=CONFIG):
    weights = random_model.tensors(config, *([head] if head else []), dtype=dtype)
    if not tied:
        weights["lm_head.decoder.weight"] = weights[WORDS][::-1].copy()
    return weights


def theirs(task, weights, examples, dtype, config=CONFIG):
    """(loss, gradients by name) of transformers; texts one by one, so that no padding takes part."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    model = autograd.pytorch(weights, config, task.head or "encoder", dtype)
    count = len(examples) if isinstance(task, (Distill, Embed)) else task.count(examples)
    loss = 0.0
    vectors = []
    for example in examples:
        ids = torch.from_numpy(example.ids)[None]
        if isinstance(task, Embed):
            pairs = [
                model(torch.from_numpy(own)[None]).last_hidden_state[0] for own in (example.ids, example.target[0])
            ]
            vectors.append([pair[0] if task.pooling == "cls" else pair.mean(0) for pair in pairs])
        elif isinstance(task, Distill):
            vectors.append([model(ids).last_hidden_state[0].mean(0), torch.from_numpy(example.target)])
        elif isinstance(task, Answer):
            start, end = torch.from_numpy(example.target)
            loss = loss + model(ids, start_positions=start[None], end_positions=end[None]).loss / count
        elif isinstance(task, Classify):
            kind = torch.long if task.problem_type.startswith("single") else getattr(torch, dtype)
            label = torch.tensor(np.asarray(example.target))[None].to(kind)
            loss = loss + model(ids, labels=label).loss / count
        elif np.any(example.target != -100):
            own = np.sum(example.target != -100)
            loss = loss + model(ids, labels=torch.from_numpy(example.target)[None]).loss * own / count
    if isinstance(task, Distill):
        functional = torch.nn.functional
        u, v = (functional.normalize(torch.stack(side)) for side in zip(*vectors, strict=True))
        others = ~torch.eye(len(u), dtype=bool)
        ours, wanted = (
            functional.log_softmax((x @ x.T)[others].view(len(x), -1) / task.temperature, 1) for x in (u, v)
        )
        loss = (1 - functional.cosine_similarity(u, v)).mean()
        loss = loss + task.similarity * functional.kl_div(ours, wanted, reduction="batchmean", log_target=True)
    if isinstance(task, Embed):
        u, v = (torch.stack(side) for side in zip(*vectors, strict=True))
        functional = torch.nn.functional
        if task.scored:
            scores = torch.tensor([example.target[1] for example in examples], dtype=u.dtype)
            loss = functional.mse_loss(functional.cosine_similarity(u, v), scores)
        else:
            similar = 20 * functional.normalize(u) @ functional.normalize(v).T
            loss = functional.cross_entropy(similar, torch.arange(len(u)))
    loss.backward()
    return float(loss), autograd.gradients(model)


TASKS = {
    "single label": Classify(LABELS),
    "several labels": Classify(LABELS, "multi_label_classification"),
    "token labels": Tag(LABELS),
    "masked tokens": MaskedLM(),
    "answers": Answer(),
    "scored pairs": Embed(scored=True),
    "pairs": Embed(scored=False),
    "pairs by <s>": Embed(scored=False, pooling="cls"),
    "a teacher's vectors": Distill(temperature=0.2, similarity=0.7),
}


@pytest.mark.parity
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", TASKS)
def test_every_tensors_gradient_is_pytorchs(name, threads):
    task = TASKS[name]
    config = RobertaConfig.from_dict(
        random_model.SIZES | {"num_labels": 3, "problem_type": getattr(task, "problem_type", None)}
    )
    weights, examples = weights_of(task.head), targets(task)
    loss, grads = mine(task, weights, examples, threads)
    right, expected = theirs(task, weights, examples, "float64", config)
    assert loss == pytest.approx(right, rel=1e-13)
    autograd.check(grads, expected, EXACT)


@pytest.mark.parity
def test_the_gradient_of_a_regression_is_pytorchs():
    config = RobertaConfig.from_dict(random_model.SIZES | {"num_labels": 1, "problem_type": "regression"})
    task = Classify((), "regression")
    weights, examples = weights_of(SEQUENCE, config=config), targets(task)
    _, grads = mine(task, weights, examples)
    autograd.check(grads, theirs(task, weights, examples, "float64", config)[1], EXACT)


@pytest.mark.parity
def test_a_decoder_of_its_own_has_a_gradient_of_its_own():
    weights, examples = weights_of(MASKED_LM, tied=False), targets(MaskedLM())
    _, grads = mine(MaskedLM(), weights, examples, threads=2)
    autograd.check(grads, theirs(MaskedLM(), weights, examples, "float64")[1], EXACT)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["single label", "token labels", "answers"])
def test_in_float32_the_error_is_about_pytorchs_own(name):
    """On the built-in model, from the square of all gradients' errors to those of float64."""
    task, rng = TASKS[name], np.random.default_rng(0)
    checkpoint = open_checkpoint("tiny")
    trainers = [Trainer(checkpoint, task, num_threads=1, dtype=dtype) for dtype in ("float64", "float32")]
    config, weights = trainers[1].config, trainers[1].tensors
    examples = []
    for _ in range(4):
        ids = rng.integers(5, 8000, 24)
        target = rng.integers(0, 24, 2) if task == Answer() else rng.integers(0, 3, 24 if task == Tag(LABELS) else None)
        examples.append(Example(ids, target))
    exact, ours = (trainer_gradients(trainer, examples) for trainer in trainers)
    pytorchs = theirs(task, weights, examples, "float32", config)[1]

    def error(grads):
        parts = [np.ravel(grads[name] - exact[name]) for name in exact if not name.endswith("key.bias")]
        return autograd.rms(np.concatenate(parts))

    ratio = error(ours) / error(pytorchs)
    print(f"{name}: {ratio:.2f} of PyTorch's error")
    assert ratio <= 1.25


def trainer_gradients(trainer, examples):
    add_gradients(trainer.computation, trainer.task, examples)
    (part,) = trainer.computation.parts
    part.finish()
    ids, rows = touched([part])
    words = np.zeros_like(trainer.tensors[WORDS])
    words[ids] = rows
    return {**part.arrays, WORDS: words}


@pytest.mark.parametrize("name", TASKS)
def test_checkpointing_computes_the_same_bits(name):
    task = TASKS[name]
    weights, examples = weights_of(task.head), targets(task)
    noise = Dropout(0.1, 0.1, (7,))
    loss, grads = mine(task, weights, examples, threads=2, dropout=noise)
    again, same = mine(task, weights, examples, threads=2, dropout=noise, checkpointing=True)
    assert loss == again
    assert all(np.array_equal(grads[name], same[name]) for name in grads)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("name", TASKS)
def test_threads_change_nothing_but_rounding(name, threads):
    task = TASKS[name]
    weights, examples = weights_of(task.head), targets(task)
    loss, grads = mine(task, weights, examples)
    other, found = mine(task, weights, examples, threads)
    assert other == pytest.approx(loss, rel=1e-13)
    autograd.check(found, grads, 1e-12)


def test_a_step_adds_up_over_groups_and_texts_that_are_read_twice():
    task = TASKS["token labels"]
    weights, examples = weights_of(TOKEN), targets(task)
    step = Step(weights, CONFIG, list(weights), num_threads=1)
    add_gradients(step, task, examples)
    step.parts[0].finish()
    once = {name: array.copy() for name, array in step.parts[0].arrays.items()}
    rows = touched(step.parts)[1]
    add_gradients(step, task, examples)
    for name, array in step.parts[0].arrays.items():
        np.testing.assert_allclose(array, 2 * once[name], rtol=1e-12)
    np.testing.assert_allclose(touched(step.parts)[1], 2 * rows, rtol=1e-12)


def test_frozen_layers_get_no_gradient_and_the_others_the_same():
    task = TASKS["single label"]
    weights, examples = weights_of(SEQUENCE), targets(task)
    _, grads = mine(task, weights, examples)
    names = [name for name in weights if name.startswith(("encoder.layer.2", "classifier"))]
    step = Step(weights, CONFIG, names, num_threads=1, first=2)
    add_gradients(step, task, examples)
    step.parts[0].finish()
    assert step.parts[0].arrays.keys() == set(names)
    for name, array in step.parts[0].arrays.items():
        np.testing.assert_allclose(array, grads[name], rtol=0, atol=1e-14)


@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=12),
    name=st.sampled_from(sorted(TASKS)),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_a_small_step_changes_the_loss_as_the_gradient_says(lengths, name, seed, data):
    """(L(w + εu) − L(w − εu)) / 2ε = ∂L/∂w · u for a random direction u, with dropout, in any batch of texts."""
    task, rng = TASKS[name], np.random.default_rng(seed)
    texts = [rng.integers(2, CONFIG.vocab_size, length) for length in lengths]
    made = targets(task, seed)
    examples = []
    for number, ids in enumerate(texts):
        target = made[number % len(made)].target
        if isinstance(task, (Tag, MaskedLM)):
            target = rng.integers(0, 3, len(ids))
        elif isinstance(task, Answer):
            target = rng.integers(0, len(ids), 2)
        examples.append(Example(ids, target))
    weights, noise = weights_of(task.head), Dropout(0.1, 0.1, (seed,))
    _, grads = mine(task, weights, examples, dropout=noise)
    tensor = data.draw(st.sampled_from(sorted(grads)))
    direction = rng.standard_normal(weights[tensor].shape)

    def loss(step):
        return mine(task, weights | {tensor: weights[tensor] + step * direction}, examples, dropout=noise)[0]

    step = 1e-5
    slope = (loss(step) - loss(-step)) / (2 * step)
    expected = float((grads[tensor] * direction).sum())
    assert slope == pytest.approx(expected, rel=1e-4, abs=1e-4 * np.linalg.norm(grads[tensor]) + 1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelus_slope_is_the_textbooks(dtype):
    x = np.linspace(-12, 12, 4001).astype(dtype)[None]
    y, slope = x.copy(), np.empty_like(x)
    kernels.bias_gelu_with_slope(y, np.zeros((1, 1), dtype), slope, kernels.Scratch(dtype))
    exact = textbook.gelu_backward(x.astype(np.float64), np.ones(x.shape))
    # Measured: 3.6e-7 and 8e-16.
    np.testing.assert_allclose(slope, exact, rtol=0, atol={np.float32: 1e-6, np.float64: 3e-15}[dtype])
    plain = x.copy()
    kernels.bias_gelu(plain, np.zeros((1, 1), dtype), kernels.Scratch(dtype))
    np.testing.assert_allclose(y, plain, rtol=3 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)


def test_dropout_drops_that_part_keeps_the_mean_and_is_the_same_for_the_same_seed():
    noise = Dropout(0.1, 0.1, (1, 2))
    mask = noise.mask(0.1, "place", (300, 1001))
    assert 1 - mask.mean() == pytest.approx(0.1, abs=0.003)
    assert np.array_equal(mask, noise.mask(0.1, "place", (300, 1001)))
    for other in (noise.mask(0.1, "elsewhere", (300, 1001)), noise.of(3).mask(0.1, "place", (300, 1001))):
        assert np.mean(mask == other) == pytest.approx(0.82, abs=0.01)  # as independent ones agree: 0.9² + 0.1²
    x = np.ones(mask.shape, np.float32)
    noise.apply(x, mask, 0.1)
    assert set(np.unique(x)) == {0.0, np.float32(1 / 0.9)}


def test_a_batch_is_accumulated_and_needs_no_more_memory_when_it_is_larger():
    """Texts pass through in groups of some 1,024 columns, whose gradients are added up: the batch may have any size."""
    task, rng = Classify(LABELS), np.random.default_rng(0)
    weights = weights_of(SEQUENCE)
    texts = [Example(rng.integers(5, 200, 64), rng.integers(0, 3)) for _ in range(128)]  # 8 groups; a quarter is 2

    def peak(examples):
        tracemalloc.start()
        found = mine(task, weights, examples)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most, found

    small, _ = peak(texts[:32])
    large, (loss, grads) = peak(texts)
    assert large < 1.1 * small  # measured: 1.00
    parts = [mine(task, weights, texts[i : i + 32]) for i in range(0, 128, 32)]
    assert loss == pytest.approx(np.mean([one for one, _ in parts]), rel=1e-13)
    autograd.check(grads, {name: np.mean([part[name] for _, part in parts], axis=0) for name in grads}, 1e-13)
