"""A model that is loaded when it is first needed; and what to install where another library is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import Any

from numroberta.model import TextEncoder, load


@lru_cache(maxsize=4)
def _loaded(name: str, revision: str | None, num_threads: int | None, deterministic: bool) -> TextEncoder:
    return load(name, revision=revision, num_threads=num_threads, deterministic=deterministic)


def encoder_of(
    model: str | os.PathLike[str],
    revision: str | None = None,
    num_threads: int | None = None,
    deterministic: bool = False,
) -> TextEncoder:
    """The model of these arguments of `load`, the same one for the same arguments."""
    return _loaded(os.fspath(model), revision, num_threads, deterministic)


@dataclass(eq=False)
class Embeds:
    """What embedders have in common: the arguments of `load` and of `encode`."""

    model: str | os.PathLike[str] = "tiny"
    _: KW_ONLY
    revision: str | None = None
    normalize_embeddings: bool = False
    truncate_dim: int | None = None
    batch_size: int = 32
    num_threads: int | None = None

    def _encoder(self) -> TextEncoder:
        return encoder_of(self.model, self.revision, self.num_threads)

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("normalize_embeddings", "truncate_dim", "batch_size")}


@contextmanager
def needs(package: str) -> Iterator[None]:
    """Within this context a library is imported; ImportError says which package it comes from."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"this adapter needs the package {package} ({error}): run `pip install {package}`") from error
