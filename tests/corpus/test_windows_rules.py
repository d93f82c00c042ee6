"""Files are made as Windows allows it: nothing that is open is renamed or removed, nothing read-only is synced.

These rules are imposed on the system's own calls here; the code that runs is the code that Windows runs.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import numroberta
from numroberta.checkpoint import writing
from numroberta.corpus import resumable_file
from numroberta.corpus.job import embed_files

fcntl = pytest.importorskip("fcntl")
if not os.path.isdir("/proc/self/fd"):
    pytest.skip("needs /proc to see which files are open", allow_module_level=True)


def open_files():
    """The paths that this process has open; what is only mapped is not among them."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the listing's own
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return found


@pytest.fixture
def windows(monkeypatch):
    """The rules of Windows, with the calls that broke them."""
    broken = []

    def only_if_closed(real):
        def call(path, *arguments, **options):
            for each in (path, *arguments):
                if os.path.realpath(each) in open_files():
                    broken.append(str(each))
                    raise PermissionError(errno.EACCES, "used by another process", str(each))
            return real(path, *arguments, **options)

        return call

    def sync(number):
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            broken.append(number)
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    for name in ("replace", "rename", "unlink"):
        monkeypatch.setattr(Path, name, only_if_closed(getattr(Path, name)))
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(resumable_file, "fcntl", None)
    for module in (resumable_file, writing):  # it does nothing where folders cannot be opened
        monkeypatch.setattr(module, "sync_folder", lambda folder: None)
    return broken


@pytest.fixture(scope="module")
def small_exact(small_folder):
    return numroberta.load(small_folder, deterministic=True, num_threads=1)


@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".jsonl.gz", ".parquet"])
def test_a_job_ends_in_its_file_and_replaces_an_older_one(suffix, small_exact, tmp_path, windows):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    source, output = tmp_path / "in.jsonl", tmp_path / f"out{suffix}"
    source.write_text('{"text": "the sand"}\n{"no": 1}\n{"text": "the sea"}\n')
    for overwrite in (False, True):
        embed_files(small_exact, [source], output, errors="skip", overwrite=overwrite)
        assert output.exists()
    assert not windows
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["in.jsonl", output.name, f"{output.name}.skipped.jsonl"]
    )


def test_a_job_that_was_killed_before_its_last_rename_is_finished(small_exact, tmp_path, windows, monkeypatch):
    source, output = tmp_path / "in.txt", tmp_path / "out.npy"
    source.write_text("the sand\nthe sea\n")
    with monkeypatch.context() as patch:
        patch.setattr(resumable_file.Growing, "_rename", lambda self, sealed: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            embed_files(small_exact, [source], output)
    embed_files(small_exact, [source], output, resume=True)
    assert not windows
    np.testing.assert_array_equal(np.load(output), small_exact.encode(["the sand", "the sea"]))
