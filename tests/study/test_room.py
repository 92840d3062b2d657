"""Room and required replicates against numbers worked out by hand, and a search with scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lightning_al.study.room import Room, required_replicates, room


def test_room_is_the_whole_pilot_less_randoms_area() -> None:
    """Differences 10, 12, 14: mean 12, SD 2, t(.975, 2) = 4.3027, half-width 4.3027 * 2 / sqrt(3) = 4.9683."""
    found = room(np.array([70.0, 70.0, 70.0]), np.array([[75.0, 76.0, 77.0]]), np.array([80.0, 82.0, 84.0]))
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((12, 12 - 4.9683, 12 + 4.9683), abs=1e-3)


def test_the_whole_pilot_is_lifted_to_the_best_arm() -> None:
    """Its mean is 82, the best arm's mean last point 85: every replicate is lifted by 3."""
    last = np.array([[75.0, 76.0, 77.0], [84.0, 85.0, 86.0], [80.0, 80.0, 80.0]])
    lifted = room(np.array([70.0, 70.0, 70.0]), last, np.array([80.0, 82.0, 84.0]))
    assert lifted is not None
    assert lifted.mean == pytest.approx(15.0)
    assert lifted.high - lifted.low == pytest.approx(2 * 4.9683, abs=1e-3)


def test_without_fits_on_the_whole_pilot_randoms_last_point_stands_for_them() -> None:
    last = np.array([[75.0, 77.0], [74.0, 74.0]])
    assert room(np.array([70.0, 72.0]), last) == Room(5.0, 5.0, 5.0)
    assert room(np.array([70.0, 72.0]), last, np.array([90.0, np.nan])) == Room(5.0, 5.0, 5.0)


def test_a_replicate_without_a_fit_on_the_whole_pilot_is_left_out() -> None:
    found = room(np.array([70.0, 71.0, 99.0]), np.array([[75.0, 75.0, 75.0]]), np.array([80.0, 81.0, np.nan]))
    assert found == Room(10.0, 10.0, 10.0)


def test_one_replicate_has_no_room() -> None:
    assert room(np.array([70.0]), np.array([[75.0]]), np.array([80.0])) is None


def searched(gains: list[float], deviations: list[float], replicates: int, delta: float) -> int | None:
    """The least number of replicates, as the text has it."""
    for more in range(max(replicates + 1, 6), 201):
        half = [
            (stats.t.ppf(1 - 0.05 / (2 * len(gains)), more - 1) + stats.t.ppf(0.8, more - 1)) * s / math.sqrt(more)
            for s in deviations
        ]
        if any(gain >= delta and gain - h > 0 for gain, h in zip(gains, half, strict=True)):
            return more
        if all(gain + h < delta for gain, h in zip(gains, half, strict=True)):
            return more
    return None


@pytest.mark.parametrize(
    ("gains", "deviations", "replicates"),
    [
        ([0.8], [1.0], 6),
        ([0.8, 0.1, -0.2, 0.4], [1.0, 0.5, 2.0, 1.0], 10),
        ([0.1, 0.2], [0.8, 0.6], 10),
        ([0.49], [1.0], 10),
        ([3.0], [0.1], 2),
        ([1.0], [1.0], 199),
        ([1.0], [1.0], 200),
    ],
)
def test_required_replicates(gains: list[float], deviations: list[float], replicates: int) -> None:
    found = required_replicates(np.array(gains), np.array(deviations), replicates, 0.5)
    assert found == searched(gains, deviations, replicates, 0.5)


def test_too_few_replicates_never_settle_anything() -> None:
    assert required_replicates(np.array([3.0]), np.array([0.1]), 2, 0.5) == 6
