"""Into which parts a layer's work is cut: a choice between exact sums, parts that fit the cache, and few calls."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from numroberta.arithmetic import blas
from numroberta.arithmetic.encoder import Cut
from numroberta.checkpoint import RobertaConfig

# The deterministic cut, by which each text is computed whatever runs beside it, and on however many threads.
# Rows of Q, K and V in a part: three heads of RoBERTa, whose 12 heads then make 4 parts.
DETERMINISTIC_ROWS = 192
# Feed-forward rows in a part: a quarter of RoBERTa's 3,072, so that up to four threads have one each.
DETERMINISTIC_WIDTH = 768
# Products in one float32 sum: the cut must not depend on how BLAS cuts its own sums, and short sums are more exact.
DETERMINISTIC_PIECE = 128

# Products in one float32 sum where speed comes first: RoBERTa's hidden size, so that the products are whole.
PIECE = 768
# Up to so many columns each worker's feed-forward rows are one part, since a call costs more than what it does.
FEW_COLUMNS = 128
# Bytes of the wide activation that stay in a core's cache beside the weights that are read.
WIDE_IN_CACHE = 131_072
# Bytes of a query up to which one worker has all heads in one part: attention has many short calls.
QUERY_IN_CACHE = 1_000_000
# With more columns a part has so many rows: its wide activation stays in the cache, and sums over it are short.
WIDTH = 512


# Products between two meetings of a team from which it is faster than one thread: a meeting takes some 0.15 ms.
WORTH_SHARING = 10_000_000


def worth_sharing(config: RobertaConfig, columns: int) -> bool:
    """Whether several threads should share a layer's work on so many columns; they meet twice in a layer."""
    in_a_layer = config.hidden_size * (4 * config.hidden_size + 2 * config.intermediate_size)
    return columns * in_a_layer / 2 >= WORTH_SHARING


def choose(config: RobertaConfig, dtype: DTypeLike, deterministic: bool, columns: int, workers: int) -> Cut:
    """How the work on so many columns is cut for so many workers.

    At full size, our RMS error against float64 is at most 0.84 times that of PyTorch's float32 when deterministic, and
    1.12 times otherwise (`pytest tests/arithmetic/test_recordings.py -rP`, with and without AVX-512).
    """
    small = blas.small_products() if np.dtype(dtype) == np.float32 else 0
    if deterministic:
        return Cut(max(1, DETERMINISTIC_ROWS // config.head_dim), DETERMINISTIC_WIDTH, DETERMINISTIC_PIECE, small)
    # One worker's work is cut in halves where more would not stay in the cache.
    wide = config.intermediate_size * columns * np.dtype(dtype).itemsize
    shares = workers if workers > 1 or wide <= WIDE_IN_CACHE else 2
    query = config.hidden_size * columns * np.dtype(dtype).itemsize
    heads = -(-config.num_attention_heads // (1 if workers == 1 and query <= QUERY_IN_CACHE else shares))
    width = -(-config.intermediate_size // shares) if columns <= FEW_COLUMNS else WIDTH
    return Cut(heads, width, PIECE, small)
