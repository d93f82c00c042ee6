"""How good a small RoBERTa is, measured with numroberta itself: the figures of `numroberta/tiny/README.md`.

    python scripts/tiny/evaluate.py --corpus ../shared/corpus --sts ../shared/sts/sts-{dev,train}.csv [--model tiny]

The linear model on frozen vectors is `python scripts/evaluation/glue.py --task sst2 --probe --data SST-2/train.tsv`.
"""

import argparse
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
from tiny_data import read_lines

import numroberta
from numroberta import TextEncoder
from numroberta.arithmetic import heads
from numroberta.training.metrics import spearman

SENTENCES = [
    "A man is playing a guitar.",
    "Someone plays music on an instrument.",
    "The cat is sleeping on the sofa.",
    "A small dog runs across the grass.",
    "It will rain tomorrow.",
    "The weather is bad today.",
    "She cooked dinner for her family.",
    "They ate a meal in the kitchen.",
    "The government raised taxes last year.",
    "Congress passed a new law on spending.",
]
BLANKS = [
    "The sky is <mask>.",
    "The capital of France is <mask>.",
    "She opened the <mask> and went out.",
    "He drank a cup of <mask>.",
    "I am very <mask> to see you.",
    "The king and the <mask> lived in a castle.",
    "The children played in the <mask>.",
    "It was a dark and stormy <mask>.",
    "The President of the United <mask> spoke to Congress.",
    "A horse is a large <mask>.",
]


def sts_spearman(encoder: TextEncoder, path: Path) -> float:
    """Spearman's correlation of cosines with people's scores of likeness."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    left, right = (encoder.encode([row[i].strip() for row in rows], normalize_embeddings=True) for i in (5, 6))
    cosines = (left * right).sum(axis=1)  # (n, hidden) -> (n,)
    scores = np.array([float(row[4]) for row in rows])
    return spearman(scores, cosines.astype(np.float64))


def masked_accuracy(encoder: TextEncoder, lines: list[str], seed: int) -> tuple[float, float, int]:
    """Share of masked tokens that are the first, and among the first five, of the answers; and how many were masked.

    15 % of each line's tokens, never <s> or </s>, are replaced by <mask>.
    """
    rng = np.random.default_rng(seed)
    mask = encoder.tokenizer.mask_token_id
    assert mask is not None
    top1 = top5 = count = 0
    encoded, _ = encoder.tokenizer.encode_ids(lines, max_length=encoder.max_length)
    for line in encoded:
        ids = np.array(line)
        chosen = rng.random(len(ids)) < 0.15
        chosen[[0, -1]] = False
        if not chosen.any():
            continue
        hidden = encoder.model(np.where(chosen, mask, ids)[None]).last_hidden_state[0, chosen]  # (masked, hidden)
        logits = heads.masked_lm(encoder.model.layers, hidden.T.copy())
        best = np.argpartition(-logits, 5, axis=0)[:5]  # (vocabulary, masked) -> (5, masked)
        top1 += int((logits.argmax(axis=0) == ids[chosen]).sum())
        top5 += int((best == ids[chosen]).any(axis=0).sum())
        count += int(chosen.sum())
    return top1 / count, top5 / count, count


def texts_per_second(encoder: TextEncoder, texts: list[str]) -> float:
    encoder.encode(texts[:100])
    start = time.perf_counter()
    encoder.encode(texts)
    return len(texts) / (time.perf_counter() - start)


def print_neighbours(encoder: TextEncoder) -> None:
    vectors = encoder.encode(SENTENCES, normalize_embeddings=True)
    cosines = vectors @ vectors.T - 2 * np.eye(len(vectors))  # a sentence is no neighbour of its own
    for sentence, row in zip(SENTENCES, cosines, strict=True):
        print(f"  {sentence}  ->  {SENTENCES[row.argmax()]}  ({row.max():.2f})")


def print_cloze(encoder: TextEncoder) -> None:
    for blank in BLANKS:
        answers = cast("list[dict[str, Any]]", encoder.fill_mask(blank, top_k=5))  # one mask, so no list of lists
        print(f"  {blank}  ->  " + ", ".join(f"{a['token_str'].strip()} {a['score']:.2f}" for a in answers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="the folder that the model was trained on")
    parser.add_argument(
        "--sts", type=Path, required=True, nargs="+", help="sts-dev.csv of the STS Benchmark, and others"
    )
    parser.add_argument("--model", default="tiny", help="a folder or a name")
    parser.add_argument("--seed", type=int, default=0, help="which tokens are masked")
    options = parser.parse_args()
    encoder = numroberta.load(options.model)

    for path in options.sts:
        print(f"{path.stem}, Spearman of cosines: {sts_spearman(encoder, path):.4f}")
    held = [line for _, line in read_lines(options.corpus, held=True)]
    top1, top5, count = masked_accuracy(encoder, held, options.seed)
    print(f"masked tokens of {len(held)} held-out lines, top 1 / top 5: {top1:.4f} / {top5:.4f} ({count} masked)")
    mixed = [line for stem, line in read_lines(options.corpus, held=False) if stem == "mixed"][:5000]
    rate, threads = texts_per_second(encoder, mixed), encoder.model.num_threads
    print(f"texts per second, {len(mixed)} lines of mixed.txt, {threads} threads: {rate:.0f}")
    print("nearest of ten sentences:")
    print_neighbours(encoder)
    print("answers to ten blanks:")
    print_cloze(encoder)


if __name__ == "__main__":
    main()
