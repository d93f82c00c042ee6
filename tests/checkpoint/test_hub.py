"""Models fetched over HTTP: huggingface_hub against a server on this machine that answers as the hub does."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

pytest.importorskip("huggingface_hub", reason="needs huggingface-hub: pip install huggingface-hub")

COMMIT = "1234567890abcdef1234567890abcdef12345678"
ROOT = Path(__file__).parents[2]


class Hub:
    """A hub on this machine.

    models: the folder of each name; its revisions are main, v1 and COMMIT.  gated: names that need a login.
    fetched: the files that were downloaded.
    """

    def __init__(self):
        self.models, self.gated, self.fetched = {}, set(), []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                hub.answer(self, unquote(urlsplit(self.path).path), body=False)

            def do_GET(self):
                hub.answer(self, unquote(urlsplit(self.path).path), body=True)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request, path, body):
        for name, folder in self.models.items():
            for api in (f"/api/models/{name}", f"/{name}"):
                if path == api or path.startswith(f"{api}/"):
                    what, revision, *rest = [*path[len(api) + 1 :].split("/"), "", ""]
                    return self.of_a_model(request, name, folder, what, revision, "/".join(rest).strip("/"), body)
        return self.refuse(request, 404, "RepoNotFound")

    def of_a_model(self, request, name, folder, what, revision, file, body):
        if revision not in ("", "main", "v1", COMMIT):
            return self.refuse(request, 404, "RevisionNotFound")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = [path.relative_to(folder).as_posix() for path in files]
        if what == "resolve":
            if name in self.gated:
                return self.refuse(request, 403, "GatedRepo")
            if file not in names:
                return self.refuse(request, 404, "EntryNotFound")
            if body:
                self.fetched.append(file)
            data = (folder / file).read_bytes()
            return self.send(request, 200, data, body, {"ETag": f'"{abs(hash(data)):x}"', "X-Repo-Commit": COMMIT})
        if what == "tree":
            listed = [
                {"type": "file", "oid": f"{i:040x}", "size": path.stat().st_size, "path": own}
                for i, (path, own) in enumerate(zip(files, names, strict=True))
            ]
        else:
            listed = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": own} for own in names]}
        return self.send(request, 200, json.dumps(listed).encode(), body, {"Content-Type": "application/json"})

    def refuse(self, request, status, code):
        self.send(request, status, b"{}", request.command == "GET", {"X-Error-Code": code, "X-Error-Message": code})

    def send(self, request, status, data, body, headers):
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            request.send_header(name, value)
        request.end_headers()
        if body:
            request.wfile.write(data)


@pytest.fixture
def hub():
    hub = Hub()
    thread = threading.Thread(target=hub.server.serve_forever)
    thread.start()
    yield hub
    hub.server.shutdown()
    hub.server.server_close()
    thread.join()


@pytest.fixture
def python(hub, tmp_path):
    """Runs a script, or another module's command, in a process that takes the stand-in for the hub."""

    def run(*arguments, online=True):
        unset = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN")
        environment = {key: value for key, value in os.environ.items() if key not in unset}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        environment |= {"HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
        if not online:
            environment["HF_HUB_OFFLINE"] = "1"
        return subprocess.run(
            [sys.executable, *map(str, arguments)], env=environment, cwd=ROOT, capture_output=True, text=True
        )

    return run


ENCODE = """
import sys, numpy, numroberta
name, revision, out = sys.argv[1:]
try:
    numpy.save(out, numroberta.load(name, revision=revision or None).encode(["the sand"]))
except numroberta.CheckpointError as error:
    print(error)
"""


@pytest.mark.parametrize("revision", ["", *(pytest.param(name, marks=pytest.mark.slow) for name in ("v1", COMMIT))])
def test_a_model_is_fetched_once_and_gives_the_vectors_of_its_folder(
    hub, python, small_folder, small, tmp_path, revision
):
    hub.models["somebody/small"] = small_folder
    for online in (True, True, False):
        ended = python("-c", ENCODE, "somebody/small", revision, tmp_path / "out.npy", online=online)
        assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), small.encode(["the sand"]))
    assert sorted(hub.fetched) == sorted(path.name for path in small_folder.iterdir())


def test_only_what_is_needed_is_fetched(hub, python, small_folder, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in small_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for idle in ("tf_model.h5", "pytorch_model.bin", "onnx/model.onnx"):
        (folder / idle).parent.mkdir(exist_ok=True)
        (folder / idle).write_bytes(b"idle")
    hub.models["somebody/small"] = folder
    assert python("-c", ENCODE, "somebody/small", "", tmp_path / "out.npy").stdout == ""
    assert sorted(hub.fetched) == sorted(path.name for path in small_folder.iterdir())


@pytest.mark.parametrize(
    ("name", "revision", "sentence"),
    [
        ("somebody/small", "v9", "the hub has 'somebody/small', but not its revision 'v9'"),
        ("somebody/other", "", "'somebody/other' is neither a folder nor a model on the hub"),
        ("somebody/gated", "", "'somebody/gated' is gated: accept its terms at"),
    ],
)
def test_what_the_hub_refuses_is_a_sentence(hub, python, small_folder, tmp_path, name, revision, sentence):
    hub.models |= {"somebody/small": small_folder, "somebody/gated": small_folder}
    hub.gated.add("somebody/gated")
    ended = python("-c", ENCODE, name, revision, tmp_path / "out.npy")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(sentence)
    assert not (tmp_path / "out.npy").exists()


@pytest.mark.slow
def test_the_tests_of_the_hub_run_against_a_model_of_that_size(hub, python, full_size_folder):
    """The one that counts parameters: random weights are as many."""
    hub.models["distilroberta-base"] = full_size_folder
    ended = python("-m", "pytest", "-q", "-m", "hub", "-k", "82_million", "tests/checkpoint/test_checkpoint.py")
    assert " 1 passed" in f" {ended.stdout.splitlines()[-1]}", ended.stdout
