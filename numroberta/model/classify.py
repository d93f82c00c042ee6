"""Labels of texts or pairs, with their scores, by the rules of transformers' `TextClassificationPipeline`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import fixed_order, heads, one_of
from numroberta.checkpoint import RobertaConfig
from numroberta.model.blocks import blocks, characters, with_positions
from numroberta.model.options import check_whole
from numroberta.model.texts import TextOrPair, check_text_or_pair, texts_of, warn_of_cuts

if TYPE_CHECKING:
    from numroberta.model.text_encoder import TextEncoder

Array = NDArray[Any]

FUNCTIONS = ("sigmoid", "softmax", "none")


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
    single = isinstance(texts, (str, tuple, dict))
    model = encoder.model
    results: list[list[LabelScore]] = []
    cut = left_out = 0
    for some in blocks([texts] if single else texts_of(texts, "texts"), characters):
        rows = [
            check_text_or_pair(text, "texts" if single else f"texts[{index}]")
            for index, text in enumerate(some, len(results))
        ]
        ids, dropped = encoder.tokenizer.encode_ids(rows, max_length=encoder.max_length)  # type: ignore[arg-type]
        logits = model.run(
            with_positions(model, ids),
            lambda output: heads.sequence(model.layers, output.last_hidden_state)[:, 0],
            wanted=[np.zeros(1, np.int64)] * len(ids),
            most_texts=batch_size,
        )
        results += [label_scores(row, encoder.config, top_k, function_to_apply) for row in logits]
        cut += sum(map(bool, dropped))
        left_out += sum(dropped)
    warn_of_cuts(cut, len(results), left_out, encoder.max_length)
    return results[0] if single else results


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
