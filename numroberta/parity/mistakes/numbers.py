"""Mistakes of precision: quantized weights, 16-bit products, sums and norms, fast approximations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations

import numpy as np

from numroberta.parity.measure import ROUNDINGS, UNITS, to_float16, to_mantissa, to_tf32
from numroberta.parity.mistakes.norms import norms_by, norms_everywhere_or_once
from numroberta.parity.mistakes.places import steps_everywhere_or_once
from numroberta.parity.names import CONTEXT, PROBS, SCORES, VALUE, WIDE, WORD, same_layer
from numroberta.parity.steps import (
    EMBEDDED,
    LINEARS,
    STEPS,
    TENSORS,
    Array,
    Forward,
    Inputs,
    Mistake,
    Step,
    TensorChange,
    activate,
    blocked,
    erf,
    layer_norm,
    merge,
    scores,
    through,
)

Round = Callable[[Array], Array]


def mistakes(inputs: Inputs) -> Iterator[Mistake]:
    yield from narrow_products()
    yield from quantized_weights(inputs)
    yield from narrow_steps()
    yield from fast_functions()
    # Where nothing else says more: whole tensors or every step in 16 bits.
    for name, way in ROUNDINGS.items():
        yield Mistake(f"the weights are rounded to {name}", tensors=dict.fromkeys(TENSORS, rounded(way)))
    for name, way in ROUNDINGS.items():
        steps = {kind: rounded_step(way, kind) for kind in STEPS}
        yield Mistake(f"the values are those of {name}: every step is rounded to it", steps, unit=UNITS[name])


def rounded(way: Round) -> TensorChange:
    """In float32, as programs compute scales and quotients: another type rounds some ties the other way."""
    return lambda f, name, tensor: way(tensor.astype(np.float32)).astype(np.float64)


def of_table(way: Round) -> TensorChange:
    """The same for rows of a table, whose scale is that of all rows: those of the extremes are rounded with them."""

    def change(f: Forward, name: str, rows: Array) -> Array:
        table = f.inputs.weights[name]
        ends = [np.unravel_index(place, table.shape)[0] for place in (table.argmax(), table.argmin())]
        together = np.concatenate([rows.reshape(-1, rows.shape[-1]), table[ends]])
        return rounded(way)(f, name, together)[: -len(ends)].reshape(rows.shape)

    return change


def rounded_step(way: Round, kind: str) -> Step:
    return lambda f, name: way(STEPS[kind](f, name))


def product(f: Forward, name: str, x: Array, factors: Round, sums: Round = lambda x: x) -> Array:
    y = sums(factors(x) @ factors(f.weight(f"{name}.weight")).T)
    return sums(y + f.weight(f"{name}.bias"))


def narrow_products() -> Iterator[Mistake]:
    tf32 = "products are computed in TF32, which keeps 10 bits of each factor (allow_tf32 in PyTorch)"
    kinds: tuple[tuple[str, str, Round], ...] = (
        (tf32, "TF32", to_tf32),
        *((f"products are computed from factors rounded to {name}", name, way) for name, way in ROUNDINGS.items()),
    )
    for sentence, name, factors in kinds:
        steps: dict[str, Step] = {kind: through(partial(product, factors=factors), kind) for kind in LINEARS}
        yield Mistake(sentence, steps, unit=UNITS[name])
        attention = {SCORES: partial(narrow_scores, way=factors), CONTEXT: partial(narrow_context, way=factors)}
        yield Mistake(f"{sentence}, in attention too", steps | attention, unit=UNITS[name])
        yield Mistake(f"{sentence} (in attention only)", attention, rare=True)
        yield from (Mistake(f"{sentence} (at {kind} only)", {kind: step}, rare=True) for kind, step in steps.items())
    for name, way in ROUNDINGS.items():
        steps = {kind: through(partial(product, factors=way, sums=way), kind) for kind in LINEARS}
        sentence = f"the linear layers are computed in {name}: factors and results are rounded to it"
        yield Mistake(sentence, steps, unit=UNITS[name])
        added = partial(added_up_in, way=way)
        yield from steps_everywhere_or_once(
            f"the products of the linear layers are added up in {name}, one after another",
            LINEARS,
            partial(through, added),
            rare=True,
        )
        yield from steps_everywhere_or_once(
            f"the results of the linear layers are rounded to {name}", LINEARS, partial(rounded_step, way), rare=True
        )


def added_up_in(f: Forward, name: str, x: Array, way: Round) -> Array:
    weight = f.weight(f"{name}.weight")
    total = np.zeros((*x.shape[:-1], len(weight)))
    for i in range(x.shape[-1]):
        total = way(total + way(x[..., i, None] * weight[:, i]))
    return way(total + way(f.weight(f"{name}.bias")))


def narrow_scores(f: Forward, name: str, way: Round) -> Array:
    return scores(f, name, split=lambda f, values: way(f.split(values)))


def narrow_context(f: Forward, name: str, way: Round) -> Array:
    return merge(way(f[same_layer(name, PROBS)]) @ way(f.split(f[same_layer(name, VALUE)])))


def quantizers(inputs: Inputs) -> tuple[tuple[str, Round], ...]:
    """Ways of storing weights in fewer bits: ("int8, one scale …", the weights as they are read again)."""
    width = inputs.weights["embeddings.LayerNorm.bias"].size
    # Rows that are no multiples of 32 wide have smaller blocks.
    sizes = (32, 64, 128) if width % 32 == 0 else (8, 16, 24, 32, 64, 128)
    ways: tuple[tuple[str, Round], ...] = (
        ("int8, one scale for each tensor", partial(symmetric, levels=127, axis=None)),
        ("int8, one scale for each row (output)", partial(symmetric, levels=127, axis=1)),
        ("int8, one scale for each column (input)", partial(symmetric, levels=127, axis=0)),
        ("int8 with steps of max/128, one scale for each tensor", partial(symmetric, levels=128, axis=None)),
        ("int8 with steps of max/128, one scale for each row", partial(symmetric, levels=128, axis=1)),
        ("uint8 with a zero point, one for each tensor", partial(asymmetric, levels=255, axis=None)),
        ("uint8 with a zero point, one for each row", partial(asymmetric, levels=255, axis=1)),
        ("uint8 from minimum to maximum, one range for each tensor", partial(min_max, levels=255, axis=None)),
        ("uint8 from minimum to maximum, one range for each row", partial(min_max, levels=255, axis=1)),
        *((f"int8 in blocks of {size} (as Q8_0)", partial(in_blocks, size=size, way=INT8)) for size in sizes),
        *((f"4 bits in blocks of {size}, −7 to 7", partial(in_blocks, size=size, way=INT4))
          for size in sorted({16, *sizes})),
        *((f"4 bits in blocks of {size}, −8 to 7 (as Q4_0)", partial(in_blocks, size=size, way=q4_0))
          for size in sizes),
        *((f"4 bits in blocks of {size}, minimum and scale (as Q4_1)",
           partial(in_blocks, size=size, way=partial(min_max, levels=15, axis=1))) for size in sizes),
        *((f"4 bits with a zero point in blocks of {size}",
           partial(in_blocks, size=size, way=partial(asymmetric, levels=15, axis=1))) for size in sizes),
        ("4-bit NormalFloat in blocks of 64 (NF4)", normal_float),
        ("4 bits, one scale for each row", partial(symmetric, levels=7, axis=1)),
        ("4 bits, one scale for each tensor", partial(symmetric, levels=7, axis=None)),
        ("8-bit floats, E4M3", partial(to_small_float, mantissa=4, least=-6)),
        ("8-bit floats, E5M2", partial(to_small_float, mantissa=3, least=-14)),
        *ROUNDINGS.items(),
        ("bfloat16, cut off and not rounded", partial(to_mantissa, bits=8, way=np.trunc)),
        ("TF32", to_tf32),
    )  # fmt: skip
    ways += tuple(
        (f"{bits} bits in blocks of 32, −{levels} to {top}, with scales in float16{how}",
         partial(in_blocks, size=32, way=partial(with_narrow_scale, levels=levels, top=top, first=first)))
        for bits, levels, top in ((8, 127, 127), (8, 128, 127), (6, 31, 31), (5, 15, 15), (5, 16, 15), (4, 7, 7),
                                  (4, 8, 7), (3, 3, 3))
        for first, how in ((False, ""), (True, ", by which the weights are divided"))
    )  # fmt: skip
    ways += tuple(
        (f"{bits} bits in blocks of 32, {what} (as Q{bits}_{kind}), with scales in float16",
         partial(in_blocks, size=32, way=partial(way, levels=2**bits)))
        for bits in (4, 5) for what, kind, way in (
            (f"−{2 ** (bits - 1)} to {2 ** (bits - 1) - 1}", 0, signed_by_largest), ("minimum and scale", 1, from_least)
        )
    )  # fmt: skip
    ways += tuple(
        (f"int8, one scale in float16 for each {what}", partial(with_narrow_scale, levels=127, top=127, axis=axis))
        for what, axis in (("tensor", None), ("row", 1))
    )
    ways += (
        ("int8, cut off and not rounded, one scale for each row", partial(symmetric, levels=127, axis=1, way=np.trunc)),
        ("int8, cut off and not rounded, one scale for each tensor",
         partial(symmetric, levels=127, axis=None, way=np.trunc)),
        ("int8, rounded down, one scale for each row", partial(symmetric, levels=127, axis=1, way=np.floor)),
        ("8-bit floats, E4M3, with a scale for each tensor", partial(scaled_float, axis=None)),
        ("8-bit floats, E4M3, with a scale for each row", partial(scaled_float, axis=1)),
        ("int16, one scale for each tensor", partial(symmetric, levels=32767, axis=None)),
        *((f"{kept} of {size} neighbours, the others 0 (sparse)", partial(sparse, kept=kept, size=size))
          for kept, size in ((2, 4), (1, 4), (1, 2), (3, 4), (4, 8)) if width % size == 0),
        ("2 bits (−1, 0, 1), with the mean magnitude as the scale", ternary),
        ("1 bit (the sign), with the mean magnitude of each row as the scale",
         lambda w: np.sign(w) * np.abs(w).mean(-1, keepdims=True)),
    )  # fmt: skip
    return ways


def quantized_weights(inputs: Inputs) -> Iterator[Mistake]:
    for what, way in quantizers(inputs):
        change = rounded(way)
        weights = [f"{kind}.weight" for kind in LINEARS]
        verb = "rounded to" if what.startswith(("TF32", *ROUNDINGS)) else "quantized to"
        verb = "pruned to" if what.endswith("(sparse)") else verb
        yield Mistake(f"the weights of the linear layers are {verb} {what}", tensors=dict.fromkeys(weights, change))
        table = {f"{WORD}.weight": of_table(way)}
        with_table = dict.fromkeys(weights, change) | table
        yield Mistake(f"the weights of the linear layers and the word embeddings are {verb} {what}", tensors=with_table)
        for name in weights:
            yield Mistake(f"{name.rpartition('*.')[2]} is {verb} {what}", tensors={name: change}, rare=True)
        yield Mistake(f"the word embeddings are {verb} {what}", tensors=table, rare=True)
        if what in ROUNDINGS or "int8, one scale" in what:
            yield Mistake(
                f"lm_head's decoder is {verb} {what}", {"lm_head": partial(narrow_decoder, way=way)}, rare=True
            )
    for axis, what in ((-1, "each token"), (None, "the whole tensor")):
        for name, given in (("int8", symmetric_inputs), ("uint8 with a zero point", asymmetric_inputs)):
            for of_weights, ending in (
                (by_row, "weights with a scale for each row"), (by_tensor, "weights with one scale"),
                (as_they_are, "weights as they are"),
            ):  # fmt: skip
                way = partial(dynamic_int8, given=partial(given, axis=axis), of_weights=of_weights)
                yield Mistake(
                    f"the linear layers multiply in int8: inputs in {name} with a scale for {what}, {ending}",
                    {kind: through(way, kind) for kind in LINEARS}, scope="text" if axis else "batch",
                )  # fmt: skip


def narrow_decoder(f: Forward, name: str, way: Round) -> Array:
    own = "lm_head.decoder.weight"
    weight = f.weight(own if own in f.inputs.weights else f"{WORD}.weight")
    return f["lm_head.layer_norm"] @ rounded(way)(f, own, weight).T + f.weight("lm_head.bias")


def symmetric(w: Array, levels: int, axis: int | None, way: Round = np.rint) -> Array:
    scale = np.abs(w).max(axis if w.ndim > 1 else None, keepdims=True) / levels
    scale = np.where(scale == 0, 1, scale)
    return np.clip(way(w / scale), -levels, 127 if levels == 128 else levels) * scale


def with_narrow_scale(w: Array, levels: int, top: int, axis: int | None = 1, first: bool = False) -> Array:
    """Integers times a scale that is kept in float16.  first: the scale is rounded before the weights are divided."""
    scale = np.abs(w).max(axis if w.ndim > 1 else None, keepdims=True) / levels
    narrow = to_float16(np.where(scale == 0, 1, scale))
    divisor = narrow if first else np.where(scale == 0, 1, scale)
    return np.clip(np.rint(w / np.where(divisor == 0, 1, divisor)), -levels, top) * narrow


def signed_by_largest(w: Array, levels: int) -> Array:
    """As `q4_0`, with so many levels and the scale in float16."""
    largest = np.take_along_axis(w, np.abs(w).argmax(1)[:, None], 1)
    half = levels // 2
    scale = np.where(largest == 0, 1, -largest / half)
    return (np.clip(np.floor(w / scale + half + 0.5), 0, levels - 1) - half) * to_float16(scale)


def from_least(w: Array, levels: int) -> Array:
    """From the minimum upwards, the minimum and the scale in float16: GGML's Q4_1 and Q5_1."""
    low, high = w.min(1, keepdims=True), w.max(1, keepdims=True)
    scale = np.where(high == low, 1, (high - low) / (levels - 1))
    return np.clip(np.floor((w - low) / scale + 0.5), 0, levels - 1) * to_float16(scale) + to_float16(low)


def scaled_float(w: Array, axis: int | None) -> Array:
    """E4M3, whose greatest number is 448, times a scale that makes that the greatest weight."""
    scale = np.abs(w).max(axis if w.ndim > 1 else None, keepdims=True) / 448
    scale = np.where(scale == 0, 1, scale)
    return to_small_float(w / scale, mantissa=4, least=-6) * scale


def sparse(w: Array, kept: int, size: int) -> Array:
    """The largest so many of each few neighbours along a row, and 0 for the others."""
    if w.shape[-1] % size:
        return w
    blocks = w.reshape(-1, size)
    rank = np.argsort(np.argsort(-np.abs(blocks), -1), -1)
    return np.where(rank < kept, blocks, 0).reshape(w.shape)


def ternary(w: Array) -> Array:
    scale = max(float(np.abs(w).mean()), 1e-30)
    return np.clip(np.rint(w / scale), -1, 1) * scale


INT8, INT4 = partial(symmetric, levels=127, axis=1), partial(symmetric, levels=7, axis=1)


def asymmetric(w: Array, levels: int, axis: int | None) -> Array:
    """Integers from 0 with a zero point that is itself one of them; the range always includes 0."""
    axis = axis if w.ndim > 1 else None
    low, high = np.minimum(w.min(axis, keepdims=True), 0), np.maximum(w.max(axis, keepdims=True), 0)
    scale = np.where(high == low, 1, (high - low) / levels)
    zero = np.rint(-low / scale)
    return (np.clip(np.rint(w / scale) + zero, 0, levels) - zero) * scale


def min_max(w: Array, levels: int, axis: int | None) -> Array:
    axis = axis if w.ndim > 1 else None
    low, high = w.min(axis, keepdims=True), w.max(axis, keepdims=True)
    scale = np.where(high == low, 1, (high - low) / levels)
    return np.rint((w - low) / scale) * scale + low


def in_blocks(w: Array, size: int, way: Round) -> Array:
    """Neighbours along the last axis share a scale; the last block may be shorter."""
    rows = w.reshape(-1, w.shape[-1])
    parts = [way(rows[:, start : start + size]) for start in range(0, rows.shape[1], size)]
    return np.concatenate(parts, axis=1).reshape(w.shape)


def q4_0(w: Array) -> Array:
    """−8 to 7 in units of −(the element of the largest magnitude) / 8."""
    largest = np.take_along_axis(w, np.abs(w).argmax(1)[:, None], 1)
    scale = np.where(largest == 0, 1, -largest / 8)
    return np.minimum(np.floor(w / scale + 8.5), 15) * scale - 8 * scale


NF4 = np.array([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
])  # fmt: skip


def normal_float(w: Array) -> Array:
    """The nearest of 16 quantiles of the normal distribution, times the largest magnitude: Dettmers et al. 2023.

    As bitsandbytes does, in blocks of the whole matrix, which may begin in one row and end in the next.
    """
    return in_blocks(w.reshape(1, -1), 64, quantiles).reshape(w.shape)


def quantiles(w: Array) -> Array:
    scale = np.abs(w).max(1, keepdims=True)
    scale = np.where(scale == 0, 1, scale)
    return NF4[np.searchsorted((NF4[1:] + NF4[:-1]) / 2, w / scale)] * scale


def to_small_float(values: Array, mantissa: int, least: int) -> Array:
    """Rounded to so many bits of mantissa, with steps that get no finer below 2^least."""
    exponent = np.maximum(np.frexp(values)[1], least + 1)
    step = np.ldexp(1.0, exponent - mantissa)
    return np.rint(values / step) * step


def dynamic_int8(f: Forward, name: str, x: Array, given: Round, of_weights: Round) -> Array:
    weight = rounded(of_weights)(f, name, f.weight(f"{name}.weight"))
    return rounded(given)(f, name, x) @ weight.T + f.weight(f"{name}.bias")


def symmetric_inputs(x: Array, axis: int | None) -> Array:
    scale = np.abs(x).max(axis, keepdims=True) / 127
    return np.rint(x / np.where(scale == 0, 1, scale)) * scale


def asymmetric_inputs(x: Array, axis: int | None) -> Array:
    """ONNX Runtime's DynamicQuantizeLinear."""
    low, high = np.minimum(x.min(axis, keepdims=True), 0), np.maximum(x.max(axis, keepdims=True), 0)
    scale = np.where(high == low, 1, (high - low) / 255)
    zero = np.rint(-low / scale)
    return (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale


by_row, by_tensor = partial(symmetric, levels=127, axis=1), partial(symmetric, levels=127, axis=None)


def as_they_are(w: Array) -> Array:
    return w


def narrow_steps() -> Iterator[Mistake]:
    for name, way in ROUNDINGS.items():
        yield from norms_everywhere_or_once(f"the layer norms are computed in {name}", partial(narrow_norm, way=way))
        yield from norms_everywhere_or_once(
            f"the results of the layer norms are rounded to {name}", partial(rounded_norm, way=way)
        )
        yield Mistake(f"the scores are rounded to {name}", {SCORES: rounded_step(way, SCORES)})
        yield Mistake(
            f"the softmax is computed in {name}", {PROBS: partial(partly_narrow_softmax, way=way, parts=(0, 2, 3, 4))}
        )
        yield Mistake(f"the probabilities are rounded to {name}", {PROBS: rounded_step(way, PROBS)})
        yield from steps_everywhere_or_once(
            f"the results of a step are rounded to {name}",
            [k for k in STEPS if k not in LINEARS],
            partial(rounded_step, way),
            rare=True,
        )
        yield from parts_of_softmax(name, way)
        yield from parts_of_norms(name, way)
        yield from parts_of_gelu(name, way)
        yield Mistake(f"the embeddings are summed in {name}", {"embeddings": partial(narrow_embeddings, way=way)})
    for levels, what in ((255, "255"), (256, "256"), (127, "127")):
        for rounding, how in ((np.rint, "rounded"), (np.floor, "cut off")):
            step = partial(integer_probs, levels=levels, rounding=rounding)
            yield Mistake(f"the probabilities are 8-bit integers: {how} to multiples of 1/{what}", {PROBS: step})


def rounded_norm(f: Forward, name: str, x: Array, way: Round) -> Array:
    return way(layer_norm(f, name, x))


def narrow_norm(f: Forward, name: str, x: Array, way: Round) -> Array:
    x = way(x)
    centred = way(x - way(x.mean(-1, keepdims=True)))
    variance = way(np.square(centred).mean(-1, keepdims=True))
    y = way(centred / way(np.sqrt(variance + f.inputs.layer_norm_eps)))
    return way(way(y * way(f.weight(f"{name}.weight"))) + way(f.weight(f"{name}.bias")))


SOFTMAX_PARTS = ("scores", "differences from the largest", "exponentials", "sum", "quotients")
GELU_PARTS = ("input", "x/√2", "erf", "1 + erf", "product")
NORM_PARTS = ("input", "mean", "centred input", "variance", "root", "quotients", "product with the weight")


def parts_of_softmax(name: str, way: Round) -> Iterator[Mistake]:
    """The softmax with some of its steps in a narrow type, and the others not."""
    for what, parts in some_of(SOFTMAX_PARTS):
        step = partial(partly_narrow_softmax, way=way, parts=parts)
        yield Mistake(f"in the softmax these are rounded to {name}: {what}", {PROBS: step}, rare=True)


def some_of(parts: tuple[str, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """All choices of one or more of them: their names, and their places."""
    for count in range(1, len(parts) + 1):
        for chosen in combinations(range(len(parts)), count):
            yield ", ".join(parts[place] for place in chosen), chosen


def partly_narrow_softmax(f: Forward, name: str, way: Round, parts: tuple[int, ...]) -> Array:
    def narrow(part: int, values: Array) -> Array:
        return way(values) if part in parts else values

    s = np.where(blocked(f), -1e300, narrow(0, f[same_layer(name, SCORES)]))
    e = narrow(2, np.exp(np.maximum(narrow(1, s - s.max(3, keepdims=True)), -700)))
    return narrow(4, e / narrow(3, e.sum(3, keepdims=True)))


def parts_of_gelu(name: str, way: Round) -> Iterator[Mistake]:
    """GELU with some of its steps in a narrow type."""
    for what, parts in some_of(GELU_PARTS):
        step = partial(activate, gelu=partial(partly_narrow_gelu, way=way, parts=parts))
        yield Mistake(f"in GELU these are rounded to {name}: {what}", {WIDE: step}, rare=True)


def partly_narrow_gelu(x: Array, way: Round, parts: tuple[int, ...]) -> Array:
    def narrow(part: int, values: Array) -> Array:
        return way(values) if part in parts else values

    x = narrow(0, x)
    return narrow(4, x / 2 * narrow(3, 1 + narrow(2, erf(narrow(1, x / np.sqrt(2))))))


def parts_of_norms(name: str, way: Round) -> Iterator[Mistake]:
    """The layer norms with a stretch of their steps in a narrow type."""
    for first in range(len(NORM_PARTS)):
        for last in range(first, len(NORM_PARTS)):
            what = ", ".join(NORM_PARTS[first : last + 1])
            norm = partial(partly_narrow_norm, way=way, parts=range(first, last + 1))
            yield Mistake(f"in the layer norms these are rounded to {name}: {what}", norms_by(norm), rare=True)


def partly_narrow_norm(f: Forward, name: str, x: Array, way: Round, parts: range) -> Array:
    def narrow(part: int, values: Array) -> Array:
        return way(values) if part in parts else values

    x = narrow(0, x)
    centred = narrow(2, x - narrow(1, x.mean(-1, keepdims=True)))
    root = narrow(4, np.sqrt(narrow(3, np.square(centred).mean(-1, keepdims=True)) + f.inputs.layer_norm_eps))
    return narrow(6, narrow(5, centred / root) * f.weight(f"{name}.weight")) + f.weight(f"{name}.bias")


def narrow_embeddings(f: Forward, name: str, way: Round) -> Array:
    total = way(way(way(f[EMBEDDED[0]]) + way(f[EMBEDDED[2]])) + way(f[EMBEDDED[1]]))
    return layer_norm(f, "embeddings.LayerNorm", total)


def integer_probs(f: Forward, name: str, levels: int, rounding: Round) -> Array:
    return rounding(STEPS[PROBS](f, name) * levels) / levels


def fast_functions() -> Iterator[Mistake]:
    for steps in (0, 1, 2):
        what = f"the norms' 1/√x is the fast one of Quake, with {steps} step{'s' * (steps != 1)} of Newton's method"
        yield from norms_everywhere_or_once(what, partial(with_fast_root, steps=steps))
    functions: tuple[tuple[str, Round], ...] = (
        ("the softmax's exp is Schraudolph's, made of the bits of a float32", schraudolph),
        ("the softmax's exp is Schraudolph's, made of the bits of a float64", partial(schraudolph, wide=True)),
        *((f"the softmax's exp is (1 + x/{2**k})^{2**k}", partial(power_of_small, doublings=k))
          for k in (4, 6, 8, 10, 12)),
        *((f"the softmax's exp is {terms} terms of its Taylor series", partial(taylor_exp, terms=terms))
          for terms in (3, 4, 5, 6, 8)),
        *((f"the softmax's exp is 2^i times {terms} terms of 2^f's Taylor series", partial(exp_by_parts, terms=terms))
          for terms in (2, 3, 4, 5)),
    )  # fmt: skip
    for sentence, exp in functions:
        yield Mistake(sentence, {PROBS: partial(softmax_with, exp=exp)})


def with_fast_root(f: Forward, name: str, x: Array, steps: int) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    variance = np.square(centred).mean(-1, keepdims=True) + f.inputs.layer_norm_eps
    return centred * fast_reciprocal_root(variance, steps) * f.weight(f"{name}.weight") + f.weight(f"{name}.bias")


def fast_reciprocal_root(x: Array, steps: int) -> Array:
    bits = np.int32(0x5F3759DF) - (x.astype(np.float32).view(np.int32) >> 1)
    y = bits.view(np.float32).astype(np.float64)
    for _ in range(steps):
        y = y * (1.5 - 0.5 * x * y * y)
    return y


def softmax_with(f: Forward, name: str, exp: Round) -> Array:
    s = f[same_layer(name, SCORES)]
    s = np.where(blocked(f), -np.inf, s)
    s = np.where(np.isfinite(s), s - s.max(3, keepdims=True), 0)
    e = np.where(blocked(f), 0, exp(s))
    return e / e.sum(3, keepdims=True)


def schraudolph(x: Array, wide: bool = False) -> Array:
    """2^(x / ln 2) by writing x / ln 2 into the exponent's bits: Schraudolph 1999."""
    if wide:
        high = (np.maximum(x, -700) * (2**20 / np.log(2)) + 1023 * 2**20 - 60801).astype(np.int64)
        return (high << 32).view(np.float64)
    return (
        (np.maximum(x, -80) * (2**23 / np.log(2)) + 127 * 2**23 - 486411)
        .astype(np.int32)
        .view(np.float32)
        .astype(np.float64)
    )


def power_of_small(x: Array, doublings: int) -> Array:
    return np.maximum(1 + np.maximum(x, -(2.0**doublings)) / 2**doublings, 0) ** (2**doublings)


def taylor_exp(x: Array, terms: int) -> Array:
    total, term = np.zeros_like(x), np.ones_like(x)
    for k in range(terms):
        total, term = total + term, term * x / (k + 1)
    return np.maximum(total, 0)


def exp_by_parts(x: Array, terms: int) -> Array:
    whole = np.floor(x / np.log(2))
    return np.ldexp(taylor_exp(x - whole * np.log(2), terms), np.maximum(whole, -1000).astype(int))
