"""A model that is loaded when it is first needed; and what to install where another library is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

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


def scores(model: str | os.PathLike[str], revision: str | None, query: str, texts: Sequence[str]) -> list[float]:
    """How well each text answers a query, by a CrossEncoder: `TextEncoder.rank` in the texts' order."""
    ranked = encoder_of(model, revision).rank(query, texts)
    return [one["score"] for one in sorted(ranked, key=lambda one: one["corpus_id"])]


@contextmanager
def needs(package: str) -> Iterator[None]:
    """Within this context a library is imported; ImportError says which package it comes from."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"this adapter needs the package {package} ({error}): run `pip install {package}`") from error
