"""What `tiny` takes from its teacher: vectors of texts, computed once, and word embeddings to begin with.

The teacher is any sentence encoder that numroberta loads; `tiny`'s is all-MiniLM-L6-v2.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from numroberta import TextEncoder

CHUNK = 2048  # texts whose vectors are written at once
RARE = 1e-3  # a of a / (a + p): Arora et al. 2017

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
