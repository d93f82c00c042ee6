"""How much a server takes before it refuses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a request, and of all that wait.

    queue: tokens that may wait; DistilRoBERTa computes so many in a minute on two cores.
    texts: of one request.
    body: bytes of one request.
    numbers: in the answer to one request.
    patience: seconds that a client may take to send a request, and to read 64 KB of the answer.
    auto_truncate: read the beginning of a text that is too long for the model, where the request does not say.
    """

    queue: int = 100_000
    texts: int = 2048
    body: int = 8 << 20
    numbers: int = 1 << 22
    patience: float = 30
    auto_truncate: bool = False
