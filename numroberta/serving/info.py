"""`GET /info`, as text-embeddings-inference gives it."""

from __future__ import annotations

from numroberta import __version__
from numroberta.arithmetic import heads
from numroberta.serving.batching import FULL
from numroberta.serving.fields import Object
from numroberta.serving.limits import Limits
from numroberta.serving.models import Served


def tei_info(served: Served, limits: Limits) -> Object:
    """What is served, and how much is taken."""
    encoder = served.encoder
    return {
        "model_id": served.name,
        "model_sha": None,
        "model_dtype": str(encoder.model.dtype),
        "model_type": model_type(served),
        "max_concurrent_requests": limits.queue,  # requests of one token each: what waits is counted in tokens
        "max_input_length": encoder.max_length,
        "max_batch_tokens": FULL * encoder.model.num_threads,
        "max_batch_requests": None,
        "max_client_batch_size": limits.texts,
        "auto_truncate": limits.auto_truncate,
        "tokenization_workers": 1,
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }


def model_type(served: Served) -> Object:
    encoder = served.encoder
    classifies = heads.SEQUENCE in heads.heads_of(encoder.checkpoint) and encoder.sentence.dimension is None
    if encoder.sentence.pooling and not classifies:  # a folder with modules of its own is one of vectors
        return {"embedding": {"pooling": "+".join(encoder.sentence.pooling)}}
    labels = {str(number): label for number, label in encoder.config.id2label.items()}
    head = {"id2label": labels, "label2id": {label: int(number) for number, label in labels.items()}}
    return {"reranker" if encoder.config.num_labels == 1 else "classifier": head}
