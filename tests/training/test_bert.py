"""BERT's family is trained, too: its positions from 0, its token types and its pooler, against PyTorch's autograd."""

import csv

import numpy as np
import pytest

import numroberta
from numroberta import parity, training
from numroberta.checkpoint.names import canonical_name
from numroberta.textbook import backward, forward, heads

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

LETTERS = "abcdefghijklmnopqrstuvwxyz.?"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{x}" for x in LETTERS), "the", "##ing"]
SIZES = {
    "vocab_size": len(PIECES), "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 40, "max_position_embeddings": 64, "initializer_range": 0.3,
}  # fmt: skip
PAIRS = [("Who is singing?", "the rain"), ("a man", "the end."), ("rain", "is it so?")]
EXACT = 1e-12


def write(folder, kind, **sizes):
    torch.manual_seed(0)
    getattr(transformers, f"Bert{kind}")(transformers.BertConfig(**(SIZES | sizes))).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    transformers.BertTokenizer.from_pretrained(folder, model_max_length=64).save_pretrained(folder)
    return folder


def pytorch(folder, kind):
    """The model in float64 without dropout, and its tokenizer."""
    model = getattr(transformers, f"Bert{kind}").from_pretrained(folder, attn_implementation="eager").double().eval()
    return model, transformers.AutoTokenizer.from_pretrained(folder)


def gradients(model):
    found = {canonical_name(name): p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    if "pooler.dense.weight" in found and "classifier.weight" in found:  # the head of sequences is both
        for part in ("weight", "bias"):
            found[f"classifier.out_proj.{part}"] = found.pop(f"classifier.{part}")
            found[f"classifier.dense.{part}"] = found.pop(f"pooler.dense.{part}")
    return found


def check(mine, model):
    theirs = gradients(model)
    assert mine.keys() == theirs.keys()
    largest = max(np.sqrt(np.mean(g**2)) for g in theirs.values())
    for name, gradient in theirs.items():
        size = np.sqrt(np.mean(gradient**2))
        error = np.sqrt(np.mean((mine[name] - gradient) ** 2))
        assert error <= EXACT * (size if size > 1e-9 * largest else largest), name


@pytest.mark.parametrize("problem", ["single_label_classification", "regression"])
def test_gradients_of_a_classifier_of_pairs_are_pytorchs(tmp_path, problem):
    count = 1 if problem == "regression" else 3
    folder = write(tmp_path, "ForSequenceClassification", num_labels=count, problem_type=problem)
    enc = numroberta.load(folder, dtype="float64")
    labels = [0.3, -1.0, 2.0] if count == 1 else [2, 0, 1]
    model, tokenizer = pytorch(folder, "ForSequenceClassification")
    batch = tokenizer(*map(list, zip(*PAIRS, strict=True)), return_tensors="pt", padding=True)
    output = model(**batch, labels=torch.tensor(labels, dtype=torch.float64 if count == 1 else torch.long))
    output.loss.backward()
    loss, grads = training.loss_and_gradients(enc, "classify", PAIRS, labels)
    assert loss == pytest.approx(output.loss.item(), rel=1e-12)
    check(grads, model)


def test_gradients_of_tags_are_pytorchs(tmp_path):
    folder = write(tmp_path, "ForTokenClassification", num_labels=2, id2label={0: "O", 1: "X"})
    enc = numroberta.load(folder, dtype="float64")
    model, tokenizer = pytorch(folder, "ForTokenClassification")
    batch = tokenizer("the rain is", return_tensors="pt")
    labels = [-100, *(int(i in (1, 2, 3, 4)) for i in range(batch["input_ids"].shape[1] - 2)), -100]
    model(**batch, labels=torch.tensor([labels])).loss.backward()
    _, grads = training.loss_and_gradients(enc, "tag", ["the rain is"], [["O", "X", "O"]])
    check(grads, model)


def test_gradients_of_answers_are_pytorchs(tmp_path):
    folder = write(tmp_path, "ForQuestionAnswering")
    enc = numroberta.load(folder, dtype="float64")
    model, tokenizer = pytorch(folder, "ForQuestionAnswering")
    batch = tokenizer("who is it?", "the man", return_tensors="pt")
    start = batch["input_ids"][0].tolist().index(PIECES.index("the"))
    model(**batch, start_positions=torch.tensor([start]), end_positions=torch.tensor([start])).loss.backward()
    _, grads = training.loss_and_gradients(enc, "answer", [("who is it?", "the man")], [(0, 3)])
    check(grads, model)


def test_gradients_of_masked_tokens_are_pytorchs_with_the_tied_decoder(tmp_path):
    """As they are recorded, whose labels can be given; the fast ones have masks of their own."""
    folder = write(tmp_path, "ForMaskedLM")
    enc = numroberta.load(folder, dtype="float64")
    model, tokenizer = pytorch(folder, "ForMaskedLM")
    batch = tokenizer(["the rain.", "is it so long?"], return_tensors="pt", padding=True)
    ids, mask = batch["input_ids"].numpy(), batch["attention_mask"].numpy()
    output = model(**batch, labels=torch.from_numpy(np.where(mask == 1, ids, -100)))
    output.loss.backward()
    recorded = parity.trace(enc, ids, mask, gradients="mlm")
    assert recorded["loss"].item() == pytest.approx(output.loss.item(), rel=1e-12)
    theirs = gradients(model)
    check({name: recorded[f"{name}.grad"] for name in theirs}, model)


def test_the_textbooks_gradients_are_the_fast_ones_with_types_and_positions(tmp_path):
    enc = numroberta.load(write(tmp_path, "ForSequenceClassification", num_labels=3), dtype="float64")
    encoding = enc.tokenizer(*PAIRS[0])
    n = len(encoding.ids)
    place = {"position_ids": np.arange(n)[None], "token_type_ids": [encoding.type_ids]}
    options = {"num_attention_heads": 4, "layer_norm_eps": enc.config.layer_norm_eps, **place}
    weights = enc.model.tensors
    out = forward(weights, [encoding.ids], **options)
    heads(weights, out.last_hidden_state, enc.config.layer_norm_eps, out.activations)
    top = numroberta.textbook.cross_entropy_backward(out.activations["classifier.out_proj"], np.array([1]))
    given = {"classifier.out_proj": top}
    found = backward(weights, [encoding.ids], out.activations, given, padding_idx=0, **options).tensors
    _, grads = training.loss_and_gradients(enc, "classify", [PAIRS[0]], [1])
    assert found.keys() == grads.keys()
    for name, gradient in grads.items():
        np.testing.assert_allclose(found[name], gradient, atol=1e-14, rtol=1e-9, err_msg=name)


def test_a_bert_learns_pairs_and_transformers_gives_the_same_scores(tmp_path):
    """From a model without a classifier: its pooler is where the head begins."""
    base = write(tmp_path / "base", "Model", initializer_range=0.02)
    rng = np.random.default_rng(0)
    rows = [("rain" if yes else "end", "the rain", ("no", "yes")[yes]) for yes in rng.integers(0, 2, 120)]
    with (tmp_path / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "pair", "label"), *rows])
    result = training.finetune(
        "classify", tmp_path / "data.csv", tmp_path / "out", model=base, pair="pair", epochs=8, learning_rate=5e-3
    )
    assert result.scores["accuracy"] > 0.9
    enc = numroberta.load(tmp_path / "out")
    answer = enc.classify([("rain", "the rain")], top_k=None)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    with torch.inference_mode():
        probs = model(**tokenizer("rain", "the rain", return_tensors="pt")).logits.softmax(-1)[0].numpy()
    scores = {one["label"]: one["score"] for one in (answer[0] if isinstance(answer[0], list) else answer)}
    assert [scores[model.config.id2label[i]] for i in range(2)] == pytest.approx(probs.tolist(), abs=1e-5)
