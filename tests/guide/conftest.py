"""Models under the names that the pages have."""

from types import SimpleNamespace

import pytest
import random_model

import numroberta
from numroberta.arithmetic import heads


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    """A cache of the hub in which the names that the pages have stand for small models with the same heads."""
    cache = tmp_path_factory.mktemp("hub")
    folder = tmp_path_factory.mktemp("models")
    numroberta.load("tiny").save(folder / "tiny", "float32")  # transformers computes in the file's dtype
    one_label = {"id2label": {"0": "LABEL_0"}}
    stand_ins = {
        "sentence-transformers/all-MiniLM-L6-v2": folder / "tiny",
        "BAAI/bge-small-en-v1.5": folder / "tiny",
        "distilroberta-base": folder / "tiny",
        "BAAI/bge-reranker-base": random_model.write_with_head(folder / "ranker", heads.SEQUENCE, **one_label),
        "cardiffnlp/twitter-roberta-base-sentiment-latest": random_model.write_with_head(
            folder / "sorter", heads.SEQUENCE, id2label=random_model.LABELS
        ),
        "deepset/roberta-base-squad2": random_model.write_with_head(folder / "reader", heads.SPAN),
        "Jean-Baptiste/roberta-large-ner-english": random_model.write_with_head(
            folder / "tagger", heads.TOKEN, id2label=random_model.TAGS
        ),
    }
    for name, model in stand_ins.items():
        entry = cache / f"models--{name.replace('/', '--')}"
        (entry / "refs").mkdir(parents=True)
        (entry / "snapshots").mkdir()
        (entry / "refs" / "main").write_text("0" * 40)
        (entry / "snapshots" / ("0" * 40)).symlink_to(model, target_is_directory=True)
    return SimpleNamespace(cache=cache, names=stand_ins)
