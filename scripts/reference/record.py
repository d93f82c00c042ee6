"""Record what PyTorch computes, so that the tests can hold numroberta against it where PyTorch is not installed.

    pip install -e '.[parity]' && python scripts/reference/record.py      # writes tests/reference/*.safetensors

Run it again whenever the built-in model changes. The files are recordings as `numroberta trace` writes them (a subset:
`numroberta compare tests/reference/tiny.safetensors mine.npz` works): transformers in float64 on a dozen texts, every
hidden state (`embeddings`, `encoder.layer.N.output`), every attention (`encoder.layer.N.attention.probs`) and `pooler`
where the checkpoint has one, all in float64 and zero at padding, so that 1e-12 can be told from equal. Texts are short
because all files together stay below 6 MB. PyTorch's float32 is not stored, only how far it is from its float64: the
metadata's `float32_error` gives {name: [largest, root mean square]} over real tokens (for `pooler`, which transformers
computes from position 0, over the texts that have a token there).

- `tiny`: the built-in model.
- `full-size`: DistilRoBERTa's geometry with the weights of `seeded.py`; padding on both sides, and a hole.
- `full-size-512`: one text of 512 tokens; `pooler` alone, to which every token of every layer contributes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import seeded

import numroberta
from numroberta.checkpoint import open_checkpoint
from numroberta.parity import save

Tensors = dict[str, np.ndarray]

PACKAGES = ("torch", "transformers")
FOLDER = Path(__file__).parents[2] / "tests" / "reference"

TEXTS = [
    "Hello world",
    "A man is playing a guitar.",
    "Paris is the<mask> of France.",
    "",
    "the the the the the the",
    "Zoë 👩‍👩",
    "1,000½ + 2",
    "don't",
    " two  spaces\n",
    'He said: "No."',
    "naïveté",
    "It rained.",
]
LONGEST = 9  # tokens of these texts that are kept
FULL_SIZE_LENGTHS = [7, 7, 7, 6, 6, 5, 4, 3, 2, 1, 7, 7]


def tiny_inputs() -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask of TEXTS, (12, LONGEST), padded on the right."""
    tokenizer = numroberta.load("tiny").tokenizer
    rows = [tokenizer(text, max_length=LONGEST).ids for text in TEXTS]
    mask = np.arange(LONGEST) < np.array([[len(row)] for row in rows])
    ids = np.full(mask.shape, tokenizer.pad_token_id)
    ids[mask] = np.concatenate(rows)
    return ids, mask.astype(np.int64)


def full_size_inputs() -> tuple[np.ndarray, np.ndarray]:
    """Random ids between <s> and </s>; the last text but one is padded on the left, the last one has a hole."""
    longest = max(FULL_SIZE_LENGTHS)
    ids = np.random.RandomState(0).randint(3, 50_000, (len(FULL_SIZE_LENGTHS), longest))
    mask = np.arange(longest) < np.array(FULL_SIZE_LENGTHS)[:, None]
    mask[-2] = np.arange(longest) >= 3
    mask[-1, 2:4] = False
    for row, real in zip(ids, mask, strict=True):
        tokens = np.flatnonzero(real)
        row[tokens[-1]], row[tokens[0]] = 2, 0
    ids[:-1][~mask[:-1]] = 1  # what lies in the hole of the last text is a token that nobody may look at
    return ids, mask.astype(np.int64)


def long_inputs() -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.RandomState(1).randint(3, 50_000, (1, 512))
    ids[0, 0], ids[0, -1] = 0, 2
    return ids, np.ones_like(ids)


def pytorch(folder: Path, ids: np.ndarray, mask: np.ndarray, dtype: str) -> dict[str, np.ndarray]:
    """Hidden states, attentions and pooled output of transformers' RobertaModel, by module path; zero at padding."""
    import torch
    import transformers

    has_pooler = "pooler.dense.weight" in open_checkpoint(folder).tensors
    model = transformers.RobertaModel.from_pretrained(
        folder, attn_implementation="eager", add_pooling_layer=has_pooler
    ).to(getattr(torch, dtype))
    with torch.inference_mode():
        out = model.eval()(
            torch.tensor(ids), torch.tensor(mask), output_hidden_states=True, output_attentions=True, return_dict=True
        )
    real = mask.astype(bool)
    pairs = real[:, None, :, None] & real[:, None, None, :]  # (b, n) -> (b, 1, n queries, n keys)
    found = {"embeddings": out.hidden_states[0].numpy() * real[..., None]}
    for layer, (probs, hidden) in enumerate(zip(out.attentions, out.hidden_states[1:], strict=True)):
        found[f"encoder.layer.{layer}.attention.probs"] = probs.numpy() * pairs
        found[f"encoder.layer.{layer}.output"] = hidden.numpy() * real[..., None]
    if has_pooler:
        found["pooler"] = out.pooler_output.numpy()
    return found


def errors(found: dict[str, np.ndarray], exact: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, list[float]]:
    """How far each tensor is from the exact one, {name: [largest, root mean square]}, over real tokens."""
    real = np.asarray(mask).astype(bool)
    where = {2: real[:, 0], 3: real, 4: real[:, None, :, None] & real[:, None, None, :]}
    result = {}
    for name in exact:
        chosen = where[exact[name].ndim]
        if exact[name].ndim == 4:
            chosen = np.broadcast_to(chosen, exact[name].shape)
        difference = (found[name].astype(np.float64) - exact[name])[chosen]
        result[name] = [float(np.abs(difference).max()), float(np.sqrt(np.mean(difference**2)))]
    return result


def record(
    folder: Path, name: str, ids: np.ndarray, mask: np.ndarray, texts: list[str]
) -> tuple[Tensors, dict[str, str]]:
    """(tensors, metadata) of one recording."""
    import torch
    import transformers

    exact = pytorch(folder, ids, mask, "float64")
    metadata = {
        "model": name,
        "weights_sha256": open_checkpoint(folder).weights_hash,
        "dtype": "float64",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "texts": json.dumps(texts, ensure_ascii=False),
        "float32_error": json.dumps(errors(pytorch(folder, ids, mask, "float32"), exact, mask)),
    }
    return {"input_ids": ids, "attention_mask": mask, **exact}, metadata


def record_tiny() -> tuple[Tensors, dict[str, str]]:
    return record(open_checkpoint("tiny").model_folder, "tiny", *tiny_inputs(), TEXTS)


def record_full_size() -> tuple[Tensors, dict[str, str]]:
    with full_size() as folder:
        return record(folder, "scripts/reference/seeded.py", *full_size_inputs(), [])


def record_long() -> tuple[Tensors, dict[str, str]]:
    with full_size() as folder:
        tensors, metadata = record(folder, "scripts/reference/seeded.py", *long_inputs(), [])
    kept = ("input_ids", "attention_mask", "pooler")
    metadata["float32_error"] = json.dumps({"pooler": json.loads(metadata["float32_error"])["pooler"]})
    return {name: tensors[name] for name in kept}, metadata


@contextmanager
def full_size() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield seeded.write(Path(folder))


RECORDINGS: dict[str, Callable[[], tuple[dict[str, Any], dict[str, str]]]] = {
    "tiny": record_tiny,
    "full-size": record_full_size,
    "full-size-512": record_long,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(RECORDINGS), help=f"of {', '.join(RECORDINGS)} (default: all)")
    names = parser.parse_args().names
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise SystemExit(f"this needs {' and '.join(missing)}: run `pip install '.[parity]'`")
    FOLDER.mkdir(exist_ok=True)
    for chosen in names:
        path = FOLDER / f"{chosen}.safetensors"
        save(path, *RECORDINGS[chosen]())
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
