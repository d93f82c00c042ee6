"""The mean and the deviation by which a layer norm went in each token, read from its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.gradients import norm_of, under_norm
from numroberta.parity.mistakes.norms import NORMS, norms_by
from numroberta.parity.names import kind_of
from numroberta.parity.steps import Forward, Mistake

Array = NDArray[Any]

CLOSE = 1e-4
FEWEST_TOKENS = 6
Statistic = Callable[[Array], Array]  # of tokens, (…, d) -> (…, 1)


def statistics(sound: Forward, name: str, value: Array, where: Array) -> tuple[Array, Array, Array] | None:
    """What a norm reads, (t, d), and the number that it subtracts and the one it divides by in each token, if it does.

    value = weight · (x − mean) / deviation + bias, so each token's two numbers follow from its features.
    """
    kind, tokens = kind_of(name), np.asarray(where.all(-1))
    if kind not in NORMS or tokens.sum() < FEWEST_TOKENS or value.shape != sound[name].shape:
        return None
    weight, bias = sound.weight(f"{norm_of(name)}.weight"), sound.weight(f"{norm_of(name)}.bias")
    x, y = under_norm(sound, name)[tokens], value[tokens] - bias
    a, b, c = (np.square(weight * x).sum(-1), (np.square(weight) * x).sum(-1), np.square(weight).sum())
    along, level = (weight * x * y).sum(-1), (weight * y).sum(-1)
    slope = (c * along - b * level) / (a * c - b * b)
    start = (a * level - b * along) / (a * c - b * b)
    left = y - weight * (slope[:, None] * x + start[:, None])
    if np.sqrt(np.mean(np.square(left)) / np.mean(np.square(y))) > CLOSE or not np.all(slope):
        return None
    return x, -start / slope, 1 / slope


def undone(f: Forward, name: str, mine: Array) -> Array | None:
    """What a norm of the layers gave tokens, (t, d), before its weight and bias: about 0, and of length 1; or None."""
    with np.errstate(all="ignore"):
        z = (mine - f.weight(f"{norm_of(name)}.bias")) / f.weight(f"{norm_of(name)}.weight")
        z = z - z.mean(-1, keepdims=True)
        z = z / np.linalg.norm(z, axis=-1, keepdims=True)
    return z if np.all(np.isfinite(z)) else None


def another_deviation(sound: Forward, name: str, value: Array, where: Array) -> str | None:
    """A sentence, if a norm subtracts or divides by numbers that are no statistic with a name."""
    read = statistics(sound, name, value, where)
    if read is None:
        return None
    x, mean, deviation = read
    right = np.sqrt(x.var(-1) + sound.inputs.layer_norm_eps)
    offset, ratio = (mean - x.mean(-1)) / right, deviation / right
    parts = []
    if np.abs(offset).max() > 10 * CLOSE:
        parts.append(f"subtracts the mean plus {offset.min():.3g} to {offset.max():.3g} deviations")
    if np.abs(ratio - 1).max() > 10 * CLOSE:
        parts.append(f"divides by {ratio.min():.4g} to {ratio.max():.4g} times the deviation (another variance)")
    return f"the layer norm {' and '.join(parts)}, another number in each token" if parts else None


def from_statistics(sound: Forward, name: str, value: Array, where: Array) -> Iterator[Mistake]:
    """Mistakes in what a norm subtracts and what it divides by, if two other numbers for each token explain it."""
    read = statistics(sound, name, value, where)
    if read is None:
        return
    x, mean, deviation = read
    kind = kind_of(name)
    eps = sound.inputs.layer_norm_eps
    for of_mean, center in means(x.shape[-1]):
        if not alike(center(x)[:, 0], mean, np.abs(deviation)):
            continue
        for of_deviation, spread in deviations(x.shape[-1], center, eps, limits(x, center, deviation, eps)):
            factor = float(np.median(deviation / spread(x)[:, 0]))
            for by in (1.0, factor):
                if alike(by * spread(x)[:, 0], deviation, np.abs(deviation)):
                    times = "" if abs(by - 1) < CLOSE else f" times {by:.4g}"
                    words = " and ".join(filter(None, [of_mean, of_deviation and f"divides by {of_deviation}{times}"]))
                    yield norm_mistake(kind, f"the layer norm {words}", center, spread, by)


def alike(a: Array, b: Array, size: Array) -> bool:
    return bool(np.all(np.abs(a - b) <= 10 * CLOSE * size))


def means(width: int) -> Iterator[tuple[str, Statistic]]:
    """What is subtracted: the words, and the function."""
    yield "", lambda x: x.mean(-1, keepdims=True)
    yield "subtracts nothing", lambda x: 0 * x[..., :1]
    yield "subtracts the median", lambda x: np.median(x, axis=-1, keepdims=True)
    yield "subtracts the mean of the magnitudes", lambda x: np.abs(x).mean(-1, keepdims=True)
    yield "subtracts the mean between minimum and maximum", lambda x: (x.min(-1) + x.max(-1))[..., None] / 2
    yield "subtracts the largest", lambda x: x.max(-1, keepdims=True)
    yield "subtracts the smallest", lambda x: x.min(-1, keepdims=True)
    yield "subtracts the mean of all tokens", lambda x: np.broadcast_to(x.mean(), (*x.shape[:-1], 1))
    for count in range(1, width):
        yield f"subtracts the mean of the first {count} features", partial_mean(slice(None, count))
        yield f"subtracts the mean of the last {count} features", partial_mean(slice(-count, None))
        yield (
            f"subtracts the sum of the first {count} features divided by the number of all",
            lambda x, count=count: x[..., :count].sum(-1, keepdims=True) / x.shape[-1],  # type: ignore[misc]
        )
    for step in (2, 4):
        yield f"subtracts the mean of every {step}th feature", partial_mean(slice(None, None, step))
    for by in (*range(1, 65), width):
        for total, what in ((width - by, f"{by} fewer"), (width + by, f"{by} more")):
            if total > 0:
                sentence = f"subtracts the sum divided by {what} than there are features"
                yield sentence, lambda x, total=total: x.sum(-1, keepdims=True) / total  # type: ignore[misc]
    for factor in (0.5, 2.0, -1.0):
        yield f"subtracts {factor:g} times the mean", lambda x, by=factor: by * x.mean(-1, keepdims=True)  # type: ignore[misc]


def partial_mean(part: slice) -> Statistic:
    return lambda x: x[..., part].mean(-1, keepdims=True)


def deviations(
    width: int, center: Statistic, eps: float, fitted_limits: tuple[float, ...] = ()
) -> Iterator[tuple[str, Statistic]]:
    """What is divided by: the words, and the function."""

    def root(of: Statistic) -> Statistic:
        return lambda x: np.sqrt(of(x) + eps)

    yield "", root(lambda x: np.square(x - center(x)).mean(-1, keepdims=True))
    yield "the deviation from the right mean", root(lambda x: x.var(-1, keepdims=True))
    yield "the root mean square", root(lambda x: np.square(x).mean(-1, keepdims=True))
    yield (
        "√(mean of the squares − the mean)",
        root(lambda x: np.abs(np.square(x).mean(-1, keepdims=True) - x.mean(-1, keepdims=True))),
    )
    yield "the largest magnitude", lambda x: np.abs(x - center(x)).max(-1, keepdims=True)
    yield "the distance of minimum and maximum", lambda x: np.ptp(x, axis=-1)[..., None]
    yield "the mean magnitude", lambda x: np.abs(x - center(x)).mean(-1, keepdims=True)
    yield "the median magnitude", lambda x: np.median(np.abs(x - center(x)), axis=-1, keepdims=True)
    yield "the length of the vector", lambda x: np.linalg.norm(x, axis=-1, keepdims=True)
    yield "the deviation of all tokens", lambda x: np.broadcast_to(x.std(), (*x.shape[:-1], 1))
    yield "the same number in every token", lambda x: np.ones((*x.shape[:-1], 1))
    for count in range(1, width):
        yield (
            f"the deviation of the first {count} features",
            root(
                lambda x, count=count: np.square((x - center(x))[..., :count]).mean(-1, keepdims=True)  # type: ignore[misc]
            ),
        )
        yield (
            f"the deviation of the last {count} features",
            root(
                lambda x, count=count: np.square((x - center(x))[..., -count:]).mean(-1, keepdims=True)  # type: ignore[misc]
            ),
        )
    for limit in fitted_limits:
        yield (
            f"the deviation with what is {limit:.4g} off clipped",
            root(
                lambda x, limit=limit: np.square(np.clip(x - center(x), -limit, limit)).mean(-1, keepdims=True)  # type: ignore[misc]
            ),
        )
    for power, what in ((2.0, "the variance"), (0.5, "the root of the deviation")):
        yield what, lambda x, power=power: x.std(-1, keepdims=True) ** power  # type: ignore[misc]


def limits(x: Array, center: Statistic, deviation: Array, eps: float) -> tuple[float, ...]:
    """Where what is centred must be clipped for the first token's deviation to be this one, if it is too small."""
    centred = np.abs(x[0] - center(x[:1])[0])
    low, high = 0.0, float(centred.max())
    if not 0 < deviation[0] < np.sqrt(np.square(centred).mean() + eps):
        return ()
    for _ in range(60):
        middle = (low + high) / 2
        small = np.sqrt(np.square(np.minimum(centred, middle)).mean() + eps) < deviation[0]
        low, high = (middle, high) if small else (low, middle)
    return (float(f"{low:.6g}"),)


def norm_mistake(kind: str, sentence: str, center: Statistic, spread: Statistic, by: float) -> Mistake:
    def way(f: Forward, name: str, x: Array) -> Array:
        return (x - center(x)) / (by * spread(x)) * f.weight(f"{name}.weight") + f.weight(f"{name}.bias")

    return Mistake(sentence, norms_by(way))
