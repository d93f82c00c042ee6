"""How many planted mistakes `numroberta compare` names: mistakes of tests/parity/hooked_roberta.py, one at a time.

    python scripts/reference/plant_mistakes.py [--model tiny|small|deep|odd] [--layers 0 2] [--from all last vector]

For each: named, half (among mistakes with the same numbers), misnamed, or not named; from all activations, from
last_hidden_state alone, from the sentence embedding alone.  No code is shared with the catalogue of mistakes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "parity")]

GEOMETRIES: dict[str, dict[str, int]] = {
    "small": {},
    "odd": {"hidden_size": 30, "num_attention_heads": 5, "intermediate_size": 37, "num_hidden_layers": 3},
    "deep": {"num_hidden_layers": 12},
}
TEXTS = ["The rest and others, in a garden of roses", "one", "a third text stands here"]


def main() -> None:
    import random_model

    import numroberta
    from numroberta import parity

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small", choices=["tiny", *GEOMETRIES])
    parser.add_argument("--layers", type=int, nargs="*", help="plant in these layers alone (default: everywhere)")
    parser.add_argument("--only", help="plants with this in their name")
    parser.add_argument("--from", dest="views", nargs="*", default=["all", "last", "vector"])
    options = parser.parse_args()
    heads = ("pooler", "masked language model", "sequence classification")
    folder: Any = "tiny"
    if options.model != "tiny":
        folder = random_model.write(Path(tempfile.mkdtemp()), *heads, **GEOMETRIES[options.model])
    model = numroberta.load(folder, dtype="float64")
    ids, mask = parity.batch(model, TEXTS)
    reference = parity.trace(model, ids, mask)
    for layer in options.layers or [None]:
        score(model, ids, mask, reference, layer, options)


def score(model: Any, ids: Any, mask: Any, reference: Any, layer: int | None, options: argparse.Namespace) -> None:
    from hooked_roberta import AFTER_THE_LAST_STATE, PLANTS, SEEN_IN_VECTORS_ONLY

    config = model.config
    weights = {name: tensor.astype(np.float64) for name, tensor in model.checkpoint.tensors.items()}
    counts: dict[str, Counter[str]] = {view: Counter() for view in options.views}
    last = f"encoder.layer.{config.num_hidden_layers - 1}.output"
    for name, plant in PLANTS.items():
        if (layer is not None and not plant.layered) or (options.only and options.only not in name):
            continue
        try:
            acts = plant.run(
                weights, config.num_attention_heads, config.layer_norm_eps, config.pad_token_id, ids, mask, layer
            )
        except KeyError:
            continue  # a head that this model does not have
        final = max((each for each in acts if each.endswith(".output") and each.count(".") == 3),
                    key=lambda each: int(each.split(".")[2]))  # fmt: skip
        shared = {key: value for key, value in acts.items() if key in reference or key.startswith("encoder.layer")}
        views = {
            "all": shared,
            "last": {"last_hidden_state": acts[final]},
            "vector": {"sentence_embedding": acts["sentence_embedding"]},
        }
        for view in options.views:
            if (view != "all" and name in AFTER_THE_LAST_STATE) and not (
                view == "vector" and name in SEEN_IN_VECTORS_ONLY
            ):
                continue
            before = time.process_time()
            comparison = parity_compare(reference, views[view], model)
            seconds = time.process_time() - before
            verdict, said = judged(comparison, plant, last)
            counts[view][verdict] += 1
            if verdict != "named" or seconds > 6:
                print(f"{view:6s} {verdict:9s} {seconds:5.1f} s  {name}: {said}", flush=True)
    where = "in every layer" if layer is None else f"in layer {layer} only"
    for view, count in counts.items():
        total = sum(count.values())
        if total:
            print(f"{options.model}, {where}, from {view}: {count['named']} of {total} named "
                  f"({count['named'] / total:.0%}), {dict(count)}", flush=True)  # fmt: skip


def parity_compare(reference: Any, mine: Any, model: Any) -> Any:
    from numroberta import parity

    return parity.compare(reference, mine, model=model.checkpoint)


def judged(comparison: Any, plant: Any, last: str) -> tuple[str, str]:
    diagnosis = comparison.diagnosis
    if comparison.alike:
        return "alike", comparison.remark
    if diagnosis is None or diagnosis.mistake is None:
        return "not named", f"{comparison.first.name if comparison.first else ''} {comparison.remark}"
    said = f"{diagnosis.mistake} [{diagnosis.where}]"
    if plant.words.search(diagnosis.mistake):
        return "named", said
    if any(plant.words.search(other) for other in diagnosis.others):
        return "half", f"{said}; also {diagnosis.others}"
    return "misnamed", said


if __name__ == "__main__":
    main()
