"""Sign flips against loops over every sign vector, and the intervals' coverage by simulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from lightning_al.study.sign_flip import (
    adjusted_p,
    critical_value,
    sign_vectors,
    simultaneous_intervals,
    t_interval,
)

Array = npt.NDArray[np.floating[Any]]


def every_sign(replicates: int) -> Iterator[tuple[int, ...]]:
    """All sign vectors whose first is +1."""
    for rest in itertools.product((1, -1), repeat=replicates - 1):
        yield (1, *rest)


def studentised(values: Array, signs: tuple[int, ...]) -> float:
    """|mean of flipped values| over its standard error, as the text has it."""
    replicates = len(values)
    mean = sum(sign * value for sign, value in zip(signs, values, strict=True)) / replicates
    square = sum(value**2 for value in values) / replicates
    rest = square - mean**2
    return abs(mean) / math.sqrt(rest / (replicates - 1)) if rest > 1e-12 else (math.inf if mean else 0.0)


def largest(rows: Array, signs: tuple[int, ...]) -> float:
    return max(studentised(row, signs) for row in rows)


def gains(replicates: int, arms: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return rng.standard_t(3, (arms, replicates)) + rng.normal(0.5, 0.5, (arms, 1))


@pytest.mark.parametrize(("replicates", "arms", "position"), [(6, 1, 2), (7, 3, 4), (8, 2, 7), (10, 4, 26)])
def test_the_critical_value_is_the_one_of_the_text(replicates: int, arms: int, position: int) -> None:
    differences = gains(replicates, arms, seed=replicates)
    residuals = differences - differences.mean(axis=1, keepdims=True)
    ordered = sorted((largest(residuals, signs) for signs in every_sign(replicates)), reverse=True)
    assert position == math.floor(0.05 * 2 ** (replicates - 1)) + 1
    assert critical_value(differences) == pytest.approx(ordered[position - 1], rel=1e-9)


@pytest.mark.parametrize(("replicates", "arms"), [(1, 1), (2, 2), (6, 1), (7, 4), (10, 3)])
def test_p_values_are_shares_of_all_sign_vectors(replicates: int, arms: int) -> None:
    differences = gains(replicates, arms, seed=10 + replicates)
    everything = [largest(differences, signs) for signs in every_sign(replicates)]
    observed = [studentised(row, (1,) * replicates) for row in differences]
    expected = [np.mean([value >= mine - 1e-9 for value in everything]) for mine in observed]
    assert adjusted_p(differences).tolist() == pytest.approx(expected)


def test_a_constant_gain_has_the_least_p_and_no_gain_has_one() -> None:
    assert adjusted_p(np.array([[2.0] * 6, [0.0] * 6])).tolist() == [1 / 32, 1.0]


def test_sign_vectors_are_all_of_them_up_to_15_replicates() -> None:
    assert {tuple(row) for row in sign_vectors(6).astype(int)} == set(every_sign(6))
    assert sign_vectors(15).shape == (2**14, 15)


def test_sign_vectors_are_drawn_beyond_15_replicates() -> None:
    signs = sign_vectors(18, seed=3)
    assert signs.shape == (2**14, 18)
    assert (signs[:, 0] == 1).all()
    assert (signs[0] == 1).all()
    assert np.abs(signs[:, 1:].mean(axis=0)).max() < 5 / math.sqrt(2**14)
    assert (signs == sign_vectors(18, seed=3)).all()
    assert (signs != sign_vectors(18, seed=4)).any()


def test_the_drawn_signs_give_nearly_the_exact_critical_value() -> None:
    differences = gains(16, 3, seed=5)
    residuals = differences - differences.mean(axis=1, keepdims=True)
    codes = np.arange(2**15)[:, None] >> np.arange(15) & 1
    signs = np.concatenate([np.ones((2**15, 1)), 1 - 2 * codes], axis=1)
    mean, square = signs @ residuals.T / 16, (residuals**2).mean(axis=1)
    exact = np.sort((np.abs(mean) / np.sqrt((square - mean**2) / 15)).max(axis=1))[::-1][math.floor(0.05 * 2**15)]
    assert critical_value(differences, seed=1) == pytest.approx(exact, rel=0.03)


def test_intervals_are_c_standard_errors_wide() -> None:
    differences = gains(10, 4, seed=2)
    low, high = simultaneous_intervals(differences)
    half = critical_value(differences) * np.array([np.std(row, ddof=1) for row in differences]) / math.sqrt(10)
    assert (high - low).tolist() == pytest.approx((2 * half).tolist())
    assert ((low + high) / 2).tolist() == pytest.approx(differences.mean(axis=1).tolist())


def test_fewer_than_six_replicates_have_bonferroni_t_intervals() -> None:
    differences = gains(5, 3, seed=1)
    assert critical_value(differences) == math.inf
    for row, low, high in zip(differences, *simultaneous_intervals(differences), strict=True):
        expected = stats.t.interval(1 - 0.05 / 3, 4, row.mean(), stats.sem(row))
        assert (low, high) == pytest.approx(expected)


def test_one_replicate_has_no_bounds() -> None:
    low, high = simultaneous_intervals(np.array([[1.0], [2.0]]))
    assert np.isneginf(low).all()
    assert np.isposinf(high).all()


def test_equal_gains_give_a_point_and_leave_the_other_arms_alone() -> None:
    other = gains(8, 1, seed=4)
    same = np.full((1, 8), 0.1) + 0.2  # 0.30000000000000004: rounding errors are no spread
    low, high = simultaneous_intervals(np.concatenate([same, other]))
    assert low[0] == high[0] == pytest.approx(0.3)
    assert critical_value(np.concatenate([same, other])) == pytest.approx(critical_value(other))


def test_intervals_of_several_arms_hold_at_once() -> None:
    """400 sets of 4 dependent arms with heavy tails: 5 % may miss, give or take the simulation's error."""
    rng = np.random.default_rng(0)
    truth = np.array([0.0, 0.5, -1.0, 2.0])
    missed = 0
    for _ in range(400):
        noise = rng.standard_t(4, (4, 10)) + rng.normal(size=(1, 10))
        low, high = simultaneous_intervals(truth[:, None] + noise)
        missed += bool(((low > truth) | (high < truth)).any())
    assert 0.01 <= missed / 400 <= 0.08


def test_half_widths_at_ten_replicates_are_those_of_the_text() -> None:
    """About .73, .98 and 1.12 standard deviations for 1, 4 and 8 arms."""
    rng = np.random.default_rng(1)
    for arms, expected in ((1, 0.73), (4, 0.98), (8, 1.12)):
        values = [critical_value(rng.normal(size=(arms, 10))) / math.sqrt(10) for _ in range(200)]
        assert np.mean(values) == pytest.approx(expected, abs=0.04)


def test_the_t_interval_is_scipys() -> None:
    values = gains(7, 1, seed=3)[0]
    assert t_interval(values) == pytest.approx(stats.t.interval(0.95, 6, values.mean(), stats.sem(values)))
