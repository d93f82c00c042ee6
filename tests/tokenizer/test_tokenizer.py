"""Both backends give, for any text, what the `tokenizers` library and transformers' AutoTokenizer give."""

import json
import os
import pickle
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings, strategies as st

from numroberta.tokenizer.backends import Tokens, trimmed
from numroberta.tokenizer.bpe import BYTE_TO_SYMBOL
from numroberta.tokenizer.tokenizer import Encoding, Tokenizer

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
TINY = ROOT / "numroberta" / "tiny"
ROBERTA = SHARED / "tokenizer" / "roberta-base" / "tokenizer.json"
WINDOWS = {"stride": 3, "return_overflowing_tokens": True, "max_length": 12}

# What breaks tokenizers: contractions, all kinds of white space, marks, numerals that are not digits, control
# characters, halves of emoji, special tokens with and without space, and what a vocabulary spells in one piece.
PARTS = ["'s", "'LL", "’s", " ", "  ", "\t", "\n", "\r\n", "\x0b", "\x1c", "\x1f", "\x85", "\xa0", "\u1680", "\u2003"]
PARTS += ["\u2028", "\u202f", "\u3000", "\u200b", "\u200d", "\ufeff", "\xad", "\x00", "\x7f", "e\u0301", "\u0301", "½"]
PARTS += [
    "Ⅷ",
    "٣",
    "²",
    "1,000",
    "_",
    "Ġ",
    "Ċ",
    "Ã©",
    "中文",
    "한",
    "ñandú",
    "👩‍👩‍👧",
    "🇩🇪",
    "\U000105c0",
    "\U000e0001",
]
PARTS += ["<mask>", " <mask> ", "<s>", "</s>", "<pad>", "<unk>", "<mask", "hello", " world", "The", "ing", "\ufffd"]
TEXT = st.lists(st.one_of(st.sampled_from(PARTS), st.characters(exclude_categories=["Cs"])), max_size=25).map("".join)


def roberta_file():
    if not ROBERTA.is_file():
        pytest.skip("../shared/tokenizer/roberta-base is not here")
    return ROBERTA


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A vocabulary of the 256 bytes and a few hundred merges, learned here from this file."""
    words = Path(__file__).read_text(encoding="utf-8").split()[:1000]
    pieces = [["Ġ", *(BYTE_TO_SYMBOL[byte] for byte in word.encode())] for word in words]
    merges = []
    while len(merges) < 150:
        counts = {}
        for word in pieces:
            for pair in pairwise(word):
                counts[pair] = counts.get(pair, 0) + 1
        left, right = max(sorted(counts), key=counts.get)
        merges.append(f"{left} {right}")
        for word in pieces:
            for place in range(len(word) - 2, -1, -1):
                if word[place : place + 2] == [left, right]:
                    word[place : place + 2] = [left + right]
    folder = tmp_path_factory.mktemp("small")
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *BYTE_TO_SYMBOL, *(line.replace(" ", "") for line in merges), "<mask>"]
    vocab = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session", params=["small", "tiny", "roberta-base"])
def path(request, small):
    if request.param == "roberta-base":
        return roberta_file()
    return {"small": small, "tiny": TINY}[request.param]


@pytest.fixture(scope="session", params=["python", "tokenizers"])
def tok(request, path):
    if request.param == "tokenizers":
        pytest.importorskip("tokenizers")
    return Tokenizer.load(path, request.param)


@pytest.fixture(scope="session")
def both(path):
    pytest.importorskip("tokenizers")
    return Tokenizer.load(path, "python"), Tokenizer.load(path, "tokenizers")


def assert_backends_agree(both, text):
    own, library = both
    encoding = own(text, truncation=False)
    assert encoding == library(text, truncation=False)
    assert own.encode_ids([text], truncation=False) == ([encoding.ids], [0])
    assert library.encode_ids([text], truncation=False) == ([encoding.ids], [0])


def corpus_lines(name):
    if not (SHARED / "corpus").is_dir():
        pytest.skip("../shared/corpus is not here")
    return (SHARED / "corpus" / name).read_text(encoding="utf-8").split("\n")


def naughty_strings():
    file = SHARED / "naughty" / "blns.json"
    if not file.is_file():
        pytest.skip("../shared/naughty is not here")
    return json.loads(file.read_text(encoding="utf-8"))


# ---- one text


def test_hello_world_has_the_ids_everyone_knows():
    for backend in ("python", "tokenizers"):
        tok = Tokenizer.load(roberta_file(), backend)
        assert tok("Hello world").ids == [0, 31414, 232, 2]
        assert tok("Hello world! cécé herlolip").ids == [0, 31414, 232, 328, 740, 1140, 12695, 69, 46078, 1588, 2]
        assert tok("Paris is the <mask> of France.").ids[4] == tok.mask_token_id == 50264


def test_an_encoding_has_all_its_columns(tok):
    encoding = tok("Hé <mask>!")
    assert isinstance(encoding, Encoding)
    columns = (encoding.tokens, encoding.offsets, encoding.attention_mask, encoding.special_tokens_mask)
    assert {len(column) for column in (*columns, encoding.word_ids, encoding.sequence_ids)} == {len(encoding)}
    assert [tok.token_to_id(token.strip()) for token in encoding.tokens] == encoding.ids
    assert (encoding.tokens[0], encoding.tokens[-1]) == ("<s>", "</s>")
    assert encoding.special_tokens_mask == [1] + [0] * (len(encoding) - 2) + [1]
    assert encoding.word_ids[0] is encoding.word_ids[-1] is None
    assert encoding.ids.count(tok.mask_token_id) == 1
    assert encoding.offsets[encoding.ids.index(tok.mask_token_id)] == (3, 9)  # the space before it is not the token's


def test_offsets_cut_the_words_out_of_the_text(tok):
    text = "  Zoë's  naïve\tcafé, 12½ 👩‍👩‍👧!\n"
    encoding = tok(text)
    spans = {}
    for word, (start, stop) in zip(encoding.word_ids, encoding.offsets, strict=True):
        first, last = spans.get(word, (start, stop))
        spans[word] = min(first, start), max(last, stop)
    del spans[None]
    # spaces are trimmed, other white space is not: RoBERTa's rule
    words = ["", "Zoë", "'s", "", "naïve", "\t", "café", ",", "12½", "👩‍👩‍👧!", "\n"]
    assert [text[start:stop] for start, stop in spans.values()] == words


def test_nothing_is_a_text_too(tok):
    assert tok("").ids == [tok.bos_token_id, tok.eos_token_id]
    assert tok("", add_special_tokens=False) == Encoding()
    assert tok([]) == []
    assert tok.encode_ids([]) == ([], [])


@settings(deadline=None)
@given(text=TEXT)
@example(text="<mask>  <mask>\u3000<mask>")
@example(text="a\x1c <mask>b")
def test_decode_gives_the_text_back(tok, text):
    text = text.replace("<mask>", "")  # it takes a space along
    ids = tok(text, add_special_tokens=False, truncation=False).ids
    if not any(token in text for token in ("<s>", "</s>", "<pad>", "<unk>", "<mask>")):
        assert tok.decode(ids) == text
    assert tok.decode([tok.bos_token_id, *ids]).startswith("<s>")


def test_decode_skips_special_tokens_where_asked(tok):
    ids = tok("a <mask> b").ids
    assert tok.decode(ids) == "<s>a<mask> b</s>"
    assert tok.decode(ids, skip_special_tokens=True) == "a b"
    assert tok.decode(tok.bos_token_id) == "<s>"
    for number in (-1, 10**6):
        with pytest.raises(ValueError, match=rf"id {number} is not in the vocabulary, whose ids end at"):
            tok.decode([0, number])


def test_the_vocabulary_can_be_asked(tok):
    for number in (0, tok.vocab_size - 1):
        assert tok.token_to_id(tok.id_to_token(number)) == number
    assert tok.id_to_token(tok.vocab_size) is None
    assert tok.token_to_id("no such token") is None
    assert tok.id_to_token(tok.pad_token_id) == tok.pad_token == "<pad>"


# ---- the two backends never differ


@settings(deadline=None, max_examples=200)
@given(text=TEXT)
def test_backends_agree_on_any_text(both, text):
    assert_backends_agree(both, text)


@settings(deadline=None, max_examples=100)
@given(text=st.text(st.characters(min_codepoint=0x10000), max_size=20) | st.text(max_size=0))
def test_backends_agree_beyond_the_first_plane(both, text):
    assert_backends_agree(both, text)


def test_backends_agree_on_naughty_strings(both):
    for text in naughty_strings():
        assert_backends_agree(both, text)


def test_backends_agree_on_a_sample_of_the_corpus(both):
    chosen = random.Random(0)
    for name in ("books.txt", "dictionary.txt", "speeches.txt", "mixed.txt"):
        for text in chosen.sample(corpus_lines(name), 150):
            assert_backends_agree(both, text)


@pytest.mark.slow  # 90 s
@pytest.mark.parametrize("name", ["books.txt", "dictionary.txt", "speeches.txt", "mixed.txt"])
def test_backends_agree_on_every_line_of_the_corpus(name):
    pytest.importorskip("tokenizers")
    own, library = (Tokenizer.load(roberta_file(), backend) for backend in ("python", "tokenizers"))
    for text in corpus_lines(name):
        assert own(text, truncation=False) == library(text, truncation=False), text


FLAGS = st.fixed_dictionaries(
    {flag: st.booleans() for flag in ("lstrip", "rstrip", "single_word", "normalized", "special")}
)


@settings(deadline=None, max_examples=200)
@given(
    flags=st.fixed_dictionaries(dict.fromkeys(("<mask>", "<m", "new york", "<1>"), FLAGS)),
    prefix=st.booleans(),
    trim=st.booleans(),
    text=st.lists(
        st.sampled_from(["<mask>", "<m", "new york", "<1>", " ", "\x1c", "\u3000", "a", "é", "_", "½", "\u0301"])
    ),
)
@example(  # the spaces between two tokens that both take them: they are the first one's
    flags={token: dict.fromkeys(("lstrip", "rstrip"), True) for token in ("<mask>", "<m", "new york", "<1>")},
    prefix=False,
    trim=True,
    text=["<1>", " ", " ", "<mask>", " ", "a"],
)
def test_backends_agree_on_added_tokens_of_every_kind(small, tmp_path_factory, flags, prefix, trim, text):
    pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("flags")
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_bytes((small / name).read_bytes())
    vocab = json.loads((small / "vocab.json").read_bytes())
    numbers = {"<mask>": vocab["<mask>"], "<m": len(vocab), "new york": len(vocab) + 1, "<1>": len(vocab) + 7}
    decoder = {str(numbers[token]): {"content": token, **each} for token, each in flags.items()}
    configured = {"added_tokens_decoder": decoder, "add_prefix_space": prefix, "trim_offsets": trim}
    (folder / "tokenizer_config.json").write_text(json.dumps(configured))
    assert_backends_agree([Tokenizer.load(folder, backend) for backend in ("python", "tokenizers")], "".join(text))


def test_offsets_at_the_first_character_keep_the_space_that_was_put_in_front():
    tokens = Tokens([0, 1, 2], ["Ġ", "Ġa", "Ġb"], [(0, 0), (0, 2), (2, 4)], [0, 1, 2])
    assert trimmed(tokens, keeps_prefix=True) == [(0, 0), (0, 2), (3, 4)]
    assert trimmed(tokens, keeps_prefix=False) == [(0, 0), (1, 2), (3, 4)]


# ---- and both are the library


def columns(encoding):
    return encoding.ids, encoding.tokens, encoding.offsets, encoding.special_tokens_mask, encoding.word_ids


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(text=TEXT, prefix=st.booleans(), trim=st.booleans(), windows=st.booleans())
def test_both_are_the_library_with_its_own_post_processor(small, text, prefix, trim, windows):
    """The library configured by hand, the way transformers does it, windows and trimming included."""
    tokenizers = pytest.importorskip("tokenizers")
    library = tokenizers.Tokenizer(
        tokenizers.models.BPE.from_file(str(small / "vocab.json"), str(small / "merges.txt"))
    )
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    library.decoder = tokenizers.decoders.ByteLevel()
    library.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim, prefix)
    library.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", tokenizers.AddedToken("<mask>", lstrip=True)])
    if windows:
        library.enable_truncation(12, stride=3)
    expected = library.encode(text)
    for backend in ("python", "tokenizers"):
        tok = configured(small, backend, prefix, trim)
        found = tok(text, **(WINDOWS if windows else {"truncation": False}))
        assert columns(found) == columns(expected)
        assert list(map(columns, found.overflowing)) == list(map(columns, expected.overflowing))
        assert tok.decode(found.ids) == library.decode(expected.ids, skip_special_tokens=False)


def configured(folder, backend, prefix, trim):
    tok = Tokenizer.load(folder, backend)
    tok._spec.add_prefix_space, tok._spec.trim_keeps_prefix, tok._spec.trim_offsets = prefix, prefix, trim
    return Tokenizer(tok._spec, backend)


@pytest.mark.parametrize("lengths", [(5, 5), (6, 6), (30, 30), (40, 35)])
def test_both_texts_of_a_pair_are_cut_into_windows_in_the_librarys_order(small, lengths):
    """Of two texts as long the second keeps one token more; windows of the first text come before the second's."""
    tokenizers = pytest.importorskip("tokenizers")
    library = tokenizers.Tokenizer(
        tokenizers.models.BPE.from_file(str(small / "vocab.json"), str(small / "merges.txt"))
    )
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    library.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", tokenizers.AddedToken("<mask>", lstrip=True)])
    library.enable_truncation(13, stride=1)
    texts = " a" * lengths[0], " b" * lengths[1]
    expected = library.encode(*texts)
    for backend in ("python", "tokenizers"):
        tok = Tokenizer.load(small, backend)
        found = tok(*texts, max_length=13, stride=1, return_overflowing_tokens=True)
        assert found.sequence_ids.count(0) + 1 >= found.sequence_ids.count(1)
        assert [window.ids for window in (found, *found.overflowing)] == [
            window.ids for window in (expected, *expected.overflowing)
        ]


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in Linux's /proc")
def test_the_librarys_threads_are_not_started_unless_asked_for(small):
    """Once they have run, a process that forks, as a server's workers do, gets a warning and may hang."""
    pytest.importorskip("tokenizers")
    script = (
        "import os, sys; from numroberta.tokenizer import Tokenizer\n"
        f"tok = Tokenizer.load({str(small)!r}, 'tokenizers'); tok.encode_ids(['some text'] * 1000)\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    env = {key: value for key, value in os.environ.items() if key != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env=env, check=True)
    assert done.stdout.strip() == "1"


@pytest.mark.parity
@pytest.mark.parametrize("backend", ["python", "tokenizers"])
@pytest.mark.parametrize("which", ["roberta-base", "tiny"])
def test_autotokenizer_gives_the_same(tmp_path, which, backend):
    transformers = pytest.importorskip("transformers")
    if which == "tiny":
        folders = [TINY, tmp_path / "saved"]
    else:
        (tmp_path / "tokenizer.json").write_bytes(roberta_file().read_bytes())
        (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
        folders = [tmp_path, tmp_path / "saved"]
    theirs = transformers.AutoTokenizer.from_pretrained(folders[0])
    theirs.save_pretrained(folders[1])
    chosen = random.Random(1)
    texts = ["", "a <mask> b", *naughty_strings(), *chosen.sample(corpus_lines("mixed.txt"), 100)]
    for folder in folders:
        ours = Tokenizer.load(folder, backend)
        for text in texts:
            expected = theirs(text, return_offsets_mapping=True, return_special_tokens_mask=True)
            found = ours(text, truncation=False)
            assert (found.ids, found.offsets) == (expected["input_ids"], expected["offset_mapping"])
            assert found.special_tokens_mask == expected["special_tokens_mask"]
            assert (found.tokens, found.word_ids) == (expected.tokens(), expected.word_ids())
            assert ours.decode(found.ids) == theirs.decode(expected["input_ids"], clean_up_tokenization_spaces=False)
        first, second = texts[20:60], texts[60:100]
        for truncation in ("longest_first", "only_first", "only_second"):
            for one, two in zip(first, second, strict=True):
                options = {"truncation": truncation, "max_length": 40, "stride": 5, "return_overflowing_tokens": True}
                try:
                    found = ours(one, two, **options)
                except ValueError as refused:
                    if "stride=" not in str(refused):  # there the library panics, which no test should provoke
                        with pytest.raises(Exception, match="too short"):
                            theirs(one, two, **options)
                    continue
                expected = theirs(one, two, return_offsets_mapping=True, **options)
                windows = [found, *found.overflowing]
                assert [window.ids for window in windows] == expected["input_ids"]
                assert [window.offsets for window in windows] == expected["offset_mapping"]
                assert [window.sequence_ids for window in windows] == [
                    expected.sequence_ids(number) for number in range(len(windows))
                ]


# ---- pairs, truncation, windows


def test_a_pair_has_two_ends_between(tok):
    bos, eos = tok.bos_token_id, tok.eos_token_id
    first, second = (tok(text, add_special_tokens=False).ids for text in ("a question", "its context"))
    pair = tok("a question", "its context")
    assert pair.ids == [bos, *first, eos, eos, *second, eos]
    assert pair.sequence_ids == [None, *[0] * len(first), None, None, *[1] * len(second), None]
    assert tok([("a question", "its context")]) == [pair] == tok(["a question"], ["its context"])
    assert tok.encode_ids(["a question"], ["its context"]) == ([pair.ids], [0])
    assert tok("a question", "its context", add_special_tokens=False).ids == first + second


def test_truncation_says_what_it_left_out(tok):
    text = "one two three four five six seven eight nine ten " * 100
    whole = tok(text, truncation=False, add_special_tokens=False).ids
    cut = tok(text, max_length=512)
    assert len(cut) == 512
    assert cut.ids[1:-1] == whole[:510]
    assert cut.truncated == len(whole) - 510 > 0
    assert cut.overflowing == []
    assert tok.encode_ids(["short", text], max_length=512) == ([tok("short").ids, cut.ids], [0, cut.truncated])
    assert tok("short").truncated == 0


@settings(deadline=None)
@given(data=st.data(), count=st.integers(0, 60), room=st.integers(1, 20))
def test_windows_cover_the_text_and_overlap_by_the_stride(tok, data, count, room):
    stride = data.draw(st.integers(0, room - 1))
    text = " a" * count
    whole = tok(text, truncation=False, add_special_tokens=False).ids
    found = tok(text, max_length=room + 2, stride=stride, return_overflowing_tokens=True)
    windows = [window.ids[1:-1] for window in (found, *found.overflowing)]
    assert all(len(window) <= room for window in windows)
    joined = windows[0] + [number for window in windows[1:] for number in window[stride:]]
    assert joined == whole
    for before, after in pairwise(windows):
        assert before[len(before) - stride :] == after[:stride]


@settings(deadline=None)
@given(first=st.integers(0, 30), second=st.integers(0, 30), room=st.integers(2, 40))
def test_of_a_pair_the_longer_is_cut_first(tok, first, second, room):
    texts = " a" * first, " b" * second
    lengths = [len(tok(text, add_special_tokens=False)) for text in texts]
    found = tok(*texts, max_length=room + 4)
    kept = [found.sequence_ids.count(number) for number in (0, 1)]
    assert sum(kept) == min(sum(lengths), room)
    assert all(stays >= min(length, room // 2) for stays, length in zip(kept, lengths, strict=True))
    assert found.truncated == sum(lengths) - sum(kept)
    assert tok.encode_ids([texts], max_length=room + 4) == ([found.ids], [found.truncated])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_length": 2}, "max_length=2 leaves no room for text: 2 special tokens"),
        ({"truncation": "left"}, "truncation='left', expected True, False"),
        ({"truncation": "only_second"}, "needs a second text"),
        ({"max_length": 5, "stride": 3}, "stride=3, expected 0 or more and less than the 3 tokens"),
        ({"max_length": 5, "stride": -1}, "stride=-1"),
    ],
)
def test_options_that_cannot_be_are_refused(tok, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        tok("one two three four five six", return_overflowing_tokens=True, **options)


def test_a_question_that_leaves_no_room_is_refused(tok):
    with pytest.raises(ValueError, match=r"the other text alone has \d+ of the 6 tokens"):
        tok("one two three four five six seven eight", "a context", truncation="only_second", max_length=10)


def test_a_question_that_leaves_room_for_one_token_is_asked_and_one_that_leaves_none_is_refused(tok):
    question, context = "one two three", "a context"
    alone = len(tok(question, "", truncation=False))  # with the special tokens
    encoding = tok(question, context, truncation="only_second", max_length=alone + 1)
    assert encoding.sequence_ids.count(1) == 1
    for call in (tok, lambda *pair, **options: tok.encode_ids([pair], **options)):
        with pytest.raises(ValueError, match=r"the other text alone has (\d+) of the \1 tokens"):
            call(question, context, truncation="only_second", max_length=alone)


# ---- bad input


@pytest.mark.parametrize(
    ("texts", "error", "sentence"),
    [
        (None, TypeError, "expected a string or a list of strings, found NoneType"),
        (5, TypeError, "found int"),
        (b"bytes", TypeError, "found bytes"),
        (["a", None], TypeError, r"text 1 is NoneType \(None\), expected a string"),
        (["a", "b", 2.5], TypeError, r"text 2 is float \(2\.5\)"),
        ([("a", None)], TypeError, "text 0 is NoneType"),
        ([("a", "b", "c")], TypeError, "text 0 is tuple"),
        ("ab\ud800", ValueError, r"text 0 has a lone surrogate, '\\ud800', at character 2: .* repair the text with"),
        (["a", "\udfff b"], ValueError, r"text 1 has a lone surrogate, '\\udfff', at character 0"),
    ],
)
def test_bad_input_is_named_by_index_and_place(tok, texts, error, sentence):
    for encode in (tok, tok.encode_ids):
        if encode == tok.encode_ids and isinstance(texts, str):
            continue
        with pytest.raises(error, match=sentence) as caught:
            encode(texts)
        assert "\n" not in str(caught.value)


def test_the_repair_the_error_names_works(tok):
    pair_of_halves = "\ud83d\ude00 and a half \ud83d"
    repaired = pair_of_halves.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert tok.decode(tok(repaired, add_special_tokens=False).ids) == "😀 and a half \ufffd"


def test_as_many_second_texts_as_first(tok):
    with pytest.raises(ValueError, match="2 texts and 1 second texts"):
        tok(["a", "b"], ["c"])


# ---- other kinds of tokenizer


@pytest.fixture
def unigram(tmp_path):
    """XLM-RoBERTa's kind: SentencePiece pieces, a template instead of RobertaProcessing."""
    tokenizers = pytest.importorskip("tokenizers")
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁the", -3.0), ("e", -4.0)]
    pieces += [(letter, -5.0) for letter in "abcdfghijklmnopqrstuvwxyz"] + [("<mask>", 0.0)]
    library = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=3))
    library.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    library.decoder = tokenizers.decoders.Metaspace()
    library.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    library.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", tokenizers.AddedToken("<mask>", lstrip=True)])
    library.enable_truncation(5)
    library.save(str(tmp_path / "tokenizer.json"))
    library.no_truncation()
    return tmp_path, library


def test_sentencepiece_tokenizers_load_through_the_library(unigram):
    folder, library = unigram
    tok = Tokenizer.load(folder)
    assert tok.backend == "tokenizers"
    for text in ("the fox", "", "the <mask> é"):
        assert columns(tok(text)) == columns(library.encode(text))
        assert tok.decode(tok(text).ids) == library.decode(tok(text).ids, skip_special_tokens=False)
    assert tok("the", "fox").ids == library.encode("the", "fox").ids
    assert (tok.mask_token_id, tok.pad_token_id, tok.vocab_size) == (32, 1, 33)


def test_without_the_library_they_say_which_package_to_install(unigram, monkeypatch):
    folder, _ = unigram
    with pytest.raises(ValueError, match="is a Unigram model, and this backend reads byte-level BPE only"):
        Tokenizer.load(folder, "python")
    monkeypatch.setattr("numroberta.tokenizer.tokenizer.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match="is a Unigram model, which needs the tokenizers package: pip install tokenizers"
    ):
        Tokenizer.load(folder)


def test_the_python_backend_needs_no_package(small):
    """Not even NumPy; and roberta-base needs a few milliseconds, where imports of others would show."""
    script = (
        "import sys; before = set(sys.modules)\n"
        "from numroberta.tokenizer.tokenizer import Tokenizer\n"
        f"assert Tokenizer.load({str(small)!r}).backend == 'python'\n"
        "print({name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "{'numroberta'}"


def test_an_unknown_backend_is_refused(small):
    with pytest.raises(ValueError, match="backend='rust', expected 'python', 'tokenizers' or None"):
        Tokenizer.load(small, "rust")


def test_a_tokenizer_travels_to_another_process(tok):
    copy = pickle.loads(pickle.dumps(tok))
    assert copy("Hello <mask>é", "world") == tok("Hello <mask>é", "world")
