"""The porter's bench: another program's activations beside the reference's, and what is wrong with the first.

numroberta compare reference.safetensors mine.npz
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numroberta.arithmetic import one_blas_thread
from numroberta.checkpoint import Checkpoint, open_checkpoint
from numroberta.model import read_sentence_settings
from numroberta.parity import measure
from numroberta.parity.files import Recording, load_recording
from numroberta.parity.layouts import arrangements, swapped, whole_axes
from numroberta.parity.mistakes import catalogue
from numroberta.parity.names import INPUT, SCORES, STATES, in_order, is_step, kind_of, some, usual_name
from numroberta.parity.search import Budget, Diagnosis, Search, Wrong
from numroberta.parity.steps import LINEARS, Inputs

Array = NDArray[Any]
Source = Recording | Mapping[str, ArrayLike] | str | os.PathLike[str]


@dataclass(frozen=True)
class TensorComparison:
    """How one tensor compares.  The errors are None where the shapes cannot be made to fit.

    rms_error: RMS of the difference over RMS of the reference; infinite where mine has a NaN.  tolerance: of rms_error.
    worst: where the largest error is, batch-first.  note: how mine had to be arranged to fit.
    """

    name: str
    shape: tuple[int, ...]
    alike: bool
    max_error: float | None = None
    rms_error: float | None = None
    cosine: float | None = None
    worst: tuple[int, ...] | None = None
    tolerance: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """All tensors that both recordings have, in the order of the forward pass, and what is wrong with the first."""

    rows: list[TensorComparison]
    missing: list[str]  # in the reference only
    unknown: list[str]  # in mine only
    diagnosis: Diagnosis | None = None
    remark: str = ""  # why there is no diagnosis, or what else is known

    @property
    def first(self) -> TensorComparison | None:
        """The first tensor that differs."""
        return next((row for row in self.rows if not row.alike), None)

    @property
    def alike(self) -> bool:
        return self.first is None

    def as_dict(self) -> dict[str, Any]:
        """For machines: JSON has no infinity, so such an error is null."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: plain(one) for key, one in value.items()}
            if isinstance(value, list | tuple):
                return [plain(one) for one in value]
            return None if isinstance(value, float) and not np.isfinite(value) else value

        first = self.first
        fields = {**asdict(replace(self, diagnosis=None)), "diagnosis": self.diagnosis and self.diagnosis.as_dict()}
        return plain({**fields, "alike": self.alike, "first": first.name if first else None})


def compare(
    reference: Source,
    mine: Source,
    *,
    model: Checkpoint | str | os.PathLike[str] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    names: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare my activations with the reference's, tensor by tensor, and find out what is wrong with the first.

    Each is a file (.safetensors, .npz) or arrays by name; mine may be a subset, in any order and layout.  Padding is
    not compared.  model: the weights, for the diagnosis; None: those that the reference was recorded with, where they
    can be found.  rtol, atol: |mine − reference| ≤ atol + rtol · |reference| decides instead of the derived tolerance.
    names: from my names to the reference's.  Raises ValueError for recordings that have nothing to compare.
    """
    references, mines = load_recording(reference), renamed(load_recording(mine), names or {})
    shared = sorted(sorted(references.tensors.keys() & mines.tensors.keys()), key=in_order)
    if not shared:
        raise ValueError(
            f"no tensor of mine has a name of the reference: mine has {some(list(mines.tensors))}, the reference "
            f"{some(sorted(references.tensors, key=in_order))}; rename them with --map names.json"
        )
    bench = Bench(references, mines, shared, rtol, atol)
    rows = [bench.compare(name) for name in shared]
    missing = sorted(references.tensors.keys() - mines.tensors.keys() - {*INPUT}, key=in_order)
    unknown = sorted(mines.tensors.keys() - references.tensors.keys())
    comparison = Comparison(rows, missing, unknown)
    if comparison.first is None:
        return comparison
    diagnosis, remark = bench.diagnose(comparison.first, model)
    return replace(comparison, diagnosis=diagnosis, remark=remark)


class Bench:
    """Two recordings side by side."""

    def __init__(
        self, reference: Recording, mine: Recording, shared: list[str], rtol: float | None, atol: float | None
    ):
        self.reference, self.mine = reference, mine
        self.limits = None if rtol is None and atol is None else (rtol or 0.0, atol or 0.0)
        tensors = reference.tensors
        texts = next((array.shape[:2] for array in tensors.values() if array.ndim == 3), None) or (0, 0)
        mask = tensors.get("attention_mask", np.ones(texts))
        self.real = mask != 0  # (b, n), where a token is not padding
        self.heads = next((array.shape[1] for array in tensors.values() if array.ndim == 4), None)
        self.layers = 1 + max((in_order(name)[1] for name in tensors if in_order(name)[0] == 1), default=-1)
        self.narrow = narrow_types(mine, shared)
        # What was once rounded stays so, whatever type it is kept in afterwards.
        units = np.maximum.accumulate([self.unit(name) for name in shared])
        self.values: dict[str, Array | None] = {}  # mine, arranged as the reference
        self.tolerances = {
            name: measure.tolerance(name, float(unit), self.layers) for name, unit in zip(shared, units, strict=True)
        }

    def unit(self, name: str) -> float:
        """eps of the coarser of the two types that a tensor has here and there."""
        reference, mine = self.reference.tensors[name], self.mine.tensors[name]
        units = [measure.UNITS["bfloat16"]] if name in self.mine.bfloat16 | self.reference.bfloat16 else []
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
        if same:
            yield mine, ""
        elif mine.ndim < reference.ndim and reference.shape[reference.ndim - mine.ndim :] == mine.shape:
            yield np.broadcast_to(mine, reference.shape), "one for all texts or tokens"
        ways = (
            swapped(reference.shape, self.real)
            if same
            else arrangements(reference.shape, mine.shape, self.heads, self.real)
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
            scale = float(np.sqrt(np.mean(np.square(truth)))) if truth.size else 0.0
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

    def diagnose(self, row: TensorComparison, model: Any) -> tuple[Diagnosis | None, str]:
        """The mistake behind the first difference, or the reason why none can be named."""
        value = self.values[row.name]
        if row.name in INPUT:
            return None, f"{row.name} differ: both programs must be given the same tokens"
        if value is None:
            return None, ""
        here = value[measure.counted(row.name, row.shape, self.real)]
        if np.isnan(here).any() or (np.isinf(here).any() and kind_of(row.name) != SCORES):
            return None, "mine has values that are no finite numbers"
        ids = self.reference.tensors.get("input_ids")
        if ids is None or row.tolerance is None or not is_step(row.name):
            return None, "no diagnosis: the reference has no input_ids" if ids is None else ""
        try:
            inputs = self.inputs(ids, self.weights(model))
        except ValueError as error:
            return None, f"no diagnosis without the weights ({error}): name them with --model"
        names = list(self.values)
        place = names.index(row.name)
        right = {name: self.wide(name) for name in names[:place] if name not in INPUT and self.values[name] is not None}
        wrong, *later = [
            Wrong(name, value.astype(np.float64), self.tolerances[name])
            for name, value in list(self.values.items())[place:]
            if value is not None and is_step(name)
        ]
        with one_blas_thread():
            search = Search(inputs, list(catalogue(inputs)), right, wrong, later, Budget(60))
            diagnosis = search.diagnose()
        return diagnosis, "" if diagnosis.mistake else self.pattern(row.name, value)

    def wide(self, name: str) -> Array:
        """Mine in float64; where it is no number, as padding may be, the reference."""
        value = self.values[name]
        assert value is not None
        return np.where(np.isfinite(value), value, self.reference.tensors[name]).astype(np.float64)

    def inputs(self, ids: Array, checkpoint: Checkpoint) -> Inputs:
        """What the reference's forward pass started from."""
        config, sentence = checkpoint.config, read_sentence_settings(checkpoint)
        return Inputs(
            checkpoint.tensors, ids, self.real, config.num_attention_heads, config.layer_norm_eps, config.pad_token_id,
            sentence.pooling, sentence.steps,
        )  # fmt: skip

    def pattern(self, name: str, mine: Array) -> str:
        """What can be seen in the numbers of an error that no classic mistake explains, or nothing."""
        reference, counted = (
            self.reference.tensors[name].astype(np.float64),
            measure.counted(name, mine.shape, self.real),
        )
        truth, value, tolerance = reference[counted], mine[counted].astype(np.float64), self.tolerances[name]
        scale = np.sqrt(np.mean(np.square(truth)))
        factor = float(truth @ value / (truth @ truth))
        if np.sqrt(np.mean(np.square(value - factor * truth))) <= abs(factor) * tolerance * scale:
            return f"mine is {factor:.6g} times the reference"
        wrong = counted & (np.abs(mine - reference) > measure.LARGEST_ERROR * tolerance * scale)
        confined = []
        for axis, (what, _) in enumerate(whole_axes(mine.shape)):
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

    Throughout: in every linear layer that is recorded, or in every hidden state.  One step in 16 bits is a mistake.
    """
    types = {name: measure.narrow_type(recording.tensors[name]) for name in names if is_step(name)}
    products = [name for name in types if kind_of(name) in LINEARS] or [n for n in types if kind_of(n) in STATES]
    if not products or not all(types[name] for name in products):
        return {}
    return {name: kind for name, kind in types.items() if kind}


def renamed(recording: Recording, names: Mapping[str, str]) -> Recording:
    """The recording under the reference's names.  Raises ValueError where two tensors would have the same."""
    for name in names:
        if name not in recording.tensors:
            has = some(list(recording.tensors))
            raise ValueError(f"the map of names has {name!r}, which mine has not; mine has {has}")
    called = {name: names.get(name) or usual_name(name) for name in recording.tensors}
    if len(set(called.values())) < len(called):
        twice = next(name for name in called.values() if list(called.values()).count(name) > 1)
        raise ValueError(f"mine has two tensors for {twice}: {some([k for k, v in called.items() if v == twice])}")
    tensors = {called[name]: array for name, array in recording.tensors.items()}
    return Recording(tensors, recording.metadata, frozenset(called[name] for name in recording.bfloat16))


def show_ranges(numbers: Array) -> str:
    """[3, 4, 5, 9] -> "3–5, 9"; of many ranges the first four."""
    starts = np.flatnonzero(np.diff(numbers, prepend=-2) > 1)
    ranges = [(part[0], part[-1]) for part in np.split(numbers, starts[1:])]
    shown = [f"{a}–{b}" if a < b else f"{a}" for a, b in ranges[:4]]
    return ", ".join(shown) + (" …" if len(ranges) > 4 else "")


def show_shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "1"
