"""The tables of the page `coming-from`: each line of ours runs, and gives what theirs gives."""

import ast
from importlib.util import find_spec

import numpy as np
import pytest
from pages import rows, text_of

import numroberta

SECTIONS = {
    part.partition("\n")[0]: rows("|" + part.partition("\n|")[2].partition("\n\n")[0])
    for part in text_of("coming-from").split("\n## ")[1:]
}
NEEDS = {"Spark NLP": ("pyspark", "pandas", "pyarrow")}
TEXTS = ["The train was late.", "She baked bread."]


def code_of(cell):
    """What stands in backquotes; "" where a cell says something else."""
    return cell.strip("`") if cell.startswith("`") else ""


def values(lines, session):
    """What each line gives, one after the other; a line that begins with a dot goes on from the one before."""
    found = []
    for line in lines:
        if line.startswith("."):
            found.append(eval(f"before{line}", {"before": found[-1]}))
        elif isinstance(ast.parse(line).body[0], ast.Expr):
            found.append(eval(line, session))
        else:
            exec(line, session)
            found.append(session.get(line.partition(" = ")[0]))
    return found


@pytest.fixture
def at_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(hub.cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("library", SECTIONS)
def test_our_lines_run(library, at_the_hub):
    missing = [name for name in NEEDS.get(library, ()) if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    lines = [code for _, ours, _ in SECTIONS[library] if (code := code_of(ours))]
    found = values(lines, {"numroberta": numroberta, "texts": TEXTS})
    assert len(found) >= 3


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("library", ["sentence-transformers", "transformers pipelines"])
def test_their_lines_give_the_same(library, at_the_hub, hub, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    pairs = [(code_of(theirs), code_of(ours)) for theirs, ours, _ in SECTIONS[library]]
    if "question-answering" not in transformers.pipelines.SUPPORTED_TASKS:
        pairs = [pair for pair in pairs if "question-answering" not in pair[0]]
    session = {name: getattr(sentence_transformers, name) for name in ("CrossEncoder", "SentenceTransformer")}
    session |= {name: getattr(transformers, name) for name in ("AutoModel", "AutoTokenizer", "pipeline")}
    theirs = [line for line, _ in pairs]
    for name, folder in hub.names.items():  # they have read where the cache is when they were imported
        theirs = [line.replace(f'"{name}"', repr(str(folder))) for line in theirs]
    expected = values(theirs, session | {"torch": torch, "texts": TEXTS})
    for saved in tmp_path.iterdir():
        saved.rename(tmp_path / "theirs")
    found = values([line for _, line in pairs], {"numroberta": numroberta, "texts": TEXTS})
    assert len(found) == len(expected)
    for line, mine, other in zip(theirs, found, expected, strict=True):
        assert_same(mine, other, line)


def assert_same(found, expected, line):
    """Arrays and answers are equal but for rounding; what else a line gives, a model, has no equal."""
    if hasattr(expected, "detach"):
        expected = expected.detach().numpy()
    if isinstance(expected, np.ndarray):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5, err_msg=line)
    elif isinstance(expected, list):
        assert len(found) == len(expected), line
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other, line)
    elif isinstance(expected, dict):
        assert {**found, "score": 0} == {**expected, "score": 0}, line
        assert found["score"] == pytest.approx(float(expected["score"]), rel=0, abs=1e-5), line
    elif isinstance(expected, int | str):
        assert found == expected, line
