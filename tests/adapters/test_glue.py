"""How much glue an adapter saves: the shortest class around `encode` that runs in each library, and its lines."""

import ast
import asyncio
import re
import runpy

import numpy as np
import pytest
from conftest import ROOT

FOLDER = ROOT / "tests" / "adapters" / "glue"
TEXTS = ["A man is playing a guitar.", "The stock market fell."]
LIBRARIES = {
    "scikit-learn": "sklearn",
    "LangChain": "langchain",
    "LlamaIndex": "llama_index",
    "Haystack": "haystack",
    "Chroma": "chroma",
    "NLU": "nlu",
}


def glue(name):
    """What a program defines, if its library is installed."""
    try:
        return runpy.run_path(str(FOLDER / f"{name}.py"))
    except ImportError as error:
        pytest.skip(f"needs {error.name}")


def lines_of(name):
    """The lines of a program that define something: neither its docstring and imports, nor empty ones."""
    source = (FOLDER / f"{name}.py").read_text("utf-8")
    defined = [node for node in ast.parse(source).body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    first = min(min([node.lineno, *(d.lineno for d in node.decorator_list)]) for node in defined)
    return sum(bool(line.strip()) for line in source.splitlines()[first - 1 :])


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_table_of_guests_counts_the_lines_of_a_program_that_is_here(library):
    pages = [ROOT / "README.md", *sorted((ROOT / "numroberta" / "guide").glob("*.md"))]
    rows = [
        row for page in pages for row in re.findall(rf"^\| {library}\b.*\|$", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert [re.search(r"\| (\d+) \| [01] \|", row)[1] for row in rows] == [str(lines_of(LIBRARIES[library]))]


def test_scikit_learns_glue_gives_the_vectors(tiny):
    np.testing.assert_array_equal(glue("sklearn")["Vectors"]().fit_transform(TEXTS), tiny.encode(TEXTS))


@pytest.mark.parametrize(
    ("name", "method"), [("langchain", "embed_documents"), ("llama_index", "get_text_embedding_batch")]
)
def test_the_glue_of_interfaces_gives_the_vectors(name, method, tiny):
    vectors = glue(name)["Vectors"](tiny)
    expected = np.stack([tiny.encode(text) for text in TEXTS]) if name == "llama_index" else tiny.encode(TEXTS)
    np.testing.assert_array_equal(np.float32(getattr(vectors, method)(TEXTS)), expected)


def test_llama_indexs_glue_answers_a_loop(tiny):
    vector = asyncio.run(glue("llama_index")["Vectors"](tiny).aget_query_embedding(TEXTS[0]))
    np.testing.assert_array_equal(np.float32(vector), tiny.encode(TEXTS[0]))


def test_haystacks_glue_gives_the_vectors(tiny):
    defined = glue("haystack")
    documents = [defined["Document"](content=text) for text in TEXTS]
    found = [document.embedding for document in defined["Vectors"]().run(documents)["documents"]]
    np.testing.assert_array_equal(np.float32(found), tiny.encode(TEXTS))
    np.testing.assert_array_equal(
        np.float32(defined["TextVectors"]().run(TEXTS[0])["embedding"]), tiny.encode(TEXTS[0])
    )


def test_chromas_glue_gives_the_vectors(tiny):
    np.testing.assert_array_equal(np.stack(glue("chroma")["Vectors"]()(TEXTS)), tiny.encode(TEXTS))


def test_nlus_glue_gives_a_row_for_each_token():
    frame = glue("nlu")["predict"]("tiny", "Put your text here. Another one.")
    assert " ".join(frame.token) == "Put your text here . Another one ."
