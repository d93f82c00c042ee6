"""A folder, a hub name or the built-in model: its config, its files and its tensors by name, memory-mapped.

Opening reads the headers only. A float32 tensor is a view of the mapped file: nothing is copied, nothing is
read before it is used, and processes that serve the same model share one page cache.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import shlex
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from numroberta.config import ConfigError, RobertaConfig, show

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

# safetensors' dtype code -> NumPy's, as the bytes lie in the file. NumPy has no bfloat16: its bits are read.
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}

LARGEST_HEADER = 100_000_000  # bytes; safetensors' own limit
MOST_DIMENSIONS = 32  # NumPy 1's limit
NAMES_SHOWN = 8

HUB_FILES = [
    "config.json", WEIGHTS, INDEX, "model-*.safetensors",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt",
    "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
    "[0-9]_*/*.json", "[0-9]_*/*.safetensors", "[0-9]_*/merges.txt",
]  # fmt: skip


class CheckpointError(ValueError):
    """A checkpoint cannot be found, is broken, or is not a RoBERTa; the message says which and what to do."""


# --- The mapped reader of safetensors -----------------------------------------------------------------------


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies: bytes `start` to `stop` of a mapped file, as safetensors' `dtype` and `shape`."""

    dtype: str
    shape: Shape
    mapping: mmap.mmap
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def array(self) -> Array:
        """The tensor, read-only: a view of the file, but float16 and bfloat16 widened to float32.

        Data that is not aligned to its own item size (legal, though safetensors' writers align it) is copied:
        NumPy reads such views, slowly, and BLAS would copy them at each product.
        """
        raw: Array = np.ndarray(self.shape, DTYPES[self.dtype], buffer=self.mapping, offset=self.start)
        if self.dtype == "BF16":
            # bfloat16 is the upper half of a float32.
            bits = raw.astype(np.uint32)
            bits <<= 16
            raw = bits.view(np.float32)
        elif self.dtype == "F16":
            with np.errstate(invalid="ignore"):  # a signalling NaN is still a NaN
                raw = raw.astype(np.float32)
        elif not raw.flags.aligned:
            raw = raw.copy()
        raw.flags.writeable = False
        return raw


def read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors of one safetensors file by name, mapped and read-only, and its metadata.

    What it accepts, the `safetensors` library accepts and reads alike; it refuses besides: a name given twice
    (the library takes the last) and float8 and complex tensors. The file must not change while it is in use.
    Format: https://huggingface.co/docs/safetensors. Raises `CheckpointError`, naming what is wrong.
    """
    stored, metadata = _map_safetensors(Path(path))
    return {name: tensor.array() for name, tensor in stored.items()}, metadata


def _map_safetensors(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    try:
        with path.open("rb") as file:
            file_size = os.fstat(file.fileno()).st_size
            first = file.read(8)
            header_size = _checked_header_size(path, first, file_size)
            header = _parse_header(path, file.read(header_size))
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error

    metadata = _checked_metadata(path, header.pop("__metadata__", None))
    data_start = 8 + header_size
    data_size = file_size - data_start
    stored = {}
    for name, entry in header.items():
        dtype, shape, start, stop = _checked_entry(path, name, entry, data_size)
        stored[name] = StoredTensor(dtype, shape, mapping, data_start + start, data_start + stop)
    _check_that_tensors_fill_the_data(path, stored, data_start, file_size)
    return stored, metadata


def _checked_header_size(path: Path, first: bytes, file_size: int) -> int:
    if not first:
        raise CheckpointError(f"{path} is empty; expected a safetensors file")
    if first == b"version ":
        raise CheckpointError(f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` in its folder")
    if len(first) < 8:
        raise CheckpointError(f"{path} is truncated: {len(first)} bytes, too few for a safetensors header")
    header_size = int.from_bytes(first, "little")
    if header_size > LARGEST_HEADER:
        raise CheckpointError(
            f"{path} claims a header of {header_size} bytes, over the limit of 100 MB; it is not a safetensors file"
        )
    if header_size > file_size - 8:
        raise CheckpointError(
            f"{path} claims a header of {header_size} bytes, beyond the end of the file "
            f"({file_size} bytes); it is truncated, or not a safetensors file"
        )
    return header_size


def _parse_header(path: Path, raw: bytes) -> dict[str, Any]:
    """The JSON object at the head of the file; a name given twice is an error, as the format demands."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, value in pairs:
            if name in result:
                raise CheckpointError(f"{path} has the name {show(name)} twice in its header")
            result[name] = value
        return result

    def not_json(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=unique, parse_constant=not_json)
    except CheckpointError:
        raise
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} has a header that is not UTF-8, at its byte {error.start}") from error
    except RecursionError:
        raise CheckpointError(f"{path} has a header that is nested too deeply to be one of safetensors") from None
    except ValueError as error:
        raise CheckpointError(f"{path} has a header that is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} has a header that is a JSON {_kind(header)}; expected an object")
    return header


def _checked_metadata(path: Path, found: Any) -> dict[str, str]:
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(v, str) and _is_unicode(k + v) for k, v in found.items()):
        raise CheckpointError(f"{path} has a __metadata__ that is not an object of strings")
    return found


def _checked_entry(path: Path, name: str, entry: Any, data_size: int) -> tuple[str, Shape, int, int]:
    """One tensor's (dtype, shape, start, stop), offsets counted from the start of the data."""

    def broken(what: str) -> NoReturn:
        raise CheckpointError(f"{path}: tensor {show(name)} {what}")

    if not _is_unicode(name):
        broken("has a name that is not valid Unicode")
    if not isinstance(entry, dict):
        broken(f"is described by a JSON {_kind(entry)}; expected an object of dtype, shape and data_offsets")
    for key in ("dtype", "shape", "data_offsets"):
        if key not in entry:
            broken(f"has no {key}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        broken(f"has dtype {show(dtype)}; expected one of {', '.join(DTYPES)}")
    if not _are_naturals(shape):
        broken(f"has shape {show(shape)}; expected a list of whole numbers from 0")
    if not _are_naturals(offsets) or len(offsets) != 2:
        broken(f"has data_offsets {show(offsets)}; expected two whole numbers from 0")

    item_size = np.dtype(DTYPES[dtype]).itemsize
    if len(shape) > MOST_DIMENSIONS:
        broken(f"has {len(shape)} dimensions; expected at most {MOST_DIMENSIONS}")
    if math.prod(n for n in shape if n) * item_size >= 2**63:
        broken(f"has shape {show(shape)}, more than memory can address")
    start, stop = offsets
    if start > stop:
        broken(f"has data_offsets that run backwards: {show(offsets)}")
    if stop > data_size:
        broken(f"has data_offsets {show(offsets)} outside the data of {data_size} bytes; the file may be truncated")
    expected = math.prod(shape) * item_size
    if stop - start != expected:
        broken(f"has {stop - start} bytes, but {dtype} of shape {show(shape)} takes {expected}")
    return dtype, tuple(shape), start, stop


def _check_that_tensors_fill_the_data(
    path: Path, stored: Mapping[str, StoredTensor], data_start: int, file_size: int
) -> None:
    end = data_start
    for name, tensor in sorted(stored.items(), key=lambda item: (item[1].start, item[1].stop)):
        if tensor.start < end:
            raise CheckpointError(f"{path}: the bytes of tensor {show(name)} overlap another tensor's")
        if tensor.start > end:
            raise CheckpointError(f"{path}: a hole of {tensor.start - end} bytes lies before tensor {show(name)}")
        end = tensor.stop
    if end != file_size:
        raise CheckpointError(f"{path}: the last {file_size - end} bytes belong to no tensor")


def _are_naturals(found: Any) -> bool:
    return isinstance(found, list) and all(type(n) is int and n >= 0 for n in found)


def _is_unicode(text: str) -> bool:
    """False for a lone surrogate, which JSON's escapes can spell and UTF-8 cannot."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _kind(found: Any) -> str:
    kinds = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return kinds.get(type(found), "number")


# --- The checkpoint -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint, opened: config, files, and each tensor under its canonical name.

    Canonical names are those of transformers' `RobertaModel`, without the `roberta.` prefix:
    `embeddings.word_embeddings.weight`, `encoder.layer.0.attention.self.query.weight`, `pooler.dense.weight`;
    and for heads `lm_head.dense.weight`, `lm_head.decoder.weight` (only if it is not the word embeddings),
    `classifier.out_proj.weight`, `classifier.weight`, `qa_outputs.weight`.

    `folder` is what was named (`modules.json` of a sentence-transformers folder lies here), `model_folder`
    where config, weights and tokenizer are: nearly always the same. `stored` says where each tensor lies.
    """

    name: str
    folder: Path
    model_folder: Path
    config: RobertaConfig
    files: tuple[Path, ...]
    stored: dict[str, StoredTensor]

    @cached_property
    def tensors(self) -> dict[str, Array]:
        """Every tensor, read-only; float32 and float64 are views of the file, 16-bit ones are float32 copies."""
        return {name: tensor.array() for name, tensor in self.stored.items()}

    @property
    def dtype(self) -> str:
        """The dtype in the file: "float32", "float16", "bfloat16", "float64"; several are joined by "+"."""
        return "+".join(sorted({FLOATS[tensor.dtype] for tensor in self.stored.values()}))

    @property
    def file_size(self) -> int:
        """Bytes of all weight files together."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def parameters(self) -> dict[str, int]:
        """Number of parameters per part: embeddings, encoder.layer.0, …, pooler, lm_head, classifier, …"""
        counts: dict[str, int] = {}
        for name, tensor in self.stored.items():
            part = _part(name)
            counts[part] = counts.get(part, 0) + tensor.size
        return counts

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 over the canonical names in order, each with dtype, shape and bytes; reads everything.

        The same weights have the same hash however they are sharded, prefixed or ordered.
        """
        import hashlib

        digest = hashlib.sha256()
        for name, tensor in sorted(self.stored.items()):
            digest.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
            with memoryview(tensor.mapping) as whole, whole[tensor.start : tensor.stop] as part:
                digest.update(part)
        return digest.hexdigest()

    def pages(self, part: str) -> list[tuple[mmap.mmap, int, int]]:
        """The mapped pages that hold a part's tensors, such as `encoder.layer.3`: (mapping, start, length).

        Starts are on page boundaries, as `mapping.madvise(mmap.MADV_DONTNEED, start, length)` needs. A page
        may hold the edge of a neighbour too; dropping a page of the file only means that it is read again.
        """
        found = [tensor for name, tensor in self.stored.items() if name.startswith(part + ".") and tensor.size]
        ranges: list[tuple[mmap.mmap, int, int]] = []
        for tensor in sorted(found, key=lambda tensor: (id(tensor.mapping), tensor.start)):
            start = tensor.start // mmap.PAGESIZE * mmap.PAGESIZE
            if ranges and ranges[-1][0] is tensor.mapping and start <= sum(ranges[-1][1:]):
                start = ranges.pop()[1]
            ranges.append((tensor.mapping, start, tensor.stop - start))
        return ranges


def _part(name: str) -> str:
    pieces = name.split(".")
    return ".".join(pieces[:3] if pieces[0] == "encoder" else pieces[:1])


def open_checkpoint(name: str | os.PathLike[str], *, revision: str | None = None) -> Checkpoint:
    """Open "tiny" (built in), a folder, or a model of the Hugging Face hub ("distilroberta-base").

    `revision` is a branch, tag or commit of the hub. Only headers are read: a 330 MB file opens in
    milliseconds. Raises `CheckpointError` for what cannot be found, is broken or does not fit its config,
    `ConfigError` for a config this encoder does not compute. Tensors that no part of RoBERTa has are left
    out, with a warning that names them.
    """
    folder = find_folder(name, revision=revision)
    model_folder = _model_folder(folder)
    config = _read_config(model_folder)
    files, in_files = _open_weights(model_folder)
    stored = _name_tensors(model_folder, in_files, config)
    return Checkpoint(os.fspath(name), folder, model_folder, config, files, stored)


# --- Finding the folder -------------------------------------------------------------------------------------


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
        raise CheckpointError(f"the folder {show(text)} does not exist; a hub name has the form 'name' or 'owner/name'")
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", text, re.ASCII):
        raise CheckpointError(
            f"{show(text)} is neither 'tiny', nor a folder, nor a hub name such as 'distilroberta-base'"
        )
    return _hub_folder(text, revision)


def _tiny_folder() -> Path:
    folder = Path(__file__).parent / "tiny"
    if not folder.is_dir():
        raise CheckpointError(f"the built-in model is missing from {folder}; install numroberta again")
    return folder


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
            "run `pip install huggingface-hub`"
        ) from None
    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=HUB_FILES))
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{name!r} is gated: accept its terms at https://huggingface.co/{name}, then run `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"the hub has {name!r}, but not its revision {revision!r}") from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{name!r} is neither a folder nor a model on the hub (or it is private: run `hf auth login`)"
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
        "or pass a folder that holds the model, or use the built-in model 'tiny'"
    )


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
    return (folder / "config.json").is_file() and any((folder / name).is_file() for name in (WEIGHTS, INDEX))


# --- What lies in the folder --------------------------------------------------------------------------------


def _model_folder(folder: Path) -> Path:
    """The folder itself, or the one that `modules.json` of early sentence-transformers names: 0_Transformer."""
    modules = folder / "modules.json"
    if (folder / "config.json").is_file() or not modules.is_file():
        return folder
    found = _read_json(modules)
    first = found[0] if isinstance(found, list) and found else None
    path = first.get("path") if isinstance(first, dict) else None
    if not isinstance(path, str) or not _is_plain_name(path):
        raise CheckpointError(f"{modules} names no folder in it for its first module, found {show(path)}")
    return folder / path


def _read_config(folder: Path) -> RobertaConfig:
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder} has no config.json; found {_listing(folder)}")
    try:
        return RobertaConfig.from_dict(_read_json(path))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _open_weights(folder: Path) -> tuple[tuple[Path, ...], dict[str, StoredTensor]]:
    """The weight files and all their tensors, under the names in the files."""
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,), _map_safetensors(folder / WEIGHTS)[0]
    if (folder / INDEX).is_file():
        return _open_shards(folder)
    if any(folder.glob("pytorch_model*.bin")):
        raise CheckpointError(
            f"{folder} has its weights in PyTorch's pickle format only; convert them where PyTorch is "
            f"installed:\n{conversion_command(folder)}"
        )
    raise CheckpointError(f"{folder} has no {WEIGHTS}; found {_listing(folder)}{_hub_hint(folder)}")


def _open_shards(folder: Path) -> tuple[tuple[Path, ...], dict[str, StoredTensor]]:
    shard_of = _read_index(folder)
    files = tuple(folder / shard for shard in sorted(set(shard_of.values())))
    stored: dict[str, StoredTensor] = {}
    holder: dict[str, str] = {}
    for path in files:
        for name, tensor in _map_safetensors(path)[0].items():
            if name in stored:
                raise CheckpointError(f"{path} has tensor {show(name)}, and so has {holder[name]}")
            stored[name], holder[name] = tensor, path.name
    for name, shard in shard_of.items():
        if holder.get(name) != shard:
            raise CheckpointError(f"{folder / INDEX} says that {shard} has tensor {show(name)}, but it has not")
    return files, stored


def _hub_hint(folder: Path) -> str:
    if folder.parent.name != "snapshots":
        return ""
    return (
        "; the model has no safetensors on the hub, or they are not in the cache: look at its page, and if it has "
        "pytorch_model.bin, fetch it with `hf download NAME --local-dir FOLDER` and load FOLDER to be told how "
        "to convert it"
    )


def conversion_command(folder: Path) -> str:
    """The command that writes `model.safetensors` beside `pytorch_model*.bin`, running none of its pickle's code."""
    script = (
        "import glob, os, sys, torch, safetensors.torch as s; os.chdir(sys.argv[1]); w = {}; "
        "[w.update(torch.load(f, map_location='cpu', weights_only=True)) for f in glob.glob('pytorch_model*.bin')]; "
        "s.save_file({k: v.clone().contiguous() for k, v in w.items()}, 'model.safetensors')"
    )
    return f'python -c "{script}" {shlex.quote(str(folder))}'


def _read_index(folder: Path) -> dict[str, str]:
    path = folder / INDEX
    found = _read_json(path)
    shards = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(shards, dict) or not shards:
        raise CheckpointError(f"{path} has no weight_map from tensor names to files")
    for shard in shards.values():
        if not isinstance(shard, str) or not _is_plain_name(shard):
            raise CheckpointError(f"{path} names the shard {show(shard)}; expected a file of the same folder")
        if not (folder / shard).is_file():
            raise CheckpointError(f"{path} names the shard {shard}, which is missing; fetch it too")
    return shards


def _is_plain_name(name: str) -> bool:
    return name not in ("", ".", "..") and not any(letter in name for letter in "/\\:\0")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8, at byte {error.start}") from error
    except RecursionError:
        raise CheckpointError(f"{path} is nested too deeply") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error


def _listing(folder: Path) -> str:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        return f"no folder ({error.strerror})"
    return _some(names) if names else "nothing"


def _some(items: list[str]) -> str:
    more = len(items) - NAMES_SHOWN
    return ", ".join(items[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


# --- Names and shapes ---------------------------------------------------------------------------------------


def canonical_name(name: str) -> str:
    """A tensor's name as this package uses it, from any name it has in checkpoints.

    >>> canonical_name("roberta.embeddings.LayerNorm.gamma")
    'embeddings.LayerNorm.weight'
    """
    name = name.removeprefix("roberta.")
    # TensorFlow's names for layer norm, in checkpoints of 2019.
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return name


# Buffers that early versions of transformers saved; they hold 0, 1, 2, … and zeros.
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")

WORDS = "embeddings.word_embeddings.weight"
DECODER = "lm_head.decoder.weight"


def encoder_shapes(config: RobertaConfig) -> dict[str, Shape]:
    """The tensors every checkpoint has, by canonical name. A linear layer's weight is (out, in)."""
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes: dict[str, Shape] = {
        WORDS: (config.vocab_size, hidden),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, hidden),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, hidden),
    }
    shapes |= _norm("embeddings.LayerNorm", hidden)
    for i in range(config.num_hidden_layers):
        layer = f"encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= _linear(f"{layer}.attention.{part}", hidden, hidden)
        shapes |= _norm(f"{layer}.attention.output.LayerNorm", hidden)
        shapes |= _linear(f"{layer}.intermediate.dense", inner, hidden)
        shapes |= _linear(f"{layer}.output.dense", hidden, inner)
        shapes |= _norm(f"{layer}.output.LayerNorm", hidden)
    return shapes


def head_shapes(config: RobertaConfig, *, own_decoder: bool) -> dict[str, dict[str, Shape]]:
    """The tensors of each head; a checkpoint has all of a head's or none."""
    hidden, labels = config.hidden_size, config.num_labels
    heads: dict[str, dict[str, Shape]] = {
        "pooler": _linear("pooler.dense", hidden, hidden),
        "masked language model": {
            **_linear("lm_head.dense", hidden, hidden),
            **_norm("lm_head.layer_norm", hidden),
            "lm_head.bias": (config.vocab_size,),
        },
        "sequence classification": {
            **_linear("classifier.dense", hidden, hidden),
            **_linear("classifier.out_proj", labels, hidden),
        },
        "token classification": _linear("classifier", labels, hidden),
        "question answering": _linear("qa_outputs", 2, hidden),
    }
    if own_decoder:
        heads["masked language model"][DECODER] = (config.vocab_size, hidden)
    if any(name.endswith("ForMultipleChoice") for name in config.architectures):
        # Its classifier gives one score a choice: another head under the name of token classification's.
        del heads["token classification"]
    return heads


def _linear(name: str, outputs: int, inputs: int) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, size: int) -> dict[str, Shape]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _name_tensors(folder: Path, in_files: Mapping[str, StoredTensor], config: RobertaConfig) -> dict[str, StoredTensor]:
    """The tensors under their canonical names, complete and of the shapes that the config asks for."""
    found: dict[str, StoredTensor] = {}
    for name, tensor in in_files.items():
        canonical = canonical_name(name)
        if canonical in found:
            raise CheckpointError(f"{folder} has two tensors for {canonical}, one of them {show(name)}")
        if canonical not in BUFFERS:
            found[canonical] = tensor
    _settle_decoder(found, config)

    expected = encoder_shapes(config)
    for shapes in head_shapes(config, own_decoder=DECODER in found or not config.tie_word_embeddings).values():
        if not shapes.keys().isdisjoint(found):
            expected |= shapes
    problems = _misfits(found, expected)
    unexpected = sorted(found.keys() - expected.keys())
    if problems:
        also = f"; it also has tensors that RoBERTa has not: {_some([*map(show, unexpected)])}" if unexpected else ""
        raise CheckpointError(f"{folder} does not fit its config.json: {_some(problems)}{also}")
    if unexpected:
        warnings.warn(
            f"{folder}: {len(unexpected)} tensors have no place in this model and are left out: "
            f"{_some([*map(show, unexpected)])}",
            stacklevel=3,
        )
    return {name: found[name] for name in expected}


def _settle_decoder(found: dict[str, StoredTensor], config: RobertaConfig) -> None:
    """Keep `lm_head.decoder.weight` only if it is not the word embeddings, as transformers decides it.

    The decoder's bias is stored as `lm_head.bias`, as `lm_head.decoder.bias` or as both; if they differ, the
    decoder's is the one that transformers adds.
    """
    if "lm_head.decoder.bias" in found:
        found["lm_head.bias"] = found.pop("lm_head.decoder.bias")
    if config.tie_word_embeddings and DECODER in found:
        if WORDS not in found:
            found[WORDS] = found.pop(DECODER)
        elif _same_bytes(found[WORDS], found[DECODER]):
            del found[DECODER]


def _same_bytes(a: StoredTensor, b: StoredTensor) -> bool:
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    step = 1 << 20
    return all(
        a.mapping[a.start + i : min(a.start + i + step, a.stop)]
        == b.mapping[b.start + i : min(b.start + i + step, b.stop)]
        for i in range(0, a.stop - a.start, step)
    )


def _misfits(found: Mapping[str, StoredTensor], expected: Mapping[str, Shape]) -> list[str]:
    """What is missing or of another shape or dtype than expected, a phrase each."""
    problems = []
    for name, shape in expected.items():
        tensor = found.get(name)
        if tensor is None:
            problems.append(f"{name} {shape} is missing")
        elif tensor.shape != shape:
            labels = " by the labels in config.json" if name.startswith("classifier") else ""
            problems.append(f"{name} is {tensor.shape}, expected {shape}{labels}")
        elif tensor.dtype not in FLOATS:
            problems.append(f"{name} is {tensor.dtype}, expected {', '.join(FLOATS)}")
    return problems
