"""Learning curves whose constants are known, scipy's fit of noisy ones, and what lies beyond the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import optimize, stats

from lightning_al.study.learning_curve import fit_learning_curve, headroom

LABELS = np.array([40.0, 80.0, 160.0, 240.0, 320.0])
Array = npt.NDArray[np.floating[Any]]


def runs(a: float = 300.0, b: float = 0.6, c: float = 8.0, noise: float = 0.0, seed: int = 0) -> Array:
    """``(5, 5, 3)`` values of ``100 - c - a n^-b``."""
    rng = np.random.default_rng(seed)
    return (100 - c - a * LABELS**-b)[:, None, None] + noise * rng.normal(size=(5, 5, 3))


@pytest.mark.parametrize(("a", "b", "c"), [(300, 0.6, 8), (150, 0.3, 0), (2000, 1.2, 20), (90, 0.05, 1)])
def test_an_exact_curve_is_found(a: float, b: float, c: float) -> None:
    curve = fit_learning_curve(LABELS, runs(a, b, c), 100.0)
    truth = 100 - c - a * LABELS**-b
    assert [curve.predict(n)[0] for n in LABELS] == pytest.approx(truth.tolist(), abs=1e-3)
    assert curve.b[0] == pytest.approx(b, abs=0.01)
    level = 100 - c - a * 500.0**-b
    assert curve.labels_for(level).labels == pytest.approx(500, rel=0.01)


def test_a_noisy_curve_is_scipys_least_squares() -> None:
    y = runs(noise=1.0)
    curve = fit_learning_curve(LABELS, y, 100.0)
    mean = 100 - y.mean(axis=(1, 2))
    (a, b, c), _ = optimize.curve_fit(
        lambda n, a, b, c: a * n**-b + c, LABELS, mean, p0=(300, 0.5, 5), bounds=([0, 0.02, 0], [1e6, 4, 100])
    )
    assert [curve.predict(n)[0] for n in LABELS] == pytest.approx((100 - a * LABELS**-b - c).tolist(), abs=1e-2)


def test_intervals_hold_the_truth() -> None:
    """The level at 320 labels and the labels for 80 points, on 25 curves: a bootstrap over 5 buckets is narrow."""
    truth, needed = 100 - 8 - 300 * 320**-0.6, (300 / 12) ** (1 / 0.6)
    held, held_labels = 0, 0
    for seed in range(25):
        curve = fit_learning_curve(LABELS, runs(noise=1.5, seed=seed), 100.0, seed=seed)
        _, low, high = curve.predict(320)
        asked = curve.labels_for(80.0)
        held += low <= truth <= high
        held_labels += asked.low <= needed <= (asked.high or np.inf)
    assert held / 25 >= 0.8
    assert held_labels / 25 >= 0.8


def test_the_whole_pilot_is_another_point() -> None:
    whole = (1600.0, np.full(4, 100 - 8 - 300 * 1600**-0.6))
    curve = fit_learning_curve(LABELS, runs(noise=0.5), 100.0, whole=whole)
    assert curve.labels[-1] == 1600
    assert curve.predict(1600)[0] == pytest.approx(whole[1][0], abs=0.3)
    assert curve.labels_for(89.0).labels == pytest.approx((300 / 3) ** (1 / 0.6), rel=0.1)


def test_levels_beyond_the_data_are_not_told() -> None:
    """92 points are the asymptote; 4 times the largest count, 1280, gives 87.9 points."""
    curve = fit_learning_curve(LABELS, runs(), 100.0)
    assert curve.labels_for(93.0).beyond
    assert curve.labels_for(100.0).labels is None
    assert curve.labels_for(88.5).beyond
    assert not curve.labels_for(87.0).beyond


def test_an_upper_end_beyond_the_data_is_open() -> None:
    found = fit_learning_curve(LABELS, runs(noise=2.0), 100.0).labels_for(86.0)
    assert found.labels is not None
    assert found.low < found.labels
    assert found.high is None


def test_a_flat_curve_and_a_falling_one_are_level() -> None:
    for y in (np.full((5, 5, 3), 90.0), runs() * -1 + 150):
        curve = fit_learning_curve(LABELS, y, 100.0)
        assert curve.a[0] == pytest.approx(0.0, abs=1e-6)
        assert curve.predict(1000)[0] == pytest.approx(y.mean())
        assert curve.labels_for(y.mean() - 1).labels == 1.0
        assert curve.labels_for(y.mean() + 1).beyond


def test_the_error_that_remains_is_not_negative_where_the_metric_has_a_bound() -> None:
    y = (100 + 5 - 100 * LABELS**-0.4)[:, None, None]
    assert fit_learning_curve(LABELS, y, 100.0).c[0] == 0.0
    assert fit_learning_curve(LABELS, y, 100.0, bounded=False).c[0] == pytest.approx(-5.0, abs=0.1)


def test_missing_fits_are_left_out() -> None:
    y = runs()
    y[0, 0, 0] = y[2] = np.nan
    y[1, :, 0] = np.nan
    curve = fit_learning_curve(LABELS, y, 100.0)
    assert curve.labels.tolist() == [40, 80, 240, 320]
    assert (curve.a[0], curve.b[0], curve.c[0]) == pytest.approx((300, 0.6, 8), rel=0.01)
    assert np.isfinite(curve.draws).all()


def test_two_label_counts_are_no_curve() -> None:
    assert fit_learning_curve(LABELS[:2], runs()[:2], 100.0) is None


def test_headroom_is_a_paired_t_interval() -> None:
    first, whole = np.array([50.0, 52.0, 51.0, 40.0]), np.array([80.0, 83.0, 80.0, np.nan])
    found = headroom(first, whole)
    test = stats.ttest_rel(whole[:3], first[:3]).confidence_interval()
    assert (found.value, found.low, found.high) == pytest.approx((30.0, test.low, test.high))
    assert (found.initial, found.all) == pytest.approx((51.0, 81.0))
    assert headroom(first[2:], whole[2:]) is None
