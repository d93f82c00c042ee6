"""A file that grows: what is on the disk when, what a damaged one ends in, and what stands in its way."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from numroberta.corpus import resumable_file
from numroberta.corpus.resumable_file import Growing, journal_of, partial_of

BLOCKS = [b"the sand\n", b"an inner thing\n" * 3, b"and\n"]
WHOLE = b"".join(BLOCKS)


def grow(path, *, blocks=BLOCKS, finish=True, **options):
    """Make a file of these blocks, or as many of them as are missing; the notes are the blocks' numbers."""
    with Growing(path, {"what": "a test"}, **options) as file:
        if file.complete:
            return
        for number in range((file.note or {"number": -1})["number"] + 1, len(blocks)):
            file.append(blocks[number], {"number": number})
        if finish:
            file.finish(file.partial)


class Disk:
    """The order in which files are synced, renamed and removed."""

    def __init__(self, patch):
        self.steps = []
        fsync, replace, unlink = os.fsync, Path.replace, Path.unlink

        def note_fsync(number):
            self.steps.append(("sync", Path(os.readlink(f"/proc/self/fd/{number}")).name))
            fsync(number)

        def note_replace(path, to):
            self.steps.append(("rename", path.name))
            return replace(path, to)

        def note_unlink(path, missing_ok=False):
            self.steps.append(("remove", path.name))
            unlink(path, missing_ok)

        patch.setattr(resumable_file.os, "fsync", note_fsync)
        patch.setattr(Path, "replace", note_replace)
        patch.setattr(Path, "unlink", note_unlink)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="/proc tells which file a number is")
def test_whatever_a_power_cut_takes_the_name_never_stands_for_less_than_the_whole(tmp_path, monkeypatch):
    """A block is synced before its line in the journal, the sealed file before it is renamed, and the folder, which
    holds the names, after the file was begun and before the journal goes."""
    folder = tmp_path / "folder"
    folder.mkdir()
    disk = Disk(monkeypatch)
    grow(folder / "out")
    block = [("sync", "out.partial"), ("sync", "out.journal")]
    assert disk.steps == [
        ("sync", "folder"),
        ("sync", "out.journal"),
        *block * 3,
        ("sync", "out.partial"),
        ("sync", "out.journal"),
        ("rename", "out.partial"),
        ("sync", "folder"),
        ("remove", "out.partial"),
        ("remove", "out.journal"),
    ]


@pytest.fixture(scope="session", params=["grown", "renamed"])
def interrupted(request, tmp_path_factory):
    """The files of a job that died before it said that it was complete, or right after that."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "renamed":
            patch.setattr(Growing, "_rename", lambda *_: None)
        grow(folder / "out", finish=request.param == "renamed")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=100)
@given(data=st.data())
def test_a_flipped_bit_is_never_believed(interrupted, tmp_path_factory, data):
    """Of a journal or a partial file: the job ends in the right bytes all the same, or says that it cannot go on."""
    folder = tmp_path_factory.mktemp("flipped")
    name = data.draw(st.sampled_from(sorted(interrupted)))
    position = data.draw(st.integers(0, len(interrupted[name]) - 1))
    for other, content in interrupted.items():
        (folder / other).write_bytes(content)
    damaged = bytearray(interrupted[name])
    damaged[position] ^= 1 << data.draw(st.integers(0, 7))
    (folder / name).write_bytes(damaged)
    try:
        grow(folder / "out", resume=True)
    except ValueError:
        with pytest.raises(ValueError, match=r"out\.journal is damaged"):
            grow(folder / "out", resume=True)
        grow(folder / "out", overwrite=True)
    assert (folder / "out").read_bytes() == WHOLE
    assert os.listdir(folder) == ["out"]
    shutil.rmtree(folder)


def test_only_what_is_damaged_and_what_follows_it_is_made_again(tmp_path):
    grow(tmp_path / "out", finish=False)
    partial = bytearray(partial_of(tmp_path / "out").read_bytes())
    partial[len(BLOCKS[0]) + 2] ^= 1
    partial_of(tmp_path / "out").write_bytes(partial)
    with Growing(tmp_path / "out", {"what": "a test"}, resume=True) as file:
        assert file.note == {"number": 0}
        assert file.size == len(BLOCKS[0])


def test_the_head_may_be_written_again_and_is_checked_once_the_file_is_complete(tmp_path):
    """.npy says in its first bytes how many rows there are: they are written last, in place."""
    output = tmp_path / "out"
    grow(output, finish=False, head=4)
    partial_of(output).write_bytes(b"THE " + WHOLE[4:])
    with Growing(output, {"what": "a test"}, resume=True, head=4) as file:
        assert file.note == {"number": 2}
        file.finish(file.partial)
    assert output.read_bytes() == b"THE " + WHOLE[4:]


@pytest.mark.parametrize("name", ["out.partial", "out.partial.sealed"])
def test_a_sealed_file_that_was_damaged_before_it_got_its_name_is_sealed_again(tmp_path, name):
    output, sealed = tmp_path / "out", tmp_path / name

    def seal():
        sealed.write_bytes(b"THE " + WHOLE[4:])
        return sealed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Growing, "_rename", lambda *_: None)
        grow(output, finish=False, head=4)
        with Growing(output, {"what": "a test"}, resume=True, head=4) as file:
            file.finish(seal())
    sealed.write_bytes(b"thE " + WHOLE[4:])
    with Growing(output, {"what": "a test"}, resume=True, head=4) as file:
        assert not file.complete
        file.finish(seal())
    assert output.read_bytes() == b"THE " + WHOLE[4:]


def test_a_journal_of_another_version_is_refused_with_a_sentence(tmp_path):
    journal_of(tmp_path / "out").write_text('{"numroberta": "0.1.0", "what": "a test"}\n{"bytes": 9}\n')
    partial_of(tmp_path / "out").write_bytes(BLOCKS[0])
    with pytest.raises(ValueError, match=r"out\.journal is damaged, or of another version .*: start anew with --over"):
        grow(tmp_path / "out", resume=True)
    grow(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out").read_bytes() == WHOLE


def test_two_runs_do_not_make_the_same_file_at_once(tmp_path):
    pytest.importorskip("fcntl")
    with (
        Growing(tmp_path / "out", {"a": 1}),
        pytest.raises(FileExistsError, match="is being made by another process"),
    ):
        Growing(tmp_path / "out", {"a": 1}, resume=True)


def test_a_run_that_fails_before_its_first_block_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), Growing(tmp_path / "out", {}):
        1 / 0  # noqa: B018
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("what", ["folder", "journal", "partial", "partial replaced"])
def test_files_that_are_taken_away_while_they_are_written_stop_the_run_at_the_next_block(tmp_path, what):
    folder = tmp_path / "folder"
    folder.mkdir()
    with Growing(folder / "out", {}) as file:
        file.append(BLOCKS[0], {"number": 0})
        if what == "folder":
            shutil.rmtree(folder)
        elif what == "partial replaced":
            partial_of(folder / "out").unlink()
            partial_of(folder / "out").write_bytes(BLOCKS[0])
        else:
            (folder / f"out.{what}").unlink()
        with pytest.raises(FileNotFoundError, match="was removed or replaced while this run wrote it: start anew"):
            file.append(BLOCKS[1], {"number": 1})


def test_resume_and_overwrite_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match=r"--resume goes on .*, --overwrite starts anew: give one of them"):
        grow(tmp_path / "out", resume=True, overwrite=True)


FULL_FROM_THE_START = """
import sys
from pathlib import Path
from numroberta.corpus.resumable_file import Growing
try:
    Growing(Path(sys.argv[1]), {})
except OSError as error:
    print(error)
"""


def test_a_disk_that_is_full_from_the_start_names_the_file_and_gets_none(tmp_path):
    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    done = subprocess.run(
        [sys.executable, "-c", FULL_FROM_THE_START, tmp_path / "out"],
        preexec_fn=limited,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout == f"cannot write out.journal in {tmp_path}: File too large: mend that, then start again\n"
    assert os.listdir(tmp_path) == []
