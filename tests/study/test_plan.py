"""What a study says of its time before it begins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lightning_al.strategies import BADGE, Margin
from lightning_al.study import plan as plan_module
from lightning_al.study.design import Design
from lightning_al.study.plan import Plan, plan_of
from lightning_al.study.types import Fit, Request

DESIGN = Design(1200, 60, 30, 4, 10, 5, (0.2, 0.4, 0.6, 0.8, 1.0), 3, ("Margin", "BADGE"), seed=1)
# 5 x 5 x 3 random subsets; 10 first fits, and 10 x 3 arms x 4 rounds; 10 whole pilots
FITS = 75 + 10 + 120 + 10


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now


class SlowFitter:
    """Ten seconds a fit, and two and four for the queries."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.requests = clock, list[Request]()

    def fit_many(self, requests: Sequence[Request]) -> list[Fit]:
        self.requests += requests
        self.clock.now += 16.0
        return [Fit({"accuracy": 0.5}, seconds_fit=9.0, seconds_query={"Margin": 2.0, "BADGE": 4.0})]


@pytest.fixture
def fitter(monkeypatch: pytest.MonkeyPatch) -> SlowFitter:
    clock = Clock()
    monkeypatch.setattr(plan_module, "time", clock)
    return SlowFitter(clock)


def test_one_fit_of_the_mean_number_of_labels_is_timed(fitter: SlowFitter) -> None:
    strategies = {"Margin": Margin(), "BADGE": BADGE()}
    plan = plan_of(DESIGN, "full", 2, fitter, strategies)

    (request,) = fitter.requests
    # buckets of 240: 3 seeds x 5 buckets x (48 + 96 + 144 + 192 + 240); chains of 90, 120, 150 and 180 for 3 arms
    mean = (3 * 5 * 720 + 10 * (60 + 3 * 540 + 1200)) / FITS
    assert len(set(request.labeled.tolist())) == round(mean)
    assert request.labeled.max() < 1200
    assert (dict(request.queries), request.query_size) == (strategies, 30)
    # 215 fits of 10 s; each of 40 rounds that are queried for pays for both strategies' queries, 6 s
    assert plan.seconds == pytest.approx(FITS * 10 + 40 * 6)


def test_the_plan_is_a_table() -> None:
    assert str(Plan(DESIGN, 2390.0, 2, "full")).splitlines() == [
        "Nested random design     75 fits  5 buckets x 20, 40, 60, 80, 100 % x 3 seeds",
        "Paired simulation       130 fits  10 replicates x (random, Margin, BADGE), 60 to 180 labels by 30",
        "The whole pilot          10 fits  1,200 labels",
        "In all                  215 fits  about 20 min with 2 side by side, reckoned from one timed fit",
    ]
    assert Plan(DESIGN, 60.0, 1, "full").time == "about 60 s, reckoned from one timed fit"
    assert Plan(DESIGN, None, 1, "full").time == "not timed"


@pytest.mark.parametrize(
    ("seconds", "workers", "mode", "named"),
    [(7199, 1, "full", False), (7201, 1, "full", True), (7201, 2, "full", False), (9e9, 1, "proxy", False)],
)
def test_proxy_is_named_where_full_is_long(seconds: float, workers: int, mode: str, named: bool) -> None:
    assert ("mode='proxy'" in Plan(DESIGN, seconds, workers, mode).hint) == named
    assert Plan(DESIGN, None, workers, mode).hint == ""


def test_without_a_fitter_nothing_is_timed() -> None:
    plan = plan_of(DESIGN, "full", 2)
    assert (plan.seconds, plan.design.num_fits) == (None, FITS)


def test_what_is_finished_is_not_reckoned(fitter: SlowFitter) -> None:
    cells = [{"labels": labels} for labels in [48] * 15 + [60] * 10]
    plan = plan_of(DESIGN, "full", 1, fitter, {"Margin": Margin(), "BADGE": BADGE()}, cells)
    # half of a fit's time grows with its labels
    whole, labels = FITS * 10 + 40 * 6, 3 * 5 * 720 + 10 * (60 + 3 * 540 + 1200)
    assert labels == 39_600
    assert plan.seconds == pytest.approx(whole * (0.5 * (FITS - 25) / FITS + 0.5 * (labels - 1320) / labels))
    assert (plan.finished, plan.left) == (25, 190)
    assert str(plan).splitlines()[3:] == [
        "In all                  215 fits",
        "Left                    190 fits  about 37 min, reckoned from one timed fit",
    ]


def test_a_finished_study_is_not_timed(fitter: SlowFitter) -> None:
    plan = plan_of(DESIGN, "full", 1, fitter, {"Margin": Margin()}, [{"labels": 60}] * FITS)
    assert str(plan).splitlines()[-1] == "Left                      0 fits  the answer alone is written anew"
    assert (plan.seconds, plan.hint, fitter.requests) == (None, "", [])


def test_a_pilot_that_is_all_labeled_is_not_queried(fitter: SlowFitter) -> None:
    everything = Design(10, 9, 1, 1, 2, 2, (1.0,), 1, ("Margin",), seed=0)
    plan_of(everything, "full", 1, fitter, {"Margin": Margin()})
    (request,) = fitter.requests
    assert len(request.labeled) == round((2 * 5 + 2 * (9 + 2 * 10 + 10)) / (2 + 2 * 4))
    assert np.unique(request.labeled).size == len(request.labeled)
