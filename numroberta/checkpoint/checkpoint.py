"""`open_checkpoint`: a model's config, its files, and its tensors under the names that this package uses.

Opening reads headers only.  A float32 tensor is a view of the mapped file: nothing is copied, nothing is read from the
disk before it is used, and processes that serve the same model share one page cache.
"""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from numroberta import computed_once, warn
from numroberta.checkpoint.config import RobertaConfig
from numroberta.checkpoint.errors import CheckpointError, listed, show
from numroberta.checkpoint.folder import find_model_folder, load_config, open_weights
from numroberta.checkpoint.heads import DECODER, DECODER_BIAS, WORDS, head_shapes
from numroberta.checkpoint.hub import find_folder
from numroberta.checkpoint.names import UNUSED, canonical_name, encoder_shapes, settle_berts_classifier
from numroberta.checkpoint.stored_tensor import Array, Shape, StoredTensor

# The dtypes that weights may have in a file, and their names.
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model's config, its files, and each tensor under its canonical name.

    Canonical names are those of transformers' `RobertaModel`, without the `roberta.` prefix:
    `embeddings.word_embeddings.weight`, `encoder.layer.0.attention.self.query.weight`, `pooler.dense.weight`;
    and for heads `lm_head.dense.weight`, `lm_head.decoder.weight` (only if it is not the word embeddings),
    `classifier.out_proj.weight`, `classifier.weight`, `qa_outputs.weight`.

    >>> checkpoint = open_checkpoint("tiny")
    >>> checkpoint.tensors["encoder.layer.0.attention.self.query.weight"].shape
    (192, 192)
    """

    name: str  # as the user gave it
    origin: tuple[str, str | None]  # what opens it in another process: "tiny", a whole path, or a hub name and a commit
    folder: Path  # the folder of that name; `modules.json` of a sentence-transformers model lies here
    model_folder: Path  # where config, weights and tokenizer are: nearly always the same folder
    config: RobertaConfig
    files: tuple[Path, ...]  # those that hold the weights
    stored: dict[str, StoredTensor]  # where each tensor lies

    @computed_once
    def tensors(self) -> dict[str, Array]:
        """Every tensor, read-only: float32 and float64 ones are views of the file, 16-bit ones float32 copies."""
        return {name: tensor.array() for name, tensor in self.stored.items()}

    @property
    def dtype(self) -> str:
        """The dtype in the file: "float32", "float16", "bfloat16" or "float64"; several of them joined by "+"."""
        return "+".join(sorted({FLOATS[tensor.dtype] for tensor in self.stored.values()}))

    @property
    def file_size(self) -> int:
        """Bytes of all weight files together."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def parameters(self) -> dict[str, int]:
        """Number of parameters per module: embeddings, encoder.layer.0, …, pooler, lm_head, classifier, …"""
        counts: dict[str, int] = {}
        for name, tensor in self.stored.items():
            module = _module_of(name)
            counts[module] = counts.get(module, 0) + tensor.size
        return counts

    @computed_once
    def weights_hash(self) -> str:
        """SHA-256 over the tensors in the order of their canonical names: name, dtype, shape and bytes of each.

        The same weights have the same hash however they are sharded, prefixed or ordered in their files.
        """
        import hashlib

        digest = hashlib.sha256()
        for name, tensor in sorted(self.stored.items()):
            digest.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
            digest.update(memoryview(tensor.bits()))  # type: ignore[arg-type]  # arrays are buffers from Python 3.12 on
        return digest.hexdigest()

    def __reduce__(self) -> tuple[object, ...]:
        return _open_again, self.origin

    def pages(self, module: str) -> list[tuple[mmap.mmap, int, int]]:
        """The mapped pages that hold the tensors of a module, such as "encoder.layer.3".

        Returns:
            (mapping, start, length) of each range.  Starts are on page boundaries, as
            `mapping.madvise(mmap.MADV_DONTNEED, start, length)` needs them.  The first and the last page may hold
            bytes of a neighbour, too; giving a page of a file back only means that it will be read again.
        """
        own = [tensor for name, tensor in self.stored.items() if name.startswith(module + ".") and tensor.size]
        ranges: list[tuple[mmap.mmap, int, int]] = []
        for tensor in sorted(own, key=lambda tensor: (id(tensor.mapping), tensor.start)):
            start = tensor.start // mmap.PAGESIZE * mmap.PAGESIZE
            if ranges and ranges[-1][0] is tensor.mapping and start <= sum(ranges[-1][1:]):
                start = ranges.pop()[1]
            ranges.append((tensor.mapping, start, tensor.stop - start))
        return ranges


def _open_again(name: str, revision: str | None) -> Checkpoint:
    """A pickled checkpoint, opened where it has arrived."""
    try:
        return open_checkpoint(name, revision=revision)
    except CheckpointError as error:
        raise CheckpointError(
            f"on {socket.gethostname()}, where the copy of a model arrived: {error}. A model travels by its name, "
            "and its files must be where it arrives"
        ) from error


def _module_of(name: str) -> str:
    """The module that a tensor is counted under.

    >>> _module_of("encoder.layer.3.output.dense.bias"), _module_of("lm_head.bias")
    ('encoder.layer.3', 'lm_head')
    """
    levels = name.split(".")
    return ".".join(levels[:3] if levels[0] == "encoder" else levels[:1])


def open_checkpoint(name: str | os.PathLike[str], *, revision: str | None = None) -> Checkpoint:
    """Open "tiny" (built in), a folder, or a model of the Hugging Face hub ("distilroberta-base").

    Only headers are read: a file of 330 MB opens in milliseconds.  Tensors that no module of RoBERTa has are left out,
    with a warning that names them.

    Args:
        name: The model; "tiny" is always the built-in one, "./tiny" a folder.
        revision: A branch, a tag or a commit on the hub.

    Raises:
        CheckpointError: The model cannot be found, is broken, or its weights do not fit its config.
        ConfigError: Its config asks for something that this encoder does not compute.
    """
    folder = find_folder(name, revision=revision)
    model_folder = find_model_folder(folder)
    config = load_config(model_folder)
    files, in_files = open_weights(model_folder)
    stored = _name_tensors(model_folder, in_files, config)
    on_this_disk = name != "tiny" and os.path.isdir(os.path.expanduser(name))
    revision = None if on_this_disk or name == "tiny" else folder.name  # the hub's cache calls a folder by its commit
    origin = str(folder.absolute()) if on_this_disk else os.fspath(name), revision
    return Checkpoint(os.fspath(name), origin, folder, model_folder, config, files, stored)


def _name_tensors(folder: Path, in_files: Mapping[str, StoredTensor], config: RobertaConfig) -> dict[str, StoredTensor]:
    """The tensors under their canonical names, checked: all there, of the shapes and dtypes that they must have."""
    stored: dict[str, StoredTensor] = {}
    for name, tensor in in_files.items():
        canonical = canonical_name(name)
        if canonical in stored:
            raise CheckpointError(f"{folder} has two tensors for {canonical}, one of them {show(name)}")
        if not canonical.startswith(UNUSED):
            stored[canonical] = tensor
    _settle_decoder(stored, config)
    stored = settle_berts_classifier(stored, config)

    expected = encoder_shapes(config)
    for shapes in head_shapes(config, own_decoder=DECODER in stored or not config.tie_word_embeddings).values():
        if not shapes.keys().isdisjoint(stored):
            expected |= shapes
    problems = _misfits(stored, expected)
    unexpected = sorted(stored.keys() - expected.keys())
    if problems:
        also = f"; it also has tensors that RoBERTa has not: {listed([*map(show, unexpected)])}" if unexpected else ""
        raise CheckpointError(f"{folder} does not fit its config.json: {listed(problems)}{also}")
    if unexpected:
        warn(
            f"{folder}: {len(unexpected)} tensors have no place in this model and are left out: "
            f"{listed([*map(show, unexpected)])}"
        )
    return {name: stored[name] for name in expected}


def _settle_decoder(stored: dict[str, StoredTensor], config: RobertaConfig) -> None:
    """Keep `lm_head.decoder.weight` only if it is not the word embeddings, by the rule of transformers.

    Its bias is stored as `lm_head.bias`, as `lm_head.decoder.bias` or as both.  If they differ, transformers adds the
    decoder's.
    """
    if "lm_head.decoder.bias" in stored:
        stored[DECODER_BIAS] = stored.pop("lm_head.decoder.bias")
    if config.tie_word_embeddings and DECODER in stored:
        if WORDS not in stored:
            stored[WORDS] = stored.pop(DECODER)
        elif _same_bytes(stored[WORDS], stored[DECODER]):
            del stored[DECODER]


def _same_bytes(a: StoredTensor, b: StoredTensor) -> bool:
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    left, right = a.bits(), b.bits()
    step = 1 << 20
    return all(np.array_equal(left[i : i + step], right[i : i + step]) for i in range(0, len(left), step))


def _misfits(stored: Mapping[str, StoredTensor], expected: Mapping[str, Shape]) -> list[str]:
    """One phrase for each tensor that is missing, or has another shape or dtype than expected."""
    problems = []
    for name, shape in expected.items():
        tensor = stored.get(name)
        if tensor is None:
            problems.append(f"{name} {shape} is missing")
        elif tensor.shape != shape:
            labels = " by the labels in config.json" if name.startswith("classifier") else ""
            problems.append(f"{name} is {tensor.shape}, expected {shape}{labels}")
        elif tensor.dtype not in FLOATS:
            problems.append(f"{name} is {tensor.dtype}, expected {', '.join(FLOATS)}")
    return problems
