"""Labelled tokens of texts, or the entities that they join to, by the rules of `TokenClassificationPipeline`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import fixed_order, heads, one_of
from numroberta.model.blocks import blocks, characters, with_positions
from numroberta.model.options import check_whole
from numroberta.model.texts import check_text, texts_of, warn_of_cuts
from numroberta.tokenizer import Encoding, Tokenizer

if TYPE_CHECKING:
    from numroberta.model.text_encoder import TextEncoder

Array = NDArray[Any]
T = TypeVar("T")

AGGREGATIONS = ("none", "simple", "first", "average", "max")


class TaggedToken(TypedDict):
    """A token with its label, as transformers' pipeline gives it without aggregation."""

    entity: str
    score: float
    index: int  # of the token in its window, <s> being 0
    word: str  # the token's piece
    start: int  # text[start:end]
    end: int


class Entity(TypedDict):
    """Neighbouring tokens with one label, as transformers' pipeline joins them."""

    entity_group: str  # the label without its B- or I-
    score: float
    word: str
    start: int  # text[start:end]
    end: int


def tag(
    encoder: TextEncoder,
    text: str | Iterable[str],
    aggregation: str,
    ignore_labels: Sequence[str],
    stride: int | None,
    batch_size: int,
) -> list[Any]:
    """What `TextEncoder.tag` returns."""
    heads.require(encoder.checkpoint, heads.TOKEN)
    one_of("aggregation", aggregation, AGGREGATIONS)
    check_whole("batch_size", batch_size, 1)
    if stride is not None:
        check_whole("stride", stride, 0, encoder.max_length - 3)  # a window has <s>, </s> and one token more
        if aggregation == "none":
            raise ValueError(f"stride={stride} joins entities of several windows, and aggregation='none' has none")
    ignored = set(texts_of(ignore_labels, "ignore_labels"))
    model = encoder.model
    results: list[list[TaggedToken] | list[Entity]] = []
    cut = left_out = 0
    for some in blocks(texts_of(text, "text"), characters):
        texts = [
            check_text(one, "text" if isinstance(text, str) else f"text[{index}]")
            for index, one in enumerate(some, len(results))
        ]
        encodings = encoder.tokenizer(
            texts, max_length=encoder.max_length, stride=stride or 0, return_overflowing_tokens=stride is not None
        )
        windows = [[encoding, *encoding.overflowing] for encoding in encodings]
        logits = iter(
            model.run(
                with_positions(model, [window.ids for own in windows for window in own]),
                lambda output: heads.token(model.layers, output.last_hidden_state),
                most_texts=batch_size,
            )
        )
        for one, own in zip(texts, windows, strict=True):
            with_logits = [(window, next(logits)) for window in own]
            results.append(entities(one, with_logits, encoder.tokenizer, encoder.config.id2label, aggregation, ignored))
        if stride is None:
            dropped = [encoding.truncated for encoding in encodings]
            cut += sum(map(bool, dropped))
            left_out += sum(dropped)
    warn_of_cuts(cut, len(results), left_out, encoder.max_length)
    return results[0] if isinstance(text, str) else results


class _Token(NamedTuple):
    """A token of the text with the probability of each label."""

    place: int  # in its window
    id: int
    piece: str
    start: int
    end: int
    inside: bool  # it goes on with the word before it
    unknown: bool
    scores: Array  # (labels,)


class _Unit(NamedTuple):
    """What has one label: a token or a word."""

    label: str
    score: float
    ids: list[int]
    unknown: bool
    start: int
    end: int


def entities(
    text: str,
    windows: Sequence[tuple[Encoding, Array]],
    tokenizer: Tokenizer,
    id2label: dict[int, str],
    aggregation: str,
    ignored: set[str],
) -> list[TaggedToken] | list[Entity]:
    """The labelled tokens or entities of a text; windows: encodings with their logits, (labels, tokens) each.

    "word" is the tokens' text as decoding gives it, with the space in front of it; use "start" and "end" to cut it
    out of the text.  (Pipelines decode the words of "first", "average" and "max" twice, which garbles other letters
    than ASCII; here they are decoded once.)
    """
    tokens = [_tokens(text, encoding, fixed_order.softmax(logits, axis=0), tokenizer) for encoding, logits in windows]
    if aggregation == "none":
        tagged = [_tagged(token, id2label) for own in tokens for token in own]
        return [token for token in tagged if token["entity"] not in ignored]
    joined: list[Entity] = []
    for own in tokens:
        words = [[token] for token in own] if aggregation == "simple" else _runs(own, lambda _, token: token.inside)
        units = [_unit(word, aggregation, id2label) for word in words]
        runs = [_entity(text, run, tokenizer) for run in _runs(units, _continues)]
        joined += [entity for entity in runs if entity["entity_group"] not in ignored]
    return joined if len(windows) == 1 else _longest(joined)


def _tokens(text: str, encoding: Encoding, scores: Array, tokenizer: Tokenizer) -> list[_Token]:
    """The tokens of the text, without special ones; scores: (labels, tokens)."""
    tokens = []
    for index, (number, piece, (start, end), special) in enumerate(
        zip(encoding.ids, encoding.tokens, encoding.offsets, encoding.special_tokens_mask, strict=True)
    ):
        if special:
            continue
        unknown = number == tokenizer.unk_token_id
        # Where there is no space at a token's start, it goes on with the word before: the pipelines' rule.
        inside = not unknown and start > 0 and " " not in text[start - 1 : start + 1]
        piece = text[start:end] if unknown else piece
        tokens.append(_Token(index, number, piece, start, end, inside, unknown, scores[:, index]))
    return tokens


def _tagged(token: _Token, id2label: dict[int, str]) -> TaggedToken:
    best = int(token.scores.argmax())
    return {
        "entity": id2label[best],
        "score": float(token.scores[best]),
        "index": token.place,
        "word": token.piece,
        "start": token.start,
        "end": token.end,
    }


def _runs(items: Sequence[T], belongs: Callable[[T, T], bool]) -> list[list[T]]:
    """Neighbours that belong together: `belongs(before, item)`."""
    runs: list[list[T]] = []
    for item in items:
        if runs and belongs(runs[-1][-1], item):
            runs[-1].append(item)
        else:
            runs.append([item])
    return runs


def _unit(word: list[_Token], aggregation: str, id2label: dict[int, str]) -> _Unit:
    """One label for a word: of its first token, of its surest token, or by the mean of its tokens' scores."""
    if aggregation == "average":
        scores = fixed_order.mean(np.stack([token.scores for token in word]), 0)
    elif aggregation == "max":
        scores = max(word, key=lambda token: float(token.scores.max())).scores
    else:
        scores = word[0].scores
    best = int(scores.argmax())
    return _Unit(
        id2label[best],
        float(scores[best]),
        [token.id for token in word],
        any(token.unknown for token in word),
        word[0].start,
        word[-1].end,
    )


def _continues(before: _Unit, unit: _Unit) -> bool:
    """Whether a unit belongs to the entity before it: the same tag, and no B- that opens another."""
    (_, tag), (begin, own) = _tag(before.label), _tag(unit.label)
    return tag == own and begin != "B"


def _tag(label: str) -> tuple[str, str]:
    return (label[0], label[2:]) if label.startswith(("B-", "I-")) else ("I", label)


def _entity(text: str, units: list[_Unit], tokenizer: Tokenizer) -> Entity:
    start, end = units[0].start, units[-1].end
    unknown = any(unit.unknown for unit in units)
    return {
        "entity_group": units[0].label.split("-", 1)[-1],
        "score": math.fsum(unit.score for unit in units) / len(units),
        "word": text[start:end] if unknown else tokenizer.decode([number for unit in units for number in unit.ids]),
        "start": start,
        "end": end,
    }


def _longest(joined: list[Entity]) -> list[Entity]:
    """Of entities that overlap, from two windows, the longest; of two as long the surer one."""
    kept: list[Entity] = []
    for entity in sorted(joined, key=lambda entity: entity["start"]):
        if not kept or entity["start"] >= kept[-1]["end"]:
            kept.append(entity)
        elif _weight(entity) > _weight(kept[-1]):
            kept[-1] = entity
    return kept


def _weight(entity: Entity) -> tuple[int, float]:
    return entity["end"] - entity["start"], entity["score"]
