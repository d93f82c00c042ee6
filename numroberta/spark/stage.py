"""Spark columns: `RobertaEmbeddings` for pipelines, `embed_udf` and `embed_words_udf` for SQL.

    from numroberta.spark.stage import RobertaEmbeddings
    embeddings = RobertaEmbeddings.pretrained("tiny").setInputCols("text").setOutputCol("embeddings")
    embeddings.transform(frame)             # frame with a column embeddings, array<float>

Spark does the distributing: rows reach the Python workers through Arrow, in pandas UDFs.  What travels to them is the
model's name, never its weights.  A worker loads a model once and maps its file, so the workers of a host share one
copy in memory; it computes on as many threads as `spark.task.cpus` gives a task.  Executors run the interpreter that
PYSPARK_PYTHON names, and numroberta must be installed there.

A model is named as everywhere: "tiny", a folder, which must then be on every node, or a name on the hub.  Or by what
Spark distributed: "model.zip" after `SparkContext.addFile("…/model.zip")`, "model" after `addArchive("….tgz#model")`.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from numroberta.arithmetic import POOLINGS
from numroberta.checkpoint import CheckpointError, open_checkpoint
from numroberta.model import WINDOW, TextEncoder, load
from numroberta.tokenizer import Tokenizer

try:
    import pandas as pd
    from pyspark import SparkContext, SparkFiles, TaskContext
    from pyspark.ml import Transformer
    from pyspark.ml.param import Param, Params, TypeConverters
    from pyspark.ml.param.shared import HasInputCols, HasOutputCol
    from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
    from pyspark.sql import functions
    from pyspark.sql.types import ArrayType, FloatType, IntegerType, StringType, StructField, StructType
except ImportError as error:
    raise ImportError(
        f"numroberta.spark needs pyspark, pandas and pyarrow ({error}): run `pip install 'numroberta[spark]'` with "
        f"{sys.executable}"
    ) from error

LONGEST = 512  # RoBERTa's positions
WORDS_AT_ONCE = 2048  # Spark makes a Python object of every number: 57 MB for so many words of 768 dimensions

VECTOR = ArrayType(FloatType())
WORDS = ArrayType(
    StructType(
        [
            StructField("begin", IntegerType()),
            StructField("end", IntegerType()),
            StructField("result", StringType()),
            StructField("embeddings", VECTOR),
        ]
    )
)

POOLING_OF = {"AVERAGE": "mean", "CLS": "cls", "MAX": "max"}

# Spark NLP's names: the model on the hub, and its language there.
SPARK_NLP = {
    "roberta_base": ("roberta-base", "en"),
    "roberta_large": ("roberta-large", "en"),
    "distilroberta_base": ("distilroberta-base", "en"),
    "xlm_roberta_base": ("xlm-roberta-base", "xx"),
    "xlm_roberta_large": ("xlm-roberta-large", "xx"),
    "camembert_base": ("camembert-base", "fr"),
}


# --- On the driver ----------------------------------------------------------------------------------------------------


def embed_udf(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    pooling: str | None = None,
    normalize_embeddings: bool = False,
    batch_size: int = 32,
    max_length: int = LONGEST,
    case_sensitive: bool = True,
) -> Any:
    """A pandas UDF, string -> array<float>: what `TextEncoder.encode` gives for each text, null for null.

        spark.udf.register("embed", embed_udf("tiny"))
        spark.sql("SELECT id, embed(text) AS embedding FROM texts")

    pooling, normalize_embeddings, batch_size: as in `encode`.  max_length: tokens of a text that are read, <s> and
    </s> included, if the model reads so many.  case_sensitive: False embeds the texts in lower case.
    Raises CheckpointError, here and not in a task, for a model that cannot be opened.
    """
    if pooling is not None and pooling not in POOLINGS:
        raise ValueError(f"pooling={pooling!r}, expected one of {', '.join(map(repr, POOLINGS))}, or None")
    options = {
        "place": tuple(find_place(model, revision)),
        "max_length": _between("max_length", max_length, 1, LONGEST),
        "batch_size": _between("batch_size", batch_size, 1),
        "case_sensitive": case_sensitive,
        "pooling": pooling,
        "normalize": normalize_embeddings,
    }
    return _udf("embed_batches", "Iterator[pd.Series]", VECTOR, options)


def embed_words_udf(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    batch_size: int = 32,
    max_length: int = LONGEST,
    case_sensitive: bool = True,
) -> Any:
    """A pandas UDF, (text string, words array<string>) -> array<struct<begin, end, result, embeddings>>.

    A struct a word, with the vector of its first piece: Spark NLP's fields for it.  `text[begin:end + 1]` is the word
    in Python, `substring(text, begin + 1, end - begin + 1)` in SQL (Spark NLP's `end` is the last character, and it
    counts a character beyond U+FFFF twice); both are null for a word that does not stand in its text in this place,
    in whatever case.  Empty and null words are left out.  A text of more than `max_length` pieces is read in windows
    that overlap, and no word is lost.  Null for a null text or null words.  Other arguments as in `embed_udf`.
    """
    options = {
        "place": tuple(find_place(model, revision)),
        "max_length": _between("max_length", max_length, 1, LONGEST),
        "batch_size": _between("batch_size", batch_size, 1),
        "case_sensitive": case_sensitive,
    }
    return _udf("embed_words_batches", "Iterator[tuple[pd.Series, pd.Series]]", WORDS, options)


class RobertaEmbeddings(Transformer, HasInputCols, HasOutputCol, DefaultParamsReadable, DefaultParamsWritable):
    """A pipeline stage that adds vectors, with the setters of Spark NLP's `RoBertaEmbeddings`.

        RobertaEmbeddings.pretrained("distilroberta_base", "en").setInputCols("sentence").setOutputCol("embeddings")

    One input column, the text: an array<float> a row, see `embed_udf`.  Two, the text and its words: a struct a word,
    see `embed_words_udf`.  It is saved and loaded with its `Pipeline`, by the model's name; where the model comes from
    the hub, with the commit that `pretrained` found there.
    """

    model = Param(
        Params._dummy(),
        "model",
        "tiny, a folder, a name on the hub, or of what addFile or addArchive distributed",
        TypeConverters.toString,
    )
    revision = Param(Params._dummy(), "revision", "commit, branch or tag on the hub", TypeConverters.toString)
    poolingStrategy = Param(
        Params._dummy(),
        "poolingStrategy",
        "AVERAGE, CLS or MAX over the tokens of a text; NONE for a vector a word; undefined: NONE with a column of "
        "words, else what the model's folder says, or AVERAGE",
        TypeConverters.toString,
    )
    batchSize = Param(Params._dummy(), "batchSize", "most texts computed side by side", TypeConverters.toInt)
    maxSentenceLength = Param(
        Params._dummy(), "maxSentenceLength", "most tokens read at once, <s> and </s> included", TypeConverters.toInt
    )
    caseSensitive = Param(Params._dummy(), "caseSensitive", "false: embed in lower case", TypeConverters.toBoolean)

    def __init__(self, model: str = "tiny", revision: str | None = None):
        super().__init__()
        self._setDefault(model="tiny", batchSize=32, maxSentenceLength=LONGEST, caseSensitive=True)
        self._set(model=os.fspath(model))
        if revision is not None:
            self._set(revision=revision)

    @classmethod
    def pretrained(cls, name: str, lang: str | None = None, revision: str | None = None) -> RobertaEmbeddings:
        """The stage for a model: any that `numroberta.load` takes, or Spark NLP's names such as distilroberta_base.

        lang: for Spark NLP's names the language that they have there ("en"); other names do without.
        Raises CheckpointError for a model that cannot be opened here, on the driver.
        """
        hub_name, known = SPARK_NLP.get(name, (name, lang))
        if lang not in (None, known):
            raise ValueError(f"{name} is in Spark NLP's list for the language {known!r}, not {lang!r}")
        place = find_place(hub_name, revision)
        return cls(place.name, place.revision)

    def setInputCols(self, *names: str | Sequence[str]) -> RobertaEmbeddings:
        """The text's column, or the text's and the words': names, or a list of them."""
        columns = [name for part in names for name in ([part] if isinstance(part, str) else part)]
        if len(columns) not in (1, 2):
            raise ValueError(f"{len(columns)} input columns, expected a text's, or a text's and its words'")
        return self._set(inputCols=columns)

    def setOutputCol(self, name: str) -> RobertaEmbeddings:
        """The column that is added."""
        return self._set(outputCol=name)

    def setPoolingStrategy(self, strategy: str) -> RobertaEmbeddings:
        """What makes a text's tokens one vector: "AVERAGE", "CLS" or "MAX"; or "NONE", for a vector a word."""
        if strategy not in (*POOLING_OF, "NONE"):
            raise ValueError(f"poolingStrategy {strategy!r}, expected 'NONE', 'AVERAGE', 'CLS' or 'MAX'")
        return self._set(poolingStrategy=strategy)

    def setBatchSize(self, size: int) -> RobertaEmbeddings:
        """Most texts computed side by side (default: 32); vectors do not depend on it beyond rounding."""
        return self._set(batchSize=_between("batchSize", size, 1))

    def setMaxSentenceLength(self, tokens: int) -> RobertaEmbeddings:
        """Most tokens read at once, <s> and </s> included, 1 to 512 (default: 512; in Spark NLP 128).

        A text's vector tells of its first tokens only; words are never lost.  1 and 2 read one token, as 3 does.
        """
        return self._set(maxSentenceLength=_between("maxSentenceLength", tokens, 1, LONGEST))

    def setCaseSensitive(self, value: bool) -> RobertaEmbeddings:
        """False puts text and words into lower case before they are embedded (default: True)."""
        return self._set(caseSensitive=value)

    def _transform(self, dataset: Any) -> Any:
        columns = self.getInputCols() if self.isDefined("inputCols") else []
        if not columns:
            raise ValueError("no input columns: setInputCols('text'), or setInputCols('text', 'words')")
        _check_text(dataset, columns[0])
        for column in columns[1:]:
            _check_words(dataset, column)
        udf = self._words_udf() if len(columns) == 2 else self._text_udf()
        return dataset.withColumn(self.getOutputCol(), udf(*map(_quoted, columns)))

    def _text_udf(self) -> Any:
        strategy = self._strategy()
        if strategy == "NONE":
            raise ValueError("poolingStrategy 'NONE' gives a vector a word: setInputCols('text', 'words')")
        return embed_udf(pooling=strategy and POOLING_OF[strategy], **self._options())

    def _words_udf(self) -> Any:
        strategy = self._strategy()
        if strategy not in (None, "NONE"):
            raise ValueError(f"poolingStrategy {strategy!r} gives a vector a text: set one input column, or 'NONE'")
        return embed_words_udf(**self._options())

    def _strategy(self) -> str | None:
        return self.getOrDefault("poolingStrategy") if self.isDefined("poolingStrategy") else None

    def _options(self) -> dict[str, Any]:
        return {
            "model": self.getOrDefault("model"),
            "revision": self.getOrDefault("revision") if self.isDefined("revision") else None,
            "batch_size": self.getOrDefault("batchSize"),
            "max_length": self.getOrDefault("maxSentenceLength"),
            "case_sensitive": self.getOrDefault("caseSensitive"),
        }


class Place(NamedTuple):
    """Where every worker finds a model."""

    name: str  # for `load`; or, if distributed, below the directory that Spark distributes to
    revision: str | None  # a commit, for models of the hub
    distributed: bool


def find_place(model: str | os.PathLike[str], revision: str | None = None) -> Place:
    """Open a model here, so that what is wrong with it is said before a task starts, and say where workers find it.

    A model of the hub is pinned to its commit, so that all workers read the same one, from the cache if it is there.
    """
    name = os.fspath(model)
    distributed = _distributed_name(name)
    checkpoint = open_checkpoint(_received(distributed) if distributed else name, revision=revision)
    Tokenizer.load(checkpoint.model_folder)
    if distributed:
        return Place(distributed, None, True)
    if name == "tiny":
        return Place(name, None, False)
    if os.path.isdir(os.path.expanduser(name)):
        return Place(os.path.abspath(os.path.expanduser(name)), None, False)
    return Place(name, checkpoint.folder.name, False)  # the hub's cache calls a folder by its commit


def _distributed_name(name: str) -> str | None:
    """The name below SparkFiles' root, or None if nothing of this name was distributed.

    `SparkFiles.get("model")` gives another path on each machine; the driver's is understood, too.
    """
    if SparkContext._active_spark_context is None or name == "tiny":
        return None
    root = Path(SparkFiles.getRootDirectory())
    if Path(name).is_relative_to(root):
        return os.path.relpath(name, root)
    return name if not os.path.isabs(name) and (root / name).exists() else None


def _check_text(dataset: Any, column: str) -> None:
    found = _type_of(dataset, column)
    if not isinstance(found, StringType):
        raise ValueError(f"column {column!r} is {found.simpleString()}, expected string")


def _check_words(dataset: Any, column: str) -> None:
    found = _type_of(dataset, column)
    if not (isinstance(found, ArrayType) and isinstance(found.elementType, StringType)):
        raise ValueError(
            f"column {column!r} is {found.simpleString()}, expected array<string>; Spark NLP's annotations have it "
            "in their field result: col('token.result')"
        )


def _type_of(dataset: Any, column: str) -> Any:
    if column not in dataset.columns:
        raise ValueError(f"no column {column!r}; this frame has {', '.join(map(repr, dataset.columns))}")
    return dataset.schema[column].dataType


def _quoted(column: str) -> Any:
    return functions.col("`{}`".format(column.replace("`", "``")))


def _between(name: str, value: int, least: int, most: int | None = None) -> int:
    if value < least or (most is not None and value > most):
        raise ValueError(f"{name}={value}, expected {least}{f' to {most}' if most else ' or more'}")
    return value


def _udf(function: str, batches: str, returns: Any, options: dict[str, Any]) -> Any:
    """A pandas UDF that calls a function of this module by name, where it runs."""
    run = _found_there(function, options)
    run.__annotations__ = {"batches": batches, "return": "Iterator[pd.Series]"}
    return functions.pandas_udf(run, returns)


def _found_there(function: str, options: dict[str, Any]) -> Callable[[Iterator[Any]], Iterator[pd.Series]]:
    # Spark pickles `run` by value: it may name nothing of this package but in its own import.
    def run(batches):  # type: ignore[no-untyped-def]
        import sys

        try:
            from numroberta import spark
        except ImportError as error:
            raise ImportError(
                f"this executor's Python, {sys.executable}, cannot import numroberta.spark ({error}): run "
                f"`{sys.executable} -m pip install 'numroberta[spark]'` on every node, or set PYSPARK_PYTHON to an "
                "interpreter that has it"
            ) from None
        return getattr(spark, function)(batches, **options)

    return run


# --- In a worker ------------------------------------------------------------------------------------------------------


def embed_batches(
    batches: Iterator[pd.Series],
    place: tuple[str, str | None, bool],
    max_length: int,
    case_sensitive: bool,
    **encoding: Any,
) -> Iterator[pd.Series]:
    """Series of texts to series of vectors, window by window; null stays null."""
    encoder = _encoder(Place(*place), max_length, _cores())
    for batch in batches:
        for start in range(0, len(batch), WINDOW):
            texts = [None if missing else text for text, missing in _rows(batch[start : start + WINDOW])]
            yield _vectors(encoder, texts, case_sensitive, **encoding)


def _vectors(
    encoder: TextEncoder,
    texts: Sequence[str | None],
    case_sensitive: bool,
    batch_size: int,
    pooling: str | None,
    normalize: bool,
) -> pd.Series:
    present = [text if case_sensitive else text.lower() for text in texts if text is not None]
    vectors = iter(encoder.encode(present, batch_size=batch_size, pooling=pooling, normalize_embeddings=normalize))
    return pd.Series([None if text is None else next(vectors) for text in texts], dtype=object)


def embed_words_batches(
    batches: Iterator[tuple[pd.Series, pd.Series]],
    place: tuple[str, str | None, bool],
    max_length: int,
    case_sensitive: bool,
    batch_size: int,
) -> Iterator[pd.Series]:
    """Series of texts and of their words to series of lists of dicts, some thousand words at a time."""
    encoder = _encoder(Place(*place), max_length, _cores())
    for texts, words in batches:
        some: list[tuple[str, list[str]] | None] = []
        count = 0
        for (text, no_text), (row, no_words) in zip(_rows(texts), _rows(words), strict=True):
            own = [] if no_words else [word for word in row if word is not None and word.strip()]
            some.append(None if no_text or no_words else (text, own))
            count += len(own)
            if count >= WORDS_AT_ONCE or len(some) == WINDOW:
                yield _words(encoder, some, case_sensitive, batch_size)
                some, count = [], 0
        if some:
            yield _words(encoder, some, case_sensitive, batch_size)


def _words(
    encoder: TextEncoder, rows: Sequence[tuple[str, list[str]] | None], case_sensitive: bool, batch_size: int
) -> pd.Series:
    present = [row for row in rows if row is not None]
    # To the model a word has no white space in it; "New York" is two, of which the first has the first piece.
    parts = [[word.split() if case_sensitive else word.lower().split() for word in words] for _, words in present]
    flat = [[part for word in row for part in word] for row in parts]
    found = iter(encoder.encode_words([row for row in flat if row], batch_size=batch_size) if any(flat) else ())
    structs: list[list[dict[str, Any]]] = []
    for (text, words), row in zip(present, parts, strict=True):
        vectors = iter(next(found).vectors if words else ())
        places = locate(text, words)
        structs.append([])
        for word, own, (begin, end) in zip(words, row, places, strict=True):
            vector, *_ = [next(vectors) for _ in own]
            structs[-1].append({"begin": begin, "end": end, "result": word, "embeddings": vector})
    done = iter(structs)
    return pd.Series([None if row is None else next(done) for row in rows], dtype=object)


def locate(text: str, words: Sequence[str]) -> list[tuple[int, int] | tuple[None, None]]:
    """First and last character of each word, one after the other, in whatever case; (None, None) if it is not there.

    >>> locate("Don't stop", ["don", "'t", "stopped", "stop"])
    [(0, 2), (3, 4), (None, None), (6, 9)]
    """
    folded = _fold(text)
    found: list[tuple[int, int] | tuple[None, None]] = []
    position = 0
    for word in map(_fold, words):
        begin = _find_word(folded, word, position)
        if begin < 0:
            found.append((None, None))
        else:
            position = begin + len(word)
            found.append((begin, position - 1))
    return found


def _find_word(text: str, word: str, position: int) -> int:
    """Where the next word begins: here, after white space; or as a whole word; or inside of one; or -1."""
    here = position
    while text[here : here + 1].isspace():
        here += 1
    if text.startswith(word, here):
        return here
    first = begin = text.find(word, position)
    while begin >= 0:
        before, after = text[begin - 1 : begin], text[begin + len(word) : begin + len(word) + 1]
        if not (before.isalnum() and word[0].isalnum()) and not (after.isalnum() and word[-1].isalnum()):
            return begin
        begin = text.find(word, begin + 1)
    return first


def _fold(text: str) -> str:
    """Lower case, character by character: places stay the same."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _rows(series: pd.Series) -> Iterator[tuple[Any, bool]]:
    """Each value, and whether it is null."""
    return zip(series, series.isna(), strict=True)


def _cores() -> int:
    """Threads of a task: `spark.task.cpus`, or what its resource profile says."""
    context = TaskContext.get()
    return context.cpus() if context else 1


@lru_cache(maxsize=4)
def _encoder(place: Place, max_length: int, num_threads: int) -> TextEncoder:
    """The model, loaded once in a worker process."""
    try:
        name: str | Path = _received(place.name) if place.distributed else place.name
        encoder = load(name, num_threads=num_threads, revision=place.revision)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"on {socket.gethostname()}, where an executor runs: {error}") from error
    encoder.max_seq_length = min(max(3, max_length), encoder.max_length)  # 3: <s>, a token, </s>
    return encoder


def _received(name: str) -> Path:
    """The folder that Spark distributed; or that of a zip, unpacked beside it by whichever process is first."""
    path = Path(SparkFiles.get(name))
    if not zipfile.is_zipfile(path):
        return path
    folder = path.with_name(f"{path.name}.unpacked")
    if not folder.is_dir():
        partial = Path(tempfile.mkdtemp(dir=path.parent))
        with zipfile.ZipFile(path) as archive:
            archive.extractall(partial)
        try:
            partial.rename(folder)
        except OSError:  # another worker was first
            shutil.rmtree(partial)
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder
