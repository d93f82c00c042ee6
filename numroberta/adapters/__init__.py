"""Other libraries' interfaces, each in a file that is imported only when asked for.

sklearn        `TextVectors`, a transformer for pipelines
langchain      `NumrobertaEmbeddings`, and `NumrobertaReranker`, a document compressor
llama_index    `NumrobertaEmbedding`, and `NumrobertaRerank`, a node postprocessor
haystack       `NumrobertaTextEmbedder`, `NumrobertaDocumentEmbedder`, `NumrobertaRanker`
chroma         `NumrobertaEmbeddingFunction`, which a reopened collection finds
nlu            `predict`, the one line of John Snow Labs' NLU
nlu_names      what that library's names mean
lazy           a model that is loaded when it is first needed, and what to install

Their objects hold a model's name and options, and nothing else: they are cheap to make, copy, pickle and write down.
Objects of one name and options share one model in a process.
"""

from typing import TYPE_CHECKING

from numroberta import door

if TYPE_CHECKING:
    from numroberta.adapters.nlu import predict as predict
    from numroberta.adapters.nlu_names import SPARK_NLP as SPARK_NLP

__getattr__, __dir__ = door(__name__, {"nlu": ("predict",), "nlu_names": ("SPARK_NLP",)})
