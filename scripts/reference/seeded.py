"""Full-size DistilRoBERTa weights from a fixed rule, so that nothing of 330 MB needs to be downloaded or committed.

`python scripts/reference/seeded.py FOLDER` writes a checkpoint folder: config.json, model.safetensors, and the
tokenizer of `tiny`, whose tokens are the first of the many that this model has.  It has the geometry of
distilroberta-base and the two habits of trained RoBERTa that make rounding errors visible: peaked attention, and a few
hidden dimensions that are ten times larger than the rest.
"""

from __future__ import annotations

import argparse
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from numroberta.checkpoint import find_folder, write_safetensors

DISTILROBERTA: dict[str, Any] = {
    "architectures": ["RobertaForMaskedLM"],
    "model_type": "roberta",
    "vocab_size": 50265,
    "hidden_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "tie_word_embeddings": True,
}

HUGE_DIMENSIONS = {77: -4.0, 588: 12.0}  # in trained roberta-base two dimensions of every hidden state stand out so
PEAK = 1.8  # on queries and keys: scores of standard deviation 3, so that a head looks at a few tokens


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of RobertaForMaskedLM plus the pooler, by name."""
    d, wide, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    result: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (vocab, d),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], d),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], d),
    }

    def linear(name: str, out: int, inner: int) -> None:
        result[f"{name}.weight"], result[f"{name}.bias"] = (out, inner), (out,)

    def norm(name: str) -> None:
        result[f"{name}.weight"], result[f"{name}.bias"] = (d,), (d,)

    norm("embeddings.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}", d, d)
        linear(f"{layer}.attention.output.dense", d, d)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", wide, d)
        linear(f"{layer}.output.dense", d, wide)
        norm(f"{layer}.output.LayerNorm")
    linear("pooler.dense", d, d)
    linear("lm_head.dense", d, d)
    norm("lm_head.layer_norm")
    result["lm_head.bias"] = (vocab,)
    return result


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 tensor of this name: RandomState, whose stream NumPy has frozen, seeded with the name's CRC-32."""
    draw = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if "norm" in name.lower():
        draw = 0.05 * draw + (0.8 if name.endswith("weight") else 0.0)
        if name.endswith("output.LayerNorm.bias"):
            for dimension, value in HUGE_DIMENSIONS.items():
                if dimension < len(draw):
                    draw[dimension] += value
        return draw.astype(np.float32)
    draw *= np.float32(0.04 if len(shape) == 2 else 0.02)
    if name.endswith(("query.weight", "key.weight")):
        draw *= np.float32(PEAK)
    return draw


def weights(config: dict[str, Any] = DISTILROBERTA) -> dict[str, np.ndarray]:
    """All tensors of this geometry, by name: about three seconds for the full size."""
    return {name: tensor(name, shape) for name, shape in shapes(config).items()}


def write(folder: Path, config: dict[str, Any] = DISTILROBERTA) -> Path:
    """A checkpoint folder with these weights, named as transformers' save_pretrained names them, and a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {name if name.startswith("lm_head.") else f"roberta.{name}": t for name, t in weights(config).items()}
    write_safetensors(folder / "model.safetensors", named, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(find_folder("tiny") / name, folder)
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--config", type=json.loads, default={}, help='other sizes, as JSON: {"num_hidden_layers": 4}')
    options = parser.parse_args()
    print(write(options.folder, DISTILROBERTA | options.config))
