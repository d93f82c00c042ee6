"""Clients that hang up, dawdle or send nonsense, and work that fails: others get their answers, nothing is left."""

import os
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import numroberta

pytest.importorskip("uvicorn", reason="needs a web server: pip install '.[serve]'")


def request(body, path="/embed", length=None):
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def hasty(serve, tiny):
    """A server that has half a second's patience."""
    from numroberta.serving import Limits

    with serve({"tiny": tiny}, limits=Limits(patience=0.5)) as server:
        yield server


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /em", b"POST /embed HTTP/1.1\r\nHost: x\r\n", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /he"],
    ids=["nothing", "half a line", "half a head", "a request and a half"],
)
def test_a_connection_whose_request_does_not_come_is_ended(hasty, sent):
    with connect(hasty) as slow:
        slow.sendall(sent)
        start = time.monotonic()
        while slow.recv(4096) if sent.startswith(b"GET") else _ended(slow):
            pass
        assert time.monotonic() - start < 3


def _ended(connection):
    try:
        return connection.recv(4096)
    except ConnectionResetError:
        return b""


def test_a_body_that_does_not_come_is_refused_with_a_sentence(hasty):
    with connect(hasty) as slow:
        slow.sendall(request(b'{"inputs": "a', length=100))
        answer = b"".join(iter(lambda: slow.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not arrive within 0.5 seconds" in answer


def test_an_answer_that_nobody_reads_is_given_up(hasty, tiny):
    texts = b'{"inputs": ["%s"]}' % b'", "'.join(b"word %d" % number for number in range(2000))
    with connect(hasty) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(request(texts))
        until(lambda: hasty.service.active == 1)
        until(lambda: hasty.service.active == 0, 60)
    assert hasty.ask("/embed", {"inputs": "a"}).status == 200


def test_a_request_as_slow_as_is_allowed_is_answered(hasty, tiny):
    body = b'{"inputs": "a text"}'
    with connect(hasty) as slow:
        for byte in range(0, len(body), 7):
            slow.sendall(request(body)[: -len(body)] * (byte == 0) + body[byte : byte + 7])
            time.sleep(0.1)
        assert slow.recv(4096).startswith(b"HTTP/1.1 200")


def test_who_hangs_up_costs_nothing_more(server):
    batcher, before = server.service.batcher, server.service.batcher.tokens_done
    texts = b'{"inputs": ["%s"]}' % b'", "'.join([b"word " * 400] * 100)
    gone = []
    for _ in range(2):
        gone.append(connect(server))
        gone[-1].sendall(request(texts))
    until(lambda: batcher.waiting)
    for connection in gone:
        connection.close()
    until(lambda: not batcher.waiting and not batcher.running)
    assert batcher.tokens_done - before < 20_000  # of 80,000
    until(lambda: server.service.active == 0)


def test_work_that_fails_is_said_in_a_sentence_and_fails_nobody_else(serve, monkeypatch, capsys):
    encoder = numroberta.load("tiny")
    compute = numroberta.model.Embedder.compute

    def fails_for_poison(self, block):
        if any(len(row) == 13 for row in block.windows):
            raise RuntimeError("poison in 'secret'")
        return compute(self, block)

    monkeypatch.setattr(numroberta.model.Embedder, "compute", fails_for_poison)
    good, poison = {"inputs": "a good text"}, {"inputs": [[9] * 11]}
    with serve({"tiny": encoder}) as server, ThreadPoolExecutor(12) as pool:
        ask = type(server)
        asked = [good if number % 4 else poison for number in range(40)]
        answers = list(pool.map(lambda data: ask(server.port).ask("/embed", data), asked))
        failed = ask(server.port).ask("/v1/embeddings", {"input": [9] * 11})
    expected = encoder.encode("a good text", normalize_embeddings=True)
    for data, answer in zip(asked, answers, strict=True):
        if data is good:
            np.testing.assert_allclose(answer.json[0], expected, rtol=0, atol=1e-6)
        else:
            assert (answer.status, answer.json["error_type"]) == (424, "Backend")
    assert (failed.status, failed.json["error"]["type"]) == (500, "server_error")
    told = capsys.readouterr().err
    assert "RuntimeError in" in told
    assert "secret" not in told


def test_a_model_whose_numbers_are_not_finite_gives_no_vector(serve, monkeypatch):
    encoder = numroberta.load("tiny")
    nan = np.full((1, 192), np.nan, np.float32)
    monkeypatch.setattr(numroberta.model.Embedder, "compute", lambda self, block: nan)
    with serve({"tiny": encoder}) as server:
        assert server.ask("/embed", {"inputs": "a"}).status == 424


@pytest.mark.slow
def test_thousands_of_bad_requests_and_hang_ups_leave_nothing_behind_and_good_ones_are_answered(serve, tiny):
    draw = random.Random(0)
    texts = [f"text {number}" for number in range(40)]
    expected = tiny.encode(texts, normalize_embeddings=True)
    good = b'{"inputs": ["a text", "another"], "normalize": true, "truncate": false}'

    def nonsense(_):
        body = bytearray(good)
        for _ in range(draw.randrange(1, 12)):
            body[draw.randrange(len(body))] = draw.randrange(256)
        with connect(server) as client:
            client.sendall(request(bytes(body)))
            status = int(client.recv(4096).split()[1])
        assert status == 200 or 400 <= status < 500, bytes(body)

    def hang_up(_):
        with connect(server) as client:
            client.sendall(request(good)[: draw.randrange(10, 200)])
            time.sleep(draw.random() / 50)

    def ask(index):
        np.testing.assert_allclose(
            type(server)(server.port).ask("/embed", {"inputs": texts[index % 40]}).json[0],
            expected[index % 40],
            rtol=0,
            atol=1e-6,
        )

    with serve({"tiny": tiny}) as server, ThreadPoolExecutor(12) as pool:
        ask(0)
        files = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else None
        work = [nonsense] * 1000 + [hang_up] * 200 + [ask] * 200
        draw.shuffle(work)
        list(pool.map(lambda job: job[1](job[0]), enumerate(work)))
        until(lambda: server.service.active == 0 and not server.service.batcher.waiting)
        if files:
            until(lambda: len(os.listdir("/proc/self/fd")) <= files + 2)
