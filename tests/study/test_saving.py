"""Isotonic fits against scikit-learn, label counts against curves whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from lightning_al.study.saving import isotonic, labels_to_reach, resampling_weights, savings

LABELS = np.array([10.0, 20.0, 40.0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12))
def test_isotonic_fit_is_scikit_learns(values: list[float]) -> None:
    expected = IsotonicRegression().fit_transform(np.arange(len(values)), values)
    assert isotonic(np.array(values)).tolist() == pytest.approx(expected.tolist(), abs=1e-9)


def test_many_isotonic_fits_at_once_are_each_ones() -> None:
    y = np.random.default_rng(0).normal(size=(4, 5, 9)).cumsum(axis=2)
    together = isotonic(y)
    for place in np.ndindex(4, 5):
        assert together[place].tolist() == pytest.approx(isotonic(y[place]).tolist())


@pytest.mark.parametrize(
    ("target", "count"),
    [(50.0, 10.0), (60.0, 10.0), (65.0, 15.0), (70.0, 20.0), (75.0, 30.0), (80.0, 40.0), (80.1, np.inf)],
)
def test_labels_are_linear_between_counts(target: float, count: float) -> None:
    assert labels_to_reach(np.array([60.0, 70.0, 80.0]), LABELS, np.array(target)) == pytest.approx(count)


def test_a_flat_stretch_is_reached_at_its_first_count() -> None:
    assert labels_to_reach(np.array([60.0, 70.0, 70.0]), LABELS, np.array(70.0)) == 20.0


def test_saving_of_curves_with_a_known_answer() -> None:
    """Random reaches 80 - 5 = 75 at 30 labels, the arm at 20: it saves a third, in every replicate."""
    random, arm = np.array([[60.0, 70.0, 80.0]] * 6), np.array([[60.0, 75.0, 85.0]] * 6)
    found = savings(np.stack([random, arm]), LABELS, delta=5.0)
    assert found.target == 75.0
    assert found.labels.tolist() == [30.0, 20.0]
    assert found.saving.tolist() == pytest.approx([0, 1 / 3])
    assert (found.low[1], found.high[1]) == pytest.approx((1 / 3, 1 / 3))
    assert found.censored_share.tolist() == [0.0, 0.0]


def test_a_dip_of_the_mean_curve_is_smoothed_first() -> None:
    """Random dips at the end: its fit is 60, 75, 75, so the target is 74 and its count 10 + 10 * 14 / 15."""
    random, arm = np.array([[60.0, 80.0, 70.0]] * 6), np.array([[60.0, 74.0, 90.0]] * 6)
    found = savings(np.stack([random, arm]), LABELS, delta=1.0)
    assert found.target == 74.0
    assert found.labels.tolist() == pytest.approx([10 + 10 * 14 / 15, 20.0])


def test_never_reached_is_minus_infinity() -> None:
    random, arm = np.array([[60.0, 70.0, 80.0]] * 6), np.array([[60.0, 65.0, 70.0]] * 6)
    found = savings(np.stack([random, arm]), LABELS, delta=5.0)
    assert found.labels[1] == np.inf
    assert (found.saving[1], found.low[1], found.high[1]) == (-np.inf, -np.inf, -np.inf)
    assert found.censored_share[1] == 1.0


def test_the_interval_is_the_bootstraps_of_replicates_in_a_loop() -> None:
    rng = np.random.default_rng(3)
    values = np.array([60.0, 70.0, 80.0]) + rng.normal(0, 2, (3, 8, 3)) + np.array([0, 1, -1])[:, None, None]
    drawn = []
    for weights in resampling_weights(8, seed=5):
        means = [np.average(arm, axis=0, weights=weights) for arm in values]
        fits = [IsotonicRegression().fit_transform(np.arange(3), mean) for mean in means]
        target = fits[0][-1] - 1.0
        counts = [np.interp(target, fit, LABELS) if fit[-1] >= target else np.inf for fit in fits]
        drawn.append([1 - count / counts[0] for count in counts])
    found = savings(values, LABELS, delta=1.0, seed=5)
    ordered = np.sort(drawn, axis=0)
    assert found.low.tolist() == pytest.approx(ordered[24].tolist(), abs=1e-6)
    upper_tail = stats.norm.sf(np.sqrt(8 / 7) * stats.t.isf(0.025, df=7))  # the expanded percentile of eight values
    assert found.high.tolist() == pytest.approx(ordered[int(np.ceil(999 * (1 - upper_tail)))].tolist(), abs=1e-6)
    assert 0 < found.censored_share[2] < 1
    assert found.censored_share.tolist() == np.isinf(drawn).mean(axis=0).tolist()


def test_resampling_draws_replicates_with_equal_chance() -> None:
    counts = resampling_weights(5, seed=1) * 5
    assert counts.shape == (1000, 5)
    assert counts.sum(axis=1).tolist() == pytest.approx([5.0] * 1000)
    assert counts == pytest.approx(np.round(counts))
    assert counts.var(axis=0).mean() == pytest.approx(0.8, rel=0.15)  # a multinomial's n p (1 - p)


def test_no_label_at_all_may_reach_the_target() -> None:
    """Random is flat, and there at once; an arm that falls to its level with no label saves nothing."""
    flat = np.array([[50.0, 50.0, 50.0]] * 3)
    labels = np.array([0.0, 10.0, 20.0])
    found = savings(np.stack([flat, flat, flat - 5 + np.array([0, 5, 10])]), labels, delta=0.5)
    assert found.saving.tolist() == [0.0, 0.0, -np.inf]
    assert not np.isnan([found.low, found.high]).any()


def test_one_replicate_has_no_interval() -> None:
    values = np.array([[[60.0, 70.0, 80.0]], [[60.0, 75.0, 85.0]]])
    found = savings(values, LABELS, delta=5.0)
    assert found.saving[1] == pytest.approx(1 / 3)
    assert (found.low[1], found.high[1]) == (-np.inf, np.inf)
