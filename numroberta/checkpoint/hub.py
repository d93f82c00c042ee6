"""From a model's name to a folder on this disk: the built-in model, a path, or the Hugging Face hub and its cache."""

from __future__ import annotations

import os
import re
from pathlib import Path

from numroberta.checkpoint.errors import CheckpointError, did_you_mean, show

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TORCH_WEIGHTS = "pytorch_model.bin"
TORCH_INDEX = "pytorch_model.bin.index.json"

TORCH_FILES = [TORCH_WEIGHTS, TORCH_INDEX, "pytorch_model-*.bin"]  # fetched from the hub if it has no safetensors

# Names that may have been meant.
WELL_KNOWN = ("distilroberta-base", "roberta-base", "roberta-large", "xlm-roberta-base",
              "sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-distilroberta-v1")  # fmt: skip

LIKE_FOLDERS = 0.75  # a folder beside may have been meant: "modle" is "model", and "x1" is not "x"

# What else is fetched: neither weights in other formats nor training files.
HUB_FILES = [
    "config.json", WEIGHTS, INDEX, "model-*.safetensors",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "vocab.txt",
    "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
    "[0-9]_*/*.json", "[0-9]_*/*.safetensors", "[0-9]_*/merges.txt",
]  # fmt: skip


def find_folder(name: str | os.PathLike[str], *, revision: str | None = None) -> Path:
    """The folder of "tiny", of a path, or of a hub name (downloaded if need be); see `open_checkpoint`."""
    if name == "tiny":
        _refuse_revision(name, revision)
        return _tiny_folder()
    text = os.fspath(name)
    folder = os.path.expanduser(text)
    if os.path.isdir(folder):
        _refuse_revision(name, revision)
        return Path(folder)
    if os.path.isfile(folder):
        raise CheckpointError(
            f"{show(text)} is a file; give the folder that holds it with config.json and the tokenizer"
        )
    if not isinstance(name, str) or _looks_like_a_path(text):
        raise CheckpointError(
            f"the folder {show(text)} does not exist; a hub name has the form 'name' or 'owner/name'{_near(folder)}"
        )
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", text, re.ASCII):
        raise CheckpointError(
            f"{show(text)} is neither 'tiny', nor a folder, nor a hub name such as 'distilroberta-base'{_near(text)}"
        )
    return _hub_folder(text, revision)


def _tiny_folder() -> Path:
    folder = Path(__file__).parent.parent / "tiny"
    if folder.is_dir():
        return folder
    archive = next((path for path in folder.parents if path.is_file()), None)
    if archive is not None:
        raise CheckpointError(
            f"numroberta runs from the archive {archive}, whose files cannot be mapped: unpack it, or load the "
            "built-in model from a folder where you have unpacked numroberta/tiny"
        )
    raise CheckpointError(f"the built-in model is missing from {folder}; install numroberta again")


def _refuse_revision(name: str | os.PathLike[str], revision: str | None) -> None:
    if revision is not None:
        raise CheckpointError(f"revision {revision!r} is for models of the hub; {os.fspath(name)!r} is on this disk")


def _looks_like_a_path(text: str) -> bool:
    return text.startswith((".", "/", "~")) or "\\" in text or ":" in text or text.count("/") > 1 or text[-1:] == "/"


def _hub_folder(name: str, revision: str | None) -> Path:
    # A commit never changes and offline nothing can: both are answered by the cache, without the 0.7 s that
    # importing huggingface_hub takes.
    offline = _is_offline()
    if offline or re.fullmatch("[0-9a-f]{40}", revision or ""):
        cached = _cached_snapshot(name, revision)
        if cached is not None and (offline or _has_weights(cached)):
            return cached
    if offline:
        raise CheckpointError(_not_cached(name, revision, "HF_HUB_OFFLINE is set"))
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        cached = _cached_snapshot(name, revision)
        if cached is not None:
            return cached
        raise CheckpointError(
            f"{name!r} is neither 'tiny' nor a folder, and fetching it from the hub needs a package: "
            f"run `pip install huggingface-hub`{_near(name)}"
        ) from None
    try:
        folder = Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=HUB_FILES))
        if (folder / "config.json").is_file() and not _has_weights(folder):
            huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=TORCH_FILES)
        return folder
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{name!r} is gated: accept its terms at https://huggingface.co/{name}, then run `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"the hub has {name!r}, but not its revision {revision!r}") from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{name!r} is neither a folder nor a model on the hub (or it is private: run `hf auth login`){_near(name)}"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        # Part of the files may be cached by other programs: what matters is whether ours are there.
        cached = _cached_snapshot(name, revision)
        if cached is not None and _has_weights(cached):
            return cached
        raise CheckpointError(_not_cached(name, revision, "the hub cannot be reached")) from error
    except Exception as error:  # whatever else the hub's HTTP client raises: it differs by version
        raise CheckpointError(f"{name!r} could not be fetched from the hub: {error}") from error


def _not_cached(name: str, revision: str | None, why: str) -> str:
    what = repr(name) if revision is None else f"{name!r} (revision {revision!r})"
    return (
        f"{what} is not a folder here nor in the hub's cache, and {why}: connect to the network, "
        f"or pass a folder that holds the model, or use the built-in model 'tiny'{_near(name)}"
    )


def _near(name: str) -> str:
    """The end of a message about a name that leads nowhere: the folder or the model that may have been meant."""
    parent, entry = os.path.split(name)
    try:
        beside = [other for other in os.listdir(parent or ".") if os.path.isdir(os.path.join(parent, other))]
    except OSError:
        beside = []
    cached = [path.name.removeprefix("models--").replace("--", "/") for path in _hub_cache().glob("models--*")]
    known = ["tiny", *WELL_KNOWN, *cached]
    if name in known or entry in beside:
        return ""
    before = name.removesuffix(entry)  # in which two folders of the same place are alike whatever they are called
    return did_you_mean(name, known) or did_you_mean(entry, beside, cutoff=LIKE_FOLDERS, before=before)


def _is_offline() -> bool:
    """Whether the user said so, in the variables that huggingface_hub reads."""
    setting = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return setting.upper() in ("1", "ON", "YES", "TRUE")


def _cached_snapshot(name: str, revision: str | None) -> Path | None:
    """The model's folder in the hub's cache; layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache"""
    model = _hub_cache() / f"models--{name.replace('/', '--')}"
    commit = revision = revision or "main"
    if not re.fullmatch("[0-9a-f]{40}", revision):
        try:
            commit = (model / "refs" / revision).read_text().strip()
        except (OSError, ValueError):
            return None
    folder = model / "snapshots" / commit
    return folder if commit and folder.is_dir() else None


def _hub_cache() -> Path:
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    home = os.environ.get("HF_HOME")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(home).expanduser() / "hub"


def _has_weights(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(
        (folder / name).is_file() for name in (WEIGHTS, INDEX, TORCH_WEIGHTS, TORCH_INDEX)
    )
