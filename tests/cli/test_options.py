"""Every option of every command matters: for each, a case that fails if the command ignores it.

A case runs the command twice, without the option (or with its other value) and with it, and says what must then be
true of the two results.  A test holds that every option of every parser has its case, so whoever adds an option adds
a case: to `OWN`, or for what `add_model_options` adds, nothing.
"""

import argparse
import json
import webbrowser
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import random_model

import numroberta
from numroberta import parity
from numroberta.arithmetic import heads
from numroberta.cli.commands import command_parser

LABELS = {"0": "B-PER", "1": "I-PER", "2": "B-LOC"}
SUFFIXES = {  # of the paths that words in capitals stand for; DIR is an empty folder
    "HEADS": "",  # a checkpoint with every head
    "REFERENCE": ".safetensors",  # a recording
    "MINE": ".npz",  # one that differs from it
    "NOISE": ".npz",  # one that no mistake explains
    "NAMES": ".json",  # a map from a name that it does not have
    "PRINT": ".txt",  # a fingerprint of "the rain"
    "OTHER": ".txt",  # a fingerprint of another text
}


class Case(NamedTuple):
    """Arguments without an option and with it, and what must be true of how the two end."""

    without: Sequence[str]
    given: Sequence[str]
    holds: Callable[[Any, Any], Any]
    terminal: bool = False
    stdin: str = ""


def answers(ended):
    """What the first line of JSON answers."""
    return json.loads(ended.out.splitlines()[0])["answers"]


def added(base, option, holds, **more):
    """The case of an option that is added to a command line."""
    return Case(base, [*base, *option], holds, **more)


FILL = ["fill-mask", "the <mask>", "--model", "HEADS"]
CLASSIFY = ["classify", "the rain", "--model", "HEADS"]
TAG = ["tag", "Anna and the rain", "--model", "HEADS"]
ANSWER = ["answer", "Who?", "--context", "Anna and the rain", "--model", "HEADS"]
WORDS = ["words", "Anna went", "--model", "HEADS"]
COMPARE = ["compare", "REFERENCE", "MINE"]
VIEW = ["view", "the rain", "--model", "HEADS", "-o", "DIR/page.html"]
TRACE = ["trace", "the rain", "--model", "HEADS", "-o", "DIR/trace.safetensors"]


def is_json(before, after):
    return not before.out.startswith("{") and json.loads(after.out.splitlines()[0])


def skips(before, after):
    return (before.code, after.code) == (2, 0) and after.err.count("skipped: standard input, line 2") == 1


def each_line(command):
    """The case of --errors: a line that is not UTF-8 stops the command, or is skipped."""
    base = [command, "-", "--model", "HEADS"]
    return added(base, ["--errors", "skip"], skips, stdin=b"the <mask>\n\xff\nand <mask>\n")


OWN = {
    ("view", "--output"): added(VIEW, ["-o", "DIR/other.html"], lambda _, after: "written to" in after.out),
    ("view", "--open"): added(VIEW, ["--open"], lambda before, after: (before.opened, after.opened) == (0, 1)),
    ("fill-mask", "--top-k"): added(FILL, ["--top-k", "2"], lambda _, after: len(answers(after)) == 2),
    ("fill-mask", "--targets"): added(
        FILL, ["--targets", "a"], lambda _, after: [answer["token_str"] for answer in answers(after)] == ["a"]
    ),
    ("fill-mask", "--json"): added(FILL, ["--json"], is_json, terminal=True),
    ("fill-mask", "--errors"): each_line("fill-mask"),
    ("classify", "--pair"): added(CLASSIFY, ["--pair", "sun"], lambda before, after: answers(before) != answers(after)),
    ("classify", "--top-k"): added(CLASSIFY, ["--top-k", "1"], lambda _, after: len(answers(after)) == 1),
    ("classify", "--json"): added(CLASSIFY, ["--json"], is_json, terminal=True),
    ("classify", "--errors"): each_line("classify"),
    ("tag", "--aggregation"): added(
        TAG,
        ["--aggregation", "none"],
        lambda before, after: "entity_group" in answers(before)[0] and "entity" in answers(after)[0],
    ),
    ("tag", "--json"): added(TAG, ["--json"], is_json, terminal=True),
    ("tag", "--errors"): each_line("tag"),
    ("answer", "--context"): added(
        ANSWER, ["--context", "Rain"], lambda before, after: answers(before)[0]["answer"] != answers(after)[0]["answer"]
    ),
    ("answer", "--top-k"): added(ANSWER, ["--top-k", "3"], lambda _, after: len(answers(after)) == 3),
    ("answer", "--no-answer"): Case(
        [*ANSWER, "--top-k", "100"],
        [*ANSWER, "--top-k", "100", "--no-answer"],
        lambda before, after: (
            [any(not a["answer"] for a in answers(ended)) for ended in (before, after)] == [False, True]
        ),
    ),
    ("answer", "--json"): added(ANSWER, ["--json"], is_json, terminal=True),
    ("words", "--aggregation"): added(
        WORDS, ["--aggregation", "mean"], lambda before, after: answers(before) != answers(after)
    ),
    ("words", "--layers"): added(WORDS, ["--layers", "0"], lambda before, after: answers(before) != answers(after)),
    ("words", "--json"): added(WORDS, ["--json"], is_json, terminal=True),
    ("words", "--errors"): each_line("words"),
    ("trace", "--output"): added(TRACE, ["-o", "DIR/other.safetensors"], lambda _, after: "other" in after.out),
    ("trace", "--dtype"): added(TRACE, ["--dtype", "float64"], lambda _, after: ", float64, " in after.out),
    ("trace", "--gradients"): added(TRACE, ["--gradients", "mlm"], lambda before, after: before.out != after.out),
    ("compare", "--model"): added(
        COMPARE, ["--model", "DIR"], lambda before, after: "no diagnosis without the weights" in after.out
    ),
    ("compare", "--map"): added(
        COMPARE, ["--map", "NAMES"], lambda _, after: "'my name', which mine has not" in after.err
    ),
    ("compare", "--seconds"): Case(
        ["compare", "REFERENCE", "NOISE", "--seconds", "1e-9"],
        ["compare", "REFERENCE", "NOISE", "--seconds", "0.3"],
        lambda before, after: "search stopped" in before.out and before.out != after.out,
    ),
    ("compare", "--rtol"): added(COMPARE, ["--rtol", "1e9"], lambda *ended: [e.code for e in ended] == [1, 0]),
    ("compare", "--atol"): added(COMPARE, ["--atol", "1e9"], lambda *ended: [e.code for e in ended] == [1, 0]),
    ("compare", "--json"): added(COMPARE, ["--json"], is_json),
    ("fingerprint", "--check"): Case(
        ["fingerprint", "the rain", "--model", "HEADS", "--check", "PRINT"],
        ["fingerprint", "the rain", "--model", "HEADS", "--check", "OTHER"],
        lambda before, after: (before.code, after.code) == (0, 1),
    ),
    ("convert", "--dtype"): Case(
        ["convert", "HEADS", "DIR/a"],
        ["convert", "HEADS", "DIR/b", "--dtype", "float16"],
        lambda before, after: "float32" in before.out and "float16" in after.out,
    ),
}

# What these have of their own is held beside what they do: in tests/corpus, tests/training and tests/serving.
HELD_ELSEWHERE = {"embed", "search", "finetune", "serve"}

# What `load` must be given for each option that says how a model computes.
LOADED = {
    "--dtype": ("float64", {"dtype": "float64"}),
    "--threads": ("3", {"num_threads": 3}),
    "--deterministic": (None, {"deterministic": True}),
    "--reproducible": (None, {"reproducible": True}),
    "--low-memory": (None, {"low_memory": True}),
}
LOADING = {  # the shortest command line of each command that loads a model
    "embed": ["a"],
    "search": ["a", "--vectors", "DIR/v.npy", "--texts", "PRINT"],
    "serve": [],
    "view": ["a"],
    "fill-mask": ["<mask>"],
    "classify": ["a"],
    "tag": ["a"],
    "answer": ["a", "--context", "b"],
    "words": ["a"],
    "trace": ["a", "-o", "DIR/t.safetensors"],
    "fingerprint": ["a"],
}
# The shortest command line of each command that takes a model's name, which comes first where it has no --model.
NAMING = LOADING | {"tokenize": ["a"], "info": [], "verify": [], "convert": ["DIR/out"]}


def parsers_of(parser, name=()):
    """The parser of each command by its name, `finetune classify` being one."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        return {" ".join(name): parser}
    return {
        full: leaf for word, sub in below[0].choices.items() for full, leaf in parsers_of(sub, (*name, word)).items()
    }


PARSERS = parsers_of(command_parser())


def options_of(command):
    """Each option of a command, by its longest name."""
    actions = PARSERS[command]._actions
    return {max(action.option_strings, key=len) for action in actions if action.option_strings} - {"--help"}


SHARED = [(command, option) for command in LOADING for option in LOADED if option in options_of(command)]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The paths that the words in capitals stand for."""
    folder = tmp_path_factory.mktemp("options")
    places = {name: folder / f"{name.lower()}{suffix}" for name, suffix in SUFFIXES.items()}
    random_model.write(places["HEADS"], heads.MASKED_LM, heads.SEQUENCE, heads.TOKEN, heads.SPAN, id2label=LABELS)
    model = numroberta.load(places["HEADS"], reproducible=True)
    recorded = parity.trace(model, *parity.batch(model, ["the rain"]))
    parity.save(places["REFERENCE"], recorded, parity.provenance(model))
    np.savez(places["MINE"], **recorded | {"embeddings": recorded["embeddings"] * np.float32(1.1)})
    noise = np.random.default_rng(0).standard_normal(recorded["embeddings"].shape, np.float32)
    np.savez(places["NOISE"], **recorded | {"embeddings": recorded["embeddings"] + noise})
    places["NAMES"].write_text(json.dumps({"my name": "embeddings"}))
    for name, text in (("PRINT", "the rain"), ("OTHER", "the sun")):
        places[name].write_text("\n".join(parity.fingerprint_lines(parity.fingerprint(model, [text]))))
    return places


@pytest.fixture
def run(command, places, tmp_path, monkeypatch):
    """Run a command line in which words in capitals stand for paths; `.opened` counts pages shown in a browser."""
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)

    def path_for(argument):
        first, _, rest = argument.partition("/")
        return tmp_path / rest if first == "DIR" else places.get(argument, argument)

    def run(arguments, **more):
        opened.clear()
        ended = command(*map(path_for, arguments), code=None, **more)
        return SimpleNamespace(**ended._asdict(), opened=len(opened))

    return run


def test_every_option_of_every_command_has_a_case():
    named = {(name, option) for name in NAMING for option in ("--model", "--revision") if option in options_of(name)}
    every = {(name, option) for name in PARSERS for option in options_of(name)}
    elsewhere = {(name, option) for name, option in every if name.split()[0] in HELD_ELSEWHERE}
    assert {*OWN, *SHARED, *named, *elsewhere} == every


@pytest.mark.parametrize("name", PARSERS)
def test_help_explains_every_argument(name, command):
    text = " ".join(command(*name.split(), "--help").out.split())
    for action in PARSERS[name]._actions:
        assert all(option in text for option in action.option_strings)
        assert action.help


@pytest.mark.parametrize("name", OWN, ids=[" ".join(case) for case in OWN])
def test_an_option_changes_what_its_command_does(name, run):
    case = OWN[name]
    results = [run(arguments, stdin=case.stdin, terminal=case.terminal) for arguments in (case.without, case.given)]
    assert case.holds(*results), results


class Loaded(ValueError):
    """Raised in place of loading a model."""


@pytest.mark.parametrize(("name", "option"), SHARED, ids=[" ".join(case) for case in SHARED])
def test_an_option_of_the_arithmetic_reaches_the_model(name, option, run, monkeypatch):
    value, expected = LOADED[option]
    loaded = []

    def load(model, **options):
        loaded.append(options)
        raise Loaded("not now")

    monkeypatch.setattr("numroberta.model.load", load)
    for arguments in ([name, *LOADING[name]], [name, *LOADING[name], option, *([value] if value else [])]):
        assert run(arguments).err == "numroberta: not now\n"
    without, given = loaded
    assert {key: given[key] for key in expected} == expected
    assert {key: without[key] for key in expected} != expected


@pytest.mark.parametrize("name", NAMING)
def test_a_model_and_a_revision_are_looked_for_under_the_names_that_were_given(name, run):
    def with_model(model):
        rest = NAMING[name]
        return [name, *rest, "--model", model] if "--model" in options_of(name) else [name, model, *rest]

    assert "no/such/model" in run(with_model("no/such/model")).err
    assert "revision 'v2' is for models of the hub" in run([*with_model("tiny"), "--revision", "v2"]).err
