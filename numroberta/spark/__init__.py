"""Spark columns: `RobertaEmbeddings` for pipelines, `embed_udf` and `embed_words_udf` for SQL."""

from typing import TYPE_CHECKING

from numroberta import door

if TYPE_CHECKING:
    from numroberta.spark.stage import (
        RobertaEmbeddings as RobertaEmbeddings,
        embed_batches as embed_batches,
        embed_udf as embed_udf,
        embed_words_batches as embed_words_batches,
        embed_words_udf as embed_words_udf,
    )

__getattr__, __dir__ = door(
    __name__,
    {
        "stage": (
            "RobertaEmbeddings",
            "embed_batches",
            "embed_udf",
            "embed_words_batches",
            "embed_words_udf",
        ),
    },
)
