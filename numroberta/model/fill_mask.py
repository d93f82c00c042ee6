"""The likeliest tokens for each <mask>, by the rules of transformers' `FillMaskPipeline`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from numroberta import warn
from numroberta.arithmetic import TextOutput, fixed_order, heads
from numroberta.model.blocks import blocks, characters, with_positions
from numroberta.model.options import check_whole
from numroberta.model.scores import largest
from numroberta.model.texts import check_text, check_texts, texts_of
from numroberta.tokenizer import Tokenizer

if TYPE_CHECKING:
    from numroberta.model.text_encoder import TextEncoder

Array = NDArray[Any]


class Filling(TypedDict):
    """A token in a mask's place, as transformers' pipeline gives it."""

    score: float
    token: int  # its id
    token_str: str
    sequence: str  # the text with it


class _Candidates(NamedTuple):
    ids: list[int]
    scores: list[float]


def fill_mask(
    encoder: TextEncoder, text: str | Iterable[str], top_k: int, targets: str | Sequence[str] | None
) -> list[Any]:
    """What `TextEncoder.fill_mask` returns."""
    heads.require(encoder.checkpoint, heads.MASKED_LM)
    check_whole("top_k", top_k, 1)
    among = ids_with_a_token(encoder) if targets is None else target_ids(encoder.tokenizer, targets)
    model = encoder.model

    def candidates(output: TextOutput) -> list[_Candidates]:  # kept instead of the logits, which are 200 KB a mask
        return likeliest(heads.masked_lm(model.layers, output.last_hidden_state), top_k, among)

    results: list[Any] = []
    for some in blocks(texts_of(text, "text"), characters):
        if isinstance(text, str):
            rows = [_masked_ids(encoder, check_text(text, "text"))]
        else:
            check_texts(some, "text", len(results))
            rows = [_masked_ids(encoder, one, f"text[{index}]: ") for index, one in enumerate(some, len(results))]
        masks = [np.flatnonzero(np.asarray(row) == encoder.tokenizer.mask_token_id) for row in rows]
        chosen = model.run(with_positions(model, rows), candidates, wanted=masks)
        for row, places, per_mask in zip(rows, masks, chosen, strict=True):
            filled = [
                fillings(encoder.tokenizer, row, int(place), own, alone=len(places) == 1)
                for place, own in zip(places, per_mask, strict=True)
            ]
            results.append(filled[0] if len(filled) == 1 else filled)
    return results[0] if isinstance(text, str) else results


def _masked_ids(encoder: TextEncoder, text: str, where: str = "") -> list[int]:
    tokenizer = encoder.tokenizer
    ids = tokenizer(text, truncation=False).ids
    if tokenizer.mask_token_id not in ids:
        raise ValueError(f"{where}no {tokenizer.mask_token} in {text!r:.80}: put it where a word is to be found")
    if len(ids) > encoder.max_length:
        raise ValueError(
            f"{where}{text!r:.40} has {len(ids)} tokens, this model reads {encoder.max_length}: give a part of it"
        )
    return ids


def ids_with_a_token(encoder: TextEncoder) -> Array | None:
    """The rows of a padded table that the tokenizer has tokens for; None if it has one for every row."""
    known = np.array(encoder.tokenizer.ids)
    known = known[known < encoder.config.vocab_size]
    return None if len(known) == encoder.config.vocab_size else known


def target_ids(tokenizer: Tokenizer, targets: str | Sequence[str]) -> Array:
    """The ids of candidate words, (targets,), each once.  Raises ValueError for a word that has no piece at all.

    A target is a token as the vocabulary writes it ("Ġcapital") or text (" capital"); of text that is several pieces
    the first one is taken, with a warning.
    """
    ids = []
    for index, target in enumerate(texts_of(targets, "targets")):
        known = tokenizer.token_to_id(check_text(target, f"targets[{index}]"))
        pieces = [known] if known is not None else tokenizer(target, add_special_tokens=False).ids
        if not pieces:
            raise ValueError(f"target {target!r} has no piece in this vocabulary: give a word")
        if len(pieces) > 1:
            first = tokenizer.id_to_token(pieces[0])
            warn(
                f"target {target!r} is {len(pieces)} pieces in this vocabulary, and a mask stands for one: "
                f"its first, {first!r}, is scored"
            )
        ids.append(pieces[0])
    if not ids:
        raise ValueError("targets is empty: give one word or more, or None for the whole vocabulary")
    return np.array(list(dict.fromkeys(ids)))


def likeliest(logits: Array, top_k: int, among: Array | None) -> list[_Candidates]:
    """For each mask the likeliest tokens, of all or of some; logits: (vocab, masks)."""
    probs = fixed_order.softmax(logits, axis=0).T  # (vocab, masks) -> (masks, vocab)
    if among is not None:
        probs = probs[:, among]
    result = []
    for row in probs:
        best = largest(row, top_k)
        result.append(_Candidates((best if among is None else among[best]).tolist(), row[best].tolist()))
    return result


def fillings(tokenizer: Tokenizer, ids: list[int], place: int, candidates: _Candidates, alone: bool) -> list[Filling]:
    """The candidates for the mask at a place of a text's ids; `alone`: the text has no other mask."""
    result: list[Filling] = []
    for token, score in zip(*candidates, strict=True):
        filled = [*ids[:place], token, *ids[place + 1 :]]
        filling: Filling = {
            "score": score,
            "token": token,
            "token_str": tokenizer.decode(token),
            # With several masks the others must stay visible, and with them all special tokens.
            "sequence": tokenizer.decode(
                [number for number in filled if number != tokenizer.pad_token_id], skip_special_tokens=alone
            ),
        }
        result.append(filling)
    return result
