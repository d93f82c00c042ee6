"""NLU's one line: `numroberta.predict("en.embed.distilroberta", "Put your text here.")`, a pandas DataFrame.

Its columns are those that John Snow Labs' NLU gives, sorted by name: `token` (or `sentence`, or `document`) and
`word_embedding_distilroberta`.  A word's vector is that of its first piece in its sentence, as Spark NLP's
RoBertaEmbeddings gives it.  Sentences and tokens are cut by a few rules, not by Spark NLP's annotators.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from numroberta.adapters.lazy import encoder_of, needs
from numroberta.adapters.nlu_names import understood
from numroberta.arithmetic import one_of
from numroberta.model import TextEncoder, check_text, texts_of

if TYPE_CHECKING:
    import pandas as pd

LEVELS = ("token", "sentence", "document")
SENTENCE = re.compile(r"\S.*?(?:[.!?…]+[\"'”’»)\]]*(?=\s+[^\sa-zà-ÿ])|$|\n\s*\n)", re.DOTALL)
PARTS = re.compile(r"([^\w\s$.]*)(.*?)([^\w\s]?)([^\w\s]*)")  # of a word: signs before it, itself, a sign, more signs


def predict(
    name: str,
    data: Any,
    output_level: str = "",
    *,
    revision: str | None = None,
    num_threads: int | None = None,
    batch_size: int = 32,
) -> pd.DataFrame:
    """Vectors of words or sentences as a DataFrame with NLU's columns: `nlu.load(name).predict(data, output_level)`.

    Args:
        name: NLU's, such as "en.embed.distilroberta" or "en.embed_sentence.roberta.base"; or what `load` takes.
        data: a text, or several in any iterable, whose index is kept; or a DataFrame, whose column `text`, or else the
            first one, holds the texts, and whose other columns are kept.
        output_level: "token", a row for each token; "sentence"; or "document", a row for each text.  "" means "token"
            for the embeddings of words, "document" for those of sentences.
        revision, num_threads: as in `numroberta.load`.
        batch_size: as in `encode`.

    Returns:
        One row per token, sentence or text, under the index of its text.  A vector is (hidden,); where a row has those
        of several words, (words, hidden).

    Raises:
        CheckpointError: for a name that is not known, and as `load` does.
        TypeError: for what is no text; one that is missing gives no tokens.
        ValueError: for another level, or "token" with the embeddings of sentences.
    """
    with needs("pandas"):
        import pandas as pd
    model, column, of_sentences = understood(name)
    level = output_level or ("document" if of_sentences else "token")
    one_of("output_level", level, LEVELS[of_sentences:])
    if not isinstance(data, pd.DataFrame):
        data = pd.DataFrame({"text": data if isinstance(data, pd.Series) else pd.Series([*texts_of(data, "data")])})
    text = "text" if "text" in data else data.columns[0]
    texts = [
        "" if missing else check_text(one, "a text of data")
        for one, missing in zip(data[text], data[text].isna(), strict=True)
    ]
    rows_of = _sentence_rows if of_sentences else _word_rows
    rows = list(rows_of(encoder_of(model, revision, num_threads), texts, level, batch_size))
    made = data.drop(columns=text).iloc[[row.text for row in rows]]
    made = made.assign(**{level: [row.part for row in rows], column: [row.vectors for row in rows]})
    return made[sorted(made.columns, key=str)]


class _Row(NamedTuple):
    """A row of the result: the number of its text, its part of it, and the vector or the vectors of that."""

    text: int
    part: str
    vectors: Any


def _sentence_rows(encoder: TextEncoder, texts: list[str], level: str, batch_size: int) -> Iterator[_Row]:
    """One vector for each sentence or text."""
    cut = [[text] if level == "document" else sentences(text) for text in texts]
    vectors = iter(encoder.encode(list(chain.from_iterable(cut)), batch_size=batch_size))
    return (_Row(number, part, next(vectors)) for number, own in enumerate(cut) for part in own)


def _word_rows(encoder: TextEncoder, texts: list[str], level: str, batch_size: int) -> Iterator[_Row]:
    """One vector for each word, the sentences being read one by one."""
    cut = [[(sentence, tokens(sentence)) for sentence in sentences(text)] for text in texts]
    words = [own for row in cut for _, own in row]
    encoded = iter(encoder.encode_words(words, batch_size=batch_size) if words else ())
    for number, row in enumerate(cut):
        vectors = [next(encoded).vectors for _ in row]
        if level == "document":
            none = np.zeros((0, encoder.config.hidden_size), encoder.model.dtype)
            yield _Row(number, texts[number], np.concatenate([none, *vectors]))
        for (sentence, own), of_words in zip(row, vectors, strict=True):
            if level == "sentence":
                yield _Row(number, sentence, of_words)
            elif level == "token":
                yield from (_Row(number, word, vector) for word, vector in zip(own, of_words, strict=True))


def sentences(text: str) -> list[str]:
    """The sentences of a text: each ends at . ! ? … before white space and what is no lower-case letter, or a gap.

    >>> sentences("Put your text here. It costs 3.50, e.g. today!  Does it?")
    ['Put your text here.', 'It costs 3.50, e.g. today!', 'Does it?']
    """
    return [found.strip() for found in SENTENCE.findall(text)]


def tokens(sentence: str) -> list[str]:
    """Its words, and the signs around them apart, as Spark NLP's Tokenizer has them.

    >>> tokens("He said (twice): \\"it's $5.\\"")
    ['He', 'said', '(', 'twice', ')', ':', '"', "it's", '$5', '.', '"']
    """
    return [part for word in sentence.split() for part in PARTS.fullmatch(word).groups() if part]  # type: ignore[union-attr]  # it matches all
