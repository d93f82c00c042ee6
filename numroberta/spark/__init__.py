"""Spark columns: `RobertaEmbeddings` for pipelines, `embed_udf` and `embed_words_udf` for SQL.

    from numroberta.spark import RobertaEmbeddings
    embeddings = RobertaEmbeddings.pretrained("tiny").setInputCols("text").setOutputCol("embeddings")
    embeddings.transform(frame)             # frame with a column embeddings, array<float>

Spark does the distributing: rows reach the Python workers through Arrow, in pandas UDFs.  What travels to them is the
model's name, never its weights.  A worker loads a model once and maps its file, so the workers of a host share one
copy in memory; it computes on as many threads as `spark.task.cpus` gives a task.  Executors run the interpreter that
PYSPARK_PYTHON names, and numroberta must be installed there.

stage      on the driver: the pipeline stage and the functions for SQL
annotations  Spark NLP's columns, taken apart and put together
worker     on the executors: columns of texts to columns of vectors
location   where every worker finds the model that the driver named
"""

import sys
from typing import TYPE_CHECKING

from numroberta import door

try:
    import pandas  # noqa: F401
    import pyarrow  # noqa: F401
    import pyspark  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"numroberta.spark needs pyspark, pandas and pyarrow ({error}): run `pip install 'numroberta[spark]'` with "
        f"{sys.executable}"
    ) from error

if TYPE_CHECKING:
    from numroberta.spark.stage import (
        RobertaEmbeddings as RobertaEmbeddings,
        embed_udf as embed_udf,
        embed_words_udf as embed_words_udf,
    )

__getattr__, __dir__ = door(
    __name__,
    {
        "stage": (
            "RobertaEmbeddings",
            "embed_udf",
            "embed_words_udf",
        ),
    },
)
