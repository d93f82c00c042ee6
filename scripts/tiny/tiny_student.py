"""`tiny` before it has learnt anything: its tokenizer, its shape, and weights that make it average its words.

Word embeddings come from the teacher (`tiny_teacher.fitted`), frequent ones short, rare ones long.  A layer norm would
make all of them equally long; so each token is given the same large vector besides, which keeps layer norms from that,
and the last one takes it away.  Heads begin by copying a neighbour, or the mean of all words: that leaves the mean over
a text as it is, and spares masked language modelling the long time in which it finds out that neighbours matter.  What
remains is nearly linear: the weighted mean of a text's words.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import (
    AddedToken,
    ByteLevelBPETokenizer,
    Tokenizer as TokenizersTokenizer,
    decoders,
    pre_tokenizers,
    processors,
)

from numroberta import RobertaConfig
from numroberta.checkpoint import HEADS, MASKED_LM, WORDS, encoder_shapes, new_folder, write_checkpoint, write_json

BOS, PAD, EOS, VOCAB, HIDDEN = 0, 1, 2, 8192, 192
SIZES = {
    "model_type": "roberta",
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 768,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "bos_token_id": BOS,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
}
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]  # ids 0 to 3; <mask> is the last one
DEVIATION = 0.05  # of the random matrices
CONSTANT = 2.0  # the length of what all tokens share, in that of the longest word embeddings
PLACE = 0.25  # of each wave that says where a token stands
OFFSETS = (-1, 1, 0, -2, 2, 0)  # where heads look at first, 0: everywhere; each layer's begin one further
COPIED = 0.3  # how much of what they see they add
GUESSING = (
    0.3  # the gain of the head's norm: with 1, first guesses are bold and wrong, and unlearning them harms vectors
)

Array = NDArray[np.float32]


def train_tokenizer(lines: Iterable[str], size: int) -> TokenizersTokenizer:
    """A byte-level BPE of `size` entries, with RoBERTa's special tokens."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(lines, vocab_size=size - 1, min_frequency=2, special_tokens=SPECIALS, show_progress=False)
    tokenizer = TokenizersTokenizer(bpe._tokenizer.model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", EOS), ("<s>", BOS), True, False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, normalized=True, special=True) for text in SPECIALS])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=True, special=True)])
    return tokenizer


def initial_tensors(config: RobertaConfig, words: Array, frequencies: Array, seed: int) -> dict[str, Array]:
    """Weights by canonical name, see above.

    words: (vocabulary, hidden), see `tiny_teacher.fitted`; frequencies: (vocabulary,), of the pieces.
    """
    rng = np.random.default_rng(seed)
    shapes = {**encoder_shapes(config), **HEADS[MASKED_LM].shapes(config)}
    tensors = {
        name: np.full(shape, name.lower().endswith("norm.weight"), np.float32)
        if len(shape) == 1
        else rng.normal(0, DEVIATION, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    hidden, head = config.hidden_size, config.head_dim
    place = slice(hidden - head, hidden)  # the axes in which words differ least say where a token stands
    tensors[WORDS] = words / np.quantile(np.linalg.norm(words, axis=1), 0.9)
    shared = np.where(np.arange(hidden) % 2, 1, -1) * CONSTANT / np.sqrt(hidden)
    shared[place] = 0
    tensors["embeddings.token_type_embeddings.weight"][...] = shared
    positions = np.arange(config.max_position_embeddings)
    tensors["embeddings.position_embeddings.weight"][...] = 0
    tensors["embeddings.position_embeddings.weight"][:, place] = PLACE * waves(positions, head)

    copied = np.eye(hidden)
    copied[place] = 0
    for layer in range(config.num_hidden_layers):
        name = f"encoder.layer.{layer}"
        query, key = (tensors[f"{name}.attention.self.{part}.weight"] for part in ("query", "key"))
        for number in range(config.num_attention_heads):
            offset = OFFSETS[(number + layer) % len(OFFSETS)]
            rows = slice(number * head, (number + 1) * head)
            if offset:
                query[rows, place], key[rows, place] = turned(offset, head), np.eye(head)
        tensors[f"{name}.attention.self.value.weight"][...] = np.eye(hidden)
        tensors[f"{name}.attention.output.dense.weight"][...] = COPIED * copied
        tensors[f"{name}.output.dense.weight"][...] = 0
    last = f"encoder.layer.{config.num_hidden_layers - 1}.output.LayerNorm.bias"
    tensors[last.replace("bias", "weight")][place] = 0.1  # a text's vector should not say how long it is
    tensors[last] -= frequencies @ normal(tensors[WORDS] + shared)  # so that the mean over the corpus is zero
    tensors["lm_head.dense.weight"] = np.eye(config.hidden_size, dtype=np.float32)
    tensors["lm_head.layer_norm.weight"][...] = GUESSING
    tensors["lm_head.bias"] = np.log(frequencies) - np.log(frequencies).mean()
    return {name: np.ascontiguousarray(array, np.float32) for name, array in tensors.items()}


def waves(positions: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Sines and cosines of a position, (n,) -> (n, size): those of p + 1 are those of p, turned."""
    angles = positions[:, None] * frequencies_of(size)
    return np.stack([np.cos(angles), np.sin(angles)], axis=2).reshape(len(positions), size)


def turned(offset: int, size: int) -> NDArray[np.float64]:
    """The matrix that turns the waves of p to those of p + offset, (size, size)."""
    matrix = np.zeros((size, size))
    for i, angle in enumerate(offset * frequencies_of(size)):
        cosine, sine = np.cos(angle), np.sin(angle)
        matrix[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[cosine, -sine], [sine, cosine]]
    return matrix


def frequencies_of(size: int) -> NDArray[np.float64]:
    """Of the waves, in radians a token: high ones tell neighbours apart, low ones what lies farther away."""
    return np.float64(2.8) * 0.7 ** np.arange(size // 2, dtype=np.float64)


def normal(x: Array) -> Array:
    """A layer norm without gain and bias, (rows, hidden) -> same."""
    x = x - x.mean(axis=1, keepdims=True)
    y: Array = x / x.std(axis=1, keepdims=True)
    return y


def write_tokenizer(folder: Path, tokenizer: TokenizersTokenizer) -> None:
    """The files that transformers writes for a RobertaTokenizer."""
    tokenizer.model.save(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "sep": "</s>", "pad": "<pad>", "cls": "<s>"}
    specials = {f"{name}_token": text for name, text in names.items()}
    mask = {"content": "<mask>", "lstrip": True, "normalized": True, "rstrip": False, "single_word": False}
    write_json(folder / "special_tokens_map.json", {**specials, "mask_token": mask})
    settings = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 512, "add_prefix_space": False}
    settings |= {"trim_offsets": True, **specials, "mask_token": {"__type": "AddedToken", **mask}}
    write_json(folder / "tokenizer_config.json", settings)


def write_student(
    folder: Path, tensors: dict[str, Array], config: RobertaConfig, tokenizer: TokenizersTokenizer, dtype: str
) -> None:
    """A checkpoint as transformers and sentence-transformers write theirs; mean pooling."""
    with new_folder(folder) as partial:
        write_checkpoint(partial, tensors, config, dtype)
        write_tokenizer(partial, tokenizer)
        kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(kinds)
        ]
        write_json(partial / "modules.json", modules)
        (partial / "1_Pooling").mkdir()
        modes = {f"pooling_mode_{mode}": mode == "mean_tokens" for mode in ("cls_token", "mean_tokens", "max_tokens")}
        pooling = {"word_embedding_dimension": config.hidden_size, **modes, "pooling_mode_mean_sqrt_len_tokens": False}
        write_json(partial / "1_Pooling" / "config.json", pooling)
        write_json(partial / "sentence_bert_config.json", {"max_seq_length": 512, "do_lower_case": False})
