"""Spark NLP's columns: `setInputCols("sentence", "token")` behind its annotators gives what RoBertaEmbeddings gives.

Its Java part is not needed: the columns are made here with the schema of its package, as its annotators fill them, and
each rule is one of its published source, which `numroberta/spark/annotations.py` names.
"""

import os
import re
import shutil
from importlib import import_module

import numpy as np
import pytest
from spark_figures import session

import numroberta

for package in ("pyspark", "pandas", "pyarrow"):
    pytest.importorskip(package, reason=f"needs {package}: pip install '.[spark]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("java") or os.environ.get("JAVA_HOME")), reason="needs Java 17, which PySpark runs on"
    ),
]
nr = import_module("numroberta.spark")
annotations = import_module("numroberta.spark.annotations")

TEXT = "Put your text here.  The naïve café isn't New York!"
SENTENCES = ["Put your text here.", "The naïve café isn't New York!"]
TOKENS = [["Put", "your", "text", "here", "."], ["The", "naïve", "café", "isn't", "New York", "!"]]
KEYS = ["isOOV", "isWordStart", "pieceId", "sentence", "token"]


@pytest.fixture(scope="module")
def spark():
    with session("local[1]", {"spark.sql.shuffle.partitions": "1", "spark.task.cpus": "1"}) as spark:
        yield spark


@pytest.fixture(scope="module")
def schema():
    """The type of a column of Spark NLP, from its own package."""
    sparknlp = pytest.importorskip("sparknlp.annotation", reason="needs spark-nlp: pip install --no-deps spark-nlp")
    return import_module("pyspark.sql.types").ArrayType(sparknlp.Annotation.dataType())


def found(text, parts, kind, **metadata):
    """Annotations of parts of a text, one after the other."""
    made, position = [], 0
    for number, part in enumerate(parts):
        begin = text.index(part, position)
        position = begin + len(part)
        made.append((kind, begin, position - 1, part, {"sentence": str(number), **metadata}, []))
    return made


def tokens(rows=TOKENS, text=TEXT):
    flat = found(text, [token for row in rows for token in row], "token")
    numbers = [str(number) for number, row in enumerate(rows) for _ in row]
    return [(*one[:4], {"sentence": number}, []) for one, number in zip(flat, numbers, strict=True)]


@pytest.fixture
def frame(spark, schema):
    """A frame of columns sentence and token, which say what they are as Spark NLP's do."""

    def make(*rows, kinds=("document", "token")):
        types = import_module("pyspark.sql.types")
        fields = [
            types.StructField(name, schema, True, {"annotatorType": kind})
            for name, kind in zip(("sentence", "token"), kinds, strict=True)
        ]
        return spark.createDataFrame(list(rows), types.StructType(fields))

    return make


def embed(frame, columns=("sentence", "token"), model="tiny", **setters):
    stage = nr.RobertaEmbeddings.pretrained(model).setInputCols(*columns).setOutputCol("embeddings")
    for name, value in setters.items():
        getattr(stage, f"set{name}")(value)
    return stage.transform(frame)


def test_the_example_word_for_word(frame, schema, tiny):
    made = embed(frame((found(TEXT, SENTENCES, "document"), tokens())))
    field = made.schema["embeddings"]
    assert field.dataType.simpleString() == schema.simpleString()
    assert field.metadata == {"annotatorType": "word_embeddings", "dimension": 192, "ref": "tiny"}
    ((row,),) = made.select("embeddings").collect()
    assert [(one.annotatorType, one.begin, one.end, one.result) for one in row] == [
        ("word_embeddings", begin, end, token) for _, begin, end, token, *_ in tokens()
    ]
    assert all(TEXT[one.begin : one.end + 1] == one.result == one.metadata["token"] for one in row)
    assert [one.metadata["sentence"] for one in row] == ["0"] * 5 + ["1"] * 6
    assert {(one.metadata["isWordStart"], one.metadata["isOOV"]) for one in row} == {("true", "false")}
    assert all(sorted(one.metadata) == KEYS for one in row)
    words = [[part for token in sentence for part in token.split()] for sentence in TOKENS]
    vectors = [given.vectors for given in tiny.encode_words(words)]
    wanted = np.concatenate([vectors[0], np.delete(vectors[1], 5, 0)])  # of "New York" the first piece's, of New
    np.testing.assert_allclose([one.embeddings for one in row], wanted, rtol=0, atol=1e-5)
    space = tiny.tokenizer.token_to_id("Ġ")  # where it is a piece of its own it is not the token's
    spaced = [tiny.tokenizer(f" {token.split()[0]}").ids[1:] for sentence in TOKENS for token in sentence]
    first = [ids[1] if ids[0] == space else ids[0] for ids in spaced]
    assert [int(one.metadata["pieceId"]) for one in row] == first


def test_the_columns_may_stand_in_any_order_and_the_text_may_be_one_sentence(frame):
    rows = frame((found(TEXT, SENTENCES, "document"), tokens()))
    (there,), (back,) = embed(rows).select("embeddings").collect(), embed(rows, ("token", "sentence")).collect()
    assert there.embeddings == back.embeddings
    document = found(TEXT, [TEXT], "document")
    ((whole,),) = embed(frame((document, tokens()))).select("embeddings").collect()
    assert [one.metadata["sentence"] for one in whole] == ["0"] * 11
    assert whole[7].embeddings != there.embeddings[7].embeddings  # another context


def test_a_sentence_has_the_number_of_its_metadata_else_of_its_place(frame):
    given = found(TEXT, SENTENCES, "document")
    numbered = [(*given[0][:4], {"sentence": "7"}, []), (*given[1][:4], {"sentence": "3"}, [])]
    ((row,),) = embed(frame((numbered, tokens()))).select("embeddings").collect()
    assert [one.metadata["sentence"] for one in row] == ["3"] * 6 + ["7"] * 5
    assert row[0].result == "The"
    plain = [(*one[:4], {}, []) for one in given]
    ((row,),) = embed(frame((plain, tokens()))).select("embeddings").collect()
    assert [one.metadata["sentence"] for one in row] == ["0"] * 5 + ["1"] * 6


def test_what_gives_nothing(frame):
    """Blank tokens, tokens outside of sentences, sentences without tokens, rows without sentences; null for null."""
    sentences = found(TEXT, SENTENCES, "document")
    blank = [("token", 19, 19, " ", {"sentence": "0"}, []), ("token", 19, 18, "", {"sentence": "0"}, [])]
    rows = [
        (sentences[:1], tokens() + blank),
        (sentences, []),
        ([], tokens()),
        (None, tokens()),
        (sentences, None),
    ]
    made = [row.embeddings for row in embed(frame(*rows)).select("embeddings").collect()]
    assert [None if row is None else len(row) for row in made] == [5, 0, 0, None, None]


def test_case_and_length_are_the_stages(frame, tiny):
    rows = frame((found(TEXT, SENTENCES, "document"), tokens()))
    ((row,),) = embed(rows, CaseSensitive=False).select("embeddings").collect()
    assert [one.result for one in row][5:8] == ["the", "naïve", "café"]
    lower = tiny.encode_words([word.lower() for word in TOKENS[0]]).vectors
    np.testing.assert_allclose([one.embeddings for one in row[:5]], lower, rtol=0, atol=1e-5)
    ((row,),) = embed(rows, MaxSentenceLength=5).select("embeddings").collect()
    assert len(row) == 11  # no token is lost, which is read in windows
    assert not np.allclose([one.embeddings for one in row[:5]], tiny.encode_words(TOKENS[0]).vectors, atol=1e-3)


def test_wrong_columns_are_refused_before_any_task(frame, spark):
    rows = (found(TEXT, SENTENCES, "document"), tokens())
    with pytest.raises(ValueError, match=r"types 'sentence': document, 'token': document; expected document and token"):
        embed(frame(rows, kinds=("document", "document")))
    mixed = frame(rows).selectExpr("sentence", "token", "'a text' AS text")
    with pytest.raises(
        ValueError, match=re.escape("go with those of the sentences: setInputCols('sentence', 'token')")
    ):
        embed(mixed, ("text", "token"))
    with pytest.raises(ValueError, match=r"column 'sentence' is array<struct<.*expected string"):
        embed(mixed, ("sentence",))
    with pytest.raises(ValueError, match="gives one vector per text"):
        embed(frame(rows), PoolingStrategy="AVERAGE")


def test_a_pipeline_is_saved_with_it_and_plain_columns_stay_as_they_are(frame, spark, tmp_path, tiny):
    ml = import_module("pyspark.ml")
    rows = frame((found(TEXT, SENTENCES, "document"), tokens()))
    stage = nr.RobertaEmbeddings.pretrained("tiny").setInputCols("sentence", "token").setOutputCol("embeddings")
    ml.Pipeline(stages=[stage]).fit(rows).write().overwrite().save(str(tmp_path / "pipeline"))
    again = ml.PipelineModel.load(str(tmp_path / "pipeline")).transform(rows)
    assert again.collect() == stage.transform(rows).collect()
    plain = spark.createDataFrame([(SENTENCES[0], TOKENS[0])], ["sentence", "token"])
    ((row,),) = stage.transform(plain).select("embeddings").collect()
    assert [one.asDict().keys() for one in row] == [{"begin", "end", "result", "embeddings"}] * 5


def test_a_model_of_another_width_says_so(frame, small_folder):
    made = embed(frame((found(TEXT, SENTENCES, "document"), tokens())), model=str(small_folder))
    about = made.schema["embeddings"].metadata
    assert (about["dimension"], about["ref"]) == (numroberta.load(small_folder).config.hidden_size, str(small_folder))
