"""`numroberta serve` as a process: what it prints, whom it answers, and how it ends."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import ROOT
from pages import blocks, commands

pytest.importorskip("uvicorn", reason="needs a web server: pip install '.[serve]'")


@contextlib.contextmanager
def started(*arguments, **environment):
    """A running `numroberta serve` at a free port: (process, its port, the line that it printed)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "numroberta", "serve", "--port", "0", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        yield process, int(line.rpartition(":")[2]) if line else 0, line
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [1, 2])
def test_the_guides_commands_print_what_it_shows(number):
    (block,) = blocks("serve")
    start, *clients = commands(block.code)
    assert (start[0], len(clients)) == ("numroberta serve --model tiny --port 8000", 2)
    command, shown = clients[number - 1]
    if "openai" in command:
        pytest.importorskip("openai", reason="needs OpenAI's client: pip install openai")
    with started("--model", "tiny") as (_, port, _):
        command = command.replace("8000", str(port)).replace("python", sys.executable, 1)
        printed = subprocess.run(["bash", "-c", command], check=True, capture_output=True, text=True).stdout
    numbers = re.compile(r"-?\d+\.\d+")
    assert numbers.sub("#", printed).strip() == numbers.sub("#", shown).strip()
    found, expected = ([float(one) for one in numbers.findall(text)] for text in (printed, shown))
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def connected(server):
    return type(server)


def test_it_says_what_it_serves_and_where_answers_and_ends_when_it_is_told_to(connected, tiny):
    with started() as (process, port, line):
        assert line == f"tiny at http://127.0.0.1:{port}\n"
        answer = connected(port).ask("/embed", {"inputs": "a text"})
        np.testing.assert_allclose(answer.json[0], tiny.encode("a text", normalize_embeddings=True), rtol=0, atol=1e-6)
        process.terminate()
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_its_options_say_who_may_ask_and_how_much(connected, small_folder):
    options = ["--model", "tiny", "--model", small_folder, "--api-key", "k", "--cors", "https://example.org"]
    limits = ["--queue", "50", "--auto-truncate", "--host", "0.0.0.0"]
    with started(*options, *limits) as (process, port, line):
        assert line.startswith(f"tiny, {small_folder.name} at http://0.0.0.0:")
        client = connected(port)
        key = {"Authorization": "Bearer k", "Origin": "https://example.org"}
        assert client.ask("/v1/models").status == 401
        listed = client.ask("/v1/models", headers=key)
        assert [model["id"] for model in listed.json["data"]] == ["tiny", small_folder.name]
        assert listed.headers["access-control-allow-origin"] == "https://example.org"
        assert client.ask("/v1/embeddings", {"input": "word " * 60}, key).status == 400  # more than may wait
        long = {"input": "word " * 100, "model": small_folder.name}
        assert "50 are taken" in client.ask("/v1/embeddings", long, key).json["error"]["message"]
        process.terminate()
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_beyond_this_computer_it_warns_where_no_key_is_asked_for(connected):
    with started("--host", "0.0.0.0") as (process, _, _):
        process.terminate()
        assert "without a key: anybody there can ask" in process.stderr.read()
    with started(NUMROBERTA_API_KEY="from the environment") as (_, port, _):
        assert connected(port).ask("/v1/models").status == 401
        assert connected(port).ask("/v1/models", headers={"api-key": "from the environment"}).status == 200


def test_a_port_that_is_taken_is_a_sentence(server):
    with started("--port", server.port) as (process, _, _):
        assert process.wait(10) == 2
        assert process.stderr.read().startswith(f"numroberta: cannot listen at 127.0.0.1, port {server.port}: ")


def test_two_folders_of_one_name_are_served_under_names_of_ones_own(connected):
    """Folders of sentence-transformers' packages are often called `model`."""
    with started("--model", "small=tiny", "--model", "other=tiny") as (_, port, line):
        assert line.startswith("small, other at ")
        assert [model["id"] for model in connected(port).ask("/v1/models").json["data"]] == ["small", "other"]
        assert connected(port).ask("/info?model=other").json["model_id"] == "other"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "70000"], "--port 70000: expected at least 1, at least 0, and 0 to 65535"),
        (["--host", "no.such.host.invalid"], "cannot listen at no.such.host.invalid, port 0: "),
        (["--queue", "0"], "--queue 0 --grace 30 --port 0: expected at least 1"),
        (["--grace", "-1"], "expected at least 1, at least 0"),
        (["--model", "tiny", "--model", "tiny"], "another model is called tiny, too: give it a name, NAME=tiny"),
    ],
)
def test_options_that_cannot_be_followed_are_a_sentence(command, options, words):
    assert words in command("serve", "--port", 0, *options, code=2).err


def test_told_to_end_it_answers_what_it_has_accepted_and_refuses_the_rest(connected):
    texts = ["word " * 400] * 8
    with started("--threads", 1) as (process, port, _), ThreadPoolExecutor(4) as pool:
        other = connected(port)
        assert other.ask("/ready").status == 200
        accepted = [pool.submit(connected(port).ask, "/embed", {"inputs": texts}) for _ in range(3)]
        time.sleep(0.5)
        process.terminate()
        time.sleep(0.2)
        refused = other.ask("/embed", {"inputs": "late"})
        assert (refused.status, refused.json["error_type"]) == (503, "Unhealthy")
        assert other.ask("/ready").status == 503
        assert other.ask("/health").status == 200
        for answer in accepted:
            assert answer.result().status == 200
            assert len(answer.result().json) == 8
        assert process.wait(10) == 0


@pytest.mark.parametrize("how", ["a second signal", "the end of --grace"])
def test_it_ends_at_once_when_told_twice_and_when_its_time_is_over(connected, how):
    texts = ["word " * 400] * 240
    again = how == "a second signal"
    with started("--threads", 1, "--grace", 60 if again else 0.3) as (process, port, _), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(connected(port).ask, "/embed", {"inputs": texts})
        time.sleep(0.5)
        process.terminate()
        time.sleep(0.2)
        if again:
            assert process.poll() is None
            process.terminate()
        start = time.monotonic()
        assert process.wait(10) == 128 + signal.SIGTERM
        assert time.monotonic() - start < (0.5 if again else 3)
        if again:
            with pytest.raises(OSError):  # noqa: PT011
                asked.result()
        else:
            assert (asked.result().status, asked.result().json["error_type"]) == (503, "Unhealthy")
