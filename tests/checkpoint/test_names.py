"""BERT's tensors under the names of this package, and back under those of transformers."""

import json
import warnings

import numpy as np
import pytest
import random_model

from numroberta.checkpoint.checkpoint import open_checkpoint
from numroberta.checkpoint.config import RobertaConfig
from numroberta.checkpoint.errors import CheckpointError
from numroberta.checkpoint.names import canonical_name
from numroberta.checkpoint.writing import write_checkpoint, write_safetensors

SIZES = {**random_model.SIZES, "model_type": "bert", "type_vocab_size": 2, "pad_token_id": 0}
HEADS = {
    "BertModel": "pooler",
    "BertForMaskedLM": "masked language model",
    "BertForSequenceClassification": "sequence classification",
    "BertForTokenClassification": "token classification",
    "BertForQuestionAnswering": "question answering",
}


def bert_config(**changes):
    return RobertaConfig.from_dict({**SIZES, **changes})


@pytest.mark.parametrize(
    ("in_file", "name"),
    [
        ("bert.embeddings.LayerNorm.gamma", "embeddings.LayerNorm.weight"),
        ("bert.pooler.dense.weight", "pooler.dense.weight"),
        ("cls.predictions.transform.dense.bias", "lm_head.dense.bias"),
        ("cls.predictions.transform.LayerNorm.beta", "lm_head.layer_norm.bias"),
        ("cls.predictions.bias", "lm_head.bias"),
        ("cls.predictions.decoder.weight", "lm_head.decoder.weight"),
        ("qa_outputs.weight", "qa_outputs.weight"),
    ],
)
def test_canonical_names_of_bert(in_file, name):
    assert canonical_name(in_file) == name


def test_bert_counts_positions_from_0_and_has_no_first_and_last_token():
    config = bert_config(max_position_embeddings=512)
    assert (config.max_length, config.first_position) == (512, 0)
    defaults = RobertaConfig.from_dict({key: SIZES[key] for key in SIZES if not key.endswith("token_id")})
    assert (defaults.pad_token_id, defaults.bos_token_id, defaults.eos_token_id) == (0, None, None)


@pytest.mark.parametrize("architectures", [["BertForSequenceClassification"], None])
def test_a_classifier_behind_the_pooler_is_one_of_sequences(tmp_path, architectures):
    tensors = {f"bert.{name}": x for name, x in random_model.tensors(bert_config(), "pooler").items()}
    head = {"classifier.weight": np.ones((2, 24), np.float32), "classifier.bias": np.ones(2, np.float32)}
    write_safetensors(tmp_path / "model.safetensors", tensors | head)
    (tmp_path / "config.json").write_text(json.dumps({**SIZES, "architectures": architectures}))
    opened = open_checkpoint(tmp_path).tensors
    np.testing.assert_array_equal(opened["classifier.dense.weight"], tensors["bert.pooler.dense.weight"])
    np.testing.assert_array_equal(opened["classifier.out_proj.weight"], head["classifier.weight"])
    assert "pooler.dense.weight" not in opened


def test_the_head_that_tells_neighbouring_sentences_is_passed_over(tmp_path):
    tensors = random_model.tensors(bert_config(), "pooler", "masked language model")
    write_safetensors(
        tmp_path / "model.safetensors",
        {**tensors, "cls.seq_relationship.weight": np.ones((2, 24)), "cls.seq_relationship.bias": np.ones(2)},
    )
    (tmp_path / "config.json").write_text(json.dumps({**SIZES, "architectures": ["BertForPreTraining"]}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_checkpoint(tmp_path).tensors.keys() == tensors.keys()


def test_relative_positions_are_refused(tmp_path):
    write_checkpoint(tmp_path, random_model.tensors(bert_config()), bert_config())
    (tmp_path / "config.json").write_text(json.dumps({**SIZES, "position_embedding_type": "relative_key"}))
    with pytest.raises(CheckpointError, match="position_embedding_type is 'relative_key'"):
        open_checkpoint(tmp_path)


@pytest.mark.parity
@pytest.mark.parametrize("name", HEADS)
def test_transformers_and_this_package_read_what_the_other_writes(tmp_path, name):
    transformers = pytest.importorskip("transformers")
    config = bert_config(id2label={"0": "a", "1": "b"})
    sizes = {key: value for key, value in SIZES.items() if key != "model_type"}
    theirs = getattr(transformers, name)(transformers.BertConfig(**sizes))
    theirs.save_pretrained(tmp_path / "theirs")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = open_checkpoint(tmp_path / "theirs")
    assert opened.tensors.keys() == random_model.tensors(config, HEADS[name]).keys()
    (tmp_path / "ours").mkdir()
    write_checkpoint(tmp_path / "ours", opened.tensors, opened.config)
    again, report = getattr(transformers, name).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert again.config.architectures == [name]
    for key, tensor in theirs.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[key].numpy(), tensor.numpy())
