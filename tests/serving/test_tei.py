"""TEI's other endpoints, the heads', and those for the people who run the server, beside the library's own answers."""

import asyncio
import json
import math
import re

import numpy as np
import pytest
import random_model

import numroberta
from numroberta.arithmetic import heads

pytest.importorskip("uvicorn", reason="needs a web server: pip install '.[serve]'")

TEXTS = ["A man is playing a guitar.", "Müller & Söhne: 12,50 €"]


@pytest.fixture(scope="module")
def encoders(masked, sorter, tagger, reader, tmp_path_factory):
    folders = {"masked": masked, "sorter": sorter, "tagger": tagger, "reader": reader}
    folders["ranker"] = random_model.write_with_head(
        tmp_path_factory.mktemp("ranker"), heads.SEQUENCE, id2label={"0": "relevant"}
    )
    return {name: numroberta.load(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def ask(encoders, serve):
    """`ask(path, model, data)` gives the JSON of an answer."""
    with serve(encoders) as client:

        def ask(path, model, data, status=200):
            answer = client.ask(path, {"model": model, **data})
            assert answer.status == status, answer.body
            return answer.json

        yield ask


def close(found, expected):
    """Equal JSON, numbers to 1e-5."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(close(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    return math.isclose(found, expected, abs_tol=1e-5) if isinstance(expected, float) else found == expected


def test_embed_all_gives_the_vectors_of_each_token(client, tiny):
    found = client.ask("/embed_all", {"inputs": TEXTS}).json
    for vectors, text in zip(found, TEXTS, strict=True):
        np.testing.assert_allclose(vectors, tiny.encode_tokens(text).vectors, rtol=0, atol=5.5e-6)  # measured: 1.4e-6


def test_similarity_is_the_cosine_of_one_sentence_with_each_other(client, tiny):
    inputs = {"source_sentence": TEXTS[0], "sentences": [*TEXTS, "Someone plays an instrument."]}
    expected = tiny.similarity(tiny.encode([TEXTS[0]]), tiny.encode(inputs["sentences"]))[0]
    np.testing.assert_allclose(
        client.ask("/similarity", {"inputs": inputs}).json, expected, rtol=0, atol=1e-6
    )  # measured: 1.2e-7


def test_tokens_have_their_characters_and_decode_to_the_text(client, tiny):
    rows = client.ask("/tokenize", {"inputs": TEXTS}).json
    for row, text in zip(rows, TEXTS, strict=True):
        assert [token["id"] for token in row] == tiny.tokenizer(text).ids
        assert [token["special"] for token in row] == [True, *[False] * (len(row) - 2), True]
        assert all(token["text"] == text[token["start"] : token["stop"]] for token in row[1:-1])
        assert (row[0]["text"], row[0]["start"]) == ("<s>", None)
    ids = [[token["id"] for token in row] for row in rows]
    assert client.ask("/decode", {"ids": ids}).json == TEXTS
    assert client.ask("/decode", {"ids": ids[0]}).json == TEXTS[:1]
    assert client.ask("/decode", {"ids": ids[0], "skip_special_tokens": False}).json == [f"<s>{TEXTS[0]}</s>"]
    bare = client.ask("/tokenize", {"inputs": TEXTS[0], "add_special_tokens": False}).json
    assert [token["id"] for token in bare[0]] == ids[0][1:-1]
    assert client.ask("/decode", {"ids": [99_999]}).json["error_type"] == "Tokenizer"


def test_labels_of_a_text_a_pair_or_several_are_those_of_classify(ask, encoders):
    model = encoders["sorter"]
    assert close(ask("/predict", "sorter", {"inputs": "a b"}), model.classify("a b"))
    assert close(ask("/predict", "sorter", {"inputs": ["a b", "c"]}), model.classify(("a b", "c")))
    several = ask("/predict", "sorter", {"inputs": [["a b"], ["a b", "c"]]})
    assert close(several, model.classify(["a b", ("a b", "c")]))
    raw = ask("/predict", "sorter", {"inputs": "a b", "raw_scores": True})
    assert close(raw, model.classify("a b", function_to_apply="none"))


def test_texts_are_ordered_by_how_they_answer_as_rank_does(ask, encoders):
    texts = ["a", "b c", "d e f"]
    ranked = encoders["ranker"].rank("a question", texts, return_documents=True)
    expected = [{"index": one["corpus_id"], "score": one["score"], "text": one["text"]} for one in ranked]
    assert close(ask("/rerank", "ranker", {"query": "a question", "texts": texts, "return_text": True}), expected)
    bare = ask("/rerank", "ranker", {"query": "a question", "texts": texts})
    assert [one.keys() for one in bare] == [{"index", "score"}] * 3
    logits = ask("/rerank", "ranker", {"query": "a question", "texts": texts, "raw_scores": True})
    assert close([1 / (1 + math.exp(-one["score"])) for one in logits], [one["score"] for one in ranked])


def test_masks_are_filled_as_fill_mask_does(ask, encoders):
    model = encoders["masked"]
    assert close(ask("/fill-mask", "masked", {"inputs": "a <mask> b"}), model.fill_mask("a <mask> b"))
    few = {"inputs": ["<mask>", "a <mask>"], "parameters": {"top_k": 2, "targets": ["a", "b"]}}
    assert close(ask("/fill-mask", "masked", few), model.fill_mask(few["inputs"], 2, ["a", "b"]))
    assert "no <mask>" in ask("/fill-mask", "masked", {"inputs": ["<mask>", "none"]}, 422)["error"]


def test_words_are_tagged_as_tag_does(ask, encoders):
    model = encoders["tagger"]
    assert close(ask("/tag", "tagger", {"inputs": "a b c"}), model.tag("a b c"))
    joined = {"inputs": ["a b", "c"], "parameters": {"aggregation_strategy": "simple", "ignore_labels": []}}
    assert close(ask("/tag", "tagger", joined), model.tag(["a b", "c"], "simple", ()))


def test_two_who_tag_with_different_strides_at_once_each_get_their_own_entities(encoders):
    """Their texts are not computed together: a batch has one stride."""
    from numroberta.serving import Limits
    from numroberta.serving.batching import Batcher
    from numroberta.serving.heads import tag
    from numroberta.serving.models import Models

    model, text = encoders["tagger"], "Anna and the rain in Spain. " * 8
    models, batcher = Models({"tagger": model}), Batcher(1, 10_000)

    def job(stride):
        return tag(
            {"inputs": text, "parameters": {"aggregation_strategy": "simple", "stride": stride}}, models, Limits()
        )

    async def at_once():
        return await asyncio.gather(*(batcher.results(job(stride), stride) for stride in (0, 30)))

    (few,), (many,) = asyncio.run(at_once())
    assert close(few, model.tag(text, "simple", stride=0))
    assert close(many, model.tag(text, "simple", stride=30))
    assert not close(few, many)


def test_a_question_is_answered_as_answer_does(ask, encoders):
    model, inputs = encoders["reader"], {"question": "a?", "context": "b c d e f"}
    assert close(ask("/answer", "reader", {"inputs": inputs}), model.answer("a?", "b c d e f"))
    parameters = {"top_k": 3, "handle_impossible_answer": True, "max_answer_len": 2}
    expected = model.answer("a?", "b c d e f", **parameters)
    assert close(ask("/answer", "reader", {"inputs": inputs, "parameters": parameters}), expected)
    wrong = {"inputs": {"question": "a " * 60, "context": "b"}}
    assert "leaves no room for context" in ask("/answer", "reader", wrong, 422)["error"]


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/predict", {"inputs": "a"}),
        ("/rerank", {"query": "a", "texts": ["b"]}),
        ("/fill-mask", {"inputs": "<mask>"}),
        ("/tag", {"inputs": "a"}),
        ("/answer", {"inputs": {"question": "a", "context": "b"}}),
    ],
)
def test_a_model_without_the_head_says_which_one_is_missing(serve, small, path, data):
    with serve({"small": small}) as client:
        refused = client.ask(path, data)
        assert (refused.status, refused.json["error_type"]) == (424, "Backend")


def test_rerank_needs_one_score_for_a_pair(ask):
    assert "needs a model with one" in ask("/rerank", "sorter", {"query": "a", "texts": ["b"]}, 424)["error"]


def test_prompts_are_put_in_front_by_name(tmp_path, serve, small_folder):
    folder = random_model.write(tmp_path / "prompted")
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"type": "sentence_transformers.models.Transformer", "path": ""},
                {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
            ]
        )
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true, "include_prompt": false}')
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"query": "the question:"}}')
    encoder = numroberta.load(folder)
    with serve({"prompted": encoder}) as client:
        found = client.ask("/embed", {"inputs": "a b", "prompt_name": "query"}).json[0]
        expected = encoder.encode("a b", prompt_name="query", normalize_embeddings=True)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        assert not np.allclose(found, encoder.encode("a b", normalize_embeddings=True), atol=1e-3)
        tokens = client.ask("/tokenize", {"inputs": "a b", "prompt_name": "query"}).json[0]
        assert [token["id"] for token in tokens] == encoder.tokenizer("the question:a b").ids
        ids = encoder.tokenizer("a b").ids
        np.testing.assert_allclose(
            client.ask("/embed", {"inputs": [ids], "prompt_name": "query"}).json[0], expected, rtol=0, atol=1e-6
        )
        assert "'query'" in client.ask("/embed", {"inputs": "a", "prompt_name": "passage"}).json["error"]


def test_info_says_what_is_served_and_how_much_is_taken(client, encoders, serve):
    info = client.ask("/info").json
    assert (info["model_id"], info["max_input_length"], info["max_client_batch_size"]) == ("tiny", 512, 2048)
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert client.ask("/info?model=ada").status == 404
    with serve(encoders) as client:
        kinds = {name: [*client.ask(f"/info?model={name}").json["model_type"]] for name in encoders}
    assert kinds["sorter"] == ["classifier"]
    assert kinds["ranker"] == ["reranker"]


def test_a_model_that_the_address_names_is_the_one_that_answers(client):
    refused = client.ask("/embed?model=ada", {"inputs": "A text."})
    assert (refused.status, refused.json["error"]) == (404, "'ada' is not served here, but 'tiny'")
    assert client.ask("/embed?model=tiny", {"inputs": "A text."}).status == 200
    assert client.ask("/embed?model=ada", {"inputs": "A text.", "model": "tiny"}).status == 200


def test_metrics_count_requests_by_path_and_status_in_prometheus_format(tiny, serve):
    with serve({"tiny": tiny}) as client:
        client.ask("/embed", {"inputs": TEXTS})
        client.ask("/embed", {"inputs": []})
        answer = client.ask("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    line = re.compile(r'# TYPE \w+ (counter|gauge|histogram)|\w+(\{(\w+="[^"]*",?)+\})? [-+.e\d]+')
    lines = answer.body.decode().splitlines()
    assert all(line.fullmatch(one) for one in lines)
    assert 'numroberta_requests_total{path="/embed",status="200"} 1' in lines
    assert 'numroberta_requests_total{path="/embed",status="422"} 1' in lines
    assert 'numroberta_request_seconds_count{path="/embed"} 2' in lines
    assert f"numroberta_tokens_total {sum(len(tiny.tokenizer(text)) for text in TEXTS)}" in lines


@pytest.mark.parametrize("with_bodies", [False, True])
def test_the_log_has_a_line_a_request_and_its_text_only_if_that_is_asked_for(tiny, serve, capsys, with_bodies):
    from numroberta.serving import json_lines

    with serve({"tiny": tiny}, log=json_lines(with_bodies)) as client:
        client.ask("/embed", {"inputs": ["secret words"]})
        client.ask("/v1/embeddings", b'{"input": "secret wo')
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["path"], first["status"], first["texts"]) == ("/embed", 200, 1)
    assert first["tokens"] == len(tiny.tokenizer("secret words"))
    assert (second["path"], second["status"]) == ("/v1/embeddings", 400)
    assert ("secret" in json.dumps([first, second])) == with_bodies


def test_the_page_asks_nobody_else_for_anything(client):
    page = client.ask("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.search(rb"https?://", page.body)
