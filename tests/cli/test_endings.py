"""How a command ends: with a sentence and an exit code, whatever becomes of its streams, disk and user."""

import json
import os
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import random_model
from conftest import ROOT

from numroberta.arithmetic import heads
from numroberta.cli import main
from numroberta.cli.endings import interrupted_at_the_end

COMMAND = [sys.executable, "-m", "numroberta"]
posix = pytest.mark.skipif(os.name == "nt", reason="a shell closes streams otherwise there")


def in_shell(line, folder, **environment):
    """A line of shell in which `numroberta` is this one."""
    function = f'numroberta() {{ "{sys.executable}" -m numroberta "$@"; }}'
    return subprocess.run(
        ["bash", "-c", f"{function}; {line}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        encoding="utf-8",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "--model", "no/such/folder", "the"], "no/such/folder"),
        (["embed", "the", "-o", "vectors.txt"], r"vectors.txt.*\.npy"),
        (["embed", "the", "--pooling", "sum"], "sum"),
        (["embed", "the", "--threads", "0"], "--threads: '0', expected 1 to 1,024"),
        (["embed", "the", "--threads", "100000"], "--threads: '100000', expected 1 to 1,024"),
        (["embed", "the", "--threads", "two"], "--threads: 'two', expected 1 to 1,024"),
        (["embed"], "expected texts"),
        (["sing"], "sing"),
        (["info", "no/such/folder"], "no/such/folder"),
        (["tokenize", "--model", "no/such/folder", "the"], "no/such/folder"),
        (["trace", "the", "-o", "a.npz"], r"a\.npz: expected a name that ends in \.safetensors"),
        (["tag", "the"], "has no head for token classification"),
        (["answer", "Who?", "--context", "She."], "has no head"),
        (["--"], "COMMAND"),
    ],
)
def test_bad_input_ends_with_2_and_a_sentence(command, arguments, message):
    assert re.search(message, command(*arguments, code=2).err)


def test_an_output_that_cannot_be_written_is_a_sentence_and_leaves_nothing(command, tmp_path):
    assert "no folder" in command("embed", "the", "-o", tmp_path / "no folder" / "vectors.npy", code=2).err
    assert os.listdir(tmp_path) == []


def test_a_text_over_the_limit_is_a_warning_on_standard_error(small_folder):
    ended = subprocess.run(
        [*COMMAND, "embed", "--model", str(small_folder), " the" * 100], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 0
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("numroberta: 1 of 1 texts have more than 64 tokens")


# --- Line by line -----------------------------------------------------------------------------------------------------

LINES = b"\xef\xbb\xbfthe <mask> sat\r\nno mask\n\xff <mask>\n<mask> up"


def test_the_line_that_has_no_answer_is_named_and_those_before_it_are_answered(command):
    ended = command("fill-mask", "-", "--top-k", "1", stdin=LINES.replace(b"\xff ", b""), code=None)
    assert ended.err.startswith("numroberta: standard input, line 2: no <mask> in 'no mask'")
    assert [json.loads(line)["text"] for line in ended.out.splitlines()] == ["the <mask> sat"]  # no byte order mark


def test_lines_without_an_answer_are_skipped_where_asked_and_the_rest_is_not_lost(command):
    ended = command("fill-mask", "-", "--top-k", "1", "--errors", "skip", stdin=LINES, code=None)
    assert [json.loads(line)["text"] for line in ended.out.splitlines()] == ["the <mask> sat", "<mask> up"]
    skipped = ended.err.splitlines()
    assert [line.split(": ")[:3] for line in skipped] == [
        ["numroberta", "skipped", "standard input, line 2"],
        ["numroberta", "skipped", "standard input, line 3"],
    ]
    assert "not UTF-8 from byte 0 of the line" in skipped[1]


def test_a_missing_head_is_no_fault_of_a_line(command):
    error = command("tag", "-", "--errors", "skip", stdin="a\nb\n", code=2).err
    assert error.startswith("numroberta: tiny has no head")
    assert error.count("\n") == 1


def test_a_context_from_standard_input_is_read_as_a_file_is(command, tmp_path):
    folder = random_model.write(tmp_path, heads.SPAN)
    given = ("answer", "Who?", "--model", folder, "--context")
    (answer,) = json.loads(command(*given, "-", stdin=b"\xef\xbb\xbfAnna went.\r\nHome.").out)["answers"]
    (same,) = json.loads(command(*given, "Anna went.\r\nHome.").out)["answers"]
    assert answer == pytest.approx(same)
    assert "not UTF-8 from byte 2" in command(*given, "-", stdin=b"ab\xff", code=2).err


# --- Standard streams -------------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_a_job_of_a_daemon_needs_no_standard_streams(closed, small_folder, small, tmp_path):
    line = f'numroberta embed --model "{small_folder}" "the sea" -o vectors.npy {closed}'
    assert in_shell(line, tmp_path).returncode == 0
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), small.encode(["the sea"]), rtol=0, atol=1e-6)
    assert os.listdir(tmp_path) == ["vectors.npy"]


@posix
def test_a_dash_where_standard_input_is_closed_is_a_sentence(tmp_path):
    ended = in_shell("numroberta embed - <&-", tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("numroberta: standard input is closed")


@posix
def test_an_error_is_not_printed_to_standard_output_where_standard_error_is_closed(tmp_path):
    ended = in_shell("numroberta info no/such/folder 2>&-", tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_an_output_whose_disk_is_full_is_one_sentence(tmp_path):
    ended = in_shell("unset PYTHONUNBUFFERED; numroberta embed a > /dev/full", tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == "numroberta: standard output cannot be written: No space left on device\n"


@posix
def test_a_reader_that_has_read_enough_is_no_error(small_folder):
    arguments = [*COMMAND, "tokenize", "--model", str(small_folder), "-"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(arguments, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    process.stdin.write("word " * 50_000)
    process.stdin.close()
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a file's name is text")
def test_a_name_that_no_encoding_can_print_is_no_error(small_folder, tmp_path):
    ended = in_shell(
        f'numroberta embed --model "{small_folder}" "the sea" -o "$(printf "gr\\366\\337e.npy")"', tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    assert r"gr\udcf6\udcdfe.npy" in ended.stdout
    assert os.listdir(os.fsencode(tmp_path)) == [b"gr\xf6\xdfe.npy"]


def test_pipes_are_utf8_whatever_the_locale_says(tmp_path):
    """As on Windows, where the locale's encoding is not UTF-8: "ü" comes in and goes out as it is."""
    ended = in_shell("printf 'ü <mask>' | numroberta fill-mask - --top-k 1", tmp_path, PYTHONIOENCODING="latin-1")
    assert json.loads(ended.stdout)["text"] == "ü <mask>"


# --- Interruptions, and what a computer does not have -----------------------------------------------------------------


def test_ctrl_c_ends_any_command_with_130_and_a_word(command, monkeypatch):
    def interrupt(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("numroberta.cli.info.run_info", interrupt)
    assert command("info", code=130).err == "numroberta: interrupted\n"


def test_ctrl_c_waits_until_numpy_is_imported():
    reached = False

    def import_something():
        nonlocal reached
        with interrupted_at_the_end():
            signal.raise_signal(signal.SIGINT)
            reached = True

    with pytest.raises(KeyboardInterrupt):
        import_something()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_command_can_run_beside_the_main_thread(capsys):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["info"])))
    thread.start()
    thread.join()
    assert codes == [0]


def test_sigterm_means_again_what_it_meant_before_a_job(command, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    command("embed", "the", "-o", tmp_path / "vectors.npy", "-q")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_computer_that_allows_no_more_threads_is_a_sentence(command, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    long = "It rained on the roofs of the town. " * 40  # short texts are computed without further threads
    assert "--threads" in command("embed", long, long, "--threads", "7", code=2).err


def test_too_little_memory_is_a_sentence(command, monkeypatch):
    def run_out(options):
        raise MemoryError

    monkeypatch.setattr("numroberta.cli.info.run_info", run_out)
    assert command("info", code=2).err == "numroberta: not enough memory, try --low-memory\n"
