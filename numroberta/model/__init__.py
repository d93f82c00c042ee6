"""Text in, vectors or answers out.

text_encoder   `load`, and `TextEncoder`
stream         any number of texts, a window at a time
tasks          logits to answers
sentence       what a sentence-transformers folder says
saving         a model as a folder
"""

from typing import TYPE_CHECKING

from numroberta import door

if TYPE_CHECKING:
    from numroberta.model import stream as stream
    from numroberta.model.sentence import read_sentence_settings as read_sentence_settings
    from numroberta.model.stream import WINDOW as WINDOW
    from numroberta.model.tasks import softmax as softmax
    from numroberta.model.text_encoder import (
        Embedder as Embedder,
        TextEncoder as TextEncoder,
        load as load,
        progress as progress,
    )

__getattr__, __dir__ = door(
    __name__,
    {
        "sentence": ("read_sentence_settings",),
        "stream": ("WINDOW",),
        "tasks": ("softmax",),
        "text_encoder": (
            "Embedder",
            "TextEncoder",
            "load",
            "progress",
        ),
    },
)
