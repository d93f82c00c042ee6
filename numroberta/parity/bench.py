"""The porter's bench: record every activation of the forward pass, and compare another program's with them.

    numroberta trace --model distilroberta-base "Hello world" -o reference.safetensors
    numroberta compare reference.safetensors mine.npz

A recording is a safetensors file (or a dict): activations, batch-first, by the module paths of transformers, with
`input_ids` and `attention_mask`, and in the metadata what they were computed with.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numroberta import __version__, textbook
from numroberta.arithmetic import Roberta
from numroberta.checkpoint import (
    HEADS,
    POOLER,
    Checkpoint,
    open_checkpoint,
    open_safetensors,
    write_safetensors,
)
from numroberta.model import TextEncoder
from numroberta.parity import diagnosis
from numroberta.parity.diagnosis import INPUT, Diagnosis, Given, in_order
from numroberta.parity.layouts import arrangements, swapped, whole_axes

Array = NDArray[Any]

SINGLE = float(np.finfo(np.float32).eps)
BFLOAT16 = 2.0**-7  # the distance from 1 to the next number, as np.finfo gives it for the types that NumPy has

# What rounding may cause, in units of the coarser type's eps, at the embeddings; √(1 + layers) times that further up.
# Measured on the full-size geometry in float32: 2 to 5, probabilities up to 17.  A plain loop that adds 3072 products
# one by one is several times worse than BLAS.  PyTorch in float16 and bfloat16, which add up in float32: up to 1.
RMS_ERROR = 64
RMS_ERROR_16_BIT = 4
LARGEST_ERROR = 20  # of a single element, in units of the RMS one.  Measured: 4 to 15


# --- Recording ----------------------------------------------------------------------------------------------


def trace(
    model: TextEncoder | Roberta, input_ids: ArrayLike, attention_mask: ArrayLike | None = None
) -> dict[str, Array]:
    """Every activation of the forward pass by name, in its order, computed by `numroberta.textbook`.

    input_ids, attention_mask: (b, n), as `Roberta` takes them; both are in the result, under these names.
    The numbers are those of the model's dtype; load it with dtype="float64" for reference values.  Loaded with
    reproducible=True, a model records its own forward pass instead, in the same bits on every machine; padding is zero.
    """
    roberta = model.model if isinstance(model, TextEncoder) else model
    ids, mask = roberta.checked(input_ids, attention_mask)
    config = roberta.config
    if roberta.exact:
        return {"input_ids": ids, "attention_mask": mask.astype(np.int64), **own_activations(roberta, ids, mask)}
    output = textbook.forward(
        roberta.tensors,
        ids,
        mask,
        num_attention_heads=config.num_attention_heads,
        layer_norm_eps=config.layer_norm_eps,
        padding_idx=config.pad_token_id,
    )
    x, found = output.last_hidden_state, dict(output.activations)
    one_for_all = "embeddings.token_type_embeddings"
    found[one_for_all] = np.broadcast_to(found[one_for_all], x.shape)  # (d,) -> (b, n, d)
    textbook.heads(roberta.tensors, x, config.layer_norm_eps, found)
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64), **found}


def own_activations(roberta: Roberta, ids: Array, mask: Array) -> dict[str, Array]:
    """What a reproducible model computes on its way, batch-first: (b, n, d), (b, h, n, n), and of <s> (b, d)."""
    b, n = ids.shape
    positions = roberta.position_ids(ids)
    of_first = {layer for head in HEADS.values() if head.first_token for layer in (*head.layers, POOLER)}
    found: dict[str, Array] = {}
    for i in range(b):
        tokens = mask[i]
        for name, array in roberta.activations(ids[i, tokens], positions[i, tokens]).items():
            if array.ndim == 3:  # (h, n queries, n keys)
                out = found.setdefault(name, np.zeros((b, len(array), n, n), array.dtype))
                out[i][:, np.outer(tokens, tokens)] = array.reshape(len(array), -1)
            elif name in of_first:
                found.setdefault(name, np.zeros((b, len(array)), array.dtype))[i] = array[:, 0]
            else:
                found.setdefault(name, np.zeros((b, n, len(array)), array.dtype))[i, tokens] = array.T
    return dict(sorted(found.items(), key=lambda item: in_order(item[0])))


def batch(model: TextEncoder, texts: Sequence[str]) -> tuple[Array, Array]:
    """Texts to input_ids and attention_mask, (b, n) each, padded on the right; a long text is cut."""
    rows = [model.tokenizer(text, max_length=model.max_length).ids for text in texts]
    ids = np.full((len(rows), max(map(len, rows))), model.config.pad_token_id, np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask


def save(path: str | os.PathLike[str], recorded: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write a recording as safetensors; it appears under its name when it is complete."""
    write_safetensors(path, recorded, metadata)


def provenance(model: TextEncoder | Roberta, texts: Sequence[str] = ()) -> dict[str, str]:
    """What a recording was computed with: the metadata of its file.

    NumPy's version has no part in what a reproducible model computes, so the files of two machines are the same.
    """
    roberta = model.model if isinstance(model, TextEncoder) else model
    arithmetic = {"arithmetic": "reproducible"} if roberta.exact else {"numpy": np.__version__}
    return {
        "model": model.checkpoint.name,
        "weights_sha256": model.checkpoint.weights_hash,
        "dtype": str(roberta.dtype),
        "numroberta": __version__,
        **arithmetic,
        "texts": json.dumps(list(texts), ensure_ascii=False),
    }


@dataclass(frozen=True)
class Recording:
    """Activations by name, and what is known about them.  bfloat16: names of tensors that were stored in that type."""

    tensors: dict[str, Array]
    metadata: dict[str, str] = field(default_factory=dict)
    bfloat16: frozenset[str] = frozenset()


def read(source: Recording | Mapping[str, ArrayLike] | str | os.PathLike[str]) -> Recording:
    """A recording from a .safetensors or .npz file, or from arrays by name.  Raises ValueError for anything else."""
    if isinstance(source, Recording):
        return source
    if isinstance(source, Mapping):
        tensors = {name: np.asarray(array) for name, array in source.items()}
        _check_that_all_are_numbers("the recording", tensors)
        return Recording(tensors)
    path = Path(source)
    if path.suffix == ".safetensors":
        stored, metadata = open_safetensors(path)
        narrow = {name: np.float16 for name, tensor in stored.items() if tensor.dtype == "F16"}
        tensors = {
            name: tensor.array().astype(narrow[name]) if name in narrow else tensor.array()
            for name, tensor in stored.items()
        }
        return Recording(
            tensors, metadata, frozenset(name for name, tensor in stored.items() if tensor.dtype == "BF16")
        )
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as file:
                tensors = {name: file[name] for name in file.files}
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
        except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is not a file of NumPy arrays as np.savez writes it: {error}") from error
        _check_that_all_are_numbers(str(path), tensors)
        return Recording(tensors)
    raise ValueError(f"{path}: expected a name that ends in .safetensors or .npz")


def read_names(path: str | os.PathLike[str]) -> dict[str, str]:
    """A JSON object from names to names."""
    try:
        names = json.loads(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is not JSON: {error}") from error
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{os.fspath(path)}: expected a JSON object from your names to the reference's")
    return names


def _check_that_all_are_numbers(where: str, tensors: Mapping[str, Array]) -> None:
    for name, array in tensors.items():
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{where}: {name} has dtype {array.dtype}, expected float16, float32 or float64")


# --- Comparing ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
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

    rows: list[Row]
    missing: list[str]  # in the reference only
    unknown: list[str]  # in mine only
    diagnosis: Diagnosis | None = None
    remark: str = ""  # why there is no diagnosis, or what else is known

    @property
    def first(self) -> Row | None:
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
        return plain({**asdict(self), "alike": self.alike, "first": first.name if first else None})


def compare(
    reference: Recording | Mapping[str, ArrayLike] | str | os.PathLike[str],
    mine: Recording | Mapping[str, ArrayLike] | str | os.PathLike[str],
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
    known, found = read(reference), _renamed(read(mine), names or {})
    shared = sorted(sorted(known.tensors.keys() & found.tensors.keys()), key=in_order)
    if not shared:
        raise ValueError(
            f"no tensor of mine has a name of the reference: mine has {_some(found.tensors)}, the reference "
            f"{_some(sorted(known.tensors, key=in_order))}; rename them with --map names.json"
        )
    bench = Bench(known, found, rtol, atol)
    rows, right = [], {}
    for name in shared:
        row, value = bench.row(name)
        rows.append(row)
        if row.alike and value is not None:
            right[name] = value
        elif all(earlier.alike for earlier in rows[:-1]):
            wrong = value
    missing = sorted(known.tensors.keys() - found.tensors.keys() - {*INPUT}, key=in_order)
    unknown = sorted(found.tensors.keys() - known.tensors.keys())
    comparison = Comparison(rows, missing, unknown)
    if comparison.first is None:
        return comparison
    found_out, remark = bench.diagnose(comparison.first, wrong, right, model)
    return Comparison(rows, missing, unknown, found_out, remark)


class Bench:
    """Two recordings side by side."""

    def __init__(self, reference: Recording, mine: Recording, rtol: float | None, atol: float | None):
        self.reference, self.mine = reference, mine
        self.coarsest = 0.0  # eps of the coarsest type so far, in the order of the forward pass
        self.limits = None if rtol is None and atol is None else (rtol or 0.0, atol or 0.0)
        tensors = reference.tensors
        texts = next((array.shape[:2] for array in tensors.values() if array.ndim == 3), None) or (0, 0)
        mask = tensors.get("attention_mask", np.ones(texts))
        self.real = mask != 0  # (b, n), where a token is not padding
        self.heads = next((array.shape[1] for array in tensors.values() if array.ndim == 4), None)
        self.layers = 1 + max((in_order(name)[1] for name in tensors if in_order(name)[0] == 1), default=-1)

    def row(self, name: str) -> tuple[Row, Array | None]:
        """The comparison of one tensor, and mine arranged as the reference."""
        reference, mine = self.reference.tensors[name], self.mine.tensors[name]
        best: tuple[Row, Array] | None = None
        for value, note in self.views(name, reference, mine):
            row = self.measure(name, reference, value, note)
            if row.alike:
                return row, value
            if best is None or (note and best[0].note and (row.rms_error or 0) < (best[0].rms_error or 0)):
                best = row, value
        if best is None:
            note = f"mine has shape {show_shape(mine.shape)}, and no transpose or reshape makes it fit"
            return Row(name, reference.shape, alike=False, note=note), None
        return best

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

    def measure(self, name: str, reference: Array, mine: Array, note: str) -> Row:
        """The errors of mine, arranged as the reference, where it is not padding."""
        counted = self.counted(name, reference.shape)
        tolerance = self.tolerance(name, reference, mine)
        truth, value = reference[counted].astype(np.float64), mine[counted].astype(np.float64)
        with np.errstate(all="ignore"):
            error = np.abs(value - truth)
            error[np.isnan(error)] = np.inf
            scale = float(np.sqrt(np.mean(np.square(truth)))) if truth.size else 0.0
            rms = float(np.sqrt(np.mean(np.square(error)))) if truth.size else 0.0
            cosine = float(truth @ value / np.sqrt((truth @ truth) * (value @ value)))
        largest = float(error.max(initial=0.0))
        if self.limits is None:
            alike = rms <= tolerance * scale and largest <= LARGEST_ERROR * tolerance * scale
        else:
            rtol, atol = self.limits
            alike = bool(np.all(error <= atol + rtol * np.abs(truth)))
        worst = tuple(int(i[error.argmax()]) for i in np.nonzero(counted)) if largest else None
        relative = rms / scale if scale else (np.inf if rms else 0.0)
        return Row(name, reference.shape, alike, largest, relative, cosine, worst, tolerance, note)

    def counted(self, name: str, shape: tuple[int, ...]) -> Array:
        """Where the tensor is compared: true for what is not padding."""
        real, where = self.real, np.ones(shape, bool)
        if len(shape) == 4:
            where &= real[:, None, :, None]
            # Whether a program masks before or after it records the scores is its own affair.
            return where if name.endswith("probs") else where & real[:, None, None, :]
        if len(shape) == 3 and shape[:2] == real.shape:
            return where & real[:, :, None]
        return where

    def tolerance(self, name: str, reference: Array, mine: Array) -> float:
        """The RMS relative error that rounding may cause: by the coarser of the two types, and by the depth."""
        units = [BFLOAT16] if name in self.mine.bfloat16 | self.reference.bfloat16 else []
        for array in (reference, mine):
            units.append(float(np.finfo(array.dtype if array.dtype.kind == "f" else np.float64).eps))
        if max(units) < SINGLE and is_single(mine) and not is_single(reference):
            units.append(SINGLE)  # computed in float32 and stored in a wider type
        # What was once rounded stays so, whatever type it is kept in afterwards.
        unit = self.coarsest = max(self.coarsest, *units)
        stage, layer, _ = in_order(name)
        depth = 0 if stage == 0 else 1 + layer if stage == 1 else 1 + self.layers
        return unit * (RMS_ERROR if unit < 1e-6 else RMS_ERROR_16_BIT) * (1 + depth) ** 0.5

    def diagnose(
        self, row: Row, value: Array | None, right: dict[str, Array], model: Any
    ) -> tuple[Diagnosis | None, str]:
        """The mistake behind the first difference, or the reason why none can be named."""
        if row.name in INPUT:
            return None, f"{row.name} differ: both programs must be given the same tokens"
        if value is None:
            return None, ""
        if not np.all(np.isfinite(value[self.counted(row.name, row.shape)])):
            return None, "mine has values that are no finite numbers"
        ids = self.reference.tensors.get("input_ids")
        if ids is None or row.tolerance is None or not known_step(row.name):
            return None, "no diagnosis: the reference has no input_ids" if ids is None else ""
        try:
            checkpoint = self.weights(model)
        except ValueError as error:
            return None, f"no diagnosis without the weights ({error}): name them with --model"
        config = checkpoint.config
        given = Given(
            checkpoint.tensors, ids, self.real, config.num_attention_heads, config.layer_norm_eps, config.pad_token_id
        )
        wide = {
            name: np.where(np.isfinite(array), array, self.reference.tensors[name]).astype(np.float64)
            for name, array in right.items()
            if name not in INPUT
        }
        counted = self.counted(row.name, row.shape)
        found = diagnosis.diagnose(given, wide, row.name, value, counted, row.tolerance)
        return found, "" if found.mistake else self.pattern(row.name, value, row.tolerance)

    def pattern(self, name: str, mine: Array, tolerance: float) -> str:
        """What can be seen in the numbers of an error that no classic mistake explains, or nothing."""
        reference, counted = self.reference.tensors[name].astype(np.float64), self.counted(name, mine.shape)
        truth, value = reference[counted], mine[counted].astype(np.float64)
        scale = np.sqrt(np.mean(np.square(truth)))
        factor = float(truth @ value / (truth @ truth))
        if np.sqrt(np.mean(np.square(value - factor * truth))) <= abs(factor) * tolerance * scale:
            return f"mine is {factor:.6g} times the reference"
        wrong = counted & (np.abs(mine - reference) > LARGEST_ERROR * tolerance * scale)
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


def is_single(array: Array) -> bool:
    """Whether float32 can hold all of these numbers."""
    with np.errstate(over="ignore"):
        return np.array_equal(array, array.astype(np.float32))


def known_step(name: str) -> bool:
    return diagnosis.kind(name) in diagnosis.STEPS


def _renamed(recording: Recording, names: Mapping[str, str]) -> Recording:
    for name in names:
        if name not in recording.tensors:
            raise ValueError(f"the map of names has {name!r}, which mine has not; mine has {_some(recording.tensors)}")
    called = {name: names.get(name) or usual_name(name) for name in recording.tensors}
    if len(set(called.values())) < len(called):
        twice = next(name for name in called.values() if list(called.values()).count(name) > 1)
        raise ValueError(f"mine has two tensors for {twice}: {_some([k for k, v in called.items() if v == twice])}")
    tensors = {called[name]: array for name, array in recording.tensors.items()}
    return Recording(tensors, recording.metadata, frozenset(called[name] for name in recording.bfloat16))


def usual_name(name: str) -> str:
    """The name in a recording for one that hooks on transformers' modules, or its outputs, would give.

    >>> usual_name("roberta.encoder.layer.3.attention.output.LayerNorm")
    'encoder.layer.3.attention.output'
    """
    name = name.removeprefix("roberta.")
    for pattern, usual in (
        (r"hidden_states\.0", "embeddings"),
        (r"attentions\.(\d+)", r"encoder.layer.\1.attention.probs"),
        (r"(embeddings|.*\.output)\.LayerNorm", r"\1"),
        (r"(encoder\.layer\.\d+)\.attention", r"\1.attention.output"),
        (r"(encoder\.layer\.\d+)", r"\1.output"),
        (r"(encoder\.layer\.\d+\.intermediate)\.intermediate_act_fn", r"\1"),
        (r"pooler\.activation|pooler_output", "pooler"),
        (r"lm_head\.decoder|logits", "lm_head"),
    ):
        if re.fullmatch(pattern, name):
            return re.sub(pattern, usual, name)
    if re.fullmatch(r"hidden_states\.\d+", name):
        return f"encoder.layer.{int(name.split('.')[1]) - 1}.output"
    return name


def _some(names: Any) -> str:
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") if names else "nothing"


def show_ranges(numbers: Array) -> str:
    """[3, 4, 5, 9] -> "3–5, 9"; of many ranges the first four."""
    starts = np.flatnonzero(np.diff(numbers, prepend=-2) > 1)
    ranges = [(part[0], part[-1]) for part in np.split(numbers, starts[1:])]
    shown = [f"{a}–{b}" if a < b else f"{a}" for a, b in ranges[:4]]
    return ", ".join(shown) + (" …" if len(ranges) > 4 else "")


def show_shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "1"


# --- Telling ------------------------------------------------------------------------------------------------

GREEN, RED, BOLD, PLAIN = "\033[32m", "\033[31m", "\033[1m", "\033[0m"


def report(comparison: Comparison, *, colour: bool = False) -> str:
    """The comparison as a table, and what is wrong in sentences."""

    def paint(text: str, code: str) -> str:
        return f"{code}{text}{PLAIN}" if colour else text

    width = max(len(row.name) for row in comparison.rows)
    lines = [f"        {'tensor':{width}s}  {'shape':>14s}  max error  RMS rel.  {'cosine':>10s}  worst at"]
    for row in comparison.rows:
        verdict = paint("alike ", GREEN) if row.alike else paint("DIFFER", RED)
        line = f"{verdict}  {row.name:{width}s}  {show_shape(row.shape):>14s}"
        if row.max_error is not None:
            worst = "" if row.worst is None else "[" + ", ".join(map(str, row.worst)) + "]"
            line += f"  {row.max_error:9.1e}  {row.rms_error:8.1e}  {row.cosine:10.7f}  {worst}"
        lines.append(f"{line}  {row.note}".rstrip())
    lines.append("")
    if comparison.missing:
        lines.append(f"not in mine: {_some(comparison.missing)}")
    if comparison.unknown:
        lines.append(f"not in the reference, not compared: {_some(comparison.unknown)}")
    first = comparison.first
    if first is None:
        lines.append(paint(f"all {len(comparison.rows)} tensors agree", GREEN))
        return "\n".join(lines)
    lines.append(paint(f"the first to differ: {first.name}", BOLD) + _how_much(first))
    if comparison.diagnosis:
        lines.append(_told(comparison.diagnosis, paint))
    if comparison.remark:
        lines.append(comparison.remark)
    return "\n".join(lines)


def _how_much(row: Row) -> str:
    if row.rms_error is None:
        return f" ({row.note})"
    return f" (RMS relative error {row.rms_error:.1e}, rounding may cause {row.tolerance:.1e})"


def _told(found: Diagnosis, paint: Any) -> str:
    since = _some(found.since) if found.since else "the token ids"
    if found.mistake is None:
        return f"no classic mistake explains it; computed from {since}, the step is off by {found.before:.1e}"
    explained = f"{found.before:.1e} off as it should be, {found.after:.1e} with this mistake"
    return paint(f"diagnosis: {found.mistake}", BOLD) + f"\n  computed again from {since}: {explained}"


def assert_matches(
    mine: Recording | Mapping[str, ArrayLike] | str | os.PathLike[str],
    reference: Recording | Mapping[str, ArrayLike] | str | os.PathLike[str],
    **options: Any,
) -> None:
    """Raise AssertionError, with the table and the diagnosis, where mine differs.  options: those of `compare`."""
    comparison = compare(reference, mine, **options)
    if not comparison.alike:
        raise AssertionError(report(comparison))
