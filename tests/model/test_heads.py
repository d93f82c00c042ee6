"""Heads answer as transformers' pipelines do: the same labels, the same characters, the same scores."""

import json
import re
import warnings

import numpy as np
import pytest
import random_model
from hypothesis import given, settings, strategies as st
from safetensors.numpy import load_file, save_file

import numroberta
from numroberta import cli, training
from numroberta.arithmetic import heads
from numroberta.model import answer, tag

TEXTS = [
    "The rain in Spain stays mainly in the plain.",
    'Ångström\'s naïve café: 12 € – "très" cher!',
    "x",
    "  two  spaces, and a\nnew line ",
    "你好 world 🙂 and others",
]


def classifier(path, labels=random_model.LABELS, **config):
    return random_model.write_with_head(path, heads.SEQUENCE, id2label=labels, **config)


def theirs(task, path, **options):
    """The pipeline of transformers for this folder; skipped where there is none."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    auto = {
        "fill-mask": "AutoModelForMaskedLM",
        "text-classification": "AutoModelForSequenceClassification",
        "token-classification": "AutoModelForTokenClassification",
        "question-answering": "AutoModelForQuestionAnswering",
    }[task]
    if task not in transformers.pipelines.SUPPORTED_TASKS:
        pytest.skip(f"transformers {transformers.__version__} has no pipeline for {task}")
    model = getattr(transformers, auto).from_pretrained(path)
    # From vocab.json and merges.txt, transformers 5 makes a <mask> that leaves the space before it; RoBERTa's takes it.
    mask = transformers.AddedToken("<mask>", lstrip=True, special=True, normalized=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, model_max_length=64, mask_token=mask)
    return transformers.pipeline(task, model=model, tokenizer=tokenizer, **options)


def same(mine, their, without=()):
    """Equal but for rounding."""
    if isinstance(their, list):
        assert len(mine) == len(their)
        for one, other in zip(mine, their, strict=True):
            same(one, other, without)
    else:
        assert mine["score"] == pytest.approx(float(their["score"]), rel=0, abs=2e-6)  # measured: 5.4e-7
        keys = their.keys() - {"score", *without}
        assert {key: mine[key] for key in keys} == {key: their[key] for key in keys}
        assert mine.keys() == their.keys()


# --- Masked words ------------------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("top_k", [1, 5, 30])
def test_fill_mask_gives_what_the_pipeline_gives(masked, top_k):
    ours, pipeline = numroberta.load(masked), theirs("fill-mask", masked)
    for text in TEXTS:
        for masked_text in (f"{text} <mask>", f"<mask>{text}", f"{text}<mask>.<mask>"):
            same(ours.fill_mask(masked_text, top_k=top_k), pipeline(masked_text, top_k=top_k))


@pytest.mark.parity
def test_fill_mask_answers_several_texts_in_order(masked):
    ours, pipeline = numroberta.load(masked), theirs("fill-mask", masked)
    texts = [f"{text} <mask>" for text in TEXTS]
    same(ours.fill_mask(texts), pipeline(texts))


@pytest.mark.parity
def test_fill_mask_scores_targets_as_the_pipeline_does(masked):
    ours, pipeline = numroberta.load(masked), theirs("fill-mask", masked)
    for targets in (["Ġthe", "Ġand", "a"], " the", ["a", "a", "b"]):
        same(ours.fill_mask("in <mask>.", targets=targets), pipeline("in <mask>.", targets=targets))
    with pytest.warns(UserWarning, match=r"'zebra' is 5 pieces .* 'z', is scored"):
        mine = ours.fill_mask("in <mask>.", targets=["zebra", "Ġthe"])
    same(mine, pipeline("in <mask>.", targets=["zebra", "Ġthe"]))


@pytest.mark.parity
def test_a_decoder_of_its_own_is_used(tmp_path):
    """`tie_word_embeddings: false` and a stored decoder that is not the word embeddings."""
    path = random_model.write_with_head(tmp_path, heads.MASKED_LM, tie_word_embeddings=False)
    file = path / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.decoder.weight"] = tensors["roberta.embeddings.word_embeddings.weight"][::-1].copy()
    tensors["lm_head.decoder.bias"] = tensors["lm_head.bias"]
    save_file(tensors, file, metadata={"format": "pt"})
    same(numroberta.load(path).fill_mask("on <mask>"), theirs("fill-mask", path)("on <mask>"))


def test_each_of_several_masks_is_answered_and_shown_with_the_others(masked):
    found = numroberta.load(masked).fill_mask("the <mask> on the <mask>", top_k=2)
    assert [len(answers) for answers in found] == [2, 2]
    assert all("<mask>" in answer["sequence"] for answers in found for answer in answers)


def test_scores_of_all_tokens_sum_to_one(masked):
    found = numroberta.load(masked).fill_mask("the <mask>", top_k=10**6)
    assert len(found) == len(random_model.PIECES)
    assert sum(answer["score"] for answer in found) == pytest.approx(1, rel=0, abs=1e-7)  # one rounding: 6e-8
    assert [answer["score"] for answer in found] == sorted((answer["score"] for answer in found), reverse=True)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("no gap here", {}, "no <mask> in 'no gap here': put it where a word is to be found"),
        ("", {}, "no <mask> in ''"),
        ("<mask>" + " word" * 200, {}, r"has \d+ tokens, this model reads 64: give a part of it"),
        ("a <mask>", {"top_k": 0}, "top_k=0, expected at least 1"),
        ("a <mask>", {"targets": []}, "targets is empty: give one word or more"),
        ("a <mask>", {"targets": [""]}, "target '' has no piece in this vocabulary"),
    ],
)
def test_fill_mask_says_what_is_wrong(masked, text, options, message):
    with pytest.raises(ValueError, match=message):
        numroberta.load(masked).fill_mask(text, **options)


# --- Sequence classification -------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize(
    ("labels", "problem_type"),
    [
        (random_model.LABELS, None),
        (random_model.LABELS, "single_label_classification"),
        (random_model.LABELS, "multi_label_classification"),
        ({"0": "score"}, "regression"),
        ({"0": "score"}, None),
        (random_model.LABELS, "regression"),
    ],
)
def test_classify_gives_what_the_pipeline_gives(tmp_path, labels, problem_type):
    path = classifier(tmp_path, labels, problem_type=problem_type)
    ours, pipeline = numroberta.load(path), theirs("text-classification", path)
    same(ours.classify(TEXTS), pipeline(TEXTS, top_k=None))
    same(ours.classify(TEXTS[0], top_k=1), pipeline(TEXTS[0], top_k=1))
    for function in ("none", "sigmoid", "softmax"):
        expected = pipeline(TEXTS[1], top_k=None, function_to_apply=function)
        same(ours.classify(TEXTS[1], function_to_apply=function), expected)


@pytest.mark.parity
def test_classify_reads_pairs_in_every_form(tmp_path):
    path = classifier(tmp_path)
    ours, pipeline = numroberta.load(path), theirs("text-classification", path)
    pair = {"text": TEXTS[0][:20], "text_pair": TEXTS[1][:20]}
    expected = pipeline(pair, top_k=None)
    same(ours.classify(pair), expected)
    same(ours.classify((pair["text"], pair["text_pair"])), expected)
    same(ours.classify([(pair["text"], pair["text_pair"]), pair, "alone"])[:2], [expected, expected])


def test_a_long_text_is_cut_with_one_warning(tmp_path):
    ours = numroberta.load(classifier(tmp_path))
    with pytest.warns(UserWarning, match=r"^1 of 2 texts have more than 64 tokens: only the first 64 were read"):
        found = ours.classify(["word " * 100, "short"])
    assert len(found) == 2


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ("x", {"top_k": 0}, "top_k=0, expected at least 1"),
        (
            "x",
            {"function_to_apply": "tanh"},
            "function_to_apply='tanh', expected one of 'sigmoid', 'softmax', 'none', or None",
        ),
        (("a", "b", "c"), {}, "a pair has two texts, found 3"),
        ({"test": "x"}, {}, "expected the keys 'text' and 'text_pair', found 'test'"),
    ],
)
def test_classify_says_what_is_wrong(tmp_path, texts, options, message):
    with pytest.raises(ValueError, match=message):
        numroberta.load(classifier(tmp_path)).classify(texts, **options)


def test_labels_missing_from_id2label_are_named(tmp_path):
    path = classifier(tmp_path, {"0": "no", "3": "yes"})
    with pytest.raises(ValueError, match=r"id2label in config.json names labels \[0, 3\], but .* 0 to 1: 1 is missing"):
        numroberta.load(path).classify("x")


# --- Token classification ----------------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("aggregation", tag.AGGREGATIONS)
def test_tag_gives_what_the_pipeline_gives(tagger, aggregation):
    ours, pipeline = numroberta.load(tagger), theirs("token-classification", tagger)
    # The pipeline decodes words a second time and garbles them unless they are ASCII; "simple" and "none" do not.
    without = () if aggregation in ("none", "simple") else ("word",)
    for ignored in (["O"], []):
        for text in TEXTS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # transformers warns of its heuristic for words, which is ours too
                expected = pipeline(text, aggregation_strategy=aggregation, ignore_labels=ignored)
            same(ours.tag(text, aggregation=aggregation, ignore_labels=ignored), expected, without)
    same(ours.tag(TEXTS, aggregation), [ours.tag(text, aggregation) for text in TEXTS])


@pytest.mark.parity
@pytest.mark.parametrize("aggregation", ["simple", "average"])
def test_tag_reads_a_long_text_in_windows_as_the_pipeline_does(tagger, aggregation):
    ours, pipeline = numroberta.load(tagger), theirs("token-classification", tagger)
    text = " ".join(TEXTS[:2] * 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = pipeline(text, aggregation_strategy=aggregation, stride=16)
    mine = ours.tag(text, aggregation=aggregation, stride=16)
    assert max(entity["end"] for entity in mine) > 300
    same(mine, expected, without=("word",))


def test_words_are_decoded_once(tagger):
    words = [entity["word"] for entity in numroberta.load(tagger).tag("Été à Genève", "first", ignore_labels=())]
    assert "".join(words) == "Été à Genève"


def test_a_tagged_text_too_long_is_cut_with_a_warning(tagger):
    with pytest.warns(UserWarning, match="1 of 1 texts have more than 64 tokens"):
        numroberta.load(tagger).tag("word " * 100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation": "last"}, "aggregation='last', expected one of 'none', 'simple', 'first', 'average', 'max'"),
        ({"stride": 8}, "stride=8 joins entities of several windows, and aggregation='none' has none"),
    ],
)
def test_tag_says_what_is_wrong(tagger, options, message):
    with pytest.raises(ValueError, match=message):
        numroberta.load(tagger).tag("x", **options)


# --- Question answering ------------------------------------------------------------------------------------------

CONTEXT = "The rain in Spain stays mainly in the plain. Éva's naïve café, 12 steps off, is dry. " * 3


@pytest.mark.parity
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 3},
        {"top_k": 4, "align_to_words": False},
        {"top_k": 2, "handle_impossible_answer": True},
        {"max_answer_len": 3},
        {"max_seq_len": 40, "doc_stride": 10, "top_k": 3},
        {"max_seq_len": 64, "handle_impossible_answer": True, "top_k": 3},
    ],
)
def test_answer_gives_what_the_pipeline_gives(reader, options):
    ours, pipeline = numroberta.load(reader), theirs("question-answering", reader)
    for question in ("Where?", "Who owns the café?"):
        for context in (CONTEXT, "In Spain.", "x"):
            expected = pipeline(question=question, context=context, **options)
            mine = ours.answer(question, context, **options)
            if isinstance(mine, list) and isinstance(expected, dict):  # the pipeline unpacks a list of one
                expected = [expected]
            expected = [answer for answer in expected if answer["score"] > 0] if isinstance(mine, list) else expected
            same(mine, expected)


@pytest.mark.parity
def test_span_logits_are_those_of_transformers_model(reader):
    """Where transformers has no pipeline left, its model still says where answers start and end."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    ours = numroberta.load(reader)
    encoding = ours.tokenizer("Where?", CONTEXT, max_length=ours.max_length)
    ids = np.array([encoding.ids])
    with torch.inference_mode():
        expected = transformers.AutoModelForQuestionAnswering.from_pretrained(reader)(torch.from_numpy(ids))
    mine = heads.span(ours.model.layers, ours.model(ids).last_hidden_state[0].T)
    np.testing.assert_allclose(
        mine, [expected.start_logits[0], expected.end_logits[0]], rtol=0, atol=3e-6
    )  # measured: 8.3e-7


def best_span(starts, ends, most):
    """The likeliest span by its definition: every start, every end."""
    pairs = [(starts[i] * ends[j], i, j) for i in range(len(starts)) for j in range(i, min(i + most, len(ends)))]
    return max(pairs)


@settings(max_examples=50)
@given(st.data())
def test_the_answer_is_the_likeliest_span_of_the_context(tiny, data):
    """By a search of all spans, on logits of hypothesis's choice; no PyTorch needed."""
    context = "one two three four five six"
    encoding = tiny.tokenizer("how many?", context)
    places = [i for i, side in enumerate(encoding.sequence_ids) if side == 1]
    draw = st.lists(st.integers(-5, 5), min_size=len(encoding), max_size=len(encoding))
    logits = np.array([data.draw(draw), data.draw(draw)], np.float64) + np.random.default_rng(0).random(
        (2, len(encoding))
    )
    most = data.draw(st.integers(1, 8))
    options = {"top_k": 1, "max_answer_len": most, "align_to_words": False, "handle_impossible_answer": False}
    (found,) = answer.answers(context, [(encoding, logits)], **options)
    allowed = [0, *places]
    starts, ends = (np.exp(row[allowed]) / np.exp(row[allowed]).sum() for row in logits)
    score, first, last = best_span(starts[1:], ends[1:], most)
    assert found["score"] == pytest.approx(score, rel=0, abs=5e-16)  # measured: 1.4e-16
    assert found["start"] == encoding.offsets[places[first]][0]
    assert found["end"] == encoding.offsets[places[last]][1]
    assert found["answer"] == context[found["start"] : found["end"]]


def test_the_space_of_a_word_that_is_a_token_of_its_own_counts_for_the_word(tiny):
    """As in the pipeline: where answers are whole words, a span of any of a word's tokens says the word."""
    context = "At the Éva's."
    encoding = tiny.tokenizer("Where?", context)
    (space,) = [i for i, (start, end) in enumerate(encoding.offsets) if start == end and encoding.sequence_ids[i] == 1]
    logits = np.zeros((2, len(encoding)))
    logits[:, space] = 9
    options = {"top_k": 1, "max_answer_len": 5, "handle_impossible_answer": False}
    (found,) = answer.answers(context, [(encoding, logits)], align_to_words=True, **options)
    assert found["answer"] == "Éva"
    assert found["score"] > 0.9
    (found,) = answer.answers(context, [(encoding, logits)], align_to_words=False, **options)
    assert found["answer"].strip()


@pytest.mark.parametrize(
    ("question", "context", "options", "message"),
    [
        ("Who?", "", {}, "the context is empty: give a text"),
        ("Who?", " \n", {}, "the context is empty: give a text"),
        (" ", "x", {}, "the question is empty: give a text"),
        ("Who?", "x", {"top_k": 0}, "top_k=0, expected at least 1"),
        ("Who?", "x", {"max_answer_len": 0}, "max_answer_len=0, expected at least 1"),
        ("Who?", "x", {"max_seq_len": 65}, "max_seq_len=65, this model reads 64 tokens"),
        (
            "Who? " * 40,
            "x",
            {},
            "the question and the special tokens are .* tokens, which leaves no room for context in windows of 64",
        ),
    ],
)
def test_answer_says_what_is_wrong(reader, question, context, options, message):
    with pytest.raises(ValueError, match=message):
        numroberta.load(reader).answer(question, context, **options)


# --- Which heads there are ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (lambda model: model.fill_mask("<mask>"), "masked language model"),
        (lambda model: model.classify("x"), "sequence classification"),
        (lambda model: model.tag("x"), "token classification"),
        (lambda model: model.answer("x", "y"), "question answering"),
    ],
)
def test_a_head_that_is_not_there_is_named_with_those_that_are(small, reader, tagger, call, wanted):
    with pytest.raises(
        ValueError, match=f"has no head for {wanted}: it is a bare encoder; load a checkpoint fine-tuned"
    ) as told:
        call(small)
    task = re.search(r"\(`numroberta finetune (\w+)` makes one: `numroberta guide heads`\)$", str(told.value))[1]
    assert task in training.TASKS
    other, has = (tagger, "token classification") if wanted == "question answering" else (reader, "question answering")
    with pytest.raises(ValueError, match=f"has no head for {wanted}: it has one for {has};"):
        call(numroberta.load(other))


def test_float64_heads_agree_with_float32(masked):
    """Scores agree to the 1e-5 that the guide promises."""
    single, double = numroberta.load(masked), numroberta.load(masked, dtype="float64")
    mine, reference = single.fill_mask("in <mask>", top_k=3), double.fill_mask("in <mask>", top_k=3)
    assert [answer["token"] for answer in mine] == [answer["token"] for answer in reference]
    # measured: 6.8e-8
    np.testing.assert_allclose([a["score"] for a in mine], [a["score"] for a in reference], rtol=0, atol=2.7e-7)


def test_answers_are_plain_json(masked, tagger, reader):
    json.dumps(numroberta.load(masked).fill_mask("<mask>"))
    json.dumps(numroberta.load(tagger).tag(TEXTS[0]))
    json.dumps(numroberta.load(reader).answer("Who?", CONTEXT))


# --- The command line --------------------------------------------------------------------------------------------


def test_commands_print_a_json_line_a_text_where_no_terminal_is(masked, tagger, reader, tmp_path, capsys):
    sorter = classifier(tmp_path)
    wanted = [
        (["fill-mask", "in <mask>", "--top-k", "2"], masked, numroberta.load(masked).fill_mask("in <mask>", top_k=2)),
        (["classify", TEXTS[0]], sorter, numroberta.load(sorter).classify(TEXTS[0])),
        (["classify", "a", "--pair", "b", "--top-k", "1"], sorter, numroberta.load(sorter).classify(("a", "b"), 1)),
        (["tag", TEXTS[0], "--aggregation", "first"], tagger, numroberta.load(tagger).tag(TEXTS[0], "first")),
        (["answer", "Where?", "--context", TEXTS[0]], reader, [numroberta.load(reader).answer("Where?", TEXTS[0])]),
    ]
    for command, path, answers in wanted:
        assert cli.main([*command, "--model", str(path)]) == 0
        line = json.loads(capsys.readouterr().out)
        assert line["text"] == command[1]
        same(line["answers"], answers)


def test_several_masks_print_a_line_each(masked, capsys):
    assert cli.main(["fill-mask", "<mask> and <mask>", "--json", "--model", str(masked)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_terminal_gets_a_table(tagger, masked, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert cli.main(["fill-mask", "in\n<mask>", "--top-k", "3", "--model", str(masked)]) == 0
    title, *rows = capsys.readouterr().out.splitlines()
    assert title == "in <mask>"
    assert [float(row.split()[0]) for row in rows] == pytest.approx(
        [answer["score"] for answer in numroberta.load(masked).fill_mask("in\n<mask>", top_k=3)], abs=1e-4
    )
    assert cli.main(["words", "Hello world", "--model", str(masked)]) == 0
    title, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[:3] for row in rows] == [["Hello", "0", "5"], ["world", "6", "11"]]


def test_words_prints_whole_vectors_for_programs(small, small_folder, capsys):
    command = ["words", "Hello world", "--layers", "-2", "-1", "--aggregation", "mean", "--model", str(small_folder)]
    assert cli.main(command) == 0
    rows = json.loads(capsys.readouterr().out)["answers"]
    expected = small.encode_words("Hello world", "mean", [-2, -1])
    assert [(row["word"], row["begin"], row["end"]) for row in rows] == [("Hello", 0, 5), ("world", 6, 11)]
    np.testing.assert_allclose([row["embedding"] for row in rows], expected.vectors, rtol=0, atol=2e-6)


def test_a_command_without_its_head_is_one_line(small_folder, capsys):
    assert cli.main(["tag", "x", "--model", str(small_folder)]) == 2
    assert capsys.readouterr().err.startswith("numroberta: ")
