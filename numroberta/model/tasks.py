"""Logits to answers: the plain dicts that transformers' pipelines return, with their keys.

Each function takes the numbers of one text; `TextEncoder` runs the model and calls them.  The rules are those of
`FillMaskPipeline`, `TextClassificationPipeline`, `TokenClassificationPipeline` and (up to transformers 4)
`QuestionAnsweringPipeline`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.checkpoint import RobertaConfig
from numroberta.tokenizer import Encoding, Tokenizer

Array = NDArray[Any]
Answer = dict[str, Any]

AGGREGATIONS = ("none", "simple", "first", "average", "max")
FUNCTIONS = ("sigmoid", "softmax", "none")


def softmax(logits: Array, axis: int = -1) -> Array:
    """exp(x − max) / Σ exp(x − max), shape kept."""
    powers = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def check_top_k(top_k: int | None) -> None:
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k}, expected 1 or more")


# --- Masked words ------------------------------------------------------------------------------------------------


def target_ids(tokenizer: Tokenizer, targets: str | Sequence[str]) -> Array:
    """The ids of candidate words, (targets,), each once.  Raises ValueError for a word that has no piece at all.

    A target is a token as the vocabulary writes it ("Ġcapital") or text (" capital"); of text that is several pieces
    the first one is taken, with a warning, as `FillMaskPipeline` does.
    """
    ids = []
    for target in [targets] if isinstance(targets, str) else targets:
        known = tokenizer.token_to_id(target)
        pieces = [known] if known is not None else tokenizer(target, add_special_tokens=False).ids
        if not pieces:
            raise ValueError(f"target {target!r} has no piece in this vocabulary: give a word")
        if len(pieces) > 1:
            first = tokenizer.id_to_token(pieces[0])
            warnings.warn(
                f"target {target!r} is {len(pieces)} pieces in this vocabulary, and a mask stands for one: "
                f"its first, {first!r}, is scored",
                stacklevel=4,
            )
        ids.append(pieces[0])
    if not ids:
        raise ValueError("targets is empty: give one word or more, or None for the whole vocabulary")
    return np.array(list(dict.fromkeys(ids)))


def fillings(
    tokenizer: Tokenizer, ids: Sequence[int], logits: Array, top_k: int, targets: Array | None
) -> list[list[Answer]]:
    """For each mask of a text its likeliest tokens; ids of the text, logits: (vocab, masks)."""
    masks = [place for place, number in enumerate(ids) if number == tokenizer.mask_token_id]
    probs = softmax(logits, axis=0).T  # (vocab, masks) -> (masks, vocab)
    if targets is not None:
        probs = probs[:, targets]
    result = []
    for place, row in zip(masks, probs, strict=True):
        answers = []
        for index in largest(row, top_k):
            number = int(index if targets is None else targets[index])
            filled = [*ids[:place], number, *ids[place + 1 :]]
            text = [number for number in filled if number != tokenizer.pad_token_id]
            answers.append(
                {
                    "score": float(row[index]),
                    "token": number,
                    "token_str": tokenizer.decode(number),
                    # With several masks the others must stay visible, and with them all special tokens.
                    "sequence": tokenizer.decode(text, skip_special_tokens=len(masks) == 1),
                }
            )
        result.append(answers)
    return result


def largest(values: Array, count: int) -> Array:
    """Indices of the `count` largest values, the largest first."""
    count = min(count, len(values))
    chosen = np.argpartition(-values, count - 1)[:count]
    return chosen[np.argsort(-values[chosen], kind="stable")]


# --- Sequence classification -------------------------------------------------------------------------------------


def text_or_pair(text: object) -> Any:
    """A text, or a (text, text) pair, from the forms that `TextClassificationPipeline` takes."""
    if isinstance(text, Mapping):
        if not {"text"} <= text.keys() <= {"text", "text_pair"}:
            raise ValueError(f"expected the keys text and text_pair, found {', '.join(map(repr, text))}")
        text = (text["text"], text["text_pair"]) if "text_pair" in text else text["text"]
    if isinstance(text, (list, tuple)) and len(text) != 2:
        raise ValueError(f"a pair has two texts, found {len(text)}")
    return text


def label_scores(logits: Array, config: RobertaConfig, top_k: int | None, function: str | None) -> list[Answer]:
    """Labels with their scores, the highest first; logits: (labels,).

    function: "softmax", "sigmoid" or "none"; None: none for regression, sigmoid for one label or several that may
    hold at once, softmax otherwise.
    """
    if function is None:
        several = config.problem_type == "multi_label_classification" or config.num_labels == 1
        function = "none" if config.problem_type == "regression" else "sigmoid" if several else "softmax"
    scores = logits
    if function != "none":
        scores = softmax(logits) if function == "softmax" else 1 / (1 + np.exp(-logits))
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [{"label": config.id2label[int(i)], "score": float(scores[i])} for i in order]


# --- Token classification ----------------------------------------------------------------------------------------


def entities(
    text: str,
    windows: Sequence[tuple[Encoding, Array]],
    tokenizer: Tokenizer,
    id2label: dict[int, str],
    aggregation: str,
    ignore_labels: Sequence[str],
) -> list[Answer]:
    """The labelled tokens or entities of a text; windows: encodings with their logits, (labels, tokens) each.

    "word" is the tokens' text as decoding gives it, with the space in front of it; use "start" and "end" to cut it
    out of the text.  (Pipelines decode the words of "first", "average" and "max" twice, which garbles other letters
    than ASCII; here they are decoded once.)
    """
    found: list[Answer] = []
    for encoding, logits in windows:
        pieces = _pieces(text, encoding, softmax(logits, axis=0), tokenizer, id2label)
        if aggregation in ("first", "average", "max"):
            pieces = _by_word(pieces, aggregation, id2label)
        if aggregation == "none":
            answers = [
                {
                    "entity": piece["entity"],
                    "score": piece["score"],
                    "index": piece["index"],
                    "word": piece["tokens"][0],
                    "start": piece["start"],
                    "end": piece["end"],
                }
                for piece in pieces
            ]
        else:
            answers = [_group(text, group, tokenizer) for group in _runs(pieces, _continues)]
        found += [answer for answer in answers if answer.get("entity", answer.get("entity_group")) not in ignore_labels]
    return found if len(windows) == 1 else _longest(found)


def _pieces(
    text: str, encoding: Encoding, scores: Array, tokenizer: Tokenizer, id2label: dict[int, str]
) -> list[Answer]:
    """Each token of the text with its scores, (labels,), and its likeliest label."""
    pieces = []
    for index, (number, token, (start, end), special) in enumerate(
        zip(encoding.ids, encoding.tokens, encoding.offsets, encoding.special_tokens_mask, strict=True)
    ):
        if special:
            continue
        unknown = number == tokenizer.unk_token_id
        best = int(scores[:, index].argmax())
        pieces.append(
            {
                "entity": id2label[best],
                "score": float(scores[best, index]),
                "scores": scores[:, index],
                "index": index,
                "ids": [number],
                "tokens": [text[start:end] if unknown else token],
                "start": start,
                "end": end,
                # Where there is no space at a token's start, it goes on with the word before: the pipelines' rule.
                "inside": not unknown and start > 0 and " " not in text[start - 1 : start + 1],
                "unknown": unknown,
            }
        )
    return pieces


def _runs(pieces: list[Answer], belongs: Callable[[Answer, Answer], bool]) -> list[list[Answer]]:
    """Neighbours that belong together: `belongs(before, piece)`."""
    runs: list[list[Answer]] = []
    for piece in pieces:
        if runs and belongs(runs[-1][-1], piece):
            runs[-1].append(piece)
        else:
            runs.append([piece])
    return runs


def _by_word(pieces: list[Answer], aggregation: str, id2label: dict[int, str]) -> list[Answer]:
    """One label a word, from its first token, from its surest token, or from the mean of its tokens' scores."""
    words = []
    for word in _runs(pieces, lambda before, piece: bool(piece["inside"])):
        if aggregation == "first":
            scores = word[0]["scores"]
        elif aggregation == "max":
            scores = max(word, key=lambda piece: piece["score"])["scores"]
        else:
            scores = np.mean([piece["scores"] for piece in word], axis=0)
        best = int(scores.argmax())
        words.append({**_joined(word), "entity": id2label[best], "score": float(scores[best])})
    return words


def _joined(pieces: list[Answer]) -> Answer:
    return {
        "ids": [number for piece in pieces for number in piece["ids"]],
        "unknown": any(piece["unknown"] for piece in pieces),
        "start": pieces[0]["start"],
        "end": pieces[-1]["end"],
    }


def _continues(before: Answer, piece: Answer) -> bool:
    """Whether a piece belongs to the entity before it: the same tag, and no B- that opens another."""
    (_, tag), (begin, own) = _tag(before["entity"]), _tag(piece["entity"])
    return tag == own and begin != "B"


def _tag(label: str) -> tuple[str, str]:
    return (label[0], label[2:]) if label.startswith(("B-", "I-")) else ("I", label)


def _group(text: str, pieces: list[Answer], tokenizer: Tokenizer) -> Answer:
    whole = _joined(pieces)
    start, end = whole["start"], whole["end"]
    return {
        "entity_group": pieces[0]["entity"].split("-", 1)[-1],
        "score": float(np.mean([piece["score"] for piece in pieces])),
        "word": text[start:end] if whole["unknown"] else tokenizer.decode(whole["ids"]),
        "start": start,
        "end": end,
    }


def _longest(found: list[Answer]) -> list[Answer]:
    """Of entities that overlap, from two windows, the longest; of two as long the surer one."""
    kept: list[Answer] = []
    for entity in sorted(found, key=lambda entity: entity["start"]):
        if not kept or entity["start"] >= kept[-1]["end"]:
            kept.append(entity)
        elif _weight(entity) > _weight(kept[-1]):
            kept[-1] = entity
    return kept


def _weight(entity: Answer) -> tuple[int, float]:
    return entity["end"] - entity["start"], entity["score"]


# --- Question answering ------------------------------------------------------------------------------------------


def answers(
    context: str,
    windows: Sequence[tuple[Encoding, Array]],
    *,
    top_k: int,
    max_answer_len: int,
    align_to_words: bool,
    handle_impossible_answer: bool,
) -> list[Answer]:
    """The likeliest spans of the context, the likeliest first; windows: encodings with logits, (2, tokens) each.

    A span's score is P(start) P(end), each a softmax over the window's context and its <s>; <s> to <s> means that
    there is no answer (Rajpurkar et al. 2018).
    """
    found: dict[str, Answer] = {}
    no_answer = 1.0
    for encoding, logits in windows:
        allowed = np.array([side == 1 for side in encoding.sequence_ids])
        allowed[0] = True
        starts, ends = softmax(np.where(allowed, logits, -10000.0).astype(logits.dtype))
        no_answer = min(no_answer, float(starts[0] * ends[0]))
        starts[0] = ends[0] = 0
        spans = np.tril(np.triu(np.outer(starts, ends)), max_answer_len - 1)
        spans[~allowed] = spans[:, ~allowed] = 0
        # Several spans of tokens may be one span of words.
        for flat in largest(spans.ravel(), 2 * top_k + 10 if align_to_words else top_k):
            first, last = divmod(int(flat), len(encoding))
            score = float(spans[first, last])
            if score == 0:
                break
            start, end = _characters(encoding, first, last, align_to_words)
            answer = context[start:end]
            known = found.setdefault(answer.lower(), {"score": 0.0, "start": start, "end": end, "answer": answer})
            known["score"] += score
    ranked = list(found.values())
    if handle_impossible_answer:
        ranked.append({"score": no_answer, "start": 0, "end": 0, "answer": ""})
    return sorted(ranked, key=lambda answer: -answer["score"])[:top_k]


def _characters(encoding: Encoding, first: int, last: int, align_to_words: bool) -> tuple[int, int]:
    """From and to which character the tokens reach, or the words they belong to, as far as the window holds them."""
    if align_to_words:
        words = encoding.word_ids
        while encoding.sequence_ids[first - 1] == 1 and words[first - 1] == words[first]:
            first -= 1
        while last + 1 < len(encoding) and encoding.sequence_ids[last + 1] == 1 and words[last + 1] == words[last]:
            last += 1
    return encoding.offsets[first][0], encoding.offsets[last][1]
