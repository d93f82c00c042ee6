"""Files to files: any number of texts to one file of vectors, and back to the nearest texts.

job            `embed_files`: one run, with those it resumes
rows           texts out of .txt, .jsonl, .csv, .tsv and .parquet
vector_files   vectors into .npy, .jsonl and .parquet
growing        a file that survives a crash
search         the rows nearest to a query
meter          how far a long run is
"""

from typing import TYPE_CHECKING

from numroberta import door

if TYPE_CHECKING:
    from numroberta.corpus.job import Summary as Summary, check_files as check_files, embed_files as embed_files
    from numroberta.corpus.meter import Meter as Meter
    from numroberta.corpus.rows import BadRow as BadRow, Given as Given, Rows as Rows, texts_at as texts_at
    from numroberta.corpus.search import nearest as nearest, open_vectors as open_vectors

__getattr__, __dir__ = door(
    __name__,
    {
        "job": (
            "Summary",
            "check_files",
            "embed_files",
        ),
        "meter": ("Meter",),
        "rows": (
            "BadRow",
            "Given",
            "Rows",
            "texts_at",
        ),
        "search": (
            "nearest",
            "open_vectors",
        ),
    },
)
