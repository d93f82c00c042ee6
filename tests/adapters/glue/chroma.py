"""What a program around Chroma needed before `numroberta.adapters.chroma`."""

from chromadb import EmbeddingFunction
from chromadb.utils.embedding_functions import register_embedding_function

import numroberta


@register_embedding_function
class Vectors(EmbeddingFunction):
    def __init__(self, model="tiny"):
        self.model, self.enc = model, numroberta.load(model)

    def __call__(self, input):
        return list(self.enc.encode(input))

    @staticmethod
    def name():
        return "vectors"

    def get_config(self):
        return {"model": self.model}

    @staticmethod
    def build_from_config(config):
        return Vectors(**config)
