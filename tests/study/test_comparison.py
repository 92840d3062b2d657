"""The comparison against areas, gains and penalties worked out in loops, and the properties that it must have."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from lightning_al.study.comparison import Comparison, area_under, collapsed, compare_arms, penalties
from lightning_al.study.curves import Curves
from tests._helpers.fits import curves_of, steady

LABELS = [60, 120, 240, 300]


def drawn(replicates: int = 8, seed: int = 0) -> Curves:
    rng = np.random.default_rng(seed)
    shared = np.array([50.0, 65, 75, 78]) + rng.normal(0, 2, (replicates, 1))

    def runs(*gain: float) -> npt.NDArray[np.float64]:
        return shared + np.array(gain) + rng.normal(0, 0.7, (replicates, 4)) * [0, 1, 1, 1]

    return curves_of(LABELS, random=runs(0, 0, 0, 0), Margin=runs(0, 2, 2, 1), KMeans=runs(0, 0, -1, 0))


def test_areas_are_trapezoids_over_the_range() -> None:
    curves = drawn()
    comparison = compare_arms(curves, delta=0.5, saving=0.1)
    for arm in curves.arms:
        for replicate, run in enumerate(curves.values[arm]):
            assert comparison.area[arm][replicate] == pytest.approx(integrate.trapezoid(run, LABELS) / 240)
    assert area_under(np.full(4, 7.5), np.array(LABELS)) == 7.5


def test_gains_are_those_of_a_paired_t_test() -> None:
    curves = drawn()
    comparison = compare_arms(curves, delta=0.5, saving=0.1)
    for arm in comparison.arms:
        mine, random = comparison.area[arm.name], comparison.area["random"]
        test = stats.ttest_rel(mine, random)
        assert arm.delta == pytest.approx(np.mean(mine) - np.mean(random))
        assert arm.sd == pytest.approx(np.std(mine - random, ddof=1))
        assert arm.t == pytest.approx(test.statistic)
        assert arm.wins == sum(a > b for a, b in zip(mine, random, strict=True))
        assert arm.low < arm.delta < arm.high
        assert arm.endpoint == pytest.approx(np.mean(curves.values[arm.name][:, -1] - curves.values["random"][:, -1]))
        assert arm.endpoint_ci[0] < arm.endpoint < arm.endpoint_ci[1]
        assert arm.label_ratio == pytest.approx(arm.labels_to_target / comparison.random_labels_to_target)
        ends = [None if np.isinf(end) else end for end in (1 - arm.saving_high, 1 - arm.saving_low)]
        assert list(arm.label_ratio_ci) == ends


def test_the_whole_pilot_gives_the_room() -> None:
    curves = drawn()
    whole = np.linspace(90, 92, 8)
    comparison = compare_arms(curves, delta=0.5, saving=0.1, whole=whole)
    expected = stats.t.interval(
        0.95, 7, np.mean(whole - comparison.area["random"]), stats.sem(whole - comparison.area["random"])
    )
    assert (comparison.room.low, comparison.room.high) == pytest.approx(expected)


def test_penalties_are_counted_test_by_test() -> None:
    curves = drawn(seed=3)
    matrix = penalties(curves.stacked())
    for i, one in enumerate(curves.arms):
        for j, other in enumerate(curves.arms):
            beaten = 0
            for count in range(1, 4):
                mine, others = curves.values[one][:, count], curves.values[other][:, count]
                if i != j:
                    test = stats.ttest_rel(mine, others)
                    beaten += test.pvalue < 0.05 and test.statistic > 0
            assert matrix[i, j] == pytest.approx(beaten / 3)
    assert 0 < matrix[1, 0] <= 1


def test_no_difference_is_a_point_at_zero() -> None:
    curves = drawn()
    twins = {"random": curves.values["random"], "Twin": curves.values["random"]}
    same = dataclasses.replace(curves, arms=tuple(twins), values=twins)
    (arm,) = compare_arms(same, delta=0.5, saving=0.1).arms
    assert (arm.delta, arm.sd, arm.low, arm.high, arm.t, arm.p_adj, arm.wins) == (0, 0, 0, 0, 0, 1, 0)
    assert (arm.saving, arm.saving_low, arm.saving_high, arm.endpoint_ci) == (0, 0, 0, (0, 0))


@pytest.mark.parametrize("replicates", [1, 2, 3, 5])
def test_few_replicates_are_exploratory_and_finite(replicates: int) -> None:
    comparison = compare_arms(drawn(replicates), delta=0.5, saving=0.1)
    assert comparison.exploratory
    for arm in comparison.arms:
        assert not np.isnan([arm.delta, arm.low, arm.high, arm.p_adj, arm.t, arm.saving_low, arm.saving_high]).any()
        assert np.isfinite([arm.low, arm.high]).all() == (replicates > 1)
        assert (arm.sd is None) == (replicates == 1)
    assert (comparison.room is None) == (replicates == 1)
    assert not np.isnan(comparison.penalty_matrix).any()


def test_an_arm_that_never_reaches_the_target_is_censored() -> None:
    curves = steady({"Bad": [-10.0] * 6})
    (arm,) = compare_arms(curves, delta=0.5, saving=0.1).arms
    assert arm.censored
    assert (arm.labels_to_target, arm.saving, arm.label_ratio, arm.label_ratio_ci) == (None, None, None, (None, None))
    assert (arm.saving_low, arm.saving_high, arm.censored_share) == (-np.inf, -np.inf, 1.0)


def test_one_arm_that_collapses_in_one_run_is_named() -> None:
    curves = drawn(10, seed=2)
    curves.values["Margin"][3, 2] -= 30
    by_name = {arm.name: arm.collapses for arm in compare_arms(curves, delta=0.5, saving=0.1).arms}
    assert by_name == {"Margin": ("3",), "KMeans": ()}


def test_what_all_arms_of_a_replicate_share_is_no_collapse() -> None:
    curves = drawn(10, seed=2)
    for arm in curves.arms:
        curves.values[arm][3] -= 30
    assert not collapsed(curves.stacked(), least=2.5).any()


def test_noise_is_rarely_called_a_collapse() -> None:
    found = [collapsed(drawn(10, seed).stacked(), least=0.0).any() for seed in range(100)]
    assert np.mean(found) <= 0.1
    assert not any(collapsed(drawn(10, seed).stacked(), least=5.0).any() for seed in range(100))


@pytest.mark.parametrize(
    ("delta", "saving", "message"),
    [(0, 0.1, "`delta`.* but got 0"), (np.nan, 0.1, "`delta`"), (0.5, 0, "`saving`.* but got 0"), (0.5, 1, "`saving`")],
)
def test_thresholds_out_of_range_are_refused(delta: float, saving: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_arms(drawn(), delta=delta, saving=saving)


def numbers_of(comparison: Comparison) -> dict[str, list[Any]]:
    """All that is said of each arm, without levels."""
    return {
        arm.name: [
            *(arm.delta, arm.sd, arm.low, arm.high, arm.p_adj, arm.t, arm.endpoint, *arm.endpoint_ci, arm.wins),
            *(arm.labels_to_target, arm.saving, arm.saving_low, arm.saving_high, arm.censored_share),
        ]
        for arm in comparison.arms
    }


def assert_alike(one: Comparison, other: Comparison, *, but: tuple[int, ...] = ()) -> None:
    first, second = numbers_of(one), numbers_of(other)
    assert first.keys() == second.keys()
    for name, values in first.items():
        for place, (mine, others) in enumerate(zip(values, second[name], strict=True)):
            if mine is None or others is None:
                assert mine is others or place in but
            elif place not in but:
                assert mine == pytest.approx(others, rel=1e-6, abs=1e-8), (name, place)
    assert one.required_R == other.required_R
    assert (
        one.room == pytest.approx(other.room) if one.room is None else one.room.mean == pytest.approx(other.room.mean)
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 10), st.integers(0, 1000))
def test_the_order_of_the_arms_does_not_matter(replicates: int, seed: int) -> None:
    curves = drawn(replicates, seed)
    turned = dataclasses.replace(curves, arms=("random", "KMeans", "Margin"))
    assert_alike(compare_arms(curves, delta=0.5, saving=0.1), compare_arms(turned, delta=0.5, saving=0.1))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 10), st.integers(0, 1000))
def test_the_order_of_the_replicates_matters_to_the_bootstrap_only(replicates: int, seed: int) -> None:
    curves = drawn(replicates, seed)
    order = np.random.default_rng(seed).permutation(replicates)
    turned = dataclasses.replace(curves, values={arm: values[order] for arm, values in curves.values.items()})
    bootstrapped = (12, 13, 14)
    assert_alike(
        compare_arms(curves, delta=0.5, saving=0.1), compare_arms(turned, delta=0.5, saving=0.1), but=bootstrapped
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 10), st.integers(0, 1000), st.floats(-40, 40))
def test_a_constant_changes_levels_only(replicates: int, seed: int, constant: float) -> None:
    curves = drawn(replicates, seed)
    moved = dataclasses.replace(curves, values={arm: values + constant for arm, values in curves.values.items()})
    one, other = compare_arms(curves, delta=0.5, saving=0.1), compare_arms(moved, delta=0.5, saving=0.1)
    assert_alike(one, other)
    assert other.target == pytest.approx(one.target + constant)
