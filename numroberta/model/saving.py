"""A text encoder as a folder, which this package, transformers and sentence-transformers load."""

from __future__ import annotations

import shutil
from pathlib import Path

from numroberta.checkpoint import Checkpoint, load_json, new_folder, write_checkpoint, write_json
from numroberta.model.sentence import MODEL_SETTINGS, TEXT_SETTINGS
from numroberta.tokenizer import Tokenizer


def save_folder(checkpoint: Checkpoint, tokenizer: Tokenizer, max_length: int, folder: Path, dtype: str | None) -> None:
    """Write config, weights and tokenizer, and what a sentence-transformers folder says beside them.

    Args:
        checkpoint: Where everything comes from.
        tokenizer: Its tokenizer.
        max_length: The most tokens of a text that the folder will say.
        folder: The new folder; it appears under its name when it is complete.
        dtype: What the weights are rounded to; None for what they have in their file, or float32 where they have
            several.
    """
    kept = "float32" if "+" in checkpoint.dtype else checkpoint.dtype
    with new_folder(folder) as partial:
        write_checkpoint(partial, checkpoint.tensors, checkpoint.config, dtype or kept)
        tokenizer.save(partial)
        if (checkpoint.folder / "modules.json").is_file():
            _copy_sentence_files(checkpoint, partial, max_length)


def _copy_sentence_files(checkpoint: Checkpoint, folder: Path, max_length: int) -> None:
    """What sentence-transformers wrote beside the encoder: its modules, prompts and lengths."""
    modules = load_json(checkpoint.folder / "modules.json", list)
    for module in modules[1:]:
        if (checkpoint.folder / module["path"]).is_dir():
            shutil.copytree(checkpoint.folder / module["path"], folder / module["path"])
    modules[0] = {**modules[0], "path": ""}  # the encoder, which early folders have in 0_Transformer
    write_json(folder / "modules.json", modules)
    texts = next((path for name in TEXT_SETTINGS if (path := checkpoint.model_folder / name).is_file()), None)
    values = load_json(texts, dict) if texts else {"do_lower_case": False}
    write_json(folder / TEXT_SETTINGS[0], {**values, "max_seq_length": max_length})
    if (checkpoint.folder / MODEL_SETTINGS).is_file():
        shutil.copyfile(checkpoint.folder / MODEL_SETTINGS, folder / MODEL_SETTINGS)
