"""What .parquet can hold, and what it cannot is said before an hour of computing, with file and line."""

import numpy as np
import pytest

import numroberta
from numroberta.corpus import parquet
from numroberta.corpus.job import embed_files
from numroberta.corpus.row import BadRow
from numroberta.corpus.rows import Rows
from numroberta.model import blocks

arrow = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="session")
def exact(small_folder):
    return numroberta.load(small_folder, deterministic=True, num_threads=1)


def table_with(column, count=3):
    return arrow.table({"text": [f"the sand {n}" for n in range(count)], "more": column})


COLUMNS = {
    "pandas' categories": arrow.array(["a", "b", "a"]).dictionary_encode(),
    "lists of categories": arrow.array([["a"], ["b", "a"], None], arrow.list_(arrow.dictionary("int32", "string"))),
    "integers beyond 2^63": arrow.array([2**64 - 1, 0, None], arrow.uint64()),
    "nothing": arrow.nulls(3),
    "objects": arrow.array([{"a": 1}, None, {"a": 3}], arrow.struct([("a", arrow.int8())])),
    "maps": arrow.array([[("a", 1)], [], None], arrow.map_(arrow.string(), arrow.int32())),
    "bytes": arrow.array([b"\xff", b"", None], arrow.binary()),
    "days": arrow.array([0, 20_000, None], arrow.date32()),
    "pairs": arrow.array([[1, 2], [3, 4], None], arrow.list_(arrow.int16(), 2)),
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_every_column_comes_back_beside_the_vectors(exact, tmp_path, column):
    table = table_with(column)
    pq.write_table(table, tmp_path / "in.parquet")
    embed_files(exact, [tmp_path / "in.parquet"], tmp_path / "out.parquet")
    written = pq.read_table(tmp_path / "out.parquet")
    assert written["more"].to_pylist() == table["more"].to_pylist()
    np.testing.assert_array_equal(np.stack(written["embedding"].to_numpy()), exact.encode(table["text"].to_pylist()))


def test_an_output_of_several_row_groups_has_each_row_once(exact, tmp_path, monkeypatch):
    """As a file of more than 8,192 rows has them."""
    monkeypatch.setattr(blocks, "BLOCK", 4)
    monkeypatch.setattr(parquet, "ROW_GROUP", 8)
    (tmp_path / "in.txt").write_text("".join(f"the sand {n}\n" for n in range(30)))
    embed_files(exact, [tmp_path / "in.txt"], tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == [f"the sand {n}" for n in range(30)]
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 4


def test_a_column_that_must_not_be_null_is_null_where_a_row_was_skipped(exact, tmp_path):
    schema = arrow.schema([arrow.field("text", "string"), arrow.field("n", "int8", nullable=False)])
    pq.write_table(arrow.table({"text": ["a", "b"], "n": [1, 2]}, schema), tmp_path / "a.parquet")
    pq.write_table(arrow.table({"text": ["c", None]}), tmp_path / "b.parquet")
    inputs = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    embed_files(exact, inputs, tmp_path / "out.parquet", errors="skip")
    assert pq.read_table(tmp_path / "out.parquet")["n"].to_pylist() == [1, 2, None, None]


UNFIT = [
    ('{"text": "a", "n": 36893488147419103232}', r"in\.jsonl, line 3: field 'n' does not fit"),
    (r'{"text": "a", "s": "\ud83d"}', r"in\.jsonl, line 3: field 's' does not fit"),
    ('{"text": "a", "n": 1}\n{"text": "a", "n": "x"}', r"in\.jsonl, lines 1 to \d: fields of several types"),
    ('{"text": "a", "o": {}}', r"in\.jsonl, line 1, and the rows behind it: a field does not fit a \.parquet column"),
]


@pytest.mark.parametrize(("line", "message"), UNFIT, ids=["2^65", "half a character", "types", "empty object"])
def test_a_value_that_no_column_takes_is_named_and_the_job_goes_on_when_it_is_mended(exact, tmp_path, line, message):
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a"}\n{"text": "b"}\n' + line + "\n")
    with pytest.raises(ValueError, match=message + r".*write \.jsonl"):
        embed_files(exact, [source], tmp_path / "out.parquet")
    embed_files(exact, [source], tmp_path / "out.jsonl")  # which takes any fields
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == len(source.read_text().splitlines())
    source.write_text('{"text": "a"}\n{"text": "b"}\n{"text": "c"}\n')
    assert embed_files(exact, [source], tmp_path / "out.parquet", resume=True).texts == 3


def test_a_field_that_is_new_after_the_first_block_is_named(exact, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 4)
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a"}\n' * 4 + '{"text": "a", "new": 1}\n')
    with pytest.raises(ValueError, match=r"in\.jsonl, line 5: no row of the first block.* field 'new': write \.jsonl"):
        embed_files(exact, [source], tmp_path / "out.parquet")


def test_columns_that_parquet_cannot_write_are_refused_before_a_text_is_read(exact, tmp_path):
    reports = []
    (tmp_path / "in.jsonl").write_text('{"text": "a", "o": {}}\n')
    with pytest.raises(ValueError, match="does not fit"):
        embed_files(exact, [tmp_path / "in.jsonl"], tmp_path / "out.parquet", report=reports.append)
    assert [report.texts for report in reports] == [0]


def damaged(path, column, into):
    """The same file with the pages of one column overwritten."""
    data = bytearray(path.read_bytes())
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(column)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    into.write_bytes(data)
    return into


def test_damaged_pages_name_the_file(exact, tmp_path):
    pq.write_table(table_with(["x", "y", "z"]), tmp_path / "whole.parquet")
    broken = damaged(tmp_path / "whole.parquet", 0, tmp_path / "broken.parquet")
    with pytest.raises(ValueError, match=r"broken\.parquet, line 1 or later, cannot be read as \.parquet"):
        embed_files(exact, [broken], tmp_path / "out.npy")
    for size in (0, 3, 20, -20, -1):
        (tmp_path / "cut.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:size])
        with pytest.raises(ValueError, match=r"cut\.parquet cannot be read as \.parquet"):
            embed_files(exact, [tmp_path / "cut.parquet"], tmp_path / "out.npy")


def test_an_output_without_other_fields_reads_no_other_column(exact, tmp_path):
    """A table may have many columns of gigabytes: here, reading the other one would fail."""
    pq.write_table(table_with(["x", "y", "z"]), tmp_path / "whole.parquet")
    broken = damaged(tmp_path / "whole.parquet", 1, tmp_path / "broken.parquet")
    assert embed_files(exact, [broken], tmp_path / "out.npy").texts == 3
    with pytest.raises(ValueError, match=r"broken\.parquet"):
        embed_files(exact, [broken], tmp_path / "out.jsonl")


def test_nulls_and_strings_that_are_not_utf_8_are_bad_rows(tmp_path):
    not_utf8 = arrow.array([b"a", b"\xff", b"c"], arrow.binary()).view(arrow.string())
    pq.write_table(arrow.table({"text": not_utf8, "n": [1, 2, 3]}), tmp_path / "a.parquet")
    with pytest.raises(BadRow, match=r"a\.parquet, line 2: a field has no value in Python: 'utf-8' codec"):
        list(Rows([tmp_path / "a.parquet"]))
    assert [row.text for row in Rows([tmp_path / "a.parquet"], skip_bad=True)] == ["a", None, "c"]
    pq.write_table(arrow.table({"text": ["a", None], "n": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(BadRow, match="line 2: field 'text' is null"):
        list(Rows([tmp_path / "a.parquet"]))


def test_a_missing_or_repeated_column_is_named(tmp_path):
    pq.write_table(arrow.table({"text": ["a"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet has no column 'body', but 'text', 'n'"):
        list(Rows([tmp_path / "a.parquet"], field="body"))
    pq.write_table(arrow.Table.from_arrays([["a"], [1], [2]], ["text", "n", "n"]), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet has several columns 'n': rename all but one"):
        list(Rows([tmp_path / "b.parquet"]))
    assert [row.text for row in Rows([tmp_path / "b.parquet"], keep_fields=False)] == ["a"]


def test_the_types_of_a_parquet_input_stay(exact, tmp_path):
    schema = arrow.schema([("id", arrow.int8()), ("text", arrow.large_string())])
    pq.write_table(arrow.table({"id": [1, 2], "text": ["a", "b"]}, schema), tmp_path / "in.parquet")
    embed_files(exact, [tmp_path / "in.parquet"], tmp_path / "out.parquet", dtype="float16")
    written = pq.read_schema(tmp_path / "out.parquet")
    assert [str(field.type) for field in written][:2] == ["int8", "large_string"]
