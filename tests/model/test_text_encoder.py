"""`encode` keeps its word: any texts, in order, the same numbers in any company, and a clear word where it cannot."""

import os
import shutil
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import random_model
from hypothesis import given, settings, strategies as st
from safetensors.numpy import load_file, save_file

import numroberta
from numroberta.checkpoint import open_checkpoint
from numroberta.checkpoint.config import RobertaConfig

ROOT = Path(__file__).parents[2]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TEXTS = ["A man is playing a guitar.", "", "the and", " ", "日本語 👩‍👩‍👧", "x" * 50, "<mask> of the\n\tsea"]


def plain(enc, text, pooling="mean"):
    """One text's vector by the public parts: the tokenizer's ids, `Roberta`'s hidden states, and a line of NumPy."""
    hidden = enc.model([enc.tokenizer(text, max_length=enc.max_length).ids]).last_hidden_state[0]  # (tokens, hidden)
    return {"mean": hidden.mean(0), "max": hidden.max(0), "cls": hidden[0]}[pooling]


# --- What goes in and what comes out ------------------------------------------------------------------------


def test_a_string_gives_a_vector_and_a_list_gives_rows(small):
    one = small.encode("A man is playing a guitar.")
    assert (one.shape, one.dtype) == ((24,), np.float32)
    many = small.encode(TEXTS)
    assert (many.shape, many.dtype) == ((len(TEXTS), 24), np.float32)
    np.testing.assert_allclose(many[0], one, rtol=0, atol=1.2e-6)  # measured: 3.6e-7
    assert np.all(np.isfinite(many))


def test_no_texts_give_no_rows(small):
    found = small.encode([])
    assert (found.shape, found.dtype) == ((0, 24), np.float32)


@pytest.mark.parametrize(
    "sentences",
    [
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, object),
        dict.fromkeys(TEXTS).keys(),
        iter(TEXTS),
        (t for t in TEXTS),
    ],
    ids=["tuple", "array", "object array", "keys", "iterator", "generator"],
)
def test_any_iterable_of_texts_will_do(small, sentences):
    assert np.array_equal(small.encode(sentences), small.encode(TEXTS))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_a_vector_is_the_mean_the_maximum_or_the_first_of_its_tokens(small, pooling):
    expected = np.stack([plain(small, text, pooling) for text in TEXTS])
    np.testing.assert_allclose(small.encode(TEXTS, pooling=pooling), expected, rtol=0, atol=2.4e-6)  # measured: 7.2e-7


def test_normalized_vectors_have_length_one_and_the_same_direction(small):
    found = small.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=0, atol=2.4e-7)  # measured: 6.0e-8
    plain_vectors = small.encode(TEXTS)
    # measured: 1.2e-7
    np.testing.assert_allclose(
        found * np.linalg.norm(plain_vectors, axis=1, keepdims=True), plain_vectors, rtol=0, atol=4.8e-7
    )


def test_hidden_states_are_transformers_shapes_and_padding_is_zero(small):
    out = small.model([[0, 9, 2, 1], [0, 9, 8, 2]], [[1, 1, 1, 0], [1, 1, 1, 1]], output_hidden_states=True)
    assert out.last_hidden_state.shape == (2, 4, 24)
    assert len(out.hidden_states) == 4
    assert out.attentions is None
    assert np.all(out.last_hidden_state[0, 3] == 0)


# --- Order, batches, threads --------------------------------------------------------------------------------


@given(st.lists(TEXT, max_size=40), st.integers(1, 50), st.integers(1, 3))
@settings(max_examples=40)
def test_order_batch_size_and_threads_change_nothing_beyond_rounding(small, texts, batch_size, num_threads):
    other = numroberta.load(small.checkpoint.folder, num_threads=num_threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = other.encode(texts, batch_size=batch_size)
        for vector, text in zip(found, texts, strict=True):
            np.testing.assert_allclose(vector, plain(small, text), rtol=0, atol=1.9e-6)  # measured: 4.8e-7


def test_more_texts_than_a_window_come_back_in_order(small):
    texts = [f"{i} the sea {'and ' * (i % 7)}" for i in range(2500)]
    found = small.encode(texts)
    for i in (0, 1, 1023, 1024, 2047, 2048, 2499):
        np.testing.assert_allclose(found[i], plain(small, texts[i]), rtol=0, atol=1.4e-6)  # measured: 3.6e-7


def test_stream_gives_the_same_rows_and_reads_no_further_than_it_must(small):
    read = []

    def texts():
        for i in range(5000):
            read.append(i)
            yield f"text {i}"

    stream = small.encode_stream(texts())
    first = next(stream)
    assert len(read) <= 2048
    np.testing.assert_allclose(first[7], plain(small, "text 7"), rtol=0, atol=8e-7)  # measured: 2.4e-7


BITS = """
import sys
import numpy as np
import numroberta

folder = sys.argv[1]
words = "the sea and a man in her other guitar playing".split()
rng = np.random.default_rng(0)
texts = [" ".join(rng.choice(words, n)) for n in rng.integers(1, 25, 12)]
reference = None
for threads, low_memory in ((1, False), (2, False), (3, False), (2, True)):
    enc = numroberta.load(folder, deterministic=True, num_threads=threads, low_memory=low_memory)
    if reference is None:
        reference = np.stack([enc.encode(text) for text in texts])
    for batch_size in (1, 32):
        order = rng.permutation(len(texts))
        found = enc.encode([texts[i] for i in order], batch_size=batch_size)
        assert np.array_equal(found, reference[order]), (threads, batch_size)
    ids = [enc.tokenizer(text).ids for text in texts]
    width = max(map(len, ids))
    mask = np.arange(width) < np.array([[len(row)] for row in ids])
    padded = np.array([row + [1] * (width - len(row)) for row in ids])
    together = enc.model(padded, mask).last_hidden_state
    alone = enc.model([ids[3]]).last_hidden_state
    assert np.array_equal(together[3, mask[3]], alone[0]), threads
print(len(texts))
"""


@pytest.fixture(scope="module")
def uneven_folder(tmp_path_factory):
    """Sizes that no cut and no SIMD width divides."""
    sizes = {"hidden_size": 7 * 27, "num_attention_heads": 7, "intermediate_size": 331, "max_position_embeddings": 386}
    return random_model.write(tmp_path_factory.mktemp("uneven"), **sizes)


def kernels_of_openblas():
    """Names for OPENBLAS_CORETYPE that this processor can run; the empty one is OpenBLAS's own choice."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return [""]
    needs = {"": set(), "Nehalem": {"sse4_2"}, "Haswell": {"avx2", "fma"}}
    needs["SkylakeX"] = {"avx512f", "avx512dq", "avx512bw", "avx512vl"}
    return [name for name, flag in needs.items() if flag <= flags]


@pytest.mark.parametrize("kernel", kernels_of_openblas())
def test_deterministic_vectors_have_the_same_bits_alone_in_any_batch_and_on_any_number_of_threads(
    kernel, uneven_folder
):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS")}
    environment |= {"OPENBLAS_CORETYPE": kernel} if kernel else {}
    found = subprocess.run(
        [sys.executable, "-c", BITS, str(uneven_folder)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (found.stdout, found.stderr) == ("12\n", "")


def test_low_memory_gives_the_same_bits(uneven_folder):
    usual, frugal = (numroberta.load(uneven_folder, num_threads=1, low_memory=low) for low in (False, True))
    assert np.array_equal(frugal.encode(TEXTS), usual.encode(TEXTS))
    assert np.array_equal(frugal.encode(TEXTS), usual.encode(TEXTS))  # the pages come back from the file


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="this system does not list its mapped pages")
def test_low_memory_leaves_no_weights_in_memory(tmp_path):
    sizes = {"vocab_size": 20_000, "hidden_size": 192, "intermediate_size": 768}
    folder = random_model.write(tmp_path / "wide", "pooler", **sizes)

    def resident(low_memory):
        """Of the weights' 21 MB, how many are in memory after texts of all kinds of words."""
        encoder = numroberta.load(folder, num_threads=1, low_memory=low_memory)
        encoder.model(np.random.default_rng(0).integers(4, 20_000, (16, 64)))
        lines = iter(Path("/proc/self/smaps").read_text().splitlines())
        sizes = [next(rss for rss in lines if rss.startswith("Rss:")) for line in lines if str(folder) in line]
        return sum(int(size.split()[1]) for size in sizes) / 1024

    assert resident(low_memory=False) > 8  # of layers 5, of word embeddings the rows that were read, with neighbours
    assert resident(low_memory=True) < 5  # the pooler's, with neighbours; measured: 0.7, beside 20


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="this system does not list its mapped pages")
def test_of_a_large_vocabulary_few_rows_stay_in_memory(tmp_path):
    sizes = {"vocab_size": 100_000, "hidden_size": 48, "num_attention_heads": 4}
    folder = random_model.write(tmp_path / "many_words", **sizes)
    encoder = numroberta.load(folder, num_threads=1)
    table = encoder.checkpoint.stored["embeddings.word_embeddings.weight"]
    size = (table.stop - table.start) / 2**20
    assert size > 16

    def resident():
        """MB of the weights that are in memory."""
        lines = iter(Path("/proc/self/smaps").read_text().splitlines())
        sizes = [next(rss for rss in lines if rss.startswith("Rss:")) for line in lines if str(folder) in line]
        return sum(int(size.split()[1]) for size in sizes) / 1024

    ids = np.random.default_rng(0).integers(4, 100_000, (64, 64))
    first = encoder.model(ids).last_hidden_state
    assert resident() < size / 4  # measured: 0.5 of 18; with all that was read, and its neighbours, 18
    np.testing.assert_array_equal(encoder.model(ids).last_hidden_state, first)


def test_float64_is_computed_in_float64(small):
    exact = numroberta.load(small.checkpoint.folder, dtype="float64").encode(TEXTS)
    assert exact.dtype == np.float64
    np.testing.assert_allclose(small.encode(TEXTS), exact, rtol=0, atol=1e-6)  # measured: 3.1e-7
    assert not np.array_equal(exact, exact.astype(np.float32))


def test_memory_does_not_grow_with_the_number_of_texts(small):
    def peak(number):
        tracemalloc.start()
        for _ in small.encode_stream(f"text {i % 9} of the sea" for i in range(number)):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1024)
    few, many = peak(8 * 1024), peak(24 * 1024)
    assert many < 1.2 * few  # the vectors of 16,384 texts more are 1.6 MB, three times as much


# --- Too long, and wrong ------------------------------------------------------------------------------------


def test_texts_over_the_limit_are_cut_with_one_warning_that_says_how_many(small):
    long = " the" * 100  # 100 tokens, of which 62 fit between <s> and </s>
    texts = ["the", long, "and", long + " and", ""]
    with pytest.warns(UserWarning, match="tokens") as caught:
        found = small.encode(texts)
    assert [str(w.message) for w in caught] == [
        "2 of 5 texts have more than 64 tokens: only the first 64 were read, 77 tokens were left out"
    ]
    assert caught[0].filename == __file__
    np.testing.assert_allclose(found[1], plain(small, " the" * 62), rtol=0, atol=8e-7)  # measured: 2.4e-7


WARNINGS = {
    "encode": lambda model: model.encode([" the" * 100]),
    "encode tokens": lambda model: model.encode([" the" * 100], output_value="token_embeddings"),
    "encode_stream": lambda model: list(model.encode_stream([" the" * 100])),
    "encode_query": lambda model: model.encode_query([" the" * 100]),
    "encode int8": lambda model: model.encode(["a", "b"], precision="int8"),
    "classify": lambda model: model.classify([" the" * 100]),
    "tag": lambda model: model.tag(" the" * 100),
    "fill_mask": lambda model: model.fill_mask("a <mask>", targets=["zebra"]),
}


@pytest.mark.parametrize("method", WARNINGS)
def test_a_warning_blames_the_line_that_called(model_with, method):
    with pytest.warns(UserWarning, match=" texts have more than 64 tokens|are few|is 5 pieces") as caught:
        WARNINGS[method](model_with(method.split()[0]))
    assert [(one.filename, one.lineno) for one in caught] == [(__file__, WARNINGS[method].__code__.co_firstlineno)]


def test_a_warning_about_a_checkpoint_blames_the_line_that_loads_it(small_folder, tmp_path):
    tensors = load_file(small_folder / "model.safetensors") | {"extra": np.zeros(3, np.float32)}
    shutil.copytree(small_folder, tmp_path, dirs_exist_ok=True)
    save_file(tensors, tmp_path / "model.safetensors")
    for load in (numroberta.load, open_checkpoint):
        with pytest.warns(
            UserWarning, match="1 tensors have no place in this model and are left out: 'extra'"
        ) as caught:
            load(tmp_path)
        assert caught[0].filename == __file__


def test_classify_says_how_many_tokens_were_left_out(model_with):
    texts = ["the", " the" * 100, " the" * 70]
    with pytest.warns(UserWarning, match=r"^2 of 3 texts have more than 64 tokens: .* 46 tokens were left out$"):
        model_with("classify").classify(texts)


def test_a_text_that_just_fits_is_not_cut(small):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small.encode(" the" * 62)


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        (["the", None], r"sentences\[1\] is NoneType, expected a string"),
        (["the"] * 1500 + [7], r"sentences\[1500\] is int, expected a string"),
        ([["the"]], r"sentences\[0\] is list, expected a string"),
        ([float("nan")], r"sentences\[0\] is NaN, expected a string .missing in all: 1"),
        (b"the", "sentences is bytes, expected a string or a list of strings"),
        (None, "sentences is NoneType, expected a string or a list of strings"),
        (7, "sentences is int, expected a string or a list of strings"),
    ],
)
def test_what_is_not_text_is_named(small, sentences, message):
    with pytest.raises(TypeError, match=message):
        small.encode(sentences)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "sum"}, "pooling='sum', expected one of 'mean', 'cls', 'max'"),
        ({"batch_size": 0}, "batch_size=0, expected at least 1"),
    ],
)
def test_bad_arguments_of_encode_are_one_sentence(small, arguments, message):
    with pytest.raises(ValueError, match=message):
        small.encode(["the"], **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "float16"}, "dtype='float16', expected 'float32' or 'float64'"),
        ({"dtype": "quick"}, "dtype='quick', expected 'float32' or 'float64'"),
        ({"num_threads": 0}, "num_threads=0, expected at least 1"),
        ({"num_threads": "2"}, "num_threads='2', expected a whole number, at least 1"),
    ],
)
def test_bad_arguments_of_load_are_one_sentence(small_folder, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        numroberta.load(small_folder, **arguments)


def test_a_lone_surrogate_is_a_clear_error(small):
    with pytest.raises(ValueError, match="surrogate"):
        small.encode(["fine", "broken \ud800"])


def test_a_folder_without_a_tokenizer_says_so(tmp_path):
    folder = random_model.write(tmp_path / "model")
    (folder / "vocab.json").unlink()
    (folder / "merges.txt").unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=r"tokenizer\.json"):
        numroberta.load(folder)


# --- The whole, as a user meets it --------------------------------------------------------------------------


def test_encode_is_the_textbook_from_tokens_to_mean(small):
    config = small.config
    assert isinstance(config, RobertaConfig)
    out = numroberta.textbook.forward(
        small.checkpoint.tensors, [small.tokenizer("the sea").ids], num_attention_heads=config.num_attention_heads
    )
    np.testing.assert_allclose(
        small.encode("the sea"), out.last_hidden_state[0].mean(0), rtol=0, atol=8e-7
    )  # measured: 2.4e-7


def test_the_built_in_model_knows_which_sentences_are_alike(tiny):
    guitar, instrument, market = tiny.encode(
        ["A man is playing a guitar.", "Someone plays an instrument.", "The stock market fell."],
        normalize_embeddings=True,
    )
    assert guitar @ instrument > guitar @ market + 0.1
    assert guitar @ instrument > instrument @ market + 0.1


def test_the_built_in_model_agrees_with_sts_judges_more_than_shared_words_do(tiny, shared):
    """Spearman's correlation on the STS Benchmark's development set: 300 pairs."""
    lines = (shared / "sts" / "sts-dev.csv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line][:300]
    judged = np.array([float(row[4]) for row in rows])
    a, b = (tiny.encode([row[column] for row in rows], normalize_embeddings=True) for column in (5, 6))

    def words(row, column):
        return set(row[column].lower().rstrip(".").split())

    overlap = [len(words(r, 5) & words(r, 6)) / max(1, len(words(r, 5) | words(r, 6))) for r in rows]

    def ranks(x):
        return np.argsort(np.argsort(x, kind="stable"))

    def spearman(x):
        return np.corrcoef(ranks(x), ranks(judged))[0, 1]

    assert spearman((a * b).sum(1)) > max(0.5, spearman(np.array(overlap)))
