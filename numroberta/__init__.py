"""RoBERTa in NumPy: text to vectors, in a package that imports nothing but NumPy.

    import numroberta
    enc = numroberta.load("tiny")
    enc.encode(["one text", "another"])     # (2, hidden) float32

Names are loaded when first used, so `import numroberta` costs nothing but NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from numroberta import textbook
    from numroberta.checkpoint import CheckpointError
    from numroberta.config import ConfigError, RobertaConfig
    from numroberta.model import TextEncoder, load
    from numroberta.roberta import Roberta
    from numroberta.tokenizer import Tokenizer

_HOME = {
    "CheckpointError": "checkpoint",
    "ConfigError": "config",
    "RobertaConfig": "config",
    "Roberta": "roberta",
    "TextEncoder": "model",
    "Tokenizer": "tokenizer",
    "load": "model",
}

__all__ = ["CheckpointError", "ConfigError", "Roberta", "RobertaConfig", "TextEncoder", "Tokenizer", "load", "textbook"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"numroberta.{_HOME[name]}"), name)
    try:
        return import_module(f"numroberta.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"numroberta.{name}":
            raise
        raise AttributeError(f"module 'numroberta' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
