"""uvicorn, with time-outs for slow senders, and an end in order."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol


def run(application: Starlette, host: str, port: int, *, grace: float = 30, ready: Callable[[str], None]) -> bool:
    """Serve until SIGTERM or Ctrl-C; True if all that was accepted was answered by then.

    Args:
        application: what `app` returns.
        host, port: where to listen; port 0 takes a free one.
        grace: seconds for what has been accepted when the signal comes; new requests are refused meanwhile.  A second
            signal ends the process at once.
        ready: is called with the server's address when it listens.

    Raises:
        OSError: It cannot listen there.
    """
    listener = listening(host, port)
    config = uvicorn.Config(
        application,
        http=PatientProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=75,
    )
    server = Server(config, grace)
    shown = f"[{host}]" if ":" in host else host
    ready(f"http://{shown}:{listener.getsockname()[1]}")
    server.run(sockets=[listener])
    return server.complete


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens at the first address of this host."""
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        if listener:
            listener.close()
        other = "; --port 0 takes a free one" if error.errno == errno.EADDRINUSE else ""
        raise OSError(f"cannot listen at {host}, port {port}: {error.strerror}{other}") from None
    return listener


class Server(uvicorn.Server):
    """uvicorn's server, which refuses new requests for a while before it ends."""

    def __init__(self, config: uvicorn.Config, grace: float):
        super().__init__(config)
        self.grace = grace
        self.until = 0.0  # when a server that was told to stop ends in any case
        self.complete = True

    @property
    def service(self) -> Any:
        return self.config.app.state.service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.service.stopping:
            os._exit(128 + sig)
        self.service.stop()
        self.until = time.monotonic() + self.grace

    async def on_tick(self, counter: int) -> bool:
        await super().on_tick(counter)
        if not self.service.stopping:
            return False
        self.complete = self.service.active == 0
        return self.complete or time.monotonic() > self.until


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, which ends a connection whose request does not come, and whose answer nobody reads."""

    _look_again: asyncio.TimerHandle | None = None
    _was_partial = True  # a connection that says nothing is no better than one that begins and stops

    @property
    def patience(self) -> float:
        return self.config.app.state.service.limits.patience

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._watch()

    def _watch(self) -> None:
        self._scope = self.scope
        self._look_again = self.loop.call_later(self.patience, self._look)

    def _look(self) -> None:
        """End the connection if its request has not got on since last time, or its last bytes are not read."""
        answering = self.cycle is not None and not self.cycle.response_complete
        partial = not answering and (self.scope is None or bool(self.conn.trailing_data[0]))
        if self.transport.is_closing() or (partial and self._was_partial and self.scope is self._scope):
            self.transport.abort()
            return
        self._was_partial = partial
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._look_again:
            self._look_again.cancel()
