"""`app`: which function answers which path, and what is the same for all of them."""

from __future__ import annotations

import asyncio
import hmac
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from numroberta.guide import TOPICS, page
from numroberta.model import TextEncoder
from numroberta.serving import heads, openai, tei
from numroberta.serving.batching import Batcher
from numroberta.serving.body import dumped, parsed, read, send_answer
from numroberta.serving.errors import Dialect, Refused, openai_error, tei_error
from numroberta.serving.fields import Object
from numroberta.serving.info import tei_info
from numroberta.serving.job import Job
from numroberta.serving.limits import Limits
from numroberta.serving.metrics import Metrics
from numroberta.serving.models import Models

T = TypeVar("T")
Endpoint = Callable[[Object, Models, Limits], Job | bytes]  # bytes: the answer itself

Log = Callable[[Object, bytes], None]
PAGE = Path(__file__).with_name("page.html")
PAGE_MAY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"
)
HUNG_UP = 499  # nginx's number for a client that did not wait
SMALL = 1 << 14  # bytes of a request that are read, or inputs and bytes of an answer that is written, on the event loop

POSTS: dict[str, tuple[Endpoint, Dialect]] = {
    "/v1/embeddings": (openai.embeddings, openai_error),
    "/": (tei.embed, tei_error),
    "/embed": (tei.embed, tei_error),
    "/embed_all": (tei.embed_all, tei_error),
    "/similarity": (tei.similarity, tei_error),
    "/tokenize": (tei.tokenize, tei_error),
    "/decode": (tei.decode, tei_error),
    "/predict": (heads.predict, tei_error),
    "/rerank": (heads.rerank, tei_error),
    "/fill-mask": (heads.fill_mask, tei_error),
    "/tag": (heads.tag, tei_error),
    "/answer": (heads.answer, tei_error),
}
ENDING = Refused("stopping", "this server is about to end: ask another one", retry_after=1)
OPEN = {("GET", path) for path in ("/", "/health", "/ready", *(f"/guide/{topic}" for topic in TOPICS))}  # without a key


def app(
    encoders: TextEncoder | Mapping[str, TextEncoder],
    *,
    api_keys: Sequence[str] = (),
    limits: Limits | None = None,
    cors: Sequence[str] = (),
    log: Log | None = None,
) -> Starlette:
    """An ASGI application that serves one model, or several by name.

    Args:
        encoders: the model, served under its own name, or a model for each name; the first answers where a request
            names none.
        api_keys: one of these must come with each request, as `Authorization: Bearer …`; without any, all may ask.
        limits: how much is taken.
        cors: origins ("https://example.org") whose pages may ask; "*" for all.
        log: is given a dictionary for each request: when, what, how it ended, how long it took, and its body.

    Its `state.service` says how many requests are being answered (`active`), and `stop()` lets it refuse new ones.
    """
    if isinstance(encoders, TextEncoder):
        encoders = {encoders.checkpoint.name: encoders}
    service = Service(Models(encoders), limits or Limits(), log)
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
        exception_handlers={HTTPException: http_error, Refused: refusal},
    )
    application.state.service = service
    return application


def routes(service: Service) -> list[BaseRoute]:
    models = service.models

    async def model_list(_: Request) -> Response:
        return JSONResponse(openai.model_list(models))

    async def model(request: Request) -> Response:
        return JSONResponse(openai.model(models.named(request.path_params["name"])))

    async def health(_: Request) -> Response:
        return Response()

    async def ready(_: Request) -> Response:
        return Response(status_code=503 if service.stopping else 200)

    async def info(request: Request) -> Response:
        return JSONResponse(tei_info(models.named(request.query_params.get("model")), service.limits))

    async def metrics(_: Request) -> Response:
        return Response(service.metrics.text(service.batcher), media_type="text/plain; version=0.0.4")

    async def front_page(_: Request) -> Response:
        links = ",\n".join(f'<a href="/guide/{topic}">{topic}</a>' for topic in TOPICS)
        shown = PAGE.read_text("utf-8").replace("{guide}", links)
        return HTMLResponse(shown, headers={"content-security-policy": PAGE_MAY})

    async def guide(request: Request) -> Response:
        topic = request.path_params["topic"]
        if topic not in TOPICS:
            raise HTTPException(404, "Not Found")
        return Response(page(topic), media_type="text/plain")

    gets = {
        "/": front_page,
        "/guide/{topic}": guide,
        "/info": info,
        "/metrics": metrics,
        "/v1/models": model_list,
        "/v1/models/{name:path}": model,
        "/health": health,
        "/ready": ready,
    }
    return [
        *(Route(path, Post(service, *answer), methods=["POST"]) for path, answer in POSTS.items()),
        *(Route(path, answer, methods=["GET"]) for path, answer in gets.items()),
    ]


def query_of(scope: Scope) -> Object:
    """The model that a request names in its address, as `/info` takes it; the request's own `model` goes before."""
    named = parse_qs(scope["query_string"].decode("latin-1")).get("model")
    return {"model": named[0]} if named else {}


def dialect_of(path: str) -> Dialect:
    return openai_error if path.startswith("/v1/") else tei_error


async def http_error(request: Request, error: HTTPException) -> Response:
    """What Starlette refuses: a path or a method that there is not."""
    path = request.url.path
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        refused = Refused("method", f"{path} takes {allowed}, not {request.method}")
    else:
        refused = Refused("path", f"there is no {request.method} {path} here")
    status, body = dialect_of(path)(refused)
    return JSONResponse(body, status, headers=error.headers)


async def refusal(request: Request, refused: Refused) -> Response:
    """What a GET is refused for."""
    status, body = dialect_of(request.url.path)(refused)
    return JSONResponse(body, status)


class Service:
    """What all requests share."""

    def __init__(self, models: Models, limits: Limits, log: Log | None):
        self.models, self.limits, self.log = models, limits, log
        self.metrics = Metrics()
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
        if scope["type"] != "http" or (scope["method"], scope["path"]) in OPEN:
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


@dataclass
class Seen:
    """What is known of a request by now."""

    body: bytes = b""
    texts: int = 0
    tokens: int = 0


class Post:
    """An ASGI application for one path: JSON in, a job, its results, JSON out."""

    def __init__(self, service: Service, endpoint: Endpoint, dialect: Dialect):
        self.service, self.endpoint, self.dialect = service, endpoint, dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"content-type": "application/json"}
        started, seen = time.perf_counter(), Seen()
        try:
            status, body = 200, await self._answer(scope, receive, headers, seen)
        except ClientDisconnect:
            self._note(scope, HUNG_UP, time.perf_counter() - started, seen)
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
        self._note(scope, status, time.perf_counter() - started, seen)
        await send_answer(send, status, headers, body, self.service.limits.patience)

    def _note(self, scope: Scope, status: int, seconds: float, seen: Seen) -> None:
        """How a request ended, for the metrics and the log."""
        self.service.metrics.count(scope["path"], status, seconds)
        if self.service.log:
            told = {"client": (scope.get("client") or ["?"])[0], "method": "POST", "path": scope["path"]}
            self.service.log(
                told | {"status": status, "ms": round(1000 * seconds, 1), "texts": seen.texts, "tokens": seen.tokens},
                seen.body,
            )

    async def _answer(self, scope: Scope, receive: Receive, headers: dict[str, str], seen: Seen) -> bytes:
        service = self.service
        data = seen.body = await read(scope, receive, service.limits.body, service.limits.patience)

        def prepared() -> Job | bytes:
            return self.endpoint(query_of(scope) | parsed(data), service.models, service.limits)

        job = await aside(prepared, len(data) > SMALL)
        if isinstance(job, bytes):
            return job
        seen.texts, seen.tokens = len(job.inputs), sum(job.tokens)
        headers["x-compute-tokens"] = str(seen.tokens)
        results = await unless_hung_up(service.batcher.results(job, scope.get("client")), receive)
        return await aside(lambda: job.answer(results), len(job.inputs) > 16)


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
