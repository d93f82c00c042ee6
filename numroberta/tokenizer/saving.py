"""A tokenizer as files: `tokenizer.json`, which the tokenizers library reads, and transformers' settings beside it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from numroberta.checkpoint import load_json, write_json
from numroberta.tokenizer.files import UNLIMITED, TokenizerSpec, flat, vocab_of_foreign
from numroberta.tokenizer.frame import FRAMING, Slot, robertas

Json = dict[str, Any]

# The classes of transformers that read the files: RobertaTokenizer puts RoBERTa's frame around every text.
ROBERTA_CLASS = "RobertaTokenizer"
OTHER_CLASS = "PreTrainedTokenizerFast"


def save_tokenizer(spec: TokenizerSpec, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` into a folder that exists."""
    settings: Json = {f"{kind}_token": token for kind, token in spec.names.items()}
    settings["added_tokens_decoder"] = {
        str(token.id): {key: value for key, value in asdict(token).items() if key != "id"} for token in spec.added
    }
    if spec.max_length < UNLIMITED:
        settings["model_max_length"] = spec.max_length
    if spec.foreign:
        content = (spec.content or load_json(spec.path)) | {"truncation": None, "padding": None}
        content["post_processor"] = _framed(spec, content)
        settings["tokenizer_class"] = OTHER_CLASS
        settings["model_input_names"] = ["input_ids", *["token_type_ids"] * spec.uses_type_ids, "attention_mask"]
    else:
        content = tokenizer_json(spec)
        # The setting would override both of `tokenizer.json`: it is left out where they differ.
        prefix = {spec.add_prefix_space, spec.trim_keeps_prefix}
        settings |= {"add_prefix_space": spec.add_prefix_space} if len(prefix) == 1 else {}
        settings["trim_offsets"] = spec.trim_offsets
        settings["tokenizer_class"] = ROBERTA_CLASS if is_robertas(spec) and len(prefix) == 1 else OTHER_CLASS
    write_json(folder / "tokenizer.json", content)
    write_json(folder / "tokenizer_config.json", settings)


def tokenizer_json(spec: TokenizerSpec) -> Json:
    """Byte-level BPE in the format of the tokenizers library."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [asdict(token) for token in sorted(spec.added, key=lambda token: token.id)],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": spec.add_prefix_space,
            "trim_offsets": True,
            "use_regex": True,
        },
        "post_processor": _post_processor(spec),
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": spec.unk_token,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": spec.vocab,
            "merges": spec.merges,
        },
    }


def _post_processor(spec: TokenizerSpec) -> Json:
    """What puts the special tokens around a text, and trims offsets."""
    trimming = {"trim_offsets": spec.trim_offsets, "add_prefix_space": spec.trim_keeps_prefix}
    piece_of = _piece_of(spec, spec.vocab)
    if is_robertas(spec):
        cls, sep = spec.single[0].part, spec.single[2].part
        return {"type": "RobertaProcessing", "sep": [piece_of[sep], sep], "cls": [piece_of[cls], cls], **trimming}
    return _sequence({"type": "ByteLevel", "use_regex": True, **trimming}, _template(spec, piece_of))


def _framed(spec: TokenizerSpec, content: Json) -> Json:
    """The post-processor of a foreign tokenizer, with the frame in it, even if its class alone gave that before."""
    own = content.get("post_processor")
    if own and any(processor.get("type") in FRAMING for processor in flat(spec.path, own)):
        return own
    template = _template(spec, _piece_of(spec, vocab_of_foreign(content["model"])))
    return _sequence(own, template) if own else template


def _sequence(*processors: Json) -> Json:
    return {"type": "Sequence", "processors": list(processors)}


def is_robertas(spec: TokenizerSpec) -> bool:
    """Whether the frame is RoBERTa's: <s> A </s>, and <s> A </s></s> B </s>."""
    if len(spec.single) != 3:
        return False
    cls, _, sep = (slot.part for slot in spec.single)
    return isinstance(cls, int) and isinstance(sep, int) and (spec.single, spec.pair) == robertas(cls, sep)


def _template(spec: TokenizerSpec, piece_of: dict[int | str, str]) -> Json:
    """The frame as a TemplateProcessing."""

    def entry(slot: Slot) -> Json:
        if isinstance(slot.part, str):
            return {"Sequence": {"id": slot.part, "type_id": slot.type_id}}
        return {"SpecialToken": {"id": piece_of[slot.part], "type_id": slot.type_id}}

    special = {slot.part for slot in (*spec.single, *spec.pair) if not isinstance(slot.part, str)}
    return {
        "type": "TemplateProcessing",
        "single": list(map(entry, spec.single)),
        "pair": list(map(entry, spec.pair)),
        "special_tokens": {
            piece_of[number]: {"id": piece_of[number], "ids": [number], "tokens": [piece_of[number]]}
            for number in sorted(special)
        },
    }


def _piece_of(spec: TokenizerSpec, vocab: dict[str, int]) -> dict[int | str, str]:
    """The piece of each id."""
    pieces: dict[int | str, str] = {token.id: token.content for token in spec.added}
    return pieces | {number: piece for piece, number in vocab.items()}
