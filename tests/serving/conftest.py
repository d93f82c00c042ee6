"""A server on loopback for a test, asked as a client asks."""

import contextlib
import http.client
import json
import threading
from typing import NamedTuple

import pytest


class Answer(NamedTuple):
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """A client of a server; `connection` is kept alive."""

    def __init__(self, port, service=None):
        self.port, self.service = port, service
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, path, data=None, headers=(), method=None):
        """POST of JSON, or of bytes as they are; GET where there is no data."""
        body = data if data is None or isinstance(data, bytes) else json.dumps(data).encode()
        self.connection.request(method or ("GET" if data is None else "POST"), path, body, dict(headers))
        response = self.connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


@contextlib.contextmanager
def serving(encoders, **options):
    """A server in a thread of this process."""
    import uvicorn

    from numroberta.serving import app
    from numroberta.serving.server import PatientProtocol, Server, listening

    application = app(encoders, **options)
    listener = listening("127.0.0.1", 0)
    config = uvicorn.Config(application, http=PatientProtocol, log_config=None, timeout_graceful_shutdown=1)
    server = Server(config, grace=5)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield Client(listener.getsockname()[1], application.state.service)
    finally:
        application.state.service.stop()
        thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def serve():
    """`with serve(encoders, **options) as client:`; the options are those of `numroberta.serving.app`."""
    return serving


@pytest.fixture(scope="session")
def server(tiny):
    """A server of the built-in model with its usual options."""
    with serving({"tiny": tiny}) as client:
        yield client


@pytest.fixture
def client(server):
    """A new connection to it."""
    return Client(server.port, server.service)
