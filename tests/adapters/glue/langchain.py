"""What a program around LangChain needed before `numroberta.adapters.langchain`."""

from langchain_core.embeddings import Embeddings


class Vectors(Embeddings):
    def __init__(self, enc):
        self.enc = enc

    def embed_documents(self, texts):
        return self.enc.encode(texts).tolist()

    def embed_query(self, text):
        return self.enc.encode(text).tolist()
