"""Files to files: any number of texts to one file of vectors, and back to the nearest texts.

job            `embed_files`: one run, with those it resumes
rows           the rows of several inputs, and how far they have been read
row            one row, or why it is bad
formats        the formats of inputs
lines          .txt, .jsonl and standard input
tables         .csv and .tsv
parquet        .parquet, read and written
text_list      texts at hand
vector_files   the formats of outputs: .npy, .jsonl, .jsonl.gz and .parquet
resumable_file a file that survives a crash
search         the rows nearest to a query
meter          how far a long run is
"""

from typing import TYPE_CHECKING

from numroberta import door

if TYPE_CHECKING:
    from numroberta.corpus.formats import FORMATS as FORMATS, Input as Input
    from numroberta.corpus.job import (
        Job as Job,
        Progress as Progress,
        Summary as Summary,
        embed_files as embed_files,
        json_lines as json_lines,
        remarks as remarks,
        run_job as run_job,
    )
    from numroberta.corpus.lines import standard_input as standard_input
    from numroberta.corpus.meter import Meter as Meter
    from numroberta.corpus.row import BadRow as BadRow, Field as Field
    from numroberta.corpus.rows import Rows as Rows
    from numroberta.corpus.search import nearest as nearest, open_vectors as open_vectors, rows_at as rows_at
    from numroberta.corpus.text_list import TextList as TextList

__getattr__, __dir__ = door(
    __name__,
    {
        "formats": ("FORMATS", "Input"),
        "job": ("Job", "Progress", "Summary", "embed_files", "json_lines", "remarks", "run_job"),
        "lines": ("standard_input",),
        "meter": ("Meter",),
        "row": ("BadRow", "Field"),
        "rows": ("Rows",),
        "search": ("nearest", "open_vectors", "rows_at"),
        "text_list": ("TextList",),
    },
)
