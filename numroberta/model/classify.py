"""Labels of texts or pairs, with their scores, by the rules of transformers' `TextClassificationPipeline`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import TextInput, fixed_order, heads, one_of
from numroberta.checkpoint import RobertaConfig
from numroberta.model.blocks import blocks, characters, with_positions, with_types
from numroberta.model.options import check_whole
from numroberta.model.texts import TextOrPair, check_text, check_text_or_pair, texts_of, warn_of_cuts

if TYPE_CHECKING:
    from numroberta.model.text_encoder import TextEncoder

Array = NDArray[Any]

FUNCTIONS = ("sigmoid", "softmax", "none")
ACTIVATIONS = {"Sigmoid": "sigmoid", "Softmax": "softmax", "Identity": "none"}  # of torch.nn


class LabelScore(TypedDict):
    """A label and its score, as transformers' pipeline gives them."""

    label: str
    score: float


def classify(
    encoder: TextEncoder,
    texts: TextOrPair | Iterable[TextOrPair],
    top_k: int | None,
    function_to_apply: str | None,
    batch_size: int,
) -> list[Any]:
    """What `TextEncoder.classify` returns."""
    heads.require(encoder.checkpoint, heads.SEQUENCE)
    if top_k is not None:
        check_whole("top_k", top_k, 1)
    if function_to_apply is not None:
        one_of("function_to_apply", function_to_apply, FUNCTIONS, also=", or None")
    check_whole("batch_size", batch_size, 1)
    function = function_to_apply or cross_encoders_function(encoder)
    single = isinstance(texts, (str, tuple, dict))
    model = encoder.model
    results: list[list[LabelScore]] = []
    cut = left_out = 0
    for some in blocks([texts] if single else texts_of(texts, "texts"), characters):
        rows = [
            check_text_or_pair(text, "texts" if single else f"texts[{index}]")
            for index, text in enumerate(some, len(results))
        ]
        inputs, dropped = _tokenized(encoder, rows)
        logits = model.run(
            inputs,
            lambda output: heads.sequence(model.layers, output.last_hidden_state)[:, 0],
            wanted=[np.zeros(1, np.int64)] * len(inputs),
            most_texts=batch_size,
        )
        results += [label_scores(row, encoder.config, top_k, function) for row in logits]
        cut += sum(map(bool, dropped))
        left_out += sum(dropped)
    warn_of_cuts(cut, len(results), left_out, encoder.max_length)
    return results[0] if single else results


def _tokenized(encoder: TextEncoder, rows: list[Any]) -> tuple[list[TextInput], list[int]]:
    """Texts and pairs as `Roberta.run` takes them, and how many tokens of each were cut off."""
    model, tokenizer = encoder.model, encoder.tokenizer
    if tokenizer.uses_type_ids and any(isinstance(row, tuple) for row in rows):
        encodings = tokenizer(rows, max_length=encoder.max_length)
        return with_types(model, encodings), [encoding.truncated for encoding in encodings]
    ids, dropped = tokenizer.encode_ids(rows, max_length=encoder.max_length)
    return with_positions(model, ids), dropped


def cross_encoders_function(encoder: TextEncoder) -> str | None:
    """The function of a CrossEncoder's scores that its folder names; None if it names none.

    Raises ValueError for one that is not computed here.
    """
    named = encoder.sentence.activation
    if named is None:
        return None
    function = ACTIVATIONS.get(named.rpartition(".")[2]) if named.startswith("torch.nn.") else None
    if function is None:
        raise ValueError(
            f"{encoder.checkpoint.name}: its folder asks for {named!r}, which is not computed here: give "
            f"function_to_apply, one of {', '.join(map(repr, FUNCTIONS))}"
        )
    return function


class Ranked(TypedDict, total=False):
    """A text and how well it answers a query, as `CrossEncoder.rank` gives it."""

    corpus_id: int  # its index among the texts
    score: float
    text: str  # if asked for


def rank(
    encoder: TextEncoder,
    query: str,
    documents: Iterable[str],
    top_k: int | None,
    return_documents: bool,
    batch_size: int,
) -> list[Ranked]:
    """What `TextEncoder.rank` returns."""
    heads.require(encoder.checkpoint, heads.SEQUENCE)
    if encoder.config.num_labels != 1:
        raise ValueError(
            f"{encoder.checkpoint.name} gives {encoder.config.num_labels} scores to a pair: rank needs a checkpoint "
            "with one, a CrossEncoder; classify gives all of them"
        )
    if top_k is not None:
        check_whole("top_k", top_k, 1)
    check_text(query, "query")
    texts = [check_text(text, f"documents[{i}]") for i, text in enumerate(texts_of(documents, "documents"))]
    function = cross_encoders_function(encoder) or "sigmoid"
    answers = classify(encoder, [(query, text) for text in texts], None, function, batch_size)
    scores = [labels[0]["score"] for labels in answers]
    order = sorted(range(len(texts)), key=lambda index: -scores[index])[:top_k]
    more: dict[int, Ranked] = {index: {"text": texts[index]} if return_documents else {} for index in order}
    return [{"corpus_id": index, "score": scores[index], **more[index]} for index in order]


def label_scores(logits: Array, config: RobertaConfig, top_k: int | None, function: str | None) -> list[LabelScore]:
    """Labels with their scores, the highest first; logits: (labels,).

    function: "softmax", "sigmoid" or "none"; None: none for regression, sigmoid for one label or several that may
    hold at once, softmax otherwise.
    """
    if function is None:
        several = config.problem_type == "multi_label_classification" or config.num_labels == 1
        function = "none" if config.problem_type == "regression" else "sigmoid" if several else "softmax"
    scores = logits
    if function != "none":
        scores = fixed_order.softmax(logits) if function == "softmax" else fixed_order.sigmoid(logits)
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [{"label": config.id2label[int(i)], "score": float(scores[i])} for i in order]
