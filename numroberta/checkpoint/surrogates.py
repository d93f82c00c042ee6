"""Lone surrogates: half characters, which a Python string can hold and UTF-8 cannot.

They come from JSON's escapes ("\\ud83d" without its other half), from file names, and from bytes decoded with
`surrogateescape`.  No model can read them.
"""

from __future__ import annotations


def lone_surrogate(text: str) -> int | None:
    r"""The index of the first half character of a text; None if every character is whole.

    >>> lone_surrogate("whole: \U0001f600"), lone_surrogate("half: \ud83d")
    (None, 6)
    """
    try:
        text.isascii() or text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error.start
    return None


def refuse_lone_surrogates(text: str, name: str) -> None:
    r"""Raises ValueError for a text with a half character; the message calls the text `name` and says what to do.

    >>> refuse_lone_surrogates("half: \ud83d", "text 3")
    Traceback (most recent call last):
    ValueError: text 3 has a lone surrogate, '\ud83d', at character 6: it is half a ...
    """
    index = lone_surrogate(text)
    if index is not None:
        raise ValueError(
            f"{name} has a lone surrogate, {text[index]!r}, at character {index}: it is half a character and stands "
            "for nothing; repair the text with text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
        )
