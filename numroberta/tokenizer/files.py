"""What a tokenizer's files say, checked: vocabulary, merges, added tokens, the frame of special tokens.

A checkpoint folder has `tokenizer.json`, or `vocab.json` and `merges.txt`; beside either there may be
`tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`, which have the last word as in transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from numroberta.checkpoint import load_json

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
    names: dict[str, str]  # "mask": "<mask>"
    max_length: int


def load_tokenizer_spec(path: str | Path) -> TokenizerSpec:
    """The description of the tokenizer in a folder, or of a `tokenizer.json` or `vocab.json`.

    Raises FileNotFoundError where files are missing and ValueError where they do not make sense together.
    """
    main = _main_file(Path(path))
    content = load_json(main, dict)
    settings = _settings(main.parent)
    if main.name == "tokenizer.json" or isinstance(content.get("model"), dict):
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


def _settings(folder: Path) -> Json:
    """special_tokens_map.json, then tokenizer_config.json over it; added_tokens.json under its own key."""
    settings: Json = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            settings |= load_json(folder / name, dict)
    if (folder / "added_tokens.json").is_file():
        settings["added_tokens.json"] = load_json(folder / "added_tokens.json", dict)
    return settings


def _from_tokenizer_json(path: Path, content: Json, settings: Json) -> TokenizerSpec:
    model = _part(path, content, "model")
    pre_tokenizer = _part(path, content, "pre_tokenizer")
    processors = _flat(path, _part(path, content, "post_processor"))
    foreign = _foreign(model, pre_tokenizer, _part(path, content, "normalizer"))
    names = _names(settings)
    added = [_added(path, entry) for entry in _part(path, content, "added_tokens", list)]
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
    added = [
        _added(path, {"content": name, "id": n, "special": name in names.values(), "lstrip": name == names["mask"]})
        for name, n in (in_vocab | settings.get("added_tokens.json", {})).items()
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


def _part(path: Path, content: Json, key: str, kind: type[dict[str, Any]] | type[list[Any]] = dict) -> Any:
    value = content.get(key)
    if value is not None and not isinstance(value, kind):
        expected = "a list" if kind is list else "an object"
        raise ValueError(f"{path}: {key!r} is {value!r:.40}, expected {expected}; download the file again")
    return kind() if value is None else value


def _foreign(model: Json, pre_tokenizer: Json, normalizer: Json) -> str:
    """What about a tokenizer.json is not RoBERTa's byte-level BPE; "" if nothing."""
    kind = model.get("type") or ("BPE" if "merges" in model else "unnamed")
    if kind != "BPE":
        return f"a {kind} model"
    if normalizer:
        return f"BPE behind the normalizer {normalizer.get('type')}"
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


def _added(path: Path, entry: object) -> AddedToken:
    entry = entry if isinstance(entry, dict) else {"content": entry}
    content, number = entry.get("content"), entry.get("id")
    if not isinstance(content, str) or type(number) is not int or not 0 <= number < 2**31:
        raise ValueError(f"{path}: added token {content!r} has the id {number!r}, expected a string and an integer")
    flags = {flag: bool(entry.get(flag)) for flag in ("special", "lstrip", "rstrip", "single_word", "normalized")}
    return AddedToken(content, number, **flags)


def _override(path: Path, added: list[AddedToken], settings: Json) -> list[AddedToken]:
    """The flags that tokenizer_config.json and special_tokens_map.json give, over those in the main file."""
    tokens = {token.content: token for token in added}
    for kind in NAMES:
        entry = settings.get(f"{kind}_token")
        if isinstance(entry, dict) and _content(entry) in tokens:
            token = tokens[entry["content"]]
            tokens[token.content] = _added(path, {**asdict(token), **entry, "special": True})
    for number, entry in _part(path, settings, "added_tokens_decoder").items():
        known = entry if isinstance(entry, dict) else {"content": entry}
        token = _added(path, {**known, "id": int(number) if number.isdecimal() else number})
        tokens[token.content] = token
    return [token for token in tokens.values() if token.content]


def _flat(path: Path, processor: Json) -> list[Json]:
    """The post-processors one by one, where a Sequence holds several."""
    if processor.get("type") != "Sequence":
        return [processor]
    return [part for part in _part(path, processor, "processors", list) if isinstance(part, dict)]


def _frame(
    path: Path, processors: Iterable[Json], names: dict[str, str], ids: dict[str, int]
) -> tuple[list[int | str], list[int | str]]:
    """The special tokens around one text and around two: RoBERTa's <s> A </s> and <s> A </s></s> B </s>."""

    def number(token: str) -> int:
        if not isinstance(token, str) or token not in ids:
            raise ValueError(
                f"{path}: the special token {token!r} is not in the vocabulary, and RoBERTa puts it around every text; "
                'name the ones in use as "cls_token" and "sep_token" in tokenizer_config.json'
            )
        return ids[token]

    for processor in processors:
        if processor.get("type") == "TemplateProcessing":
            return _template(path, processor, "single", number), _template(path, processor, "pair", number)
        if processor.get("type") == "RobertaProcessing":
            for name in ("cls", "sep"):
                token, given = [*_part(path, processor, name, list), None, None][:2]
                if not isinstance(token, str) or number(token) != given:
                    raise ValueError(
                        f"{path}: the post-processor's {name!r} is {processor.get(name)!r}, "
                        f"expected a token and its id in the vocabulary ({ids.get(str(token))})"
                    )
                names[name] = token
    first, last = number(names["cls"]), number(names["sep"])
    return [first, "A", last], [first, "A", last, last, "B", last]


def _template(path: Path, processor: Json, kind: str, number: Callable[[str], int]) -> list[int | str]:
    """[{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}, …] -> [0, "A", …]"""
    frame: list[int | str] = []
    for part in _part(path, processor, kind, list):
        known = part if isinstance(part, dict) else {}
        special, sequence = (_part(path, known, key).get("id") for key in ("SpecialToken", "Sequence"))
        frame.append(number(special) if special else sequence)
    if [part for part in frame if isinstance(part, str)] != ["A", "B"][: 1 + (kind == "pair")]:
        raise ValueError(f"{path}: the template {kind!r} gives {frame}, expected each text once")
    return frame


def _max_length(settings: Json) -> int:
    """model_max_length; transformers writes 1e30 where nobody said."""
    found = settings.get("model_max_length")
    return found if isinstance(found, int) and 0 < found < 10**6 else DEFAULT_MAX_LENGTH
