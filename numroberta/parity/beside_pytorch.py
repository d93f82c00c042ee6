"""Is this library right on *your* checkpoint?  It runs beside PyTorch, on texts chosen to hurt, layer by layer.

PyTorch in float64 is the truth.  In float64 this library must equal it to rounding; in float32 its error must be about
as large as PyTorch's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.model import load
from numroberta.parity.recording import batch

Array = NDArray[Any]
States = list[Array]  # the embeddings, the output of each layer, and the pooled output if there is one

MOST_RATIO = 3.0  # of our float32 error to PyTorch's: a mistake is orders of magnitude.  Measured: 0.85 to 1.85
MOST_FLOAT64 = 1e-11  # relative, RMS.  Measured: 1e-16 to 3e-15

# Each batch is padded to its longest text.
TEXTS = [
    [
        "A man is playing a guitar.",
        "",
        " ",
        "the the the the the the the the the the the the the the the the the the the the the the the the",
        "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Το φως. Съешь же ещё. 東京は日本の首都です。",
        "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 e\u0301\u0302\u0303 \u200b\u00ad\ufeff \U0001f9d1\u200d\U0001f680",
        "if (x != 0) { return x[i++] >> 3; } /* 0x7FFFFFFF, 1e-308, NaN */ \t\t\n\n\r\n    <s> </s> <mask> <pad>",
        "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798",
    ],
    ["It was the best of times, it was the worst of times. " * 60, "One short text beside a long one."],
]


@dataclass(frozen=True)
class LayerErrors:
    """The RMS relative errors of one hidden state to PyTorch's in float64."""

    name: str
    pytorch: float  # in float32
    fast: float  # this library, float32
    deterministic: float  # this library, float32, deterministic=True
    float64: float  # this library

    @property
    def right(self) -> bool:
        return max(self.fast, self.deterministic) <= MOST_RATIO * self.pytorch and self.float64 <= MOST_FLOAT64


@dataclass(frozen=True)
class Verification:
    layers: list[LayerErrors]
    texts: int
    tokens: int

    @property
    def right(self) -> bool:
        return all(layer.right for layer in self.layers)


def verify(name: str | os.PathLike[str], *, revision: str | None = None) -> Verification:
    """Compare every hidden state of a checkpoint with PyTorch's.  Raises ValueError where PyTorch is missing."""
    model = load(name, revision=revision)
    batches = [batch(model, texts) for texts in TEXTS]
    exact, single = in_pytorch(
        model.checkpoint.model_folder, batches, with_pooler=model.model.weights.pooler is not None
    )
    errors = [errors_of(single, exact)]
    for options in ({}, {"deterministic": True}, {"dtype": "float64"}):
        roberta = load(name, revision=revision, **options).model
        found = []
        for ids, mask in batches:
            output = roberta(ids, mask, output_hidden_states=True)
            pooled = [] if output.pooler_output is None else [output.pooler_output]
            found.append(real_tokens([*(output.hidden_states or ()), *pooled], mask))
        errors.append(errors_of(found, exact))
    layers = range(model.config.num_hidden_layers)
    names = ["embeddings", *(f"encoder.layer.{i}.output" for i in layers), "pooler"]
    rows = [LayerErrors(name, *values) for name, values in zip(names, np.transpose(errors).tolist(), strict=False)]
    return Verification(rows, sum(len(ids) for ids, _ in batches), sum(int(mask.sum()) for _, mask in batches))


def in_pytorch(folder: Any, batches: list[tuple[Array, Array]], with_pooler: bool) -> tuple[list[States], list[States]]:
    """The hidden states by transformers' own model, a list per batch: in float64 and in float32."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise ValueError(
            f"verify compares with PyTorch, and {error.name} is missing: run `pip install 'numroberta[parity]'`"
        ) from None
    with quiet(transformers.logging):
        model = transformers.AutoModel.from_pretrained(
            folder, add_pooling_layer=with_pooler, attn_implementation="eager", local_files_only=True
        ).eval()

    def states(ids: Array, mask: Array) -> States:
        with torch.no_grad():
            output = model(torch.from_numpy(ids), torch.from_numpy(mask), output_hidden_states=True)
        found = [*output.hidden_states, *([output.pooler_output] if with_pooler else [])]
        return real_tokens([state.numpy() for state in found], mask)

    model.float()
    single = [states(ids, mask) for ids, mask in batches]
    model.double()
    return [states(ids, mask) for ids, mask in batches], single


@contextmanager
def quiet(log: Any) -> Iterator[None]:
    """Without the warning that heads are left out, which is on purpose, and without a bar."""
    verbosity, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bar:
            log.enable_progress_bar()


def real_tokens(states: States, mask: Array) -> States:
    """Without padding: (b, n, d) -> (tokens, d); what has no tokens stays."""
    return [state[mask != 0] if state.ndim == 3 else state for state in states]


def errors_of(found: list[States], exact: list[States]) -> list[float]:
    """RMS of the difference over RMS of the exact, for each state over all batches."""
    errors = []
    for parts, truths in zip(zip(*found, strict=True), zip(*exact, strict=True), strict=True):
        difference = sum(float(np.square(a - b).sum()) for a, b in zip(parts, truths, strict=True))
        errors.append((difference / sum(float(np.square(b).sum()) for b in truths)) ** 0.5)
    return errors


def report(found: Verification) -> str:
    """The errors as a table."""
    width = max(len(layer.name) for layer in found.layers)
    lines = [
        f"RMS relative error to PyTorch in float64: {found.texts} texts, {found.tokens} tokens",
        f"{'':{width}s}  PyTorch  numroberta         deterministic      numroberta",
        f"{'':{width}s}  float32  float32    ratio   float32    ratio   float64",
    ]
    for layer in found.layers:
        lines.append(
            f"{layer.name:{width}s}  {layer.pytorch:.1e}  {layer.fast:.1e}  {layer.fast / layer.pytorch:6.2f}   "
            f"{layer.deterministic:.1e}  {layer.deterministic / layer.pytorch:6.2f}   {layer.float64:.1e}"
            + ("" if layer.right else "  WRONG")
        )
    verdict = "right" if found.right else "WRONG"
    lines.append(f"{verdict}: float64 must be within {MOST_FLOAT64:.0e}, the ratios within {MOST_RATIO:g}")
    return "\n".join(lines)
