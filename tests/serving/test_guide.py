"""The pages of the guide behind HTTP."""

import re

import pytest
from pages import text_of

from numroberta.guide import TOPICS

pytest.importorskip("uvicorn", reason="needs a web server: pip install '.[serve]'")


def test_the_front_page_links_every_page_of_the_guide_and_each_is_answered_without_a_key(serve, tiny):
    with serve(tiny, api_keys=["secret"]) as client:
        links = re.findall(r'<a href="([^"]+)">', client.ask("/").body.decode())
        assert links == [f"/guide/{topic}" for topic in TOPICS]
        for topic, link in zip(TOPICS, links, strict=True):
            answer = client.ask(link)
            assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
            assert answer.body.decode() == text_of(topic)


def test_a_page_that_there_is_not_is_not_found(client):
    for path in ("/guide/no-such", "/guide/..%2Fpyproject", "/guide/"):
        assert client.ask(path).status == 404
