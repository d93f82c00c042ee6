"""A model behind HTTP: OpenAI's and text-embeddings-inference's (TEI) endpoints.  `pip install 'numroberta[serve]'`

application  `app`, for any ASGI server: which function answers which path, and what is the same for all of them
openai, tei, heads   the endpoints, each a function from a request's JSON to a `Job`
models       what is served, by name
rows         the texts of a request, as token ids
job          what an endpoint asks to be computed, and the answer that is made of it
batching     which texts are computed together, when, and on how many threads
fields       values of a request's JSON, checked
errors       why a request is refused, in the words that its client expects
body         a request's bytes, and the JSON that they are
limits       how much is taken
info, metrics, log, page.html   for the people who run it
server       uvicorn, with time-outs for slow senders, and an end in order
"""

from typing import TYPE_CHECKING

from numroberta import door

if TYPE_CHECKING:
    from numroberta.serving.application import app as app
    from numroberta.serving.limits import Limits as Limits
    from numroberta.serving.log import json_lines as json_lines
    from numroberta.serving.server import run as run

__getattr__, __dir__ = door(
    __name__,
    {"application": ("app",), "limits": ("Limits",), "log": ("json_lines",), "server": ("run",)},
)
