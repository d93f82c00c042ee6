"""Where every worker finds the model that the driver named.

A model is named as everywhere: "tiny", a folder, which must then be on every node, or a name on the hub.  Or by what
Spark distributed: "model.zip" after `SparkContext.addFile("…/model.zip")`, "model" after `addArchive("….tgz#model")`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from pyspark import SparkContext, SparkFiles

from numroberta.adapters import SPARK_NLP
from numroberta.checkpoint import CheckpointError, open_checkpoint
from numroberta.tokenizer import Tokenizer

BESIDE_THE_FOLDER = {"__MACOSX", ".DS_Store"}  # what macOS puts into a zip


@dataclass(frozen=True)
class ModelLocation:
    """Where every worker finds a model.

    name: what `load` takes; or, if distributed, the path below the directory that Spark distributes files to.
    revision: a commit, for models of the hub.
    """

    name: str
    revision: str | None = None
    distributed: bool = False

    def on_this_host(self) -> str | Path:
        """What `load` takes here."""
        return distributed_folder(self.name) if self.distributed else self.name


def locate_model(model: str | os.PathLike[str], revision: str | None = None) -> ModelLocation:
    """Where workers find a model; it is opened here, on the driver, so that a bad one fails before any task starts.

    A model of the hub is pinned to its commit, so that all workers read the same one, from the cache if it is there.
    Raises CheckpointError for a model that cannot be opened, FileNotFoundError for one without its tokenizer.
    """
    name = os.fspath(model)
    distributed = distributed_name(name)
    checkpoint = open_checkpoint(distributed_folder(distributed) if distributed else name, revision=revision)
    Tokenizer.load(checkpoint.model_folder)
    if distributed:
        return ModelLocation(distributed, distributed=True)
    return ModelLocation(*checkpoint.origin)


def hub_name(name: str, language: str | None) -> str:
    """A model's name on the hub for Spark NLP's name; any other name as it is.

    Raises ValueError for a language that the model does not have in Spark NLP's list.
    """
    known_name, known_language = SPARK_NLP.get(name, (name, language))
    if language not in (None, known_language):
        raise ValueError(f"{name} is in Spark NLP's list for the language {known_language!r}, not {language!r}")
    return known_name


def distributed_name(name: str) -> str | None:
    """The path below SparkFiles' root, or None if nothing of this name was distributed.

    `SparkFiles.get("model")` gives another path on each machine; the driver's is understood, too.
    """
    if SparkContext._active_spark_context is None or name == "tiny":
        return None
    root = Path(SparkFiles.getRootDirectory())
    if Path(name).is_relative_to(root):
        return os.path.relpath(name, root)
    return name if not os.path.isabs(name) and (root / name).exists() else None


def distributed_folder(name: str) -> Path:
    """The folder that Spark distributed; or that of a zip, which the first process to need it unpacks beside it."""
    path = Path(SparkFiles.get(name))
    return unpacked(path) if path.is_file() else path


def unpacked(path: Path) -> Path:
    """The model's folder out of a zip: its only folder, or all of it where the files are not in one.

    Raises CheckpointError for a file that is no zip or cannot be unpacked, and leaves nothing behind.
    """
    folder = path.with_name(f"{path.name}.unpacked")
    if not folder.is_dir():
        partial = Path(tempfile.mkdtemp(dir=path.parent))
        try:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(partial)
            partial.rename(folder)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} cannot be unpacked ({error}): distribute a zip of the model's folder, or the folder itself "
                "with addArchive"
            ) from error
        except OSError:
            if not folder.is_dir():  # else another worker was first
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    inside = [entry for entry in folder.iterdir() if entry.name not in BESIDE_THE_FOLDER]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder
