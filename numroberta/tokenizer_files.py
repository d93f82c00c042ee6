"""What a tokenizer's files say, checked: vocabulary, merges, added tokens, the frame of special tokens.

A checkpoint folder has `tokenizer.json`, or `vocab.json` and `merges.txt`; beside either there may be
`tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`, which have the last word as in transformers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]

NAMES = {  # RoBERTa's own; a folder may name others
    "bos": "<s>",
    "eos": "</s>",
    "cls": "<s>",
    "sep": "</s>",
    "unk": "<unk>",
    "pad": "<pad>",
    "mask": "<mask>",
}
DEFAULT_MAX_LENGTH = 512


@dataclass(frozen=True)
class AddedToken:
    """A token that is looked for in the text before anything else, `<mask>` for one."""

    content: str
    id: int
    special: bool = False  # left out by decode(skip_special_tokens=True)
    lstrip: bool = False  # takes the white space before it along
    rstrip: bool = False  # and the white space after it
    single_word: bool = False  # counts only where no word character touches it
    normalized: bool = False  # looked for after those that are not normalized


@dataclass
class TokenizerSpec:
    """A checked description, enough to build either backend.

    Where `foreign` is set (a few words saying which kind it is, SentencePiece's for one), the file is not byte-level
    BPE: `vocab` and `merges` are empty and only the `tokenizers` library can run it.
    """

    path: Path
    foreign: str
    vocab: dict[str, int]
    merges: list[str]  # "left right", the first being the first to merge
    unk_token: str | None
    added: list[AddedToken]
    add_prefix_space: bool
    trim_offsets: bool
    trim_keeps_prefix: bool  # the post-processor's own add_prefix_space: it leaves one leading space at the start
    single: list[int | str]  # special ids, and "A" where the text goes
    pair: list[int | str]  # the same with "A" and "B"
    names: dict[str, str]  # "mask" -> "<mask>"
    max_length: int


def read_tokenizer(path: str | Path) -> TokenizerSpec:
    """The description of the tokenizer in a folder, or of a `tokenizer.json` or `vocab.json`.

    Raises FileNotFoundError where files are missing and ValueError where they do not make sense together.
    """
    main = _main_file(Path(path))
    content = _read_json(main)
    settings = _settings(main.parent)
    if isinstance(content.get("model"), dict):
        spec = _from_tokenizer_json(main, content, settings)
    else:
        spec = _from_vocab_and_merges(main, content, settings)
    return spec if spec.foreign else _checked(spec)


def _main_file(path: Path) -> Path:
    if path.is_file():
        return path if path.name != "merges.txt" else path.with_name("vocab.json")
    if not path.is_dir():
        raise FileNotFoundError(
            f"no tokenizer at {path}: expected a folder with tokenizer.json or vocab.json and merges.txt, "
            "or the path of one of the two .json files"
        )
    for name in ("tokenizer.json", "vocab.json"):
        if (path / name).is_file():
            return path / name
    others = [name for name in ("sentencepiece.bpe.model", "spiece.model") if (path / name).is_file()]
    found = f"only {others[0]}" if others else "neither"
    raise FileNotFoundError(
        f"{path} needs tokenizer.json, or vocab.json and merges.txt, and has {found}; transformers writes it: "
        "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
    )


def _read_json(path: Path) -> Json:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # JSON that is not, or not UTF-8
        raise ValueError(f"{path} is not JSON ({error}): download it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a JSON {type(content).__name__}, expected an object: download it again")
    return content


def _settings(folder: Path) -> Json:
    """special_tokens_map.json, then tokenizer_config.json over it; added_tokens.json under its own key."""
    settings: Json = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            settings |= _read_json(folder / name)
    if (folder / "added_tokens.json").is_file():
        settings["added_tokens.json"] = _read_json(folder / "added_tokens.json")
    return settings


def _from_tokenizer_json(path: Path, content: Json, settings: Json) -> TokenizerSpec:
    model = content["model"]
    pre_tokenizer = content.get("pre_tokenizer") or {}
    processors = _flat(content.get("post_processor"), "processors")
    foreign = _foreign(content)
    names = _names(settings)
    added = [_added(path, entry, entry.get("id")) for entry in content.get("added_tokens") or []]
    added = _override(path, added, settings)
    vocab = {} if foreign else _vocab(path, model.get("vocab"))
    ids = vocab | {token.content: token.id for token in added}
    if foreign and isinstance(model.get("vocab"), list):  # Unigram: [piece, score] in the order of ids
        ids = {entry[0]: n for n, entry in enumerate(model["vocab"])} | ids
    single, pair = _frame(path, processors, names, ids)
    trimmer = next((p for p in processors if p.get("type") in ("RobertaProcessing", "ByteLevel")), {})
    prefix = settings.get("add_prefix_space")
    return TokenizerSpec(
        path=path,
        foreign=foreign,
        vocab=vocab,
        merges=[] if foreign else _merges(path, model.get("merges")),
        unk_token=model.get("unk_token"),
        added=added,
        add_prefix_space=bool(pre_tokenizer.get("add_prefix_space", True) if prefix is None else prefix),
        trim_offsets=bool(settings.get("trim_offsets", trimmer.get("trim_offsets", bool(trimmer)))),
        trim_keeps_prefix=bool(trimmer.get("add_prefix_space", True) if prefix is None else prefix),
        single=single,
        pair=pair,
        names=names,
        max_length=_max_length(settings),
    )


def _from_vocab_and_merges(path: Path, content: Json, settings: Json) -> TokenizerSpec:
    merges_path = path.with_name("merges.txt")
    if not merges_path.is_file():
        raise FileNotFoundError(f"{path} needs merges.txt beside it: copy it there, or use tokenizer.json")
    try:
        lines = merges_path.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{merges_path} is not UTF-8 ({error}): download it again") from error
    vocab = _vocab(path, content)
    names = _names(settings)
    in_vocab = {name: vocab[name] for name in names.values() if name in vocab}
    old = settings.get("added_tokens.json", {})
    added = [
        AddedToken(name, number, special=name in names.values(), lstrip=name == names["mask"])
        for name, number in (in_vocab | old).items()
    ]
    added = _override(path, added, settings)
    single, pair = _frame(path, [], names, vocab | {token.content: token.id for token in added})
    prefix = bool(settings.get("add_prefix_space", False))
    return TokenizerSpec(
        path=path,
        foreign="",
        vocab=vocab,
        merges=[line for line in (line.strip() for line in lines) if line and not line.startswith("#version")],
        unk_token=None,
        added=added,
        add_prefix_space=prefix,
        trim_offsets=bool(settings.get("trim_offsets", True)),
        trim_keeps_prefix=prefix,
        single=single,
        pair=pair,
        names=names,
        max_length=_max_length(settings),
    )


def _foreign(content: Json) -> str:
    """What about this tokenizer.json is not RoBERTa's byte-level BPE; "" if nothing."""
    model, pre_tokenizer = content["model"], content.get("pre_tokenizer") or {}
    kind = model.get("type") or ("BPE" if "merges" in model else "unnamed")
    if kind != "BPE":
        return f"a {kind} model"
    if content.get("normalizer"):
        return f"a {content['normalizer'].get('type')} normalizer"
    if pre_tokenizer.get("type") != "ByteLevel" or not pre_tokenizer.get("use_regex", True):
        return f"BPE behind the pre-tokenizer {pre_tokenizer.get('type')} (not GPT-2's ByteLevel)"
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"):
        if model.get(option):
            return f"BPE with {option}={model[option]!r}"
    if model.get("fuse_unk") and model.get("unk_token"):
        return "BPE with fuse_unk=True"
    return ""


def _vocab(path: Path, vocab: object) -> dict[str, int]:
    if not isinstance(vocab, dict) or not vocab:
        raise ValueError(f"{path} has no vocabulary, expected an object of token: id; download it again")
    if set(map(type, vocab.values())) != {int} or min(vocab.values()) < 0 or max(vocab.values()) >= 2**31:
        token, number = next((t, n) for t, n in vocab.items() if type(n) is not int or not 0 <= n < 2**31)
        raise ValueError(f"{path} gives the token {token!r} the id {number!r}, expected an integer from 0 on")
    if len(set(vocab.values())) != len(vocab):
        first: dict[int, str] = {}
        for token, number in vocab.items():
            if first.setdefault(number, token) != token:
                raise ValueError(f"{path} gives the id {number} to both {first[number]!r} and {token!r}")
    return vocab


def _merges(path: Path, merges: object) -> list[str]:
    """Merges are written as "left right", in newer files as ["left", "right"]."""
    if not isinstance(merges, list):
        raise ValueError(f"{path} has no list of merges, expected one under model.merges; download it again")
    if set(map(type, merges)) <= {str}:
        return merges
    for number, merge in enumerate(merges, start=1):
        if not (isinstance(merge, list) and len(merge) == 2 and all(isinstance(half, str) for half in merge)):
            raise ValueError(f'{path}: merge {number} is {merge!r}, expected "left right" or ["left", "right"]')
    return list(map(" ".join, merges))


def _checked(spec: TokenizerSpec) -> TokenizerSpec:
    """Merges, added tokens and vocabulary belong together."""
    lines = "\n".join(spec.merges)
    made = lines.replace(" ", "").split("\n") if spec.merges else []
    # 50,000 merges are most of the time it takes to load: what they make is looked up, halves only for the message
    if lines.count(" ") != len(spec.merges) or not all(map(spec.vocab.__contains__, made)):
        for number, line in enumerate(spec.merges, start=1):
            left, _, right = line.partition(" ")
            if not left or not right or " " in right:
                raise ValueError(f"{spec.path}: merge {number} is {line!r}, expected two tokens and one space")
            for token in (left, right, left + right):
                if token not in spec.vocab:
                    raise ValueError(
                        f"{spec.path}: merge {number} ({line!r}) names {token!r}, which is not in the vocabulary; "
                        "are vocabulary and merges from the same model?"
                    )
    if spec.unk_token is not None and spec.unk_token not in spec.vocab:
        raise ValueError(f"{spec.path}: unk_token {spec.unk_token!r} is not in the vocabulary")
    by_id = {number: token for token, number in spec.vocab.items()}
    for added in spec.added:
        for known in (spec.vocab.get(added.content, added.id), added.id):
            if by_id.setdefault(known, added.content) != added.content or known != added.id:
                raise ValueError(
                    f"{spec.path}: the added token {added.content!r} has the id {added.id}, "
                    f"but the vocabulary has {by_id[known]!r} at {known}"
                )
    return spec


def _names(settings: Json) -> dict[str, str]:
    return {kind: _content(settings.get(f"{kind}_token")) or name for kind, name in NAMES.items()}


def _content(value: object) -> str | None:
    """A special token is written as "<mask>" or as {"content": "<mask>", "lstrip": true, …}."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _added(path: Path, entry: object, number: object) -> AddedToken:
    if not isinstance(entry, dict) or not isinstance(entry.get("content"), str) or type(number) is not int:
        raise ValueError(f'{path}: added token {entry!r} with id {number!r}, expected "content" and an integer "id"')
    flags = {flag: bool(entry.get(flag)) for flag in ("special", "lstrip", "rstrip", "single_word", "normalized")}
    return AddedToken(entry["content"], number, **flags)


def _override(path: Path, added: list[AddedToken], settings: Json) -> list[AddedToken]:
    """The flags that tokenizer_config.json and special_tokens_map.json give, over those in the main file."""
    tokens = {token.content: token for token in added}
    for kind in NAMES:
        entry = settings.get(f"{kind}_token")
        if isinstance(entry, dict) and _content(entry) in tokens:
            token = tokens[entry["content"]]
            tokens[token.content] = _added(path, {**asdict(token), **entry, "special": True}, token.id)
    for number, entry in (settings.get("added_tokens_decoder") or {}).items():
        token = _added(path, entry, int(number) if str(number).isdecimal() else number)
        tokens[token.content] = token
    return [token for token in tokens.values() if token.content]


def _flat(processor: Json | None, inner: str) -> list[Json]:
    if processor is None:
        return []
    if processor.get("type") == "Sequence":
        return [part for each in processor.get(inner) or [] for part in _flat(each, inner)]
    return [processor]


def _frame(
    path: Path, processors: Iterable[Json], names: dict[str, str], ids: dict[str, int]
) -> tuple[list[int | str], list[int | str]]:
    """The special tokens around one text and around two: RoBERTa's <s> A </s> and <s> A </s></s> B </s>."""

    def number(token: str) -> int:
        if token not in ids:
            raise ValueError(
                f"{path}: the special token {token!r} is not in the vocabulary, and RoBERTa puts it around every text; "
                'name the ones in use as "cls_token" and "sep_token" in tokenizer_config.json'
            )
        return ids[token]

    cls, sep = names["cls"], names["sep"]
    for processor in processors:
        if processor.get("type") == "TemplateProcessing":
            return _template(processor["single"], number), _template(processor["pair"], number)
        if processor.get("type") == "RobertaProcessing":
            cls, sep = processor["cls"][0], processor["sep"][0]
            for token, given in (processor["cls"], processor["sep"]):
                if number(token) != given:
                    raise ValueError(
                        f"{path}: {token!r} is {given} in the post-processor and {number(token)} elsewhere"
                    )
            names |= {"cls": cls, "sep": sep}
    first, last = number(cls), number(sep)
    return [first, "A", last], [first, "A", last, last, "B", last]


def _template(parts: list[Json], number: Any) -> list[int | str]:
    return [number(p["SpecialToken"]["id"]) if "SpecialToken" in p else p["Sequence"]["id"] for p in parts]


def _max_length(settings: Json) -> int:
    """model_max_length; transformers writes 1e30 where nobody said."""
    found = settings.get("model_max_length")
    return found if isinstance(found, int) and 0 < found < 10**6 else DEFAULT_MAX_LENGTH
