"""Which mistake explains a wrong activation: it is computed again, with each mistake of the catalogue in its turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.parity.another_mask import another_mask, another_sum
from numroberta.parity.budget import Budget, price_of
from numroberta.parity.dropout import dropout_in
from numroberta.parity.evidence import evidence
from numroberta.parity.fitting import fitted, of_terms, scaled_or_clipped
from numroberta.parity.layouts import show_ranges, whole_axes
from numroberta.parity.measure import LARGEST_ERROR, counted, distance, hidden_alike
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
from numroberta.parity.narrow_step import narrow_step
from numroberta.parity.read_factors import from_factors
from numroberta.parity.read_heads import from_heads
from numroberta.parity.read_inputs import from_inputs
from numroberta.parity.read_norm import another_deviation, from_statistics
from numroberta.parity.read_pooling import weighted_pooling
from numroberta.parity.read_sums import from_sums
from numroberta.parity.read_tensors import from_tensors
from numroberta.parity.screening import SKETCH, Screen, telling_text
from numroberta.parity.steps import Forward, Inputs, Mistake

Array = NDArray[Any]

LEFT = 1 / 4  # an explanation must leave less than this part of the error
NOTHING_LEFT = 1 / 1000  # and one that leaves so little ends a long search
SAME = 1.1  # errors within this factor are the same numbers
HIDDEN = 10  # tolerances: an error beyond this does not come from an earlier one that hid below its tolerance
ROUNDING_ERROR = 1e-13  # and so are errors that float64 itself may make
MOST_ALIKE = 24  # mistakes with the same numbers that are told apart by what comes later
MOST_PAIRS = 60  # pairs of mistakes that are computed, of all that might add up to the error
FEW_STEPS = 3  # on the way to a value: so short a way is computed for the whole batch at once
AT_ONCE = 100  # mistakes that are tried before anything is concluded
NEARLY_NOTHING_LEFT = 1 / 50  # what leaves so little of the error is the mistake, and no other is looked for
LEFT_BY_TWO = 1 / 20  # two mistakes fit by chance more easily than one
FEW_BY_CHANCE = 0.1  # the part of the elements that may be right in a token that is another
FEWEST_DIFFERENT = 16  # elements: fewer fit some mistake by chance
SLACK = 3.0  # one text may be so much worse explained than all together
ENOUGH_FOR_PAIRS = 300  # mistakes whose effects are known before two of them are tried together
SHARED = 3.0  # how much cheaper many mistakes are side by side than one by one
# Rounding cannot be computed again bit by bit: it is recognised if the error points the same way and has the same size.
ROUNDING_LIKENESS = 0.5
ROUNDING_SIZE = 1.7
ROUNDING_LARGEST = 32  # units of the type: nothing that is further off is rounding


# Mistakes whose numbers are read from the value: each may explain it, and is then computed again.
READINGS = (of_terms, from_tensors, from_statistics, from_sums, from_heads, from_factors, from_inputs)


@dataclass(frozen=True)
class Wrong:
    """A wrong activation.  value: mine, batch-first.  tolerance: the RMS relative error that rounding may cause."""

    name: str
    value: Array
    tolerance: float


@dataclass(frozen=True)
class Diagnosis:
    """The mistake that explains an activation, or None where no classic one does.

    name: the activation.  before, after: its RMS relative error against the step as it should be, and with the mistake;
    after is None where the mistake was read from the numbers and cannot be computed again.
    since: the activations from which both were computed.  where: the layers in which the mistake is made, if known.
    others: sentences of mistakes with the same numbers.
    """

    name: str
    mistake: str | None
    before: float
    after: float | None
    since: tuple[str, ...]
    where: str = ""
    others: tuple[str, ...] = ()
    made: tuple[Mistake, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For machines: everything but the mistakes themselves, which are functions."""
        return {part.name: getattr(self, part.name) for part in fields(self) if part.name != "made"}


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
        wide = wrong.value.shape[-2] if wrong.value.ndim > 2 and len(wrong.value) == len(inputs.input_ids) else 1
        self.inputs = replace(inputs, width=wide)
        self.catalogue, self.right, self.wrong, self.later = catalogue, right, wrong, later
        self.budget, self.made = budget, made
        self.region: Array | None = None  # where mine is compared, if not everywhere
        # Of the attempt that is being made: the sound value, and where it has tokens.
        self.expected, self.mask = wrong.value, inputs.attention_mask
        self.products = products_of_steps(inputs.weights)
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
        expected = self.expected = sound[self.wrong.name]
        self.mask = sound.inputs.attention_mask
        before = self.error(sound, expected)
        since = tuple(sorted(sound.used, key=in_order))
        nothing = Diagnosis(self.wrong.name, None, before, before, since, made=self.made)
        if before <= self.wrong.tolerance:
            return nothing
        far = len({layer_of(name) for name in sound.computed}) > 2
        enough = before * NOTHING_LEFT if np.isfinite(before) else self.wrong.tolerance
        screens = self.screens(sound, expected) if len(sound.computed) > FEW_STEPS and self.region is None else {}
        tries: list[Try] = []
        acceptable: list[Try] = []
        paired = False
        for stage in self.stages(sound, far):
            for start in range(0, len(stage), AT_ONCE):
                if self.budget.spent:
                    break
                tries += self.tried(sound, expected, known, stage[start : start + AT_ONCE], screens, before)
                if far and any(each.error <= enough and not self.of_fewer_tokens(each.mistake) for each in tries):
                    break
            acceptable = self.acceptable(tries, before)
            if acceptable:
                best, where, count, alike = self.by_what_comes_later(known, [each.mistake for each in acceptable])
                certain = acceptable[0].error <= before * NEARLY_NOTHING_LEFT
                if count == len(self.later) or (far and certain):
                    break
            elif far and not self.right and not paired and len(tries) >= ENOUGH_FOR_PAIRS:
                paired = True
                pair = self.pair(tries, screens, sound, expected, nothing)
                if pair:
                    return pair
            if self.budget.spent:
                break
        if acceptable:
            after = next(each.error for each in acceptable if each.mistake.sentence == best.sentence)
            # The same mistake in one place only says nothing more.
            others = {mistake.sentence for mistake in alike if not mistake.sentence.startswith(best.sentence)}
            return replace(
                nothing, mistake=best.sentence, after=after, where=where, others=tuple(sorted(others)),
                made=(*self.made, best),
            )  # fmt: skip
        compared = counted(self.wrong.name, expected.shape, self.mask != 0)
        dropout = dropout_in(sound, self.wrong.name, self.wrong.value, compared)
        if dropout:
            return replace(nothing, mistake=dropout, after=None)
        rounding = self.rounding(sound, expected, known, nothing)
        if far and not rounding and (weights := weighted_pooling(sound, self.wrong.name, self.wrong.value)):
            return replace(nothing, mistake=weights, after=None)
        if rounding or far:
            return rounding or nothing
        return self.from_the_numbers(sound, expected, known, nothing, compared) or nothing

    def from_the_numbers(
        self, sound: Forward, expected: Array, known: Mapping[str, Array], nothing: Diagnosis, compared: Array
    ) -> Diagnosis | None:
        """What no entry of the catalogue explains: a number that is fitted, a part of the value, what can be seen."""
        if self.wrong.value.shape != expected.shape or self.region is not None:
            return None
        name, enough = self.wrong.name, self.allowed(nothing.before)

        def error(mistake: Mistake) -> float:
            value = self.with_mistakes(sound, known, mistake)
            return np.inf if value is None else self.error(*value)

        numbers = sorted(fitted(kind_of(name), error), key=lambda each: each[1])
        if numbers and numbers[0][1] <= enough:
            mistake, after = numbers[0]
            return replace(nothing, mistake=mistake.sentence, after=after, made=(*self.made, mistake))
        for way in READINGS:
            read = [(mistake, error(mistake)) for mistake in way(sound, name, self.wrong.value, compared)]
            if explaining := [mistake for mistake, after in read if after <= enough][:MOST_ALIKE]:
                best, where, _, alike = self.by_what_comes_later(known, explaining)
                after = next(after for mistake, after in read if mistake.sentence == best.sentence)
                others = {mistake.sentence for mistake in alike} - {best.sentence}
                return replace(
                    nothing, mistake=best.sentence, after=after, where=where, others=tuple(sorted(others)),
                    made=(*self.made, best),
                )  # fmt: skip
        seen = (
            scaled_or_clipped(name, expected, self.wrong.value, compared, enough)
            or narrow_step(sound, name, self.wrong.value, compared, nothing.before, self.wrong.tolerance)
            or another_mask(sound, name, self.wrong.value, compared, enough)
            or another_sum(sound, name, self.wrong.value, compared)
            or another_deviation(sound, name, self.wrong.value, compared)
            or weighted_pooling(sound, name, self.wrong.value)
            or evidence(sound, name, self.wrong.value, compared)
        )
        if seen:
            return replace(nothing, mistake=seen, after=None)
        self.region, words = confined(self.wrong, expected, compared)
        part = self.attempt(known) if words else nothing
        self.region = None
        return replace(part, where=f"only in {words}", made=self.made) if part.mistake else None

    def stages(self, sound: Forward, far: bool) -> Iterator[list[Mistake]]:
        """The mistakes that change a step on the way to the value, the likely and the cheap ones first.

        Where the way is long, those that can be made in one layer come again for each layer on it.
        """
        layers = sorted({layer for name in sound.computed if (layer := layer_of(name)) is not None}, reverse=True)
        matter = [mistake for mistake in self.catalogue if self.matters(mistake, sound)]
        if self.wrong.value.shape != sound[self.wrong.name].shape:
            reshaping = {*AFTER_LAYERS, SCORES}
            yield [mistake for mistake in matter if mistake.inputs or mistake.kinds & reshaping]
            return
        # A mistake would show in an earlier step of this layer too, if it changed it.
        possible = [mistake for mistake in matter if not self.contradicted(mistake)]
        first = {id(mistake): self.first_changed(mistake, sound) or (9, 0, 0) for mistake in possible}
        if far:
            yield [mistake for mistake in possible if first[id(mistake)][0] == 2]
            possible = [mistake for mistake in possible if first[id(mistake)][0] != 2]
            possible.sort(key=lambda mistake: mistake.order is None)  # whole layers are few and likely
            # Of the backward pass there are few mistakes, and only a gradient shows them.
            backward = [mistake for mistake in possible if any(map(is_gradient, mistake.kinds))]
            yield backward
            for layer in layers if backward else ():
                yield [mistake.only_in(layer) for mistake in backward]
            possible = [mistake for mistake in possible if not any(map(is_gradient, mistake.kinds))]
        for rare in (False, True):
            mistakes = [mistake for mistake in possible if mistake.rare == rare]
            if far:
                plain = [mistake for mistake in mistakes if mistake.unit is None and not mistake.of_numbers]
                yield by_turns(plain, [first[id(mistake)] for mistake in plain])
                yield [mistake for mistake in mistakes if mistake.unit is not None or mistake.of_numbers]
                in_layers = [m for m in mistakes if any(kind.startswith(LAYER) for kind in m.kinds)]
                for of_numbers in (False, True):
                    for layer in layers:
                        yield [m.only_in(layer) for m in in_layers if m.of_numbers == of_numbers]
            else:
                yield mistakes
        yield [mistake for mistake in matter if mistake not in possible and not far]

    def screens(self, sound: Forward, expected: Array) -> dict[bool, Screen]:
        """One text without its padding, and with it, if mine has the shape that it should have.

        A gradient is of all texts together: it has none.
        """
        if self.wrong.value.shape != expected.shape or is_gradient(self.wrong.name):
            return {}
        mask = self.inputs.attention_mask
        text = telling_text(self.wrong.name, mask, self.wrong.value, expected)
        screens = {}
        for padded in (False, True):
            screens[padded] = Screen(sound, self.wrong.name, self.wrong.value, text, padded)
        return screens

    def tried(
        self,
        sound: Forward,
        expected: Array,
        known: Mapping[str, Array],
        mistakes: Sequence[Mistake],
        screens: Mapping[bool, Screen],
        before: float,
    ) -> list[Try]:
        """What each of these mistakes leaves; those that do not explain a single text are not computed for the rest."""
        likely = self.allowed(before, of_numbers=True) * SLACK
        tries: dict[int, Try] = {}
        groups: dict[tuple[bool, tuple[int, int, int]], list[int]] = {}
        for number, mistake in enumerate(mistakes):
            first = self.first_changed(mistake, sound) or (9, 0, 0)
            if not screens or mistake.scope == "batch" or (first[0] == 2 and not mistake.inputs):
                tries[number] = self.attempted(sound, expected, known, mistake)
            elif mistake.inputs or mistake.order:
                screen = screens[bool(mistake.inputs)]
                self.budget.count(self.wrong.name, self.price(sound, first, screen.inputs.input_ids.size))
                tries[number] = Try(mistake, screen.glance_alone(mistake, self.wrong.value), None)
            else:
                groups.setdefault((mistake.scope == "padding", (*first[:2], 0)), []).append(number)
        for (padded, first), numbers in groups.items():
            screen = screens[padded]
            glances = screen.glances([(mistakes[number],) for number in numbers])
            for number, (error, effect) in zip(numbers, glances, strict=True):
                self.budget.count(self.wrong.name, self.price(sound, first, screen.inputs.input_ids.size) / SHARED)
                tries[number] = Try(mistakes[number], error, effect)
        promising = [n for n in sorted(tries) if tries[n].error <= likely]
        for number in promising if screens else []:
            effect = tries[number].effect
            tries[number] = replace(self.attempted(sound, expected, known, mistakes[number]), effect=effect)
        return [tries[number] for number in sorted(tries)]

    def price(self, sound: Forward, first: tuple[int, int, int], tokens: int) -> float:
        """What it costs to compute the value of so many tokens again from this step on."""
        steps = [name for name in sound.computed if in_order(name) >= first]
        return price_of(len(steps), tokens * sum(self.products.get(kind_of(name), 0) for name in steps))

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

    def attempted(self, sound: Forward, expected: Array, known: Mapping[str, Array], mistake: Mistake) -> Try:
        """The error that is left if the mistake is made."""
        first = self.first_changed(mistake, sound) or (9, 0, 0)
        self.budget.count(self.wrong.name, self.price(sound, first, self.inputs.input_ids.size))
        value = self.with_mistakes(sound, known, mistake)
        if value is None:
            return Try(mistake, np.inf, None)
        return Try(mistake, self.error(value[0], value[1]), None)

    def with_mistakes(
        self, sound: Forward, known: Mapping[str, Array], *mistakes: Mistake
    ) -> tuple[Forward, Array] | None:
        """The forward pass with these mistakes, and its value; None where they cannot be made in this geometry."""
        firsts = [first for mistake in mistakes if (first := self.first_changed(mistake, sound)) is not None]
        first = min(firsts, default=(9, 0, 0))
        shared = {name: value for name, value in sound.computed.items() if in_order(name) < first}
        forward = Forward(self.inputs, {**known, **shared}, *mistakes, *self.made)
        shorter = self.wrong.name == self.last_output and len(forward.order) != self.inputs.layers
        value = forward.attempt(forward.last_name if shorter else self.wrong.name)
        return None if value is None else (forward, value)

    def error(self, forward: Forward, expected: Array) -> float:
        """The distance of mine from this value."""
        value = self.wrong.value
        if kind_of(self.wrong.name) == SCORES:
            value, expected = hidden_alike(value, expected)
        where = counted(self.wrong.name, expected.shape, forward.inputs.attention_mask != 0)
        if self.region is not None and self.region.shape == where.shape:
            where &= self.region
        if forward.inputs.attention_mask is not self.mask and self.has_right_tokens(where):
            return np.inf
        return distance(value, expected, where)

    def has_right_tokens(self, without: Array) -> bool:
        """Whether mine has right values where these places have none: no token is missing there."""
        if not without.shape == self.expected.shape == self.wrong.value.shape:
            return False
        where = counted(self.wrong.name, without.shape, self.mask != 0) & ~without
        value, expected = self.wrong.value[where], self.expected[where]
        close = self.wrong.tolerance * np.sqrt(np.mean(np.square(expected))) if where.any() else 0
        return bool(where.any() and np.mean(np.abs(value - expected) <= close) > FEW_BY_CHANCE)

    def sketch(self, values: Array) -> Array:
        """Some elements, always the same ones, of what is not padding."""
        flat = values[counted(self.wrong.name, values.shape, self.inputs.attention_mask != 0)]
        return flat[:: max(1, len(flat) // SKETCH)]

    def acceptable(self, tries: list[Try], before: float) -> list[Try]:
        """The mistakes that explain the value, which are those nearest to it."""
        explaining = [each for each in tries if each.error <= self.allowed(before, each.mistake.of_numbers)]
        best = min((each.error for each in explaining), default=np.inf)
        nearest = [each for each in explaining if each.error <= best * SAME + ROUNDING_ERROR]
        # Of the same tokens, before that of fewer, which says nothing of the others.
        return sorted(nearest, key=lambda each: self.of_fewer_tokens(each.mistake))[:MOST_ALIKE]

    def of_fewer_tokens(self, mistake: Mistake) -> bool:
        """Whether it is one of a batch in which some of mine's tokens are missing."""
        if mistake.inputs is None:
            return False
        return bool(mistake.inputs(self.inputs).attention_mask.sum() < self.inputs.attention_mask.sum())

    def allowed(self, before: float, of_numbers: bool = False) -> float:
        """The error that a mistake may leave."""
        if not np.isfinite(before):
            return self.wrong.tolerance
        little = NEARLY_NOTHING_LEFT if of_numbers else NOTHING_LEFT  # another quantizer may round ties another way
        return max(min(self.wrong.tolerance, before * LEFT), before * little)

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

    def by_what_comes_later(
        self, known: Mapping[str, Array], mistakes: list[Mistake]
    ) -> tuple[Mistake, str, int, list[Mistake]]:
        """The mistake that explains the most of what comes later, in which layers it is made, how much that is, and all
        that explain as much."""
        layer = layer_of(self.wrong.name)
        best, most, where = mistakes[0], -1, ""
        alike: list[Mistake] = []
        for mistake in mistakes:
            count, further = self.explained(known, mistake)
            if count > most:
                best, most, where, alike = mistake, count, "in every layer" if further else "", []
            if count == most:
                alike.append(mistake)
        in_layers = any(kind.startswith(LAYER) for kind in best.kinds)
        if layer is None or best.layer is not None or not in_layers:
            return best, "" if best.layer is None else f"in layer {best.layer} only", most, alike
        count, further = self.explained(known, best.only_in(layer))
        if count > most:
            return best.only_in(layer), f"in layer {layer} only" if further else "", count, alike
        return best, where, most, alike

    def explained(self, known: Mapping[str, Array], mistake: Mistake) -> tuple[int, bool]:
        """How many later values follow, up to the first that does not; whether the mistake is made again in them."""
        forward = Forward(self.inputs, known, mistake, *self.made)
        again = False
        for number, later in enumerate(self.later):
            expected = forward.attempt(later.name)
            if expected is None:
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
            if nothing.before > ROUNDING_LARGEST * mistake.unit:
                continue
            value = self.with_mistakes(sound, known, mistake)
            if value is None or value[1].shape != expected.shape or not np.all(np.isfinite(value[1])):
                continue
            effect = self.sketch(value[1] - expected)
            sizes = np.linalg.norm(error), np.linalg.norm(effect)
            if not all(sizes) or not 1 / ROUNDING_SIZE < sizes[0] / sizes[1] < ROUNDING_SIZE:
                continue
            cosine = float(error @ effect / (sizes[0] * sizes[1]))
            if cosine >= likeness:
                best, likeness = Try(mistake, self.error(*value), effect), cosine
        if best is None:
            return None
        return replace(nothing, mistake=best.mistake.sentence, after=best.error, made=(*self.made, best.mistake))

    def pair(
        self, tries: list[Try], screens: Mapping[bool, Screen], sound: Forward, expected: Array, nothing: Diagnosis
    ) -> Diagnosis | None:
        """Two mistakes whose effects add up to the error, computed together."""
        usable = [each for each in tries if each.effect is not None and 0 < np.linalg.norm(each.effect) < 1e6]
        if len(usable) < 2 or not screens:
            return None
        effects = np.array([each.effect for each in usable])
        error = screens[False].error_sketch
        gram, along = effects @ effects.T, effects @ error
        size = np.diag(gram) - 2 * along
        left = size[:, None] + size[None, :] + 2 * gram  # |error − a − b|² − |error|², for all pairs
        left[np.tril_indices(len(left))] = np.inf
        likeliest = [divmod(int(flat), len(left)) for flat in np.argsort(left, axis=None)[:MOST_PAIRS]]
        pairs = [(usable[i].mistake, usable[j].mistake) for i, j in likeliest if np.isfinite(left[i, j])]
        glanced: list[tuple[float, int]] = []
        for padded in (False, True):
            numbers = [n for n, two in enumerate(pairs) if padded == any(m.scope == "padding" for m in two)]
            for number, (after, _) in zip(numbers, screens[padded].glances([pairs[n] for n in numbers]), strict=True):
                price = self.price(sound, (0, 0, 0), screens[padded].inputs.input_ids.size)
                self.budget.count(self.wrong.name, price / SHARED)
                glanced.append((after, number))
        allowed = max(min(self.wrong.tolerance, nothing.before * LEFT_BY_TWO), nothing.before * NOTHING_LEFT)
        found: list[tuple[float, int]] = []
        for after, number in sorted(glanced)[:MOST_ALIKE]:
            value = self.with_mistakes(sound, {}, *pairs[number]) if after <= allowed * SLACK else None
            if value and (after := self.error(*value)) <= allowed:
                found.append((after, number))
        if not found:
            return None
        same = [number for after, number in found if after <= min(found)[0] * SAME + ROUNDING_ERROR]
        place = {id(each.mistake): position for position, each in enumerate(tries)}
        best = pairs[min(same, key=lambda number: sorted(place[id(m)] for m in pairs[number])[::-1])]
        sentence = "two mistakes: " + "; and ".join(f"{m.sentence}{in_layer(m)}" for m in best)
        return replace(nothing, mistake=sentence, after=min(found)[0], made=(*self.made, *best))


def products_of_steps(weights: Mapping[str, Array]) -> dict[str, int]:
    """How many multiplications a kind of step takes for a token."""
    matrices = {kind_of(name): weight.size for name, weight in weights.items() if weight.ndim == 2}
    products = {name.removesuffix(".weight"): size for name, size in matrices.items() if "_embeddings" not in name}
    return {**products, "lm_head": matrices[f"{WORD}.weight"]}


def confined(wrong: Wrong, expected: Array, compared: Array) -> tuple[Array | None, str]:
    """Where mine differs, if that is a part of the texts, heads, tokens or features; and which part, in words."""
    scale = np.sqrt(np.mean(np.square(expected[compared])))
    with np.errstate(all="ignore"):
        differs = compared & ~(np.abs(wrong.value - expected) <= LARGEST_ERROR * wrong.tolerance * scale)
    region, words = compared.copy(), []
    for axis, (what, length) in enumerate(whole_axes(expected.shape)):
        here, possible = (np.unique(np.nonzero(where)[axis]) for where in (differs, compared))
        if 0 < len(here) < len(possible):
            inside = np.isin(np.arange(length), here)
            region &= inside.reshape(-1, *[1] * (expected.ndim - 1 - axis))
            words.append(f"{what} {show_ranges(here)}")
    return (region, ", ".join(words)) if words and differs.sum() >= FEWEST_DIFFERENT else (None, "")


def by_turns(mistakes: Sequence[Mistake], places: Sequence[tuple[int, int, int]]) -> list[Mistake]:
    """The first mistake of each place, then the second of each, …: the likeliest of all parts come early."""
    groups: dict[tuple[int, int, int], list[Mistake]] = {}
    for mistake, place in zip(mistakes, places, strict=True):
        groups.setdefault(place, []).append(mistake)
    return [mistake for turn in zip_longest(*groups.values()) for mistake in turn if mistake]


def changed_places(order: Sequence[int], layers: int) -> list[int]:
    """The places in the stack where another layer runs than should."""
    right = list(range(layers))
    return [i for i in range(max(len(order), layers)) if list(order[i : i + 1]) != right[i : i + 1]]


def in_layer(mistake: Mistake) -> str:
    return "" if mistake.layer is None else f" (in layer {mistake.layer} only)"


def further_back(right: Mapping[str, Array]) -> Iterator[Mapping[str, Array]]:
    """What to compute from, if not from the nearest values: the hidden states, then the token ids alone.

    That is less precise, and needed where a mistake hides below the tolerance, or in another layout, at first.
    """
    states = {name: value for name, value in right.items() if kind_of(name) in STATES}
    if len(states) < len(right):
        yield states
    if states:
        yield {}
