"""What the Containerfile runs works in a plain virtual environment, with a home and a folder that cannot be written."""

import json
import os
import re
import subprocess
import urllib.request
import venv

import numpy as np
import pytest
from conftest import ROOT

FILE = ROOT / "scripts" / "serve" / "Containerfile"
UNWRITABLE = "/proc"  # for root, too


def instructions():
    """(instruction, arguments) of each line."""
    lines = [line for line in FILE.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def test_the_container_has_no_root_and_its_commands_are_options_of_serve(command):
    known = dict(instructions())
    assert int(known["USER"].partition(":")[0]) > 0
    program, *options = json.loads(known["ENTRYPOINT"]) + json.loads(known["CMD"])
    assert program == "numroberta"
    text = command(options[0], "--help").out
    assert all(option in text for option in options if option.startswith("--"))


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir(UNWRITABLE), reason="needs Linux")
def test_what_the_container_runs_serves_from_a_plain_environment_where_nothing_can_be_written(tiny, tmp_path):
    known = dict(instructions())
    wanted = re.search(r'"/src(\[\w+\])"', known["RUN"])[1]
    venv.create(tmp_path / "venv", with_pip=True)
    scripts = tmp_path / "venv" / "bin"
    install = [scripts / "pip", "install", "-q", "--no-compile", "--disable-pip-version-check", f"{ROOT}{wanted}"]
    found = subprocess.run(install, capture_output=True, text=True)
    if "No matching distribution" in found.stderr:
        pytest.skip("no package registry can be reached")
    assert found.returncode == 0, found.stderr
    program, *options = json.loads(known["ENTRYPOINT"])
    environment = dict(pair.split("=") for pair in known["ENV"].split())
    server = subprocess.Popen(
        [scripts / program, *options, "--port", "0", "--model", ROOT / "numroberta" / "tiny"],
        cwd=UNWRITABLE,
        env={"HOME": UNWRITABLE, "TMPDIR": UNWRITABLE, "PATH": os.defpath, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        port = server.stdout.readline().rpartition(":")[2].strip()
        body = json.dumps({"inputs": "a text"}).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/embed", body, 60) as answer:
            vectors = json.load(answer)
    finally:
        server.terminate()
    assert server.wait(20) == 0
    np.testing.assert_allclose(
        vectors[0], tiny.encode("a text", normalize_embeddings=True), rtol=0, atol=1e-6
    )  # measured: 4.8e-10
