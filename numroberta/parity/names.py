"""Names of activations: those of a recording, their order in the forward pass, and what other programs call them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

LAYER = "encoder.layer.*"
LAYERS = 1_000  # more than any model has
LABELS, LOSS = "labels", "loss"  # what was to be predicted, and how wrong the prediction is
INPUT = ("input_ids", "attention_mask", LABELS)
GRAD = ".grad"  # after the name of an activation or a tensor: the gradient of the loss with respect to it

QUERY, KEY, VALUE = (f"{LAYER}.attention.self.{part}" for part in ("query", "key", "value"))
SCORES, PROBS, CONTEXT = (f"{LAYER}.attention.{part}" for part in ("scores", "probs", "context"))
ATTENTION_DENSE, ATTENTION = f"{LAYER}.attention.output.dense", f"{LAYER}.attention.output"
WIDE_DENSE, WIDE = f"{LAYER}.intermediate.dense", f"{LAYER}.intermediate"
OUTPUT_DENSE, OUTPUT = f"{LAYER}.output.dense", f"{LAYER}.output"
EMBEDDING = "sentence_embedding"  # sentence-transformers' name for what the folder makes of a text
POOLED = "pooled."  # before the name of a pooling
WORD, POSITION, TOKEN_TYPE = (f"embeddings.{part}_embeddings" for part in ("word", "position", "token_type"))

SUM = ".sum"  # after what a layer norm gives: what it is given, which no recording holds
STATES = ("embeddings", OUTPUT)  # the kinds of hidden states

# The steps of the forward pass in its order; those of a layer come again in each.
BEFORE_LAYERS = (WORD, POSITION, TOKEN_TYPE, f"embeddings{SUM}", "embeddings")
IN_LAYERS = (
    QUERY, KEY, VALUE, SCORES, PROBS, CONTEXT, ATTENTION_DENSE, ATTENTION + SUM, ATTENTION,
    WIDE_DENSE, WIDE, OUTPUT_DENSE, OUTPUT + SUM, OUTPUT,
)  # fmt: skip
AFTER_LAYERS = (
    "pooler.dense", "pooler", "lm_head.dense", "lm_head.layer_norm", "lm_head",
    "classifier.dense", "classifier.out_proj", "classifier", "qa_outputs",
    *(f"{POOLED}{pooling}" for pooling in ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")),
    EMBEDDING, f"{LOSS}.shares", LOSS,
)  # fmt: skip
_ORDER = {kind: place for place, kind in enumerate((*BEFORE_LAYERS, *IN_LAYERS, *AFTER_LAYERS))}


@cache
def kind_of(name: str) -> str:
    """The name without the number of its layer: what is the same step in every layer.

    >>> kind_of("encoder.layer.3.attention.scores")
    'encoder.layer.*.attention.scores'
    """
    return re.sub(r"^encoder\.layer\.\d+", LAYER, name)


@cache
def layer_of(name: str) -> int | None:
    """The number of the layer that a name belongs to; None outside the layers."""
    return int(name.split(".")[2]) if name.startswith("encoder.layer.") else None


@cache
def same_layer(name: str, kind: str) -> str:
    """The name of another kind in the same layer.

    >>> same_layer("encoder.layer.3.output", "encoder.layer.*.intermediate")
    'encoder.layer.3.intermediate'
    """
    return kind.replace(LAYER, ".".join(name.split(".")[:3]))


def is_gradient(name: str) -> bool:
    return name.endswith(GRAD)


def is_of_tensor(name: str) -> bool:
    """Whether it is the gradient of a tensor of the checkpoint, not of an activation."""
    return name.endswith((f".weight{GRAD}", f".bias{GRAD}"))


def step_of_tensor(name: str) -> str:
    """The step that a tensor of the checkpoint is used in: "…output.LayerNorm.bias" -> "…output"."""
    return name.rpartition(".")[0].removesuffix(".LayerNorm").removesuffix(".decoder")


def step_of_gradient(name: str) -> str:
    """The step of the forward pass whose derivative is taken: "…output.dense.bias.grad" -> "…output.dense"."""
    base = name.removesuffix(GRAD)
    return step_of_tensor(base) if is_of_tensor(name) else base


def is_step(name: str) -> bool:
    """Whether the forward or the backward pass has a step of this name."""
    return kind_of(step_of_gradient(name) if is_gradient(name) else name) in _ORDER


@cache
def in_order(name: str) -> tuple[int, int, int]:
    """Sorts names into the order of the forward pass, then the backward pass; what neither knows comes between them."""
    if is_gradient(name) and is_step(name):
        stage, number, place = in_order(step_of_gradient(name))
        return 4, -LAYERS * stage - number, -2 * place + is_of_tensor(name)
    kind = kind_of(name)
    if name in INPUT:
        return -1, 0, INPUT.index(name)
    if kind not in _ORDER:
        return 3, 0, 0
    layer = layer_of(name)
    if layer is not None:
        return 1, layer, _ORDER[kind]
    return (0 if kind in BEFORE_LAYERS else 2), 0, _ORDER[kind]


# What hooks on transformers' modules, their outputs, and ONNX Runtime's nodes are called -> the name in a recording.
_WRAPPERS = r"^((_orig_mod|module|model|base_model|auto_model|roberta|xlm_roberta|camembert|bert|transformer)\.)+"
_LAYER = r"(encoder\.layer\.\d+)"
_USUAL = (
    (r"embeddings\.(LayerNorm|dropout)|hidden_states\.0", "embeddings"),
    (r"attentions\.(\d+)", r"encoder.layer.\1.attention.probs"),
    (r"(?:encoder\.)?(?:layers?|blocks?|h)[._](\d+)(\.0)?", r"encoder.layer.\1.output"),
    (_LAYER + r"\.attention\.self(\.0|\.Reshape_3)?", r"\1.attention.context"),
    (_LAYER + r"\.attention\.(self\.)?(1|dropout|softmax|Softmax)", r"\1.attention.probs"),
    (_LAYER + r"\.attention\.self\.Div", r"\1.attention.scores"),
    (_LAYER + r"\.attention(\.0)?", r"\1.attention.output"),
    (_LAYER + r"\.0", r"\1.output"),
    (_LAYER + r"\.intermediate\.intermediate_act_fn", r"\1.intermediate"),
    (r"(.*\.output)\.LayerNorm", r"\1"),
    (r"(.*\.output)\.dropout", r"\1.dense"),
    (r"pooler\.activation|pooler_output", "pooler"),
    (r"lm_head\.decoder", "lm_head"),
    (r"sentence_embeddings?|text_embeds", EMBEDDING),
)
LAST = ("last_hidden_state", "token_embeddings", "encoder", "encoder.0")
LOGITS = ("lm_head", "classifier.out_proj", "classifier", "qa_outputs")


def usual_name(name: str) -> str:
    """The name in a recording for one that hooks on transformers' modules, or its outputs, would give.

    >>> usual_name("roberta.encoder.layer.3.attention.output.LayerNorm")
    'encoder.layer.3.attention.output'
    >>> usual_name("/roberta/encoder/layer.3/attention/self/query/Add_output_0")
    'encoder.layer.3.attention.self.query'
    >>> usual_name("roberta.encoder.layer.3.output.dense.weight.grad")  # as in PyTorch
    'encoder.layer.3.output.dense.weight.grad'
    """
    if is_gradient(name):
        return usual_name(name.removesuffix(GRAD)) + GRAD
    name = re.sub(r"_output_\d+$", "", name.removeprefix("/")).replace("/", ".")
    name = re.sub(_WRAPPERS, "", name)
    name = re.sub(r"\.(Add|Gemm|LayerNormalization|Tanh|Mul|Identity)(_\d+)?$", "", name)
    for pattern, usual in _USUAL:
        if re.fullmatch(pattern, name):
            return re.sub(f"^(?:{pattern})$", usual, name)
    if re.fullmatch(r"hidden_states?[._]\d+", name):
        number = int(re.split(r"[._]", name)[-1])
        return f"encoder.layer.{number - 1}.output" if number else "embeddings"
    return name


def from_pattern(name: str, patterns: Mapping[str, str]) -> str | None:
    """What a map makes of a name; `{n}` in both its sides stands for a number.

    >>> from_pattern("h.3.attn.q", {"h.{n}.attn.q": "encoder.layer.{n}.attention.self.query"})
    'encoder.layer.3.attention.self.query'
    """
    if name in patterns:
        return patterns[name]
    for pattern, usual in patterns.items():
        if "{n}" in pattern:
            match = re.fullmatch(re.escape(pattern).replace(r"\{n\}", r"(\d+)"), name)
            if match:
                return usual.replace("{n}", str(int(match[1])))
    return None


def some(names: list[str]) -> str:
    """The first few of many names."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") if names else "nothing"
