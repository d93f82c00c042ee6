"""`RobertaConfig`: what `config.json` says, checked once, so that no other file has to doubt it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from numroberta.checkpoint.errors import ConfigError, show

# The same encoder under four names.  XLM-RoBERTa and CamemBERT differ from RoBERTa in vocabulary and training only;
# BERT counts positions from 0 and gives the second text of a pair a type of its own.
MODEL_TYPES = ("roberta", "xlm-roberta", "camembert", "bert")
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")

# A size no checkpoint reaches: keeps a hostile config.json from asking for endless lists of tensors.
LARGEST_SIZE = 2**31 - 1
MOST_LAYERS = 1000
MOST_LABELS = 1_000_000


@dataclass(frozen=True)
class RobertaConfig:
    """The sizes and constants of one RoBERTa, under transformers' names and with transformers' defaults.

    >>> config = RobertaConfig.from_dict({
    ...     "model_type": "roberta", "vocab_size": 50265, "hidden_size": 768, "num_hidden_layers": 6,
    ...     "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 514})
    >>> config.head_dim, config.max_length
    (64, 512)
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    pad_token_id: int
    bos_token_id: int | None
    eos_token_id: int | None
    model_type: str
    architectures: tuple[str, ...]
    id2label: dict[int, str]
    problem_type: str | None
    tie_word_embeddings: bool
    dtype: str | None  # as written by the training side ("float32"); the weight file has the last word
    activation: str | None  # the class of torch.nn that a CrossEncoder applies to its logits

    @property
    def head_dim(self) -> int:
        """Dimensions of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def first_position(self) -> int:
        """The row of the position table for a text's first token: 0 in BERT, `pad_token_id + 1` in RoBERTa."""
        return 0 if self.model_type == "bert" else self.pad_token_id + 1

    @property
    def max_length(self) -> int:
        """Most tokens of one text; RoBERTa's 514 rows of positions, counted from 2, hold 512 tokens."""
        return self.max_position_embeddings - self.first_position

    @property
    def num_labels(self) -> int:
        """Outputs of a classification head."""
        return len(self.id2label)

    def to_dict(self) -> dict[str, Any]:
        """What `config.json` says, under transformers' names: `from_dict` and transformers make the same config of it.

        >>> config = RobertaConfig.from_dict({
        ...     "model_type": "roberta", "vocab_size": 100, "hidden_size": 16, "num_hidden_layers": 2,
        ...     "num_attention_heads": 4, "intermediate_size": 32, "max_position_embeddings": 20})
        >>> RobertaConfig.from_dict(config.to_dict()) == config
        True
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["architectures"] = list(self.architectures)
        values["id2label"] = {str(number): label for number, label in self.id2label.items()}
        values["label2id"] = {label: number for number, label in self.id2label.items()}
        if values.pop("activation"):
            values["sentence_transformers"] = {"activation_fn": self.activation}
        return values | {"hidden_act": "gelu", "position_embedding_type": "absolute"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RobertaConfig:
        """The config that the parsed `config.json` of a roberta, distilroberta, xlm-roberta or camembert describes.

        The six sizes must be there, as every version of transformers writes them.  Any other key that is absent has
        the default of transformers' `RobertaConfig`.  Keys that concern training only are ignored.

        Raises:
            ConfigError: A value is impossible, or asks for something that this encoder does not compute.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"a config is a JSON object, found {show(values)}")
        architectures = _names(values, "architectures")
        model_type = _model_type(values, architectures)
        _refuse_what_is_not_computed(values)

        config = cls(
            vocab_size=_size(values, "vocab_size"),
            hidden_size=_size(values, "hidden_size"),
            num_hidden_layers=_size(values, "num_hidden_layers", most=MOST_LAYERS),
            num_attention_heads=_size(values, "num_attention_heads"),
            intermediate_size=_size(values, "intermediate_size"),
            max_position_embeddings=_size(values, "max_position_embeddings"),
            type_vocab_size=_size(values, "type_vocab_size", default=2),
            layer_norm_eps=_layer_norm_eps(values),
            pad_token_id=_token_id(values, "pad_token_id", 0 if model_type == "bert" else 1),
            bos_token_id=_optional_token_id(values, "bos_token_id", None if model_type == "bert" else 0),
            eos_token_id=_optional_token_id(values, "eos_token_id", None if model_type == "bert" else 2),
            model_type=model_type,
            architectures=architectures,
            id2label=_labels(values),
            problem_type=_problem_type(values),
            tie_word_embeddings=_flag(values, "tie_word_embeddings", True),
            dtype=_dtype(values),
            activation=_activation(values),
        )
        if config.hidden_size % config.num_attention_heads:
            raise ConfigError(
                f"hidden_size {config.hidden_size} cannot be divided among "
                f"num_attention_heads {config.num_attention_heads}; it must be a multiple"
            )
        if config.pad_token_id >= config.vocab_size:
            raise ConfigError(f"pad_token_id {config.pad_token_id} is outside vocab_size {config.vocab_size}")
        if config.max_length < 1:
            raise ConfigError(
                f"max_position_embeddings {config.max_position_embeddings} leaves no room for a token: positions "
                f"start at pad_token_id + 1 = {config.first_position}"
            )
        return config


def _model_type(values: Mapping[str, Any], architectures: tuple[str, ...]) -> str:
    value = values.get("model_type")
    if value is None:
        # Configs written before 2020 have no model_type; their class name tells.
        for start, model_type in (("Roberta", "roberta"), ("Bert", "bert")):
            if any(name.startswith(start) for name in architectures):
                return model_type
        raise ConfigError(f"model_type is missing; supported are {', '.join(MODEL_TYPES)}")
    if value not in MODEL_TYPES:
        raise ConfigError(f"model_type is {show(value)}, another architecture; supported are {', '.join(MODEL_TYPES)}")
    return str(value)


def _refuse_what_is_not_computed(values: Mapping[str, Any]) -> None:
    positions = values.get("position_embedding_type", "absolute")
    if positions not in ("absolute", None):
        raise ConfigError(
            f"position_embedding_type is {show(positions)}; this encoder computes 'absolute' positions only"
        )
    activation = values.get("hidden_act", "gelu")
    if activation not in ("gelu", "gelu_python"):  # the same function
        raise ConfigError(
            f"hidden_act is {show(activation)}; this encoder computes 'gelu' only (the exact one, with erf)"
        )
    for key in ("is_decoder", "add_cross_attention", "is_encoder_decoder"):
        if _flag(values, key, False):
            raise ConfigError(f"{key} is true; this is an encoder, it computes no decoder and no cross-attention")
    for key, why in (
        ("pruned_heads", "every layer must have all its heads"),
        ("quantization_config", "weights must be float32, float16, bfloat16 or float64"),
    ):
        if values.get(key):
            raise ConfigError(f"{key} is {show(values[key])}, which this encoder does not compute: {why}")


def _size(values: Mapping[str, Any], key: str, *, default: int | None = None, most: int = LARGEST_SIZE) -> int:
    if key not in values and default is None:
        raise ConfigError(f"{key} is missing; expected a positive whole number")
    value = values.get(key, default)
    if not _is_int(value) or not 1 <= value <= most:
        raise ConfigError(f"{key} is {show(value)}; expected a whole number from 1 to {most}")
    return int(value)


def _token_id(values: Mapping[str, Any], key: str, default: int) -> int:
    value = values.get(key, default)
    if not _is_int(value) or not 0 <= value <= LARGEST_SIZE:
        raise ConfigError(f"{key} is {show(value)}; expected a token id: a whole number from 0")
    return int(value)


def _optional_token_id(values: Mapping[str, Any], key: str, default: int | None) -> int | None:
    """The id of a token that nothing is computed with: where transformers allows several, the first."""
    value = values.get(key, default)
    if isinstance(value, list) and value and all(_is_int(number) for number in value):
        value = value[0]
    return None if value is None else _token_id({key: value}, key, 0)


def _layer_norm_eps(values: Mapping[str, Any]) -> float:
    value = values.get("layer_norm_eps", 1e-12)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ConfigError(f"layer_norm_eps is {show(value)}; expected a number between 0 and 1, such as 1e-05")
    return float(value)


def _flag(values: Mapping[str, Any], key: str, default: bool) -> bool:
    value = values.get(key, default)
    if not isinstance(value, bool):
        raise ConfigError(f"{key} is {show(value)}; expected true or false")
    return value


def _names(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = values.get(key) or []
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{key} is {show(value)}; expected a list of names")
    return tuple(value)


def _labels(values: Mapping[str, Any]) -> dict[int, str]:
    value = values.get("id2label")
    if value is None:
        number = values.get("num_labels")
        number = 2 if number is None else number
        if not _is_int(number) or not 0 <= number <= MOST_LABELS:
            raise ConfigError(f"num_labels is {show(number)}; expected a whole number from 0 to {MOST_LABELS}")
        return {i: f"LABEL_{i}" for i in range(number)}
    if not isinstance(value, Mapping):
        raise ConfigError(f"id2label is {show(value)}; expected an object such as {{'0': 'negative'}}")
    labels: dict[int, str] = {}
    for key, label in value.items():
        # `run_glue.py` writes numbers for the labels of a data set that has numbers.
        if not isinstance(label, str | int | float):
            raise ConfigError(f"id2label gives {show(key)} the label {show(label)}; expected a string")
        try:
            labels[int(key)] = str(label)
        except (TypeError, ValueError):
            raise ConfigError(f"id2label has the key {show(key)}; expected a label number such as '0'") from None
    return labels


def _problem_type(values: Mapping[str, Any]) -> str | None:
    value = values.get("problem_type")
    if value is not None and value not in PROBLEM_TYPES:
        raise ConfigError(f"problem_type is {show(value)}; expected null or one of {', '.join(PROBLEM_TYPES)}")
    return value


def _dtype(values: Mapping[str, Any]) -> str | None:
    # transformers 5 writes "dtype", 4 wrote "torch_dtype"; very old files say "torch.float32".
    value = values.get("dtype", values.get("torch_dtype"))
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"dtype is {show(value)}; expected a name such as 'float32'")
    return value.removeprefix("torch.") if value else None


def _activation(values: Mapping[str, Any]) -> str | None:
    # sentence-transformers 4 and 5 write "sentence_transformers", 3 and older the other one.
    settings = values.get("sentence_transformers")
    value = settings.get("activation_fn") if isinstance(settings, Mapping) else None
    value = value or values.get("sbert_ce_default_activation_function")
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"activation_fn is {show(value)}; expected the name of a class of torch.nn")
    return value


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
