"""What a sentence-transformers folder says about making a text's vector, read from its small files.

`modules.json` names the steps after the encoder, a folder each: `1_Pooling/config.json` how token vectors become one,
`2_Dense` a linear layer with an activation, `3_Normalize` length 1.  `sentence_bert_config.json` says how texts are cut
and whether they are lower-cased, `config_sentence_transformers.json` which prompts go in front of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numroberta.arithmetic import POOLINGS, SIMILARITIES, exact_products, fixed_order, normalize
from numroberta.checkpoint import Checkpoint, CheckpointError, load_json, load_safetensors, show
from numroberta.model.options import check_whole

Array = NDArray[Any]
Step = Callable[[Array], Array]

# The keys of 1_Pooling/config.json before release 5, in the order in which several poolings are joined.
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
ACTIVATIONS: dict[str, Step] = {
    "Tanh": fixed_order.tanh,
    "Identity": lambda x: x,
    "ReLU": lambda x: np.maximum(x, 0) + 0,  # +0 for −0
    "Sigmoid": fixed_order.sigmoid,
}
TEXT_SETTINGS = [f"sentence_{kind}_config.json" for kind in ("bert", "roberta", "xlm-roberta", "camembert")]
MODEL_SETTINGS = "config_sentence_transformers.json"


@dataclass(frozen=True)
class SentenceSettings:
    """How a text becomes a vector; the values here are those of a folder that says nothing: the mean of its tokens."""

    pooling: tuple[str, ...] = ("mean",)
    include_prompt: bool = True  # whether the tokens of a prompt are pooled too
    steps: tuple[Step, ...] = ()  # vectors to vectors, after pooling
    dimension: int | None = None  # of the vectors; None: the encoder's
    max_seq_length: int | None = None
    do_lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    similarity_fn_name: str = "cosine"
    truncate_dim: int | None = None

    def chosen_prompt(self, prompt: str | None, prompt_name: str | None) -> str:
        """The text in front of each text: `prompt`, or the one of this name, or the folder's default, or none."""
        if prompt is not None:
            return prompt
        name = self.default_prompt_name if prompt_name is None else prompt_name
        if name is None:
            return ""
        if name not in self.prompts:
            known = ", ".join(map(repr, self.prompts)) or "none"
            raise ValueError(f"prompt_name={name!r}: this model names {known}; give the text itself as prompt=")
        return self.prompts[name]

    def prompt_name_for(self, names: Sequence[str], prompt_name: str | None, options: Mapping[str, Any]) -> str | None:
        """The first of these names that the folder has a prompt for, unless the caller chose a prompt."""
        if prompt_name is not None or options.get("prompt") is not None:
            return prompt_name
        return next((name for name in names if name in self.prompts), None)

    def cut_dimension(self, whole: int, truncate_dim: int | None) -> int:
        """How many of a vector's `whole` dimensions are kept: `truncate_dim`, or what the folder says, or all."""
        wanted = self.truncate_dim if truncate_dim is None else truncate_dim
        return whole if wanted is None else min(whole, check_whole("truncate_dim", wanted, 1))


@dataclass(frozen=True)
class Dense:
    """activation(W x + b), (n, in) -> (n, out), in exact products, whose bits depend on nothing but the vector."""

    weight: Array = field(repr=False)  # (out, in)
    bias: Array | None = field(repr=False)  # (out,)
    activation: Step

    def __call__(self, vectors: Array) -> Array:
        y = exact_products.matmul(self.weight, vectors.T).T
        return self.activation(y if self.bias is None else y + self.bias.astype(vectors.dtype, copy=False))


def read_sentence_settings(checkpoint: Checkpoint) -> SentenceSettings:
    """The settings of the folder that the checkpoint was opened from.

    Raises CheckpointError for a module or an option that is not computed here, naming it.
    """
    modules = checkpoint.folder / "modules.json"
    if not modules.is_file():
        return SentenceSettings()
    listed = load_json(modules, list)
    kinds = [_kind(modules, module) for module in listed]
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise CheckpointError(f"{modules} lists {', '.join(kinds) or 'nothing'}; expected Transformer, Pooling, …")

    hidden = checkpoint.config.hidden_size
    pooling, include_prompt = _pooling(checkpoint.folder / listed[1]["path"] / "config.json", hidden)
    dimension = len(pooling) * hidden
    steps: list[Step] = []
    for kind, module in zip(kinds[2:], listed[2:], strict=True):
        path = checkpoint.folder / module["path"]
        if kind == "Normalize":
            _check_input(path / "config.json")
            steps.append(normalize)
        elif kind == "Dense":
            dense = _dense(path, dimension)
            steps.append(dense)
            dimension = len(dense.weight)
        else:
            raise CheckpointError(
                f"{modules} lists a {show(kind)}, which is not computed here; known are Dense, Normalize"
            )
    return SentenceSettings(
        pooling=pooling,
        include_prompt=include_prompt,
        steps=tuple(steps),
        dimension=dimension,
        **_text_settings(checkpoint.model_folder),
        **_model_settings(checkpoint.folder / MODEL_SETTINGS),
    )


def _kind(path: Path, module: Any) -> str:
    """A module's class: the last word of "sentence_transformers.models.Pooling", under whichever path it had."""
    if not isinstance(module, dict) or not all(isinstance(module.get(key), str) for key in ("type", "path")):
        raise CheckpointError(f"{path} lists {show(module)}; expected an object with type and path")
    if "/" in module["path"] or "\\" in module["path"] or module["path"].startswith("."):
        raise CheckpointError(f"{path} names the module folder {show(module['path'])}; expected one inside the folder")
    return str(module["type"].rpartition(".")[2])


def _pooling(path: Path, hidden: int) -> tuple[tuple[str, ...], bool]:
    config = load_json(path, dict)
    modes = config.get("pooling_mode") or [mode for key, mode in FLAGS.items() if config.get(key)] or ["mean"]
    pooling = (modes,) if isinstance(modes, str) else tuple(modes)
    for mode in pooling:
        if mode not in POOLINGS:
            raise CheckpointError(f"{path}: pooling {show(mode)} is not one of {', '.join(POOLINGS)}")
    size = config.get("embedding_dimension", config.get("word_embedding_dimension", hidden))
    if size != hidden:
        raise CheckpointError(f"{path} pools vectors of {show(size)} dimensions; the encoder's have {hidden}")
    return pooling, config.get("include_prompt", True) is not False


def _dense(path: Path, dimension: int) -> Dense:
    _check_input(path / "config.json")
    config = load_json(path / "config.json", dict)
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = ACTIVATIONS.get(name.rpartition(".")[2]) if name.startswith("torch.nn.") else None
    if activation is None:
        raise CheckpointError(
            f"{path}: activation {show(name)} is not computed here; known are {', '.join(ACTIVATIONS)}"
        )
    if config.get("use_residual"):
        raise CheckpointError(f"{path}: use_residual is not computed here")
    if not (path / "model.safetensors").is_file():
        raise CheckpointError(
            f"{path} has no model.safetensors: save the model again with a later sentence-transformers"
        )
    tensors, _ = load_safetensors(path / "model.safetensors")
    weight, bias = tensors.get("linear.weight"), tensors.get("linear.bias")
    if weight is None or weight.ndim != 2 or weight.shape[1] != dimension:
        shape = None if weight is None else weight.shape
        raise CheckpointError(f"{path}: linear.weight has shape {shape}, expected (any, {dimension})")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise CheckpointError(f"{path}: linear.bias has shape {bias.shape}, expected {weight.shape[:1]}")
    return Dense(weight, bias, activation)


def _check_input(path: Path) -> None:
    """Dense and Normalize may be asked to work on token vectors; here they work on the pooled one."""
    config = load_json(path, dict) if path.is_file() else {}
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise CheckpointError(f"{path}: {key} {show(config[key])} is not computed here, only 'sentence_embedding'")


def _text_settings(folder: Path) -> dict[str, Any]:
    for name in TEXT_SETTINGS:
        if (folder / name).is_file():
            config = load_json(folder / name, dict)
            length = config.get("max_seq_length")
            if length is not None and (not isinstance(length, int) or length < 3):
                raise CheckpointError(
                    f"{folder / name}: max_seq_length is {show(length)}; expected a whole number from 3"
                )
            return {"max_seq_length": length, "do_lower_case": config.get("do_lower_case") is True}
    return {}


def _model_settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    config = load_json(path, dict)
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(prompt, str) for prompt in prompts.values()):
        raise CheckpointError(f"{path}: prompts is {show(prompts)}; expected an object of strings")
    default = config.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise CheckpointError(f"{path}: default_prompt_name is {show(default)}; prompts has {show(list(prompts))}")
    similarity = config.get("similarity_fn_name") or "cosine"
    if similarity not in SIMILARITIES:
        raise CheckpointError(f"{path}: similarity_fn_name is {show(similarity)}, not one of {', '.join(SIMILARITIES)}")
    return {
        "prompts": prompts,
        "default_prompt_name": default,
        "similarity_fn_name": similarity,
        "truncate_dim": config.get("truncate_dim"),
    }
