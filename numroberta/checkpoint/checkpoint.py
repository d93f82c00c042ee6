"""A folder, a hub name or the built-in model: its config, its files and its tensors by name, memory-mapped.

Opening reads the headers only. A float32 tensor is a view of the mapped file: nothing is copied, nothing is
read before it is used, and processes that serve the same model share one page cache.
"""

from __future__ import annotations

import mmap
import os
import shlex
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from numroberta.checkpoint.config import RobertaConfig
from numroberta.checkpoint.errors import CheckpointError, ConfigError, listed, show
from numroberta.checkpoint.heads import DECODER, DECODER_BIAS, WORDS, head_shapes, linear_shapes, norm_shapes
from numroberta.checkpoint.hub import INDEX, WEIGHTS, find_folder
from numroberta.checkpoint.json_file import load_json
from numroberta.checkpoint.safetensors_file import Array, Shape, StoredTensor, open_safetensors

# The dtypes that weights may have in a file, and their names.
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


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


# --- What lies in the folder --------------------------------------------------------------------------------


def _model_folder(folder: Path) -> Path:
    """The folder itself, or the one that `modules.json` of early sentence-transformers names: 0_Transformer."""
    modules = folder / "modules.json"
    if (folder / "config.json").is_file() or not modules.is_file():
        return folder
    found = load_json(modules)
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
        return RobertaConfig.from_dict(load_json(path))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _open_weights(folder: Path) -> tuple[tuple[Path, ...], dict[str, StoredTensor]]:
    """The weight files and all their tensors, under the names in the files."""
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,), open_safetensors(folder / WEIGHTS)[0]
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
        for name, tensor in open_safetensors(path)[0].items():
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
    found = load_json(path)
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


def _listing(folder: Path) -> str:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        return f"no folder ({error.strerror})"
    return listed(names) if names else "nothing"


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


def encoder_shapes(config: RobertaConfig) -> dict[str, Shape]:
    """The tensors every checkpoint has, by canonical name. A linear layer's weight is (out, in)."""
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes: dict[str, Shape] = {
        WORDS: (config.vocab_size, hidden),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, hidden),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, hidden),
    }
    shapes |= norm_shapes("embeddings.LayerNorm", hidden)
    for i in range(config.num_hidden_layers):
        layer = f"encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= linear_shapes(f"{layer}.attention.{part}", hidden, hidden)
        shapes |= norm_shapes(f"{layer}.attention.output.LayerNorm", hidden)
        shapes |= linear_shapes(f"{layer}.intermediate.dense", inner, hidden)
        shapes |= linear_shapes(f"{layer}.output.dense", hidden, inner)
        shapes |= norm_shapes(f"{layer}.output.LayerNorm", hidden)
    return shapes


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
        also = f"; it also has tensors that RoBERTa has not: {listed([*map(show, unexpected)])}" if unexpected else ""
        raise CheckpointError(f"{folder} does not fit its config.json: {listed(problems)}{also}")
    if unexpected:
        warnings.warn(
            f"{folder}: {len(unexpected)} tensors have no place in this model and are left out: "
            f"{listed([*map(show, unexpected)])}",
            stacklevel=3,
        )
    return {name: found[name] for name in expected}


def _settle_decoder(found: dict[str, StoredTensor], config: RobertaConfig) -> None:
    """Keep `lm_head.decoder.weight` only if it is not the word embeddings, as transformers decides it.

    The decoder's bias is stored as `lm_head.bias`, as `lm_head.decoder.bias` or as both; if they differ, the
    decoder's is the one that transformers adds.
    """
    if "lm_head.decoder.bias" in found:
        found[DECODER_BIAS] = found.pop("lm_head.decoder.bias")
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
