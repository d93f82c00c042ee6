"""Exact search: the ranking is that of all cosines, whatever the block, and says what does not fit."""

import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from numroberta import cli
from numroberta.cli.commands import command_parser
from numroberta.corpus import search
from numroberta.corpus.search import nearest, open_vectors


@given(st.integers(1, 200), st.integers(1, 12), st.sampled_from([1, 7, 64, 1000]), st.integers(0, 99))
def test_the_ranking_is_that_of_all_cosines_sorted(rows, k, block, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, (rows, 4)).astype(np.float32)  # many equal scores, and some zero vectors
    queries = rng.standard_normal((3, 4)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "BLOCK", block * 16)
        ranking = nearest(queries, vectors, k)
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    norms = np.linalg.norm(vectors, axis=1)
    for query, hits in zip(unit, ranking, strict=True):
        usable = np.flatnonzero(norms)
        scores = vectors[usable] @ query / norms[usable]
        assert len(hits) == min(k, len(usable))
        best = np.sort(scores)[::-1][: len(hits)]
        np.testing.assert_allclose([hit.score for hit in hits], best, rtol=0, atol=1.2e-6)  # measured: 3e-7
        assert [hit.score for hit in hits] == sorted([hit.score for hit in hits], reverse=True)
        assert len({hit.row for hit in hits}) == len(hits)


def test_equal_scores_keep_the_order_of_rows_across_blocks(monkeypatch):
    monkeypatch.setattr(search, "BLOCK", 64)
    ranking = nearest(np.ones((1, 4)), np.ones((50, 4), np.float16), 6)
    assert [hit.row for hit in ranking[0]] == [0, 1, 2, 3, 4, 5]


def test_equal_scores_keep_the_order_of_rows_where_many_are_equal():
    kind = np.random.default_rng(0).choice(3, 5000, p=[0.01, 0.3, 0.69])  # near, less near, and far
    vectors = np.array([[1.0, 0], [1, 1], [0, 1]], np.float32)[kind]
    hits = nearest(np.array([[1.0, 0]]), vectors, 100)[0]
    assert [hit.row for hit in hits] == np.argsort(kind, kind="stable")[:100].tolist()


def test_rows_without_a_direction_are_never_found():
    vectors = np.array([[0, 0], [np.nan, 1], [np.inf, 0], [-1, 0]], np.float32)
    assert [hit.row for hit in nearest(np.array([[1.0, 0.0]]), vectors, 10)[0]] == [3]
    assert nearest(np.array([[1.0, 0.0]]), vectors[:0], 10) == [[]]
    with pytest.raises(ValueError, match="k=0, expected at least 1"):
        nearest(np.ones((1, 2)), vectors, 0)


def test_a_file_that_holds_no_vectors_of_this_model_is_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((3, 8), np.float32))
    assert isinstance(open_vectors(path, 8), np.memmap)
    with pytest.raises(ValueError, match=r"8 dimensions, and this model makes 24: give the --model that made them"):
        open_vectors(path, 24)
    np.save(path, np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"holds float32 \(3,\), expected \(rows, 24\) floats"):
        open_vectors(path, 24)
    np.savez(tmp_path / "a.npz", vectors=np.zeros((3, 24), np.float32))
    for data in (b"no vectors", b"", b"\x93NUMPY", (tmp_path / "a.npz").read_bytes()):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"a\.npy is no \.npy file of vectors.*`numroberta embed -o` writes one"):
            open_vectors(path, 24)
    with pytest.raises(OSError, match=r"b\.npy cannot be read: No such file or directory"):
        open_vectors(tmp_path / "b.npy", 24)


@settings(max_examples=200)
@given(position=st.integers(0, 127), byte=st.integers(0, 255))
def test_a_damaged_header_is_a_sentence_or_does_no_harm(tmp_path_factory, position, byte):
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    np.save(path, np.ones((3, 8), np.float32))
    data = bytearray(path.read_bytes())
    data[position] = byte
    path.write_bytes(data)
    try:
        vectors = open_vectors(path, 8)
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert vectors.shape[1] == 8


def test_the_command_finds_the_text_itself_first_and_shows_where_it_is(tmp_path, small_folder, capsys):
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "the sand"}\n{"text": "an inner\\n thing"}\nbroken\n{"text": "the rest and more"}\n')
    run = ["--model", str(small_folder)]
    vectors = str(tmp_path / "v.npy")
    assert cli.main(["embed", "-f", str(texts), "-o", vectors, "--errors", "skip", "-q", *run]) == 0
    capsys.readouterr()
    search_them = ["--vectors", vectors, "--texts", str(texts), *run]
    assert cli.main(["search", "an inner\n thing", "the sand", *search_them, "-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "an inner thing"
    assert lines[1].split() == ["1", "1.000", "texts.jsonl:2", "an", "inner", "thing"]
    assert lines[4].split() == ["1", "1.000", "texts.jsonl:1", "the", "sand"]
    assert cli.main(["search", "x", *search_them, "-k", "9"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4  # the query, and the three rows that are not skipped

    texts.write_text('{"text": "the sand"}\n')
    assert cli.main(["search", "x", *search_them]) == 2
    assert "4 vectors, and --texts has 1 rows: expected the same files" in capsys.readouterr().err


@pytest.fixture
def searched(tmp_path, small, small_folder, capsys):
    """Run `numroberta search` in three rows of two fields; what it prints, as (score, place, text)."""
    rows = [("the sand", "b"), ("an inner thing", "the sand"), ("and more", "c")]
    lines = "".join(f"{json.dumps({'text': text, 'body': body})}\n" for text, body in rows)
    for name in ("in.jsonl", "in.dat"):
        (tmp_path / name).write_text(lines)
    for name, texts in (("v", [row[0] for row in rows]), ("bodies", [row[1] for row in rows])):
        np.save(tmp_path / f"{name}.npy", small.encode(texts))
    np.save(tmp_path / "cls.npy", small.encode([row[0] for row in rows], pooling="cls"))

    def run(*options, vectors="v.npy", texts="in.jsonl", query="the sand", code=0):
        command = ["search", query, "--vectors", tmp_path / vectors, "--texts", tmp_path / texts, *options]
        assert cli.main([*map(str, command), "--model", str(small_folder)]) == code
        ranks = [line.split(maxsplit=3) for line in capsys.readouterr().out.splitlines()[1:]]
        return [(float(score), place, text) for _, score, place, text in ranks]

    return run


def test_a_ranking_names_the_line_of_the_file_where_some_lines_are_no_rows(searched, tmp_path):
    """Editors and grep count blank lines, too."""
    first, *others = (tmp_path / "in.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "gaps.jsonl").write_text("".join([first, "\n", "\n", *others]))
    assert searched(texts="gaps.jsonl", query="an inner thing")[0] == (1.0, "gaps.jsonl:4", "an inner thing")


def test_every_option_of_search_does_what_it_says(searched):
    assert searched()[0] == (1.0, "in.jsonl:1", "the sand")
    assert searched(query="an inner thing")[0] == (1.0, "in.jsonl:2", "an inner thing")
    assert searched("--field", "body", vectors="bodies.npy")[0] == (1.0, "in.jsonl:2", "the sand")
    assert len(searched()) == 3
    assert len(searched("-k", "2")) == 2
    assert searched("--pooling", "cls", vectors="cls.npy")[0][0] == 1.0
    assert searched(vectors="cls.npy")[0][0] < 0.999
    assert searched(texts="in.dat", code=2) == []
    assert searched("--format", "jsonl", texts="in.dat") == [
        (score, place.replace("jsonl", "dat"), text) for score, place, text in searched()
    ]


def test_that_is_all_options():
    (parsers,) = (action for action in command_parser()._actions if action.choices)
    of_every_model = {
        "model",
        "revision",
        "dtype",
        "threads",
        "deterministic",
        "reproducible",
        "low_memory",
    }  # tests/cli
    tried = {"queries", "vectors", "texts", "k", "pooling", "field", "format"}
    assert {action.dest for action in parsers.choices["search"]._actions} - {"help"} == tried | of_every_model
