"""Muon: a layer's matrix moves by its momentum made orthogonal, everything else by AdamW."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.checkpoint import DECODER
from numroberta.training.optimizer import AdamW, decays

Array = NDArray[Any]

MOMENTUM = 0.95
# A polynomial that brings singular values near to 1 when it is applied again and again.
QUINTIC = 3.4445, -4.7750, 2.0315
ITERATIONS = 5


class Muon(AdamW):
    """Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon) for the matrices of the layers and of heads.

    An update U Vᵀ is as long in each of a matrix's directions, whatever singular values its momentum U S Vᵀ has.  For a
    model that is trained from nothing; a fine-tuned one gains little.

    length: the root mean square of what is added to a matrix, in learning rates.  0.2 is about AdamW's, so that one
        rate serves both (Liu et al. 2025); tables that begin well want a lower one than random matrices.
    """

    def __init__(
        self, tensors: MutableMapping[str, Array], names: Sequence[str], *, length: float = 0.2, **options: Any
    ):
        super().__init__(tensors, names, **options)
        self.length = length

    def _update_tensors(
        self, gradients: Mapping[str, Array], rate: float, factor: float, scale: tuple[float, float]
    ) -> None:
        matrices = [name for name in gradients if is_hidden(name, gradients[name])]
        others = {name: gradient for name, gradient in gradients.items() if name not in matrices}
        super()._update_tensors(others, rate, factor, scale)

        def work(own: Sequence[str]) -> None:
            for name in own:
                weight, momentum = self.tensors[name], self.moments[name].first
                gradient = gradients[name] * ((1 - MOMENTUM) * factor)
                momentum *= MOMENTUM
                momentum += gradient
                gradient += MOMENTUM * momentum  # Nesterov's
                weight *= 1 - rate * self.weight_decay * decays(name)
                weight -= rate * self.length * max(weight.shape) ** 0.5 * orthogonal(gradient)

        self._in_parallel(work, matrices)


def is_hidden(name: str, gradient: Array) -> bool:
    """Whether a tensor is a matrix between hidden states: no table of words, no vector."""
    return gradient.ndim == 2 and not name.startswith("embeddings.") and name != DECODER


def orthogonal(matrix: Array) -> Array:
    """About U Vᵀ of U S Vᵀ, by Newton and Schulz's iteration, (out, in) -> same: singular values from 0.7 to 1.2.

    >>> a = np.random.default_rng(0).standard_normal((4, 9))
    >>> bool(np.all(np.abs(np.linalg.svd(orthogonal(a), compute_uv=False) - 0.95) < 0.3))
    True
    """
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / (np.linalg.norm(x) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T
