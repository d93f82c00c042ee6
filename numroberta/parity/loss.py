"""The loss whose gradients a recording holds: of what, with which labels, and its gradient at the top.

The letters of the shapes are those of `numroberta.textbook`; `c` labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numroberta import textbook
from numroberta.parity.names import POOLED

Array = NDArray[Any]

TASKS = {  # what the loss is of: the activation that it is computed from
    "mlm": "lm_head",
    "classify": "classifier.out_proj",
    "tag": "classifier",
    "answer": "qa_outputs",
    "embed": f"{POOLED}mean",
}
NO_LABEL = -100  # as in PyTorch


def labels_for(task: str, logits: Array, ids: Array, mask: Array, labels: ArrayLike | None) -> Array | None:
    """The labels given, or some that any program can make itself; "embed" has none.

    mlm: each token itself, (b, n).  classify: text i has label i, counted round, (b,).  tag: token j has label j,
    counted round, (b, n).  answer: from each text's second token to its last, (b, 2).  Padding has −100.

    Raises ValueError for a task that is not known, that the model has no head for, or labels that do not fit.
    """
    b, n = ids.shape
    if task == "embed":
        if labels is not None:
            raise ValueError("embed has no labels: its loss is half the mean square length of the texts' mean vectors")
        return None
    classes = n if task == "answer" else logits.shape[-1]
    usual = {
        "mlm": np.where(mask, ids, NO_LABEL),
        "classify": np.arange(b) % classes,
        "tag": np.where(mask, np.arange(n) % classes, NO_LABEL),
        "answer": np.stack([np.minimum(1, mask.sum(1) - 1), mask.sum(1) - 1], axis=1),
    }[task]
    own = usual if labels is None else np.asarray(labels)
    if own.shape != usual.shape or own.dtype.kind not in "iu":
        raise ValueError(f"labels of shape {own.shape}, {own.dtype}; {task} has whole numbers of shape {usual.shape}")
    labelled = own[own != NO_LABEL]
    if not labelled.size or labelled.min() < 0 or labelled.max() >= classes:
        raise ValueError(f"{task} needs labels from 0 to {classes - 1}, and {NO_LABEL} where there is none")
    return own.astype(np.int64)


def loss_and_top(task: str, acts: Mapping[str, Array], labels: Array | None, mask: Array) -> tuple[float, Array]:
    """The loss, and its gradient with respect to the activation that it is computed from.

    Cross-entropy, the mean over what has a label.  answer: over the tokens of each text, of its start and its end.
    """
    y = acts[TASKS[task]]
    if labels is None:
        return float(np.square(y).sum() / 2 / len(y)), y / y.dtype.type(len(y))
    if task == "answer":
        y = over_tokens(y, mask)
    dy = textbook.cross_entropy_backward(y, labels)
    return textbook.cross_entropy(y, labels), dy.swapaxes(1, 2) if task == "answer" else dy


def over_tokens(logits: Array, mask: Array) -> Array:
    """(b, n, 2) -> (b, 2, n), in which padding is never likely."""
    lowest = np.finfo(logits.dtype).min
    return np.where(mask[:, None], logits.swapaxes(1, 2), lowest).astype(logits.dtype)
