"""Variance components against a table worked out by hand, scipy, and an explicit nested analysis of variance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from lightning_al.study.reading import read_table
from lightning_al.study.variance import decompose, read_nested, superiority

Array = npt.NDArray[np.floating[Any]]


def nested(sigma_data: float, sigma_training: float, seed: int = 0, shape: tuple[int, int, int] = (4, 5, 3)) -> Array:
    rng = np.random.default_rng(seed)
    fractions, buckets, _ = shape
    level = 60 + 5 * np.arange(fractions)[:, None, None]
    return level + sigma_data * rng.normal(size=(fractions, buckets, 1)) + sigma_training * rng.normal(size=shape)


def test_a_table_worked_out_by_hand() -> None:
    """Bucket means 2, 6, 10 of two seeds each: MS_bucket = 2 * 32 / 2 = 32, MS_within = 6 / 3 = 2, F = 16.

    sigma_D^2 = (32 - 2) / 2 = 15, ICC = 15 / 17. F_.975(2, 3) = 16.044, F_.025(2, 3) = 1 / F_.975(3, 2) = 1 / 39.166.
    """
    found = decompose(np.array([[[1.0, 3.0], [5.0, 7.0], [9.0, 11.0]]]))
    assert found is not None
    assert (found.ms_bucket, found.ms_within, found.f) == pytest.approx((32, 2, 16))
    assert (found.sigma_training**2, found.sigma_data**2, found.icc) == pytest.approx((2, 15, 15 / 17))
    upper = 16 * 39.1655
    assert (found.icc_low, found.icc_high) == pytest.approx((0.0, (upper - 1) / (upper + 1)), abs=1e-5)
    assert found.p == pytest.approx(0.025, abs=1e-3)  # 16 is nearly F_.975


def test_one_fraction_is_scipys_one_way_analysis() -> None:
    y = nested(1.0, 1.0, shape=(1, 5, 3))
    found = decompose(y)
    test = stats.f_oneway(*y[0])
    assert (found.f, found.p) == pytest.approx((test.statistic, test.pvalue))


def test_several_fractions_are_pooled() -> None:
    y = nested(0.8, 0.6, seed=3)
    between = within = 0.0
    for fraction in y:
        for bucket in fraction:
            between += 3 * (np.mean(bucket) - np.mean(fraction)) ** 2
            within += sum((value - np.mean(bucket)) ** 2 for value in bucket)
    ms_bucket, ms_within = between / (4 * 4), within / (4 * 5 * 2)
    found = decompose(y)
    assert (found.ms_bucket, found.ms_within) == pytest.approx((ms_bucket, ms_within))
    ratio = ms_bucket / ms_within
    assert found.p == pytest.approx(stats.f.sf(ratio, 16, 40))
    assert found.icc == pytest.approx((ms_bucket - ms_within) / (ms_bucket + 2 * ms_within))
    for end, quantile in ((found.icc_low, 0.975), (found.icc_high, 0.025)):
        limit = ratio / stats.f.ppf(quantile, 16, 40)
        assert end == pytest.approx((limit - 1) / (limit + 2))
    assert found.means.tolist() == pytest.approx(y.mean(axis=(1, 2)).tolist())


def test_the_interval_covers_the_truth() -> None:
    """200 designs with ICC .35; 95 % are covered, give or take the simulation's error."""
    data, training = math.sqrt(0.35), math.sqrt(0.65)
    found = [decompose(nested(data, training, seed)) for seed in range(200)]
    assert 0.9 <= np.mean([each.icc_low <= 0.35 <= each.icc_high for each in found]) <= 0.99


def test_training_noise_alone_has_no_share_of_the_data() -> None:
    y = np.array([[[1.0, 5.0], [2.0, 4.0], [5.0, 1.0]]])  # all bucket means are 3
    found = decompose(y)
    assert (found.sigma_data, found.icc, found.icc_low, found.f, found.p) == (0.0, 0.0, 0.0, 0.0, 1.0)


def test_no_training_noise_leaves_all_to_the_data() -> None:
    found = decompose(np.repeat([[[0.1], [0.3]]], 2, axis=2))
    assert (found.sigma_training, found.icc, found.icc_low, found.icc_high, found.p) == (0.0, 1.0, 1.0, 1.0, 0.0)


def test_no_spread_at_all_tells_nothing() -> None:
    found = decompose(np.full((2, 3, 2), 0.1) + 0.2)
    assert (found.icc, found.icc_low, found.icc_high, found.f, found.p) == (0.0, 0.0, 1.0, 0.0, 1.0)


def test_a_bucket_that_lacks_a_fit_is_left_out() -> None:
    y = nested(1.0, 0.5)
    y[0, 2, 1] = np.nan
    found = decompose(y)
    between = within = 0.0
    for fraction in [np.delete(y[0], 2, axis=0), *y[1:]]:
        between += sum(3 * (np.mean(bucket) - np.mean(fraction)) ** 2 for bucket in fraction)
        within += sum(((bucket - np.mean(bucket)) ** 2).sum() for bucket in fraction)
    assert (found.ms_bucket, found.ms_within) == pytest.approx((between / 15, within / 38))
    assert found.notes == ("1 of 20 bucket fractions lack a fit and were left out.",)
    assert not np.isnan([*found.means, *found.lows, *found.highs, *found.superiority.ravel()]).any()


@pytest.mark.parametrize("shape", [(4, 5, 1), (4, 1, 3)])
def test_what_cannot_be_split_is_not(shape: tuple[int, int, int]) -> None:
    assert decompose(nested(1, 1, shape=shape)) is None
    assert decompose(np.full((2, 2, 2), np.nan)) is None


def test_a_constant_moves_the_means_only() -> None:
    one, other = decompose(nested(1.0, 0.5)), decompose(nested(1.0, 0.5) + 17)
    assert (one.icc, one.f, one.p) == pytest.approx((other.icc, other.f, other.p))
    assert (other.lows - one.lows).tolist() == pytest.approx([17.0] * 4)


def test_means_resample_buckets() -> None:
    """With buckets at 0 and 1 the bootstrap's mean is 0, .5 or 1: its interval is [0, 1]."""
    found = decompose(np.array([[[0.0, 0.0], [1.0, 1.0]]]))
    assert (found.means[0], found.lows[0], found.highs[0]) == (0.5, 0.0, 1.0)


def test_superiority_counts_pairs_of_fits() -> None:
    y = nested(2.0, 2.0, seed=1)
    y[1, 0, 0] = np.nan
    expected = np.zeros((4, 4))
    for i in range(4):
        for j in range(4):
            pairs = [(a, b) for a in y[i].ravel() for b in y[j].ravel() if not (np.isnan(a) or np.isnan(b))]
            expected[i, j] = np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs])
    assert superiority(y).ravel().tolist() == pytest.approx(expected.ravel().tolist())


def test_fits_are_read_by_fraction_bucket_and_seed() -> None:
    rows = [
        {"part": "design", "fraction": f, "bucket": b, "replicate": t, "labels": 100 * f + b}
        | {"f1": f + b / 10 + t / 100}
        for f in (0.2, 0.4) for b in range(2) for t in range(2)
    ]  # fmt: skip
    rows[3]["f1"] = None
    found = read_nested(read_table(rows[::-1]), "f1", 100.0)
    assert found.fractions.tolist() == [0.2, 0.4]
    assert found.labels.tolist() == pytest.approx([20.5, 40.5])
    assert found.y == pytest.approx(np.array([[[20, 21], [30, np.nan]], [[40, 41], [50, 51]]]), nan_ok=True)
    assert read_nested(read_table([{"arm": "random", "labels": 1, "f1": 0.5}]), "f1", 1.0) is None
