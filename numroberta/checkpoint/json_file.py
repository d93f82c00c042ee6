"""JSON as checkpoints have it: in files, and at the head of a safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from numroberta.checkpoint.errors import CheckpointError, show

LFS_POINTER = b"version https://git-lfs"  # what stands in a file's place until Git LFS has fetched it


def load_json(path: Path, expected: type | None = None) -> Any:
    """The value that a JSON file holds.

    Args:
        path: The file, in UTF-8.
        expected: `dict` or `list`, if only that will do.

    Raises:
        CheckpointError: The file cannot be read, is not JSON, or holds something else than `expected`.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    value = parse_json(raw, str(path))
    if expected is not None and not isinstance(value, expected):
        raise CheckpointError(f"{path} holds {show(value)}; expected a JSON {kind_of(expected())}")
    return value


def parse_json(raw: bytes, subject: str, *, strict: bool = False) -> Any:
    """The value of a JSON document.

    Args:
        raw: The document, in UTF-8.
        subject: The beginning of the sentence that says what is wrong: "FILE", or "FILE has a header that".
        strict: Refuse what Python's `json` lets pass, a name given twice in one object and NaN.

    Raises:
        CheckpointError: It is no such document.

    >>> parse_json(b'{"a": 1', "config.json")
    Traceback (most recent call last):
    numroberta.checkpoint.errors.CheckpointError: config.json is not JSON: Expecting ',' delimiter: line 1 ...
    """
    if raw.startswith(LFS_POINTER):
        raise CheckpointError(f"{subject} is a Git LFS pointer, not the file itself; run `git lfs pull` in its folder")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, value in pairs:
            if name in result:
                raise CheckpointError(f"{subject} names {show(name)} twice")
            result[name] = value
        return result

    def not_json(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    rules: dict[str, Any] = {"object_pairs_hook": unique, "parse_constant": not_json} if strict else {}
    try:
        return json.loads(raw.decode("utf-8"), **rules)
    except CheckpointError:
        raise
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{subject} is not UTF-8, at byte {error.start}") from error
    except RecursionError:
        raise CheckpointError(f"{subject} is nested too deeply") from None
    except ValueError as error:
        raise CheckpointError(f"{subject} is not JSON: {error}") from error


def kind_of(value: Any) -> str:
    """What JSON calls a value's type."""
    kinds = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")
