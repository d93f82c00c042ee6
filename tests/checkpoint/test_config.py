"""`RobertaConfig` reads what transformers writes, and refuses in one sentence what the encoder does not compute."""

import json

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from numroberta.checkpoint.config import ConfigError, RobertaConfig

SIZES = {
    "vocab_size": 100,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
}
VALID = {"model_type": "roberta", **SIZES}

# config.json as they lie on the hub.
DISTILROBERTA = """{
  "architectures": ["RobertaForMaskedLM"], "attention_probs_dropout_prob": 0.1, "bos_token_id": 0,
  "eos_token_id": 2, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
  "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-05,
  "max_position_embeddings": 514, "model_type": "roberta", "num_attention_heads": 12,
  "num_hidden_layers": 6, "pad_token_id": 1, "type_vocab_size": 1, "vocab_size": 50265}"""
ALL_DISTILROBERTA_V1 = """{
  "_name_or_path": "distilroberta-base", "architectures": ["RobertaModel"],
  "attention_probs_dropout_prob": 0.1, "bos_token_id": 0, "classifier_dropout": null, "eos_token_id": 2,
  "gradient_checkpointing": false, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
  "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-05,
  "max_position_embeddings": 514, "model_type": "roberta", "num_attention_heads": 12,
  "num_hidden_layers": 6, "pad_token_id": 1, "position_embedding_type": "absolute",
  "transformers_version": "4.10.0", "type_vocab_size": 1, "use_cache": true, "vocab_size": 50265}"""
CAMEMBERT = """{
  "architectures": ["CamembertForMaskedLM"], "attention_probs_dropout_prob": 0.1, "bos_token_id": 5,
  "eos_token_id": 6, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
  "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-05,
  "max_position_embeddings": 514, "model_type": "camembert", "num_attention_heads": 12,
  "num_hidden_layers": 12, "output_past": true, "pad_token_id": 1, "type_vocab_size": 1,
  "vocab_size": 32005}"""
XLM_ROBERTA = """{
  "architectures": ["XLMRobertaForMaskedLM"], "attention_probs_dropout_prob": 0.1, "bos_token_id": 0,
  "eos_token_id": 2, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
  "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-05,
  "max_position_embeddings": 514, "model_type": "xlm-roberta", "num_attention_heads": 12,
  "num_hidden_layers": 12, "output_past": true, "pad_token_id": 1, "position_embedding_type": "absolute",
  "transformers_version": "4.17.0.dev0", "type_vocab_size": 1, "use_cache": true, "vocab_size": 250002}"""


def test_distilroberta_has_the_geometry_of_its_paper():
    config = RobertaConfig.from_dict(json.loads(DISTILROBERTA))
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (6, 768, 12)
    assert (config.head_dim, config.max_length, config.layer_norm_eps) == (64, 512, 1e-5)
    assert config.architectures == ("RobertaForMaskedLM",)
    assert config.tie_word_embeddings
    assert config.dtype is None


@pytest.mark.parametrize(
    ("text", "model_type", "ids"),
    [
        (ALL_DISTILROBERTA_V1, "roberta", (0, 2, 1)),
        (CAMEMBERT, "camembert", (5, 6, 1)),
        (XLM_ROBERTA, "xlm-roberta", (0, 2, 1)),
    ],
)
def test_relatives_and_sentence_transformers_configs_are_read(text, model_type, ids):
    config = RobertaConfig.from_dict(json.loads(text))
    assert config.model_type == model_type
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == ids


def test_a_config_without_model_type_is_known_by_its_class():
    old = {**SIZES, "architectures": ["RobertaForSequenceClassification"]}
    assert RobertaConfig.from_dict(old).model_type == "roberta"


def test_dtype_is_read_as_both_transformers_4_and_5_write_it():
    assert RobertaConfig.from_dict({**VALID, "torch_dtype": "float16"}).dtype == "float16"
    assert RobertaConfig.from_dict({**VALID, "dtype": "float16"}).dtype == "float16"
    assert RobertaConfig.from_dict({**VALID, "torch_dtype": "torch.bfloat16"}).dtype == "bfloat16"


def test_label_numbers_become_whole_numbers():
    config = RobertaConfig.from_dict({**VALID, "id2label": {"0": "sad", "1": "glad", "2": "neither"}})
    assert config.id2label == {0: "sad", 1: "glad", 2: "neither"}
    assert config.num_labels == 3


def test_without_id2label_labels_are_numbered_as_transformers_numbers_them():
    assert RobertaConfig.from_dict(VALID).id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert RobertaConfig.from_dict({**VALID, "num_labels": 1}).id2label == {0: "LABEL_0"}


def test_odd_values_that_change_nothing_are_no_reason_to_refuse():
    config = RobertaConfig.from_dict({**VALID, "eos_token_id": [2, 3], "hidden_act": "gelu_python", "num_labels": None})
    assert config.eos_token_id == 2
    assert config.num_labels == 2


def test_labels_that_are_numbers_are_read_as_text():
    """`run_glue.py` writes them for data sets whose labels are numbers."""
    assert RobertaConfig.from_dict({**VALID, "id2label": {"0": 0, "1": 1.5}}).id2label == {0: "0", 1: "1.5"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"is_decoder": True}, "is_decoder is true"),
        ({"add_cross_attention": True}, "add_cross_attention is true"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder is true"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads is {'0': [1]}"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is {'bits': 4}"),
        (
            {"model_type": "electra"},
            "model_type is 'electra', another architecture; supported are roberta, xlm-roberta",
        ),
        ({"model_type": "xlm-roberta-xl"}, "model_type is 'xlm-roberta-xl', another architecture"),
        ({"model_type": ["roberta"]}, "model_type is ['roberta'], another architecture"),
        ({"model_type": None}, "model_type is missing; supported are roberta, xlm-roberta, camembert, bert"),
    ],
)
def test_what_the_encoder_does_not_compute_is_refused_by_name(changes, sentence):
    with pytest.raises(ConfigError) as caught:
        RobertaConfig.from_dict({**VALID, **changes})
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden_size": 18}, "hidden_size 18 cannot be divided among num_attention_heads 4"),
        ({"hidden_size": "768"}, "hidden_size is '768'; expected a whole number from 1"),
        ({"hidden_size": 16.0}, "hidden_size is 16.0; expected a whole number"),
        ({"hidden_size": True}, "hidden_size is True; expected a whole number"),
        ({"vocab_size": -1}, "vocab_size is -1; expected a whole number from 1"),
        ({"vocab_size": 10**5000}, "vocab_size is a huge number; expected a whole number from 1"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; expected a whole number from 1 to 1000"),
        ({"num_hidden_layers": None}, "num_hidden_layers is None; expected a whole number"),
        ({"num_labels": 10**9}, "num_labels is 1000000000"),
        ({"layer_norm_eps": 0}, "layer_norm_eps is 0; expected a number between 0 and 1"),
        ({"layer_norm_eps": "1e-5"}, "layer_norm_eps is '1e-5'"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps is nan"),
        ({"pad_token_id": None}, "pad_token_id is None; expected a token id"),
        ({"pad_token_id": 100}, "pad_token_id 100 is outside vocab_size 100"),
        ({"pad_token_id": 19}, "max_position_embeddings 20 leaves no room for a token"),
        ({"eos_token_id": ["2"]}, "eos_token_id is ['2']; expected a token id"),
        ({"architectures": "RobertaModel"}, "architectures is 'RobertaModel'; expected a list of names"),
        ({"id2label": ["a", "b"]}, "id2label is ['a', 'b']; expected an object"),
        ({"id2label": {"zero": "a"}}, "id2label has the key 'zero'; expected a label number"),
        ({"id2label": {"0": [7]}}, "id2label gives '0' the label [7]; expected a string"),
        ({"problem_type": "ranking"}, "problem_type is 'ranking'; expected null or one of regression"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'; expected true or false"),
        ({"dtype": 32}, "dtype is 32; expected a name"),
    ],
)
def test_an_impossible_value_gets_its_sentence(changes, sentence):
    with pytest.raises(ConfigError) as caught:
        RobertaConfig.from_dict({**VALID, **changes})
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("key", SIZES)
def test_a_missing_size_is_named(key):
    with pytest.raises(ConfigError, match=f"^{key} is missing"):
        RobertaConfig.from_dict({k: v for k, v in VALID.items() if k != key})


def test_a_config_that_is_no_object_says_so():
    with pytest.raises(ConfigError, match=r"a config is a JSON object, found \[1\]"):
        RobertaConfig.from_dict([1])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
KEYS = [
    *VALID, "type_vocab_size", "layer_norm_eps", "pad_token_id", "bos_token_id", "eos_token_id", "architectures",
    "id2label", "num_labels", "problem_type", "tie_word_embeddings", "dtype", "torch_dtype", "hidden_act",
    "position_embedding_type", "is_decoder", "pruned_heads", "quantization_config",
]  # fmt: skip


# The first draw builds Hypothesis's table of Unicode, which takes seconds on a busy machine.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4))
def test_any_json_gives_a_usable_config_or_one_sentence(changes):
    complaint = ""
    try:
        config = RobertaConfig.from_dict({**VALID, **changes})
    except ConfigError as error:
        complaint = str(error)
    else:
        assert config.head_dim * config.num_attention_heads == config.hidden_size
        assert config.max_length >= 1
        assert 0 < config.layer_norm_eps < 1
    assert "\n" not in complaint
    assert len(complaint) < 300


@pytest.mark.parity
class TestAgainstTransformers:
    @pytest.fixture(params=["RobertaConfig", "XLMRobertaConfig", "CamembertConfig", "BertConfig"])
    def theirs(self, request):
        return getattr(pytest.importorskip("transformers"), request.param)

    SAME = (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
        "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id", "bos_token_id",
        "eos_token_id", "model_type", "id2label", "num_labels", "problem_type", "tie_word_embeddings",
    )  # fmt: skip

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"num_labels": 5, "problem_type": "multi_label_classification"},
            {"id2label": {0: "O", 1: "B-PER"}, "tie_word_embeddings": False, "layer_norm_eps": 1e-5},
            {"vocab_size": 1000, "hidden_size": 48, "num_attention_heads": 6, "pad_token_id": 0},
        ],
    )
    def test_what_transformers_saves_is_read_alike(self, theirs, changes):
        expected = theirs(**changes)
        ours = RobertaConfig.from_dict(json.loads(expected.to_json_string()))
        assert {k: getattr(ours, k) for k in self.SAME} == {k: getattr(expected, k) for k in self.SAME}

    def test_absent_keys_have_the_defaults_of_transformers(self, theirs):
        values = {"model_type": theirs.model_type, **SIZES}
        ours, expected = RobertaConfig.from_dict(values), theirs(**SIZES)
        assert {k: getattr(ours, k) for k in self.SAME} == {k: getattr(expected, k) for k in self.SAME}
