"""What the command line says to who is nearly right."""

import json

import pytest

import numroberta


def test_without_arguments_it_prints_the_help(command):
    assert command().out == command("--help").out
    assert "COMMAND" in command().out


def test_it_knows_its_version(command):
    assert command("--version").out == f"numroberta {numroberta.__version__}\n"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (["embd", "a text"], "did you mean embed?"),
        (["embed", "a text", "--poling", "mean"], "unrecognized arguments: --poling mean; did you mean --pooling?"),
        (["embed", "a text", "--poling=mean"], "unrecognized arguments: --poling=mean; did you mean --pooling?"),
        (["embed", "a text", "--pooling", "maen"], "did you mean mean?"),
        (["finetune", "classfy"], "did you mean classify?"),
        (["guide", "lern"], "did you mean learn?"),
        (["finetune", "classify", "--data", "a", "--out", "b", "--learnig-rate", "1"], "did you mean --learning-rate?"),
        (["embed", "a text", "--model", "tinny"], "did you mean tiny?"),
        (["embed", "a text", "--model", "distilroberta_base"], "did you mean distilroberta-base?"),
        (["embed", "a text", "--model", "./modle"], "did you mean ./model?"),
    ],
)
def test_what_it_does_not_know_gets_a_near_match(command, given, error, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    assert command(*given, code=2).err.endswith(f"{error}\n")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("classify -f new.txt --model m", "classify - --model m"),
        ("classify --model m --files new.txt", "classify - --model m"),
        ("tag -f new.txt", "tag -"),
        ("fill-mask -f new.txt --top-k 2", "fill-mask - --top-k 2"),
        ("words --file new.txt", "words -"),
        ("tokenize -f new.txt", "tokenize -"),
        ("answer Who? -f new.txt", "answer 'Who?' --context -"),
    ],
)
def test_a_file_where_standard_input_is_read_gets_the_commands_usage_and_the_command(command, given, meant):
    told = command(*given.split(), code=2).err
    name = given.split()[0]
    assert told.startswith(f"usage: numroberta {name} ")
    what = "the context" if name == "answer" else "lines"
    assert told.endswith(f"; {name} reads {what} from standard input: numroberta {meant} < new.txt\n")


def test_the_command_of_that_hint_answers_each_line_and_a_text_may_be_what_an_option_is(command, sorter):
    answers = command("classify", "-", "--model", sorter, stdin="the sand\nthe sea\n").out.splitlines()
    assert [json.loads(line)["text"] for line in answers] == ["the sand", "the sea"]
    assert json.loads(command("classify", "--model", sorter, "--", "-f").out)["text"] == "-f"


def test_an_unknown_short_option_gets_the_usage_of_its_command(command):
    told = command("classify", "a text", "-q", code=2).err
    assert told.startswith("usage: numroberta classify ")
    assert told.endswith("unrecognized arguments: -q\n")


@pytest.mark.parametrize("given", ["x1", "x0", "{folder}/nope"])
def test_a_folder_that_only_stands_in_the_same_place_is_no_near_match(given, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rec").mkdir()
    (tmp_path / "x").mkdir()
    with pytest.raises(numroberta.CheckpointError) as told:
        numroberta.load(given.format(folder=tmp_path))
    assert "did you mean" not in str(told.value)


def test_a_folder_of_nearly_this_name_is_a_near_match_wherever_it_is(tmp_path):
    (tmp_path / "sentiment").mkdir()
    with pytest.raises(numroberta.CheckpointError, match=r"did you mean .*/sentiment\?"):
        numroberta.load(f"{tmp_path}/sentimnet")


def test_a_name_that_is_right_but_cannot_be_fetched_gets_none(command, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    told = command("embed", "a text", "--model", "sentence-transformers/all-MiniLM-L6-v2", code=2).err
    assert "or use the built-in model 'tiny'\n" in told


def test_an_option_that_is_like_no_other_gets_none(command):
    assert command("embed", "a text", "--xyzzy", code=2).err.endswith("error: unrecognized arguments: --xyzzy\n")


def test_the_name_of_a_file_as_a_text_is_embedded_with_a_warning_that_has_the_command(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my notes.txt").write_text("A man is playing a guitar.\n")
    said = "numroberta: the text 'my notes.txt' is the name of a file, which is not read: numroberta "
    for arguments, meant in (
        (["embed", "my notes.txt"], "embed -f 'my notes.txt' -o vectors.npy"),
        (["embed", "my notes.txt", "--jsonl"], "embed -f 'my notes.txt' -o vectors.npy"),
        (["embed", "my notes.txt", "-o", "a.npy", "-q"], "embed -f 'my notes.txt' -o vectors.npy"),
        (["tokenize", "my notes.txt"], "… - < 'my notes.txt'"),
    ):
        printed = command(*arguments, code=None)
        assert (printed.code, printed.err) == (0, f"{said}{meant} reads it\n")
        assert "-q" in arguments or "notes" in printed.out
