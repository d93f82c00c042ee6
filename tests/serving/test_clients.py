"""Clients that people have, of OpenAI, Hugging Face and LangChain, and curl, get the vectors of `encode`."""

import json
import shutil
import subprocess

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="needs a web server: pip install '.[serve]'")

TEXTS = ["A man is playing a guitar.", "Müller & Söhne: 12,50 €", "word " * 300]


@pytest.fixture(scope="module")
def expected(tiny):
    return tiny.encode(TEXTS, normalize_embeddings=True)


@pytest.fixture
def address(server):
    return f"http://127.0.0.1:{server.port}"


def test_the_openai_package(address, expected):
    openai = pytest.importorskip("openai", reason="needs OpenAI's client: pip install openai")
    with openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["tiny"]
        answer = client.embeddings.create(model="tiny", input=TEXTS)  # asks for base64 by itself
        np.testing.assert_allclose([row.embedding for row in answer.data], expected, rtol=0, atol=1e-6)
        floats = client.embeddings.create(model="tiny", input=TEXTS[0], encoding_format="float", dimensions=8)
        assert len(floats.data[0].embedding) == 8
        assert floats.usage.prompt_tokens == floats.usage.total_tokens > 0
        with pytest.raises(openai.BadRequestError, match="`input` must have at most 512 tokens"):
            client.embeddings.create(model="tiny", input="word " * 600)
        with pytest.raises(openai.NotFoundError, match="not served here, but 'tiny'"):
            client.embeddings.create(model="text-embedding-3-small", input="a")


def test_the_openai_package_with_a_wrong_key_and_a_full_queue(serve, tiny):
    openai = pytest.importorskip("openai", reason="needs OpenAI's client: pip install openai")
    with serve({"tiny": tiny}, api_keys=["right"]) as server:
        wrong = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="wrong", max_retries=0)
        with wrong, pytest.raises(openai.AuthenticationError):
            wrong.embeddings.create(model="tiny", input="a")
        server.service.batcher.most_waiting = 5
        server.service.batcher.short.tokens = 5  # as if so many waited
        right = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="right", max_retries=0)
        with right, pytest.raises(openai.RateLimitError, match="try again later") as refused:
            right.embeddings.create(model="tiny", input="a")
        assert int(refused.value.response.headers["retry-after"]) >= 1
        server.service.batcher.short.tokens = 0


def test_hugging_faces_inference_client(address, expected):
    hub = pytest.importorskip("huggingface_hub", reason="needs pip install huggingface-hub")
    client = hub.InferenceClient(model=address)
    np.testing.assert_allclose(client.feature_extraction(TEXTS[0]), expected[:1], rtol=0, atol=1e-6)
    raw = client.feature_extraction(TEXTS[0], normalize=False, truncate=True)
    assert np.linalg.norm(raw) > 1.5


def test_langchains_openai_embeddings(address, expected):
    langchain = pytest.importorskip("langchain_openai", reason="needs pip install langchain-openai")
    embeddings = langchain.OpenAIEmbeddings(
        model="tiny", base_url=f"{address}/v1", api_key="any", check_embedding_ctx_length=False
    )
    np.testing.assert_allclose(embeddings.embed_documents(TEXTS), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(embeddings.embed_query(TEXTS[1]), expected[1], rtol=0, atol=1e-6)


def test_langchains_hugging_face_endpoint_embeddings(address, expected):
    langchain = pytest.importorskip("langchain_huggingface", reason="needs pip install langchain-huggingface")
    embeddings = langchain.HuggingFaceEndpointEmbeddings(model="any/name")
    embeddings.client = pytest.importorskip("huggingface_hub").InferenceClient(model=address)  # 1.2 takes no URL itself
    np.testing.assert_allclose(embeddings.embed_documents(TEXTS), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(embeddings.embed_query(TEXTS[1]), expected[1], rtol=0, atol=1e-6)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(address, expected):
    command = ["curl", "-sS", f"{address}/embed", "-d", json.dumps({"inputs": TEXTS})]
    answer = subprocess.run(command, check=True, capture_output=True).stdout
    np.testing.assert_allclose(json.loads(answer), expected, rtol=0, atol=1e-6)
