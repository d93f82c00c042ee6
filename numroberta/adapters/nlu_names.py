"""John Snow Labs' names of RoBERTa models, and the models on the hub that they were made of.

Names and origins are those of NLU's list (its `spellbook.py`) and of the model pages of Spark NLP; a model whose page
names no origin is not here.
"""

from __future__ import annotations

import re

from numroberta.checkpoint import CheckpointError, did_you_mean

# Spark NLP's names: the model on the hub, and its language there.
SPARK_NLP = {
    "roberta_base": ("roberta-base", "en"),
    "roberta_large": ("roberta-large", "en"),
    "distilroberta_base": ("distilroberta-base", "en"),
    "xlm_roberta_base": ("xlm-roberta-base", "xx"),
    "xlm_roberta_large": ("xlm-roberta-large", "xx"),
    "camembert_base": ("camembert-base", "fr"),
}

# NLU's: what `nlu.load` takes.
NLU = {
    "en.embed.distilroberta": "distilroberta-base",
    "en.embed.distilroberta_base": "distilroberta-base",
    "en.embed.distilroberta_base_climate_d": "climatebert/distilroberta-base-climate-d",
    "en.embed.distilroberta_base_climate_d_s": "climatebert/distilroberta-base-climate-d-s",
    "en.embed.distilroberta_base_climate_f": "climatebert/distilroberta-base-climate-f",
    "en.embed.legal_roberta_base": "saibo/legal-roberta-base",
    "en.embed.muppet_roberta_base": "facebook/muppet-roberta-base",
    "en.embed.muppet_roberta_large": "facebook/muppet-roberta-large",
    "en.embed.roberta": "roberta-base",
    "en.embed.roberta.base": "roberta-base",
    "en.embed.roberta.large": "roberta-large",
    "en.embed.roberta_pubmed": "raynardj/roberta-pubmed",
    "en.embed.SecRoBERTa": "jackaduma/SecRoBERTa",
    "en.embed_sentence.distil_roberta.distilled_base": "distilroberta-base",
    "en.embed_sentence.roberta.base": "roberta-base",
    "en.embed_sentence.roberta.large": "roberta-large",
    "es.embed.roberta_base_bne": "PlanTL-GOB-ES/roberta-base-bne",
    "fr.embed.camembert_base": "camembert-base",
    "xx.embed.xlm": "xlm-roberta-base",
    "xx.embed.xlm.base": "xlm-roberta-base",
    "xx.embed.xlm_roberta_large": "xlm-roberta-large",
    "xx.embed_sentence.xlm_roberta.base": "xlm-roberta-base",
}
REFERENCE = re.compile(r"(?:(?P<language>[a-z]{2})\.)?(?P<kind>embed|embed_sentence)\.(?P<rest>.+)")


def understood(name: str) -> tuple[str, str, bool]:
    """(what `load` takes, what NLU calls the vectors' column, whether they are sentences') of a name of theirs or ours.

    >>> understood("en.embed.distilroberta")
    ('distilroberta-base', 'word_embedding_distilroberta', False)
    >>> understood("embed_sentence.roberta.base"), understood("tiny")
    (('roberta-base', 'sentence_embedding_roberta', True), ('tiny', 'word_embedding_tiny', False))

    Raises CheckpointError for a name in NLU's form that is not in the table.
    """
    reference = REFERENCE.fullmatch(name)
    if reference is None:
        last = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
        return SPARK_NLP.get(name, (name,))[0], "word_embedding_" + re.sub(r"\W", "_", last), False
    sentences = reference["kind"] == "embed_sentence"
    column = ("sentence" if sentences else "word") + "_embedding_" + reference["rest"].split(".")[0]
    whole = f"{reference['language'] or 'en'}.{reference['kind']}.{reference['rest']}"
    if whole not in NLU:
        raise CheckpointError(
            f"{name!r} is not among the names of NLU that are known here, {len(NLU)} of RoBERTa models: give the "
            f"model's name on the hub{did_you_mean(whole, NLU)}"
        )
    return NLU[whole], column, sentences
