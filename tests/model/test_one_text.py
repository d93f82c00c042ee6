"""The way of one text, from `encode` to its vector, stays short enough to be followed with a debugger."""

import sys
from collections import Counter
from pathlib import Path

import pytest

import numroberta

PACKAGE = str(Path(numroberta.__file__).parent)


def calls(function):
    """The named functions of this package that are called, in order, each with how deep it is: 1 for the first."""
    found = []
    depth = 0

    def profile(frame, event, argument):
        nonlocal depth
        code = frame.f_code
        # <listcomp>, <genexpr> and <lambda> are lines of the function around them; which are calls depends on Python.
        if not code.co_filename.startswith(PACKAGE) or code.co_name.startswith("<"):
            return
        if event == "call":
            depth += 1
            found.append((f"{Path(code.co_filename).stem}.{code.co_name}", depth))
        elif event == "return":
            depth -= 1

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return found


@pytest.fixture(scope="module")
def way():
    """Of a short text, on one thread; the second time, when nothing has to be loaded or made first."""
    encoder = numroberta.load("tiny", num_threads=1)
    encoder.encode("Hello there")
    return calls(lambda: encoder.encode("Hello world"))


def test_a_text_reaches_the_encoder_in_few_steps(way):
    """Before `Roberta.run`: checking, tokenizing; after it: pooling.  Inside are the layers, six times the same."""
    names = [name for name, _ in way]
    start = names.index("roberta.run")
    depth = way[start][1]
    assert depth <= 4  # TextEncoder.encode, vectors.encode, Embedder.compute, Roberta.run
    inside = next((i for i in range(start + 1, len(way)) if way[i][1] <= depth), len(way)) - start
    around = Counter(names[:start] + names[start + inside :])
    print(f"{len(way)} calls of {len(set(names))} functions, {max(depth for _, depth in way)} deep")
    print(f"around the encoder {around.total()} calls of {len(around)} functions")
    assert around.total() <= 55  # measured: 51, of which 18 tokenize
    assert max(Counter(names[:start]).values()) <= 4


def test_nothing_is_tokenized_that_nobody_gave(way):
    names = Counter(name for name, _ in way)
    assert names["tokenizer.encode_ids"] == 1
    assert names["roberta._give_pages_back"] == 0  # which is for low_memory
