"""The porter's bench: another program's activations beside the reference's, and what is wrong with the first.

numroberta compare reference.safetensors mine.npz
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numroberta.arithmetic import one_blas_thread
from numroberta.checkpoint import Checkpoint, open_checkpoint
from numroberta.model import read_sentence_settings
from numroberta.parity import measure
from numroberta.parity.alignment import aligned
from numroberta.parity.below_tolerance import hidden_mistake
from numroberta.parity.budget import PATIENCE, Budget
from numroberta.parity.comparison import Comparison, TensorComparison
from numroberta.parity.files import Recording, load_recording
from numroberta.parity.layouts import arrangements, show_ranges, swapped, whole_axes
from numroberta.parity.loss import TASKS
from numroberta.parity.matching import named_as, with_guessed_pooling
from numroberta.parity.mistakes import catalogue, numbers
from numroberta.parity.names import (
    AFTER_LAYERS,
    GRAD,
    INPUT,
    KEY,
    LABELS,
    PROBS,
    QUERY,
    SCORES,
    STATES,
    WORD,
    in_order,
    is_gradient,
    is_of_tensor,
    is_step,
    kind_of,
    layer_of,
    same_layer,
    step_of_gradient,
)
from numroberta.parity.search import LEFT, NEARLY_NOTHING_LEFT, Diagnosis, Search, Wrong
from numroberta.parity.steps import LINEARS, Forward, Inputs, Mistake

Array = NDArray[Any]
SMALL = 20_000_000  # parameters
SECONDS, SECONDS_OF_LARGE = 4.0, 45.0  # for the searches of a comparison, by the size of the model
LARGE = ("lm_head", f"lm_head{GRAD}", f"{WORD}.weight{GRAD}")  # not looked at after the first that differs
NOUGHT = 1e3  # a gradient whose terms are so many times larger is rounding
MOST_FURTHER = 3  # mistakes that are named besides the first

Source = Recording | Mapping[str, ArrayLike] | str | os.PathLike[str]


def compare(
    reference: Source,
    mine: Source,
    *,
    model: Checkpoint | str | os.PathLike[str] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    names: Mapping[str, str] | None = None,
    seconds: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Compare my activations with the reference's, tensor by tensor, and find out what is wrong with the first.

    Mine may be a subset, in any order and layout, of some of the texts.  Padding is not compared.

    Args:
        reference, mine: files, or arrays by name, as `load_recording` takes them.
        model: the weights, for the diagnosis; None: those that the reference was recorded with, if they can be found.
        rtol, atol: |mine − reference| ≤ atol + rtol · |reference| decides instead of the derived tolerance.
        names: from my names to the reference's; `{n}` in both stands for a number.
        seconds: how long to look for a mistake; None: as much work, on any machine, as takes about 4 seconds for models
            up to 20 million parameters and 45 for others.
        progress: called now and then with a sentence on how far the search is.

    Raises:
        ValueError: for recordings that have nothing to compare, or cannot be read.
    """
    theirs = load_recording(reference)
    ours = named_as(theirs, load_recording(mine), names or {})
    theirs, note = aligned(theirs, ours)
    ours, guess = with_guessed_pooling(theirs, ours)
    options = Options(rtol, atol, model, seconds, progress)
    comparison = compare_named(theirs, ours, options)
    if comparison.diagnosis and comparison.diagnosis.made:
        mistake = comparison.diagnosis.made[-1]
        if mistake.unit and mistake.layer is None and "only" not in comparison.diagnosis.where:
            # A program that computes in this type throughout is sound: what else differs?
            again = compare_named(theirs, ours, replace(options, unit=mistake.unit))
            comparison = replace(again, precision=mistake.sentence)
    remarks = [note, guess, comparison.remark, *warnings_about(comparison, theirs, ours)]
    return replace(comparison, remark="; ".join(filter(None, remarks)))


@dataclass(frozen=True)
class Options:
    """How two recordings are compared: the arguments of `compare`, and eps of the type that mine computes in."""

    rtol: float | None
    atol: float | None
    model: Checkpoint | str | os.PathLike[str] | None
    seconds: float | None
    progress: Callable[[str], None] | None
    unit: float = 0.0


def compare_named(reference: Recording, mine: Recording, options: Options) -> Comparison:
    """The comparison of recordings that have the same names and texts."""
    shared = sorted(sorted(reference.tensors.keys() & mine.tensors.keys()), key=in_order)
    bench = Bench(reference, mine, shared, options)
    rows = [bench.compare(name) for name in shared]
    missing = sorted(reference.tensors.keys() - mine.tensors.keys() - {*INPUT}, key=in_order)
    unknown = sorted(mine.tensors.keys() - reference.tensors.keys())
    layers = {layer for name in unknown if is_step(name) and (layer := layer_of(name)) is not None}
    comparison = Comparison(rows, missing, unknown, extra_layers=len({i for i in layers if i >= bench.layers}))
    if comparison.first is None:
        return replace(comparison, remark=bench.below_tolerance() if not comparison.extra_layers else "")
    diagnosis, remark = bench.diagnose(comparison.first)
    further = bench.further(comparison.first.name, diagnosis) if diagnosis else ()
    return replace(comparison, diagnosis=diagnosis, remark=remark, further=further)


def warnings_about(comparison: Comparison, reference: Recording, mine: Recording) -> Iterator[str]:
    """What a comparison could not see."""
    mask = reference.tensors.get("attention_mask")
    steps = [name for name in mine.tensors if layer_of(name) is not None or name in AFTER_LAYERS]
    if comparison.first is None and mask is not None and mask.all() and steps:
        yield "no text of the batch was padded, so that masks were not tested: add a shorter text"
    if comparison.extra_layers:
        layers = 1 + max((layer for name in reference.tensors if (layer := layer_of(name)) is not None), default=-1)
        yield f"mine has {layers + comparison.extra_layers} layers, the reference {layers}: one runs too often"


class AnotherFamily(ValueError):
    """The catalogue of mistakes is not about this kind of model."""


class Bench:
    """Two recordings side by side."""

    def __init__(self, reference: Recording, mine: Recording, shared: list[str], options: Options):
        self.reference, self.mine, self.options = reference, mine, options
        self.limits = (
            None if options.rtol is None and options.atol is None else (options.rtol or 0.0, options.atol or 0.0)
        )
        tensors = reference.tensors
        texts = next((array.shape[:2] for array in tensors.values() if array.ndim == 3), None) or (0, 0)
        mask = tensors.get("attention_mask", np.ones(texts))
        self.real = mask != 0  # (b, n), where a token is not padding
        self.heads = next((array.shape[1] for array in tensors.values() if array.ndim == 4), None)
        self.layers = 1 + max((in_order(name)[1] for name in tensors if in_order(name)[0] == 1), default=-1)
        self.narrow = narrow_types(mine, shared)
        # What was once rounded stays so, whatever type it is kept in afterwards.
        units = np.maximum.accumulate([self.unit(name) for name in shared])
        float16 = measure.UNITS["float16"]
        self.least = {n: measure.LEAST_FLOAT16 for n, unit in zip(shared, units, strict=True) if unit == float16}
        self.values: dict[str, Array | None] = {}  # mine, arranged as the reference
        self.tolerances = {
            name: measure.tolerance(name, float(unit), self.layers) for name, unit in zip(shared, units, strict=True)
        }

    def unit(self, name: str) -> float:
        """eps of the coarser of the two types that a tensor has here and there."""
        reference, mine = self.reference.tensors[name], self.mine.tensors[name]
        units = [self.options.unit] if in_order(name) > in_order("embeddings") else []
        units += [measure.UNITS["bfloat16"]] if name in self.mine.bfloat16 | self.reference.bfloat16 else []
        units += [measure.unit_of(reference), measure.unit_of(mine)]
        if max(units) < measure.SINGLE and measure.holds_single(mine) and not measure.holds_single(reference):
            units.append(measure.SINGLE)  # computed in float32 and stored in a wider type
        if name in self.narrow:
            units.append(measure.UNITS[self.narrow[name]])
        return max(units)

    def compare(self, name: str) -> TensorComparison:
        """The comparison of one tensor, arranged as it fits best."""
        reference, mine = self.reference.tensors[name], self.mine.tensors[name]
        note = f"mine has shape {show_shape(mine.shape)}, and no transpose or reshape makes it fit"
        best, self.values[name] = TensorComparison(name, reference.shape, alike=False, note=note), None
        for value, note in self.views(name, reference, mine):
            row = self.errors(name, value, ", ".join(filter(None, [note, self.type_of(name)])))
            nearer = note and best.note and (row.rms_error or 0) < (best.rms_error or 0)
            if row.alike or nearer or self.values[name] is None:
                best, self.values[name] = row, value
            if row.alike:
                break
        return best

    def type_of(self, name: str) -> str:
        """A note on the 16-bit type that mine was in before it was stored in a wider one."""
        return f"values of {self.narrow[name]}" if name in self.narrow else ""

    def views(self, name: str, reference: Array, mine: Array) -> Iterator[tuple[Array, str]]:
        """Mine in every way that it may be meant, the plainest first, each with a note on what had to be done."""
        same = mine.shape == reference.shape
        if same or mine.size == reference.size == 1:
            yield mine.reshape(reference.shape), ""
        elif mine.ndim < reference.ndim and reference.shape[reference.ndim - mine.ndim :] == mine.shape:
            yield np.broadcast_to(mine, reference.shape), "one for all texts or tokens"
        ways = (
            swapped(reference.shape, self.real, of_tensor=is_of_tensor(name))
            if same
            else arrangements(reference.shape, mine.shape, self.heads, self.real, of_tensor=is_of_tensor(name))
        )
        for way in ways:
            yield way.batch_first(mine), f"stored as {way}"
        if same and name.endswith("self.query") and self.heads:
            root = np.sqrt(reference.shape[-1] // self.heads)
            yield mine * mine.dtype.type(root), "recorded after the division by √d"

    def errors(self, name: str, mine: Array, note: str) -> TensorComparison:
        """The errors of mine, arranged as the reference, where it is not padding."""
        reference = self.reference.tensors[name]
        counted, tolerance = measure.counted(name, reference.shape, self.real), self.tolerances[name]
        truth, value = reference[counted].astype(np.float64), mine[counted].astype(np.float64)
        with np.errstate(all="ignore"):
            error = np.abs(value - truth)
            error[np.isnan(error)] = np.inf
            scale = self.scale(name)
            rms = float(np.sqrt(np.mean(np.square(error)))) if truth.size else 0.0
            cosine = float(truth @ value / np.sqrt((truth @ truth) * (value @ value)))
        largest = float(error.max(initial=0.0))
        if self.limits is None:
            alike = rms <= tolerance * scale and largest <= measure.LARGEST_ERROR * tolerance * scale
        else:
            rtol, atol = self.limits
            alike = bool(np.all(error <= atol + rtol * np.abs(truth)))
        worst = tuple(int(i[error.argmax()]) for i in np.nonzero(counted)) if largest else None
        relative = rms / scale if scale else (np.inf if rms else 0.0)
        return TensorComparison(name, reference.shape, alike, largest, relative, cosine, worst, tolerance, note)

    @cache  # noqa: B019  (a bench lives as long as its comparison)
    def scale(self, name: str) -> float:
        """The RMS of the reference's values; of a gradient whose terms cancel, more: what rounding is relative to.

        Softmax's gradient is P (dP − Σ dP P): nought where all keys have the same value.  A bias's is a sum over
        tokens, and a key's bias adds the same to all scores of a query: its gradient is rounding alone.
        """
        own, known = max(self.rms(name), self.least.get(name, 0.0)), self.reference.tensors
        step = step_of_gradient(name)
        dy, kind = known.get(step + GRAD), kind_of(step)
        if not is_gradient(name) or dy is None:
            return own
        if is_of_tensor(name):
            terms = self.scale(step + GRAD) * float(np.sqrt(dy.size // dy.shape[-1]))
            if name.endswith(f".bias{GRAD}"):
                return max(own, terms)
            layer = layer_of(name) or 0
            below = f"encoder.layer.{layer - 1}.output" if layer else "embeddings"
            return max(own, terms * self.rms(below)) if kind in (QUERY, KEY) and below in known else own
        probs, dprobs, query, key = (known.get(same_layer(step, k)) for k in (PROBS, PROBS + GRAD, QUERY, KEY))
        if kind not in (SCORES, QUERY, KEY) or probs is None or dprobs is None or query is None or key is None:
            return own
        products = probs * dprobs * measure.counted(step, probs.shape, self.real)  # (b, h, queries, keys)
        if kind == SCORES:
            return max(own, measure.rms(products))
        b, h, n, _ = products.shape
        other = (key if kind == QUERY else query).reshape(b, n, h, -1).swapaxes(1, 2)
        squares = (products if kind == QUERY else products.swapaxes(2, 3)) ** 2 @ other**2 / other.shape[-1]
        return max(own, float(np.sqrt(squares.mean())))

    def rms(self, name: str) -> float:
        """The RMS of the reference's values, where they are not padding."""
        tensor = self.reference.tensors[name]
        return measure.rms(tensor[measure.counted(name, tensor.shape, self.real)])

    def wrong(self, name: str, value: Array) -> Wrong:
        """Mine for the search, with the error that rounding may cause relative to the values themselves."""
        size = self.rms(name)
        more = self.scale(name) / size if size else 1.0
        return Wrong(name, value.astype(np.float64), self.tolerances[name] * more)

    def diagnose(self, row: TensorComparison) -> tuple[Diagnosis | None, str]:
        """The mistake behind the first difference, or the reason why none can be named."""
        value = self.values[row.name]
        if row.name in INPUT:
            what = "labels" if row.name == LABELS else "tokens"
            return None, f"{row.name} differ: both programs must be given the same {what}"
        here = None if value is None else value[measure.counted(row.name, row.shape, self.real)]
        if here is not None and (np.isnan(here).any() or (np.isinf(here).any() and kind_of(row.name) != SCORES)):
            return None, "mine has values that are no finite numbers"
        if "input_ids" not in self.reference.tensors or not is_step(row.name):
            return None, "" if "input_ids" in self.reference.tensors else "no diagnosis: the reference has no input_ids"
        try:
            inputs = self.inputs
        except AnotherFamily as error:
            return None, f"no diagnosis: {error}"
        except ValueError as error:
            return None, f"no diagnosis without the weights ({error}): name them with --model"
        names = [name for name in self.values if name not in INPUT]
        right = {name: self.wide(name) for name in names[: names.index(row.name)] if self.values[name] is not None}
        mine = self.mine.tensors[row.name] if value is None else value
        with one_blas_thread():
            wrong = self.wrong(row.name, mine)
            search = Search(inputs, self.catalogue, right, wrong, self.after(row.name), self.budget)
            diagnosis = search.diagnose()
        if diagnosis.mistake or value is None:
            return diagnosis if diagnosis.mistake else None, ""
        if diagnosis.before <= wrong.tolerance:
            return (
                None,
                f"mine's {row.name} follows from mine's other values: it reads the first place, which is padding",
            )
        unfinished = f"the search stopped after {self.budget.tried} tries" if self.budget.spent else ""
        return diagnosis, "; ".join(filter(None, [self.pattern(row.name, value), unfinished]))

    def after(self, name: str) -> list[Wrong]:
        """What mine has after this one in the same pass, but for what is large, and gradients that are nought."""
        names = list(self.values)
        return [
            self.wrong(later, value)
            for later, value in list(self.values.items())[names.index(name) + 1 :]
            if value is not None and is_step(later) and is_gradient(later) == is_gradient(name)
            if later not in LARGE and self.scale(later) <= NOUGHT * self.rms(later)
        ]

    def further(self, name: str, diagnosis: Diagnosis) -> tuple[Diagnosis, ...]:
        """Mistakes that are made besides the first, each found from mine's own values before it."""
        found: list[Diagnosis] = []
        made = diagnosis.made
        known = {each: self.wide(each) for each, value in self.values.items() if value is not None and is_step(each)}
        with one_blas_thread():
            for later in self.after(name):
                before = {each: value for each, value in known.items() if in_order(each) < in_order(later.name)}
                if len(found) == MOST_FURTHER or self.budget.spent:
                    break
                if any(self.follows(later, before, mistakes) for mistakes in {made, made[:-1], ()}):
                    continue
                if not np.all(np.isfinite(later.value)):
                    break
                narrow = any(mistake.of_numbers for mistake in made)  # of which there are no two at once
                other = [mistake for mistake in self.catalogue if not (narrow and mistake.of_numbers)]
                search = Search(self.inputs, other, before, later, self.after(later.name), self.budget, made)
                each = search.attempt(before)
                if each.mistake is None:
                    break
                if each.mistake not in {diagnosis.mistake, *(mistake.sentence for mistake in made)}:
                    found.append(each)
                made = each.made
        return tuple(found)

    def follows(self, later: Wrong, before: Mapping[str, Array], made: tuple[Mistake, ...]) -> bool:
        """Whether a value is what comes of mine's own values before it, with these mistakes."""
        forward = Forward(self.inputs, before, *made)
        expected = forward.attempt(later.name)
        if expected is None:
            return False
        value = later.value
        if kind_of(later.name) == SCORES:
            value, expected = measure.hidden_alike(value, expected)
        where = measure.counted(later.name, expected.shape, self.real)
        error, allowed = measure.distance(value, expected, where), later.tolerance
        if error > allowed and any(mistake.of_numbers for mistake in made):  # ties may be rounded another way
            sound = Forward(self.inputs, before, *(m for m in made if not m.of_numbers)).attempt(later.name)
            if sound is not None:
                allowed = max(allowed, NEARLY_NOTHING_LEFT * measure.distance(value, sound, where))
        return error <= allowed

    def below_tolerance(self) -> str:
        """A mistake that the tolerance of 16-bit numbers hides, and that the numbers still show; or nothing."""
        if max(self.tolerances.values(), default=0) < measure.tolerance("embeddings", measure.UNITS["float16"], 0):
            return ""
        try:
            inputs = self.inputs
        except ValueError:
            return ""
        known = {
            name: self.wide(name)
            for name, value in self.values.items()
            if value is not None and is_step(name) and not is_gradient(name)
        }
        with one_blas_thread():
            hidden = hidden_mistake(inputs, list(catalogue(inputs, without=numbers)), known, self.budget)
        return f"within the tolerance, but not noise: {hidden}" if hidden else ""

    @cached_property
    def inputs(self) -> Inputs:
        """What the reference's forward pass started from.

        Raises ValueError where its weights are not at hand, or are BERT's: the steps and mistakes are RoBERTa's.
        """
        checkpoint = self.weights(self.options.model)
        if checkpoint.config.model_type == "bert":
            raise AnotherFamily("the catalogue of mistakes is RoBERTa's, and this is a BERT")
        config, sentence = checkpoint.config, read_sentence_settings(checkpoint)
        return Inputs(
            checkpoint.tensors, self.reference.tensors["input_ids"], self.real, config.num_attention_heads,
            config.layer_norm_eps, config.pad_token_id, sentence.pooling, sentence.steps,
            self.task, self.reference.tensors.get(LABELS),
        )  # fmt: skip

    @property
    def task(self) -> str:
        """What the loss is of, whose gradients the reference has; "" if it has none."""
        return next((task for task, top in TASKS.items() if top + GRAD in self.reference.tensors), "")

    @cached_property
    def catalogue(self) -> list[Mistake]:
        return list(catalogue(self.inputs))

    @cached_property
    def budget(self) -> Budget:
        """The time for all searches of this comparison."""
        small = sum(tensor.size for tensor in self.inputs.weights.values()) < SMALL
        if self.options.seconds:
            return Budget(None, self.options.seconds, self.options.progress)
        work = SECONDS if small else SECONDS_OF_LARGE
        return Budget(work, work * PATIENCE, self.options.progress)

    def wide(self, name: str) -> Array:
        """Mine in float64; where it is no number, as padding may be, the reference."""
        value = self.values[name]
        assert value is not None
        return np.where(np.isfinite(value), value, self.reference.tensors[name]).astype(np.float64)

    def pattern(self, name: str, mine: Array) -> str:
        """What can be seen in the numbers of an error that no classic mistake explains, or nothing."""
        reference, counted = (
            self.reference.tensors[name].astype(np.float64),
            measure.counted(name, mine.shape, self.real),
        )
        truth, value, tolerance = reference[counted], mine[counted].astype(np.float64), self.tolerances[name]
        scale = np.sqrt(np.mean(np.square(truth)))
        factor = float(truth @ value / (truth @ truth))
        before, after = measure.rms(value - truth), measure.rms(value - factor * truth)
        if after <= min(abs(factor) * tolerance * scale, before * LEFT):
            return f"mine is {factor:.6g} times the reference"
        wrong = counted & (np.abs(mine - reference) > measure.LARGEST_ERROR * tolerance * scale)
        confined = []
        for axis, (what, _) in enumerate(whole_axes(mine.shape, is_of_tensor(name))):
            here, possible = (np.unique(np.nonzero(where)[axis]) for where in (wrong, counted))
            if 0 < len(here) <= len(possible) / 2:
                confined.append(f"{what} {show_ranges(here)}")
        return f"only these are wrong: {'; '.join(confined)}" if confined else ""

    def weights(self, model: Any) -> Checkpoint:
        """The checkpoint to compute with: the named one, or the reference's own."""
        if isinstance(model, Checkpoint):
            return model
        if model is not None:
            return open_checkpoint(model)
        name = self.reference.metadata.get("model")
        if name is None:
            raise ValueError("the reference does not say which they are")
        checkpoint = open_checkpoint(name)
        if checkpoint.weights_hash != self.reference.metadata.get("weights_sha256", checkpoint.weights_hash):
            raise ValueError(f"{name} has other weights now than when the reference was recorded")
        return checkpoint


def narrow_types(recording: Recording, names: list[str]) -> dict[str, str]:
    """The 16-bit type of each tensor of a program that computes in one throughout, and stores in a wider one.

    Throughout: in every linear layer that is recorded, in every hidden state, or in the gradient of every tensor.  One
    step in 16 bits is a mistake.
    """
    types = {name: measure.narrow_type(recording.tensors[name]) for name in names if is_step(name)}
    products = [name for name in types if kind_of(name) in LINEARS] or [n for n in types if kind_of(n) in STATES]
    products = products or [name for name in types if is_of_tensor(name)]
    if not products or not all(types[name] for name in products):
        return {}
    return {name: kind for name, kind in types.items() if kind}


def show_shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "1"
