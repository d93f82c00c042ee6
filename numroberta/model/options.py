"""The options that decide a text's vector, checked once, when the object that carries them is made."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

from numroberta.arithmetic import POOLINGS, one_of
from numroberta.checkpoint import did_you_mean
from numroberta.model.texts import check_text

LONG = ("truncate", "split", "error")
MISSING = {"zero": 0.0, "nan": math.nan}


@dataclass(frozen=True)
class EncodeOptions:
    """What `encode` and `encode_stream` are asked for; their docstrings say what each option means.

    Raises TypeError and ValueError for a value that no model could follow.
    """

    batch_size: int = 32
    normalize_embeddings: bool = False
    pooling: str | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    truncate_dim: int | None = None
    long: str = "truncate"
    missing: str | None = None

    def __post_init__(self) -> None:
        check_whole("batch_size", self.batch_size, 1)
        if self.pooling is not None:
            one_of("pooling", self.pooling, POOLINGS, also=", or None")
        for name in ("prompt", "prompt_name"):
            if getattr(self, name) is not None:
                check_text(getattr(self, name), name)
        one_of("long", self.long, LONG)
        if self.missing is not None:
            one_of("missing", self.missing, tuple(MISSING), also=", or None, which refuses them")


def check_whole(name: str, value: object, least: int, most: int | None = None) -> int:
    """A whole number between two bounds; `name` is the argument's.

    Raises TypeError for what is no whole number, ValueError for one that is out of bounds.
    """
    expected = f"at least {least}" if most is None else f"{least} to {most}"
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # which is what this asks
    except TypeError:
        raise TypeError(f"{name}={value!r}, expected a whole number, {expected}") from None
    if number < least or (most is not None and number > most):
        raise ValueError(f"{name}={value!r}, expected {expected}")
    return number


ARGUMENTS = ("prompt_name", "prompt", "batch_size", "show_progress_bar", "output_value", "precision",
             "convert_to_numpy", "normalize_embeddings", "truncate_dim", "pooling", "missing")  # fmt: skip


def refuse_what_numpy_has_not(convert_to_tensor: bool, device: object, others: dict[str, object]) -> None:
    """Raises ValueError for arguments of `SentenceTransformer.encode` that mean PyTorch, other devices or processes."""
    if convert_to_tensor:
        raise ValueError("convert_to_tensor=True needs PyTorch: wrap the result, torch.from_numpy(encode(…))")
    if device not in (None, "cpu"):
        raise ValueError(f"device={device!r}: numroberta computes on the CPU; load(…, num_threads=N) sets its threads")
    if "pool" in others or "chunk_size" in others:
        raise ValueError("pool and chunk_size are for several processes: numroberta uses all cores from one")
    if others:
        raise TypeError(
            f"encode has no argument {', '.join(map(repr, others))}{did_you_mean(next(iter(others)), ARGUMENTS)}"
        )
