"""Mistakes in the layer norms and the residuals around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import numpy as np

from numroberta.parity.mistakes.places import place_of
from numroberta.parity.names import ATTENTION, KEY, LAYER, OUTPUT, QUERY, VALUE, WIDE_DENSE, same_layer
from numroberta.parity.steps import (
    RESIDUALS,
    Array,
    Forward,
    Inputs,
    Mistake,
    Step,
    TensorChange,
    Way,
    added,
    embeddings,
    head_norm,
    layer_norm,
    linear,
)

NORMS = {  # the place of each norm, and the prefix of its tensors
    "embeddings": "embeddings.LayerNorm",
    ATTENTION: f"{ATTENTION}.LayerNorm",
    OUTPUT: f"{OUTPUT}.LayerNorm",
    "lm_head.layer_norm": "lm_head.layer_norm",
}


def mistakes(inputs: Inputs) -> Iterator[Mistake]:
    yield from wrong_norms(inputs)
    yield from wrong_norm_tensors(inputs.layers)
    yield from misplaced_norms(inputs)
    yield from wrong_residuals()


def normalize(
    f: Forward, name: str, x: Array, eps: float, freedom: int = 0, outside: bool = False, centre: bool = True
) -> Array:
    """The norm with pieces exchanged: the divisor n − freedom, epsilon under the root or outside, the mean left in."""
    centred = x - x.mean(-1, keepdims=True)
    variance = np.square(centred).sum(-1, keepdims=True) / (x.shape[-1] - freedom)
    y = (centred if centre else x) / (np.sqrt(variance) + eps if outside else np.sqrt(variance + eps))
    return y * f.weight(f"{name}.weight") + f.weight(f"{name}.bias")


def root_mean_square(f: Forward, name: str, x: Array, eps: float, bias: bool = True) -> Array:
    y = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + eps) * f.weight(f"{name}.weight")
    return y + f.weight(f"{name}.bias") if bias else y


def wrong_norms(inputs: Inputs) -> Iterator[Mistake]:
    right, width = inputs.layer_norm_eps, inputs.weights["embeddings.LayerNorm.bias"].size
    sentence = "the layer norm's epsilon is {}; the config's is {}"
    ways: list[tuple[str, Way]] = [
        (sentence.format(show(eps), show(right)), partial(normalize, eps=eps))
        for eps in (1e-12, 1e-5, 1e-6, 1e-3, 1e-8, 1e-7, 1e-4, 1e-2, 0.1, 1e-10, 0)
        if eps != right
    ]
    ways += [
        ("the layer norm divides by the unbiased variance (n − 1); it is the biased one (n)",
         partial(normalize, eps=right, freedom=1)),
        ("the layer norm adds epsilon to the standard deviation, not to the variance under the root",
         partial(normalize, eps=right, outside=True)),
        ("the layer norm divides by the unbiased standard deviation plus epsilon; it is √(biased variance + epsilon)",
         partial(normalize, eps=right, freedom=1, outside=True)),
        ("the layer norm's squares are summed; they are averaged", partial(normalize, eps=right, freedom=width - 1)),
        ("the norm is RMSNorm: the mean is not subtracted", partial(root_mean_square, eps=right)),
        ("the norm is RMSNorm without a bias: the mean is not subtracted",
         partial(root_mean_square, eps=right, bias=False)),
        ("the layer norm does not subtract the mean before it divides by the standard deviation",
         partial(normalize, eps=right, centre=False)),
        ("the layer norm divides by the variance, not by its root", divided_by_variance),
        ("the layer norm does not divide by the standard deviation", not_divided),
        ("the layer norm divides by the length of the vector (L2 norm)", divided_by_length),
        ("the layer norm is left out", lambda f, name, x: x),
        ("the layer norm runs over the tokens; it runs over the features", over_tokens),
        ("the layer norm runs over tokens and features together", over_everything),
        ("the layer norm runs within each head", within_heads),
        *((f"the layer norm runs within {groups} groups of features (group norm)", partial(within, groups=groups))
          for groups in (2, 3, 4, 8, 16, 32)),
        ("the layer norm divides by the mean absolute deviation", divided_by_deviation),
        ("the layer norm's variance is the mean of the squares: the mean is not subtracted in it", uncentred),
        ("the layer norm's mean and variance are those of the first token", partial(of_another_token, turn=None)),
        ("the layer norm's mean and variance are those of the token before", partial(of_another_token, turn=1)),
        ("the layer norm's mean and variance are those of the next token", partial(of_another_token, turn=-1)),
        *((f"the layer norm's {what} of the first {part} of the features only",
           partial(of_a_part, part=size, mean=mean, variance=variance))
          for part, size in (("half", 1 / 2), ("quarter", 1 / 4), ("three quarters", 3 / 4))
          for what, mean, variance in (("mean is that", True, False), ("variance is that", False, True),
                           ("mean and variance are those", True, True))),
        ("the layer norm's variance is the mean of the squares less the mean, which is not squared", not_squared),
        ("the layer norm is applied twice", lambda f, name, x: layer_norm(f, name, layer_norm(f, name, x))),
    ]  # fmt: skip
    for what, way in ways:
        yield from norms_everywhere_or_once(what, way, "padding" if way in (over_tokens, over_everything) else "text")


def norms_everywhere_or_once(what: str, way: Way, scope: Literal["text", "padding"] = "text") -> Iterator[Mistake]:
    steps = norms_by(way)
    yield Mistake(what, steps, scope=scope)
    yield Mistake(f"{what} (in the layers)", {name: steps[name] for name in RESIDUALS}, scope=scope)
    for name, step in steps.items():
        yield Mistake(f"{what} (in {place_of(name)})", {name: step}, rare=name != "embeddings", scope=scope)


def norms_by(way: Way) -> dict[str, Step]:
    """The steps of all norms, computed this way."""
    return {kind: norm_by(way, kind) for kind in (*RESIDUALS, "embeddings", "lm_head.layer_norm")}


def norm_by(way: Way, kind: str) -> Step:
    """The step of one norm, computed this way."""
    if kind == "embeddings":
        return partial(embeddings, way=way)
    return partial(head_norm, way=way) if kind == "lm_head.layer_norm" else added(way, kind)


def divided_by_variance(f: Forward, name: str, x: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    y = centred / (np.square(centred).mean(-1, keepdims=True) + f.inputs.layer_norm_eps)
    return y * f.weight(f"{name}.weight") + f.weight(f"{name}.bias")


def not_divided(f: Forward, name: str, x: Array) -> Array:
    return (x - x.mean(-1, keepdims=True)) * f.weight(f"{name}.weight") + f.weight(f"{name}.bias")


def divided_by_length(f: Forward, name: str, x: Array) -> Array:
    y = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
    return y * f.weight(f"{name}.weight") + f.weight(f"{name}.bias")


def over_tokens(f: Forward, name: str, x: Array) -> Array:
    y = x - x.mean(-2, keepdims=True)
    y = y / np.sqrt(np.square(y).mean(-2, keepdims=True) + f.inputs.layer_norm_eps)
    return y * f.weight(f"{name}.weight") + f.weight(f"{name}.bias")


def over_everything(f: Forward, name: str, x: Array) -> Array:
    y = x - x.mean((-2, -1), keepdims=True)
    y = y / np.sqrt(np.square(y).mean((-2, -1), keepdims=True) + f.inputs.layer_norm_eps)
    return y * f.weight(f"{name}.weight") + f.weight(f"{name}.bias")


def divided_by_deviation(f: Forward, name: str, x: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    y = centred / (np.abs(centred).mean(-1, keepdims=True) + f.inputs.layer_norm_eps)
    return y * f.weight(f"{name}.weight") + f.weight(f"{name}.bias")


def uncentred(f: Forward, name: str, x: Array) -> Array:
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(np.square(x).mean(-1, keepdims=True) + f.inputs.layer_norm_eps)
    return y * f.weight(f"{name}.weight") + f.weight(f"{name}.bias")


def of_another_token(f: Forward, name: str, x: Array, turn: int | None) -> Array:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    mean, variance = (
        np.broadcast_to(of[..., :1, :], of.shape) if turn is None else np.roll(of, turn, -2) for of in (mean, variance)
    )
    y = (x - mean) / np.sqrt(variance + f.inputs.layer_norm_eps)
    return y * f.weight(f"{name}.weight") + f.weight(f"{name}.bias")


def of_a_part(f: Forward, name: str, x: Array, part: float, mean: bool = False, variance: bool = False) -> Array:
    """The mean, or the variance about it, of so large a part of the features, the first of them."""
    count = max(1, int(x.shape[-1] * part))
    centred = x - x[..., : count if mean else None].mean(-1, keepdims=True)
    squares = np.square(centred[..., : count if variance else None]).mean(-1, keepdims=True)
    y = centred / np.sqrt(squares + f.inputs.layer_norm_eps)
    return y * f.weight(f"{name}.weight") + f.weight(f"{name}.bias")


def not_squared(f: Forward, name: str, x: Array) -> Array:
    mean = x.mean(-1, keepdims=True)
    variance = np.abs(np.square(x).mean(-1, keepdims=True) - mean)
    y = (x - mean) / np.sqrt(variance + f.inputs.layer_norm_eps)
    return y * f.weight(f"{name}.weight") + f.weight(f"{name}.bias")


def within_heads(f: Forward, name: str, x: Array) -> Array:
    return within(f, name, x, f.inputs.num_attention_heads)


def within(f: Forward, name: str, x: Array, groups: int) -> Array:
    y = x.reshape(*x.shape[:-1], groups, -1)
    y = y - y.mean(-1, keepdims=True)
    y = (y / np.sqrt(np.square(y).mean(-1, keepdims=True) + f.inputs.layer_norm_eps)).reshape(x.shape)
    return y * f.weight(f"{name}.weight") + f.weight(f"{name}.bias")


def wrong_norm_tensors(layers: int) -> Iterator[Mistake]:
    """The layer norm's weight and bias: left out, swapped, changed, or those of another norm."""

    def norms(
        sentence: str, weight: TensorChange | None = None, bias: TensorChange | None = None, common: bool = True
    ) -> Iterator[Mistake]:
        def tensors(prefixes: list[str]) -> dict[str, TensorChange]:
            changes = {"weight": weight, "bias": bias}
            return {f"{prefix}.{part}": c for prefix in prefixes for part, c in changes.items() if c}

        yield Mistake(sentence, tensors=tensors(list(NORMS.values())), rare=not common)
        yield Mistake(f"{sentence} (in the layers)", tensors=tensors([NORMS[k] for k in RESIDUALS]), rare=not common)
        for kind, prefix in NORMS.items():
            yield Mistake(f"{sentence} (in {place_of(kind)})", tensors=tensors([prefix]), rare=True)

    zero: TensorChange = lambda f, name, t: np.zeros_like(t)  # noqa: E731
    one: TensorChange = lambda f, name, t: np.ones_like(t)  # noqa: E731
    yield from norms("the layer norm's bias is left out", bias=zero)
    yield from norms("the layer norm's weight is left out", weight=one)
    yield from norms("the layer norm's weight and bias are left out", weight=one, bias=zero)
    yield from norms("the layer norm's weight and bias are swapped", weight=other_part, bias=other_part)
    yield from norms("the layer norm multiplies by 1 + its weight", weight=lambda f, name, t: 1 + t)
    yield from norms("the layer norm's weight is also its bias", bias=other_part, common=False)
    yield from norms(
        "the layer norm's weight multiplies its bias too", bias=lambda f, n, t: t * other_part(f, n, t), common=False
    )
    yield from norms("the layer norm's bias is added twice", bias=lambda f, name, t: 2 * t, common=False)
    yield from norms("the layer norm's bias is subtracted", bias=lambda f, name, t: -t, common=False)
    yield from norms("the layer norm's weight is applied twice", weight=lambda f, name, t: t * t, common=False)
    yield from norms("the layer norm's weight is zero", weight=zero, common=False)
    for part in ("weight", "bias"):
        for what, change in (
            ("shifted by one", lambda f, name, t: np.roll(t, 1)),
            ("shifted by one, backwards", lambda f, name, t: np.roll(t, -1)),
            ("in reverse", lambda f, name, t: t[::-1]),
        ):
            yield from norms(f"the layer norm's {part} is {what}", **{part: change}, common=False)
    first_half: TensorChange = lambda f, name, t: t * (np.arange(len(t)) < len(t) / 2)  # noqa: E731
    yield from norms("the layer norm's bias is cut off: its second half is zero", bias=first_half, common=False)

    def of(other: str) -> TensorChange:
        def change(f: Forward, name: str, tensor: Array) -> Array:
            layer = 0 if not name.startswith("encoder") else int(name.split(".")[2])
            return f.stored(f"{other.replace(LAYER, f'encoder.layer.{layer}')}.{name.rpartition('.')[2]}")

        return change

    pairs = {ATTENTION: "the attention's", OUTPUT: "the feed-forward's", "embeddings": "the embeddings'"}
    exchanged = {
        f"{NORMS[a]}.{part}": of(NORMS[b])
        for a, b in ((ATTENTION, OUTPUT), (OUTPUT, ATTENTION))
        for part in ("weight", "bias")
    }
    yield Mistake("the attention's and the feed-forward's layer norms are exchanged", tensors=exchanged)
    for mine, whose in pairs.items():
        for other, theirs in pairs.items():
            if mine != other:
                tensors = {f"{NORMS[mine]}.{part}": of(NORMS[other]) for part in ("weight", "bias")}
                sentence = f"{whose} layer norm has the weights of {theirs}"
                yield Mistake(sentence, tensors=tensors, rare=mine == "embeddings")
                for part in ("weight", "bias"):
                    alone = {f"{NORMS[mine]}.{part}": of(NORMS[other])}
                    yield Mistake(f"{whose} layer norm has the {part} of {theirs}", tensors=alone, rare=True)
        last = f"{NORMS[mine].replace(LAYER, f'encoder.layer.{layers - 1}')}" if mine != "embeddings" else ""
        if last:
            tensors = {f"{NORMS['embeddings']}.{part}": of(last) for part in ("weight", "bias")}
            yield Mistake(f"the embeddings' layer norm has the weights of {whose} of the last layer", tensors=tensors)


def standardized(f: Forward, x: Array) -> Array:
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + f.inputs.layer_norm_eps)


def other_part(f: Forward, name: str, tensor: Array) -> Array:
    """The bias of a norm for its weight, and the other way round."""
    prefix, _, part = name.rpartition(".")
    return f.stored(f"{prefix}.{'bias' if part == 'weight' else 'weight'}")


def misplaced_norms(inputs: Inputs) -> Iterator[Mistake]:
    def before(name: str) -> Step:
        return lambda f, at: RESIDUALS[name](f, at) + layer_norm(f, f"{at}.LayerNorm", f[f"{at}.dense"])

    def without_residual(name: str) -> Step:
        return lambda f, at: layer_norm(f, f"{at}.LayerNorm", f[f"{at}.dense"])

    def norm_of_input(name: str) -> Step:
        return lambda f, at: layer_norm(f, f"{at}.LayerNorm", RESIDUALS[name](f, at)) + f[f"{at}.dense"]

    def norm_of_both(name: str) -> Step:
        return lambda f, at: (
            layer_norm(f, f"{at}.LayerNorm", RESIDUALS[name](f, at))
            + layer_norm(f, f"{at}.LayerNorm", f[f"{at}.dense"])
        )

    def normalized_branch(name: str) -> Step:
        return lambda f, at: layer_norm(
            f, f"{at}.LayerNorm", RESIDUALS[name](f, at) + standardized(f, f[f"{at}.dense"])
        )

    def only_residual(name: str) -> Step:
        return lambda f, at: layer_norm(f, f"{at}.LayerNorm", RESIDUALS[name](f, at))

    def times(name: str, past: float, branch: float) -> Step:
        return lambda f, at: layer_norm(f, f"{at}.LayerNorm", past * RESIDUALS[name](f, at) + branch * f[f"{at}.dense"])

    deep = float(2 * inputs.layers) ** 0.25
    factors = {
        deep: f"(2 · {inputs.layers})^¼", 1 / deep: f"(2 · {inputs.layers})^−¼", 2**0.5: "√2", 2**-0.5: "1/√2",
        0.5: "½", 0.1: "0.1", 0.9: "0.9", 1 / 0.9: "1/0.9", 1 / inputs.layers: f"1/{inputs.layers}",
        float(8 * inputs.layers) ** -0.25: f"(8 · {inputs.layers})^−¼",
    }  # fmt: skip
    ways: tuple[tuple[str, Callable[[str], Step], bool], ...] = (
        ("the layer norm comes before the residual is added; it comes after", before, True),
        ("the residual is not added", without_residual, True),
        ("the residual is added twice", partial(times, past=2, branch=1), True),
        ("the sublayer is added twice", partial(times, past=1, branch=2), False),
        ("the residual is subtracted", partial(times, past=-1, branch=1), False),
        ("the sublayer is subtracted from the residual", partial(times, past=1, branch=-1), False),
        ("the residual and the sublayer are averaged", partial(times, past=0.5, branch=0.5), False),
        ("the sum of residual and sublayer is divided by √2", partial(times, past=2**-0.5, branch=2**-0.5), False),
        ("the layer norm is applied to the residual alone, before the sum", norm_of_input, False),
        ("the layer norm is applied to both terms, before the sum", norm_of_both, False),
        ("the sublayer is normalized, without weights, before it is added", normalized_branch, False),
        ("the sublayer is left out: only the residual goes on", only_residual, True),
        *(
            (
                f"the residual is multiplied by {show} before it is added (as in DeepNorm)",
                partial(times, past=factor, branch=1),
                factor == deep,
            )
            for factor, show in factors.items()
        ),
        *(
            (f"the sublayer is multiplied by {show} before it is added", partial(times, past=1, branch=factor), False)
            for factor, show in factors.items()
        ),
    )
    for what, changed, common in ways:
        yield Mistake(what, {name: changed(name) for name in RESIDUALS}, rare=not common)
        for name in RESIDUALS:
            yield Mistake(f"{what} (in {place_of(name)})", {name: changed(name)}, rare=not common)
    yield from pre_norm()
    yield from extra_norms()


def pre_norm() -> Iterator[Mistake]:
    """x + f(LayerNorm(x)), as in GPT-2: what is normalized goes into the sublayer, what is not is carried past."""

    def first_norm(f: Forward, name: str) -> Array:
        return layer_norm(f, same_layer(name, f"{ATTENTION}.LayerNorm"), f.layer_input(name))

    def second_norm(f: Forward, name: str) -> Array:
        return layer_norm(f, same_layer(name, f"{OUTPUT}.LayerNorm"), f[same_layer(name, ATTENTION)])

    steps: dict[str, Step] = {
        kind: lambda f, name: linear(f, name, first_norm(f, name)) for kind in (QUERY, KEY, VALUE)
    }
    steps |= {
        ATTENTION: lambda f, name: f.layer_input(name) + f[f"{name}.dense"],
        WIDE_DENSE: lambda f, name: linear(f, name, second_norm(f, name)),
        OUTPUT: lambda f, name: f[same_layer(name, ATTENTION)] + f[f"{name}.dense"],
    }
    yield Mistake("the layer norms come before the sublayers (pre-norm, as in GPT-2); RoBERTa's come after", steps)


def extra_norms() -> Iterator[Mistake]:
    def after(f: Forward, name: str, eps: float | None, tensors: str | None) -> Array:
        x = RESIDUALS[OUTPUT](f, name) + f[f"{name}.dense"]
        x = layer_norm(f, f"{name}.LayerNorm", x)
        if int(name.split(".")[2]) != len(f.order) - 1:
            return x
        if tensors:
            return layer_norm(f, tensors.replace(LAYER, ".".join(name.split(".")[:3])), x)
        return standardized(f, x)

    for what, tensors in (
        ("without weights", None),
        ("with the weights of the embeddings' norm", "embeddings.LayerNorm"),
        ("with the weights of the last layer's norm", f"{OUTPUT}.LayerNorm"),
        ("with the weights of the last layer's attention norm", f"{ATTENTION}.LayerNorm"),
    ):
        step = partial(after, eps=None, tensors=tensors)
        yield Mistake(f"there is a layer norm more at the end of the encoder, {what}", {OUTPUT: step})
    yield Mistake(
        "the last layer's norm is left out",
        {OUTPUT: lambda f, at: (
            RESIDUALS[OUTPUT](f, at) + f[f"{at}.dense"]
            if int(at.split(".")[2]) == len(f.order) - 1
            else added(layer_norm, OUTPUT)(f, at)
        )},
    )  # fmt: skip
    yield Mistake(
        "the word embeddings alone are normalized: the positions are added after",
        {"embeddings": lambda f, name: (
            layer_norm(f, "embeddings.LayerNorm", f["embeddings.word_embeddings"])
            + f["embeddings.position_embeddings"] + f["embeddings.token_type_embeddings"]
        )}, rare=True,
    )  # fmt: skip


def wrong_residuals() -> Iterator[Mistake]:
    def carried(name: str, what: str, value: Step) -> Mistake:
        step: Step = lambda f, at: layer_norm(f, f"{at}.LayerNorm", value(f, at) + f[f"{at}.dense"])  # noqa: E731
        return Mistake(f"the {'feed-forward' if name == OUTPUT else 'attention'}'s residual is {what}", {name: step})

    yield carried(OUTPUT, "the layer's input; it is the attention's output", lambda f, at: f.layer_input(at))
    yield carried(OUTPUT, "the attention's dense output, before its norm",
                  lambda f, at: f[same_layer(at, f"{ATTENTION}.dense")])  # fmt: skip
    yield carried(OUTPUT, "the attention's sum before its layer norm; it is taken after",
                  lambda f, at: f.layer_input(at) + f[same_layer(at, f"{ATTENTION}.dense")])  # fmt: skip
    yield carried(OUTPUT, "the sum of the layer's input and the attention's output",
                  lambda f, at: f.layer_input(at) + f[same_layer(at, ATTENTION)])  # fmt: skip
    yield carried(OUTPUT, "the attention's output without its negative part (ReLU in place)",
                  lambda f, at: np.maximum(f[same_layer(at, ATTENTION)], 0))  # fmt: skip
    yield carried(OUTPUT, "the embeddings; it is the attention's output", lambda f, at: f["embeddings"])
    yield carried(ATTENTION, "the embeddings; it is the layer's input", lambda f, at: f["embeddings"])
    yield carried(ATTENTION, "the value; it is the layer's input",
                  lambda f, at: f[same_layer(at, f"{LAYER}.attention.self.value")])  # fmt: skip
    yield carried(ATTENTION, "the context; it is the layer's input",
                  lambda f, at: f[same_layer(at, f"{LAYER}.attention.context")])  # fmt: skip
    yield carried(ATTENTION, "the query; it is the layer's input",
                  lambda f, at: f[same_layer(at, f"{LAYER}.attention.self.query")])  # fmt: skip
    yield carried(ATTENTION, "the layer's input before the norm of the layer below", input_before_norm)


def input_before_norm(f: Forward, at: str) -> Array:
    number = int(at.split(".")[2])
    if not number:
        return np.sum([f[f"embeddings.{part}_embeddings"] for part in ("word", "position", "token_type")], axis=0)
    below = f"encoder.layer.{number - 1}.output"
    return f[f"encoder.layer.{number - 1}.attention.output"] + f[f"{below}.dense"]


def show(number: float) -> str:
    """1e-05 as people write it."""
    return f"{number:g}".replace("e-0", "e-")
