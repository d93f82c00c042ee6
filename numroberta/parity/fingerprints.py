"""Whether two machines compute the same bits: hashes of each layer's hidden state and of the vectors.

numroberta fingerprint > here.txt           # here
numroberta fingerprint --check here.txt     # there
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import TextOutput
from numroberta.model import TextEncoder

Array = NDArray[Any]

TEXTS = ("A man is playing a guitar.", "Zoë said: “It’s 3½ °C — in naïve café prose”, twice.", "the " * 40)


def fingerprint(model: TextEncoder, texts: Sequence[str] = ()) -> dict[str, str]:
    """What was computed and its SHA-256, in the order of the forward pass, of these texts or of three short ones.

    `dtype` comes first, then the `weights` as they are stored and the `input_ids`, on which all the rest depends; then
    each hidden state, the tokens of one text after the other's, and the texts' `vectors` as `encode` gives them; all of
    them as little-endian bytes.  Raises ValueError for a model that was not loaded with reproducible=True.
    """
    if model.model.exact is None:
        raise ValueError("a fingerprint needs load(…, reproducible=True): other models have other bits elsewhere")
    texts = texts or TEXTS
    rows = [model.tokenizer(text, max_length=model.max_length).ids for text in texts]
    ids = [np.asarray(row, np.int64) for row in rows]

    def states(output: TextOutput) -> list[Array]:
        return [state.T for state in output.hidden_states]  # (hidden, n) -> (n, hidden)

    by_text = model.model.run([(row, model.model.position_ids(row)) for row in ids], states, output_hidden_states=True)
    names = ["embeddings", *(f"encoder.layer.{i}.output" for i in range(model.config.num_hidden_layers))]
    return {
        "dtype": str(model.model.dtype),
        "weights": model.checkpoint.weights_hash,
        "input_ids": _hash(ids),
        **{name: _hash(states) for name, states in zip(names, zip(*by_text, strict=True), strict=True)},
        "vectors": _hash([model.encode(list(texts))]),
    }


def _hash(arrays: Iterable[Array]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def fingerprint_lines(found: dict[str, str]) -> list[str]:
    """A fingerprint as text, a line for each hash; `read_fingerprint` reads it."""
    width = max(map(len, found))
    return [f"{name:{width}s}  {value}" for name, value in found.items()]


def read_fingerprint(path: Path) -> dict[str, str]:
    """The names and hashes that `numroberta fingerprint` printed into a file; ValueError for other content."""
    pairs = [line.split() for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
    if not pairs or not all(len(pair) == 2 for pair in pairs) or pairs[0][0] != "dtype":
        raise ValueError(
            f"{path}: expected what `numroberta fingerprint` prints: lines of a name and a hash, dtype first"
        )
    return dict(pairs)


def first_difference(expected: dict[str, str], found: dict[str, str]) -> str | None:
    """The name of the first hash that differs, None where all are the same."""
    for theirs, ours in zip_longest(expected.items(), found.items()):
        if theirs != ours:
            return (ours or theirs)[0]
    return None
