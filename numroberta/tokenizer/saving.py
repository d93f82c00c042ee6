"""A tokenizer as files: `tokenizer.json`, which the tokenizers library reads, and transformers' settings beside it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from numroberta.checkpoint import load_json, write_json
from numroberta.tokenizer.files import TokenizerSpec

Json = dict[str, Any]

# The classes of transformers that read the files: RobertaTokenizer puts RoBERTa's frame around every text.
ROBERTA_CLASS = "RobertaTokenizer"
OTHER_CLASS = "PreTrainedTokenizerFast"


def save_tokenizer(spec: TokenizerSpec, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` into a folder that exists."""
    content = load_json(spec.path) | {"truncation": None, "padding": None} if spec.foreign else tokenizer_json(spec)
    write_json(folder / "tokenizer.json", content)
    settings: Json = {f"{kind}_token": token for kind, token in spec.names.items()}
    settings |= {
        "added_tokens_decoder": {
            str(token.id): {key: value for key, value in asdict(token).items() if key != "id"} for token in spec.added
        },
        "model_max_length": spec.max_length,
        "tokenizer_class": OTHER_CLASS,
    }
    if not spec.foreign:
        settings |= {"add_prefix_space": spec.add_prefix_space, "trim_offsets": spec.trim_offsets}
        if is_robertas(spec):
            settings["tokenizer_class"] = ROBERTA_CLASS
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
    if is_robertas(spec):
        cls, sep = spec.single[0], spec.single[2]
        piece_of = _piece_of(spec)
        return {"type": "RobertaProcessing", "sep": [piece_of[sep], sep], "cls": [piece_of[cls], cls], **trimming}
    return {
        "type": "Sequence",
        "processors": [{"type": "ByteLevel", "use_regex": True, **trimming}, _template(spec)],
    }


def is_robertas(spec: TokenizerSpec) -> bool:
    """Whether the frame is RoBERTa's: <s> A </s>, and <s> A </s></s> B </s>."""
    if len(spec.single) != 3:
        return False
    cls, text, sep = spec.single
    return text == "A" and spec.pair == [cls, "A", sep, sep, "B", sep]


def _template(spec: TokenizerSpec) -> Json:
    """The frame as a TemplateProcessing."""
    piece_of = _piece_of(spec)

    def entry(part: int | str) -> Json:
        if isinstance(part, str):
            return {"Sequence": {"id": part, "type_id": 0}}
        return {"SpecialToken": {"id": piece_of[part], "type_id": 0}}

    special = {part for part in (*spec.single, *spec.pair) if not isinstance(part, str)}
    return {
        "type": "TemplateProcessing",
        "single": list(map(entry, spec.single)),
        "pair": list(map(entry, spec.pair)),
        "special_tokens": {
            piece_of[number]: {"id": piece_of[number], "ids": [number], "tokens": [piece_of[number]]}
            for number in sorted(special)
        },
    }


def _piece_of(spec: TokenizerSpec) -> dict[int | str, str]:
    """The piece of each id."""
    pieces: dict[int | str, str] = {token.id: token.content for token in spec.added}
    return pieces | {number: piece for piece, number in spec.vocab.items()}
