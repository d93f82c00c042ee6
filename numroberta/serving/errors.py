"""Why a request is refused: a sentence, and the status and the JSON that clients of OpenAI's and TEI's API expect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """How both APIs tell one kind of refusal."""

    status: int  # OpenAI's
    type: str
    code: str | None
    tei_status: int
    tei_type: str


REQUEST = "invalid_request_error"
KINDS = {
    "syntax": Kind(400, REQUEST, None, 400, "Validation"),
    "value": Kind(400, REQUEST, None, 422, "Validation"),
    "vocabulary": Kind(400, REQUEST, None, 422, "Tokenizer"),
    "too long": Kind(400, REQUEST, "context_length_exceeded", 413, "Validation"),
    "too many": Kind(400, REQUEST, None, 413, "Validation"),
    "too large": Kind(413, REQUEST, None, 413, "Validation"),
    "too slow": Kind(408, REQUEST, None, 408, "Validation"),
    "key": Kind(401, REQUEST, "invalid_api_key", 401, "Validation"),
    "path": Kind(404, REQUEST, None, 404, "Validation"),
    "method": Kind(405, REQUEST, None, 405, "Validation"),
    "model": Kind(404, REQUEST, "model_not_found", 404, "Validation"),
    "head": Kind(400, REQUEST, None, 424, "Backend"),
    "full": Kind(429, "server_overloaded", None, 429, "Overloaded"),
    "stopping": Kind(503, "server_error", None, 503, "Unhealthy"),
    "failed": Kind(500, "server_error", None, 424, "Backend"),
}


class Refused(Exception):
    """A request that is not answered; kind: a key of KINDS; retry_after: seconds."""

    def __init__(self, kind: str, sentence: str, *, param: str | None = None, retry_after: int | None = None):
        super().__init__(sentence)
        self.kind, self.sentence, self.param, self.retry_after = kind, sentence, param, retry_after

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"retry-after": str(self.retry_after)}


Dialect = Callable[[Refused], tuple[int, dict[str, Any]]]


def openai_error(refused: Refused) -> tuple[int, dict[str, Any]]:
    """Status and JSON as OpenAI's API gives them."""
    kind = KINDS[refused.kind]
    error = {"message": refused.sentence, "type": kind.type, "param": refused.param, "code": kind.code}
    return kind.status, {"error": error}


def tei_error(refused: Refused) -> tuple[int, dict[str, Any]]:
    """Status and JSON as text-embeddings-inference gives them."""
    kind = KINDS[refused.kind]
    return kind.tei_status, {"error": refused.sentence, "error_type": kind.tei_type}
