"""What `tiny` takes from its teacher: vectors of texts, computed once, and word embeddings to begin with.

`word_embeddings` are the teacher's vectors of single words; `fitted` changes them so that a text's mean points where
the teacher's vector of the text does.  That needs no training but one system of linear equations.

The teacher is any sentence encoder that numroberta loads; `tiny`'s is all-MiniLM-L6-v2.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from numroberta import TextEncoder
from numroberta.arithmetic import normalize

CHUNK = 2048  # texts whose vectors are written at once
RARE = 1e-3  # a of a / (a + p): Arora et al. 2017
PENALTY = 0.03  # what it costs to change a word embedding; a text's squared error costs 1

Array = NDArray[np.float32]


def cached_vectors(teacher: TextEncoder, texts: list[str], path: Path) -> NDArray[np.float16]:
    """The texts' vectors, (texts, width), appended to the file `path` as they come: a stopped run goes on there."""
    width = teacher.encode(texts[:1]).shape[1]
    done = path.stat().st_size // (2 * width) if path.exists() else 0
    with path.open("ab") as file, tqdm(total=len(texts), initial=done, desc="teacher", unit="text") as bar:
        file.truncate(done * 2 * width)  # half a row, if the machine stopped then
        for start in range(done, len(texts), CHUNK):
            vectors = teacher.encode(texts[start : start + CHUNK])
            file.write(vectors.astype(np.float16).tobytes())
            file.flush()
            bar.update(len(vectors))
    return np.fromfile(path, np.float16).reshape(-1, width)[: len(texts)]


def principal_axes(vectors: Array, count: int) -> tuple[Array, Array]:
    """The mean, (width,), and the directions in which the vectors differ most, (count, width), orthonormal."""
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    return mean, axes.T[::-1][:count]


def word_embeddings(teacher: TextEncoder, pieces: list[str], frequencies: Array, axes: Array) -> Array:
    """The teacher's vector of each piece on the axes, less the mean, the frequent ones shorter, (pieces, axes).

    Averaged over a text they are what Arora et al. 2017 call a baseline that is tough to beat.
    """
    vectors = teacher.encode([piece if piece.strip() else "." for piece in pieces])
    centred = (vectors - vectors.mean(axis=0)) @ axes.T
    weighted: Array = centred * (RARE / (RARE + frequencies))[:, None]
    return weighted


def fitted(words: Array, texts: list[NDArray[np.int32]], targets: Array) -> Array:
    """The word embeddings E that minimize Σ ‖mean of a text's rows − α target‖² + PENALTY ‖E − words‖², (pieces, axes).

    Ridge regression, drawn to where `words` are, so that a word in few texts keeps what the teacher says of it alone.
    α is the scale that suits `words` best.  texts: ids between <s> and </s>; targets: (texts, axes).
    """
    pieces = len(words)
    targets = normalize(targets)
    means = np.array([words[ids[1:-1]].mean(axis=0) for ids in texts])
    missing = np.mean((means * targets).sum(axis=1)) * targets - means
    together = np.zeros(pieces * pieces, np.float32)  # Σ of each text's bag of words times itself
    wanted = np.zeros_like(words)  # Σ of each text's bag of words times what its mean lacks
    for ids, lacks in zip(texts, missing, strict=True):
        bag = ids[1:-1].astype(np.int64)
        np.add.at(together, pieces * bag[:, None] + bag, np.float32(1 / len(bag) ** 2))
        np.add.at(wanted, bag, lacks / np.float32(len(bag)))
    together[:: pieces + 1] += PENALTY
    change: Array = np.linalg.solve(together.reshape(pieces, pieces), wanted)
    return words + change
