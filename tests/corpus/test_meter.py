"""How far a long run is: how many texts, how fast, how long still; of a resumed run, its own rate."""

import pytest

from numroberta.corpus import meter
from numroberta.corpus.job import Progress
from numroberta.corpus.meter import Meter


@pytest.fixture
def clock(monkeypatch):
    """A list whose last item is the time in seconds."""
    times = [1000.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: times[-1])
    return times


@pytest.mark.parametrize(
    ("start", "after_a_minute", "line"),
    [
        (Progress(0, 0, 0, 1000), Progress(10, 600, 250, 1000), "10 texts, 10 tokens/s, 25%, 0:03:00 left"),
        (
            Progress(500, 50_000, 500, 1000),
            Progress(600, 50_600, 600, 1000),
            "600 texts, 10 tokens/s, 60%, 0:04:00 left",
        ),
        (
            Progress(0, 0, 0, 10**6),
            Progress(1500, 90_000, 10_000, 10**6),
            "1,500 texts, 1,500 tokens/s, 1%, 1:39:00 left",
        ),
        (Progress(0, 0, 0, None), Progress(10, 600, 250, None), "10 texts, 10 tokens/s"),
    ],
    ids=["new", "resumed", "hours", "a pipe, whose end is not known"],
)
def test_without_a_terminal_a_line_a_minute_says_how_fast_this_run_is_and_how_long_it_takes_still(
    start, after_a_minute, line, clock, capsys
):
    show = Meter()
    show(start)
    clock.append(1059.0)
    show(after_a_minute)
    assert capsys.readouterr().err == ""
    clock.append(1060.0)
    show(after_a_minute)
    assert capsys.readouterr().err == f"numroberta: {line}\n"
    clock.append(1110.0)
    show(after_a_minute)
    assert capsys.readouterr().err == ""
