"""Every option of every public method makes a difference: the table below has two values of each, and what differs."""

import inspect
import json
from typing import Any, NamedTuple

import numpy as np
import pytest
import random_model

import numroberta
from numroberta import TextEncoder
from numroberta.arithmetic import heads

TEXTS = ["The rain in Spain stays mainly in the plain.", "Éva's naïve café", "the sand"]
LONG = "The inner sand and the rest. " * 30
CONTEXT = "The rain in Spain stays mainly in the plain. Éva's naïve café, 12 steps off, is dry. " * 3
TAGGED = "The rain in Spain stays mainly in the plain of Éva's naïve café."
MASKED = "The <mask> in Spain"


class Outcome(NamedTuple):
    """What a user can see of a call, and what it asked of the encoder."""

    result: Any
    error: str
    printed: str
    batch_sizes: set[int]  # most texts that may run side by side
    windows: int  # token sequences that were run


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model that has all heads but one another's, and a folder that has prompts, by the method that needs it."""
    root = tmp_path_factory.mktemp("options")
    prompted = random_model.write(root / "prompted")
    kinds = ["Transformer", "Pooling"]
    modules = [
        {"type": f"sentence_transformers.models.{kind}", "path": kind if i else ""} for i, kind in enumerate(kinds)
    ]
    (prompted / "modules.json").write_text(json.dumps(modules))
    (prompted / "Pooling").mkdir()
    (prompted / "Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    prompts = {"query": "the question: ", "document": "and the text: ", "other": "in other words "}
    (prompted / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    several = random_model.write(root / "several", heads.MASKED_LM, heads.TOKEN, heads.SPAN, id2label=random_model.TAGS)
    sorter = random_model.write(root / "sorter", heads.SEQUENCE, id2label=random_model.LABELS)
    ranker = random_model.write(root / "ranker", heads.SEQUENCE, id2label={"0": "score"})
    loaded = {"classify": numroberta.load(sorter), "rank": numroberta.load(ranker)}
    loaded |= dict.fromkeys(("fill_mask", "tag", "answer"), numroberta.load(several))
    plain = numroberta.load(prompted)
    return lambda method: loaded.get(method, plain)


def differ(a, b):
    return repr(a.result) != repr(b.result)


def shapes(*expected):
    """The results' shapes, one after the other."""
    return lambda a, b: (np.shape(a.result), np.shape(b.result)) == expected


def refuses_second(message):
    return lambda a, b: not a.error and message in b.error


def batch_sizes(a, b):
    """Whatever the numbers are, which do not depend on it."""
    return (a.batch_sizes, b.batch_sizes) == ({1}, {3})


def fewer(a, b):
    return len(a.result) < len(b.result)


class Case(NamedTuple):
    """A method's arguments, two values of an option, how the outcomes must differ, and other options that it needs."""

    arguments: tuple
    values: tuple
    differs: Any
    others: dict = {}  # noqa: RUF012  (never changed)


def vector_options(arguments):
    """The options that every method with one vector per text has."""
    return {
        "batch_size": Case(arguments, (1, 3), batch_sizes),
        "normalize_embeddings": Case(
            arguments, (False, True), lambda a, b: np.allclose(np.linalg.norm(b.result, axis=-1), 1) and differ(a, b)
        ),
        "pooling": Case(arguments, ("mean", "max"), differ),
        "prompt": Case(arguments, ("in other words ", "and "), differ),
        "prompt_name": Case(arguments, ("other", "query"), differ),
        "truncate_dim": Case(arguments, (5, 7), lambda a, b: (a.result.shape[-1], b.result.shape[-1]) == (5, 7)),
    }


CASES = {
    "encode": {
        **vector_options((TEXTS,)),
        "show_progress_bar": Case((TEXTS,), (None, True), lambda a, b: not a.printed and "3/3" in b.printed),
        "output_value": Case(
            (TEXTS[2],), ("sentence_embedding", "token_embeddings"), lambda a, b: a.result.ndim < b.result.ndim
        ),
        "precision": Case((TEXTS,), ("float32", "ubinary"), shapes((3, 24), (3, 3))),
        "convert_to_numpy": Case(
            (TEXTS,), (True, False), lambda a, b: isinstance(a.result, np.ndarray) and isinstance(b.result, list)
        ),
        "convert_to_tensor": Case((TEXTS,), (False, True), refuses_second("needs PyTorch")),
        "device": Case((TEXTS,), ("cpu", "cuda"), refuses_second("computes on the CPU")),
        "missing": Case(
            ([*TEXTS, None],), ("zero", "nan"), lambda a, b: np.isnan(b.result - a.result).any(1).sum() == 1
        ),
        "refused": Case((TEXTS,), ({}, {"task": "query"}), refuses_second("no argument 'task'")),
    },
    "encode_stream": {
        **vector_options((TEXTS,)),
        "long": Case(([LONG],), ("truncate", "split"), lambda a, b: differ(a, b) and a.windows == 1 < b.windows),
    },
    "embedder": {
        **vector_options(()),
        "long": Case((), ("truncate", "split"), lambda a, b: differ(a, b) and a.windows < b.windows),
    },
    "vectors": {
        "batch_size": Case(([[0, 9, 2], [0, 8, 7, 2], [0, 2]],), (1, 3), batch_sizes),
        "pooling": Case(([[0, 9, 2]],), ("mean", "max"), differ),
    },
    "encode_query": {
        "prompt_name": Case((TEXTS,), (None, "other"), differ),
        "options": Case((TEXTS,), ({"truncate_dim": 5}, {"truncate_dim": 7}), shapes((3, 5), (3, 7))),
    },
    "encode_document": {
        "prompt_name": Case((TEXTS,), (None, "other"), differ),
        "options": Case((TEXTS,), ({"truncate_dim": 5}, {"truncate_dim": 7}), shapes((3, 5), (3, 7))),
    },
    "similarity": {},
    "similarity_pairwise": {},
    "get_sentence_embedding_dimension": {},
    "encode_tokens": {"layers": Case((TEXTS[0],), ([-1], [0, 1]), differ)},
    "encode_words": {
        "aggregation": Case((TEXTS[1],), ("first", "mean"), differ),
        "layers": Case((TEXTS[0],), ([-1], [0, 1]), differ),
        "batch_size": Case(([["the"], ["sand"], ["rain"]],), (1, 3), batch_sizes),
    },
    "save": {"dtype": Case((), ("float32", "float16"), differ)},
    "fill_mask": {
        "top_k": Case((MASKED,), (2, 4), lambda a, b: (len(a.result), len(b.result)) == (2, 4)),
        "targets": Case((MASKED,), (["Ġthe"], ["Ġand"]), differ),
    },
    "classify": {
        "top_k": Case((TEXTS[0],), (1, 2), lambda a, b: (len(a.result), len(b.result)) == (1, 2)),
        "function_to_apply": Case((TEXTS[0],), ("none", "sigmoid"), differ),
        "batch_size": Case((TEXTS,), (1, 3), batch_sizes),
    },
    "rank": {
        "top_k": Case(("Where?", TEXTS), (1, 2), lambda a, b: (len(a.result), len(b.result)) == (1, 2)),
        "return_documents": Case(
            ("Where?", TEXTS), (False, True), lambda a, b: "text" not in a.result[0] and b.result[0]["text"] in TEXTS
        ),
        "batch_size": Case(("Where?", TEXTS), (1, 3), batch_sizes),
    },
    "tag": {
        "aggregation": Case((TAGGED,), ("first", "average"), differ),
        "ignore_labels": Case((TAGGED,), (["MISC"], []), fewer),
        "stride": Case((LONG,), (0, 16), lambda a, b: 1 < a.windows < b.windows, {"aggregation": "simple"}),
        "batch_size": Case((TEXTS,), (1, 3), batch_sizes),
    },
    "answer": {
        "top_k": Case(("Where?", CONTEXT), (1, 3), lambda a, b: isinstance(a.result, dict) and 1 < len(b.result) <= 3),
        "max_answer_len": Case(
            ("Where?", CONTEXT), (1, 15), lambda a, b: len(a.result["answer"]) < len(b.result["answer"])
        ),
        "doc_stride": Case(("Where?", CONTEXT), (5, 30), lambda a, b: 1 < a.windows < b.windows),
        "max_seq_len": Case(("Where?", CONTEXT), (64, 40), lambda a, b: 1 < a.windows < b.windows, {"doc_stride": 5}),
        "align_to_words": Case(("Where?", CONTEXT), (True, False), differ, {"top_k": 5}),
        "handle_impossible_answer": Case(
            ("Where?", "x y"),
            (False, True),
            lambda a, b: "" not in {one["answer"] for one in a.result} and "" in {one["answer"] for one in b.result},
            {"top_k": 50},
        ),
    },
    "load": {
        "name": Case((), ("tiny", "SMALL"), lambda a, b: a.result.config.hidden_size > b.result.config.hidden_size),
        "dtype": Case(
            (),
            ("float32", "float64"),
            lambda a, b: (a.result.model.dtype, b.result.model.dtype) == ("float32", "float64"),
        ),
        "num_threads": Case(
            (), (1, 3), lambda a, b: (a.result.model.num_threads, b.result.model.num_threads) == (1, 3)
        ),
        "deterministic": Case(
            (), (False, True), lambda a, b: b.result.model.deterministic > a.result.model.deterministic
        ),
        "reproducible": Case((), (False, True), lambda a, b: a.result.model.exact is None is not b.result.model.exact),
        "low_memory": Case((), (False, True), lambda a, b: b.result.model.low_memory > a.result.model.low_memory),
        "revision": Case((), (None, "main"), refuses_second("revision 'main' is for models of the hub")),
    },
}


def options_of(function):
    """The names of the parameters that may be left out."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.default is not p.empty or p.kind is p.VAR_KEYWORD}


def test_the_table_is_complete():
    public = {name: getattr(TextEncoder, name) for name in vars(TextEncoder) if not name.startswith("_")}
    methods = {name: method for name, method in public.items() if inspect.isfunction(method)}
    assert CASES.keys() == methods.keys() | {"load"}
    for name, method in {**methods, "load": numroberta.load}.items():
        assert CASES[name].keys() == options_of(method), name


def called(models, method, case, option, value, folder):
    """The call of a method with one option."""
    options = {**case.others, **(value if isinstance(value, dict) else {option: value})}
    if method == "load":
        if options.get("name", "SMALL") == "SMALL":
            options["name"] = models("encode").checkpoint.folder
        return numroberta.load(**options)
    result = getattr(models(method), method)(*case.arguments, *([folder] if method == "save" else []), **options)
    if method == "embedder":
        return result.compute(result.tokenize([*TEXTS, LONG] if option == "long" else TEXTS))
    if method == "save":
        return numroberta.load(folder).checkpoint.dtype
    return np.concatenate(list(result)) if method == "encode_stream" else result


def outcome(call, capsys):
    """What comes of a call."""
    asked = []
    run = numroberta.Roberta.run

    def recorded(self, texts, *rest, **more):
        asked.append((len(texts), more.get("most_texts")))
        return run(self, texts, *rest, **more)

    result, error = None, ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numroberta.Roberta, "run", recorded)
        try:
            result = call()
        except (TypeError, ValueError) as raised:
            error = str(raised)
    batch_sizes, windows = {most for _, most in asked}, sum(count for count, _ in asked)
    return Outcome(result, error, capsys.readouterr().err, batch_sizes, windows)


@pytest.mark.filterwarnings("ignore:.* texts have more than .* tokens")
@pytest.mark.parametrize(("method", "option"), [(method, option) for method in CASES for option in CASES[method]])
def test_an_option_makes_its_difference(models, method, option, tmp_path, capsys):
    if option == "show_progress_bar":
        pytest.importorskip("tqdm")
    case = CASES[method][option]
    one, other = (
        outcome(lambda value=value: called(models, method, case, option, value, tmp_path / str(value)), capsys)
        for value in case.values
    )
    assert case.differs(one, other), f"{case.values[0]!r} gives {one}, {case.values[1]!r} gives {other}"
