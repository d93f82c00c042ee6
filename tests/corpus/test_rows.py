"""Files to rows: every format, every way a row can be bad, and going on from any row."""

import gzip
import io
import json
import random
import sys

import pytest
from hypothesis import given, strategies as st

from numroberta.corpus.row import BadRow
from numroberta.corpus.rows import Rows
from numroberta.corpus.text_list import TextList

TEXTS = ["Hello world", "", "  two  spaces ", 'quotes " and, commas', "naïve café 🙂", "tab\tinside"]


def texts_of(*inputs, behind=None, **options):
    """The texts of all rows, or of those behind a bookmark."""
    rows = Rows(inputs, **options)
    if behind:
        rows.go_to(behind)
    return [row.text for row in rows]


def write(path, data):
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def as_csv(texts, line_end="\r\n"):
    rows = ['"' + text.replace('"', '""') + '"' for text in texts]
    return "id,text" + line_end + "".join(f"{number},{row}{line_end}" for number, row in enumerate(rows))


def files_with(folder, texts):
    """The same texts in every format."""
    import pyarrow
    from pyarrow import parquet

    lines = "".join(json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(texts))
    parquet.write_table(pyarrow.table({"id": range(len(texts)), "text": texts}), folder / "a.parquet", row_group_size=2)
    return [
        write(folder / "a.txt", "".join(f"{text}\n" for text in texts)),
        write(folder / "b.txt.gz", "".join(f"{text}\r\n" for text in texts)),
        write(folder / "a.jsonl", lines),
        write(folder / "a.jsonl.gz", lines),
        write(folder / "a.csv", as_csv(texts)),
        write(folder / "a.csv.gz", as_csv(texts, "\n")),
        folder / "a.parquet",
    ]


def test_every_format_gives_the_same_texts_in_order(tmp_path):
    pytest.importorskip("pyarrow")
    for path in files_with(tmp_path, TEXTS):
        assert texts_of(path) == TEXTS, path.name
    assert texts_of(*files_with(tmp_path, TEXTS)) == TEXTS * 7
    assert texts_of(TextList(TEXTS)) == TEXTS


def test_a_last_line_without_a_line_end_a_byte_order_mark_and_windows_line_ends(tmp_path):
    assert texts_of(write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\ntwo")) == ["one", "two"]
    assert texts_of(write(tmp_path / "a.csv", b"\xef\xbb\xbftext\r\none\r\ntwo")) == ["one", "two"]
    assert texts_of(write(tmp_path / "empty.txt", b"")) == []
    # Only a line feed ends a line: other separators are the text's own.
    assert texts_of(write(tmp_path / "b.txt", "a\x0bb\u2028c\rd\n")) == ["a\x0bb\u2028c\rd"]


def test_blank_lines_are_texts_in_txt_and_nothing_in_tables_and_jsonl(tmp_path):
    assert texts_of(write(tmp_path / "a.txt", "a\n\nb\n")) == ["a", "", "b"]
    assert texts_of(write(tmp_path / "a.jsonl", '{"text": "a"}\n\n{"text": "b"}\n\n')) == ["a", "b"]
    assert texts_of(write(tmp_path / "a.csv", "text\na\n\nb\n")) == ["a", "b"]


def test_a_cell_of_several_lines_is_one_row(tmp_path):
    rows = list(Rows([write(tmp_path / "a.csv", 'text,n\n"one\ntwo",1\nthree,2\n')]))
    assert [(row.text, row.line) for row in rows] == [("one\ntwo", 3), ("three", 4)]
    assert rows[0].fields == {"text": "one\ntwo", "n": "1"}


def test_columns_by_name_and_by_number_and_quotes_in_tsv_mean_nothing(tmp_path):
    table = write(tmp_path / "a.tsv", 'score\tsentence\n1\t"A quote\n2\tplain "words"\n')
    assert texts_of(table, field="sentence") == ['"A quote', 'plain "words"']
    assert texts_of(table, field="1") == ["score", "1", "2"]
    with pytest.raises(ValueError, match=r"no column 'text', but 'score', 'sentence': choose one with --column"):
        texts_of(table)


def test_a_quote_that_is_never_closed_is_one_bad_row_and_not_the_rest_of_the_file(tmp_path):
    path = write(tmp_path / "a.csv", 'id,text\n1,one\n2,"two\n' + "".join(f"{n},text {n}\n" for n in range(3, 9)))
    with pytest.raises(BadRow, match=r"line 9: .*\(it begins in line 3\): a quote is never closed, so that"):
        texts_of(path)
    assert texts_of(path, skip_bad=True) == ["one", None]
    with pytest.raises(ValueError, match=r"a\.csv: its first line is no header of a table"):
        texts_of(write(tmp_path / "a.csv", 'id,"text\n1,one\n'))


def test_two_columns_of_the_same_name_are_refused_where_one_would_be_lost(tmp_path):
    path = write(tmp_path / "a.csv", "n,n,text\n1,2,one\n")
    with pytest.raises(ValueError, match=r"a\.csv has several columns 'n': rename all but one"):
        texts_of(path)
    assert texts_of(path, keep_fields=False) == ["one"]
    with pytest.raises(ValueError, match="several columns 'n'"):
        texts_of(path, field="n", keep_fields=False)


@pytest.fixture
def standard_input(monkeypatch):
    """Gives standard input these bytes, whatever the locale's encoding is."""
    return lambda data: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="latin-1"))


def test_standard_input_is_read_as_files_are(standard_input, tmp_path):
    for data in (b"one\r\n\ntwo\x0b\n", b"\xef\xbb\xbfone\ntwo", "naïve café 🙂".encode(), b"", b"fine\n\xff\nfine\n"):
        standard_input(data)
        path = write(tmp_path / "a.txt", data)
        assert texts_of("-", skip_bad=True) == texts_of(path, skip_bad=True)
    standard_input(b"fine\n\xff\nfine\n")
    with pytest.raises(BadRow, match="standard input, line 2: not UTF-8 from byte 0 of the line"):
        texts_of("-")
    standard_input(b'\xef\xbb\xbf{"t": "one"}\n{"t": "two"}\n')
    assert texts_of("-", format="jsonl", field="t") == ["one", "two"]


def test_standard_input_that_is_closed_or_asked_for_twice_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="standard input, is given twice: it can be read once"):
        Rows(["-", TextList(TEXTS), "-"])
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ValueError, match="standard input is closed: give a file, or texts as arguments"):
        texts_of("-")


def test_an_option_that_no_input_has_a_use_for_is_refused(tmp_path):
    lines = write(tmp_path / "a.txt", "one\n")
    objects = write(tmp_path / "a.jsonl", '{"body": "two"}\n')
    for inputs in ([lines], [TextList(TEXTS)], [lines, TextList(TEXTS)]):
        with pytest.raises(ValueError, match="--field body: in these inputs a row has no fields"):
            Rows(inputs, field="body")
    assert texts_of(lines, objects, field="body") == ["one", "two"]
    with pytest.raises(ValueError, match="--format jsonl: no input is a file: leave it out"):
        Rows([TextList(TEXTS)], format="jsonl")


def test_the_real_sts_file_is_read(shared):
    rows = list(Rows([shared / "sts" / "sts-dev.csv"], format="tsv", field="6"))
    assert len(rows) == 1500
    assert all(row.text for row in rows)


BAD = [
    ("a.txt", b"fine\nb\xffad\n", "line 2: not UTF-8 from byte 1 of the line"),
    ("a.jsonl", b'{"text": "x"}\n{"text": "x"\n', "line 2: not JSON"),
    ("a.jsonl", b'{"text": "x"}\n[1]\n', "line 2: JSON, but a list, expected an object"),
    ("a.jsonl", b'{"text": "x"}\n{"txt": "x"}\n', "line 2: no field 'text', but 'txt': choose one with --field"),
    ("a.jsonl", b'{"text": "x"}\n{"text": null}\n', "line 2: field 'text' is null, expected a string"),
    ("a.jsonl", b'{"text": "x"}\n{"text": 7}\n', "line 2: field 'text' is 7, expected a string"),
    ("a.jsonl", b'{"text": "x"}\n{"text": "\\ud83d"}\n', r"line 2: half a character \('\\ud83d'\) at character 0"),
    ("a.jsonl", b'{"text": "x"}\n{"n": ' + b"7" * 4301 + b', "text": "x"}\n', "line 2: not JSON: Exceeds the limit"),
    ("a.jsonl", b'{"text": "x"}\n' + b"[" * 99999 + b"\n", "line 2: not JSON"),
    ("a.jsonl", b'{"text": "x"}\n{"text": "x", "embedding": 1}\n', "line 2: a field 'embedding' is there already"),
    ("a.csv", b"id,text\n1,x\n2\n", "line 3: 1 columns, and the text is in column 2"),
    ("a.csv", b"id,text\n1,x\n2,y,z\n", "line 3: 3 columns, and the header names 2"),
    ("a.csv", b"id,text\n1,x\n2,\xff\n", "line 3: not UTF-8"),
    ("a.csv", b'id,text\n1,x\n2,"never\n3,"closed"\n', r"line 4: not a row of a table \(it begins in line 3\): ',' ex"),
    ("a.csv", b'id,text\n1,x\n2,"say \\"this\\""\n', "line 3: not a row of a table: ',' expected after '\"'"),
    ("a.csv", b'id,text\n1,x\n2,"' + b"y" * (1 << 24) + b'y"\n', "line 3: not a row of a table: field larger"),
]


@pytest.mark.parametrize(("name", "data", "message"), BAD)
def test_a_bad_row_is_named_with_file_line_and_cause_or_skipped(tmp_path, name, data, message):
    more = b'{"text": "after"}\n' if name == "a.jsonl" else b"9,after\n" if name == "a.csv" else b"after\n"
    path = write(tmp_path / name, data + more)
    with pytest.raises(BadRow, match=f"{name}, {message}"):
        texts_of(path)
    rows = list(Rows([path], skip_bad=True))
    assert [row.text for row in rows[1:]] == [None, "after"]
    assert rows[1].cause
    assert rows[1].line == int(message.split(":")[0].split()[1])


@pytest.mark.parametrize("cut", [8, -9, -4])
def test_a_gzip_file_that_is_cut_or_broken_says_so(tmp_path, cut):
    lines = "".join(f"{random.Random(n).random()}\n" for n in range(1000)).encode()
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(lines)[:cut])
    with pytest.raises(ValueError, match=r"a\.txt\.gz, after line [\d,]+: the gzip file is broken or cut"):
        texts_of(tmp_path / "a.txt.gz")


def test_wrong_inputs_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ValueError, match=r"a\.doc: expected a name that ends in \.txt, \.jsonl"):
        Rows([tmp_path / "a.doc"])
    with pytest.raises(FileNotFoundError, match=r"a\.txt: there is no such file"):
        Rows([tmp_path / "a.txt"])
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder, expected a file"):
        Rows([tmp_path / "folder.txt"])
    with pytest.raises(ValueError, match="must be a file, and not gzipped"):
        Rows(["-"], format="parquet")


def test_a_line_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("numroberta.corpus.lines.LONGEST_LINE", 1000)
    with pytest.raises(ValueError, match=r"a\.txt, line 2: longer than"):
        texts_of(write(tmp_path / "a.txt", "short\n" + "long" * 1000))


def test_reading_goes_on_after_any_row_of_any_file(tmp_path):
    pytest.importorskip("pyarrow")
    inputs = [*files_with(tmp_path, TEXTS), TextList(TEXTS)]
    whole = list(Rows(inputs))
    rows = Rows(inputs)
    bookmarks = [rows.bookmark for _ in rows]
    for number, bookmark in enumerate(bookmarks, start=1):
        again = Rows(inputs)
        again.go_to(bookmark)
        assert list(again) == whole[number:]
        assert again.bookmark == rows.bookmark


def test_a_changed_past_is_noticed_and_a_changed_future_is_read(tmp_path):
    path = write(tmp_path / "a.txt", "one\ntwo\nthree\n")
    rows = Rows([path])
    bookmarks = [rows.bookmark for _ in rows]
    write(path, "one\ntwo\nmended\nand more\n")
    assert texts_of(path, behind=bookmarks[1]) == ["mended", "and more"]
    write(path, "one\nTWO\nthree\n")
    with pytest.raises(ValueError, match="the part that had been embedded has changed"):
        texts_of(path, behind=bookmarks[1])
    write(path, "one\n")
    with pytest.raises(ValueError, match="shorter than it was"):
        texts_of(path, behind=bookmarks[1])


def test_a_file_that_was_finished_and_grew_is_noticed_when_the_next_one_had_begun(tmp_path):
    first, second = write(tmp_path / "a.txt", "one\n"), write(tmp_path / "b.txt", "two\nthree\n")
    rows = Rows([first, second])
    bookmarks = [rows.bookmark for _ in rows]
    write(first, "one\nmore\n")
    with pytest.raises(ValueError, match="has changed"):
        texts_of(first, second, behind=bookmarks[1])
    assert texts_of(first, second, behind=bookmarks[0]) == ["more", "two", "three"]


def test_rows_that_move_from_one_file_to_the_next_are_noticed_though_the_bytes_are_the_same(tmp_path):
    paths = [tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]
    for path, data in zip(paths, ("one", "two\n", "three\nfour\n"), strict=True):
        write(path, data)
    rows = Rows(paths)
    bookmarks = [rows.bookmark for _ in rows]
    for path, data in zip(paths, ("onetwo\n", "", "three\nfour\n"), strict=True):
        write(path, data)
    with pytest.raises(ValueError, match="has changed"):
        texts_of(*paths, behind=bookmarks[2])


def test_listed_texts_that_are_cut_elsewhere_are_noticed(tmp_path):
    rows = Rows([TextList(["ab", "c", "d"])])
    bookmarks = [rows.bookmark for _ in rows]
    with pytest.raises(ValueError, match="has changed"):
        texts_of(TextList(["a", "bc", "d"]), behind=bookmarks[1])
    assert texts_of(TextList(["ab", "c", "e"]), behind=bookmarks[1]) == ["e"]


def test_a_last_line_that_goes_on_later_is_noticed(tmp_path):
    path = write(tmp_path / "a.txt", "one\ntwo")
    rows = Rows([path])
    bookmarks = [rows.bookmark for _ in rows]
    write(path, "one\ntwo and more\n")
    with pytest.raises(ValueError, match="its last line, which had been embedded, goes on"):
        texts_of(path, behind=bookmarks[-1])


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"))), st.data())
def test_any_texts_come_back_from_jsonl_and_from_any_row_on(tmp_path_factory, texts, data):
    path = tmp_path_factory.mktemp("rows") / "a.jsonl"
    write(path, "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts))
    rows = Rows([path])
    read = [(row.text, rows.bookmark) for row in rows]
    assert [text for text, _ in read] == texts
    if texts:
        number = data.draw(st.integers(0, len(texts) - 1))
        assert texts_of(path, behind=read[number][1]) == texts[number + 1 :]
