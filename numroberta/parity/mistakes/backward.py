"""Mistakes in the backward pass: a term of a derivative left out, a sum that is a mean, a contribution that is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from numroberta.parity.gradients import (
    BACKWARD_STEPS,
    BIASES,
    NORMS,
    SHARES,
    NormBackward,
    attention_gradient,
    bias_gradient,
    classifier_gradient,
    decoder_gradient,
    head_dense_gradient,
    key_gradient,
    layer_norm_backward,
    loss,
    norm_of,
    query_gradient,
    rows,
    state_gradient,
    sum_gradient,
    table_gradient,
    value_gradient,
    wide_dense_gradient,
    words_gradient,
)
from numroberta.parity.loss import NO_LABEL, TASKS
from numroberta.parity.mistakes.places import steps_everywhere_or_once
from numroberta.parity.names import (
    ATTENTION,
    GRAD,
    KEY,
    LOSS,
    OUTPUT,
    POSITION,
    PROBS,
    QUERY,
    SCORES,
    SUM,
    VALUE,
    WIDE_DENSE,
    WORD,
    same_layer,
    step_of_gradient,
)
from numroberta.parity.steps import Array, Forward, Inputs, Mistake, Step, erf, position_ids


def mistakes(inputs: Inputs) -> Iterator[Mistake]:
    if not inputs.task:
        return
    yield from in_the_loss(inputs)
    yield from in_the_softmax()
    yield from in_norms()
    yield from in_gelu()
    yield from in_the_scale()
    yield from in_residuals()
    yield from in_tensors(inputs)
    yield from in_tables(inputs)


def in_the_loss(inputs: Inputs) -> Iterator[Mistake]:
    """Other means, by the part that each label has."""
    labels = inputs.labels
    if labels is None:
        return
    real = labels != NO_LABEL
    count = np.count_nonzero(real)
    ways: list[tuple[str, Array]] = [
        ("the loss is averaged over padding too: it is the sum divided by all places", real / real.size),
        ("padding has a label in the loss, and is averaged over too", np.full(real.shape, 1 / real.size)),
        ("the loss is summed; it is the mean over what has a label", real * 1.0),
        ("the loss is divided by the number of texts; it is the mean over what has a label", real / len(real)),
    ]
    if real.ndim == 2:
        per_text = real / np.maximum(real.sum(1, keepdims=True), 1) / len(real)
        ways.append(("the loss is the mean of the texts' means; it is the mean over what has a label", per_text))
        tokens = np.count_nonzero(inputs.attention_mask)
        ways.append(("the loss is divided by all tokens; it is the mean over what has a label", real / tokens))
    for sentence, shares in ways:
        if not np.array_equal(shares, real / count):
            yield Mistake(sentence, {SHARES: partial(given, value=shares), LOSS: loss})
    top = TASKS[inputs.task] + GRAD
    yield Mistake(
        "the gradient is that of the summed loss; it is divided by the number of labels, as the loss is",
        {top: lambda f, name: BACKWARD_STEPS[top](f, name) * count},
    )


def given(f: Forward, name: str, value: Array) -> Array:
    return value


def in_the_softmax() -> Iterator[Mistake]:
    def of(function: Callable[[Array, Array], Array]) -> dict[str, Step]:
        return {SCORES + GRAD: lambda f, name: function(f[same_layer(name, PROBS)], f[same_layer(name, PROBS + GRAD)])}

    def total(values: Array) -> Array:
        return values.sum(-1, keepdims=True)

    ways: tuple[tuple[str, Callable[[Array, Array], Array]], ...] = (
        ("softmax's Jacobian has its second term left out: dx = y dy; it is y (dy − Σ dy y)", lambda y, dy: y * dy),
        ("softmax's Jacobian is its diagonal, y (1 − y) dy; it is y (dy − Σ dy y)", lambda y, dy: y * (1 - y) * dy),
        ("softmax's backward pass subtracts Σ dy, not Σ dy y", lambda y, dy: y * (dy - total(dy))),
        ("softmax's backward pass subtracts the mean of dy y", lambda y, dy: y * (dy - total(dy * y) / y.shape[-1])),
        ("softmax's backward pass sums over the queries", lambda y, dy: y * (dy - (dy * y).sum(-2, keepdims=True))),
        ("softmax's backward pass adds Σ dy y; it subtracts it", lambda y, dy: y * (dy + total(dy * y))),
        ("softmax's backward pass lacks its factor y", lambda y, dy: dy - total(dy * y)),
        ("softmax has no backward pass: dx = dy", lambda y, dy: dy),
    )
    for sentence, function in ways:
        yield Mistake(sentence, of(function))


def in_norms() -> Iterator[Mistake]:
    def of(way: NormBackward) -> Callable[[str], Step]:
        return lambda kind: partial(sum_gradient, way=way)

    def without_gain(x: Array, dy: Array, gain: Array, eps: float) -> Array:
        return layer_norm_backward(x, dy, np.ones_like(gain), eps)

    def without_sigma(x: Array, dy: Array, gain: Array, eps: float) -> Array:
        return layer_norm_backward(x, dy, gain, eps) * np.sqrt(x.var(-1, keepdims=True) + eps)

    ways: tuple[tuple[str, Callable[[str], Step]], ...] = (
        (
            "layer norm's gradient has its two mean terms left out: dx = γ dy / σ",
            of(partial(layer_norm_backward, mean=False, scale=False)),
        ),
        (
            "layer norm's gradient has its term mean(g) left out, which the mean owes",
            of(partial(layer_norm_backward, mean=False)),
        ),
        (
            "layer norm's gradient has its term x̂ mean(g x̂) left out, which the variance owes",
            of(partial(layer_norm_backward, scale=False)),
        ),
        ("layer norm's gradient lacks its gain γ", of(without_gain)),
        ("layer norm's gradient is not divided by σ", of(without_sigma)),
    )
    kinds = [norm + SUM + GRAD for norm in NORMS]
    for sentence, step in ways:
        yield from steps_everywhere_or_once(sentence, kinds, step)
    gains = [f"{norm_of(norm)}.weight{GRAD}" for norm in NORMS]
    yield from steps_everywhere_or_once(
        "the gradient of a layer norm's gain is Σ dy x; it is Σ dy x̂, of the normalized x",
        gains,
        lambda kind: lambda f, name: rows(f[step_of_gradient(name) + GRAD] * f[step_of_gradient(name)]).sum(0),
    )


def in_gelu() -> Iterator[Mistake]:
    root = np.sqrt(2 / np.pi)

    def tanh_slope(x: Array) -> Array:
        t = np.tanh(root * (x + 0.044715 * x**3))
        return (1 + t) / 2 + x / 2 * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x)

    def sigmoid(x: Array) -> Array:
        return 0.5 + 0.5 * np.tanh(x / 2)

    cdf: Callable[[Array], Array] = lambda x: (1 + erf(x / np.sqrt(2))) / 2  # noqa: E731
    density: Callable[[Array], Array] = lambda x: np.exp(-x * x / 2) / np.sqrt(2 * np.pi)  # noqa: E731
    ways: tuple[tuple[str, Callable[[Array], Array]], ...] = (
        ("GELU's derivative is that of its tanh form; RoBERTa's is the exact one, Φ(x) + x φ(x)", tanh_slope),
        ("GELU's derivative is Φ(x): its term x φ(x) is left out", cdf),
        ("GELU's derivative has φ(x) without its factor x", lambda x: cdf(x) + density(x)),
        ("GELU's derivative has x exp(−x²/2) without 1/√(2π)", lambda x: cdf(x) + x * np.exp(-x * x / 2)),
        ("GELU's derivative is ReLU's", lambda x: np.where(x > 0, 1.0, 0.0)),
        ("GELU's derivative is that of x · sigmoid(1.702 x)",
         lambda x: sigmoid(1.702 * x) * (1 + 1.702 * x * (1 - sigmoid(1.702 * x)))),
        ("GELU has no backward pass: dx = dy", np.ones_like),
    )  # fmt: skip
    for sentence, slope in ways:
        steps: dict[str, Step] = {
            WIDE_DENSE + GRAD: partial(wide_dense_gradient, slope=slope),
            "lm_head.dense" + GRAD: partial(head_dense_gradient, slope=slope),
        }
        yield from steps_everywhere_or_once(sentence, steps, steps.__getitem__)
    for sentence, tanh in (
        ("tanh's derivative is left out", np.ones_like),
        ("tanh's derivative is 1 − y; it is 1 − y²", lambda y: 1 - y),
    ):
        yield Mistake(sentence, {"classifier.dense" + GRAD: partial(classifier_gradient, slope=tanh)})


def in_the_scale() -> Iterator[Mistake]:
    ways: tuple[tuple[str, Callable[[int], float]], ...] = (
        ("the scale √d is forgotten in the gradient: dQ = dS K / √d, dK = dSᵀ Q / √d", lambda k: 1.0),
        ("the gradient is divided by d; it is divided by √d", float),
        ("the gradient is multiplied by √d; it is divided by it", lambda k: k**-0.5),
    )
    for sentence, divisor in ways:
        steps: dict[str, Step] = {
            KEY + GRAD: partial(key_gradient, divisor=divisor),
            QUERY + GRAD: partial(query_gradient, divisor=divisor),
        }
        yield from steps_everywhere_or_once(sentence, steps, steps.__getitem__)
    yield Mistake("dK = dS Q; it is dSᵀ Q", {KEY + GRAD: partial(key_gradient, transposed=False)})
    yield Mistake("dV = P dC; it is Pᵀ dC", {VALUE + GRAD: partial(value_gradient, transposed=False)})


def in_residuals() -> Iterator[Mistake]:
    states = (OUTPUT + GRAD, "embeddings" + GRAD)
    parts = {"queries": QUERY, "keys": KEY, "values": VALUE}

    def state(sentence: str, **options: object) -> Mistake:
        step: Step = partial(state_gradient, **options)  # type: ignore[arg-type]
        return Mistake(sentence, dict.fromkeys(states, step))

    yield state("the residual's gradient is not added: what is carried past attention", residual=False)
    yield state("attention's gradient is not added to the residual's", parts=())
    for what, part in parts.items():
        others = tuple(other for other in parts.values() if other != part)
        yield state(f"the gradient that comes back through the {what} is not added", parts=others)
        yield state(f"only the gradient that comes back through the {what} and the residual is there", parts=(part,))
    yield Mistake(
        "the residual's gradient is not added: what is carried past the feed-forward layers",
        {ATTENTION + GRAD: partial(attention_gradient, residual=False)},
    )
    yield Mistake(
        "the feed-forward layers' gradient is not added to the residual's",
        {ATTENTION + GRAD: partial(attention_gradient, branch=False)},
    )


def in_tensors(inputs: Inputs) -> Iterator[Mistake]:
    """A bias is added to every row, and so its gradient is a sum."""
    b, n = inputs.input_ids.shape
    tokens = int(np.count_nonzero(inputs.attention_mask))
    weights = [kind for kind in BACKWARD_STEPS if kind.endswith(f".weight{GRAD}") and kind not in TABLES]
    biases = [bias + GRAD for bias in BIASES]

    def scaled(by: float) -> Callable[[str], Step]:
        return lambda kind: lambda f, name: BACKWARD_STEPS[kind](f, name) / by

    for divisor, over in ((b * n, "all places"), (tokens, "all tokens"), (b, "the texts"), (n, "a text's places")):
        if divisor > 1:
            what = f"averaged over {over}; it is summed"
            yield from steps_everywhere_or_once(f"the gradient of a bias is {what}", biases, scaled(divisor))
            yield Mistake(f"the gradient of a weight is {what}", {kind: scaled(divisor)(kind) for kind in weights})
            both = {kind: scaled(divisor)(kind) for kind in (*weights, *biases)}
            yield Mistake(f"the gradients of weights and biases are {what}", both)
    last: Step = lambda f, name: rows(f[step_of_gradient(name) + GRAD][-1:]).sum(0)  # noqa: E731
    yield Mistake(
        "the gradient of a bias is that of the last text alone: it is overwritten; it is summed over all",
        dict.fromkeys(biases, last),
    )
    first: Step = lambda f, name: rows(f[step_of_gradient(name) + GRAD])[0]  # noqa: E731
    yield Mistake("the gradient of a bias is that of the first token alone; it is summed", dict.fromkeys(biases, first))
    yield Mistake("the gradient of a bias is nought", dict.fromkeys(biases, lambda f, name: 0 * bias_gradient(f, name)))


TABLES = (f"{WORD}.weight{GRAD}", f"{POSITION}.weight{GRAD}")


def in_tables(inputs: Inputs) -> Iterator[Mistake]:
    word, position = TABLES
    if inputs.task == "mlm" and "lm_head.decoder.weight" not in inputs.weights:
        tied = "tied embeddings are used twice, and their gradients added: that of"
        yield Mistake(f"{tied} the decoder is left out", {word: partial(words_gradient, decoder=False)})
        yield Mistake(f"{tied} the looked-up rows is left out", {word: partial(words_gradient, embedded=False)})
        halved: Step = lambda f, name: words_gradient(f, name) / 2  # noqa: E731
        yield Mistake("tied embeddings have the mean of both gradients; it is their sum", {word: halved})
        twice: Step = lambda f, name: words_gradient(f, name) + decoder_gradient(f)  # noqa: E731
        yield Mistake("tied embeddings have the decoder's gradient twice", {word: twice})
    lost = "a row of an embedding table has the gradient of the last place where it stands; it is the sum of all"
    by_position = partial(table_gradient, ids=position_ids)
    yield Mistake(
        lost, {word: partial(words_gradient, added=False), position: partial(by_position, added=False)}
    )  # fmt: skip
    yield Mistake(f"{lost} (at word_embeddings only)", {word: partial(words_gradient, added=False)})
    from_zero = partial(table_gradient, ids=lambda f: np.arange(f.inputs.input_ids.shape[1]))
    yield Mistake("the gradient of the position embeddings goes to rows from 0", {position: from_zero})
