"""Tokens and words: where they are in the text, and the vectors of their own characters."""

import json

import numpy as np
import pytest
import random_model
from hypothesis import example, given, strategies as st

import numroberta
from numroberta.tokenizer.unicode16 import WHITE_SPACE
from numroberta.tokenizer.windows import windows_with_context
from numroberta.tokenizer.words import word_vectors

TEXTS = [
    "The rain in Spain stays mainly in the plain.",
    'Ångström\'s naïve café: 12 € – "très" cher!',
    "  two  spaces, and a\nnew line ",
    "你好 world 🙂 and others\u3000wide",
    "I don't, we're, <mask> and </s> too",
]
# At most 60 tokens, 4 bytes each: the small model reads 62 at once, and longer texts have tests of their own.
SOME_TEXT = st.text(st.sampled_from("ab é中🙂'.,\n\t\x1c\u00a0\u3000\u200b<>mask/s"), max_size=15)


def without_white_space(text):
    """Unicode's White_Space, of which Python's `split` has four control characters more."""
    return "".join(character for character in text if character not in WHITE_SPACE)


@given(SOME_TEXT)
@example("don't")
def test_tokens_are_the_tokenizers_with_the_models_vectors(small, text):
    """Packed and alone differ by rounding."""
    found = small.encode_tokens(text)
    encoding = small.tokenizer(text)
    assert found.tokens == encoding.tokens
    assert found.offsets == encoding.offsets
    expected = small.model(np.array([encoding.ids])).last_hidden_state[0]
    np.testing.assert_allclose(found.vectors, expected, rtol=0, atol=1e-4)


@given(SOME_TEXT)
def test_words_are_the_text_without_its_white_space(small, text):
    found = small.encode_words(text)
    assert [text[begin:end] for begin, end in found.offsets] == found.words
    assert "".join(found.words) == without_white_space(text)
    assert found.vectors.shape == (len(found.words), small.config.hidden_size)


def assert_own_vectors(model, text):
    """Each word against the vectors of the tokens that hold its characters, found by their offsets alone."""
    first, mean, tokens = model.encode_words(text), model.encode_words(text, "mean"), model.encode_tokens(text)
    spans = np.array(tokens.offsets)
    is_blank = np.array([token == "Ġ" for token in tokens.tokens])
    for (begin, end), one, middle in zip(first.offsets, first.vectors, mean.vectors, strict=True):
        own = tokens.vectors[(spans[:, 0] < end) & (spans[:, 1] > begin) & ~is_blank]
        np.testing.assert_allclose(one, own[0], rtol=0, atol=3e-6)  # measured: 8.3e-7
        np.testing.assert_allclose(middle, own.mean(axis=0), rtol=0, atol=3e-6)  # measured: 7.2e-7


@pytest.mark.parametrize("text", TEXTS)
def test_a_word_has_the_vector_of_its_own_characters(small, text):
    assert_own_vectors(small, text)


@pytest.mark.slow
def test_every_naughty_string_gives_its_words_the_vectors_of_their_characters(small, shared):
    lines = json.loads((shared / "naughty" / "blns.json").read_text("utf-8"))
    with_words = [line for line in lines if line.split()]
    assert len(with_words) > 400
    for line in with_words:
        found = small.encode_words(line)
        assert [line[begin:end] for begin, end in found.offsets] == found.words
        assert "".join(found.words) == without_white_space(line)
        assert_own_vectors(small, line)


@pytest.mark.slow
def test_every_naughty_string_in_words_gives_a_vector_for_each(tiny, shared):
    lines = json.loads((shared / "naughty" / "blns.json").read_text("utf-8"))
    rows = [line.split() for line in lines if line.split()]
    for row, found in zip(rows, tiny.encode_words(rows), strict=True):
        assert found.words == row
        assert [" ".join(row)[begin:end] for begin, end in found.offsets] == row
        assert found.vectors.any(axis=1).all()


# --- Words that are cut already ----------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("aggregation", ["first", "mean"])
def test_words_are_read_as_transformers_reads_split_ones(small, small_folder, aggregation):
    """`is_split_into_words=True`, `add_prefix_space=True`, and RobertaModel."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    tokenizer = transformers.AutoTokenizer.from_pretrained(small_folder, add_prefix_space=True)
    model = transformers.RobertaModel.from_pretrained(small_folder, add_pooling_layer=False).eval()
    rows = [text.split() for text in TEXTS[:4]]
    for row, found in zip(rows, small.encode_words(rows, aggregation), strict=True):
        encoding = tokenizer(row, is_split_into_words=True, return_tensors="pt")
        with torch.inference_mode():
            vectors = model(**encoding).last_hidden_state[0].numpy()
        for index, vector in enumerate(found.vectors):
            places = [i for i, word in enumerate(encoding.word_ids()) if word == index]
            # transformers counts the space as a piece of the word where no letter was merged with it; here it is none.
            places = (
                places[1:] if tokenizer.convert_ids_to_tokens(int(encoding.input_ids[0, places[0]])) == "Ġ" else places
            )
            expected = vectors[places[0]] if aggregation == "first" else vectors[places].mean(axis=0)
            np.testing.assert_allclose(vector, expected, rtol=0, atol=3e-6)  # measured: 8.3e-7


def test_many_texts_give_what_each_gives_alone(small):
    rows = [text.split() for text in TEXTS] + [["one"], []]
    for row, found in zip(rows, small.encode_words(rows, "mean"), strict=True):
        alone = small.encode_words(row, "mean")
        assert (found.words, found.offsets) == (alone.words, alone.offsets)
        np.testing.assert_allclose(found.vectors, alone.vectors, rtol=0, atol=2.5e-6)  # measured: 6.9e-7
    assert small.encode_words([]).vectors.shape == (0, small.config.hidden_size)


def test_special_tokens_may_stand_among_the_words(small):
    found = small.encode_words(["a", "<mask>", "b"])
    np.testing.assert_allclose(found.vectors[1], small.encode_tokens(" a<mask> b").vectors[2], rtol=0, atol=1e-5)


# --- Layers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [[-1], [0], [-2, -1], [-4, -3, -2, -1], [1, 1]])
def test_layers_are_hidden_states_or_their_mean(small, layers):
    encoding = small.tokenizer(TEXTS[1])
    states = small.model(np.array([encoding.ids]), output_hidden_states=True).hidden_states
    expected = np.mean([states[layer][0] for layer in layers], axis=0)
    np.testing.assert_allclose(
        small.encode_tokens(TEXTS[1], layers).vectors, expected, rtol=0, atol=1e-6
    )  # measured: 1.2e-7
    first = small.encode_words(TEXTS[1], layers=layers).vectors[0]
    np.testing.assert_allclose(first, expected[1], rtol=0, atol=1e-6)  # measured: 3.0e-8


# --- Texts longer than the model ---------------------------------------------------------------------------------


@given(st.integers(0, 300), st.integers(4, 64))
def test_windows_keep_each_token_once_with_context_on_both_sides(length, size):
    parts = windows_with_context(length, size)
    assert [token for part in parts for token in range(part.first, part.last)] == list(range(length))
    for part in parts:
        assert part.stop - part.start <= size
        assert part.start <= part.first <= part.last <= part.stop
        margin = size // 4 // 2
        assert part.start == 0 or part.first - part.start >= margin
        assert part.stop == length or part.stop - part.last >= margin


def test_no_word_of_a_long_text_is_lost(small):
    words = [f"word{i}" for i in range(200)]
    for found in (small.encode_words(words), small.encode_words([words])[0]):
        assert found.words == words
        assert found.vectors.any(axis=1).all()
    text = " ".join(words)
    in_text = small.encode_words(text)
    assert "".join(in_text.words) == "".join(words)
    assert len(small.encode_tokens(text).tokens) == len(small.tokenizer(text, truncation=False))


def test_each_token_of_a_long_text_has_the_vector_of_one_window(small):
    text = "the rain in Spain " * 20
    ids = small.tokenizer(text, truncation=False).ids
    found = small.encode_tokens(text).vectors
    assert len(found) == len(ids)
    for part in windows_with_context(len(ids) - 2, small.max_length - 2):
        window = [ids[0], *ids[1:-1][part.start : part.stop], ids[-1]]
        expected = small.model(np.array([window])).last_hidden_state[0]
        mine = found[1 + part.first : 1 + part.last]
        np.testing.assert_allclose(
            mine, expected[1 + part.first - part.start : 1 + part.last - part.start], rtol=0, atol=1e-4
        )


# --- Bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "options", "error", "message"),
    [
        (["New York"], {}, ValueError, r"words\[0\] is 'New York', which has white space in it: give words as"),
        (["a", " b"], {}, ValueError, r"words\[1\] is ' b', which has white space in it"),
        ([["a"], ["b", ""]], {}, ValueError, r"words\[1\]\[1\] is '', which is no word"),
        (["a", None], {}, TypeError, r"words\[1\] is NoneType, expected a string"),
        ("a b", {"aggregation": "last"}, ValueError, "aggregation='last', expected one of 'first', 'mean'"),
        ("a b", {"layers": [4]}, ValueError, r"layers=\[4\], expected numbers from -4 to 3, at least one"),
        ("a b", {"layers": []}, ValueError, r"layers=\[\], expected numbers from -4 to 3, at least one"),
    ],
)
def test_encode_words_says_what_is_wrong(small, words, options, error, message):
    with pytest.raises(error, match=message):
        small.encode_words(words, **options)


def test_a_word_without_a_token_has_zeros():
    vectors = np.ones((2, 3))
    np.testing.assert_array_equal(word_vectors(vectors, [[0], []], "mean"), [[1, 1, 1], [0, 0, 0]])


# --- Relatives ---------------------------------------------------------------------------------------------------

CORPUS = [
    "Le café est fermé le lundi et le mardi.",
    "La pluie tombe sur la plaine, et le vent souffle.",
    "The rain in Spain stays mainly in the plain.",
    "Der Regen fällt auf die Ebene.",
] * 5


@pytest.fixture(scope="module", params=["xlm-roberta", "camembert"])
def relative(request, tmp_path_factory):
    """A random XLM-RoBERTa or CamemBERT with a Unigram tokenizer, written by transformers and tokenizers."""
    transformers = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp(request.param)
    tokenizer = random_model.unigram_tokenizer(CORPUS, 120, 64)
    tokenizer.save_pretrained(path)
    sizes = {key: value for key, value in random_model.SIZES.items() if key not in ("model_type", "vocab_size")}
    config = transformers.AutoConfig.for_model(request.param, **sizes, vocab_size=len(tokenizer), initializer_range=0.3)
    transformers.AutoModelForMaskedLM.from_config(config).save_pretrained(path)
    return path, tokenizer


@pytest.mark.parity
def test_a_relative_gives_transformers_vectors_and_predictions(relative):
    """Equal but for rounding."""
    import transformers

    path, tokenizer = relative
    ours = numroberta.load(path)
    model = transformers.AutoModel.from_pretrained(path)
    for text in [*CORPUS[:4], *TEXTS[:3]]:
        expected = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].detach().numpy()
        found = ours.encode_tokens(text)
        assert found.tokens == tokenizer(text).tokens()
        np.testing.assert_allclose(found.vectors, expected, rtol=0, atol=1e-5)
    pipeline = transformers.pipeline("fill-mask", model=str(path), tokenizer=tokenizer)
    for mine, expected in zip(ours.fill_mask("Le <mask>."), pipeline("Le <mask>."), strict=True):
        assert mine["score"] == pytest.approx(expected["score"], abs=1e-5)
        assert {**mine, "score": 0} == {**expected, "score": 0}


@pytest.mark.parity
def test_words_of_a_relative_are_those_between_white_space(relative):
    ours = numroberta.load(relative[0])
    for text in CORPUS[:4]:
        in_text, cut = ours.encode_words(text, "mean"), ours.encode_words(text.split(), "mean")
        assert in_text.words == cut.words == text.split()
        assert in_text.offsets == cut.offsets
        np.testing.assert_allclose(in_text.vectors, cut.vectors, rtol=0, atol=1e-5)
