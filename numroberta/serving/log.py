"""One line of JSON for each request."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone

from numroberta.serving.fields import Object


def json_lines(with_bodies: bool) -> Callable[[Object, bytes], None]:
    """What prints a line for each request, without what was in it unless that is asked for."""

    def log(told: Object, body: bytes) -> None:
        line = {"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds")} | told
        if with_bodies:
            line["body"] = body.decode("utf-8", "replace")
        print(json.dumps(line, ensure_ascii=False), flush=True)

    return log
