"""The endpoints of the heads: `/predict` and `/rerank` as TEI has them, the others with the pipelines' JSON.

The answers of `/fill-mask`, `/tag` and `/answer` are those of transformers' pipelines; requests are
`{"inputs": …, "parameters": {…}}`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from numroberta.arithmetic import heads
from numroberta.model import TextEncoder
from numroberta.serving import fields
from numroberta.serving.body import dumped
from numroberta.serving.errors import Refused
from numroberta.serving.fields import Object
from numroberta.serving.job import Job, Kind
from numroberta.serving.limits import Limits
from numroberta.serving.models import Models, Served

WINDOWS = 16  # that a text or a context may have
AGGREGATIONS = ("none", "simple", "first", "average", "max")

Pair = tuple[str, str]


def predict(data: Object, models: Models, limits: Limits) -> Job:
    """Labels with their scores, of a text, a pair [text, text], or several: [[text], [text, text], …]."""
    served = with_head(data, models, heads.SEQUENCE)
    inputs = fields.needed(data, "inputs")
    single = isinstance(inputs, str) or (isinstance(inputs, list) and bool(inputs) and isinstance(inputs[0], str))
    if not single and not isinstance(inputs, list):
        raise fields.wrong("inputs", inputs, "a text, a pair of texts, or a list of lists of one or two texts")
    fields.check_count([inputs] if single else inputs, "inputs", limits.texts)
    texts = (
        [text_or_pair(inputs, "inputs")]
        if single
        else [text_or_pair(one, f"inputs[{index}]") for index, one in enumerate(inputs)]
    )

    def answer(results: list[Any]) -> bytes:
        return dumped(results[0] if single else results)

    function = "none" if fields.flag(data, "raw_scores", False) else None
    return classified(served, texts, function, data, limits, "inputs", answer)


def text_or_pair(value: object, name: str) -> str | Pair:
    if isinstance(value, list):
        if not 1 <= len(value) <= 2:
            raise Refused("value", f"`{name}` has {len(value)} texts, expected one, or the two of a pair", param=name)
        first, *second = fields.texts(value, name, 2)
        return (first, second[0]) if second else first
    return fields.text(value, name)


def rerank(data: Object, models: Models, limits: Limits) -> Job:
    """Texts in the order in which they answer a query, the best first."""
    served = with_head(data, models, heads.SEQUENCE)
    labels = served.encoder.config.num_labels
    if labels != 1:
        raise Refused("head", f"{served.name} gives {labels} scores to a pair: rerank needs a model with one")
    query = fields.text(fields.needed(data, "query"), "query")
    texts = fields.texts(fields.needed(data, "texts"), "texts", limits.texts)
    return_text = fields.flag(data, "return_text", False)

    def answer(results: list[Any]) -> bytes:
        scores = [labels[0]["score"] for labels in results]
        order = sorted(range(len(texts)), key=lambda index: -scores[index])
        more = [{"text": text} if return_text else {} for text in texts]
        return dumped([{"index": index, "score": scores[index], **more[index]} for index in order])

    pairs = [(query, text) for text in texts]
    usual = None if served.encoder.sentence.activation else "sigmoid"  # as `TextEncoder.rank` has it
    function = "none" if fields.flag(data, "raw_scores", False) else usual
    return classified(served, pairs, function, data, limits, "texts", answer)


def classified(
    served: Served,
    texts: Sequence[str | Pair],
    function: str | None,
    data: Object,
    limits: Limits,
    name: str,
    answer: Callable[[list[Any]], bytes],
) -> Job:
    """All labels of each text or pair, the likeliest first."""
    fields.choice(data, "truncation_direction", ("Right", "right"), "Right")
    cut = fields.flag(data, "truncate", limits.auto_truncate)
    return headed(
        served,
        ("predict", function),
        texts,
        tokens_of(served, texts, name, served.encoder.max_length, cut),
        lambda encoder, batch: encoder.classify(batch, function_to_apply=function),
        answer,
    )


def fill_mask(data: Object, models: Models, limits: Limits) -> Job:
    """The likeliest tokens for each mask; parameters: top_k, targets."""
    served = with_head(data, models, heads.MASKED_LM)
    texts, single = text_or_texts(data, limits)
    parameters = fields.an_object(data.get("parameters") or {}, "parameters")
    top_k = fields.whole(parameters, "top_k", 1, 1000) or 5
    targets = parameters.get("targets")
    if isinstance(targets, str):
        targets = [targets]
    words = None if targets is None else tuple(fields.texts(targets, "targets", 1000))
    mask = served.encoder.tokenizer.mask_token
    for index, text in enumerate(texts):
        if mask not in text:
            raise Refused("value", f"`inputs[{index}]` has no {mask}: put it where a word is to be found")
    return headed(
        served,
        ("fill-mask", top_k, words),
        texts,
        tokens_of(served, texts, "inputs", served.encoder.max_length, False),
        lambda encoder, batch: encoder.fill_mask(batch, top_k, words),
        lambda results: dumped(results[0] if single else results),
    )


def tag(data: Object, models: Models, limits: Limits) -> Job:
    """Labelled tokens, or entities; parameters: aggregation_strategy, ignore_labels, stride."""
    served = with_head(data, models, heads.TOKEN)
    texts, single = text_or_texts(data, limits)
    parameters = fields.an_object(data.get("parameters") or {}, "parameters")
    aggregation = fields.choice(parameters, "aggregation_strategy", AGGREGATIONS, "none")
    stride = fields.whole(parameters, "stride", 0, served.encoder.max_length - 3)
    ignored = parameters.get("ignore_labels")
    ignore = ("O",) if ignored is None else tuple(fields.texts(ignored, "ignore_labels", 1000)) if ignored else ()
    most = served.encoder.max_length * (1 if stride is None else WINDOWS)
    cut = fields.flag(data, "truncate", limits.auto_truncate)

    def run(encoder: TextEncoder, batch: list[Any]) -> list[Any]:
        return encoder.tag(batch, aggregation, ignore, stride)  # type: ignore[call-overload]

    return headed(
        served,
        ("tag", aggregation, ignore, stride),
        texts,
        tokens_of(served, texts, "inputs", most, cut),
        run,
        lambda results: dumped(results[0] if single else results),
    )


ANSWER_NUMBERS = {"top_k": 1, "max_answer_len": 1, "doc_stride": 0, "max_seq_len": 1}
ANSWER_FLAGS = {"align_to_words": True, "handle_impossible_answer": False}


def answer(data: Object, models: Models, limits: Limits) -> Job:
    """Where a context answers a question; parameters: those of `TextEncoder.answer`."""
    served = with_head(data, models, heads.SPAN)
    inputs = fields.an_object(fields.needed(data, "inputs"), "inputs")
    pair = tuple(fields.text(fields.needed(inputs, name), name) for name in ("question", "context"))
    parameters = fields.an_object(data.get("parameters") or {}, "parameters")
    options: Object = {name: fields.flag(parameters, name, default) for name, default in ANSWER_FLAGS.items()}
    for name, least in ANSWER_NUMBERS.items():
        if (number := fields.whole(parameters, name, least, 10_000)) is not None:
            options[name] = number
    return headed(
        served,
        ("answer", *options.items()),
        [pair],
        tokens_of(served, [pair], "context", WINDOWS * served.encoder.max_length, False),
        lambda encoder, batch: [encoder.answer(*one, **options) for one in batch],
        lambda results: dumped(results[0]),
    )


def with_head(data: Object, models: Models, head: Any) -> Served:
    """The model that is asked for, which must have this head."""
    served = models.named(data.get("model"))
    try:
        heads.require(served.encoder.checkpoint, head)
    except ValueError as error:
        raise Refused("head", str(error)) from None
    return served


def text_or_texts(data: Object, limits: Limits) -> tuple[list[str], bool]:
    """The texts of `inputs`, and whether it is a single one."""
    inputs = fields.needed(data, "inputs")
    if isinstance(inputs, str):
        return [fields.text(inputs, "inputs")], True
    return fields.texts(inputs, "inputs", limits.texts), False


def tokens_of(served: Served, texts: Sequence[Any], name: str, most: int, cut: bool) -> list[int]:
    """How many tokens of each text or pair are read; Refused for one of more than `most`, unless it may be cut."""
    ids, _ = served.encoder.tokenizer.encode_ids(texts, truncation=False)
    tokens = [len(row) for row in ids]
    for index, count in enumerate(tokens):
        if count > most and not cut:
            raise Refused(
                "too long",
                f"`{name}[{index}]` must have at most {most:,} tokens, it has {count:,}: shorten it, or let it be "
                "truncated",
                param=name,
            )
    return [min(count, most) for count in tokens]


def headed(
    served: Served,
    key: tuple[Hashable, ...],
    inputs: Sequence[Any],
    tokens: list[int],
    call: Callable[[TextEncoder, list[Any]], Sequence[Any]],
    answer: Callable[[list[Any]], bytes],
) -> Job:
    """A job of one of the encoder's methods; what it says is wrong with the request is said to the client."""

    def run(threads: int, batch: list[Any]) -> Sequence[Any]:
        try:
            return call(served.on(threads), batch)
        except (ValueError, TypeError) as error:
            raise Refused("value", str(error)) from None

    return Job(Kind((served.name, *key), run), inputs, tokens, answer)
