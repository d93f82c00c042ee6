"""A comparison for people: a table, and in sentences what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import ArrayLike

from numroberta.parity.bench import compare
from numroberta.parity.comparison import Comparison, TensorComparison
from numroberta.parity.files import Recording
from numroberta.parity.names import some
from numroberta.parity.search import Diagnosis

GREEN, RED, BOLD, PLAIN = "\033[32m", "\033[31m", "\033[1m", "\033[0m"


def report(comparison: Comparison, *, colour: bool = False) -> str:
    """The comparison as a table, and what is wrong in sentences."""

    def paint(text: str, code: str) -> str:
        return f"{code}{text}{PLAIN}" if colour else text

    width = max(len(tensor.name) for tensor in comparison.rows)
    lines = [f"        {'tensor':{width}s}  {'shape':>14s}  max error  RMS rel.  {'cosine':>10s}  worst at"]
    for tensor in comparison.rows:
        verdict = paint("alike ", GREEN) if tensor.alike else paint("DIFFER", RED)
        line = f"{verdict}  {tensor.name:{width}s}  {'×'.join(map(str, tensor.shape)) or '1':>14s}"
        if tensor.max_error is not None:
            worst = "" if tensor.worst is None else "[" + ", ".join(map(str, tensor.worst)) + "]"
            line += f"  {tensor.max_error:9.1e}  {tensor.rms_error:8.1e}  {tensor.cosine:10.7f}  {worst}"
        lines.append(f"{line}  {tensor.note}".rstrip())
    lines.append("")
    if comparison.missing:
        lines.append(f"not in mine: {some(comparison.missing)}")
    if comparison.unknown:
        lines.append(f"not in the reference, not compared: {some(comparison.unknown)}")
    if comparison.precision:
        lines.append(f"judged by the rounding of its type: {comparison.precision}")
    first = comparison.first
    if first is None:
        lines.append(paint(*_all_agree(comparison)))
    else:
        lines.append(paint(f"the first to differ: {first.name}", BOLD) + _size_of_error(first))
    if comparison.diagnosis:
        lines.append(_explanation(comparison.diagnosis, paint))
    for diagnosis in comparison.further:
        lines.append(f"and from {diagnosis.name} on: {paint(_sentence(diagnosis), BOLD)}")
    if comparison.remark:
        lines.append(comparison.remark)
    return "\n".join(lines)


def _all_agree(comparison: Comparison) -> tuple[str, str]:
    """The sentence, and its colour: tensors that could not be compared are nothing to be glad of."""
    count = len(comparison.rows)
    if comparison.unknown and comparison.missing:
        sentence = f"the {count} tensors that both have agree; {len(comparison.unknown)} of mine have names that the "
        return f"{sentence}reference has not, and were not compared: --map renames them", RED
    return f"all {count} tensors agree", RED if comparison.extra_layers else GREEN


def _size_of_error(tensor: TensorComparison) -> str:
    if tensor.rms_error is None:
        return f" ({tensor.note})"
    return f" (RMS relative error {tensor.rms_error:.1e}, rounding may cause {tensor.tolerance:.1e})"


def _explanation(diagnosis: Diagnosis, paint: Callable[[str, str], str]) -> str:
    since = some(list(diagnosis.since)) if diagnosis.since else "the token ids"
    if diagnosis.mistake is None:
        return f"no classic mistake explains it; computed from {since}, the step is off by {diagnosis.before:.1e}"
    with_it = "it is read from them" if diagnosis.after is None else f"with it {diagnosis.after:.1e}"
    errors = f"without the mistake {diagnosis.before:.1e} away from my numbers, {with_it}"
    lines = [paint(f"diagnosis: {_sentence(diagnosis)}", BOLD), f"  computed again from {since}: {errors}"]
    if diagnosis.others:
        lines.append(f"  the same numbers: {'; '.join(diagnosis.others[:2])}")
    return "\n".join(lines)


def _sentence(diagnosis: Diagnosis) -> str:
    return f"{diagnosis.mistake}{f' ({diagnosis.where})' if diagnosis.where else ''}"


def assert_matches(
    mine: Recording | Mapping[str, ArrayLike] | str | os.PathLike[str],
    reference: Recording | Mapping[str, ArrayLike] | str | os.PathLike[str],
    **options: Any,
) -> None:
    """Raise AssertionError, with the table and the diagnosis, where mine differs.  options: those of `compare`."""
    comparison = compare(reference, mine, **options)
    if not comparison.alike:
        raise AssertionError(report(comparison))
