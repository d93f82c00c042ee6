"""Vectors by OpenAI's and TEI's endpoints are those of `encode`."""

import base64
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import numroberta

pytest.importorskip("uvicorn", reason="needs a web server: pip install '.[serve]'")

TEXTS = ["A man is playing a guitar.", "Müller & Söhne: 12,50 €", "x" * 300, "The stock market fell."]


def vectors_of(answer):
    return np.array([row["embedding"] for row in answer.json["data"]], np.float32)


def test_a_list_of_texts_gives_unit_vectors_in_order_and_counts_their_tokens(client, tiny):
    answer = client.ask("/v1/embeddings", {"input": TEXTS, "model": "tiny"})
    assert answer.status == 200
    assert [row["index"] for row in answer.json["data"]] == [0, 1, 2, 3]
    np.testing.assert_allclose(vectors_of(answer), tiny.encode(TEXTS, normalize_embeddings=True), rtol=0, atol=1e-6)
    tokens = sum(len(tiny.tokenizer(text)) for text in TEXTS)
    assert answer.json["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert (answer.json["object"], answer.json["model"]) == ("list", "tiny")


def test_base64_holds_the_same_bits_as_numbers(client):
    floats = client.ask("/v1/embeddings", {"input": TEXTS[0]})
    packed = client.ask("/v1/embeddings", {"input": TEXTS[0], "encoding_format": "base64"})
    bits = np.frombuffer(base64.b64decode(packed.json["data"][0]["embedding"]), "<f4")
    assert bits.tobytes() == vectors_of(floats)[0].tobytes()


def test_dimensions_are_cut_before_the_vector_is_made_one_long(client, tiny):
    cut = vectors_of(client.ask("/v1/embeddings", {"input": TEXTS, "dimensions": 64}))
    assert cut.shape == (4, 64)
    np.testing.assert_allclose(cut, tiny.encode(TEXTS, truncate_dim=64, normalize_embeddings=True), rtol=0, atol=1e-6)


@pytest.mark.parametrize("with_special_tokens", [False, True])
def test_token_ids_give_the_vector_of_their_text_with_and_without_special_tokens(client, with_special_tokens):
    ids = [numroberta.load("tiny").tokenizer(text, add_special_tokens=with_special_tokens).ids for text in TEXTS]
    of_texts = vectors_of(client.ask("/v1/embeddings", {"input": TEXTS}))
    np.testing.assert_allclose(vectors_of(client.ask("/v1/embeddings", {"input": ids})), of_texts, rtol=0, atol=1e-6)
    one = client.ask("/v1/embeddings", {"input": ids[0]})
    np.testing.assert_allclose(vectors_of(one), of_texts[:1], rtol=0, atol=1e-6)


def test_models_are_listed_and_told_apart_by_name(tiny, small, serve):
    with serve({"big": tiny, "little": small}) as client:
        assert [model["id"] for model in client.ask("/v1/models").json["data"]] == ["big", "little"]
        assert client.ask("/v1/models/little").json["id"] == "little"
        answer = client.ask("/v1/embeddings", {"input": "word", "model": "little"})
        np.testing.assert_allclose(
            vectors_of(answer)[0], small.encode("word", normalize_embeddings=True), rtol=0, atol=1e-6
        )
        assert client.ask("/v1/embeddings", {"input": "word"}).json["model"] == "big"
        refused = client.ask("/v1/embeddings", {"input": "word", "model": "ada"})
        assert (refused.status, refused.json["error"]["code"]) == (404, "model_not_found")
        assert "'big', 'little'" in refused.json["error"]["message"]


@pytest.mark.parametrize("normalize", [True, False])
def test_tei_gives_vectors_of_one_text_or_several(client, tiny, normalize):
    one = client.ask("/embed", {"inputs": TEXTS[0], "normalize": normalize}).json
    several = client.ask("/embed", {"inputs": TEXTS, "normalize": normalize}).json
    expected = tiny.encode(TEXTS, normalize_embeddings=normalize)
    np.testing.assert_allclose(one, expected[:1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(several, expected, rtol=1e-5, atol=1e-6)


def test_a_long_text_is_refused_unless_it_may_be_cut_on_the_side_that_is_named(client, tiny):
    words = [f"word{number}" for number in range(600)]
    text = " ".join(words)
    refused = client.ask("/embed", {"inputs": ["short", text]})
    assert refused.status == 413
    assert "`inputs[1]` must have at most 512 tokens" in refused.json["error"]
    assert refused.json["error_type"] == "Validation"
    openai = client.ask("/v1/embeddings", {"input": text})
    assert (openai.status, openai.json["error"]["code"]) == (400, "context_length_exceeded")
    right = client.ask("/embed", {"inputs": text, "truncate": True}).json[0]
    with pytest.warns(UserWarning, match="only the first 512"):
        np.testing.assert_allclose(right, tiny.encode(text, normalize_embeddings=True), rtol=0, atol=1e-6)
    left = client.ask("/embed", {"inputs": text, "truncate": True, "truncation_direction": "Left"}).json[0]
    ids = tiny.tokenizer(text, truncation=False).ids
    vector = tiny.vectors([[*ids[:1], *ids[-511:]]])[0]
    np.testing.assert_allclose(left, vector / np.linalg.norm(vector), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["deterministic", "reproducible"])
def test_deterministic_answers_have_the_bits_of_each_text_alone_whatever_runs_beside_it(serve, mode):
    encoder = numroberta.load("tiny", **{mode: True})
    texts = [f"{'number ' * (number % 40)}{number}" for number in range(48)]
    alone = [encoder.encode(text, normalize_embeddings=True).tobytes() for text in texts]
    with serve({"tiny": encoder}) as server, ThreadPoolExecutor(8) as pool:
        client = type(server)

        def ask(text):
            return vectors_of(client(server.port).ask("/v1/embeddings", {"input": [text, "another one"]}))[0].tobytes()

        assert list(pool.map(ask, texts)) == alone
        assert server.service.batcher.batches_done < 2 * len(texts)  # some ran together
