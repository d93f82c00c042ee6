"""`app`: which function answers which path, and what is the same for all of them."""

from __future__ import annotations

import asyncio
import hmac
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from numroberta.model import TextEncoder
from numroberta.serving import openai, tei
from numroberta.serving.batching import Batcher
from numroberta.serving.body import dumped, parsed, read, send_answer
from numroberta.serving.errors import Dialect, Refused, openai_error, tei_error
from numroberta.serving.fields import Object
from numroberta.serving.job import Job
from numroberta.serving.limits import Limits
from numroberta.serving.models import Models

T = TypeVar("T")
Endpoint = Callable[[Object, Models, Limits], Job]

SMALL = 1 << 14  # bytes of a request that are read, or inputs and bytes of an answer that is written, on the event loop

POSTS: dict[str, tuple[Endpoint, Dialect]] = {
    "/v1/embeddings": (openai.embeddings, openai_error),
    "/embed": (tei.embed, tei_error),
}
ENDING = Refused("stopping", "this server is about to end: ask another one", retry_after=1)
OPEN = ("/", "/health", "/ready")  # without a key


def app(
    encoders: TextEncoder | Mapping[str, TextEncoder],
    *,
    api_keys: Sequence[str] = (),
    limits: Limits | None = None,
    cors: Sequence[str] = (),
) -> Starlette:
    """An ASGI application that serves one model, or several by name.

    Args:
        encoders: the model, served under its own name, or a model for each name; the first answers where a request
            names none.
        api_keys: one of these must come with each request, as `Authorization: Bearer …`; without any, all may ask.
        limits: how much is taken.
        cors: origins ("https://example.org") whose pages may ask; "*" for all.

    Its `state.service` says how many requests are being answered (`active`), and `stop()` lets it refuse new ones.
    """
    if isinstance(encoders, TextEncoder):
        encoders = {encoders.checkpoint.name: encoders}
    service = Service(Models(encoders), limits or Limits())
    middleware = [Middleware(Guard, service=service, api_keys=[key.encode() for key in api_keys])]
    if cors:
        middleware.insert(
            0, Middleware(CORSMiddleware, allow_origins=list(cors), allow_methods=["*"], allow_headers=["*"])
        )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        service.batcher.close()

    application = Starlette(
        routes=routes(service),
        middleware=middleware,
        lifespan=lifespan,
        exception_handlers={HTTPException: http_error},
    )
    application.state.service = service
    return application


def routes(service: Service) -> list[BaseRoute]:
    models = service.models

    async def model_list(_: Request) -> Response:
        return JSONResponse(openai.model_list(models))

    async def model(request: Request) -> Response:
        try:
            return JSONResponse(openai.model(models.named(request.path_params["name"])))
        except Refused as refused:
            status, error = openai_error(refused)
            return JSONResponse(error, status)

    async def health(_: Request) -> Response:
        return Response()

    async def ready(_: Request) -> Response:
        return Response(status_code=503 if service.stopping else 200)

    gets = {
        "/v1/models": model_list,
        "/v1/models/{name:path}": model,
        "/health": health,
        "/ready": ready,
    }
    return [
        *(Route(path, Post(service, *answer), methods=["POST"]) for path, answer in POSTS.items()),
        *(Route(path, answer, methods=["GET"]) for path, answer in gets.items()),
    ]


def dialect_of(path: str) -> Dialect:
    return openai_error if path.startswith("/v1/") else tei_error


async def http_error(request: Request, error: HTTPException) -> Response:
    """What Starlette refuses: a path or a method that there is not."""
    refused = Refused("method" if error.status_code == 405 else "path", f"{error.detail}: {request.method} here")
    status, body = dialect_of(request.url.path)(refused)
    return JSONResponse(body, status, headers=error.headers)


class Service:
    """What all requests share."""

    def __init__(self, models: Models, limits: Limits):
        self.models, self.limits = models, limits
        self.batcher = Batcher(models.threads, limits.queue)
        self.active = 0  # requests that are being answered
        self.stopping = False

    def stop(self) -> None:
        """Answer what has been accepted, and nothing else."""
        self.stopping = True


class Guard:
    """Lets requests pass that may be answered, and counts them."""

    def __init__(self, app: ASGIApp, service: Service, api_keys: Collection[bytes]):
        self.app, self.service, self.api_keys = app, service, api_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self.app(scope, receive, send)
            return
        refused = self._refused(dict(scope["headers"]))
        if refused:
            status, body = dialect_of(scope["path"])(refused)
            await JSONResponse(body, status, headers=refused.headers)(scope, receive, send)
            return
        self.service.active += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.service.active -= 1

    def _refused(self, headers: Mapping[bytes, bytes]) -> Refused | None:
        if self.service.stopping:
            return ENDING
        given = headers.get(b"authorization", b"").partition(b" ")[2].strip() or headers.get(b"api-key", b"")
        right = [hmac.compare_digest(given, key) for key in self.api_keys]  # compared with all, whichever it is
        if self.api_keys and not any(right):
            return Refused("key", "the key is missing or wrong: send it as `Authorization: Bearer KEY`")
        return None


class Post:
    """An ASGI application for one path: JSON in, a job, its results, JSON out."""

    def __init__(self, service: Service, endpoint: Endpoint, dialect: Dialect):
        self.service, self.endpoint, self.dialect = service, endpoint, dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"content-type": "application/json"}
        started = time.perf_counter()
        try:
            status, body = 200, await self._answer(scope, receive, headers, started)
        except ClientDisconnect:
            return
        except (Refused, asyncio.CancelledError) as reason:  # cancelled: the time to end is over
            refused = reason if isinstance(reason, Refused) else ENDING
            status, error = self.dialect(refused)
            headers |= refused.headers
            if refused.kind in ("too large", "too slow"):
                headers["connection"] = "close"  # what is still to come of the request is not read
            body = dumped(error)
        except Exception as error:
            report(error)
            status, message = self.dialect(Refused("failed", "computing failed; the server's log says why"))
            body = dumped(message)
        await send_answer(send, status, headers, body, self.service.limits.patience)

    async def _answer(self, scope: Scope, receive: Receive, headers: dict[str, str], started: float) -> bytes:
        service = self.service
        data = await read(scope, receive, service.limits.body, service.limits.patience)

        def prepared() -> Job:
            return self.endpoint(parsed(data), service.models, service.limits)

        job = await aside(prepared, len(data) > SMALL)
        results = await unless_hung_up(service.batcher.results(job, scope.get("client")), receive)
        body = await aside(lambda: job.answer(results), len(job.inputs) > 16)
        headers["x-compute-tokens"] = str(sum(job.tokens))
        headers["x-total-time"] = str(round(1000 * (time.perf_counter() - started)))  # ms, as TEI says it
        return body


async def aside(function: Callable[[], T], large: bool) -> T:
    """What a function returns; in another thread where it is large, so that others are not kept waiting."""
    return await asyncio.get_running_loop().run_in_executor(None, function) if large else function()


async def unless_hung_up(work: Any, receive: Receive) -> Any:
    """The result of a coroutine, which is cancelled when the client hangs up; then ClientDisconnect is raised."""

    async def hung_up() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(hung_up())
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        watch.cancel()


def report(error: Exception) -> None:
    """On standard error: what failed, and where; not the error's own words, which may quote a text."""
    where = "; ".join(
        f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in traceback.extract_tb(error.__traceback__)
    )
    print(f"numroberta: {type(error).__name__} in {where}", file=sys.stderr, flush=True)
