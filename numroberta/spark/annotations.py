"""On the driver: Spark NLP's columns of annotations, taken apart for the worker and put together again.

The rules are those of its `RoBertaEmbeddings` (annotators/common/TokenizedWithSentence.scala, ml/ai/RoBerta.scala and
annotators/common/WordpieceEmbeddingsSentence.scala of Spark NLP):

- the two columns may stand in any order; an annotation says by its annotatorType what it is, "document", as
  DocumentAssembler and SentenceDetector make them, or "token"
- a token belongs to the sentences whose characters hold all of its own; a sentence has the number that its metadata
  give it, else that of its place, and sentences of one number are one; without tokens they give nothing
- an annotation comes of each token that is not blank: its characters, itself, and the vector of its first piece; with
  caseSensitive off, itself in lower case
- its metadata are sentence, token, pieceId (the first piece's id), isWordStart ("true") and isOOV ("false")
- the column says what is in it: annotatorType, dimension, and ref, the model's name

In two things it differs, as this package's plain columns do: each token is read with a space in front of it, as
transformers reads words, also the first one of a text; and tokens beyond maxSentenceLength are not left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyspark.sql import functions
from pyspark.sql.types import (
    ArrayType,
    DataType,
    FloatType,
    IntegerType,
    MapType,
    StringType,
    StructField,
    StructType,
)

FIELDS = ("annotatorType", "begin", "end", "result", "metadata")
ANNOTATIONS = ArrayType(
    StructType(
        [
            StructField("annotatorType", StringType()),
            StructField("begin", IntegerType()),
            StructField("end", IntegerType()),
            StructField("result", StringType()),
            StructField("metadata", MapType(StringType(), StringType())),
            StructField("embeddings", ArrayType(FloatType())),
        ]
    )
)
# What a worker makes of a token.
EMBEDDED = ArrayType(
    StructType(
        [
            StructField("sentence", IntegerType()),
            StructField("begin", IntegerType()),
            StructField("end", IntegerType()),
            StructField("token", StringType()),
            StructField("pieceId", IntegerType()),
            StructField("embeddings", ArrayType(FloatType())),
        ]
    )
)


def is_annotations(kind: DataType) -> bool:
    """Whether a column of this type is Spark NLP's."""
    inside = kind.elementType if isinstance(kind, ArrayType) else None
    return isinstance(inside, StructType) and {*FIELDS} <= {*inside.names}


def check_annotations(schema: StructType, columns: Sequence[str]) -> None:
    """Raises ValueError unless these are the annotations of sentences and of tokens, as far as the columns say it."""
    for column in columns:
        if not is_annotations(schema[column].dataType):
            raise ValueError(
                f"column {column!r} is {schema[column].dataType.simpleString()}, expected annotations of Spark NLP, as "
                "the other column has them"
            )
    kinds = [schema[column].metadata.get("annotatorType") for column in columns]
    if None not in kinds and sorted(kinds) != ["document", "token"]:
        said = ", ".join(f"{column!r}: {kind}" for column, kind in zip(columns, kinds, strict=True))
        raise ValueError(
            f"the columns hold annotations of the types {said}; expected document and token: "
            "setInputCols('sentence', 'token')"
        )


def taken_apart(columns: Sequence[Any]) -> list[Any]:
    """Begin, end and number of each sentence, and begin, end and text of each token: six columns of arrays."""
    every = functions.concat(*columns)
    sentences = functions.filter(every, lambda one: one["annotatorType"] == "document")
    tokens = functions.filter(every, lambda one: one["annotatorType"] == "token")
    numbers = functions.transform(
        sentences,
        lambda one, place: functions.coalesce(one["metadata"]["sentence"], place.cast("string")).cast("int"),
    )
    return [sentences["begin"], sentences["end"], numbers, tokens["begin"], tokens["end"], tokens["result"]]


def put_together(embedded: Any, output: str, dimension: int, model: str) -> Any:
    """The column of annotations of what a worker gave."""

    def annotation(one: Any) -> Any:
        metadata = {
            "sentence": one["sentence"].cast("string"),
            "token": one["token"],
            "pieceId": one["pieceId"].cast("string"),
            "isWordStart": functions.lit("true"),
            "isOOV": functions.lit("false"),
        }
        pairs = [part for name, value in metadata.items() for part in (functions.lit(name), value)]
        return functions.struct(
            functions.lit("word_embeddings").alias("annotatorType"),
            one["begin"].alias("begin"),
            one["end"].alias("end"),
            one["token"].alias("result"),
            functions.create_map(*pairs).alias("metadata"),
            one["embeddings"].alias("embeddings"),
        )

    column = functions.transform(embedded, annotation).cast(ANNOTATIONS)
    about = {"annotatorType": "word_embeddings", "dimension": dimension, "ref": model}
    return column.alias(output, metadata=about)
