"""The frame of special tokens around a text or a pair: RoBERTa's <s> A </s>, and <s> A </s></s> B </s>."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]


class Slot(NamedTuple):
    """A place in a frame: a special token, or where a text goes."""

    part: int | str  # the special token's id; "A" and "B" are the texts
    type_id: int  # of its tokens: 1 may mark the second text of a pair


Frame = tuple[Slot, ...]

BARE = (Slot("A", 0),), (Slot("A", 0), Slot("B", 1))  # no special tokens; what the tokenizers library does then


def robertas(cls: int, sep: int) -> tuple[Frame, Frame]:
    """<s> A </s> and <s> A </s></s> B </s>; all types are 0.

    >>> single, pair = robertas(0, 2)
    >>> [slot.part for slot in pair]
    [0, 'A', 2, 2, 'B', 2]
    """
    return tuple(Slot(part, 0) for part in (cls, "A", sep)), tuple(
        Slot(part, 0) for part in (cls, "A", sep, sep, "B", sep)
    )


def berts(cls: int, sep: int) -> tuple[Frame, Frame]:
    """[CLS] A [SEP] and [CLS] A [SEP] B [SEP]; B and what follows it have type 1.

    >>> single, pair = berts(101, 102)
    >>> [slot.part for slot in pair], [slot.type_id for slot in pair]
    ([101, 'A', 102, 'B', 102], [0, 0, 0, 1, 1])
    """
    single = Slot(cls, 0), Slot("A", 0), Slot(sep, 0)
    return single, (*single, Slot("B", 1), Slot(sep, 1))


FRAMING = ("TemplateProcessing", "RobertaProcessing", "BertProcessing")  # the post-processors that put a frame
OF_CLASS = {"Roberta": robertas, "XLMRoberta": robertas, "Camembert": robertas, "Bert": berts}


def frames(
    path: Path, processors: Iterable[Json], family: str | None, names: dict[str, str], ids: Mapping[str, int]
) -> tuple[Frame, Frame]:
    """The frames of one text and of two, which the post-processor gives, or else the tokenizer's class.

    Args:
        path: The file, for messages.
        processors: The post-processors of `tokenizer.json`.
        family: "Roberta", "XLMRoberta", "Camembert", "Bert", or None for a class that frames nothing by itself.
        names: The special tokens by kind; "cls" and "sep" are set to those that a post-processor names.
        ids: The id of each piece.

    Raises:
        ValueError: A special token is not in the vocabulary, or a post-processor is broken.
    """

    def id_of(token: object) -> int:
        if not isinstance(token, str) or token not in ids:
            raise ValueError(
                f"{path}: the special token {token!r} is not in the vocabulary, and the model expects it around every "
                'text; name the ones in use as "cls_token" and "sep_token" in tokenizer_config.json'
            )
        return ids[token]

    for processor in processors:
        kind = processor.get("type")
        if kind == "TemplateProcessing":
            return _template(path, processor, "single", ids), _template(path, processor, "pair", ids)
        if kind in ("RobertaProcessing", "BertProcessing"):
            for name in ("cls", "sep"):
                token, number = [*_list(path, processor, name), None, None][:2]
                if not isinstance(token, str) or id_of(token) != number:
                    raise ValueError(
                        f"{path}: the post-processor's {name!r} is {processor.get(name)!r}, "
                        f"expected a token and its id in the vocabulary ({ids.get(str(token))})"
                    )
                names[name] = token
            make = robertas if kind == "RobertaProcessing" else berts
            return make(ids[names["cls"]], ids[names["sep"]])
    return OF_CLASS[family](id_of(names["cls"]), id_of(names["sep"])) if family else BARE


def _template(path: Path, processor: Json, kind: str, ids: Mapping[str, int]) -> Frame:
    """[{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, …] as a frame."""
    frame: list[Slot] = []
    for entry in _list(path, processor, kind):
        (what, value), *_ = [*entry.items(), (None, None)] if isinstance(entry, dict) else [(None, None)]
        name, type_id = (value.get("id"), value.get("type_id", 0)) if isinstance(value, dict) else (None, 0)
        known = name in ("A", "B") if what == "Sequence" else what == "SpecialToken" and isinstance(name, str)
        if not known or type(type_id) is not int or type_id < 0:
            raise ValueError(f"{path}: the template {kind!r} has {entry!r:.60}, expected a SpecialToken or a Sequence")
        if what == "Sequence":
            frame.append(Slot(str(name), type_id))
            continue
        if name not in ids:
            raise ValueError(f"{path}: the template {kind!r} names {name!r}, which is not in the vocabulary")
        frame.append(Slot(ids[str(name)], type_id))
    texts = [slot.part for slot in frame if isinstance(slot.part, str)]
    if texts != ["A", "B"][: 1 + (kind == "pair")]:
        raise ValueError(f"{path}: the template {kind!r} has the texts {texts}, expected each text once")
    return tuple(frame)


def _list(path: Path, processor: Json, key: str) -> list[Any]:
    value = processor.get(key)
    if value is not None and not isinstance(value, list):
        raise ValueError(f"{path}: {key!r} is {value!r:.40}, expected a list; download the file again")
    return value or []
