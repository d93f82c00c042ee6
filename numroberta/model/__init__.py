"""Text in, vectors or answers out.

text_encoder   `load`, and `TextEncoder`, whose methods call what stands in the files below
vectors        one vector per text, or per token of a text that fits
word_vectors   one vector per token or per word of texts of any length
fill_mask, classify, tag, answer   what each head says
options        the options of `encode`, checked once
texts          one text, several, pairs, words, told apart
blocks         any number of texts, a block at a time
scores         logits to probabilities
sentence       what a sentence-transformers folder says
saving         a model as a folder
bar            how many texts are done
"""

from typing import TYPE_CHECKING

from numroberta import door

if TYPE_CHECKING:
    from numroberta.model import blocks as blocks
    from numroberta.model.answer import Answer as Answer
    from numroberta.model.bar import progress as progress
    from numroberta.model.blocks import BLOCK as BLOCK
    from numroberta.model.classify import LabelScore as LabelScore
    from numroberta.model.fill_mask import Filling as Filling
    from numroberta.model.sentence import read_sentence_settings as read_sentence_settings
    from numroberta.model.tag import Entity as Entity, TaggedToken as TaggedToken
    from numroberta.model.text_encoder import TextEncoder as TextEncoder, load as load
    from numroberta.model.texts import check_text as check_text, texts_of as texts_of
    from numroberta.model.vectors import Embedder as Embedder

__getattr__, __dir__ = door(
    __name__,
    {
        "answer": ("Answer",),
        "blocks": ("BLOCK",),
        "classify": ("LabelScore",),
        "fill_mask": ("Filling",),
        "bar": ("progress",),
        "sentence": ("read_sentence_settings",),
        "tag": ("Entity", "TaggedToken"),
        "text_encoder": ("TextEncoder", "load"),
        "texts": ("check_text", "texts_of"),
        "vectors": ("Embedder",),
    },
)
