"""Models that README names beside those of `test_popular_models.py`: as published, but narrower, on random weights."""

import json

import numpy as np
import pytest
import random_model

import numroberta

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
sentence_transformers = pytest.importorskip("sentence_transformers")
pytestmark = pytest.mark.parity

ROBERTA = {
    "attention_probs_dropout_prob": 0.1, "bos_token_id": 0, "eos_token_id": 2, "gradient_checkpointing": False,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "layer_norm_eps": 1e-05, "max_position_embeddings": 514,
    "model_type": "roberta", "pad_token_id": 1, "position_embedding_type": "absolute", "type_vocab_size": 1,
    "use_cache": True,
}  # fmt: skip
NARROW = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
LABELS = {"0": "negative", "1": "neutral", "2": "positive"}
TEXTS = ["The rain in Spain stays mainly in the plain.", "Good night 😊", "Ångström's naïve café", "rain " * 600]


def write(folder, kind, **config):
    """The folder as published but for width, weights and the merges of its vocabulary."""
    random_model.write_tokenizer(folder)
    sizes = {**ROBERTA, **NARROW, **config, "vocab_size": len(random_model.PIECES), "initializer_range": 0.3}
    (folder / "config.json").write_text(json.dumps({**sizes, "architectures": [kind.__name__]}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 512}))
    torch.manual_seed(0)
    return kind(transformers.AutoConfig.from_pretrained(folder)).eval()


def test_all_distilroberta_gives_sentence_transformers_vectors(tmp_path):
    write(tmp_path, transformers.RobertaModel).save_pretrained(tmp_path)
    paths = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{module}"}
        for i, (path, module) in enumerate(paths.items())
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 512, "do_lower_case": False}))
    (tmp_path / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": NARROW["hidden_size"], "pooling_mode_mean_tokens": True}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    expected = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS)
    with pytest.warns(UserWarning, match="1 of 4 texts have more than 512 tokens"):
        mine = numroberta.load(tmp_path).encode(TEXTS)
    np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-6)


def test_a_sentiment_model_in_pickled_weights_gives_the_pipelines_labels_and_scores(tmp_path):
    labels = {"id2label": LABELS, "label2id": {label: int(number) for number, label in LABELS.items()}}
    model = write(tmp_path, transformers.RobertaForSequenceClassification, **labels)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    pipeline = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)
    for mine, theirs in zip(numroberta.load(tmp_path).classify(TEXTS[:3]), pipeline(TEXTS[:3]), strict=True):
        assert [answer["label"] for answer in mine] == [answer["label"] for answer in theirs]
        scores = [[answer["score"] for answer in answers] for answers in (mine, theirs)]
        np.testing.assert_allclose(*scores, rtol=0, atol=2e-6)
