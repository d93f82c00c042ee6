"""Mistakes in GELU: another function, a mistyped constant, an approximation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from numroberta.parity.names import ATTENTION, OUTPUT_DENSE, WIDE, WIDE_DENSE, same_layer
from numroberta.parity.steps import (
    Array,
    Forward,
    Inputs,
    Mistake,
    Step,
    activate,
    erf,
    exact_gelu,
    head_norm,
    linear,
)

Function = Callable[[Array], Array]


def mistakes(inputs: Inputs) -> Iterator[Mistake]:
    exact = "RoBERTa's is the exact GELU, with erf"
    functions: tuple[tuple[str, Function], ...] = (
        ("GELU is the tanh approximation; RoBERTa's is the exact one, with erf", tanh_gelu),
        (f"the activation is x · sigmoid(1.702 x); {exact}", lambda x: x * sigmoid(1.702 * x)),
        (f"the activation is SiLU; {exact}", lambda x: x * sigmoid(x)),
        (f"the activation is ReLU; {exact}", lambda x: np.maximum(x, 0)),
        ("GELU's erf takes x; it takes x / √2", lambda x: x / 2 * (1 + erf(x))),
        ("GELU is left out", lambda x: x),
        ("GELU's erf takes x / 2; it takes x / √2", lambda x: x / 2 * (1 + erf(x / 2))),
        ("GELU's erf takes x · √2; it takes x / √2", lambda x: x / 2 * (1 + erf(x * np.sqrt(2)))),
        ("GELU is not halved", lambda x: x * (1 + erf(x / np.sqrt(2)))),
        ("GELU has its 1 left out: x/2 · erf(x / √2)", lambda x: x / 2 * erf(x / np.sqrt(2))),
        ("GELU is Φ(x): the factor x is left out", lambda x: (1 + erf(x / np.sqrt(2))) / 2),
        ("GELU is x/2 (1 − erf(x / √2)): a sign is turned", lambda x: x / 2 * (1 - erf(x / np.sqrt(2)))),
        (f"the activation is tanh; {exact}", np.tanh),
        (f"the activation is a sigmoid; {exact}", lambda x: sigmoid(x)),
        (f"the activation is leaky ReLU (0.01); {exact}", lambda x: np.where(x > 0, x, 0.01 * x)),
        (f"the activation is leaky ReLU (0.1); {exact}", lambda x: np.where(x > 0, x, 0.1 * x)),
        (f"the activation is leaky ReLU (0.2); {exact}", lambda x: np.where(x > 0, x, 0.2 * x)),
        (f"the activation is ELU; {exact}", lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
        (f"the activation is SELU; {exact}",
         lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))),
        (f"the activation is softplus; {exact}", lambda x: np.logaddexp(0, x)),
        (f"the activation is Mish; {exact}", lambda x: x * np.tanh(np.logaddexp(0, x))),
        (f"the activation is ReLU squared; {exact}", lambda x: np.maximum(x, 0) ** 2),
        (f"the activation is ReLU6; {exact}", lambda x: np.clip(x, 0, 6)),
        (f"the activation is hard-swish; {exact}", lambda x: x * np.clip(x + 3, 0, 6) / 6),
        ("GELU is applied twice", lambda x: exact_gelu(exact_gelu(x))),
        ("GELU is x · sigmoid(1.7 x); " + exact, lambda x: x * sigmoid(1.7 * x)),
        ("GELU is x · sigmoid(1.6 x); " + exact, lambda x: x * sigmoid(1.6 * x)),
        ("GELU is x · sigmoid(1.72 x), a mistyped 1.702; " + exact, lambda x: x * sigmoid(1.72 * x)),
        ("GELU is x · sigmoid(√(8/π) x); " + exact, lambda x: x * sigmoid(np.sqrt(8 / np.pi) * x)),
        ("GELU is sigmoid(1.702 x): the factor x is left out", lambda x: sigmoid(1.702 * x)),
    )  # fmt: skip
    for what, gelu in functions:
        yield from in_layers_and_head(what, gelu)
    yield from mistyped_constants()
    yield from approximations()
    yield from gated()
    yield from misplaced()


def in_layers_and_head(what: str, gelu: Function, rare: bool = False) -> Iterator[Mistake]:
    steps: dict[str, Step] = {
        WIDE: partial(activate, gelu=gelu),
        "lm_head.layer_norm": partial(head_norm, gelu=gelu),
    }
    yield Mistake(what, steps, rare=rare)
    for kind, where in ((WIDE, "the layers"), ("lm_head.layer_norm", "lm_head")):
        yield Mistake(f"{what} (in {where} only)", {kind: steps[kind]}, rare=True)


def tanh_gelu(x: Array, cubic: float = 0.044715, root: float = (2 / np.pi) ** 0.5, power: int = 3) -> Array:
    with np.errstate(over="ignore"):
        return x / 2 * (1 + np.tanh(root * (x + cubic * x**power)))


def sigmoid(x: Array) -> Array:
    return 0.5 + 0.5 * np.tanh(x / 2)


def mistyped_constants() -> Iterator[Mistake]:
    for cubic in (0.44715, 0.0044715, 0.04715, 0.04475, 0.0447, 0.045, 0.044175, 0.047715, 0.44, 0.0, 0.035677, 0.04):
        sentence = f"GELU is the tanh approximation with {cubic:g} for 0.044715"
        yield from in_layers_and_head(sentence, partial(tanh_gelu, cubic=cubic), rare=cubic in (0.44, 0.035677, 0.04))
    for root, what in (
        (2 / np.pi, "2/π"), ((2 * np.pi) ** 0.5, "√(2π)"), (2 * np.pi, "2π"), ((np.pi / 2) ** 0.5, "√(π/2)"),
        (2**0.5 / np.pi, "√2/π"), (2**-0.5, "1/√2"), (0.797, "0.797"), (0.7978, "0.7978"), (0.8, "0.8"),
        (0.79788456 * 2, "2√(2/π)"), (0.7988, "0.7988"), (0.7987, "0.7987"), (0.7079, "0.7079"), (1.0, "1"),
        (0.78788456, "0.78788456"), (0.97884560, "0.9788456"), (0.79588456, "0.79588456"),
    ):  # fmt: skip
        sentence = f"GELU is the tanh approximation with {what} for √(2/π) = 0.79788456"
        yield from in_layers_and_head(sentence, partial(tanh_gelu, root=root))
    yield from in_layers_and_head("GELU is the tanh approximation with x² for x³", partial(tanh_gelu, power=2))
    for divisor, what in ((1.4142, "1.4142"), (1.414, "1.414"), (1.41, "1.41"), (1.4, "1.4"), (1.4124, "1.4124"),
                          (1.4412, "1.4412"), (1.5, "1.5")):  # fmt: skip
        gelu = partial(gelu_with_root, divisor=divisor)
        yield from in_layers_and_head(f"GELU's erf takes x / {what}; it takes x / √2", gelu, rare=divisor == 1.5)


def gelu_with_root(x: Array, divisor: float) -> Array:
    return x / 2 * (1 + erf(x / divisor))


# erf(x) for x ≥ 0 by Abramowitz and Stegun's 7.1.25 to 7.1.28: t = 1 / (1 + p x), and a polynomial in t or in x.
def erf_of_three_terms(x: Array) -> Array:
    t = 1 / (1 + 0.47047 * x)
    return 1 - t * (0.3480242 + t * (-0.0958798 + t * 0.7478556)) * np.exp(-x * x)


def erf_of_five_terms(x: Array) -> Array:
    t = 1 / (1 + 0.3275911 * x)
    inner = 0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))
    return 1 - t * inner * np.exp(-x * x)


def erf_of_a_fourth_power(x: Array) -> Array:
    return 1 - 1 / (1 + x * (0.278393 + x * (0.230389 + x * (0.000972 + x * 0.078108)))) ** 4


def erf_of_a_sixteenth_power(x: Array) -> Array:
    inner = 0.0422820123 + x * (0.0092705272 + x * (0.0001520143 + x * (0.0002765672 + x * 0.0000430638)))
    return 1 - 1 / (1 + x * (0.0705230784 + x * inner)) ** 16


def erf_of_winitzki(x: Array, a: float = 0.147) -> Array:
    """√(1 − exp(−x² (4/π + a x²) / (1 + a x²)))"""
    return np.sqrt(1 - np.exp(-x * x * (4 / np.pi + a * x * x) / (1 + a * x * x)))


def taylor_erf(x: Array, terms: int) -> Array:
    """2/√π Σ (−1)^k x^(2k+1) / (k! (2k+1)), so many terms of it, and 1 beyond."""
    total, power = np.zeros_like(x), x.copy()
    for k in range(terms):
        total += power / (2 * k + 1)
        power *= -x * x / (k + 1)
    return np.clip(2 / np.sqrt(np.pi) * total, -1, 1)


def tanh_erf(x: Array) -> Array:
    return np.tanh(2 / np.sqrt(np.pi) * x)


def approximations() -> Iterator[Mistake]:
    functions: tuple[tuple[str, Function], ...] = (
        ("Abramowitz and Stegun's 7.1.25 (three terms)", erf_of_three_terms),
        ("Abramowitz and Stegun's 7.1.26 (five terms)", erf_of_five_terms),
        ("Abramowitz and Stegun's 7.1.27 (a fourth power)", erf_of_a_fourth_power),
        ("Abramowitz and Stegun's 7.1.28 (a sixteenth power)", erf_of_a_sixteenth_power),
        ("Winitzki's formula (0.147)", erf_of_winitzki),
        ("Winitzki's formula (0.140012)", partial(erf_of_winitzki, a=0.140012)),
        ("tanh(2x/√π)", tanh_erf),
        ("I-BERT's parabola, clipped at 1.769", lambda x: 1 - 0.2888 * (np.minimum(x, 1.769) - 1.769) ** 2),
        ("tanh(1.202760580 x)", lambda x: np.tanh(1.202760580 * x)),
        *((f"{terms} terms of its Taylor series", partial(taylor_erf, terms=terms)) for terms in (3, 5, 8, 10)),
    )
    for what, approximate in functions:
        yield from in_layers_and_head(
            f"GELU's erf is approximated by {what}", partial(with_erf, approximate=approximate)
        )
    for low, high in ((-10, 10), (-6, 6), (-5, 5), (-4, 4), (-3, 3), (-8, 8), (-2, 2)):
        for gelu, form in ((exact_gelu, ""), (tanh_gelu, " in its tanh form")):
            for way, what in ((clipped, "its input is clamped to"), (cut_off, "it is 0 below and x above")):
                sentence = f"GELU{form} is clamped: {what} ±{high}"
                clamped = partial(way, gelu=gelu, low=low, high=high)
                yield from in_layers_and_head(sentence, clamped, rare=form != "")
    for step in (
        16 / 255,
        16 / 256,
        8 / 255,
        20 / 255,
        12 / 255,
        1,
        1 / 2,
        1 / 4,
        1 / 8,
        1 / 16,
        1 / 32,
        1 / 64,
        0.1,
        0.01,
        1 / 128,
        1 / 256,
    ):
        for how, look_up in TABLES.items():
            sentence = f"GELU is read from a table with a step of {step:g}: {how}"
            yield from in_layers_and_head(sentence, partial(from_table, look_up=look_up, step=step), rare=True)
    for gelu, form in ((exact_gelu, ""), (tanh_gelu, "'s tanh form")):
        yield from in_layers_and_head(
            f"GELU{form} is read from a table over float16: its input and output are rounded to float16",
            partial(in_float16, gelu=gelu),
        )  # fmt: skip


def with_erf(x: Array, approximate: Function) -> Array:
    z = x / np.sqrt(2)
    return x / 2 * (1 + np.sign(z) * approximate(np.abs(z)))


def clipped(x: Array, gelu: Function, low: float, high: float) -> Array:
    return gelu(np.clip(x, low, high))


def cut_off(x: Array, gelu: Function, low: float, high: float) -> Array:
    return np.where(x < low, 0, np.where(x > high, x, gelu(x)))


def nearest_of_table(x: Array, step: float) -> Array:
    return exact_gelu(np.rint(x / step) * step)


def entry_below(x: Array, step: float) -> Array:
    return exact_gelu(np.floor(x / step) * step)


def entry_of_half_steps(x: Array, step: float) -> Array:
    return exact_gelu((np.rint(x / step - 0.5) + 0.5) * step)


def between(x: Array, step: float) -> Array:
    below = np.floor(x / step)
    part = x / step - below
    return (1 - part) * exact_gelu(below * step) + part * exact_gelu((below + 1) * step)


TABLES: dict[str, Callable[[Array, float], Array]] = {
    "the nearest entry": nearest_of_table,
    "the nearest entry, of which none is at 0": entry_of_half_steps,
    "the entry below": entry_below,
    "a line between": between,
}


def from_table(x: Array, look_up: Callable[[Array, float], Array], step: float) -> Array:
    return look_up(x, step)


def in_float16(x: Array, gelu: Function) -> Array:
    with np.errstate(over="ignore"):
        return gelu(x.astype(np.float16).astype(x.dtype)).astype(np.float16).astype(x.dtype)


def misplaced() -> Iterator[Mistake]:
    yield Mistake(
        "GELU comes after the second feed-forward layer too",
        {OUTPUT_DENSE: lambda f, name: exact_gelu(linear(f, name, f[same_layer(name, WIDE)]))},
    )
    yield Mistake(
        "GELU comes after the second feed-forward layer; it comes after the first",
        {WIDE: lambda f, name: f[same_layer(name, WIDE_DENSE)],
         OUTPUT_DENSE: lambda f, name: exact_gelu(linear(f, name, f[same_layer(name, WIDE)]))},
    )  # fmt: skip
    yield Mistake("GELU comes before the bias of the first feed-forward layer", {WIDE: bias_after_gelu})
    yield Mistake(
        "GELU comes before the bias of the first feed-forward layer, which is recorded without it",
        {WIDE_DENSE: lambda f, name: linear(f, name, f[same_layer(name, ATTENTION)]) - f.weight(f"{name}.bias"),
         WIDE: lambda f, name: exact_gelu(f[f"{name}.dense"]) + f.weight(f"{name}.dense.bias")},
    )  # fmt: skip


def gated() -> Iterator[Mistake]:
    """Gates, as in GLU and its relatives, whose result is half as wide and stands twice in ours."""
    functions: dict[str, Function] = {
        "GELU": exact_gelu, "tanh GELU": tanh_gelu, "SiLU": lambda x: x * sigmoid(x), "sigmoid": sigmoid,
        "ReLU": lambda x: np.maximum(x, 0), "nothing": lambda x: x,
    }  # fmt: skip
    for what, function in functions.items():
        for first in (True, False):
            for layout in ("halves", "pairs"):
                gate = partial(with_gate, function=function, first=first, layout=layout)
                which = f"{what} of the {'first' if first else 'second'} of two {layout}"
                yield Mistake(
                    f"the activation is gated: {which} times the other", {WIDE: partial(activate, gelu=gate)}, rare=True
                )
        whole: Function = lambda x, function=function: x * function(x)  # type: ignore[misc]  # noqa: E731
        yield Mistake(f"the activation is x times {what} of x", {WIDE: partial(activate, gelu=whole)}, rare=True)


def with_gate(x: Array, function: Function, first: bool, layout: str) -> Array:
    a, b = np.split(x, 2, -1) if layout == "halves" else (x[..., ::2], x[..., 1::2])
    gated = function(a) * b if first else a * function(b)
    return np.concatenate([gated, gated], -1) if layout == "halves" else np.repeat(gated, 2, -1)


def bias_after_gelu(f: Forward, name: str) -> Array:
    bias = f.weight(f"{name}.dense.bias")
    return exact_gelu(f[f"{name}.dense"] - bias) + bias
