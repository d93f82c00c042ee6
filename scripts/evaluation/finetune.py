"""Small fine-tuned checkpoints, to see every head at work: minutes on a CPU, and as good as minutes make them.

    python scripts/evaluation/finetune.py classify --data SST-2/train.tsv --out FOLDER # sentiment, and held-out.tsv
    python scripts/evaluation/finetune.py tag --data books.txt --out FOLDER            # names, from capital letters
    python scripts/evaluation/finetune.py answer --data books.txt --out FOLDER         # which name a line holds

Each starts from the built-in model (or --model FOLDER) and trains all of it.  Needs torch and transformers.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import glue
import numpy as np

from numroberta.checkpoint import find_folder
from numroberta.tokenizer import Tokenizer

try:
    import torch
    import transformers
except ImportError as error:
    raise SystemExit(f"this needs {error.name}: run `pip install '.[parity]'`") from None

HEADS = {
    "classify": (transformers.AutoModelForSequenceClassification, {0: "negative", 1: "positive"}),
    "tag": (transformers.AutoModelForTokenClassification, {0: "O", 1: "B-NAME", 2: "I-NAME"}),
    "answer": (transformers.AutoModelForQuestionAnswering, {0: "LABEL_0", 1: "LABEL_1"}),
}
NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+(?: [A-Z][a-z]+)*")  # not at the start of a sentence
MOST_TOKENS = 96
Example = dict[str, list[int]]


def sentiments(path: Path, tokenizer: Tokenizer, out: Path) -> list[Example]:
    """GLUE's rows but for the tenth that `glue.probe` holds out, which is written to `held-out.tsv`."""
    rows = glue.read_rows(path, "sst2")
    order = np.random.default_rng(0).permutation(len(rows.texts)).tolist()
    cut = len(order) // 10
    held = "".join(f"{rows.texts[i][0]}\t{int(rows.labels[i])}\n" for i in order[:cut])
    (out / "held-out.tsv").write_text("sentence\tlabel\n" + held, "utf-8")
    ids, _ = tokenizer.encode_ids([rows.texts[i][0] for i in order[cut:]], max_length=MOST_TOKENS)
    return [{"input_ids": row, "labels": [int(rows.labels[i])]} for row, i in zip(ids, order[cut:], strict=True)]


def lines_with_names(path: Path) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """Lines of novels, and where their names stand: a run of capitalized words inside a sentence is a name."""
    for line in path.read_text("utf-8").splitlines():
        spans = [match.span() for match in NAME.finditer(line)]
        if spans and 40 < len(line) < 300:
            yield line, spans


def names(path: Path, tokenizer: Tokenizer) -> Iterator[Example]:
    """Lines with names, and a label for each token."""
    for line, spans in lines_with_names(path):
        encoding = tokenizer(line, max_length=MOST_TOKENS)
        labels = []
        for (start, stop), special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True):
            span = next(((a, b) for a, b in spans if start < b and a < stop), None)
            labels.append(-100 if special else 0 if span is None else 1 if start <= span[0] else 2)
        yield {"input_ids": encoding.ids, "labels": labels}


def questions(path: Path, tokenizer: Tokenizer) -> Iterator[Example]:
    """Lines with one name, and the question which."""
    for line, spans in lines_with_names(path):
        if len(spans) > 1:
            continue
        ((start, stop),) = spans
        encoding = tokenizer("Who is named here?", line, max_length=MOST_TOKENS, truncation="only_second")
        inside = [
            i
            for i, ((a, b), side) in enumerate(zip(encoding.offsets, encoding.sequence_ids, strict=True))
            if side == 1 and a < stop and start < b
        ]
        if inside:
            yield {"input_ids": encoding.ids, "start_positions": [inside[0]], "end_positions": [inside[-1]]}


def batch(examples: list[Example], pad: int) -> dict[str, Any]:
    """Rows of one length: padding has the id `pad`, no attention and no label."""
    longest = max(len(example["input_ids"]) for example in examples)
    rows: dict[str, Any] = {}
    for key in examples[0]:
        fill = pad if key == "input_ids" else -100
        width = 1 if len(examples[0][key]) == 1 else longest
        rows[key] = torch.tensor([example[key] + [fill] * (width - len(example[key])) for example in examples])
        rows[key] = rows[key].squeeze(1) if width == 1 else rows[key]
    rows["attention_mask"] = (torch.arange(longest) < torch.tensor([[len(e["input_ids"])] for e in examples])).long()
    return rows


def train(model: Any, examples: list[Example], steps: int, size: int, pad: int, rng: random.Random) -> None:
    """AdamW; the rate rises for a tenth of the steps and falls to zero."""
    rate = 4e-4
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    model.train()
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min((step + 1) / (steps / 10), (steps - step) / (steps * 0.9))
        loss = model(**batch(rng.sample(examples, size), pad)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            print(f"step {step + 1:4d} of {steps}: loss {np.mean(losses[-50:]):.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("head", choices=HEADS)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    rng = random.Random(0)
    folder = find_folder(options.model)
    tokenizer = Tokenizer.load(folder)
    if options.head == "classify":
        examples = sentiments(options.data, tokenizer, options.out)
    elif options.head == "tag":
        examples = list(names(options.data, tokenizer))
    else:
        examples = list(questions(options.data, tokenizer))
    auto, labels = HEADS[options.head]
    model = auto.from_pretrained(folder, id2label=labels, dtype=torch.float32)
    train(model, examples, options.steps, options.batch_size, int(tokenizer.pad_token_id or 0), rng)
    model.save_pretrained(options.out)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json"):
        if (folder / name).is_file():
            (options.out / name).write_bytes((folder / name).read_bytes())
    print(options.out)


if __name__ == "__main__":
    main()
