"""Files in, vectors out, nothing lost: formats, interruptions at any byte, bad rows, full disks, and what is said."""

import errno
import gzip
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import random_model
from hypothesis import given, settings, strategies as st

import numroberta
from numroberta import cli
from numroberta.corpus import job, meter, resumable_file
from numroberta.corpus.job import Job, embed_files, remarks, run_job
from numroberta.corpus.meter import Meter
from numroberta.corpus.resumable_file import Growing
from numroberta.corpus.rows import Rows
from numroberta.model import blocks, vectors

LONG = "the inner sand and " * 40
SUFFIXES = [".npy", ".jsonl", ".jsonl.gz", ".parquet"]


@pytest.fixture(scope="session")
def exact(small_folder):
    return numroberta.load(small_folder, deterministic=True, num_threads=1)


@pytest.fixture
def short_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 4)


@pytest.fixture
def texts(tmp_path):
    """30 rows as .jsonl, with another field each; one text twice in a window."""
    path = tmp_path / "texts.jsonl"
    lines = [json.dumps({"id": n, "text": f"the sand {n // 2} 🙂"}, ensure_ascii=False) for n in range(30)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def needs(suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")


def left_behind(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.endswith((".partial", ".journal", ".sealed")))


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


# --- What is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_npy_holds_the_bytes_that_np_save_writes(exact, texts, tmp_path, short_blocks, dtype):
    embed_files(exact, [texts], tmp_path / "out.npy", dtype=dtype)
    wanted = exact.encode([json.loads(line)["text"] for line in texts.open(encoding="utf-8")])
    np.save(tmp_path / "wanted.npy", wanted.astype(dtype))
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "wanted.npy").read_bytes()
    mapped = np.load(tmp_path / "out.npy", mmap_mode="r")
    assert (mapped.shape, mapped.dtype) == ((30, 24), dtype)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_jsonl_keeps_each_object_as_it_was_written_and_every_bit_of_the_vector(exact, tmp_path, suffix, dtype):
    lines = ['{"text":"the sand",  "big":12345678901234567890, "x":1.10, "x":2}', '{ "text" : "an \\u00e9"\t}  ']
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    embed_files(exact, [tmp_path / "in.jsonl"], tmp_path / f"out{suffix}", dtype=dtype)
    data = (tmp_path / f"out{suffix}").read_bytes()
    written = (gzip.decompress(data) if suffix == ".jsonl.gz" else data).decode().splitlines()
    assert written[0].startswith('{"text":"the sand",  "big":12345678901234567890, "x":1.10, "x":2, "embedding": [')
    assert written[1].startswith('{ "text" : "an \\u00e9", "embedding": [')
    vectors = np.array([json.loads(line)["embedding"] for line in written], dtype)
    np.testing.assert_array_equal(vectors, exact.encode(["the sand", "an é"]).astype(dtype))


def test_parquet_has_the_columns_of_the_input_and_the_vectors(exact, texts, tmp_path, short_blocks):
    parquet = pytest.importorskip("pyarrow.parquet")
    embed_files(exact, [texts], tmp_path / "out.parquet", dtype="float16")
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column_names == ["id", "text", "embedding"]
    assert table["id"].to_pylist() == list(range(30))
    wanted = exact.encode(table["text"].to_pylist()).astype(np.float16)
    np.testing.assert_array_equal(np.stack(table["embedding"].to_numpy()), wanted)
    # and a .parquet file's own types stay
    embed_files(exact, [tmp_path / "out.parquet"], tmp_path / "again.npy", dtype="float16")
    np.testing.assert_array_equal(np.load(tmp_path / "again.npy"), wanted)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_input_gives_an_empty_file(exact, tmp_path, suffix):
    needs(suffix)
    (tmp_path / "in.txt").write_text("")
    assert embed_files(exact, [tmp_path / "in.txt"], tmp_path / f"out{suffix}").texts == 0
    if suffix == ".npy":
        assert np.load(tmp_path / "out.npy").shape == (0, 24)
    assert left_behind(tmp_path) == []


def test_texts_on_the_command_line_and_standard_input_go_through_the_same_writer(tmp_path, small_folder, small):
    output = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "numroberta", "embed", "one\nline", "-", "-o", output, "--model", small_folder]
    done = subprocess.run(command, input="two\nthree\n", text=True, capture_output=True, check=True)
    rows = [json.loads(line) for line in output.open()]
    assert [row["text"] for row in rows] == ["one\nline", "two", "three"]
    np.testing.assert_allclose(
        [row["embedding"] for row in rows],
        small.encode(["one\nline", "two", "three"]),
        rtol=0,
        atol=1e-6,  # measured: 5.0e-9
    )
    assert done.stdout.startswith("3 texts, ")


def test_long_texts_are_truncated_split_or_refused_and_counted(exact, tmp_path):
    source = tmp_path / "in.txt"
    source.write_text(f"the sand\n{LONG}\n")
    cut = embed_files(exact, [source], tmp_path / "cut.npy")
    assert (cut.long, cut.left_out) == (1, len(exact.tokenizer(LONG.rstrip(), truncation=False)) - 64 + 1)
    split = embed_files(exact, [source], tmp_path / "split.npy", long="split")
    assert (split.long, split.left_out) == (1, 0)
    wanted = np.concatenate(list(exact.encode_stream(["the sand", LONG], long="split")))
    np.testing.assert_array_equal(np.load(tmp_path / "split.npy"), wanted)
    with pytest.raises(ValueError, match=r"in\.txt, line 2: the text has \d+ tokens, and 64 fit"):
        embed_files(exact, [source], tmp_path / "error.npy", long="error")
    skipped = embed_files(exact, [source], tmp_path / "error.npy", long="error", errors="skip", resume=True)
    assert (skipped.texts, skipped.skipped, skipped.long) == (2, 1, 0)
    assert not np.load(tmp_path / "error.npy")[1].any()


# --- Bad rows ---------------------------------------------------------------------------------------------------------

BROKEN = [b'{"text": "row 0"}', b"no json", b'{"text": null, "id": 2}', b'{"text": "b\xff"}', b'{"text": "row 4"}']


def test_a_bad_row_stops_and_what_was_before_it_is_kept_until_the_row_is_mended(exact, tmp_path, short_blocks):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.npy"
    rows = [b'{"text": "row %d"}' % n for n in range(10)]
    source.write_bytes(b"\n".join([*rows[:6], b'{"text": 7}', *rows[7:]]))
    with pytest.raises(ValueError, match=r"in\.jsonl, line 7: field 'text' is 7, expected a string"):
        embed_files(exact, [source], output)
    assert not output.exists()
    source.write_bytes(b"\n".join(rows))
    done = embed_files(exact, [source], output, resume=True)
    assert (done.texts, done.resumed) == (10, 4)
    np.testing.assert_array_equal(np.load(output), exact.encode([f"row {n}" for n in range(10)]))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_skipped_rows_have_zero_vectors_and_a_list(exact, tmp_path, short_blocks, suffix):
    needs(suffix)
    source, output = tmp_path / "in.jsonl", tmp_path / f"out{suffix}"
    source.write_bytes(b"\n".join(BROKEN))
    said = []
    done = embed_files(exact, [source], output, errors="skip", log=said.append)
    assert (done.texts, done.skipped) == (5, 3)
    listed = [json.loads(line) for line in done.skipped_list.open()]
    assert [(row["row"], row["line"]) for row in listed] == [(1, 2), (2, 3), (3, 4)]
    assert [line.split(": ")[1] for line in said] == [
        "not JSON",
        "field 'text' is null, expected a string",
        "not UTF-8 from byte 11 of the line",
    ]
    if suffix == ".npy":
        vectors = np.load(output)
    elif suffix == ".parquet":
        import pyarrow.parquet

        vectors = np.stack(pyarrow.parquet.read_table(output)["embedding"].to_numpy())
    else:
        data = gzip.decompress(output.read_bytes()) if suffix.endswith("gz") else output.read_bytes()
        written = [json.loads(line) for line in data.splitlines()]
        vectors = np.array([row["embedding"] for row in written], np.float32)
        assert written[2]["id"] == 2
        assert written[1]["error"].startswith("not JSON")
    np.testing.assert_array_equal(vectors[[0, 4]], exact.encode(["row 0", "row 4"]))
    assert not vectors[1:4].any()


def test_a_list_of_skipped_rows_goes_when_its_output_is_replaced(exact, tmp_path):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.npy"
    source.write_bytes(b"\n".join(BROKEN))
    listed = embed_files(exact, [source], output, errors="skip").skipped_list
    source.write_bytes(BROKEN[0])
    assert embed_files(exact, [source], output, overwrite=True).skipped_list is None
    assert not listed.exists()


# --- Interruptions ----------------------------------------------------------------------------------------------------


class Died(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])  # .jsonl takes the steps of .npy
def test_dying_before_or_after_any_step_on_the_disk_loses_nothing(
    exact, texts, tmp_path, short_blocks, suffix, monkeypatch
):
    """Each sync, rename, removal and opening in turn is the last thing that a run does; then another is resumed."""
    needs(suffix)
    texts.write_text("".join(texts.read_text(encoding="utf-8").splitlines(keepends=True)[:10]), encoding="utf-8")
    embed_files(exact, [texts], tmp_path / f"whole{suffix}")
    expected = (tmp_path / f"whole{suffix}").read_bytes()
    steps = [(resumable_file.os, "fsync"), (Path, "replace"), (Path, "unlink"), (Path, "open")]
    deaths = 0
    for before in (True, False):
        for last in range(1000):
            folder = tmp_path / f"{before}{last}"
            folder.mkdir()
            count = 0

            def dying(real, before=before, last=last):
                def step(*arguments, **options):
                    nonlocal count
                    count += 1
                    if count - 1 > last or (count - 1 == last and before):
                        raise Died  # and who is dead takes no further step
                    result = real(*arguments, **options)
                    if count - 1 == last:
                        raise Died
                    return result

                return step

            with monkeypatch.context() as patch:
                for owner, name in steps:
                    patch.setattr(owner, name, dying(getattr(owner, name)))
                try:
                    embed_files(exact, [texts], folder / f"out{suffix}")
                except Died:
                    deaths += 1
                else:
                    break
            final = folder / f"out{suffix}"
            assert not final.exists() or final.read_bytes() == expected
            embed_files(exact, [texts], final, resume=True)
            assert final.read_bytes() == expected
            assert left_behind(folder) == []
    assert deaths > 20


@pytest.fixture(scope="session", params=[".npy", ".jsonl.gz"])
def unfinished(request, exact, tmp_path_factory):
    """A job that is all but finished: its input, output's name, partial file, journal, and what it should end in."""
    folder = tmp_path_factory.mktemp("unfinished")
    source, whole, output = folder / "in.txt", folder / f"whole{request.param}", folder / f"out{request.param}"
    source.write_text("the sand\nan inner thing\nand\n" * 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", 4)
        embed_files(exact, [source], whole)
        patch.setattr(Growing, "finish", lambda *_: None)
        embed_files(exact, [source], output)
    partial, journal = resumable_file.partial_of(output).read_bytes(), resumable_file.journal_of(output).read_bytes()
    return source, output, partial, journal, whole.read_bytes()


@settings(max_examples=30)
@given(listed=st.floats(0, 1), more=st.floats(0, 1), noise=st.binary(max_size=20))
def test_half_written_blocks_and_journal_lines_are_made_again(exact, unfinished, listed, more, noise):
    """What a power cut may leave: the journal up to any byte, and of what it does not tell, anything."""
    source, output, partial, journal, whole = unfinished
    kept = journal[: round(listed * len(journal))]
    lines = [json.loads(line) for line in kept.splitlines(keepends=True)[1:] if line.endswith(b"\n")]
    least = lines[-1]["bytes"] if lines else 0
    output.unlink(missing_ok=True)
    resumable_file.journal_of(output).write_bytes(kept)
    resumable_file.partial_of(output).write_bytes(partial[: least + round(more * (len(partial) - least))] + noise)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", 4)
        embed_files(exact, [source], output, resume=True)
    assert output.read_bytes() == whole
    assert left_behind(output.parent) == []


RUN = """
import sys
from numroberta import cli
from numroberta.model import blocks
blocks.BLOCK = 16
sys.exit(cli.main())
"""


@pytest.mark.slow
def test_a_job_killed_again_and_again_ends_in_the_same_bytes(tmp_path):
    """SIGKILL from outside, at random moments; `scripts/benchmarks/kill_corpus.py` does it a hundred times."""
    model = random_model.write(tmp_path / "model", hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    source, whole, output = tmp_path / "in.txt", tmp_path / "whole.npy", tmp_path / "out.npy"
    source.write_text("".join(f"the sand {n} and an inner thing\n" for n in range(1000)))
    command = [
        sys.executable,
        "-c",
        RUN,
        "embed",
        "-f",
        str(source),
        "--model",
        str(model),
        "--deterministic",
        "-q",
        "-o",
    ]
    began = time.monotonic()
    subprocess.run([*command, str(whole)], check=True)
    took = time.monotonic() - began
    chance, kills = random.Random(7), 0
    for _ in range(60):
        process = subprocess.Popen([*command, str(output), "--resume"])
        try:
            assert process.wait(chance.uniform(0.3, 1.0) * took if kills < 8 else None) == 0
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    assert kills
    assert output.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_end_in_a_sentence_and_can_be_resumed(tmp_path, small_folder, number, code):
    source, output = tmp_path / "in.txt", tmp_path / "out.npy"
    source.write_text("".join(f"the sand {n}\n" for n in range(200_000)))
    command = [sys.executable, "-c", RUN, "embed", "-f", str(source), "-o", str(output), "--model", str(small_folder)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    journal = resumable_file.journal_of(output)
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 3):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == code
    assert said.splitlines()[0] == "numroberta: interrupted"
    assert "texts safe: the same command with --resume goes on" in said
    assert len(said.splitlines()) == 2
    assert not output.exists()
    done = json.loads(journal.read_bytes().splitlines()[-1])["note"]["summary"]["texts"]
    safe = int(re.search(r"([\d,]+) texts safe", said)[1].replace(",", ""))
    assert safe in (done, done - 16)  # one block less where the signal came between its journal line and its report
    source.write_text("".join(f"the sand {n}\n" for n in range(done + 40)))  # the rest was not read: it may change
    assert run("embed", "-f", source, "-o", output, "--model", small_folder, "--resume", "-q") == 0
    assert np.load(output).shape == (done + 40, 24)


def test_a_job_that_stopped_at_a_bad_line_of_standard_input_says_what_resume_needs(
    tmp_path, small_folder, short_blocks, monkeypatch, capsys
):
    lines = b"".join(b"the sand %d\n" % n for n in range(200)) + b"\xff\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert run("embed", "-f", "-", "-o", tmp_path / "out.npy", "--model", small_folder) == 2
    goes_on = "texts safe: the same command with --resume goes on"
    assert f"{goes_on}, with the same input from its beginning" in capsys.readouterr().err
    (tmp_path / "in.txt").write_bytes(lines)
    assert run("embed", "-f", tmp_path / "in.txt", "-o", tmp_path / "other.npy", "--model", small_folder) == 2
    said = capsys.readouterr().err
    assert goes_on in said
    assert "beginning" not in said


def test_the_seconds_of_a_resumed_job_are_those_of_all_its_runs(exact, texts, tmp_path, short_blocks, monkeypatch):
    """Else its tokens per second would be those of a machine that never was."""
    clock = iter(range(0, 100_000, 10))
    monkeypatch.setattr(job.time, "monotonic", lambda: next(clock))
    with pytest.raises(Died):
        embed_files(exact, [texts], tmp_path / "out.npy", report=_die_after(5))  # four blocks of ten seconds
    assert embed_files(exact, [texts], tmp_path / "out.npy", resume=True).seconds == 80  # and four more


def test_packed_output_has_the_same_bytes_whenever_it_is_made(exact, texts, tmp_path, monkeypatch):
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        monkeypatch.setattr(gzip.time, "time", lambda name=name: ord(name[0]) * 1e6)
        embed_files(exact, [texts], tmp_path / name)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_a_changed_model_option_or_input_is_named_and_errors_may_change(exact, texts, tmp_path, short_blocks):
    output = tmp_path / "out.npy"
    with pytest.raises(Died):
        embed_files(exact, [texts], output, report=_die_after(2))
    with pytest.raises(ValueError, match="cannot be resumed: pooling was \"the model's\" and is 'cls'"):
        embed_files(exact, [texts], output, pooling="cls", resume=True)
    other = numroberta.load(random_model.write(tmp_path / "other", seed=5), deterministic=True, num_threads=1)
    with pytest.raises(ValueError, match=r"cannot be resumed: model was 'small0 .* and is 'other "):
        embed_files(other, [texts], output, resume=True)
    lines = texts.read_bytes()
    texts.write_bytes(lines.replace(b"sand 0", b"sand 9"))
    with pytest.raises(ValueError, match="the input is not what it was"):
        embed_files(exact, [texts], output, resume=True)
    texts.write_bytes(lines)
    assert embed_files(exact, [texts], output, resume=True, errors="skip").resumed == 4


def _die_after(calls):
    left = [calls]

    def report(*_):
        left[0] -= 1
        if not left[0]:
            raise Died

    return report


def test_a_finished_file_is_left_alone_by_resume_and_refused_without(exact, texts, tmp_path, small_folder, capsys):
    output = tmp_path / "out.npy"
    embed_files(exact, [texts], output)
    before = output.stat()
    with pytest.raises(FileExistsError, match=r"out\.npy is there already: --overwrite replaces it"):
        embed_files(exact, [texts], output)
    assert run("embed", "-f", texts, "-o", output, "--model", small_folder, "--resume") == 0
    assert "is left as it is: no run of it is unfinished" in capsys.readouterr().out
    assert output.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(Died):
        embed_files(exact, [texts], output, overwrite=True, pooling="cls", report=_die_after(2))
    assert output.stat().st_mtime_ns == before.st_mtime_ns  # the old one stays until the new one is complete
    with pytest.raises(FileExistsError, match="has been begun by an earlier run: --resume goes on"):
        embed_files(exact, [texts], output)
    embed_files(exact, [texts], output, pooling="cls", resume=True)
    np.testing.assert_array_equal(np.load(output)[0], exact.encode("the sand 0 🙂", pooling="cls"))


# --- What the machine may refuse --------------------------------------------------------------------------------------


def test_a_full_disk_is_one_sentence_and_can_be_resumed(exact, texts, tmp_path, short_blocks, monkeypatch):
    output = tmp_path / "out.npy"
    real, calls = os.fsync, []

    def full(number):
        calls.append(number)
        if len(calls) == 9:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(number)

    with monkeypatch.context() as patch:
        patch.setattr(resumable_file.os, "fsync", full)
        with pytest.raises(OSError, match=r"out\.npy\.partial: No space left on device: mend that, then --resume"):
            embed_files(exact, [texts], output)
    assert not output.exists()
    assert embed_files(exact, [texts], output, resume=True).resumed > 0


@pytest.mark.parametrize("name", ["out.npy.partial", "out.npy.journal"])
def test_a_place_where_nothing_can_be_made_says_so_and_speaks_of_no_resuming(exact, texts, tmp_path, monkeypatch, name):
    """As /proc does, whose folder says that it can be written to."""
    real = resumable_file._unbuffered

    def refused(path, mode):
        if path.name == name:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return real(path, mode)

    monkeypatch.setattr(resumable_file, "_unbuffered", refused)
    with pytest.raises(OSError, match=f"cannot write {name} in .*: No such file or directory: mend that") as told:
        embed_files(exact, [texts], tmp_path / "out.npy")
    assert "resume" not in str(told.value)
    assert left_behind(tmp_path) == []


def test_a_file_size_limit_met_in_the_middle_of_a_block_loses_nothing(tmp_path, small_folder):
    """The kernel itself refuses a write half-way: RLIMIT_FSIZE."""
    resource = pytest.importorskip("resource")
    source, output = tmp_path / "in.txt", tmp_path / "out.npy"
    source.write_text("".join(f"the sand {n}\n" for n in range(100)))
    command = [
        sys.executable,
        "-c",
        RUN,
        "embed",
        "-f",
        source,
        "-o",
        output,
        "--model",
        small_folder,
        "--deterministic",
    ]

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    done = subprocess.run(command, preexec_fn=limited, capture_output=True, text=True)
    assert done.returncode == 2
    assert "out.npy.partial: File too large: mend that, then --resume goes on" in done.stderr
    assert "48 texts safe" in done.stderr
    assert not output.exists()
    subprocess.run([*command, "--resume"], check=True, capture_output=True)
    assert run("embed", "-f", source, "-o", tmp_path / "b.npy", "--model", small_folder, "--deterministic", "-q") == 0
    assert output.read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_places_that_cannot_be_written_are_refused_before_the_model_is_loaded(texts, tmp_path, capsys):
    no_model = ["--model", tmp_path / "no-such-model"]

    def refused(output, *options):
        assert run("embed", "-f", texts, "-o", output, *no_model, *options) == 2
        return capsys.readouterr().err

    assert "there is no folder" in refused(tmp_path / "nowhere" / "out.npy")
    assert "expected a name that ends in .npy, .jsonl" in refused(tmp_path / "out.csv")
    assert "is the input and the output" in refused(texts, "--overwrite")
    (tmp_path / "folder.npy").mkdir()
    assert "is there, and no plain file" in refused(tmp_path / "folder.npy", "--overwrite")
    assert run("embed", "-f", tmp_path / "none.txt", "-o", tmp_path / "out.npy", *no_model) == 2
    assert "none.txt: there is no such file" in capsys.readouterr().err
    assert run("embed", "-f", texts) == 2
    assert "expected -o OUT" in capsys.readouterr().err
    assert run("embed", "-f", texts, "-o", tmp_path / "out.npy", *no_model) == 2
    assert left_behind(tmp_path) == []


def test_a_folder_without_write_permission_is_refused(exact, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(
        resumable_file.os, "access", lambda *_: False
    )  # root, as which tests may run, may write anywhere
    with pytest.raises(PermissionError, match="cannot be written to"):
        embed_files(exact, [texts], tmp_path / "out.npy")


# --- What is said -----------------------------------------------------------------------------------------------------


def test_the_summary_counts_and_quiet_says_nothing(tmp_path, small_folder, capsys):
    source = tmp_path / "in.txt"
    source.write_text(f"the sand\n{LONG}\n" + "b\n" * 20)
    run_it = ["embed", "-f", source, "--model", small_folder, "-o"]
    assert run(*run_it, tmp_path / "a.npy") == 0
    said = capsys.readouterr()
    assert said.out.startswith("22 texts, ")
    assert "1 long text truncated" in said.out
    assert "--long split reads all" in said.out
    assert said.err == ""
    assert run(*run_it, tmp_path / "b.npy", "-q") == 0
    assert capsys.readouterr() == ("", "")


def test_a_bad_row_comes_with_what_to_do(tmp_path, small_folder, capsys):
    (tmp_path / "in.txt").write_bytes(b"the sand\n\xff\n")
    assert run("embed", "-f", tmp_path / "in.txt", "-o", tmp_path / "out.npy", "--model", small_folder) == 2
    said = capsys.readouterr().err
    assert "in.txt, line 2: not UTF-8 from byte 0 of the line" in said
    assert "mend it, or leave such rows out with --errors skip" in said


def test_many_skipped_rows_are_named_ten_times_only(tmp_path, small_folder, capsys):
    source = tmp_path / "in.jsonl"
    source.write_text("broken\n" * 30)
    assert run("embed", "-f", source, "-o", tmp_path / "a.npy", "--model", small_folder, "--errors", "skip") == 0
    said = capsys.readouterr()
    *named, last = said.err.splitlines()
    assert len(named) == 11
    assert last == "numroberta: no row was left: 30 of 30 skipped; is the file of another kind?"
    assert "30 rows skipped, with a zero vector each" in said.out
    assert len((tmp_path / "a.npy.skipped.jsonl").read_text().splitlines()) == 30


def test_a_resumed_run_reports_first_what_earlier_runs_have_done(exact, texts, tmp_path, short_blocks):
    reports = []
    with pytest.raises(Died):
        embed_files(exact, [texts], tmp_path / "out.npy", report=_die_after(3))
    embed_files(exact, [texts], tmp_path / "out.npy", resume=True, report=reports.append)
    size = texts.stat().st_size
    assert reports[0].texts == 8
    assert 0 < reports[0].bytes_read < size
    assert reports[0].tokens > 0
    assert reports[1].texts == 12
    assert reports[-1][0] == 30
    assert {report.bytes for report in reports} == {size}


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.txt", "the sand\n\n\nthe sea\n", "2 of 4 texts are empty: {}, lines 2, 3"),
        ("a.tsv", "n\ttext\n1\tthe sand\n2\t\n", "1 of 2 texts is empty: {}, line 3"),
        ("a.jsonl", '{"text": ""}\n\n' * 7, "7 of 7 texts are empty: {}, lines 1, 3, 5, 7, 9, …"),
    ],
)
def test_empty_texts_are_embedded_as_no_words_and_counted_at_the_end(
    tmp_path, small_folder, small, capsys, name, data, said
):
    source, output = tmp_path / name, tmp_path / "out.npy"
    source.write_text(data)
    for way in (["-o", output], ["--jsonl"]):
        assert run("embed", "-f", source, "--model", small_folder, *way) == 0
        assert capsys.readouterr().err == f"numroberta: {said.format(source)}\n"
    numbers = [row for row, text in enumerate(text.text for text in Rows([source])) if not text]
    nothing = small.vectors([small.tokenizer("").ids])[0]
    np.testing.assert_allclose(np.load(output)[numbers], [nothing] * len(numbers), rtol=0, atol=1e-6)


def test_empty_texts_of_a_resumed_run_are_those_of_all_its_runs(exact, tmp_path, short_blocks):
    source = tmp_path / "in.txt"
    source.write_text("a\n\nb\nc\nd\n\ne\nf\ng\n")
    with pytest.raises(Died):
        embed_files(exact, [source], tmp_path / "out.npy", report=_die_after(2))
    summary = embed_files(exact, [source], tmp_path / "out.npy", resume=True)
    assert list(remarks(summary)) == [f"2 of 9 texts are empty: {source}, lines 2, 6"]


def test_ctrl_c_in_the_first_block_says_that_nothing_is_left(tmp_path, small_folder, monkeypatch, capsys):
    source = tmp_path / "in.txt"
    source.write_text("the sand\n" * 1100)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(vectors, "_pooled", interrupted)
    command = ["embed", "-f", source, "-o", tmp_path / "out.npy", "--model", small_folder]
    nothing = "nothing is left, start again\n"
    assert run(*command) == 130
    assert capsys.readouterr().err == f"numroberta: interrupted before the first 1,024 texts were safe: {nothing}"
    source.write_text("the sand\n" * 5)
    assert run(*command) == 130
    assert capsys.readouterr().err == f"numroberta: interrupted before the first 5 texts were safe: {nothing}"
    assert os.listdir(tmp_path) == ["in.txt"]


def test_what_cannot_be_resumed_is_not_said_to_go_on_with_resume(
    exact, texts, tmp_path, short_blocks, small_folder, capsys
):
    with pytest.raises(Died):
        embed_files(exact, [texts], tmp_path / "out.npy", report=_die_after(3))
    again = ["embed", "-f", texts, "-o", tmp_path / "out.npy", "--model", small_folder, "--resume", "--normalize"]
    assert run(*again) == 2
    assert "goes on" not in capsys.readouterr().err


def test_ctrl_c_before_a_resumed_job_goes_on_says_that_it_still_can(
    exact, texts, tmp_path, short_blocks, small_folder, monkeypatch, capsys
):
    with pytest.raises(Died):
        embed_files(exact, [texts], tmp_path / "out.npy", report=_die_after(3))

    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("numroberta.cli.embed.load_model", interrupted)
    assert run("embed", "-f", texts, "-o", tmp_path / "out.npy", "--model", small_folder, "--resume") == 130
    kept = "what is done is kept: the same command with --resume goes on"
    assert capsys.readouterr().err == f"numroberta: interrupted\nnumroberta: {kept}\n"


def test_on_a_terminal_the_bar_moves_on_inside_a_block(exact, texts, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(meter, "REDRAWN", 0.0)
    show = Meter()
    run_job(Job([texts], tmp_path / "out.npy"), exact, report=show, within=show.within)
    show.close()
    drawn = re.findall(r"(\d+)%\|.*?\| (\d+) texts", capsys.readouterr().err)
    assert [drawn[0], drawn[-1]] == [("0", "0"), ("100", "30")]
    assert len(set(drawn)) > 10  # of one block
    assert all(abs(int(percent) - int(done) / 30 * 100) <= 2 for percent, done in drawn)


def test_without_a_terminal_nothing_is_said_inside_a_block(exact, texts, tmp_path, capsys):
    show = Meter()
    run_job(Job([texts], tmp_path / "out.npy"), exact, report=show, within=show.within)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_a_bar_is_drawn(exact, texts, tmp_path, short_blocks, monkeypatch, capsys):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    show = Meter()
    embed_files(exact, [texts], tmp_path / "out.npy", report=show)
    show.close()
    said = capsys.readouterr().err
    assert "100%|" in said
    assert "30 texts, " in said
    assert "tokens/s, 00:00 left" in said
