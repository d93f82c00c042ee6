"""What can be learnt: of each task its head, the tokens that the head reads, and the loss of what it says.

An `Example` is a text as the network reads it, with what is to be learnt of it; `numroberta.training.examples` makes
them of texts and labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import normalize
from numroberta.checkpoint import MASKED_LM, SEQUENCE, SPAN, TOKEN
from numroberta.training import heads, losses, metrics
from numroberta.training.network import Network

Array = NDArray[Any]

FIRST = np.zeros(1, np.int64)  # the place of <s>
SINGLE, SEVERAL, REGRESSION = "single_label_classification", "multi_label_classification", "regression"


class Example(NamedTuple):
    """A text and what is to be learnt of it."""

    ids: Array  # (tokens,)
    target: Any  # see each task
    types: Array | None = None  # (tokens,), 1 in the second text of BERT's pairs; None: all 0


@dataclass(frozen=True)
class Classify:
    """Labels of a text or a pair, from its first token; `transformers.RobertaForSequenceClassification`.

    labels: their names, in the order of the logits.  problem_type: that of transformers' config: one label of several,
    any of them, or a number.  A target is accordingly a label's number, (labels,) zeros and ones, or a number.
    """

    labels: tuple[str, ...]
    problem_type: str = SINGLE
    head = SEQUENCE

    def wanted(self, example: Example) -> Array:
        return FIRST

    def logits(self, net: Network, x: Array) -> Array:
        return heads.sequence(net, x)

    def count(self, examples: Sequence[Example]) -> int:
        """How many terms the loss is a mean of."""
        return len(examples)

    def loss(self, net: Network, x: Array, examples: Sequence[Example], total: float) -> tuple[float, Array]:
        """These texts' share of the loss, and its gradient with respect to x, the states of their wanted tokens."""
        logits = self.logits(net, x)
        targets = np.array([example.target for example in examples])
        if self.problem_type == SINGLE:
            loss, dlogits = losses.cross_entropy(logits, targets, total)
        elif self.problem_type == SEVERAL:
            loss, dlogits = losses.binary_cross_entropy(logits, targets.T.astype(logits.dtype), total)
        else:
            loss, dlogits = losses.squared_error(logits, targets[None].astype(logits.dtype), total)
        return loss, heads.sequence_backward(net, dlogits)

    def score(self, logits: Sequence[Array], examples: Sequence[Example]) -> dict[str, float]:
        """Measures by name of what was said of each text, (labels, 1) each; the first one decides."""
        gold, said = np.array([example.target for example in examples]), np.concatenate(logits, axis=1)
        if self.problem_type == REGRESSION:
            return {"spearman": metrics.spearman(gold, said[0]), "pearson": metrics.pearson(gold, said[0])}
        if self.problem_type == SEVERAL:
            return {"f1": metrics.f1(gold.T, said > 0)}
        found = said.argmax(axis=0)
        scores = {"accuracy": metrics.accuracy(gold, found), "matthews": metrics.matthews(gold, found)}
        return scores | {"f1": metrics.f1(gold, found)} if len(self.labels) == 2 else scores


class PerToken:
    """What tasks with a target for each token have in common: −100 stands where there is none."""

    def wanted(self, example: Example) -> Array:
        return np.flatnonzero(example.target != -100)

    def count(self, examples: Sequence[Example]) -> int:
        return sum(len(self.labels_of(example)) for example in examples)

    def labels_of(self, example: Example) -> Array:
        return example.target[example.target != -100]


@dataclass(frozen=True)
class Tag(PerToken):
    """A label for each token; `transformers.RobertaForTokenClassification`.

    A target is (tokens,) label numbers, −100 where there is none.
    """

    labels: tuple[str, ...]
    head = TOKEN

    def logits(self, net: Network, x: Array) -> Array:
        return heads.token(net, x)

    def loss(self, net: Network, x: Array, examples: Sequence[Example], total: float) -> tuple[float, Array]:
        labels = np.concatenate([self.labels_of(example) for example in examples])
        loss, dlogits = losses.cross_entropy(self.logits(net, x), labels, total)
        return loss, heads.token_backward(net, dlogits)

    def score(self, logits: Sequence[Array], examples: Sequence[Example]) -> dict[str, float]:
        """Of the tokens of both kinds: F1 of those that have another label than O, and accuracy."""
        gold = np.concatenate([self.labels_of(example) for example in examples])
        found = np.concatenate([said.argmax(axis=0) for said in logits])
        outside = self.labels.index("O") if "O" in self.labels else -1
        hits = np.sum((gold == found) & (gold != outside))
        f1 = 2 * hits / max(1, np.sum(gold != outside) + np.sum(found != outside))
        return {"f1": float(f1), "accuracy": metrics.accuracy(gold, found)}


@dataclass(frozen=True)
class MaskedLM(PerToken):
    """The tokens that were masked; `transformers.RobertaForMaskedLM`.  A target is (tokens,) ids, −100 elsewhere."""

    head = MASKED_LM

    def logits(self, net: Network, x: Array) -> Array:
        return heads.masked_lm(net, x)

    def loss(self, net: Network, x: Array, examples: Sequence[Example], total: float) -> tuple[float, Array]:
        labels = np.concatenate([self.labels_of(example) for example in examples])
        loss, dlogits = losses.cross_entropy(self.logits(net, x), labels, total)
        return loss, heads.masked_lm_backward(net, dlogits)

    def score(self, logits: Sequence[Array], examples: Sequence[Example]) -> dict[str, float]:
        """The mean of log P(token), and how often the likeliest token is the right one."""
        gold, said = np.concatenate([self.labels_of(example) for example in examples]), np.concatenate(logits, axis=1)
        loss, _ = losses.cross_entropy(said, gold, len(gold))
        return {"log likelihood": -loss, "accuracy": metrics.accuracy(gold, said.argmax(axis=0))}


@dataclass(frozen=True)
class Answer:
    """Where an answer starts and ends; `transformers.RobertaForQuestionAnswering`.

    A target is (2,), the places of its first and last token; 0, 0 says that this window has no answer.
    """

    head = SPAN

    def logits(self, net: Network, x: Array) -> Array:
        return heads.span(net, x)

    def count(self, examples: Sequence[Example]) -> int:
        return len(examples)

    def loss(self, net: Network, x: Array, examples: Sequence[Example], total: float) -> tuple[float, Array]:
        lengths = [len(example.ids) for example in examples]
        spans = np.array([example.target for example in examples])
        loss, dlogits = losses.span_cross_entropy(self.logits(net, x), lengths, spans, total)
        return loss, heads.span_backward(net, dlogits)

    def score(self, logits: Sequence[Array], examples: Sequence[Example]) -> dict[str, float]:
        """F1 of the tokens of the likeliest span, and how often it is the right one; of each window."""
        exact, shared = [], []
        for said, example in zip(logits, examples, strict=True):
            (start, end), (first, last) = said.argmax(axis=1), example.target
            overlap = max(0, min(end, last) - max(start, first) + 1)
            exact.append(start == first and end == last)
            shared.append(2 * overlap / (max(end - start + 1, 0) + last - first + 1))
        return {"f1": float(np.mean(shared)), "exact match": float(np.mean(exact))}


@dataclass(frozen=True)
class Embed:
    """Vectors that are alike where texts are: pairs with a score (cosine similarity), or pairs that belong together.

    scored: the loss is `CosineSimilarityLoss`, else `MultipleNegativesRankingLoss`, of sentence-transformers.
    pooling: "mean" or "cls", how a text's tokens become its vector.
    A target is (ids of the second text, score).
    """

    scored: bool
    pooling: str = "mean"
    head = None

    def joint_loss(self, vectors: Array, examples: Sequence[Example]) -> tuple[float, Array]:
        """(hidden, 2 b), the first texts' vectors and then the second ones', -> (loss, its gradient)."""
        u, v = np.split(vectors, 2, axis=1)
        if self.scored:
            scores = np.array([example.target[1] for example in examples], vectors.dtype)
            loss, du, dv = losses.cosine_similarity(u, v, scores)
        else:
            loss, du, dv = losses.multiple_negatives_ranking(u, v)
        return loss, np.concatenate([du, dv], axis=1)

    def score(self, vectors: Array, examples: Sequence[Example]) -> dict[str, float]:
        """Of pairs with a score the rank correlation first, else how often the right text is the most alike.

        vectors: (2 b, hidden), of length 1, the first texts' and then the second ones'.
        """
        u, v = np.split(vectors, 2)
        if self.scored:
            gold, found = np.array([example.target[1] for example in examples]), (u * v).sum(axis=1)
            return {"spearman": metrics.spearman(gold, found), "pearson": metrics.pearson(gold, found)}
        return {"accuracy": metrics.accuracy(np.arange(len(u)), (u @ v.T).argmax(axis=1))}


@dataclass(frozen=True)
class Distill:
    """Vectors that a teacher gave (Hinton et al. 2015; Reimers & Gurevych 2020): to point where they point, and to be
    as alike among themselves as they are.

    temperature, similarity: see `losses.distillation`; similarity 0: each vector is learnt for itself.
    pooling: "mean" or "cls", how a text's tokens become its vector.
    A target is (hidden,), the teacher's vector brought to the model's width.
    """

    temperature: float = 0.05
    similarity: float = 1.0
    pooling: str = "mean"
    head = None

    def joint_loss(self, vectors: Array, examples: Sequence[Example]) -> tuple[float, Array]:
        """(hidden, b) -> (loss, its gradient)."""
        return losses.distillation(vectors, self.targets(examples, vectors.dtype), self.temperature, self.similarity)

    def targets(self, examples: Sequence[Example], dtype: Any) -> Array:
        """The teacher's vectors with length 1, (hidden, b)."""
        return normalize(np.array([example.target for example in examples], dtype)).T

    def score(self, vectors: Array, examples: Sequence[Example]) -> dict[str, float]:
        """Of all pairs of texts the rank correlation of cosines, and the mean cosine of a vector with its teacher's.

        vectors: (b, hidden), of length 1.
        """
        targets = self.targets(examples, vectors.dtype).T
        pairs = np.triu_indices(len(vectors), 1)
        ranks = metrics.spearman((targets @ targets.T)[pairs], (vectors @ vectors.T)[pairs])
        return {"spearman": ranks, "cosine": float((vectors * targets).sum(axis=1).mean())}


Joint = Embed | Distill  # whose loss needs the vectors of all texts at once
Task = Classify | Tag | MaskedLM | Answer | Joint
