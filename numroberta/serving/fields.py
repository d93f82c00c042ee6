"""Values of a request's JSON, checked: each function returns the value, or says what was found and expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numroberta.serving.errors import Refused

Object = dict[str, Any]

SHOWN = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}


def shown(value: object) -> str:
    """What a value is, in JSON's words; its text is not repeated."""
    return "null" if value is None else SHOWN.get(type(value), type(value).__name__)


def wrong(name: str, value: object, expected: str) -> Refused:
    return Refused("value", f"`{name}` is {shown(value)}, expected {expected}", param=name)


def needed(data: Object, name: str) -> Any:
    """A value that must be there."""
    if data.get(name) is None:
        raise Refused("value", f"`{name}` is missing", param=name)
    return data[name]


def flag(data: Object, name: str, default: bool) -> bool:
    value = data.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise wrong(name, value, "true or false")
    return value


def whole(data: Object, name: str, least: int, most: int) -> int | None:
    """A whole number, None where there is none."""
    value = data.get(name)
    if value is None:
        return None
    if type(value) is not int:
        raise wrong(name, value, f"a whole number from {least} to {most:,}")
    if not least <= value <= most:
        raise Refused("value", f"`{name}` is {value}, expected {least} to {most:,}", param=name)
    return value


def choice(data: Object, name: str, choices: Sequence[str], default: str) -> str:
    value = data.get(name)
    if value is None:
        return default
    if value not in choices:
        given = repr(value) if isinstance(value, str) and len(value) < 40 else shown(value)
        raise Refused(
            "value", f"`{name}` is {given}, expected {' or '.join(f'{one!r}' for one in choices)}", param=name
        )
    return str(value)


def text(value: object, name: str) -> str:
    """A string of whole characters, not empty."""
    if not isinstance(value, str):
        raise wrong(name, value, "a string")
    if not value:
        raise Refused("value", f"`{name}` cannot be empty", param=name)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Refused(
                "value", f"`{name}` has half a character (a lone surrogate) at {error.start:,}", param=name
            ) from None
    return value


def optional_text(data: Object, name: str) -> str | None:
    return None if data.get(name) is None else text(data[name], name)


def texts(value: object, name: str, most: int) -> list[str]:
    """A list of strings, not empty."""
    if not isinstance(value, list):
        raise wrong(name, value, "a list of strings")
    check_count(value, name, most)
    return [text(one, f"{name}[{index}]") for index, one in enumerate(value)]


def check_count(values: Sequence[object], name: str, most: int) -> None:
    if not values:
        raise Refused("value", f"`{name}` cannot be empty", param=name)
    if len(values) > most:
        raise Refused("too many", f"`{name}` has {len(values):,} texts, at most {most:,} are taken", param=name)


def an_object(value: object, name: str) -> Object:
    if not isinstance(value, dict):
        raise wrong(name, value, "an object")
    return value
