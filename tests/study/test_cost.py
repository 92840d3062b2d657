"""Labels, hours and money that an arm saves, against numbers worked by hand."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_al.study.cost import cost_of
from lightning_al.study.table import Row

ARM: dict[str, Any] = {"name": "Margin", "labels_to_target": 250.0, "saving_ci": (0.1, 0.6)}


def spent(arm: str, labels: int, fit: float, query: float = 0.0, replicate: int = 0, part: str = "simulation") -> Row:
    return {
        "part": part, "arm": arm, "replicate": replicate, "labels": labels, "seconds_fit": fit, "seconds_query": query
    }  # fmt: skip


ROWS = [
    # Two replicates: means of 360, 540, 720 and 900 s; a query of 36 s in all but the last round.
    *(spent("Margin", n, s - 60, 36.0, 0) for n, s in ((100, 360), (200, 540), (300, 720))),
    *(spent("Margin", n, s + 60, 36.0, 1) for n, s in ((100, 360), (200, 540), (300, 720))),
    *(spent("Margin", 400, 900, 0.0, r) for r in (0, 1)),
    *(spent("Random", n, s, 0.0, r) for n, s in ((100, 360), (200, 540), (300, 720), (400, 900)) for r in (0, 1)),
    spent("Margin", 100, 1e9, part="pilot"),
]


def test_hours_are_those_of_the_fits_up_to_the_target_less_the_one_that_random_needs() -> None:
    cost = cost_of(ARM, 380.0, ROWS, label_cost=3.0, hour_cost=20.0)

    # Margin is there at 250 labels, that is with its fit on 300: (396 + 576 + 756) s. Random needs one fit on 400.
    assert cost.hours == pytest.approx((396 + 576 + 756 - 900) / 3600)
    assert cost.compute_cost == pytest.approx(20 * 0.23)
    assert cost.labels_saved == 130
    assert cost.money_saved == 390
    assert cost.net == pytest.approx(390 - 4.6)
    # shares of random's 380 labels
    assert cost.ci == (pytest.approx(38), pytest.approx(228))
    assert cost.money_ci == (pytest.approx(114), pytest.approx(684))
    assert cost.net_ci == (pytest.approx(114 - 4.6), pytest.approx(684 - 4.6))


def test_a_costly_computer_makes_the_net_value_negative() -> None:
    cost = cost_of(ARM, 380.0, ROWS, label_cost=0.01, hour_cost=1000.0)
    assert cost.net == pytest.approx(1.3 - 230)
    assert cost.net_ci[1] == pytest.approx(2.28 - 230)


def test_an_arm_that_never_gets_there_saves_nothing_that_could_be_told() -> None:
    arm = {"name": "Margin", "labels_to_target": None, "saving_ci": (None, 0.5)}
    cost = cost_of(arm, 380.0, ROWS, label_cost=2.0, hour_cost=10.0)

    assert (cost.labels_saved, cost.money_saved, cost.net) == (None, None, None)
    assert cost.ci == (None, pytest.approx(190))
    assert cost.net_ci[0] is None
    # all of its rounds
    assert cost.hours == pytest.approx((396 + 576 + 756 + 900 - 900) / 3600)
    assert cost.net_ci[1] == pytest.approx(2 * 190 - 10 * cost.hours)


def test_more_labels_than_random_cost_money() -> None:
    arm = {"name": "Margin", "labels_to_target": 400.0, "saving_ci": (-0.5, 0.0)}
    cost = cost_of(arm, 200.0, ROWS, label_cost=2.0)
    assert (cost.labels_saved, cost.money_saved, cost.hour_cost) == (-200, -400, 0.0)
    assert cost.money_ci == (pytest.approx(-200), pytest.approx(0))
    assert cost.net == -400


def test_rows_without_times_cost_no_hours() -> None:
    rows = [{**row, "seconds_fit": None, "seconds_query": None} for row in ROWS]
    cost = cost_of(ARM, 380.0, rows, label_cost=1.0, hour_cost=10.0)
    assert (cost.hours, cost.net) == (0.0, 130.0)
