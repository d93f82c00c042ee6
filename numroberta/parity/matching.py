"""Which of the reference's activations each of mine is: by its name, by a map, or by its shape and its numbers."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import POOLINGS
from numroberta.parity.files import Recording
from numroberta.parity.names import (
    EMBEDDING,
    GRAD,
    INPUT,
    LAST,
    LOGITS,
    POOLED,
    from_pattern,
    in_order,
    is_gradient,
    is_step,
    layer_of,
    some,
    usual_name,
)

Array = NDArray[Any]

LIKE = 0.9  # the cosine from which two activations are taken for the same one
MOST_COMPARED = 100_000  # elements
THE_SAME = 1 - 1e-6  # the cosine of vectors that are another pooling's
LIKELY, CLEARLY = 0.95, 0.05  # the cosine with another pooling's vectors, and by how much it must be larger


def named_as(reference: Recording, mine: Recording, names: Mapping[str, str]) -> Recording:
    """Mine under the reference's names.

    names: from my names, or patterns with {n}, to the reference's.  Raises ValueError where the map names what mine has
    not, or gives two tensors one name, and where nothing of mine has a name of the reference.
    """
    for name in names:
        if not any(from_pattern(each, {name: ""}) is not None for each in mine.tensors):
            raise ValueError(
                f"the map of names has {name!r}, which mine has not; mine has {nearest(name, mine.tensors)}"
            )
    layers = 1 + max((layer for name in reference.tensors if (layer := layer_of(name)) is not None), default=-1)
    named: dict[str, Array] = {}
    bfloat16 = set()
    for name, array in mine.tensors.items():
        mapped = from_pattern(name, names)
        for usual, part in [(mapped, array)] if mapped else unstacked(name, array, reference, layers):
            if mapped and usual in named:
                raise ValueError(f"mine has two tensors for {usual}: {name} is one of them")
            # Hooks on a module and on its last part give the same tensor twice: the first is enough.
            usual = name if usual in named else usual
            named[usual] = part
            bfloat16 |= {usual} & ({usual} if name in mine.bfloat16 else set())
    if not named.keys() & reference.tensors.keys():
        named = by_numbers(reference, named)
    return Recording(named, mine.metadata, frozenset(bfloat16))


def unstacked(name: str, array: Array, reference: Recording, layers: int) -> Iterator[tuple[str, Array]]:
    """(usual name, array) of one of my tensors; several where the states of all layers are stacked in one."""
    if is_gradient(name):
        for usual, part in unstacked(name.removesuffix(GRAD), array, reference, layers):
            yield usual + GRAD, part
        return
    usual = usual_name(name)
    if usual in LAST or usual == "hidden_states":
        state = reference.tensors.get("embeddings")
        if array.ndim == 4 and len(array) == layers + 1 and state is not None:
            yield "embeddings", array[0]
            yield from ((f"encoder.layer.{i}.output", array[i + 1]) for i in range(layers))
            return
        yield f"encoder.layer.{layers - 1}.output", array
    elif usual == "attentions" and array.ndim == 5 and len(array) == layers:
        yield from ((f"encoder.layer.{i}.attention.probs", part) for i, part in enumerate(array))
    elif usual in ("logits", "prediction_logits"):
        heads = [head for head in LOGITS if head in reference.tensors]
        fits = [head for head in heads if reference.tensors[head].size == array.size]
        yield (fits or heads or [usual])[0], array
    else:
        yield usual, array


def by_numbers(reference: Recording, mine: Mapping[str, Array]) -> dict[str, Array]:
    """Mine under the names of the reference's tensors that are most alike, if only one array came, without a name.

    Raises ValueError, with a map that the shapes and numbers suggest, if there are several.
    """
    if len(mine) == 1:
        array = next(iter(mine.values()))
        likeliest = [usual for usual, _ in alike(array, reference)]
        shaped = [usual for usual in by_shape(array, reference) if usual in reference.tensors]
        if likeliest or shaped:
            return {(likeliest or shaped)[0]: array}
    suggestion = suggested_map(reference, mine)
    hint = f"; by shape and numbers it may be {json.dumps(suggestion)}" if suggestion else ""
    close = nearest(next(iter(mine), ""), reference.tensors)
    raise ValueError(
        f"no tensor of mine has a name of the reference: mine has {some(list(mine))}, the reference {close}; "
        f"rename them with --map names.json{hint}"
    )


def by_shape(array: Array, reference: Recording) -> Iterator[str]:
    """What an array without a name is, as far as its shape says."""
    last = max((name for name in reference.tensors if name.endswith(".output")), key=in_order, default="")
    width = reference.tensors[last].shape[-1] if last else 0
    if (array.ndim == 2 and array.shape == (len(reference.tensors[last]), width)) or array.shape == (width,):
        yield EMBEDDING
        yield f"{POOLED}mean"
    elif array.ndim in (2, 3) and array.shape[-1] == width:
        yield last


def alike(array: Array, reference: Recording) -> list[tuple[str, float]]:
    """(name, cosine) of the reference's tensors of this shape that are most alike, the most alike first."""
    found = []
    for name, tensor in reference.tensors.items():
        if name not in INPUT and is_step(name) and tensor.shape == array.shape and tensor.size > 1:
            cosine = cosine_of(array, tensor)
            if cosine > LIKE:
                found.append((name, cosine))
    return sorted(found, key=lambda each: (-round(each[1], 6), in_order(each[0])))


def cosine_of(a: Array, b: Array) -> float:
    x, y = (array.reshape(-1)[:MOST_COMPARED].astype(np.float64) for array in (a, b))
    with np.errstate(all="ignore"):
        cosine = float(x @ y / np.sqrt((x @ x) * (y @ y)))
    return cosine if np.isfinite(cosine) else 0.0


def suggested_map(reference: Recording, mine: Mapping[str, Array]) -> dict[str, str]:
    """From names that the reference does not have to those of its tensors that have the same numbers."""
    likely = {name: alike(array, reference) for name, array in mine.items() if name not in reference.tensors}
    return {name: found[0][0] for name, found in likely.items() if found}


def nearest(name: str, names: Iterable[str]) -> str:
    """The names that are spelled most alike, or else the first few."""
    names = list(names)
    return some(difflib.get_close_matches(name, names, n=4) or sorted(names, key=in_order))


def with_guessed_pooling(reference: Recording, mine: Recording) -> tuple[Recording, str]:
    """Mine, its only vector of each text under the name of the pooling that it is most like, and a sentence on that."""
    steps = [name for name in mine.tensors if is_step(name)]
    if steps != [EMBEDDING] and not (len(steps) == 1 and steps[0].startswith(POOLED)):
        return mine, ""
    vector = mine.tensors[steps[0]]
    poolings = [n for n in (EMBEDDING, *(f"{POOLED}{p}" for p in POOLINGS), "pooler") if n in reference.tensors]
    fits = {name: likeness(vector, reference.tensors[name]) for name in poolings}
    best = max(fits, key=lambda name: round(fits[name], 9), default=steps[0])
    if not fits or fits[best] < fits.get(steps[0], -1.0) + CLEARLY or fits[best] < LIKELY:
        return mine, ""
    whole = reference.tensors[best]
    if vector.size == whole.size and is_unit(vector) and not is_unit(whole):
        return mine, ""  # the length of the vectors is a question for the diagnosis
    if fits[best] > THE_SAME and steps[0] in fits:
        return mine, ""  # nothing but the pooling is another: the diagnosis names it
    tensors = {best if name == steps[0] else name: array for name, array in mine.tensors.items()}
    return replace(mine, tensors=tensors), f"the vectors are most like {best}, and are compared with it"


def likeness(vector: Array, other: Array) -> float:
    """The mean cosine of each text's vectors, −1 where the shapes differ."""
    if vector.size != other.size or other.ndim != 2:
        return -1.0
    a, b = (unit_vectors(array.reshape(other.shape).astype(np.float64)) for array in (vector, other))
    return float((a * b).sum(-1).mean())


def unit_vectors(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-30)


def is_unit(vectors: Array) -> bool:
    return bool(np.allclose(np.linalg.norm(vectors.astype(np.float64), axis=-1), 1, atol=1e-2))
