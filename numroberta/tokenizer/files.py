"""What a tokenizer's files say, checked: vocabulary, merges, added tokens, the frame of special tokens.

A checkpoint folder has `tokenizer.json`, or `vocab.json` and `merges.txt`, or BERT's `vocab.txt`.  Beside it there may
be `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`, which have the last word as they have in
transformers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from numroberta.checkpoint import load_json
from numroberta.tokenizer.frame import OF_CLASS, Frame, frames

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
BERT_NAMES = {"cls": "[CLS]", "sep": "[SEP]", "unk": "[UNK]", "pad": "[PAD]", "mask": "[MASK]"}
FAMILY_OF_MODEL = {"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert", "bert": "Bert"}
UNLIMITED = int(1e30)  # transformers' length of a tokenizer whose folder does not say one


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
    """A checked description, from which either backend can be built.

    `foreign` says in a few words what kind of tokenizer it is if it is not byte-level BPE: SentencePiece's, or BERT's
    WordPiece.  Then `vocab` and `merges` are empty, and only the `tokenizers` library can run it.
    """

    path: Path
    foreign: str
    content: Json | None  # of a foreign tokenizer that is not as its file says
    vocab: dict[str, int]
    merges: list[str]  # "left right", the first being the first to merge
    unk_token: str | None
    added: list[AddedToken]
    add_prefix_space: bool
    trim_offsets: bool
    trim_keeps_prefix: bool  # the post-processor's own add_prefix_space: it leaves one leading space at the start
    single: Frame
    pair: Frame
    uses_type_ids: bool  # whether the model gets the frame's types; otherwise all are 0
    names: dict[str, str]  # "mask": "<mask>"
    max_length: int


def load_tokenizer_spec(path: str | Path) -> TokenizerSpec:
    """The description of the tokenizer in a folder, or of its `tokenizer.json`, `vocab.json` or `vocab.txt`.

    Raises:
        FileNotFoundError: Files are missing.
        ValueError: They are broken, or do not fit each other.
    """
    main = _main_file(Path(path))
    settings = _settings(main.parent)
    if main.name == "vocab.txt":
        spec = _from_vocab_txt(main, settings)
    else:
        content = load_json(main, dict)
        whole = main.name == "tokenizer.json" or isinstance(content.get("model"), dict)
        spec = (_from_tokenizer_json if whole else _from_vocab_and_merges)(main, content, settings)
    return spec if spec.foreign else _checked(spec)


def _main_file(path: Path) -> Path:
    if path.is_file():
        return path if path.name != "merges.txt" else path.with_name("vocab.json")
    if not path.is_dir():
        raise FileNotFoundError(
            f"no tokenizer at {path}: expected a folder with tokenizer.json, with vocab.json and merges.txt or with "
            "vocab.txt, or the path of one of the three"
        )
    for name in ("tokenizer.json", "vocab.json"):
        if (path / name).is_file():
            return path / name
    if (path / "bpe.codes").is_file():
        raise FileNotFoundError(
            f"{path} has PhoBERT's or BERTweet's tokenizer (bpe.codes), which has no tokenizer.json and cannot be "
            "written as one: tokenize with transformers, and give the ids to numroberta.Roberta"
        )
    if (path / "vocab.txt").is_file():
        return path / "vocab.txt"
    others = [name for name in ("sentencepiece.bpe.model", "spiece.model") if (path / name).is_file()]
    what = f"only {others[0]}" if others else "none of them"
    raise FileNotFoundError(
        f"{path} needs tokenizer.json, or vocab.json and merges.txt, or vocab.txt, and has {what}; transformers writes "
        "tokenizer.json (pip install transformers sentencepiece protobuf): "
        "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
    )


def _settings(folder: Path) -> Json:
    """special_tokens_map.json, then tokenizer_config.json over it; two more files under their own names."""
    settings: Json = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            settings |= load_json(folder / name, dict)
    for name in ("added_tokens.json", "config.json"):
        if (folder / name).is_file():
            settings[name] = load_json(folder / name, dict)
    return settings


def _family(settings: Json) -> str | None:
    """Which of transformers' tokenizers it is: "Roberta", "XLMRoberta", "Camembert", "Bert", or none of them.

    transformers goes by the class that tokenizer_config.json names, and without one by the model's type.
    """
    named = settings.get("tokenizer_class")
    if isinstance(named, str):
        family = named.removesuffix("Fast").removesuffix("Tokenizer")
        return family if family in OF_CLASS else None
    model_type = settings.get("config.json", {}).get("model_type")
    return FAMILY_OF_MODEL.get(model_type) if isinstance(model_type, str) else None


def _uses_type_ids(settings: Json, family: str | None) -> bool:
    """Whether transformers 5 gives the model `token_type_ids`: by the settings, or else for BERT's tokenizer."""
    inputs = settings.get("model_input_names")
    return "token_type_ids" in inputs if isinstance(inputs, list) else family == "Bert"


def _from_tokenizer_json(path: Path, content: Json, settings: Json) -> TokenizerSpec:
    model = _part(path, content, "model")
    pre_tokenizer = _part(path, content, "pre_tokenizer")
    processors = flat(path, _part(path, content, "post_processor"))
    foreign = _foreign(model, pre_tokenizer, _part(path, content, "normalizer"))
    family = _family(settings)
    names = _names(settings, BERT_NAMES if family == "Bert" or model.get("type") == "WordPiece" else NAMES)
    added = [_added(path, entry) for entry in _part(path, content, "added_tokens", list)]
    added = _override(path, added, settings, names)
    vocab = {} if foreign else _vocab(path, model.get("vocab"))
    ids = (vocab_of_foreign(model) if foreign else vocab) | {token.content: token.id for token in added}
    single, pair = frames(path, processors, family, names, ids)
    trimmer = next((p for p in processors if p.get("type") in ("RobertaProcessing", "ByteLevel")), {})
    prefix = settings.get("add_prefix_space")
    return TokenizerSpec(
        path=path,
        foreign=foreign,
        content=_with_berts_settings(content, settings) if family == "Bert" else None,
        vocab=vocab,
        merges=[] if foreign else _merges(path, model.get("merges")),
        unk_token=model.get("unk_token"),
        added=added,
        add_prefix_space=bool(pre_tokenizer.get("add_prefix_space", True) if prefix is None else prefix),
        trim_offsets=bool(settings.get("trim_offsets", trimmer.get("trim_offsets", bool(trimmer)))),
        trim_keeps_prefix=bool(trimmer.get("add_prefix_space", True) if prefix is None else prefix),
        single=single,
        pair=pair,
        uses_type_ids=_uses_type_ids(settings, family),
        names=names,
        max_length=_max_length(settings),
    )


def vocab_of_foreign(model: Json) -> dict[str, int]:
    """The id of each piece, as far as it can be told: Unigram lists [piece, score] in the order of ids."""
    vocab = model.get("vocab")
    if isinstance(vocab, list):
        return {entry[0]: number for number, entry in enumerate(vocab) if isinstance(entry, list) and entry}
    return vocab if isinstance(vocab, dict) else {}


def _with_berts_settings(content: Json, settings: Json) -> Json | None:
    """`tokenizer.json` with the case and accents that tokenizer_config.json gives; None if it has them already."""
    normalizer = content.get("normalizer")
    keys = {
        "do_lower_case": "lowercase",
        "strip_accents": "strip_accents",
        "tokenize_chinese_chars": "handle_chinese_chars",
    }
    if not isinstance(normalizer, dict) or normalizer.get("type") != "BertNormalizer":
        return None
    changed = normalizer | {own: settings[key] for key, own in keys.items() if key in settings}
    return None if changed == normalizer else content | {"normalizer": changed}


def _from_vocab_txt(path: Path, settings: Json) -> TokenizerSpec:
    """BERT's WordPiece, of which the folder has the pieces alone, one per line."""
    pieces = _lines(path)
    if pieces and not pieces[-1]:
        pieces.pop()  # what stands behind the last line's end
    vocab = {piece.removesuffix("\r"): number for number, piece in enumerate(pieces)}
    names = _names(settings, BERT_NAMES)
    special = {token: vocab[token] for token in names.values() if token in vocab}
    added = [_added(path, {"content": token, "id": number, "special": True}) for token, number in special.items()]
    added = _override(path, added, settings, names)
    single, pair = frames(path, [], "Bert", names, vocab | {token.content: token.id for token in added})
    lower = settings.get("do_lower_case", True)
    content = {
        "version": "1.0",
        "added_tokens": [asdict(token) for token in added],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
            "strip_accents": settings.get("strip_accents"),
            "lowercase": lower,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": names["unk"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    }
    return TokenizerSpec(
        path=path,
        foreign="a WordPiece model",
        content=content,
        vocab={},
        merges=[],
        unk_token=names["unk"],
        added=added,
        add_prefix_space=False,
        trim_offsets=False,
        trim_keeps_prefix=False,
        single=single,
        pair=pair,
        uses_type_ids=_uses_type_ids(settings, "Bert"),
        names=names,
        max_length=_max_length(settings),
    )


def _from_vocab_and_merges(path: Path, content: Json, settings: Json) -> TokenizerSpec:
    merges_path = path.with_name("merges.txt")
    if not merges_path.is_file():
        raise FileNotFoundError(f"{path} needs merges.txt beside it: copy it there, or use tokenizer.json")
    lines = [line.strip() for line in _lines(merges_path)]
    vocab = _vocab(path, content)
    names = _names(settings, NAMES)
    in_vocab = {name: vocab[name] for name in names.values() if name in vocab}
    added = [
        _added(path, {"content": name, "id": number, "special": True, "lstrip": name == names["mask"]})
        for name, number in in_vocab.items()
    ]
    added = _override(path, added, settings, names)
    ids = vocab | {token.content: token.id for token in added}
    single, pair = frames(path, [], "Roberta", names, ids)
    prefix = bool(settings.get("add_prefix_space", False))
    return TokenizerSpec(
        path=path,
        foreign="",
        content=None,
        vocab=vocab,
        merges=[line for line in lines if line and not line.startswith("#version")],
        unk_token=None,
        added=added,
        add_prefix_space=prefix,
        trim_offsets=bool(settings.get("trim_offsets", True)),
        trim_keeps_prefix=prefix,
        single=single,
        pair=pair,
        uses_type_ids=_uses_type_ids(settings, "Roberta"),
        names=names,
        max_length=_max_length(settings),
    )


def _lines(path: Path) -> list[str]:
    """The lines of a text file, without their ends; raises ValueError if it is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}): download it again") from error


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
    """The spec unchanged; ValueError where a merge, unk_token or added token contradicts the vocabulary."""
    lines = "\n".join(spec.merges)
    made = lines.replace(" ", "").split("\n") if spec.merges else []
    # 50,000 merges are most of the time it takes to load.  So only what each merge makes is looked up; the slow loop
    # over the parts runs only if something is missing, to name it.
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


def _names(settings: Json, defaults: dict[str, str]) -> dict[str, str]:
    given = {kind: _content(settings.get(f"{kind}_token")) for kind in NAMES}
    return defaults | {kind: name for kind, name in given.items() if name}


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


def _override(path: Path, added: list[AddedToken], settings: Json, names: dict[str, str]) -> list[AddedToken]:
    """The added tokens of the main file, with what the files beside it say of them, and with those that these add."""
    tokens = {token.content: token for token in added}
    if "added_tokens_decoder" not in settings:  # which the versions since 2023 write instead of added_tokens.json
        for content, number in settings.get("added_tokens.json", {}).items():
            special = content in names.values()
            token = _added(path, {"content": content, "id": number, "special": special, "normalized": not special})
            tokens.setdefault(content, token)
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


def flat(path: Path, processor: Json) -> list[Json]:
    """The post-processors one by one, where a Sequence holds several."""
    if processor.get("type") != "Sequence":
        return [processor]
    return [part for part in _part(path, processor, "processors", list) if isinstance(part, dict)]


def _max_length(settings: Json) -> int:
    """model_max_length, or max_len as it was called once; UNLIMITED if the folder says neither."""
    length = settings.get("model_max_length", settings.get("max_len"))
    return length if isinstance(length, int) and 0 < length < 10**6 else UNLIMITED
