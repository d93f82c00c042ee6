"""No option of `embed_files` can be ignored: for each, what must change; and what a resumed job takes for the same."""

import inspect
import json
import shutil

import numpy as np
import pytest

import numroberta
from numroberta.corpus.job import Job, embed_files
from numroberta.corpus.row import BadRow
from numroberta.model import blocks

TEXTS = ["the sand", "an inner thing", "the inner sand and " * 40]
BODIES = ["another text", "and one more", "b"]
PLAIN = {"inputs", "output", "encoder"}  # without which there is no job


@pytest.fixture(scope="session")
def exact(small_folder):
    return numroberta.load(small_folder, deterministic=True, num_threads=1)


@pytest.fixture
def embed(exact, tmp_path):
    """Embed the texts, with these options, to a new .npy file; its array."""
    source, output = tmp_path / "in.jsonl", tmp_path / "out.npy"
    rows = [json.dumps({"text": text, "body": body}) for text, body in zip(TEXTS, BODIES, strict=True)]
    source.write_text("\n".join(rows) + "\n")

    def run(**options):
        output.unlink(missing_ok=True)
        embed_files(exact, [source], output, **options)
        return np.load(output)

    run.source, run.output, run.encoder = source, output, exact
    return run


def field(embed):
    np.testing.assert_array_equal(embed(), embed.encoder.encode(TEXTS))
    np.testing.assert_array_equal(embed(field="body"), embed.encoder.encode(BODIES))


def format(embed):
    np.testing.assert_array_equal(embed(format="txt"), embed.encoder.encode(embed.source.read_text().splitlines()))


def dtype(embed):
    assert [embed(dtype=name).dtype.name for name in ("float16", "float32", "float64")] == [
        "float16",
        "float32",
        "float64",
    ]
    with pytest.raises(ValueError, match="dtype='int8', expected one of 'float16', 'float32', 'float64'"):
        embed(dtype="int8")


def pooling(embed):
    for name in ("cls", "max", "mean"):
        np.testing.assert_array_equal(embed(pooling=name), embed.encoder.encode(TEXTS, pooling=name))


def normalize_embeddings(embed):
    assert not np.allclose(np.linalg.norm(embed(), axis=1), 1)
    np.testing.assert_allclose(np.linalg.norm(embed(normalize_embeddings=True), axis=1), 1, rtol=3e-7)  # measured: 6e-8


def batch_size(embed):
    embed(batch_size=1)
    with pytest.raises(ValueError, match="batch_size=0, expected at least 1"):
        embed(batch_size=0)


def long(embed):
    whole = np.concatenate(list(embed.encoder.encode_stream(TEXTS, long="split")))
    np.testing.assert_array_equal(embed(long="split"), whole)
    assert not np.array_equal(embed(), whole)
    with pytest.raises(BadRow, match="line 3: the text has"):
        embed(long="error")


def errors(embed):
    embed.source.write_text('{"text": "the sand"}\n{"text": 7}\n')
    np.testing.assert_array_equal(embed(errors="skip")[0], embed.encoder.encode("the sand"))
    with pytest.raises(BadRow):
        embed(errors="stop")
    with pytest.raises(ValueError, match="errors='drop', expected 'stop' or 'skip'"):
        embed(errors="drop")


def resume(embed):
    begin(embed)
    with pytest.raises(FileExistsError, match="--resume goes on"):
        embed()
    assert embed(resume=True).shape == (3, 24)


def overwrite(embed):
    embed()
    with pytest.raises(FileExistsError, match="--overwrite replaces it"):
        embed_files(embed.encoder, [embed.source], embed.output)
    embed_files(embed.encoder, [embed.source], embed.output, field="body", overwrite=True)
    np.testing.assert_array_equal(np.load(embed.output), embed.encoder.encode(BODIES))


def report(embed):
    reports = []
    embed(report=reports.append)
    assert [progress.texts for progress in reports] == [0, 3]


def log(embed):
    embed.source.write_text('{"text": 7}\n')
    lines = []
    embed(errors="skip", log=lines.append)
    assert lines == [f"{embed.source}, line 1: field 'text' is 7, expected a string: skipped"]


CASES = (field, format, dtype, pooling, normalize_embeddings, batch_size, long, errors, resume, overwrite, report, log)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.filterwarnings("ignore")
def test_an_option_does_what_it_says(case, embed):
    case(embed)


def test_the_list_of_options_is_complete():
    assert {case.__name__ for case in CASES} | PLAIN == set(inspect.signature(embed_files).parameters)
    assert set(Job.__dataclass_fields__) | {"encoder", "report", "log"} == set(
        inspect.signature(embed_files).parameters
    )


# --- What a resumed job takes for the same ----------------------------------------------------------------------------


class Died(BaseException):
    """The process ends here."""


def begin(embed, **options):
    """Leave a job that has embedded the first two of three texts."""

    def die(progress):
        if progress.texts == 2:
            raise Died

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", 2)
        with pytest.raises(Died):
            embed(report=die, **options)


REFUSED = {
    "field": "body",
    "format": "jsonl",
    "dtype": "float16",
    "pooling": "cls",
    "normalize_embeddings": True,
    "long": "split",
}
ALLOWED = {"batch_size": 1, "errors": "skip"}
NOT_OF_THE_VECTORS = {"inputs", "output", "resume", "overwrite"}  # the input's own bytes are compared: test_rows


@pytest.mark.parametrize(("option", "value"), REFUSED.items())
def test_a_job_is_not_resumed_with_another(option, value, embed):
    begin(embed)
    with pytest.raises(ValueError, match=r"out\.npy cannot be resumed: .* was .* and is .*: give the same, or start"):
        embed(resume=True, **{option: value})
    assert embed(resume=True).shape == (3, 24)


@pytest.mark.parametrize(("option", "value"), ALLOWED.items())
def test_a_job_may_be_resumed_with_another(option, value, embed):
    begin(embed)
    np.testing.assert_array_equal(embed(resume=True, **{option: value})[:2], embed.encoder.encode(TEXTS[:2]))


def test_it_is_said_of_every_option_whether_it_may_change():
    assert {*REFUSED, *ALLOWED, *NOT_OF_THE_VECTORS} == set(Job.__dataclass_fields__)


@pytest.fixture
def other_encoder(small_folder, tmp_path):
    """The same checkpoint with one thing changed; by default it is the same one, in another folder."""

    def load(file=None, before="", after="", **options):
        folder = shutil.copytree(small_folder, tmp_path / small_folder.name, dirs_exist_ok=True)
        if file:
            text = (folder / file).read_text(encoding="utf-8")
            assert before in text
            (folder / file).write_text(text.replace(before, after), encoding="utf-8")
        return numroberta.load(folder, **{"deterministic": True, "num_threads": 1, **options})

    return load


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"deterministic": False}, "deterministic"),
        ({"reproducible": True}, "reproducible"),
        ({"dtype": "float64"}, "dtype"),
        ({"file": "config.json", "before": '"num_attention_heads": ', "after": '"num_attention_heads":  '}, "model"),
        ({"file": "vocab.json", "before": "{", "after": "{ "}, "model"),
    ],
    ids=["deterministic", "reproducible", "dtype", "config.json", "tokenizer"],
)
def test_a_job_is_not_resumed_with_another_model(change, name, embed, other_encoder):
    begin(embed)
    with pytest.raises(ValueError, match=rf"cannot be resumed: {name} was"):
        embed_files(other_encoder(**change), [embed.source], embed.output, resume=True)
    assert embed_files(other_encoder(), [embed.source], embed.output, resume=True).resumed == 2
