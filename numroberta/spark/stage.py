"""On the driver: the pipeline stage `RobertaEmbeddings`, and `embed_udf` and `embed_words_udf` for SQL."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd
from pyspark.ml import Transformer
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasInputCols, HasOutputCol
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import functions
from pyspark.sql.types import ArrayType, FloatType, IntegerType, StringType, StructField, StructType

from numroberta.checkpoint import open_checkpoint
from numroberta.spark.annotations import EMBEDDED, check_annotations, is_annotations, put_together, taken_apart
from numroberta.spark.location import hub_name, locate_model
from numroberta.spark.worker import LONGEST, Options, check_between

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


def embed_udf(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    pooling: str | None = None,
    normalize_embeddings: bool = False,
    batch_size: int = 32,
    max_length: int = LONGEST,
    case_sensitive: bool = True,
    reproducible: bool = False,
) -> Any:
    """A pandas UDF, string -> array<float>: what `TextEncoder.encode` gives for each text, null for null.

        spark.udf.register("embed", embed_udf("tiny"))
        spark.sql("SELECT id, embed(text) AS embedding FROM texts")

    Args:
        model, revision: as in `numroberta.load`, or what Spark distributed, see `numroberta.spark.location`.
        pooling, normalize_embeddings, batch_size: as in `encode`.
        max_length: how many tokens of a text are read, <s> and </s> included, if the model reads so many.
        case_sensitive: False embeds the texts in lower case.
        reproducible: as in `numroberta.load`: the same bits on every executor.
    Raises:
        CheckpointError: the model cannot be opened; here, and not in a task.
        ValueError: a value that cannot be.
    """
    return _text_udf(
        Options(
            locate_model(model, revision),
            pooling=pooling,
            normalize_embeddings=normalize_embeddings,
            batch_size=batch_size,
            max_length=max_length,
            case_sensitive=case_sensitive,
            reproducible=reproducible,
        )
    )


def embed_words_udf(
    model: str | os.PathLike[str],
    *,
    revision: str | None = None,
    batch_size: int = 32,
    max_length: int = LONGEST,
    case_sensitive: bool = True,
    reproducible: bool = False,
) -> Any:
    """A pandas UDF, (text string, words array<string>) -> array<struct<begin, end, result, embeddings>>.

    One struct per word, with the vector of the word's first piece, in Spark NLP's fields.  `text[begin:end + 1]` is the
    word in Python, `substring(text, begin + 1, end - begin + 1)` in SQL (Spark NLP's `end` is the last character, and
    it counts a character beyond U+FFFF twice); both are null for a word that does not stand in its text in this place,
    in whatever case.  Empty and null words are left out.  A text of more than `max_length` pieces is read in windows
    that overlap, and no word is lost.  Null for a null text or null words.

    Args and Raises: as in `embed_udf`.
    """
    return _words_udf(
        Options(
            locate_model(model, revision),
            batch_size=batch_size,
            max_length=max_length,
            case_sensitive=case_sensitive,
            reproducible=reproducible,
        )
    )


class RobertaEmbeddings(Transformer, HasInputCols, HasOutputCol, DefaultParamsReadable, DefaultParamsWritable):
    """A pipeline stage that adds vectors, with the setters of Spark NLP's `RoBertaEmbeddings`.

        RobertaEmbeddings.pretrained("distilroberta_base", "en").setInputCols("sentence").setOutputCol("embeddings")

    One input column, the text, gives one array<float> per row, see `embed_udf`.  Two, the text and its words, give one
    struct per word, see `embed_words_udf`.  Two of Spark NLP's annotations, of sentences and tokens, give its
    word_embeddings, which its own stages can go on with, see `numroberta.spark.annotations`.  The stage is saved and
    loaded with its `Pipeline`, by the model's name; if the model comes from the hub, also by the commit that
    `pretrained` found there.
    """

    __module__ = "numroberta.spark"  # the name under which pipelines are saved, and found again

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
        "AVERAGE, CLS or MAX over the tokens of a text; NONE for one vector per word; undefined: NONE with a column of "
        "words, else what the model's folder says, or AVERAGE",
        TypeConverters.toString,
    )
    batchSize = Param(Params._dummy(), "batchSize", "most texts computed side by side", TypeConverters.toInt)
    maxSentenceLength = Param(
        Params._dummy(), "maxSentenceLength", "most tokens read at once, <s> and </s> included", TypeConverters.toInt
    )
    caseSensitive = Param(Params._dummy(), "caseSensitive", "false: embed in lower case", TypeConverters.toBoolean)
    reproducible = Param(Params._dummy(), "reproducible", "the same bits on every executor", TypeConverters.toBoolean)

    def __init__(self, model: str = "tiny", revision: str | None = None):
        super().__init__()
        self._setDefault(model="tiny", batchSize=32, maxSentenceLength=LONGEST, caseSensitive=True, reproducible=False)
        self._set(model=os.fspath(model))
        if revision is not None:
            self._set(revision=revision)

    @classmethod
    def pretrained(cls, name: str, lang: str | None = None, revision: str | None = None) -> RobertaEmbeddings:
        """The stage for a model: any that `numroberta.load` takes, or Spark NLP's names such as distilroberta_base.

        lang: for Spark NLP's names the language that they have there ("en"); other names do without.
        Raises CheckpointError for a model that cannot be opened here, on the driver.
        """
        location = locate_model(hub_name(name, lang), revision)
        return cls(location.name, location.revision)

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
        """What makes a text's tokens one vector: "AVERAGE", "CLS" or "MAX"; or "NONE", for one vector per word."""
        if strategy not in (*POOLING_OF, "NONE"):
            raise ValueError(f"poolingStrategy {strategy!r}, expected 'NONE', 'AVERAGE', 'CLS' or 'MAX'")
        return self._set(poolingStrategy=strategy)

    def setBatchSize(self, size: int) -> RobertaEmbeddings:
        """Most texts computed side by side (default: 32); vectors do not depend on it beyond rounding."""
        return self._set(batchSize=check_between("batchSize", size, 1))

    def setMaxSentenceLength(self, tokens: int) -> RobertaEmbeddings:
        """Most tokens read at once, <s> and </s> included, 1 to 512 (default: 512; in Spark NLP 128).

        The rest of a longer text is not in its vector; words are never lost.  1 and 2 read one token, as 3 does.
        """
        return self._set(maxSentenceLength=check_between("maxSentenceLength", tokens, 1, LONGEST))

    def setCaseSensitive(self, value: bool) -> RobertaEmbeddings:
        """False puts text and words into lower case before they are embedded (default: True)."""
        return self._set(caseSensitive=value)

    def setReproducible(self, value: bool) -> RobertaEmbeddings:
        """True gives the same bits whatever machine an executor runs on, see `numroberta.load` (default: False)."""
        return self._set(reproducible=value)

    def _transform(self, dataset: Any) -> Any:
        columns = self.getInputCols() if self.isDefined("inputCols") else []
        if not columns:
            raise ValueError("no input columns: setInputCols('text'), or setInputCols('text', 'words')")
        kinds = [_type_of(dataset, column) for column in columns]
        if len(columns) == 2 and all(map(is_annotations, kinds)):
            return self._annotate(dataset, columns)
        _check_text(dataset, columns[0])
        for column in columns[1:]:
            _check_words(dataset, column)
        return dataset.withColumn(self.getOutputCol(), self._udf(len(columns))(*map(_quoted, columns)))

    def _annotate(self, dataset: Any, columns: Sequence[str]) -> Any:
        """The dataset with a column of annotations, of the annotations of sentences and of their tokens."""
        check_annotations(dataset.schema, columns)
        options = self._options(len(columns))
        model = options.model
        dimension = open_checkpoint(model.on_this_host(), revision=model.revision).config.hidden_size
        embedded = _annotations_udf(options)(*taken_apart(list(map(_quoted, columns))))
        output = self.getOutputCol()
        return dataset.withColumn(output, put_together(embedded, output, dimension, model.name))

    def _udf(self, columns: int) -> Any:
        """The function of one column, the text, or of two, the text and its words, with this stage's options."""
        options = self._options(columns)
        return _text_udf(options) if columns == 1 else _words_udf(options)

    def _options(self, columns: int) -> Options:
        """This stage's options, checked, for so many columns."""
        strategy = self._defined("poolingStrategy")
        if columns == 1 and strategy == "NONE":
            raise ValueError("poolingStrategy 'NONE' gives one vector per word: setInputCols('text', 'words')")
        if columns == 2 and strategy not in (None, "NONE"):
            raise ValueError(f"poolingStrategy {strategy!r} gives one vector per text: set one input column, or 'NONE'")
        return Options(
            locate_model(self.getOrDefault("model"), self._defined("revision")),
            pooling=POOLING_OF[strategy] if columns == 1 and strategy else None,
            batch_size=self.getOrDefault("batchSize"),
            max_length=self.getOrDefault("maxSentenceLength"),
            case_sensitive=self.getOrDefault("caseSensitive"),
            reproducible=self.getOrDefault("reproducible"),
        )

    def _defined(self, name: str) -> Any:
        """A parameter's value, set or by default; None where it has neither."""
        return self.getOrDefault(name) if self.isDefined(name) else None


def _check_text(dataset: Any, column: str) -> None:
    kind = _type_of(dataset, column)
    if not isinstance(kind, StringType):
        raise ValueError(f"column {column!r} is {kind.simpleString()}, expected string")


def _check_words(dataset: Any, column: str) -> None:
    kind = _type_of(dataset, column)
    if not (isinstance(kind, ArrayType) and isinstance(kind.elementType, StringType)):
        raise ValueError(
            f"column {column!r} is {kind.simpleString()}, expected array<string>; Spark NLP's annotations have it "
            "in their field result, col('token.result'), or go with those of the sentences: "
            "setInputCols('sentence', 'token')"
        )


def _type_of(dataset: Any, column: str) -> Any:
    if column not in dataset.columns:
        raise ValueError(f"no column {column!r}; this frame has {', '.join(map(repr, dataset.columns))}")
    return dataset.schema[column].dataType


def _quoted(column: str) -> Any:
    return functions.col("`{}`".format(column.replace("`", "``")))


def _text_udf(options: Options) -> Any:
    return _pandas_udf("embed_batches", "Iterator[pd.Series]", VECTOR, options)


def _words_udf(options: Options) -> Any:
    return _pandas_udf("embed_words_batches", "Iterator[tuple[pd.Series, pd.Series]]", WORDS, options)


def _annotations_udf(options: Options) -> Any:
    six = ", ".join(["pd.Series"] * 6)
    return _pandas_udf("embed_annotations_batches", f"Iterator[tuple[{six}]]", EMBEDDED, options)


def _pandas_udf(function: str, batches: str, returns: Any, options: Options) -> Any:
    """A pandas UDF that calls a function of `worker` by name, where it runs."""
    run = _imported_there(function, pickle.dumps(options))
    run.__annotations__ = {"batches": batches, "return": "Iterator[pd.Series]"}
    return functions.pandas_udf(run, returns)


def _imported_there(function: str, options: bytes) -> Callable[[Iterator[Any]], Iterator[pd.Series]]:
    # Spark pickles `run` by value: it may name nothing of this package but in its own import.
    def run(batches):  # type: ignore[no-untyped-def]
        import pickle
        import sys

        try:
            from numroberta.spark import worker
        except ImportError as error:
            raise ImportError(
                f"this executor's Python, {sys.executable}, cannot import numroberta.spark ({error}): run "
                f"`{sys.executable} -m pip install 'numroberta[spark]'` on every node, or set PYSPARK_PYTHON to an "
                "interpreter that has it"
            ) from None
        return getattr(worker, function)(batches, pickle.loads(options))

    return run
