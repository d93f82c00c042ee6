"""What a comparison of two recordings found, for people and for machines."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from numroberta.parity.search import Diagnosis


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
    """All tensors that both recordings have, in the order of the forward pass, and what is wrong with the first.

    missing: names in the reference only; unknown: in mine only.  diagnosis: of the first tensor that differs; further:
    of mistakes that are made besides it, later.  precision: the type that mine computes in, where its values do not say
    so.  remark: why there is no diagnosis, or what else is known.  extra_layers: how many layers mine has too many.
    """

    rows: list[TensorComparison]
    missing: list[str]
    unknown: list[str]
    diagnosis: Diagnosis | None = None
    remark: str = ""
    further: tuple[Diagnosis, ...] = ()
    precision: str = ""
    extra_layers: int = 0

    @property
    def first(self) -> TensorComparison | None:
        """The first tensor that differs."""
        return next((row for row in self.rows if not row.alike), None)

    @property
    def alike(self) -> bool:
        return self.first is None and not self.extra_layers

    def as_dict(self) -> dict[str, Any]:
        """For machines: JSON has no infinity, so such an error is null."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: plain(one) for key, one in value.items()}
            if isinstance(value, list | tuple):
                return [plain(one) for one in value]
            return None if isinstance(value, float) and not np.isfinite(value) else value

        first = self.first
        fields = {
            **asdict(replace(self, diagnosis=None, further=())),
            "diagnosis": self.diagnosis and self.diagnosis.as_dict(),
            "further": [diagnosis.as_dict() for diagnosis in self.further],
        }
        return plain({**fields, "alike": self.alike, "first": first.name if first else None})
