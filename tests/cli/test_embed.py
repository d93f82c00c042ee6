"""`numroberta embed`: no option can be ignored, none is accepted where it would do nothing, and how it ends early."""

import io
import json
import signal
import sys

import numpy as np
import pytest

import numroberta
from numroberta import cli
from numroberta.cli.commands import command_parser
from numroberta.corpus import resumable_file

TEXTS = ["the sand", "an inner thing", "the inner sand and " * 40]


@pytest.fixture
def files(tmp_path):
    """A folder with the texts as .jsonl, and the same file under a name that says no format."""
    for name in ("in.jsonl", "in.dat"):
        (tmp_path / name).write_text("".join(json.dumps({"text": text, "body": "b"}) + "\n" for text in TEXTS))
    return tmp_path


@pytest.fixture
def embed(files, small_folder, capsys):
    """Run `numroberta embed`; what it printed on standard output and error.  It must end with this code."""

    def run(*arguments, code=0, model=True):
        options = ["--model", str(small_folder)] if model else []
        assert cli.main(["embed", *map(str, arguments), *options]) == code
        return capsys.readouterr()

    def file(*options, code=0):
        output = files / "out.npy"
        output.unlink(missing_ok=True)
        run("-f", files / "in.jsonl", "-o", output, *options, code=code)
        return np.load(output) if output.exists() else None

    run.file, run.folder = file, files
    return run


def TEXT(embed, small):
    assert embed("the sand").out != embed("an inner thing").out


def files_(embed, small):
    embed("-f", embed.folder / "in.jsonl", embed.folder / "in.jsonl", "-o", embed.folder / "out.npy")
    np.testing.assert_allclose(np.load(embed.folder / "out.npy"), small.encode(TEXTS * 2), rtol=0, atol=1e-6)


def output(embed, small):
    embed("the sand", "-o", embed.folder / "a.npy")
    np.testing.assert_allclose(np.load(embed.folder / "a.npy"), small.encode(["the sand"]), rtol=0, atol=1e-6)


def pooling(embed, small):
    np.testing.assert_allclose(embed.file("--pooling", "cls"), small.encode(TEXTS, pooling="cls"), rtol=0, atol=1e-6)
    assert previewed(embed("the sand", "--pooling", "cls")) == rounded(small.encode("the sand", pooling="cls"))


def normalize(embed, small):
    unit = small.encode(TEXTS[:2], normalize_embeddings=True)
    np.testing.assert_allclose(embed.file("--normalize")[:2], unit, rtol=0, atol=1e-7)
    assert previewed(embed("the sand", "--normalize")) == rounded(unit[0])
    assert previewed(embed("the sand")) != rounded(unit[0])


def previewed(printed):
    """The numbers that are printed of the first vector."""
    return [float(number) for number in printed.out.split("[")[1].split("…")[0].split()]


def rounded(vector):
    return [round(float(number), 3) for number in vector[:5]]


def dtype(embed, small):
    assert embed.file("--dtype", "float16").dtype == np.float16
    assert embed.file("--dtype", "float64").dtype == np.float64
    assert "float64" in embed("the sand", "--dtype", "float64").out


def field(embed, small):
    np.testing.assert_allclose(embed.file("--field", "body"), small.encode(["b"] * 3), rtol=0, atol=1e-6)


def format(embed, small):
    embed("-f", embed.folder / "in.dat", "-o", embed.folder / "a.npy", code=2)
    embed("-f", embed.folder / "in.dat", "-o", embed.folder / "a.npy", "--format", "jsonl")
    np.testing.assert_allclose(np.load(embed.folder / "a.npy"), small.encode(TEXTS), rtol=0, atol=1e-6)


def long(embed, small):
    whole = np.concatenate(list(small.encode_stream(TEXTS, long="split")))
    np.testing.assert_allclose(embed.file("--long", "split"), whole, rtol=0, atol=1e-6)
    assert not np.allclose(embed.file(), whole, atol=1e-3)
    assert embed.file("--long", "error", code=2) is None


def errors(embed, small):
    (embed.folder / "in.jsonl").write_text('{"text": "the sand"}\n{}\n')
    assert embed.file(code=2) is None
    assert embed.file("--errors", "skip").shape == (2, 24)


def resume(embed, small):
    (embed.folder / "in.jsonl").write_text('{"text": "the sand"}\n' * 1024 + "{}\n")
    assert embed.file(code=2) is None
    (embed.folder / "in.jsonl").write_text('{"text": "the sand"}\n' * 1025)
    assert embed.file(code=2) is None
    assert embed.file("--resume").shape == (1025, 24)


def overwrite(embed, small):
    embed("the sand", "-o", embed.folder / "a.npy")
    embed("an inner thing", "-o", embed.folder / "a.npy", code=2)
    embed("an inner thing", "-o", embed.folder / "a.npy", "--overwrite")
    np.testing.assert_allclose(np.load(embed.folder / "a.npy"), small.encode(["an inner thing"]), rtol=0, atol=1e-6)


def quiet(embed, small):
    assert embed("the sand", "-o", embed.folder / "a.npy").out.startswith("1 text, ")
    assert embed("the sand", "-o", embed.folder / "b.npy", "-q") == ("", "")


def jsonl(embed, small):
    """The lines of a .jsonl output, of files and of texts, to standard output; so does -o -."""
    embed("-f", embed.folder / "in.jsonl", "-o", embed.folder / "a.jsonl", "--long", "split")
    lines = (embed.folder / "a.jsonl").read_text()
    assert embed("-f", embed.folder / "in.jsonl", "--jsonl", "--long", "split") == (lines, "")
    assert embed("-f", embed.folder / "in.jsonl", "-o", "-", "--long", "split") == (lines, "")
    assert [json.loads(line)["text"] for line in embed(*TEXTS[:2], "--jsonl").out.splitlines()] == TEXTS[:2]
    assert "1 of 3 texts have more than 64 tokens" in embed("-f", embed.folder / "in.jsonl", "--jsonl").err
    (embed.folder / "in.jsonl").write_text('{"text": "the sand"}\n{}\n')
    assert embed("-f", embed.folder / "in.jsonl", "--jsonl", code=2).err.startswith("numroberta: ")
    skipped = embed("-f", embed.folder / "in.jsonl", "--jsonl", "--errors", "skip")
    assert not any(json.loads(skipped.out.splitlines()[1])["embedding"])
    assert "line 2: no field 'text', but none: choose one with --field: skipped" in skipped.err


def json_(embed, small):
    """One list, whatever the number of blocks."""
    (embed.folder / "in.jsonl").write_text("".join(json.dumps({"text": str(i)}) + "\n" for i in range(1030)))
    printed = embed("-f", embed.folder / "in.jsonl", "-o", "-", "--json").out
    assert [row["text"] for row in json.loads(printed)] == [str(i) for i in range(1030)]
    odd = 'line\u2028separator, next\x85line, feed\x0c, 日本語, a "quote"'
    assert [row["text"] for row in json.loads(embed(odd, odd, "--json").out)] == [odd, odd]
    assert [json.loads(line)["text"] for line in embed(odd, odd, "--jsonl").out[:-1].split("\n")] == [odd, odd]
    vectors = [row["embedding"] for row in json.loads(embed(*TEXTS[:2], "--json").out)]
    np.testing.assert_allclose(vectors, small.encode(TEXTS[:2]), rtol=0, atol=1e-6)
    (embed.folder / "in.jsonl").write_text("")
    assert embed("-f", embed.folder / "in.jsonl", "--json").out == "[]\n"
    assert "--json and --jsonl print the vectors: leave out -o x.npy" in embed("a", "--json", "-o", "x.npy", code=2).err
    assert "embed: --resume would do nothing without -o OUT" in embed("a", "--json", "--resume", code=2).err


CASES = {
    "texts": TEXT,
    "files": files_,
    "json": json_,
    **{
        case.__name__: case
        for case in (output, jsonl, pooling, normalize, dtype, field, format, long, errors, resume, overwrite, quiet)
    },
}
OF_EVERY_MODEL = {"model", "revision", "threads", "deterministic", "reproducible", "low_memory"}  # see test_options.py


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_option_does_what_it_says(case, embed, small):
    case(embed, small)


def test_the_list_of_options_is_complete():
    assert set(CASES) | OF_EVERY_MODEL == options_of("embed")


def options_of(command):
    """The names of all arguments of a command."""
    commands = next(action for action in command_parser()._actions if action.dest == "command" or action.choices)
    return {action.dest for action in commands.choices[command]._actions} - {"help"}


@pytest.mark.parametrize(
    "option",
    [
        "--field body",
        "--format jsonl",
        "--long split",
        "--errors skip",
        "--resume",
        "--overwrite",
        "--quiet",
        "--dtype float16",
    ],
)
def test_an_option_about_files_is_refused_where_no_file_is_written(option, embed):
    error = embed("the sand", *option.split(), code=2).err
    named = option if "float16" in option else option.split()[0]
    assert error == f"numroberta: embed: {named} would do nothing without -o OUT, the file that is written\n"


def test_options_about_fields_are_refused_where_the_texts_have_none(embed):
    output = embed.folder / "a.npy"
    error = embed("x", "-o", output, "--field", "body", code=2).err
    assert "--field body: in these inputs a row has no fields" in error
    assert "--format jsonl: no input is a file" in embed("x", "-o", output, "--format", "jsonl", code=2).err
    assert not output.exists()


# --- Standard input ---------------------------------------------------------------------------------------------------


def test_a_dash_reads_standard_input_as_files_are_read(embed, small, monkeypatch):
    """UTF-8 whatever the locale says, without a byte order mark."""
    data = "\ufeffthe sand\nnaïve café".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="latin-1"))
    embed("-", "-o", embed.folder / "a.jsonl")
    rows = [json.loads(line) for line in (embed.folder / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows] == ["the sand", "naïve café"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="latin-1"))
    assert "naïve café" in embed("-").out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"fine\n\xff\n"), encoding="latin-1"))
    assert "standard input, line 2: not UTF-8 from byte 0" in embed("-", code=2).err


def test_what_is_left_of_a_job_from_standard_input_needs_that_input_again(embed, monkeypatch):
    data = b'{"text": "the sand"}\n' * 1024 + b"{}\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    error = embed("-f", "-", "--format", "jsonl", "-o", embed.folder / "a.npy", code=2).err
    assert "1,024 texts safe: the same command with --resume goes on, with the same input from its beginning\n" in error
    (embed.folder / "b.jsonl").write_bytes(data)
    error = embed("-f", embed.folder / "b.jsonl", "-o", embed.folder / "b.npy", code=2).err
    assert error.endswith("1,024 texts safe: the same command with --resume goes on\n")


# --- Endings ----------------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_with_130_and_a_sentence(embed, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(numroberta.TextEncoder, "encode", interrupted)
    assert embed("the sand", code=130).err == "numroberta: interrupted\n"


def test_sigterm_is_left_as_it_was(embed):
    before = signal.getsignal(signal.SIGTERM)
    embed("the sand", "-o", embed.folder / "a.npy")
    assert signal.getsignal(signal.SIGTERM) is before
    embed("-f", embed.folder / "in.jsonl", "-o", embed.folder / "b.npy", "--field", "none", code=2)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("name", ["out.npy", "out.npy.partial", "out.npy.journal", "out.npy.skipped.jsonl"])
@pytest.mark.parametrize("way", ["itself", "hard link", "symbolic link", "standard input"])
def test_an_input_is_never_written_over(name, way, embed, monkeypatch):
    """Neither the output nor a file that a job writes beside it may be an input, whatever it is called."""
    source, given = embed.folder / name, embed.folder / name
    source.write_text('{"text": "the sand"}\n')
    if way == "hard link":
        given = embed.folder / "link.jsonl"
        given.hardlink_to(source)
    elif way == "symbolic link":
        given = embed.folder / "link.jsonl"
        given.symlink_to(source)
    elif way == "standard input":
        given = "-"
        monkeypatch.setattr(sys, "stdin", source.open())
    command = ["-f", given, "--format", "jsonl", "-o", embed.folder / "out.npy", "--overwrite"]
    assert f"{given} is the input and " in embed(*command, code=2).err
    assert source.read_text() == '{"text": "the sand"}\n'


def test_a_symbolic_link_as_output_is_followed(embed, small):
    link = embed.folder / "link.npy"
    (embed.folder / "there").mkdir()
    link.symlink_to(embed.folder / "there" / "real.npy")
    embed("the sand", "-o", link)
    assert link.is_symlink()
    assert [path.name for path in (embed.folder / "there").iterdir()] == ["real.npy"]
    np.testing.assert_allclose(np.load(link), small.encode(["the sand"]), rtol=0, atol=1e-6)


def test_resume_of_a_file_that_nobody_left_unfinished_says_that_it_was_not_compared(embed):
    embed("the sand", "-o", embed.folder / "a.npy")
    printed = embed("an inner thing", "-o", embed.folder / "a.npy", "--resume").out
    assert printed.endswith("a.npy is left as it is: no run of it is unfinished (--overwrite makes it anew)\n")
    assert not resumable_file.journal_of(embed.folder / "a.npy").exists()
