"""Spark: the same vectors as `encode`, row by row, whatever happens to the rows and the executors on the way."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from pages import blocks
from spark_figures import descendants, executors, mapped_memory, session, workers

import numroberta
from numroberta.checkpoint import CheckpointError
from numroberta.model import BLOCK

for package in ("pyspark", "pandas", "pyarrow"):
    pytest.importorskip(package, reason=f"needs {package}: pip install '.[spark]'")
cloudpickle = import_module("pyspark.cloudpickle")
pd = import_module("pandas")
nr = import_module("numroberta.spark")
location = import_module("numroberta.spark.location")
worker = import_module("numroberta.spark.worker")

ROOT = Path(__file__).parents[2]
java = pytest.mark.skipif(
    not (shutil.which("java") or os.environ.get("JAVA_HOME")), reason="needs Java 17, which PySpark runs on"
)

TEXTS = ["Hello world", "", "a text of some more words, to be cut", None, "Ünïcödé 😀 text", " \t ", "the " * 100]
WORDS_OF = [None if text is None else text.split() for text in TEXTS]


# --- Without a cluster ------------------------------------------------------------------------------------------------


def embedded(model, texts, **options):
    """What a worker gives for these rows."""
    chosen = worker.Options(location.locate_model(model), **options)
    return list(pd.concat(worker.embed_batches(iter([pd.Series(texts, dtype=object)]), chosen)))


def worded(model, texts, words, **options):
    chosen = worker.Options(location.locate_model(model), **options)
    batch = (pd.Series(texts, dtype=object), pd.Series(words, dtype=object))
    return list(pd.concat(worker.embed_words_batches(iter([batch]), chosen)))


@pytest.mark.filterwarnings("ignore:.*more than.*tokens")
def test_null_gives_null_and_every_other_text_the_vector_of_encode(small_folder, small):
    for text, vector in zip(TEXTS, embedded(small_folder, TEXTS), strict=True):
        if text is None:
            assert vector is None
        else:
            np.testing.assert_allclose(vector, small.encode(text), rtol=0, atol=2e-6)  # measured: 5e-7


def test_a_batch_of_nulls_and_no_batch_at_all(small_folder):
    assert embedded(small_folder, [None, None]) == [None, None]
    assert worded(small_folder, [None, "a"], [["a"], None]) == [None, None]
    nothing = worker.embed_batches(iter([]), worker.Options(location.locate_model(small_folder)))
    assert list(nothing) == []


def test_large_batches_leave_in_parts_and_lose_no_row(small_folder, small):
    texts = [f"text {i % 7}" for i in range(2 * BLOCK + 1)]  # the last part has one row
    vectors = embedded(small_folder, texts)
    np.testing.assert_allclose(np.stack(vectors), small.encode(texts), rtol=0, atol=1e-5)
    words = worded(small_folder, texts, [text.split() for text in texts])
    assert [[word["result"] for word in row] for row in words] == [text.split() for text in texts]


def test_words_leave_a_few_thousand_at_a_time_since_spark_makes_an_object_of_each_number(small_folder, monkeypatch):
    monkeypatch.setattr(worker, "WORDS_AT_ONCE", 10)
    words = [["a", "few", "more", "words"]] * 8
    batch = (pd.Series([" ".join(row) for row in words]), pd.Series(words))
    parts = list(worker.embed_words_batches(iter([batch]), worker.Options(location.locate_model(small_folder))))
    assert [len(part) for part in parts] == [3, 3, 2]  # 12 words, 12 words, and the rest


@pytest.mark.filterwarnings("ignore:.*more than.*tokens")
def test_pooling_length_and_case_are_those_of_encode(small_folder, small):
    texts = ["The Text", "and Another one that is cut"]
    for pooling in ("mean", "cls", "max"):
        found = embedded(small_folder, texts, pooling=pooling, normalize_embeddings=True)
        wanted = small.encode(texts, pooling=pooling, normalize_embeddings=True)
        np.testing.assert_allclose(np.stack(found), wanted, rtol=0, atol=1e-5)
    lower = small.encode([text.lower() for text in texts])
    np.testing.assert_allclose(np.stack(embedded(small_folder, texts, case_sensitive=False)), lower, rtol=0, atol=1e-5)
    short = numroberta.load(small_folder)
    short.max_seq_length = 5
    found = np.stack(embedded(small_folder, texts, max_length=5))
    np.testing.assert_allclose(found, short.encode(texts), rtol=0, atol=1e-5)
    assert not np.allclose(found, small.encode(texts), atol=1e-2)


def test_reproducible_gives_the_bits_that_encode_gives(small_folder):
    exact = numroberta.load(small_folder, reproducible=True)
    texts, words = ["the text", "another one"], [["the", "text"], ["another", "one"]]
    assert np.array_equal(np.stack(embedded(small_folder, texts, reproducible=True)), exact.encode(texts))
    for row, expected in zip(
        worded(small_folder, texts, words, reproducible=True), exact.encode_words(words), strict=True
    ):
        assert np.array_equal([word["embeddings"] for word in row], expected.vectors)
    stage = nr.RobertaEmbeddings(str(small_folder)).setReproducible(True)
    assert np.array_equal(applied(stage, texts), exact.encode(texts))


def test_a_worker_loads_a_model_once(small_folder):
    worker.encoder_for.cache_clear()
    for _ in range(3):
        embedded(small_folder, ["a"])
    assert worker.encoder_for.cache_info().misses == 1


def test_words_have_the_vectors_of_encode_words_and_their_places_in_the_text(small_folder, small):
    rows = worded(small_folder, TEXTS, WORDS_OF)
    for text, words, row in zip(TEXTS, WORDS_OF, rows, strict=True):
        if text is None:
            assert row is None
            continue
        assert [word["result"] for word in row] == words
        assert [text[word["begin"] : word["end"] + 1] for word in row] == words
        if words:
            found = np.stack([word["embeddings"] for word in row])
            np.testing.assert_allclose(found, small.encode_words(words).vectors, rtol=0, atol=3e-6)  # measured: 7.2e-7


def test_words_that_a_tokenizer_changed_or_left_out(small_folder, small):
    text = "New York, NEW  Jersey"
    words = ["New York", "", None, ",", " ", "new", "jersei"]
    (row,) = worded(small_folder, [text], [words])
    found = [(word["result"], word["begin"], word["end"]) for word in row]
    assert found == [("New York", 0, 7), (",", 8, 8), ("new", 10, 12), ("jersei", None, None)]
    vectors = small.encode_words(["New", "York", ",", "new", "jersei"]).vectors[[0, 2, 3, 4]]
    np.testing.assert_allclose(np.stack([word["embeddings"] for word in row]), vectors, rtol=0, atol=1e-5)


@given(st.lists(st.text(min_size=1).filter(str.strip), max_size=8), st.text(alphabet=" \t\n\u3000", min_size=1))
def test_words_are_located_where_they_were_joined(words, space):
    words = [word.strip() for word in words]
    text = space + space.join(words) + space
    places = worker.find_words(text, words)
    position = 0
    for word, (begin, end) in zip(words, places, strict=True):
        assert text[begin : end + 1] == word
        assert begin >= position
        position = end + 1


def test_locating_prefers_whole_words_and_keeps_the_order():
    assert worker.find_words("unable or able", ["un", "able", "able"]) == [(0, 1), (2, 5), (10, 13)]
    assert worker.find_words("a party of art", ["art"]) == [(11, 13)]  # stop words were taken out
    assert worker.find_words("İstanbul ISTANBUL", ["istanbul"]) == [(9, 16)]  # 'İ'.lower() is two characters
    assert worker.find_words("one two", ["two", "one"]) == [(4, 6), (None, None)]


# --- The stage's options ----------------------------------------------------------------------------------------------


def applied(stage, texts):
    """The vectors of the function that `transform` applies to a column of texts."""
    return np.stack(list(pd.concat(stage._udf(1).func(iter([pd.Series(texts)])))))


def short(encoder_folder, length):
    encoder = numroberta.load(encoder_folder)
    encoder.max_seq_length = length
    return encoder


STAGE_OPTIONS = {
    "poolingStrategy": [
        (lambda stage: stage.setPoolingStrategy("CLS"), lambda folder, texts: read(folder, texts, pooling="cls")),
        (lambda stage: stage.setPoolingStrategy("MAX"), lambda folder, texts: read(folder, texts, pooling="max")),
        (lambda stage: stage.setPoolingStrategy("AVERAGE"), lambda folder, texts: read(folder, texts, pooling="mean")),
    ],
    "maxSentenceLength": [
        (lambda stage: stage.setMaxSentenceLength(5), lambda folder, texts: short(folder, 5).encode(texts))
    ],
    "caseSensitive": [
        (
            lambda stage: stage.setCaseSensitive(False),
            lambda folder, texts: read(folder, [text.lower() for text in texts]),
        )
    ],
}
# What else the stage has is held by other tests: the columns, which model and which commit of it, and the batch size.
HELD_ELSEWHERE = {"inputCols", "outputCol", "model", "revision", "batchSize", "reproducible"}


def read(folder, texts, **options):
    return numroberta.load(folder).encode(texts, **options)


def test_every_option_of_the_stage_is_in_the_table():
    assert {param.name for param in nr.RobertaEmbeddings().params} == {*STAGE_OPTIONS, *HELD_ELSEWHERE}


@pytest.mark.filterwarnings("ignore:.*more than.*tokens")
@pytest.mark.parametrize("option", STAGE_OPTIONS)
def test_an_option_of_the_stage_changes_its_vectors_as_it_says(option, small_folder, small):
    texts = ["The Text", "and Another one that is long enough to be cut"]
    for set_option, expected in STAGE_OPTIONS[option]:
        vectors = applied(set_option(nr.RobertaEmbeddings(str(small_folder))), texts)
        np.testing.assert_allclose(vectors, expected(small_folder, texts), rtol=0, atol=2e-6)  # measured: 5e-7
        assert option == "poolingStrategy" or not np.allclose(vectors, small.encode(texts), atol=1e-3)


def test_a_batch_size_reaches_encode_and_encode_words(small_folder, monkeypatch):
    sizes = []
    for name in ("encode", "encode_words"):
        method = getattr(numroberta.TextEncoder, name)

        def spy(self, texts, *, batch_size, method=method, **options):
            sizes.append(batch_size)
            return method(self, texts, batch_size=batch_size, **options)

        monkeypatch.setattr(numroberta.TextEncoder, name, spy)
    stage = nr.RobertaEmbeddings(str(small_folder)).setBatchSize(7)
    applied(stage, ["a"])
    list(stage._udf(2).func(iter([(pd.Series(["a"]), pd.Series([["a"]]))])))
    assert sizes == [7, 7]


# --- Which model ------------------------------------------------------------------------------------------------------


def test_a_bad_model_is_refused_with_the_sentence_of_load(tmp_path):
    for name in (str(tmp_path / "none"), "no model", str(tmp_path)):
        with pytest.raises(CheckpointError) as expected:
            numroberta.load(name)
        for attempt in (nr.embed_udf, nr.embed_words_udf, nr.RobertaEmbeddings.pretrained):
            with pytest.raises(CheckpointError) as found:
                attempt(name)
            assert str(found.value) == str(expected.value)


def test_a_folder_without_a_tokenizer_is_refused_on_the_driver(small_folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(small_folder / name, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"needs tokenizer\.json"):
        nr.embed_udf(tmp_path)


def test_a_model_that_only_an_executor_lacks_is_an_error_that_names_the_host():
    with pytest.raises(CheckpointError, match=f"on {re.escape(socket.gethostname())}.*/gone' does not exist"):
        list(worker.embed_batches(iter([]), worker.Options(location.ModelLocation("/gone"))))


def test_a_model_of_the_hub_travels_with_its_commit(small_folder, tmp_path, monkeypatch):
    commit = "0123456789" * 4
    snapshot = tmp_path / "models--distilroberta-base" / "snapshots" / commit
    shutil.copytree(small_folder, snapshot)
    refs = tmp_path / "models--distilroberta-base" / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    stage = nr.RobertaEmbeddings.pretrained("distilroberta_base", "en")  # Spark NLP's name
    assert stage.getOrDefault("model") == "distilroberta-base"
    assert stage.getOrDefault("revision") == commit
    (tmp_path / "models--distilroberta-base" / "refs" / "main").write_text("f" * 40)  # the hub moves on
    assert len(applied(stage, ["a"])) == 1
    (refs / "main").write_text(commit)
    assert location.locate_model("distilroberta-base") == location.ModelLocation("distilroberta-base", commit)


def test_a_relative_folder_travels_as_an_absolute_one(small_folder, monkeypatch):
    monkeypatch.chdir(small_folder.parent)
    assert location.locate_model(small_folder.name) == location.ModelLocation(str(small_folder))
    assert nr.RobertaEmbeddings.pretrained(small_folder.name).getOrDefault("model") == str(small_folder)


def zipped(path, folder, **more):
    """A zip of a folder, as `zip -r` makes it, and of further files by name."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
        for name, content in more.items():
            archive.writestr(name, content)
    return path


def test_a_zip_made_on_a_mac_has_more_than_the_folder(small_folder, tmp_path):
    extra = {f"__MACOSX/{small_folder.name}/._config.json": b"\0\5\x16\7", ".DS_Store": b"\0\0\0\1Bud1"}
    folder = location.unpacked(zipped(tmp_path / "model.zip", small_folder, **extra))
    assert folder.name == small_folder.name
    assert len(numroberta.load(folder).encode("a")) == 24


def test_a_zip_of_the_files_alone_is_a_model_too(small_folder, tmp_path):
    shutil.make_archive(str(tmp_path / "model"), "zip", small_folder)
    assert numroberta.load(location.unpacked(tmp_path / "model.zip")).config.hidden_size == 24


def test_a_damaged_zip_is_refused_and_leaves_nothing_behind(small_folder, tmp_path):
    path = zipped(tmp_path / "model.zip", small_folder)
    whole = bytearray(path.read_bytes())
    flipped = whole.copy()
    flipped[len(whole) // 2] ^= 1
    for damaged in (whole[: len(whole) // 2], flipped, b""):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"model\.zip cannot be unpacked \(.+\): distribute a zip"):
            location.unpacked(path)
        assert os.listdir(tmp_path) == ["model.zip"]


def test_setters_refuse_what_cannot_be():
    stage = nr.RobertaEmbeddings()
    for setter, value in [
        (stage.setPoolingStrategy, "average"),
        (stage.setMaxSentenceLength, 0),
        (stage.setMaxSentenceLength, 513),
        (stage.setBatchSize, 0),
        (stage.setInputCols, ["a", "b", "c"]),
    ]:
        with pytest.raises(ValueError, match=r"expected"):
            setter(value)
    with pytest.raises(ValueError, match="language 'en', not 'de'"):
        nr.RobertaEmbeddings.pretrained("distilroberta_base", "de")
    with pytest.raises(ValueError, match="pooling='MEAN'"):
        nr.embed_udf("tiny", pooling="MEAN")
    assert stage.setInputCols("text", "words").getInputCols() == stage.setInputCols(["text", "words"]).getInputCols()


def without(*packages, code):
    """Run code in an interpreter that lacks these packages; what it writes."""
    hide = f"import sys; sys.modules.update(dict.fromkeys({packages!r}))\n"
    command = [sys.executable, "-c", hide + code]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False).stderr


def test_neither_weights_nor_this_package_travel_in_the_function(small_folder, tmp_path):
    pickled = cloudpickle.dumps(nr.embed_udf(small_folder).func)
    assert len(pickled) < 5000
    (tmp_path / "function").write_bytes(pickled)
    code = f"import pickle; pickle.load(open({str(tmp_path / 'function')!r}, 'rb'))(iter([]))"
    error = without("numroberta", code=code).splitlines()[-1]
    assert f"this executor's Python, {sys.executable}, cannot import numroberta.spark" in error
    assert "PYSPARK_PYTHON" in error


def test_without_pyspark_the_import_says_what_to_install():
    error = without("pyspark", code="import numroberta.spark").splitlines()[-1]
    assert "pip install 'numroberta[spark]'" in error


# --- On two executors -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spark():
    """Two executors of one task at a time, which has two threads."""
    with session("local-cluster[2,2,1024]", {"spark.task.cpus": "2", "spark.sql.shuffle.partitions": "3"}) as spark:
        yield spark


@pytest.fixture(scope="module")
def lines():
    """A few lines of everyday text, in all lengths, with an id each and nulls between them."""
    rng = np.random.default_rng(0)
    words = (ROOT / "LICENSE").read_text().split()
    texts = [" ".join(rng.choice(words, rng.integers(0, 9))) for _ in range(200)]
    return [(i, None if i % 11 == 5 else text) for i, text in enumerate(texts)]


def frame_of(spark, lines):
    return spark.createDataFrame(lines, "id int, text string")


def assert_vectors(rows, encoder, lines, column="embeddings"):
    assert [(row.id, row.text) for row in rows] == lines
    for row in rows:
        assert (row[column] is None) == (row.text is None)
    found = np.array([row[column] for row in rows if row.text is not None])
    wanted = encoder.encode([text for _, text in lines if text is not None])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)  # measured: 4.8e-7


@java
@pytest.mark.slow
def test_rows_keep_their_vectors_through_a_shuffle(spark, lines, small_folder, small):
    stage = nr.RobertaEmbeddings(str(small_folder)).setInputCols("text").setOutputCol("embeddings")
    shuffled = frame_of(spark, lines).repartition(5, "text")
    rows = stage.transform(shuffled).repartition(3, "id").orderBy("id").collect()
    assert_vectors(rows, small, lines)


@java
@pytest.mark.slow
def test_a_task_uses_as_many_threads_as_it_has_cpus(spark):
    def threads(batch: pd.Series) -> pd.Series:
        from numroberta.spark import worker

        return batch * 0 + worker.cores_of_task()

    from pyspark.sql.functions import pandas_udf

    counted = spark.range(4).select(pandas_udf(threads, "long")("id").alias("cores")).collect()
    assert {row.cores for row in counted} == {2}


@java
@pytest.mark.slow
def test_sql_and_words_and_a_column_name_with_a_dot(spark, small_folder, small):
    spark.udf.register("embed", nr.embed_udf(small_folder, pooling="cls"))
    frame_of(spark, [(0, "Hello big  world")]).createOrReplaceTempView("texts")
    (row,) = spark.sql("SELECT embed(text) AS vector FROM texts").collect()
    np.testing.assert_allclose(row.vector, small.encode("Hello big  world", pooling="cls"), rtol=0, atol=1e-5)

    from pyspark.ml.feature import Tokenizer as SparkTokenizer

    cut = SparkTokenizer(inputCol="text", outputCol="own words").transform(spark.table("texts"))
    cut = cut.withColumnRenamed("text", "the.text")
    stage = nr.RobertaEmbeddings(str(small_folder)).setInputCols("the.text", "own words").setOutputCol("vectors")
    stage.transform(cut).createOrReplaceTempView("embedded")
    rows = spark.sql(
        "SELECT word.*, substring(`the.text`, word.begin + 1, word.end - word.begin + 1) AS there "
        "FROM embedded LATERAL VIEW explode(vectors) AS word"
    ).collect()
    assert [row.there for row in rows] == ["Hello", "big", "world"]
    assert [row.result for row in rows] == ["hello", "big", "world"]
    vectors = small.encode_words(["hello", "big", "world"]).vectors
    np.testing.assert_allclose([row.embeddings for row in rows], vectors, rtol=0, atol=1e-5)


@java
@pytest.mark.slow
def test_wrong_columns_and_models_fail_before_any_task(spark, lines, small_folder, tmp_path):
    frame = frame_of(spark, lines)
    stage = nr.RobertaEmbeddings(str(small_folder)).setOutputCol("v")
    jobs = spark.sparkContext.statusTracker().getJobIdsForGroup()
    with pytest.raises(ValueError, match="no input columns"):
        stage.transform(frame)
    with pytest.raises(ValueError, match="no column 'texts'; this frame has 'id', 'text'"):
        stage.setInputCols("texts").transform(frame)
    with pytest.raises(ValueError, match="column 'id' is int, expected string"):
        stage.setInputCols("id").transform(frame)
    with pytest.raises(ValueError, match=r"column 'text' is string, expected array<string>"):
        stage.setInputCols("text", "text").transform(frame)
    with pytest.raises(ValueError, match="'NONE' gives one vector per word"):
        stage.setInputCols("text").setPoolingStrategy("NONE").transform(frame)
    words = frame.selectExpr("text", "split(text, ' ') AS words")
    stage.setInputCols("text", "words").setPoolingStrategy("MAX")
    with pytest.raises(ValueError, match="'MAX' gives one vector per text"):
        stage.transform(words)
    with pytest.raises(CheckpointError, match="does not exist"):
        nr.RobertaEmbeddings(str(tmp_path / "gone")).setInputCols("text").transform(frame)
    assert spark.sparkContext.statusTracker().getJobIdsForGroup() == jobs


@java
@pytest.mark.slow
def test_a_model_that_spark_distributes(spark, lines, small_folder, small, tmp_path):
    from pyspark import SparkFiles

    shutil.make_archive(str(tmp_path / "packed"), "zip", small_folder.parent, small_folder.name)
    shutil.make_archive(str(tmp_path / "unpacked"), "gztar", small_folder)
    spark.sparkContext.addFile(str(tmp_path / "packed.zip"))
    spark.sparkContext.addArchive(f"{tmp_path / 'unpacked.tar.gz'}#model")
    for name in ("packed.zip", "model", SparkFiles.get("model")):
        frame = frame_of(spark, lines).withColumn("embeddings", nr.embed_udf(name)("text"))
        assert_vectors(frame.orderBy("id").collect(), small, lines)


@java
@pytest.mark.slow
def test_an_executor_killed_in_mid_job_costs_no_row(spark, lines, small_folder, small):
    def slowly(batch: pd.Series) -> pd.Series:
        import time

        time.sleep(1)
        return batch

    from pyspark.sql.functions import pandas_udf

    frame = frame_of(spark, lines).repartition(8).withColumn("text", pandas_udf(slowly, "string")("text"))
    stage = nr.RobertaEmbeddings(str(small_folder)).setInputCols("text").setOutputCol("embeddings")
    rows = []
    job = threading.Thread(target=lambda: rows.extend(stage.transform(frame).collect()))
    job.start()
    tracker = spark.sparkContext.statusTracker()
    while True:
        stages = [tracker.getStageInfo(i) for i in tracker.getActiveStageIds()]
        if any(stage and stage.numTasks == 8 and stage.numCompletedTasks >= 1 for stage in stages):
            break
        assert job.is_alive(), "the job was over before an executor could be killed"
        time.sleep(0.02)
    before = executors()
    os.kill(before[0], signal.SIGKILL)
    job.join()
    assert before[0] not in executors()
    assert_vectors(sorted(rows, key=lambda row: row.id), small, lines)


@java
@pytest.mark.slow
def test_workers_share_the_mapped_weights(spark, full_size_folder):
    frame = frame_of(spark, [(i, f"text {i}") for i in range(8)]).repartition(2)
    frame.select(nr.embed_udf(full_size_folder)("text")).write.format("noop").mode("overwrite").save()
    weights = full_size_folder / "model.safetensors"
    memory = [mapped_memory(pid, weights) for pid in workers(weights)]
    assert len(memory) >= 2
    for resident, proportional in memory:
        assert proportional < 0.75 * resident  # measured: 0.50 with two workers


@java
@pytest.mark.slow
def test_the_guide_runs_as_pasted_and_its_pipeline_predicts_the_same_here(spark, tmp_path):
    (code,) = (block.code for block in blocks("spark") if block.language == "python")
    path = os.pathsep.join(filter(None, [str(Path(numroberta.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYSPARK_PYTHON": sys.executable, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, timeout=900, check=True)

    from pyspark.ml import PipelineModel

    (metadata,) = (tmp_path / "embed-pipeline").glob("stages/*/metadata/part-*")
    assert json.loads(metadata.read_text())["class"] == "numroberta.spark.RobertaEmbeddings"  # in any release
    saved = PipelineModel.load(str(tmp_path / "embed-pipeline"))
    lines = [(0, "A man is playing a guitar."), (1, None), (2, "")]
    rows = saved.transform(frame_of(spark, lines)).orderBy("id").collect()
    assert_vectors(rows, numroberta.load("tiny"), lines)


@java
@pytest.mark.slow
def test_nothing_is_left_running(spark):
    """Last in this file: after it, the session's end takes the executors with it."""
    assert len(executors()) == 2
    assert set(workers(Path("model.safetensors"))) <= set(descendants(os.getpid()))
