"""What a program around LlamaIndex needed before `numroberta.adapters.llama_index`."""

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr


class Vectors(BaseEmbedding):
    _enc = PrivateAttr()

    def __init__(self, enc, **options):
        super().__init__(**options)
        self._enc = enc

    def _get_query_embedding(self, query):
        return self._enc.encode(query).tolist()

    def _get_text_embedding(self, text):
        return self._enc.encode(text).tolist()

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)
