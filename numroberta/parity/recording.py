"""A recording: every activation of a forward pass by name, what it was computed with, and the file that holds both.

    numroberta trace --model distilroberta-base "Hello world" -o reference.safetensors

The activations are batch-first, under the module paths of transformers, with `input_ids` and `attention_mask`.  With
`--gradients mlm` they are followed by the `labels`, the `loss`, and under the name of each activation and each tensor
of the checkpoint with `.grad` after it, as in PyTorch, the gradient of the loss.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numroberta import __version__, textbook
from numroberta.arithmetic import POOLINGS, Roberta, pool
from numroberta.checkpoint import HEADS, POOLER, write_safetensors
from numroberta.model import TextEncoder
from numroberta.parity.loss import TASKS, labels_for, loss_and_top
from numroberta.parity.names import EMBEDDING, GRAD, LABELS, LOSS, POOLED, TOKEN_TYPE, WORD, in_order

Array = NDArray[Any]


def trace(
    model: TextEncoder | Roberta,
    input_ids: ArrayLike,
    attention_mask: ArrayLike | None = None,
    *,
    gradients: str | None = None,
    labels: ArrayLike | None = None,
) -> dict[str, Array]:
    """Every activation of the forward pass by name, in its order, computed by `numroberta.textbook`.

    input_ids, attention_mask: (b, n), as `Roberta` takes them; both are in the result, under these names.
    The numbers are those of the model's dtype; load it with dtype="float64" for reference values.  Loaded with
    reproducible=True, a model records its own forward pass instead, in the same bits on every machine; padding is zero.

    gradients: "mlm", "classify", "tag", "answer" or "embed", what the loss is of: `labels`, `loss` and all gradients
    are recorded too, `….grad` each.  labels: see `numroberta.parity.loss.labels_for`, which makes some for None.

    Raises ValueError for a head that the model does not have, and for gradients of a reproducible model.
    """
    roberta = model.model if isinstance(model, TextEncoder) else model
    ids, mask = roberta.checked(input_ids, attention_mask)
    config = roberta.config
    if labels is not None and gradients is None:
        raise ValueError("labels are for a loss: say which with gradients=")
    if gradients is not None and roberta.exact:
        raise ValueError("gradients are not computed reproducibly: load the model without reproducible=True")
    if roberta.exact:
        acts = own_activations(roberta, ids, mask)
        acts |= text_vectors(model, acts[f"encoder.layer.{config.num_hidden_layers - 1}.output"], mask)
        return {"input_ids": ids, "attention_mask": mask.astype(np.int64), **acts}
    output = textbook.forward(
        roberta.tensors,
        ids,
        mask,
        num_attention_heads=config.num_attention_heads,
        layer_norm_eps=config.layer_norm_eps,
        padding_idx=config.pad_token_id,
        position_ids=roberta.position_ids(ids),
    )
    x, acts = output.last_hidden_state, dict(output.activations)
    acts[TOKEN_TYPE] = np.broadcast_to(acts[TOKEN_TYPE], x.shape)  # (d,) -> (b, n, d)
    textbook.heads(roberta.tensors, x, config.layer_norm_eps, acts)
    acts |= text_vectors(model, x, mask)
    recorded = {"input_ids": ids, "attention_mask": mask.astype(np.int64), **acts}
    if gradients:
        recorded |= all_gradients(roberta, recorded, gradients, labels)
    return dict(sorted(recorded.items(), key=lambda item: in_order(item[0])))


def all_gradients(
    roberta: Roberta, recorded: Mapping[str, Array], task: str, labels: ArrayLike | None
) -> dict[str, Array]:
    """The labels, the loss, and its gradients with respect to what is recorded and to the tensors, by name."""
    if task not in TASKS:
        raise ValueError(f"gradients={task!r}, expected one of {', '.join(map(repr, TASKS))}")
    top, ids, mask = TASKS[task], recorded["input_ids"], recorded["attention_mask"] != 0
    if top not in recorded:
        raise ValueError(f"{roberta.checkpoint.name} has no {top}, whose loss {task!r} is")
    config = roberta.config
    own = labels_for(task, recorded[top], ids, mask, labels)
    loss, dy = loss_and_top(task, recorded, own, mask)
    given = {top: dy}
    if top.startswith(POOLED):
        given = {f"encoder.layer.{config.num_hidden_layers - 1}.output": textbook.mean_pooling_backward(mask, dy)}
    found = textbook.backward(
        roberta.tensors,
        ids,
        dict(recorded),
        given,
        num_attention_heads=config.num_attention_heads,
        layer_norm_eps=config.layer_norm_eps,
        padding_idx=config.pad_token_id,
        position_ids=None if config.first_position else roberta.position_ids(ids),
    )
    grads = {**found.activations, top: dy, TOKEN_TYPE: found.activations[WORD], **found.tensors}
    own_labels = {} if own is None else {LABELS: own}
    return {**own_labels, LOSS: np.array([loss], dy.dtype), **{f"{name}{GRAD}": g for name, g in grads.items()}}


def text_vectors(model: TextEncoder | Roberta, last: Array, mask: Array) -> dict[str, Array]:
    """One vector for each text by each pooling, (b, n, d) -> (b, d), and what the model's folder makes of a text."""

    def pooled(modes: Sequence[str]) -> Array:
        texts = [
            state[tokens] if tokens.any() else np.zeros_like(state[:1])
            for state, tokens in zip(last, mask, strict=True)
        ]
        return np.stack([pool(text.T, modes) for text in texts])

    vectors = {f"{POOLED}{pooling}": pooled([pooling]) for pooling in POOLINGS}
    if isinstance(model, TextEncoder):
        vectors[EMBEDDING] = pooled(model.sentence.pooling)
        for step in model.sentence.steps:
            vectors[EMBEDDING] = step(vectors[EMBEDDING])
    return vectors


def own_activations(roberta: Roberta, ids: Array, mask: Array) -> dict[str, Array]:
    """What a reproducible model computes on its way, batch-first: (b, n, d), (b, h, n, n), and of <s> (b, d)."""
    b, n = ids.shape
    positions = roberta.position_ids(ids)
    of_first = {layer for head in HEADS.values() if head.first_token for layer in (*head.layers, POOLER)}
    acts: dict[str, Array] = {}
    for i in range(b):
        tokens = mask[i]
        for name, array in roberta.activations(ids[i, tokens], positions[i, tokens]).items():
            if array.ndim == 3:  # (h, n queries, n keys)
                out = acts.setdefault(name, np.zeros((b, len(array), n, n), array.dtype))
                out[i][:, np.outer(tokens, tokens)] = array.reshape(len(array), -1)
            elif name in of_first:
                acts.setdefault(name, np.zeros((b, len(array)), array.dtype))[i] = array[:, 0]
            else:
                acts.setdefault(name, np.zeros((b, n, len(array)), array.dtype))[i, tokens] = array.T
    return dict(sorted(acts.items(), key=lambda item: in_order(item[0])))


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
