"""A tokenizer's files are read as transformers writes them, and refused in one sentence where they make no sense."""

import json

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from numroberta.tokenizer.bpe import BYTE_TO_SYMBOL
from numroberta.tokenizer.files import load_tokenizer_spec
from numroberta.tokenizer.tokenizer import Tokenizer

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
MERGES = ["Ġ t", "h e", "Ġt he", "l o", "lo w"]
VOCAB = {token: n for n, token in enumerate(SPECIAL + BYTE_TO_SYMBOL + [m.replace(" ", "") for m in MERGES])}


def added(content, number, **flags):
    plain = {"single_word": False, "lstrip": content == "<mask>", "rstrip": False, "normalized": False, "special": True}
    return {"id": number, "content": content, **plain, **flags}


def tokenizer_json(**changes):
    content = {
        "version": "1.0",
        "added_tokens": [added(token, n) for n, token in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": ["</s>", 2],
            "cls": ["<s>", 0],
            "trim_offsets": True,
            "add_prefix_space": False,
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": VOCAB, "merges": MERGES},
    }
    return content | changes


def write(folder, **files):
    for name, content in files.items():
        path = folder / {"merges": "merges.txt"}.get(name, f"{name}.json")
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def write_old(folder, vocab=VOCAB, merges=MERGES, **more):
    return write(folder, vocab=vocab, merges="\n".join(["#version: 0.2", *merges, ""]), **more)


def test_both_kinds_of_files_say_the_same(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old = Tokenizer.load(write_old(tmp_path / "old"))
    new = Tokenizer.load(write(tmp_path / "new", tokenizer=tokenizer_json()))
    for text in ("the low", " the <mask> low\u00e9", ""):
        assert old(text) == new(text)
    assert old("the  <mask>").tokens == ["<s>", "t", "he", "  <mask>", "</s>"]
    assert old.mask_token_id == new.mask_token_id == 4


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "merges.txt", ""])
def test_a_folder_or_any_of_its_files_will_do(tmp_path, name):
    write_old(tmp_path, tokenizer=tokenizer_json())
    assert Tokenizer.load(tmp_path / name)(" the").tokens == ["<s>", "Ġthe", "</s>"]
    assert Tokenizer.load(str(tmp_path / name))(" the").tokens == ["<s>", "Ġthe", "</s>"]


def test_merges_may_be_lists(tmp_path):
    lists = {"type": "BPE", "vocab": VOCAB, "merges": [line.split(" ") for line in MERGES]}
    assert load_tokenizer_spec(write(tmp_path, tokenizer=tokenizer_json(model=lists))).merges == MERGES


def test_the_model_may_leave_out_its_type_as_roberta_bases_does(tmp_path):
    content = tokenizer_json(model={"vocab": VOCAB, "merges": MERGES})
    assert not load_tokenizer_spec(write(tmp_path, tokenizer=content)).foreign


def test_a_carriage_return_ends_a_line_of_merges(tmp_path):
    write(tmp_path, vocab=VOCAB, merges="#version: 0.2\r\n" + "\r\n".join(MERGES) + "\r\n")
    assert load_tokenizer_spec(tmp_path).merges == MERGES


def test_settings_beside_the_main_file_have_the_last_word(tmp_path):
    settings = {
        "add_prefix_space": True,
        "trim_offsets": False,
        "model_max_length": 40,
        "mask_token": {"content": "<mask>", "lstrip": False, "rstrip": True},
    }
    spec = load_tokenizer_spec(write(tmp_path, tokenizer=tokenizer_json(), tokenizer_config=settings))
    assert (spec.add_prefix_space, spec.trim_offsets, spec.max_length) == (True, False, 40)
    mask = next(token for token in spec.added if token.content == "<mask>")
    assert (mask.lstrip, mask.rstrip, mask.id) == (False, True, 4)


def test_without_a_stated_length_nothing_is_cut(tmp_path):
    """The model's positions limit a text then: 512 would cut a model of 1,024."""
    settings = {"model_max_length": 1000000000000000019884624838656}
    write(tmp_path, tokenizer=tokenizer_json())
    for _ in range(2):
        assert len(Tokenizer.load(tmp_path)("the low" * 500)) > 1000
        write(tmp_path, tokenizer_config=settings)


def test_max_len_is_the_old_name_of_the_length(tmp_path):
    write(tmp_path, tokenizer=tokenizer_json(), tokenizer_config={"max_len": 40})
    assert Tokenizer.load(tmp_path).max_length == 40
    write(tmp_path, tokenizer_config={"max_len": 40, "model_max_length": 50})
    assert Tokenizer.load(tmp_path).max_length == 50


def test_tokens_added_later_are_found_in_text(tmp_path):
    number = len(VOCAB)
    write_old(tmp_path, added_tokens={"<name>": number})
    assert Tokenizer.load(tmp_path)("the <name>.").ids[-3:] == [number, VOCAB["."], 2]
    decoder = {str(number): added("<other>", number, special=False)}
    write(tmp_path, added_tokens={}, tokenizer_config={"added_tokens_decoder": decoder})
    tok = Tokenizer.load(tmp_path)
    assert tok("<other>").ids == [0, number, 2]
    assert tok.vocab_size == number + 1


def test_special_tokens_may_have_other_names(tmp_path):
    renamed = {{"<s>": "[CLS]", "</s>": "[SEP]", "<mask>": "[MASK]"}.get(t, t): n for t, n in VOCAB.items()}
    names = {"cls_token": "[CLS]", "sep_token": {"content": "[SEP]"}, "mask_token": "[MASK]", "eos_token": "[SEP]"}
    tok = Tokenizer.load(write_old(tmp_path, vocab=renamed, special_tokens_map=names))
    assert tok("the [MASK]", "low").tokens == ["[CLS]", "t", "he", " [MASK]", "[SEP]", "[SEP]", "low", "[SEP]"]
    assert (tok.mask_token_id, tok.eos_token_id, tok.bos_token_id) == (4, 2, None)


def template_json():
    token = {name: {"SpecialToken": {"id": name, "type_id": 0}} for name in ("<s>", "</s>")}
    a, b = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    template = {
        "type": "TemplateProcessing",
        "single": [token["<s>"], a, token["</s>"]],
        "pair": [token["<s>"], a, token["</s>"], b, token["</s>"]],
        "special_tokens": {name: {"id": name, "ids": [VOCAB[name]], "tokens": [name]} for name in token},
    }
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    both = {"type": "Sequence", "processors": [byte_level, template]}
    return tokenizer_json(post_processor=both)


def test_a_template_gives_the_frame(tmp_path):
    tok = Tokenizer.load(write(tmp_path, tokenizer=template_json()))
    assert tok("the", "low").tokens == ["<s>", "t", "he", "</s>", "low", "</s>"]
    assert tok(" low").offsets == [(0, 0), (1, 1), (1, 4), (0, 0)]


@pytest.mark.parametrize("processor", [None, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}])
def test_no_frame_is_invented_for_a_tokenizer_that_has_none(tmp_path, processor):
    """Neither transformers nor the tokenizers library puts anything around the text then."""
    write(tmp_path, tokenizer=tokenizer_json(post_processor=processor))
    for config in ({}, {"tokenizer_class": "PreTrainedTokenizerFast"}, {"tokenizer_class": "GPT2Tokenizer"}):
        tok = Tokenizer.load(write(tmp_path, tokenizer_config=config))
        assert tok("the low").tokens == ["t", "he", "Ġ", "low"]
        assert tok("the", "low").tokens == ["t", "he", "low"]
        assert tok.around == ([], [])


@pytest.mark.parametrize("name", ["RobertaTokenizerFast", "RobertaTokenizer"])
def test_robertas_class_brings_robertas_frame(tmp_path, name):
    write(tmp_path, tokenizer=tokenizer_json(post_processor=None), tokenizer_config={"tokenizer_class": name})
    assert Tokenizer.load(tmp_path)("the", "low").tokens == ["<s>", "t", "he", "</s>", "</s>", "low", "</s>"]


def test_without_a_class_the_models_type_decides(tmp_path):
    write(tmp_path, tokenizer=tokenizer_json(post_processor=None), config={"model_type": "roberta"})
    assert Tokenizer.load(tmp_path)("the").tokens == ["<s>", "t", "he", "</s>"]


def test_berts_post_processor_has_one_separator_and_two_types(tmp_path):
    processor = {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}
    tok = Tokenizer.load(write(tmp_path, tokenizer=tokenizer_json(post_processor=processor)))
    assert tok("the", "low").tokens == ["<s>", "t", "he", "</s>", "low", "</s>"]
    assert set(tok("the", "low").type_ids) == {0}  # which the model is not told
    write(tmp_path, tokenizer_config={"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]})
    tok = Tokenizer.load(tmp_path)
    assert tok("the", "low").type_ids == [0, 0, 0, 0, 1, 1]
    assert tok("the").type_ids == [0, 0, 0, 0]


@pytest.mark.parity
@pytest.mark.parametrize("name", [None, "RobertaTokenizer", "PreTrainedTokenizerFast"])
@pytest.mark.parametrize("processor", ["none", "bert", "template"])
def test_frames_and_types_are_those_of_transformers(tmp_path, name, processor):
    transformers = pytest.importorskip("transformers")
    content = {
        "none": tokenizer_json(post_processor=None),
        "bert": tokenizer_json(post_processor={"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}),
        "template": template_json(),
    }[processor]
    settings = {"cls_token": "<s>", "sep_token": "</s>", **({"tokenizer_class": name} if name else {})}
    write(tmp_path, tokenizer=content, tokenizer_config=settings, config={"model_type": "roberta"})
    if processor != "none" and name != "PreTrainedTokenizerFast":
        pytest.skip("transformers 5 replaces what the file says by RobertaProcessing, 4 did not")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer.load(tmp_path)
    for texts in (("the low",), ("the low", "low")):
        expected = theirs(*texts)
        encoding = ours(*texts)
        assert encoding.ids == expected["input_ids"]
        assert encoding.type_ids == expected.get("token_type_ids", [0] * len(encoding))


def test_tokens_added_beside_tokenizer_json_are_found_in_text(tmp_path):
    number = len(VOCAB)
    write(tmp_path, tokenizer=tokenizer_json(), added_tokens={"<name>": number, "<mask>": 4})
    assert Tokenizer.load(tmp_path)("the <name>.").ids[-3:] == [number, VOCAB["."], 2]
    write(tmp_path, tokenizer_config={"added_tokens_decoder": {}})  # which newer versions write instead
    assert number not in Tokenizer.load(tmp_path)("the <name>.").ids


def test_the_tokenizers_of_phobert_and_bertweet_are_named(tmp_path):
    (tmp_path / "vocab.txt").write_text("a 1\n")
    (tmp_path / "bpe.codes").write_text("a b 1\n")
    with pytest.raises(FileNotFoundError, match=r"PhoBERT's or BERTweet's tokenizer \(bpe\.codes\).*give the ids to"):
        Tokenizer.load(tmp_path)


def test_tokenizer_config_wins_over_special_tokens_map(tmp_path):
    write_old(tmp_path, special_tokens_map={"mask_token": "<unk>"}, tokenizer_config={"mask_token": "<mask>"})
    assert Tokenizer.load(tmp_path).mask_token_id == 4


def test_merges_may_begin_with_the_sign_of_a_number(tmp_path):
    vocab = {**VOCAB, "##": len(VOCAB)}
    tok = Tokenizer.load(write_old(tmp_path, vocab=vocab, merges=[*MERGES, "# #"]))
    assert tok("##").ids == [0, len(VOCAB), 2]


BROKEN = [
    ({"tokenizer": "{"}, "is not JSON"),
    ({"tokenizer": "[1]"}, "holds .*; expected a JSON object"),
    ({"tokenizer": tokenizer_json(model={"vocab": {}, "merges": []})}, "has no vocabulary"),
    ({"tokenizer": tokenizer_json(model={"vocab": {"a": "0"}, "merges": []})}, "'a' the id '0'"),
    ({"tokenizer": tokenizer_json(model={"vocab": {"a": -1}, "merges": []})}, "'a' the id -1"),
    ({"tokenizer": tokenizer_json(model={"vocab": {"a": True}, "merges": []})}, "'a' the id True"),
    ({"tokenizer": tokenizer_json(model={"vocab": VOCAB | {"xx": 7}, "merges": []})}, "the id 7 to both .* and 'xx'"),
    ({"tokenizer": tokenizer_json(model={"vocab": VOCAB, "merges": ["h e", "q q"]})}, "merge 2 .* names 'qq'"),
    ({"tokenizer": tokenizer_json(model={"vocab": VOCAB, "merges": ["he"]})}, "merge 1 is 'he', expected two"),
    ({"tokenizer": tokenizer_json(model={"vocab": VOCAB, "merges": ["h e", 5]})}, "merge 1 is|merge 2 is 5"),
    ({"tokenizer": tokenizer_json(model={"type": "BPE", "vocab": VOCAB})}, "no list of merges"),
    ({"tokenizer": tokenizer_json(added_tokens=[added("<mask>", 9)])}, "'<mask>' has the id 9, but .* at 4"),
    ({"tokenizer": tokenizer_json(added_tokens=[added("<new>", 9)])}, "'<new>' has the id 9, but .* at 9"),
    ({"tokenizer": tokenizer_json(added_tokens=[{"id": 1}])}, "added token"),
    (
        {
            "tokenizer": tokenizer_json(
                post_processor={"type": "RobertaProcessing", "sep": ["</s>", 7], "cls": ["<s>", 0]}
            )
        },
        r"'sep' is \['</s>', 7\], expected .* \(2\)",
    ),
    (
        {"tokenizer": tokenizer_json(model={"vocab": VOCAB, "merges": MERGES, "unk_token": "<nothing>"})},
        "unk_token '<nothing>' is not in the vocabulary",
    ),
    ({"vocab": {"a": 0, "b": 1}, "merges": ""}, "'<s>' is not in the vocabulary"),
    ({"vocab": VOCAB, "merges": "#version: 0.2\nh e\nz z\n"}, "merge 2 .* names 'zz'"),
]


@pytest.mark.parametrize(("files", "sentence"), BROKEN)
@pytest.mark.parametrize("backend", ["python", "tokenizers"])
def test_broken_files_are_refused_in_one_sentence(tmp_path, files, sentence, backend):
    with pytest.raises(ValueError, match=sentence) as caught:
        Tokenizer.load(write(tmp_path, **files), backend)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a folder with tokenizer\.json, with vocab\.json"):
        Tokenizer.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="has none of them"):
        Tokenizer.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"merges\.txt beside it"):
        Tokenizer.load(write(tmp_path, vocab=VOCAB))
    (tmp_path / "vocab.json").rename(tmp_path / "sentencepiece.bpe.model")
    with pytest.raises(FileNotFoundError, match=r"only sentencepiece\.bpe\.model; transformers writes tok"):
        Tokenizer.load(tmp_path)


def assert_refused_or_read(path):
    sentence = str(path)
    try:
        tok = Tokenizer.load(path, "python")
        assert len(tok("the low", "low").ids) >= 2
    except ValueError as error:
        sentence = str(error)
    assert str(path) in sentence


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read(tmp_path, data):
    """Bytes overwritten or cut off: a ValueError, or a tokenizer that works; never another exception."""
    content = bytearray(json.dumps(tokenizer_json()).encode())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.sampled_from(b'"{}[]:,0x\\\xff '))
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2, 1]))])
    assert_refused_or_read(path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_json_of_another_shape_is_refused_or_read(tmp_path, data):
    """One value anywhere in the file replaced by something else that is JSON."""
    content = json.loads(json.dumps(data.draw(st.sampled_from([tokenizer_json(), template_json()]))))
    place = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(st.sampled_from([None, 0, -1, 2.5, True, "", "x y", [], ["a"], {}, {"type": "x"}]))
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert_refused_or_read(tmp_path / "tokenizer.json")
