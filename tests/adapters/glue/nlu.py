"""What gave the table of NLU's one line before `numroberta.predict`."""

import re

import pandas as pd

import numroberta


def predict(model, text):
    enc, rows = numroberta.load(model), []
    for sentence in re.findall(r"\S.*?(?:[.!?]+(?=\s)|$)", text):
        words = re.findall(r"\w+|[^\w\s]", sentence)
        rows += zip(words, enc.encode_words(words).vectors, strict=True)
    return pd.DataFrame(rows, columns=["token", "word_embedding"])
