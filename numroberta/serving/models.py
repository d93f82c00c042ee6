"""What is served, by name; and each model on the number of threads that a batch is given."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from copy import copy

from numroberta.model import Embedder, TextEncoder
from numroberta.serving.errors import Refused


class Served:
    """A model under its name."""

    def __init__(self, name: str, encoder: TextEncoder):
        self.name, self.encoder = name, encoder
        self.created = int(time.time())
        self._on: dict[int, TextEncoder] = {encoder.model.num_threads: encoder}
        self._embedders: dict[tuple[str | None, int], Embedder] = {}

    def on(self, threads: int) -> TextEncoder:
        """The encoder, computing on so many threads; its weights are the same."""
        if threads not in self._on:
            encoder = copy(self.encoder)
            encoder.model = copy(self.encoder.model)
            encoder.model.num_threads = threads
            self._on[threads] = encoder
        return self._on[threads]

    def embedder(self, prompt_name: str | None, threads: int | None = None) -> Embedder:
        """What makes vectors of texts with this prompt in front; None: the prompt that the folder names, if any."""
        key = prompt_name, threads or self.encoder.model.num_threads
        if key not in self._embedders:
            prompts = self.encoder.sentence.prompts
            if prompt_name is not None and prompt_name not in prompts:
                known = ", ".join(map(repr, prompts)) or "none"
                raise Refused("value", f"`prompt_name`: {self.name} names {known}", param="prompt_name")
            try:
                self._embedders[key] = self.on(key[1]).embedder(prompt_name=prompt_name)
            except ValueError as error:  # a CrossEncoder
                raise Refused("head", f"{self.name}: {error}") from None
        return self._embedders[key]


class Models:
    """The models of a server; the first one answers where a request names none."""

    def __init__(self, encoders: Mapping[str, TextEncoder]):
        if not encoders:
            raise ValueError("no model to serve: give one or more")
        self._served = {name: Served(name, encoder) for name, encoder in encoders.items()}

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    def named(self, name: object) -> Served:
        """The model of this name; None: the first one."""
        if name is None:
            return next(iter(self))
        if not isinstance(name, str) or name not in self._served:
            known = ", ".join(map(repr, self._served))
            given = repr(name) if isinstance(name, str) and len(name) < 100 and name.isprintable() else "this model"
            raise Refused("model", f"{given} is not served here, but {known}", param="model")
        return self._served[name]

    @property
    def threads(self) -> int:
        """Threads that compute at a time."""
        return max(served.encoder.model.num_threads for served in self)
