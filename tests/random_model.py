"""Random checkpoints of any geometry, with a small tokenizer: what most tests run on."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from numroberta.arithmetic.roberta import Roberta
from numroberta.checkpoint import WORDS, encoder_shapes, head_shapes
from numroberta.checkpoint.config import RobertaConfig
from numroberta.checkpoint.safetensors_file import load_safetensors
from numroberta.checkpoint.writing import write_safetensors
from numroberta.tokenizer.bpe import BYTE_TO_SYMBOL

MERGES = ["Ġ t", "h e", "Ġt he", "Ġ a", "i n", "r e", "o n", "e r", "Ġ s", "in g", "Ġa n", "Ġan d"]
PIECES = ["<s>", "<pad>", "</s>", "<unk>", *BYTE_TO_SYMBOL, *(merge.replace(" ", "") for merge in MERGES), "<mask>"]

SIZES = {
    "model_type": "roberta",
    "vocab_size": len(PIECES),
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 66,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}


def tensors(config, *heads, seed=0, dtype=np.float32):
    """Every tensor by canonical name, of a size that gives attention peaks and a rounding error to look for."""
    rng = np.random.default_rng(seed)
    shapes = encoder_shapes(config)
    for head in heads:
        shapes |= head_shapes(config, own_decoder=False)[head]

    def draw(name, shape):
        x = rng.standard_normal(shape)
        if "norm" in name.lower():
            return 0.1 * x + name.endswith("weight")
        if len(shape) == 2 and "embeddings" not in name:
            x *= (2.0 if "query" in name or "key" in name else 1.0) / np.sqrt(shape[1])
        return x

    return {name: draw(name, shape).astype(dtype) for name, shape in shapes.items()}


def roberta(seed=0, dtype="float64", weights=None, **options):
    """The encoder of random or given weights, without a folder: `Roberta` options and config sizes by name."""
    sizes = SIZES | {key: options.pop(key) for key in list(options) if key in SIZES}
    config = RobertaConfig.from_dict(sizes)
    weights = weights or tensors(config, "pooler", seed=seed, dtype=dtype)
    weights = {name: tensor.astype(dtype) for name, tensor in weights.items()}
    in_no_file = {WORDS: SimpleNamespace(start=0, stop=0)}
    checkpoint = SimpleNamespace(config=config, tensors=weights, stored=in_no_file, dtype=str(np.dtype(dtype)))
    return Roberta(checkpoint, dtype=dtype, **options)


def write_tokenizer(folder):
    """vocab.json and merges.txt of the 256 bytes and a few merges; ids 0 to 3 and the last are RoBERTa's specials."""
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(PIECES)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n", encoding="utf-8")


def write(folder, *heads, seed=0, **sizes):
    """A checkpoint folder, float32, with its tokenizer."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    values = SIZES | sizes
    (folder / "config.json").write_text(json.dumps(values))
    write_safetensors(folder / "model.safetensors", tensors(RobertaConfig.from_dict(values), *heads, seed=seed))
    write_tokenizer(folder)
    return folder


TAGS = {"0": "O", "1": "B-PER", "2": "I-PER", "3": "B-LOC", "4": "I-LOC", "5": "MISC"}
LABELS = {"0": "negative", "1": "neutral", "2": "positive"}
ENCODER = ("embeddings.", "encoder.")


def write_with_head(folder, head, **config):
    """A checkpoint folder with one head, its tensors named as transformers names them."""
    write(folder, head, **config)
    file = folder / "model.safetensors"
    stored, _ = load_safetensors(file)
    named = {f"roberta.{name}" if name.startswith(ENCODER) else name: array for name, array in stored.items()}
    write_safetensors(file, named, {"format": "pt"})
    return folder


def unigram_tokenizer(lines, vocab_size, length):
    """transformers' tokenizer as XLM-RoBERTa has one: Unigram pieces of these lines, `<mask>` behind them."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    library = Tokenizer(models.Unigram())
    library.normalizer, library.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=specials, unk_token="<unk>", show_progress=False
    )
    library.train_from_iterator(lines, trainer)
    library.add_special_tokens(["<mask>"])
    library.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    named = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), specials, strict=True))
    named |= {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=library, model_max_length=length, **named)
