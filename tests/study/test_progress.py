"""How far a study is, by a clock that the test moves."""

from __future__ import annotations

import sys

import pytest

from lightning_al.study import progress as progress_module
from lightning_al.study.progress import duration, progress


class Clock:
    """Stands still unless it is moved."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def test_the_time_left_is_reckoned_in_labels_and_fits(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Study", fits=4, labels=1000) as told:
        clock.now += 20
        told(1, 100)
        assert capsys.readouterr().err == ""  # not so soon
        clock.now += 60
        told(1, 100)
        # A fit counts its labels and half of the mean, 125: what is done counts 450 of 1500 and took 80 s.
        # The rest, 1050, takes 187 s. By labels alone it would be 5 min, by fits alone 80 s.
        assert capsys.readouterr().err == "Study: 2 of 4 fits, about 3 min left\n"
        clock.now += 20
        told(1, 300)
        assert capsys.readouterr().err == ""
        clock.now += 10
        told(1, 500)
        assert capsys.readouterr().err == "Study: 4 of 4 fits in 2 min\n"


def test_a_study_that_goes_on_counts_what_it_makes_itself(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Study", fits=10, labels=600) as told:
        clock.now += 60
        told(1, 60)
    # a tenth of the labels took a minute
    assert capsys.readouterr().err == "Study: 1 of 10 fits, about 9 min left\n"


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    with progress("Confirming", fits=2, labels=30) as told:
        told(1, 10)
        told(1, 20)
    shown = capsys.readouterr().err
    assert "Confirming" in shown
    assert "2 of 2 fits" in shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (36000, "10.0 h")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
