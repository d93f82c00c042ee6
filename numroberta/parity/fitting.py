"""Mistakes with a number in them that nobody can list: another epsilon, factor, threshold, found by fitting it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta import textbook
from numroberta.parity.mistakes.activations import clipped, cut_off, gelu_with_root, sigmoid, tanh_gelu
from numroberta.parity.mistakes.embeddings import scaled_sum
from numroberta.parity.mistakes.masks import added_to_padding, masked_softmax
from numroberta.parity.mistakes.norms import NORMS, norm_by, normalize
from numroberta.parity.mistakes.places import place_of
from numroberta.parity.names import ATTENTION, OUTPUT, PROBS, SCORES, WIDE, kind_of, same_layer
from numroberta.parity.steps import (
    LINEARS,
    RESIDUALS,
    STEPS,
    Forward,
    Mistake,
    Step,
    activate,
    blocked,
    erf,
    exact_gelu,
    layer_norm,
    through,
)

Array = NDArray[Any]

FEWEST_CLIPPED = 3  # elements: fewer may be the largest by chance
GRID = 13  # values that are tried first
REFINED = 40  # steps of the golden section
NEARLY_ONE = 1e-3  # a factor that is nearer to 1 says nothing
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Family:
    """Mistakes that differ in one number.  sentence: with {} for it.  step: from the number.  low, high: its range.

    right: the number that makes no mistake.
    """

    sentence: str
    step: Callable[[float], Step]
    low: float
    high: float
    logarithmic: bool = True
    right: float = 0.0

    def mistake(self, kind: str, number: float) -> Mistake:
        return Mistake(self.sentence.format(f"{number:.4g}"), {kind: self.step(number)})


def fitted(kind: str, error: Callable[[Mistake], float]) -> Iterator[tuple[Mistake, float]]:
    """For each family of this kind of activation the best mistake, and the error that it leaves."""
    for family in families(kind):
        scale, back = (np.log, np.exp) if family.logarithmic else (np.asarray, np.asarray)

        def at(x: float, family: Family = family, back: Any = back) -> float:
            return error(family.mistake(kind, float(back(x))))

        points = np.linspace(float(scale(family.low)), float(scale(family.high)), GRID)
        errors = [at(x) for x in points]
        best = int(np.argmin(errors))
        x = golden(at, points[max(best - 1, 0)], points[min(best + 1, GRID - 1)])
        number = float(back(x))
        if abs(number - family.right) > NEARLY_ONE * family.right:
            yield family.mistake(kind, number), at(x)


def golden(f: Callable[[float], float], low: float, high: float) -> float:
    """Where f is least between low and high, if it falls and then rises: the golden section search."""
    a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    fa, fb = f(a), f(b)
    for _ in range(REFINED):
        if fa < fb:
            high, b, fb = b, a, fa
            a = high - GOLDEN * (high - low)
            fa = f(a)
        else:
            low, a, fa = a, b, fb
            b = low + GOLDEN * (high - low)
            fb = f(b)
    return (low + high) / 2


def families(kind: str) -> Iterator[Family]:
    if kind in (ATTENTION, OUTPUT, "embeddings", "lm_head.layer_norm"):
        for sentence, way, low, high in (
            ("the layer norm's epsilon is {}", with_epsilon, 1e-9, 10.0),
            ("the layer norm's variance is {} times what it should be: divided by another count", of_count, 1e-3, 1e4),
            ("the layer norm's variance is at least {}", of_least, 0.01, 100.0),
        ):
            yield Family(sentence, partial(norm_with, kind, way), low, high, right=float(way is of_count))
    if kind == "embeddings":
        for part in ("word", "position", "token_type"):
            sentence = f"the {part.replace('_', '-')} embeddings are multiplied by {{}} in the sum"
            yield Family(sentence, partial(embeddings_with, part), 0.02, 50, right=1.0)
    if kind in LINEARS:
        sentence = f"the weights of {place_of(kind)} are clipped to ±{{}} of the largest"
        yield Family(sentence, partial(clipped_weights, kind), 0.02, 1, right=1.0)
        sentence = f"the weights of {place_of(kind)} below {{}} of the largest are 0 (pruned)"
        yield Family(sentence, partial(pruned_weights, kind), 1e-4, 0.9)
    if kind in RESIDUALS:
        yield Family(
            "the residual is multiplied by {} before it is added", partial(sum_with, kind, True), 0.02, 50, right=1.0
        )
        yield Family(
            "the sublayer is multiplied by {} before it is added", partial(sum_with, kind, False), 0.02, 50, right=1.0
        )
    if kind == WIDE:
        for sentence, gelu, low, high in (
            ("the activation is x · sigmoid({} x); RoBERTa's is the exact GELU", sigmoid_gelu, 0.3, 10),
            ("GELU is the tanh approximation with {} for 0.044715", tanh_of_cubic, 1e-4, 5),
            ("GELU is the tanh approximation with {} for √(2/π) = 0.79788456", tanh_of_root, 0.1, 10),
            ("GELU's erf takes x / {}; it takes x / √2", gelu_with_root, 0.1, 10),
            ("GELU is clamped: it is 0 below and x above ±{}", cut_at, 0.3, 8),
            ("GELU is clamped: its input is clamped to ±{}", clip_at, 0.3, 12),
            ("GELU is the tanh approximation whose tanh takes at most ±{}", tanh_clamped, 0.05, 10),
            ("GELU's erf takes at most ±{}", erf_clamped, 0.05, 5),
            ("the activation is leaky ReLU ({}); RoBERTa's is the exact GELU", leaky, 1e-3, 0.9),
        ):
            yield Family(sentence, partial(activated_by, gelu), low, high)
    if kind == SCORES:
        yield Family("the scores are {} times what they should be", partial(times, kind), 1e-3, 1e3, right=1.0)
        yield Family("the scores are squashed by tanh (soft-capping by {})", partial(scores_through, capped), 0.3, 200)
        yield Family("the scores are clamped to ±{}", partial(scores_through, clamped), 0.05, 100)
        for what, cut in (("at most", at_most), ("at least", at_least)):
            yield Family(
                f"the scores are clamped to {what} {{}}", partial(scores_through, cut), -10, 10, logarithmic=False
            )
    if kind == PROBS:
        yield Family(
            "the scores are multiplied by {} in the softmax", partial(softmax_of, tempered), 0.01, 100, right=1.0
        )
        yield Family("the scores are squashed by tanh (soft-capping by {})", partial(softmax_of, capped), 0.3, 200)
        yield Family("the scores are clamped to ±{}", partial(softmax_of, clamped), 0.05, 100)
        for what, cut in (("at most", at_most), ("at least", at_least)):
            yield Family(f"the scores are clamped to {what} {{}}", partial(softmax_of, cut), -10, 10, logarithmic=False)
        weak = "−{} is added to padded scores, too little to hide them; they must become −∞"
        yield Family(weak, softmax_of_weakly_masked, 0.05, 200)
        yield Family("{} is added to the softmax's denominator", softmax_with_more_below, 1e-6, 10)


def norm_with(kind: str, numbered: Callable[..., Array], number: float) -> Step:
    return norm_by(partial(numbered, number=number), kind)


def with_epsilon(f: Forward, name: str, x: Array, number: float) -> Array:
    return normalize(f, name, x, number)


def of_count(f: Forward, name: str, x: Array, number: float) -> Array:
    return normalize(f, name, x, f.inputs.layer_norm_eps / number) / np.sqrt(number) + (1 - number**-0.5) * f.weight(
        f"{name}.bias"
    )


def of_least(f: Forward, name: str, x: Array, number: float) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    variance = np.maximum(np.square(centred).mean(-1, keepdims=True), number)
    return centred / np.sqrt(variance) * f.weight(f"{name}.weight") + f.weight(f"{name}.bias")


def sum_with(kind: str, residual: bool, factor: float) -> Step:
    past, branch = (factor, 1.0) if residual else (1.0, factor)
    return lambda f, at: layer_norm(f, f"{at}.LayerNorm", past * RESIDUALS[kind](f, at) + branch * f[f"{at}.dense"])


def embeddings_with(part: str, number: float) -> Step:
    return lambda f, name: scaled_sum(f, name, **{part: number})


def clipped_weights(kind: str, number: float) -> Step:
    def way(f: Forward, name: str, x: Array) -> Array:
        weight = f.weight(f"{name}.weight")
        limit = number * float(np.abs(weight).max())
        return x @ np.clip(weight, -limit, limit).T + f.weight(f"{name}.bias")

    return through(way, kind)


def pruned_weights(kind: str, number: float) -> Step:
    def way(f: Forward, name: str, x: Array) -> Array:
        weight = f.weight(f"{name}.weight")
        kept = np.where(np.abs(weight) < number * np.abs(weight).max(), 0, weight)
        return x @ kept.T + f.weight(f"{name}.bias")

    return through(way, kind)


def activated_by(gelu: Callable[[Array, float], Array], number: float) -> Step:
    return partial(activate, gelu=lambda x: gelu(x, number))


def sigmoid_gelu(x: Array, number: float) -> Array:
    return x * sigmoid(number * x)


def tanh_of_cubic(x: Array, number: float) -> Array:
    return tanh_gelu(x, cubic=number)


def tanh_of_root(x: Array, number: float) -> Array:
    return tanh_gelu(x, root=number)


def cut_at(x: Array, number: float) -> Array:
    return cut_off(x, exact_gelu, -number, number)


def clip_at(x: Array, number: float) -> Array:
    return clipped(x, exact_gelu, -number, number)


def tanh_clamped(x: Array, number: float) -> Array:
    inner = np.clip((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3), -number, number)
    return x / 2 * (1 + np.tanh(inner))


def erf_clamped(x: Array, number: float) -> Array:
    return x / 2 * (1 + erf(np.clip(x / np.sqrt(2), -number, number)))


def leaky(x: Array, number: float) -> Array:
    return np.where(x > 0, x, number * x)


def of_terms(sound: Forward, name: str, value: Array, where: Array) -> Iterator[Mistake]:
    """Of a linear layer a · W x + c · bias, of a norm a · weight · x̂ + c · bias, with the numbers that fit best."""
    kind = kind_of(name)
    if kind not in NORMS and kind not in LINEARS:
        return
    prefix = f"{name}.LayerNorm" if kind in (*RESIDUALS, "embeddings") else name
    bias = np.broadcast_to(sound.weight(f"{prefix}.bias"), value.shape)[where]
    product = sound[name][where] - bias
    (a, c), *_ = np.linalg.lstsq(np.stack([product, bias], 1), value[where], rcond=None)
    if not bias.any() or abs(a - c) <= NEARLY_ONE:
        return
    what = f"the layer norm of {place_of(kind)}" if kind in NORMS else place_of(kind)
    factors = {"product with the weight": a, "bias": c}
    parts = [f"the {p} is {x:.6g} times what it should be" for p, x in factors.items() if abs(x - 1) > NEARLY_ONE]
    yield Mistake(
        f"in {what} {' and '.join(parts)}",
        tensors={f"{kind_of(prefix)}.weight": lambda f, _, t: a * t, f"{kind_of(prefix)}.bias": lambda f, _, t: c * t},
    )


def times(kind: str, factor: float) -> Step:
    return lambda f, name: factor * STEPS[kind](f, name)


def softmax_of(way: Callable[[Array, float], Array], number: float) -> Step:
    def step(f: Forward, name: str) -> Array:
        return textbook.softmax(np.where(blocked(f), -1e300, way(f[same_layer(name, SCORES)], number)))

    return step


def scores_through(way: Callable[[Array, float], Array], number: float) -> Step:
    return lambda f, name: way(STEPS[SCORES](f, name), number)


def softmax_of_weakly_masked(number: float) -> Step:
    return partial(masked_softmax, term=partial(added_to_padding, by=-number))


def softmax_with_more_below(number: float) -> Step:
    def step(f: Forward, name: str) -> Array:
        s = np.where(blocked(f), -1e300, f[same_layer(name, SCORES)])
        e = np.exp(s - s.max(-1, keepdims=True))
        return e / (e.sum(-1, keepdims=True) + number)

    return step


def tempered(s: Array, number: float) -> Array:
    return number * s


def capped(s: Array, number: float) -> Array:
    return number * np.tanh(s / number)


def at_most(s: Array, number: float) -> Array:
    return np.minimum(s, number)


def at_least(s: Array, number: float) -> Array:
    return np.maximum(s, number)


def clamped(s: Array, number: float) -> Array:
    return np.clip(s, -number, number)


def scaled_or_clipped(name: str, expected: Array, value: Array, where: Array, close: float) -> str | None:
    """Whether the value is a multiple of the right one, or the right one clipped, but for this error at most."""
    truth, mine = expected[where], value[where]
    scale = float(np.sqrt(np.mean(np.square(truth))))
    factor = float(truth @ mine / max(truth @ truth, 1e-300))
    if abs(factor - 1) > close and np.sqrt(np.mean(np.square(mine - factor * truth))) <= abs(factor) * close * scale:
        return f"{kind_of(name).removeprefix('encoder.layer.*.')} is {factor:.6g} times what it should be"
    what = kind_of(name).removeprefix("encoder.layer.*.")
    low, high = float(mine.min(initial=0)), float(mine.max(initial=0))
    for bottom, top, how in ((-np.inf, high, f"at {high:.4g}"), (low, np.inf, f"at {low:.4g} from below"),
                             (low, high, f"to {low:.4g} … {high:.4g}")):  # fmt: skip
        cut = np.clip(truth, bottom, top)
        some = np.count_nonzero(np.abs(truth - cut) > close * scale) >= FEWEST_CLIPPED
        if some and np.sqrt(np.mean(np.square(mine - cut))) <= close * scale:
            return f"{what} is clipped {f'to ±{high:.4g}' if abs(low + high) <= close * high else how}"
    return None
