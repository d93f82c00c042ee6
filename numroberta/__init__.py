"""RoBERTa in NumPy: text to vectors, in a package that imports nothing but NumPy.

    import numroberta
    enc = numroberta.load("tiny")
    enc.encode(["one text", "another"])     # (2, hidden) float32

A folder is a wing, one capability; its `__init__.py` is the door that names what the rest of the world may use, and
each file in it is one idea.  Names are loaded when first used, so `import numroberta` costs nothing but NumPy.

One word for one thing, in every wing:

    text       what the user gives: a string; a pair is two texts that belong together
    token      what the model reads: an id, and a piece, which is its spelling in the vocabulary; special: <s>, </s>, …
    word       what a person calls a word: one token or several
    row        a record of a file, with its fields, one of which is the text; line: where it stands in the file
    window     a part of one text that is too long to be read at once; neighbours overlap
    block      many texts that are tokenized and run together, all that is in memory of a long job
    group      texts whose tokens lie side by side in one forward pass, on one thread
    column     a token inside the encoder, where an activation is (hidden, columns); span: a text's columns
    part       some heads, or some of the feed-forward width: a share of one layer's work
    alone      all parts of the work in the calling thread; team: on several threads
    checkpoint a folder's config and tensors; model: what computes with them
    load       files to objects; tokenize: text to ids; run: ids to hidden states; encode: texts to vectors
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

__version__ = "0.2.0"


def door(wing: str, homes: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__`, which import a name from its home when it is first used.

    homes: for each module of the package, the names that it offers.  Any other name is tried as a module.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def __getattr__(name: str) -> Any:
        if name in home_of:
            return getattr(import_module(f"{wing}.{home_of[name]}"), name)
        module = f"{wing}.{name}"
        try:
            return import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise AttributeError(f"module {wing!r} has no attribute {name!r}") from None

    return __getattr__, lambda: sorted(home_of)


T = TypeVar("T")


class computed_once(Generic[T]):
    """`functools.cached_property` of Python 3.12 on: without the lock that it has before.

    Every object of a class shares that lock, and a process forked while a thread holds it would wait for ever.
    """

    def __init__(self, function: Callable[[Any], T]):
        self.function, self.__doc__ = function, function.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> computed_once[T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> T | computed_once[T]:
        if instance is None:
            return self
        value = vars(instance)[self.function.__name__] = self.function(instance)  # where Python looks first
        return value


def shallow(original: T) -> T:
    """`copy.copy` of what is pickled in another way: an object that has the same attributes, and shares them."""
    new = object.__new__(type(original))
    vars(new).update(vars(original))
    return new


def warn(message: str) -> None:
    """A UserWarning that blames the line of the caller's own code, however deep inside this package it is found."""
    level = 1
    frame = sys._getframe()
    while frame.f_back and frame.f_globals["__name__"].partition(".")[0] == __name__:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


if TYPE_CHECKING:
    from numroberta import textbook as textbook
    from numroberta.adapters import predict as predict
    from numroberta.arithmetic import Roberta as Roberta
    from numroberta.checkpoint import (
        CheckpointError as CheckpointError,
        ConfigError as ConfigError,
        RobertaConfig as RobertaConfig,
    )
    from numroberta.model import TextEncoder as TextEncoder, load as load
    from numroberta.tokenizer import Tokenizer as Tokenizer

_HOMES = {
    "adapters": ("predict",),
    "arithmetic": ("Roberta",),
    "checkpoint": ("CheckpointError", "ConfigError", "RobertaConfig"),
    "model": ("TextEncoder", "load"),
    "tokenizer": ("Tokenizer",),
}
__all__ = ["CheckpointError", "ConfigError", "Roberta", "RobertaConfig", "TextEncoder", "Tokenizer", "load", "predict",
           "textbook"]  # fmt: skip
__getattr__, _ = door(__name__, _HOMES)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
