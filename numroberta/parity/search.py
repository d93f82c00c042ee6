"""Which mistake explains a wrong activation: it is computed again, with each mistake of the catalogue in its turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.dropout import dropout_in
from numroberta.parity.measure import counted, distance
from numroberta.parity.names import (
    AFTER_LAYERS,
    LAYER,
    SCORES,
    STATES,
    WORD,
    in_order,
    is_gradient,
    kind_of,
    layer_of,
    same_layer,
)
from numroberta.parity.steps import Forward, Inputs, Mistake

Array = NDArray[Any]

LEFT = 1 / 4  # an explanation must leave less than this part of the error
NOTHING_LEFT = 1 / 1000  # and one that leaves so little ends a long search
SAME = 1.1  # errors within this factor are the same numbers
HIDDEN = 10  # tolerances: an error beyond this does not come from an earlier one that hid below its tolerance
ROUNDING_ERROR = 1e-13  # and so are errors that float64 itself may make
MOST_ALIKE = 24  # mistakes with the same numbers that are told apart by what comes later
MOST_PAIRS = 60  # pairs of mistakes that are computed, of all that might add up to the error
SKETCH = 2048  # elements of an effect that are kept, to see which pairs add up
# Rounding cannot be computed again bit by bit: it is recognised if the error points the same way and has the same size.
ROUNDING_LIKENESS = 0.5
ROUNDING_SIZE = 1.7


@dataclass(frozen=True)
class Wrong:
    """A wrong activation.  value: mine, batch-first.  tolerance: the RMS relative error that rounding may cause."""

    name: str
    value: Array
    tolerance: float


@dataclass(frozen=True)
class Diagnosis:
    """The mistake that explains an activation, or None where no classic one does.

    name: the activation.  before, after: its RMS relative error against the step as it should be, and with the mistake.
    since: the activations from which both were computed.  where: the layers in which the mistake is made, if known.
    others: sentences of mistakes with the same numbers.
    """

    name: str
    mistake: str | None
    before: float
    after: float
    since: tuple[str, ...]
    where: str = ""
    others: tuple[str, ...] = ()
    made: tuple[Mistake, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For machines: everything but the mistakes themselves, which are functions."""
        return {part.name: getattr(self, part.name) for part in fields(self) if part.name != "made"}


class Budget:
    """How long a search may take, and who is told how far it is.

    seconds: of computing in this thread, after which no other mistake is tried.  progress: called with a sentence, a
    few times a second.
    """

    def __init__(self, seconds: float, progress: Callable[[str], None] | None = None):
        self.began, self.shown = time.thread_time(), time.monotonic()
        self.seconds, self.progress = seconds, progress
        self.tried = 0

    @property
    def spent(self) -> bool:
        return time.thread_time() - self.began > self.seconds

    def count(self, name: str) -> None:
        self.tried += 1
        now = time.monotonic()
        if self.progress and now - self.shown > 0.2:
            self.shown = now
            spent = time.thread_time() - self.began
            self.progress(f"{name}: {self.tried} mistakes tried in {spent:.0f} of {self.seconds:.0f} s")


@dataclass(frozen=True)
class Try:
    """A mistake, the error that it leaves, and some elements of what it does to the value."""

    mistake: Mistake
    error: float
    effect: Array | None


class Search:
    """The search for the mistake behind one wrong activation.

    inputs: what the forward pass starts from.  catalogue: the mistakes.  right: activations to compute from.
    wrong: the first that differs.  later: mine's activations after it, which tell apart mistakes that give the same
    numbers.  made: mistakes that are known already.
    """

    def __init__(
        self,
        inputs: Inputs,
        catalogue: Sequence[Mistake],
        right: Mapping[str, Array],
        wrong: Wrong,
        later: Sequence[Wrong],
        budget: Budget,
        made: tuple[Mistake, ...] = (),
    ):
        self.inputs, self.catalogue, self.right, self.wrong, self.later = inputs, catalogue, right, wrong, later
        self.budget, self.made = budget, made
        self.last_output = f"encoder.layer.{inputs.layers - 1}.output"

    def diagnose(self) -> Diagnosis:
        """The mistake that turns what is right into the wrong value; a diagnosis without one where none does."""
        nearest = self.attempt(self.right)
        for known in further_back(self.right):
            # A step that is far off from values that are right is wrong itself.
            if nearest.mistake or (not known and nearest.before > HIDDEN * self.wrong.tolerance):
                break
            diagnosis = self.attempt(known)
            if diagnosis.mistake:
                return diagnosis
        return nearest

    def attempt(self, known: Mapping[str, Array]) -> Diagnosis:
        """The search from these activations."""
        sound = Forward(self.inputs, known, *self.made)
        expected = sound[self.wrong.name]
        before = self.error(sound, expected)
        since = tuple(sorted(sound.used, key=in_order))
        nothing = Diagnosis(self.wrong.name, None, before, before, since, made=self.made)
        if before <= self.wrong.tolerance:
            return nothing
        far = len({layer_of(name) for name in sound.computed}) > 2
        enough = min(self.wrong.tolerance, before * NOTHING_LEFT)
        tries: list[Try] = []
        for mistakes in self.candidates(sound, far):
            for mistake in mistakes:
                tries.append(self.attempted(sound, expected, known, mistake, sketched=far))
                if self.budget.spent or (far and tries[-1].error <= enough):
                    break
            acceptable = self.acceptable(tries, before)
            if acceptable:
                best, where, count = self.by_what_comes_later(known, [each.mistake for each in acceptable])
                if count == len(self.later) or far:
                    break
            if self.budget.spent:
                break
        if acceptable:
            after = next(each.error for each in acceptable if each.mistake.sentence == best.sentence)
            others = {each.mistake.sentence for each in acceptable} - {best.sentence}
            return replace(
                nothing, mistake=best.sentence, after=after, where=where, others=tuple(sorted(others)),
                made=(*self.made, best),
            )  # fmt: skip
        compared = counted(self.wrong.name, expected.shape, self.inputs.attention_mask != 0)
        dropout = dropout_in(sound, self.wrong.name, self.wrong.value, compared)
        if dropout:
            return replace(nothing, mistake=dropout)
        rounding = self.rounding(sound, expected, known, nothing)
        return rounding or (self.pair(tries, expected, nothing) if far and not self.right else None) or nothing

    def candidates(self, sound: Forward, far: bool) -> Iterator[list[Mistake]]:
        """The mistakes that change a step on the way to the value, the likely ones first.

        Where the way is long, those that can be made in one layer come again for each layer on it.
        """
        layers = sorted({layer for name in sound.computed if (layer := layer_of(name)) is not None})
        matter = [mistake for mistake in self.catalogue if self.matters(mistake, sound)]
        # A mistake would show in an earlier step of this layer too, if it changed it.
        possible = [mistake for mistake in matter if not self.contradicted(mistake)]
        for rare in (False, True):
            mistakes = [mistake for mistake in possible if mistake.rare == rare]
            yield mistakes
            if far:
                in_layers = [m for m in mistakes if any(kind.startswith(LAYER) for kind in m.kinds)]
                yield [mistake.only_in(layer) for mistake in in_layers for layer in layers]
        yield [mistake for mistake in matter if mistake not in possible]

    def matters(self, mistake: Mistake, sound: Forward) -> bool:
        """Whether the mistake changes anything that was computed on the way to the value."""
        if mistake.inputs:
            return WORD in sound.computed
        return self.first_changed(mistake, sound) is not None

    def first_changed(self, mistake: Mistake, sound: Forward) -> tuple[int, int, int] | None:
        """Where in the forward pass the mistake first changes something; None: nowhere on the way to the value."""
        if mistake.inputs:
            return (-1, 0, 0)
        if mistake.order:
            places = changed_places(mistake.order(self.inputs.layers), self.inputs.layers)
            changed = [in_order(name) for name in sound.computed if layer_of(name) in places]
            shorter = kind_of(self.wrong.name) in AFTER_LAYERS or self.wrong.name == self.last_output
            return min(changed) if changed else (1, self.inputs.layers, 0) if shorter and places else None
        changed = [
            in_order(name)
            for name in sound.computed
            if kind_of(name) in mistake.kinds and mistake.layer in (None, layer_of(name))
        ]
        return min(changed) if changed else None

    def attempted(
        self, sound: Forward, expected: Array, known: Mapping[str, Array], mistake: Mistake, sketched: bool
    ) -> Try:
        """The error that is left if the mistake is made."""
        self.budget.count(self.wrong.name)
        value = self.with_mistakes(sound, known, mistake)
        if value is None:
            return Try(mistake, np.inf, None)
        error = self.error(value[0], value[1])
        effect = None
        if sketched and value[1].shape == expected.shape:
            effect = self.sketch(value[1] - expected)
        return Try(mistake, error, effect)

    def with_mistakes(
        self, sound: Forward, known: Mapping[str, Array], *mistakes: Mistake
    ) -> tuple[Forward, Array] | None:
        """The forward pass with these mistakes, and its value; None where they cannot be made in this geometry."""
        firsts = [first for mistake in mistakes if (first := self.first_changed(mistake, sound)) is not None]
        first = min(firsts, default=(9, 0, 0))
        shared = {name: value for name, value in sound.computed.items() if in_order(name) < first}
        forward = Forward(self.inputs, {**known, **shared}, *mistakes, *self.made)
        try:
            with np.errstate(all="ignore"):
                if self.wrong.name == self.last_output and len(forward.order) != self.inputs.layers:
                    return forward, forward.last
                return forward, forward[self.wrong.name]
        except (ValueError, IndexError, KeyError):
            return None

    def error(self, forward: Forward, expected: Array) -> float:
        """The distance of mine from this value."""
        value = self.wrong.value
        if kind_of(self.wrong.name) == SCORES:
            value, expected = hidden_alike(value, expected)
        mask = forward.inputs.attention_mask != 0
        return distance(value, expected, counted(self.wrong.name, expected.shape, mask))

    def sketch(self, values: Array) -> Array:
        """Some elements, always the same ones, of what is not padding."""
        flat = values[counted(self.wrong.name, values.shape, self.inputs.attention_mask != 0)]
        return flat[:: max(1, len(flat) // SKETCH)]

    def acceptable(self, tries: list[Try], before: float) -> list[Try]:
        """The mistakes that explain the value, which are those nearest to it."""
        best = min((each.error for each in tries), default=np.inf)
        if best > max(min(self.wrong.tolerance, before * LEFT), before * NOTHING_LEFT):
            return []
        return [each for each in tries if each.error <= best * SAME + ROUNDING_ERROR][:MOST_ALIKE]

    def contradicted(self, mistake: Mistake) -> bool:
        """Whether the mistake changes a step of the same layer that is known to be right."""
        if mistake.order:
            right = {layer for name in self.right if (layer := layer_of(name)) is not None}
            return any(
                place in right for place in changed_places(mistake.order(self.inputs.layers), self.inputs.layers)
            )
        kinds = mistake.kinds
        if is_gradient(self.wrong.name) and layer_of(self.wrong.name) is not None:
            kinds = frozenset(kind for kind in kinds if kind.startswith(LAYER))  # a head's gradients may be right
        return any(same_layer(self.wrong.name, kind) in self.right for kind in kinds)

    def by_what_comes_later(self, known: Mapping[str, Array], mistakes: list[Mistake]) -> tuple[Mistake, str, int]:
        """The mistake that explains the most of what comes later, in which layers it is made, and how much that is."""
        layer = layer_of(self.wrong.name)
        best, most, where = mistakes[0], -1, ""
        for mistake in mistakes:
            count, further = self.explained(known, mistake)
            if count > most:
                best, most, where = mistake, count, "in every layer" if further else ""
        in_layers = any(kind.startswith(LAYER) for kind in best.kinds)
        if layer is None or best.layer is not None or not in_layers:
            return best, "" if best.layer is None else f"in layer {best.layer} only", most
        count, further = self.explained(known, best.only_in(layer))
        if count > most:
            return best.only_in(layer), f"in layer {layer} only" if further else "", count
        return best, where, most

    def explained(self, known: Mapping[str, Array], mistake: Mistake) -> tuple[int, bool]:
        """How many later values follow, up to the first that does not; whether the mistake is made again in them."""
        forward = Forward(self.inputs, known, mistake, *self.made)
        again = False
        for number, later in enumerate(self.later):
            try:
                with np.errstate(all="ignore"):
                    expected = forward[later.name]
            except (ValueError, IndexError, KeyError):
                return number, again
            where = counted(later.name, expected.shape, forward.inputs.attention_mask != 0)
            if distance(later.value, expected, where) > later.tolerance:
                return number, again
            layer = layer_of(later.name)
            again = again or (layer is not None and layer != (layer_of(self.wrong.name) or 0))
        return len(self.later), again

    def rounding(
        self, sound: Forward, expected: Array, known: Mapping[str, Array], nothing: Diagnosis
    ) -> Diagnosis | None:
        """A type of lower precision whose rounding points the same way as the error, and is as large."""
        error = self.sketch(self.wrong.value - expected) if self.wrong.value.shape == expected.shape else None
        best, likeness = None, ROUNDING_LIKENESS
        for mistake in self.catalogue:
            if mistake.unit is None or error is None or not self.matters(mistake, sound):
                continue
            each = self.attempted(sound, expected, known, mistake, sketched=True)
            if each.effect is None or not np.all(np.isfinite(each.effect)):
                continue
            sizes = np.linalg.norm(error), np.linalg.norm(each.effect)
            if not all(sizes) or not 1 / ROUNDING_SIZE < sizes[0] / sizes[1] < ROUNDING_SIZE:
                continue
            cosine = float(error @ each.effect / (sizes[0] * sizes[1]))
            if cosine >= likeness:
                best, likeness = each, cosine
        if best is None:
            return None
        return replace(nothing, mistake=best.mistake.sentence, after=best.error, made=(*self.made, best.mistake))

    def pair(self, tries: list[Try], expected: Array, nothing: Diagnosis) -> Diagnosis | None:
        """Two mistakes whose effects add up to the error, computed together."""
        if self.wrong.value.shape != expected.shape:
            return None
        usable = [each for each in tries if each.effect is not None and np.all(np.isfinite(each.effect))]
        usable = [each for each in usable if np.linalg.norm(each.effect) < 1e6]  # type: ignore[arg-type]
        if len(usable) < 2:
            return None
        effects = np.array([each.effect for each in usable])
        error = self.sketch(self.wrong.value - expected)
        gram, along = effects @ effects.T, effects @ error
        size = np.diag(gram) - 2 * along
        left = size[:, None] + size[None, :] + 2 * gram  # |error − a − b|² − |error|², for all pairs
        left[np.tril_indices(len(left))] = np.inf
        sound = Forward(self.inputs, {}, *self.made)
        best, least = None, min(self.wrong.tolerance, nothing.before * LEFT)
        for flat in np.argsort(left, axis=None)[:MOST_PAIRS]:
            two = tuple(usable[i].mistake for i in divmod(int(flat), len(left)))
            if self.budget.spent:
                break
            self.budget.count(self.wrong.name)
            value = self.with_mistakes(sound, {}, *two)
            error_left = self.error(*value) if value else np.inf
            if error_left < least:
                best, least = two, error_left
        if best is None:
            return None
        sentence = "two mistakes: " + "; and ".join(f"{m.sentence}{in_layer(m)}" for m in best)
        return replace(nothing, mistake=sentence, after=least, made=(*self.made, *best))


def changed_places(order: Sequence[int], layers: int) -> list[int]:
    """The places in the stack where another layer runs than should."""
    right = list(range(layers))
    return [i for i in range(max(len(order), layers)) if list(order[i : i + 1]) != right[i : i + 1]]


def in_layer(mistake: Mistake) -> str:
    return "" if mistake.layer is None else f" (in layer {mistake.layer} only)"


def hidden_alike(value: Array, expected: Array) -> tuple[Array, Array]:
    """Scores in which every mask has the same depth: −∞, −10,000 and the least float32 hide a score alike."""
    seen = expected[expected > -1000]
    lowest = -100 - float(np.abs(seen).max(initial=0.0))
    return np.maximum(value, lowest), np.maximum(expected, lowest)


def further_back(right: Mapping[str, Array]) -> Iterator[Mapping[str, Array]]:
    """What to compute from, if not from the nearest values: the hidden states, then the token ids alone.

    That is less precise, and needed where a mistake hides below the tolerance, or in another layout, at first.
    """
    states = {name: value for name, value in right.items() if kind_of(name) in STATES}
    if len(states) < len(right):
        yield states
    if states:
        yield {}


SURE = 8.0  # standard errors by which an effect must stand out of the noise
NEARLY_ONE = 0.15  # how far from 1 the share of the effect may be that is in the error


def hidden_mistake(
    inputs: Inputs, catalogue: Sequence[Mistake], known: Mapping[str, Array], budget: Budget
) -> str | None:
    """The likeliest mistake in a program whose values are all within their tolerance, or None.

    Each step is computed from the program's own values.  Rounding errors point anywhere; a mistake's effect d shows in
    the error e as ⟨e, d⟩ / ⟨d, d⟩ ≈ 1, many standard errors |e| / |d| away from 0.
    """
    best, surest = None, SURE
    for name in sorted(known, key=in_order):
        before = {each: value for each, value in known.items() if in_order(each) < in_order(name)}
        sound = Forward(inputs, before)
        expected = sound[name]
        where = counted(name, expected.shape, inputs.attention_mask != 0)
        if (layer_of(name) or 0) > 1 or expected.shape != known[name].shape or not sound.computed:
            continue
        error = (known[name] - expected)[where]
        for mistake in catalogue:
            kinds = {kind_of(each) for each in sound.computed}
            if budget.spent or mistake.rare or mistake.unit or mistake.order or mistake.inputs:
                continue
            if not mistake.kinds & kinds:
                continue
            budget.count(name)
            try:
                with np.errstate(all="ignore"):
                    effect = (Forward(inputs, before, mistake)[name] - expected)[where]
            except (ValueError, IndexError, KeyError):  # it cannot be made in this geometry, or without such a head
                continue
            square = float(effect @ effect)
            if not np.isfinite(square) or square == 0:
                continue
            share = float(error @ effect) / square
            left = error - share * effect
            sure = share * np.sqrt(square / max(float(left @ left) / len(left), 1e-300))
            if abs(share - 1) < NEARLY_ONE and sure > surest:
                best, surest = mistake.sentence, float(sure)
        if best:
            return f"{best} (seen in {name})"
    return None
