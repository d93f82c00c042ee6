"""The models that people name: their configs and module files as published, at a smaller width, on random weights.

What a config decides (positions, length, pooling, prompts, heads, activations) is theirs; the tokenizers are of the
published classes and rules, trained here on a few lines.  The weights are not to be had without a network:
`pytest -m hub` takes the real ones.
"""

import json

import numpy as np
import pytest
import random_model

import numroberta

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

LINES = [
    "query: how much protein should a female eat",
    "passage: As a general guideline, the average requirement of protein for women is 46 grams per day.",
    "Le café est fermé le lundi; der Regen fällt auf die Ebene.",
    "The giant panda is a bear species endemic to China.",
]
NARROW = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}

XLM_R = {
    "attention_probs_dropout_prob": 0.1, "bos_token_id": 0, "classifier_dropout": None, "eos_token_id": 2,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "initializer_range": 0.02, "layer_norm_eps": 1e-05,
    "max_position_embeddings": 514, "model_type": "xlm-roberta", "output_past": True, "pad_token_id": 1,
    "position_embedding_type": "absolute", "torch_dtype": "float32", "type_vocab_size": 1, "use_cache": True,
}  # fmt: skip
BERT = {
    "attention_probs_dropout_prob": 0.1, "classifier_dropout": None, "gradient_checkpointing": False,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "initializer_range": 0.02, "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512, "model_type": "bert", "pad_token_id": 0, "position_embedding_type": "absolute",
    "torch_dtype": "float32", "type_vocab_size": 2, "use_cache": True,
}  # fmt: skip
ONE_LABEL = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}

EMBEDDERS = {
    "intfloat/multilingual-e5-base": ({**XLM_R, "architectures": ["XLMRobertaModel"]}, 512, "mean"),
    "BAAI/bge-m3": ({**XLM_R, "architectures": ["XLMRobertaModel"], "max_position_embeddings": 8194}, 8192, "cls"),
    "BAAI/bge-small-en-v1.5": ({**BERT, **ONE_LABEL, "architectures": ["BertModel"]}, 512, "cls"),
    "intfloat/e5-base-v2": ({**BERT, "architectures": ["BertModel"]}, 512, "mean"),
}
RERANKERS = {
    "BAAI/bge-reranker-base": {**XLM_R, **ONE_LABEL, "architectures": ["XLMRobertaForSequenceClassification"]},
    "BAAI/bge-reranker-v2-m3": {
        **XLM_R,
        **ONE_LABEL,
        "architectures": ["XLMRobertaForSequenceClassification"],
        "max_position_embeddings": 8194,
    },
    "cross-encoder/ms-marco-MiniLM-L6-v2": {
        **BERT,
        **ONE_LABEL,
        "architectures": ["BertForSequenceClassification"],
        "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.0.1"},
    },
    "cross-encoder/stsb-roberta-base": {
        **XLM_R,
        **ONE_LABEL,
        "architectures": ["RobertaForSequenceClassification"],
        "model_type": "roberta",
    },
}


def tokenizer(config, length):
    """Unigram pieces in XLM-RoBERTa's frame, or WordPiece in BERT's."""
    if config["model_type"] != "bert":
        return random_model.unigram_tokenizer(LINES, 160, length)
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    library = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    library.normalizer, library.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=160, special_tokens=specials, show_progress=False)
    library.train_from_iterator(LINES, trainer)
    library.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    library.decoder = decoders.WordPiece()
    return transformers.BertTokenizer(tokenizer_object=library, model_max_length=length)


def write(folder, config, length):
    """The folder as published but for width, weights and pieces."""
    pieces = tokenizer(config, length)
    pieces.save_pretrained(folder)
    sizes = {**config, **NARROW, "vocab_size": len(pieces), "initializer_range": 0.3}
    (folder / "config.json").write_text(json.dumps(sizes))
    torch.manual_seed(0)
    kind = getattr(transformers, config["architectures"][0])
    kind(transformers.AutoConfig.from_pretrained(folder)).eval().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(sizes))  # as published, not as this transformers would write it
    return folder


@pytest.mark.parametrize("name", EMBEDDERS)
def test_an_embedder_gives_sentence_transformers_vectors_up_to_its_published_length(tmp_path, name):
    config, length, pooling = EMBEDDERS[name]
    write(tmp_path, config, length)
    modules = ["Transformer", "Pooling", "Normalize"]
    paths = ["", "1_Pooling", "2_Normalize"]
    (tmp_path / "modules.json").write_text(
        json.dumps(
            [
                {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{module}"}
                for i, (module, path) in enumerate(zip(modules, paths, strict=True))
            ]
        )
    )
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": length, "do_lower_case": False}))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(
        json.dumps(
            {
                "word_embedding_dimension": NARROW["hidden_size"],
                "pooling_mode_cls_token": pooling == "cls",
                "pooling_mode_mean_tokens": pooling == "mean",
                "pooling_mode_max_tokens": False,
                "pooling_mode_mean_sqrt_len_tokens": False,
            }
        )
    )
    sentence_transformers = pytest.importorskip("sentence_transformers")
    ours = numroberta.load(tmp_path)
    assert ours.max_length == length
    longer = " ".join(LINES * (length // 64))  # more tokens than the model reads
    texts = [*LINES, longer]
    assert len(ours.tokenizer(longer, truncation=False)) > length
    expected = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu").encode(texts)
    np.testing.assert_allclose(ours.encode(texts), expected, rtol=0, atol=1e-6)  # measured: 2.1e-7


@pytest.mark.parametrize("name", RERANKERS)
def test_a_reranker_scores_and_ranks_as_cross_encoder_does(tmp_path, name):
    write(tmp_path, RERANKERS[name], 512)
    sentence_transformers = pytest.importorskip("sentence_transformers")
    theirs = sentence_transformers.CrossEncoder(str(tmp_path), device="cpu")
    ours = numroberta.load(tmp_path)
    query, texts = LINES[0], LINES[1:]
    expected = theirs.rank(query, texts)
    found = ours.rank(query, texts)
    assert [hit["corpus_id"] for hit in found] == [hit["corpus_id"] for hit in expected]
    np.testing.assert_allclose(
        [hit["score"] for hit in found], [hit["score"] for hit in expected], rtol=0, atol=4e-6
    )  # measured: 8.9e-7
