"""What cannot be answered is refused at once, with a sentence, in the shape that the client of each API expects."""

import time

import pytest

pytest.importorskip("uvicorn", reason="needs a web server: pip install '.[serve]'")

BAD = [
    (b"", "no JSON"),
    (b'{"input": "half', "no JSON"),
    (b"\xff\xfe{}", "not UTF-8"),
    (b'{"input": NaN}', "NaN"),
    (b'{"input": "a", "dimensions": -Infinity}', "-Infinity"),
    (b'{"input": [' + b"9" * 5000 + b"]}", "number"),
    (b"[" * 1_000_000, "nested too deep"),
    (b'{"input":' + b'{"a":' * 100_000, "nested too deep"),
    (b"[]", "expected an object"),
    (b'"text"', "expected an object"),
    (b"{}", "`input` is missing"),
    (b'{"input": null}', "`input` is missing"),
    (b'{"input": ""}', "`input` cannot be empty"),
    (b'{"input": []}', "`input` cannot be empty"),
    (b'{"input": [""]}', "`input[0]` cannot be empty"),
    (b'{"input": 3}', "`input` is a number"),
    (b'{"input": true}', "`input` is a boolean"),
    (b'{"input": {"a": 1}}', "`input` is an object"),
    (b'{"input": ["a", null]}', "`input[1]` is null"),
    (b'{"input": [[]]}', "`input[0]` is a list"),
    (b'{"input": [1, "a"]}', "token ids only"),
    (b'{"input": [1, 2.5]}', "token ids only"),
    (b'{"input": [1, true]}', "token ids only"),
    (b'{"input": [99999]}', "another vocabulary"),
    (b'{"input": [[5, -1]]}', "another vocabulary"),
    (b'{"input": ["a", "\\ud83d"]}', "`input[1]` has half a character"),
    (b'{"input": "a", "dimensions": 0}', "expected 1 to 192"),
    (b'{"input": "a", "dimensions": 193}', "expected 1 to 192"),
    (b'{"input": "a", "dimensions": "8"}', "a whole number"),
    (b'{"input": "a", "dimensions": 1e999}', "a whole number"),
    (b'{"input": "a", "dimensions": true}', "a whole number"),
    (b'{"input": "a", "model": 3}', "not served here"),
]


@pytest.mark.parametrize(("body", "words"), BAD, ids=[words for _, words in BAD])
def test_what_is_no_request_is_refused_in_milliseconds_in_both_dialects(client, body, words):
    client.ask("/health")
    start = time.perf_counter()
    openai = client.ask("/v1/embeddings", body)
    tei = client.ask("/embed", body.replace(b'"input"', b'"inputs"'))
    assert time.perf_counter() - start < 1
    assert 400 <= openai.status < 500
    assert 400 <= tei.status < 500
    assert openai.json["error"].keys() == {"message", "type", "param", "code"}
    assert words in openai.json["error"]["message"]
    assert tei.json.keys() == {"error", "error_type"}
    assert words.replace("`input", "`inputs") in tei.json["error"]
    for answer in (openai, tei):
        assert b"Traceback" not in answer.body
        assert b'File "' not in answer.body


@pytest.mark.parametrize("form", ["int8", ["float"], 3])
def test_only_two_forms_of_vectors_are_known(client, form):
    refused = client.ask("/v1/embeddings", {"input": "a", "encoding_format": form})
    assert (refused.status, refused.json["error"]["param"]) == (400, "encoding_format")
    assert "expected 'float' or 'base64'" in refused.json["error"]["message"]


def test_a_path_or_a_method_that_there_is_not_is_refused_in_the_callers_dialect(client):
    assert client.ask("/v1/nothing").json["error"]["type"] == "invalid_request_error"
    assert client.ask("/nothing").json["error_type"] == "Validation"
    assert client.ask("/embed").status == 405
    assert client.ask("/embed").json["error"] == "/embed takes POST, not GET"
    assert client.ask("/model/embed", {"inputs": "a"}).json["error"] == "there is no POST /model/embed here"
    assert client.ask("/v1/embeddings", method="DELETE").status == 405


@pytest.mark.parametrize(("path", "method", "allowed"), [("/embed", "GET", "POST"), ("/v1/models", "POST", "GET")])
def test_who_asks_with_another_method_is_told_which_ones_there_are(client, path, method, allowed):
    """RFC 9110, 15.5.6: a 405 names them in Allow."""
    assert allowed in client.ask(path, {} if method == "POST" else None).headers["allow"].split(", ")


def test_a_request_of_more_texts_or_bytes_or_tokens_than_are_taken_is_refused(tiny, serve):
    from numroberta.serving import Limits

    with serve({"tiny": tiny}, limits=Limits(texts=3, body=2000, queue=100)) as server:
        many = server.ask("/embed", {"inputs": ["a"] * 4})
        assert (many.status, many.json["error_type"]) == (413, "Validation")
        assert "at most 3" in many.json["error"]
        assert server.ask("/v1/embeddings", {"input": ["a"] * 4}).status == 400
        tokens = server.ask("/embed", {"inputs": ["word " * 90] * 2})
        assert tokens.status == 413
        assert "split it" in tokens.json["error"]
        large = server.ask("/embed", {"inputs": "a" * 3000})
        assert (large.status, large.headers["connection"]) == (413, "close")


def test_a_key_is_asked_for_everywhere_but_where_health_is_told(tiny, serve):
    with serve({"tiny": tiny}, api_keys=["right", "another"]) as client:
        for path, data in [("/v1/models", None), ("/embed", {"inputs": "a"}), ("/v1/embeddings", {"input": "a"})]:
            assert client.ask(path, data).status == 401
            assert client.ask(path, data, {"Authorization": "Bearer wrong"}).status == 401
            assert client.ask(path, data, {"Authorization": "Bearer right"}).status == 200
            assert client.ask(path, data, {"Authorization": "Bearer another"}).status == 200
        assert client.ask("/v1/models").json["error"]["code"] == "invalid_api_key"
        for path in ("/health", "/ready"):
            assert client.ask(path).status == 200


def test_pages_of_other_origins_may_ask_only_if_they_are_named(tiny, serve, client):
    origin = {"Origin": "https://example.org"}
    assert "access-control-allow-origin" not in client.ask("/v1/models", headers=origin).headers
    with serve({"tiny": tiny}, cors=["https://example.org"]) as open_to_one:
        told = open_to_one.ask("/v1/models", headers=origin).headers
        assert told["access-control-allow-origin"] == "https://example.org"
        other = open_to_one.ask("/v1/models", headers={"Origin": "https://example.com"}).headers
        assert "access-control-allow-origin" not in other
