"""What a sentence-transformers folder does to a pooled vector: linear layers with an activation, layer norm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta import textbook
from numroberta.arithmetic import exact_products, fixed_order, normalize
from numroberta.checkpoint import CheckpointError, load_json, load_tensors, show

Array = NDArray[Any]
Step = Callable[[Array], Array]


# The activations of torch.nn that a `Dense` may name, with the settings that its constructor has by default.
ACTIVATIONS: dict[str, Step] = {
    "Tanh": fixed_order.tanh,
    "Identity": lambda x: x,
    "ReLU": lambda x: np.maximum(x, 0) + 0,  # +0 for −0
    "ReLU6": lambda x: np.clip(x, 0, 6) + 0,
    "LeakyReLU": lambda x: np.where(x > 0, x, 0.01 * x),
    "ELU": lambda x: np.where(x > 0, x, fixed_order.exp(np.minimum(x, 0)) - 1),
    "GELU": textbook.gelu,
    "SiLU": lambda x: x * fixed_order.sigmoid(x),
    "Sigmoid": fixed_order.sigmoid,
    "Softmax": fixed_order.softmax,
}


@dataclass(frozen=True)
class Dense:
    """activation(W x + b), (n, in) -> (n, out), in exact products, whose bits depend on nothing but the vector."""

    weight: Array = field(repr=False)  # (out, in)
    bias: Array | None = field(repr=False)  # (out,)
    activation: Step

    def __call__(self, vectors: Array) -> Array:
        y = exact_products.matmul(self.weight, vectors.T).T
        return self.activation(y if self.bias is None else y + self.bias.astype(vectors.dtype, copy=False))


@dataclass(frozen=True)
class LayerNorm:
    """gain · (x − mean) / √(variance + 1e-5) + bias of each vector, (n, d) -> (n, d): `torch.nn.LayerNorm`."""

    gain: Array = field(repr=False)  # (d,)
    bias: Array = field(repr=False)  # (d,)

    def __call__(self, vectors: Array) -> Array:
        columns = vectors.T.astype(np.float64)  # (n, d) -> (d, n)
        fixed_order.layer_norm(columns, self.gain[:, None], self.bias[:, None], 1e-5)
        return columns.T.astype(vectors.dtype)


def load_step(kind: str, path: Path, dimension: int) -> tuple[Step, int]:
    """A module of a folder, and the dimensions of the vectors that it gives.

    Args:
        kind: Its class.
        path: Its folder.
        dimension: The dimensions of the vectors that it takes.

    Raises:
        CheckpointError: It is not computed here, or its files do not fit.
    """
    _check_input(path / "config.json")
    if kind == "Normalize":
        return normalize, dimension
    if kind == "LayerNorm":
        tensors = load_tensors(path)
        return LayerNorm(
            *(_tensor(path, tensors, f"norm.{name}", (dimension,)) for name in ("weight", "bias"))
        ), dimension
    if kind == "Dense":
        dense = _dense(path, dimension)
        return dense, len(dense.weight)
    raise CheckpointError(
        f"{path} is a module {show(kind)}, which is not computed here; known are Dense, LayerNorm, Normalize"
    )


def _dense(path: Path, dimension: int) -> Dense:
    config = load_json(path / "config.json", dict)
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = ACTIVATIONS.get(name.rpartition(".")[2]) if name.startswith("torch.nn.") else None
    if activation is None:
        raise CheckpointError(
            f"{path}: activation {show(name)} is not computed here; known are {', '.join(ACTIVATIONS)}"
        )
    if config.get("use_residual"):
        raise CheckpointError(f"{path}: use_residual is not computed here")
    tensors = load_tensors(path)
    weight = _tensor(path, tensors, "linear.weight", (None, dimension))
    bias = _tensor(path, tensors, "linear.bias", weight.shape[:1]) if "linear.bias" in tensors else None
    return Dense(weight, bias, activation)


def _tensor(path: Path, tensors: dict[str, Array], name: str, shape: tuple[int | None, ...]) -> Array:
    """A tensor of a module, of the shape that it must have; None: any size."""
    tensor = tensors.get(name)
    shown = str(tuple("any" if size is None else size for size in shape)).replace("'", "")
    if tensor is None:
        raise CheckpointError(f"{path} has no {name}, expected one of shape {shown}")
    fits = tensor.ndim == len(shape) and all(b in (None, a) for a, b in zip(tensor.shape, shape, strict=True))
    if not fits:
        raise CheckpointError(f"{path}: {name} has shape {tensor.shape}, expected {shown}")
    return tensor


def _check_input(path: Path) -> None:
    """A module may be asked to work on token vectors; here it works on the pooled one."""
    config = load_json(path, dict) if path.is_file() else {}
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise CheckpointError(f"{path}: {key} {show(config[key])} is not computed here, only 'sentence_embedding'")
