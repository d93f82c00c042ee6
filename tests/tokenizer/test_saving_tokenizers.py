"""A saved tokenizer is the same tokenizer: to this package, to the tokenizers library, to transformers."""

import json
import random

import pytest
from tokenizer.test_files import added, template_json, tokenizer_json, write, write_old

from numroberta.tokenizer.tokenizer import Tokenizer

TEXTS = ["", "the low", " the <mask> low\u00e9", "  two\n\nlines ", "\U0001f600 <s> </s>", "new york, the new"]


def trimming_json():
    """No space is put in front of a text, and one that is there is not trimmed either."""
    content = tokenizer_json()
    content["post_processor"]["add_prefix_space"] = True
    return content


def saved(tokenizer, folder):
    folder.mkdir()
    tokenizer.save(folder)
    return Tokenizer.load(folder)


def assert_same(first, second):
    assert first._spec.names == second._spec.names
    assert (first.max_length, first.vocab_size) == (second.max_length, second.vocab_size)
    for text in TEXTS:
        assert first(text) == second(text)
        assert first(text, "the low") == second(text, "the low")
        assert first.decode(first(text).ids) == second.decode(second(text).ids)


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("trim", [False, True])
def test_what_is_saved_loads_as_the_same_tokenizer(tmp_path, prefix, trim):
    settings = {"add_prefix_space": prefix, "trim_offsets": trim, "model_max_length": 40}
    settings["mask_token"] = {"content": "<mask>", "lstrip": True, "rstrip": True}
    first = Tokenizer.load(write_old(tmp_path, tokenizer_config=settings))
    assert_same(first, saved(first, tmp_path / "saved"))


def test_a_frame_of_its_own_is_saved_too(tmp_path):
    first = Tokenizer.load(write(tmp_path, tokenizer=template_json()))
    assert_same(first, saved(first, tmp_path / "saved"))


def test_added_tokens_are_saved_with_their_flags(tmp_path):
    more = added("new york", 300, special=False, single_word=True, rstrip=True)
    content = tokenizer_json()
    content["added_tokens"].append(more | {"id": len(content["model"]["vocab"])})
    first = Tokenizer.load(write(tmp_path, tokenizer=content))
    second = saved(first, tmp_path / "saved")
    assert second("a new york b").tokens.count("new york ") == 1
    assert_same(first, second)


def test_a_changed_length_is_saved(tmp_path):
    first = Tokenizer.load(write_old(tmp_path))
    first.max_length = 20
    assert saved(first, tmp_path / "saved").max_length == 20


def test_the_library_gives_the_offsets_of_a_space_that_only_the_trimming_keeps(tmp_path):
    """Whether a space is put in front, and whether one in front is trimmed, are two settings of one name."""
    tokenizers = pytest.importorskip("tokenizers")
    ours = Tokenizer.load(write(tmp_path, tokenizer=trimming_json()))
    assert_same(ours, saved(ours, tmp_path / "saved"))
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "saved" / "tokenizer.json"))
    assert ours(" the low").offsets[1] == (0, 4)
    for text in TEXTS:
        assert library.encode(text).offsets == ours(text).offsets


@pytest.mark.parity
@pytest.mark.parametrize("which", ["old", "new", "trimming", "template"])
def test_transformers_reads_what_is_saved(tmp_path, which):
    transformers = pytest.importorskip("transformers")
    write_it = {
        "old": lambda: write_old(tmp_path),
        "new": lambda: write(tmp_path, tokenizer=tokenizer_json()),
        "trimming": lambda: write(tmp_path, tokenizer=trimming_json()),
        "template": lambda: write(tmp_path, tokenizer=template_json()),
    }[which]
    ours = Tokenizer.load(write_it())
    again = saved(ours, tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_text('{"model_type": "roberta"}')
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert theirs.model_max_length == ours.max_length
    for text in TEXTS:
        for pair in (None, "the low"):
            expected = theirs(text, pair, return_offsets_mapping=True)
            for encoding in (ours(text, pair), again(text, pair)):
                assert encoding.ids == expected["input_ids"]
                assert encoding.offsets == expected["offset_mapping"]


def test_the_vocabulary_of_roberta_base_survives(shared, tmp_path):
    first = Tokenizer.load(shared / "tokenizer" / "roberta-base")
    second = saved(first, tmp_path / "saved")
    lines = (shared / "corpus" / "mixed.txt").read_text("utf-8").split("\n")
    for text in random.Random(0).sample(lines, 100):
        assert first(text) == second(text)
    content = json.loads((tmp_path / "saved" / "tokenizer.json").read_text("utf-8"))
    assert content["model"]["vocab"]["Ġworld"] == first.token_to_id("Ġworld")
