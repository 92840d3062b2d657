"""The article's experiment: its plots and rules on buckets made by hand, and how often its rule misleads."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_al.study.comparison import compare_arms
from lightning_al.study.legacy import read_legacy, read_spread, rule_of_thumb
from tests._helpers.fits import steady

FRACTIONS = np.array([0.2, 0.4, 0.6, 0.8, 1.0])


def buckets(*middles: float, half: float = 1.0) -> np.ndarray:
    """Three buckets at each fraction: middle - half, middle, middle + half."""
    return np.array(middles)[:, None] + half * np.array([0.0, -1.0, 1.0])


@pytest.mark.parametrize(
    ("middles", "half", "overlap", "rule"),
    [
        ((50, 60, 70, 80, 90), 1.0, False, False),
        ((69, 70, 71, 72, 90), 2.0, True, True),  # the best at 20 % is 71, the worst at 80 % is 70
        ((50, 70, 71, 72, 90), 2.0, True, False),  # the first fraction is far below
        ((72, 60, 70, 71, 90), 1.0, False, False),  # the ranges at 40 and 60 % are apart
    ],
)
def test_the_rule_needs_overlap_and_a_lucky_small_sample(
    middles: tuple[float, ...], half: float, overlap: bool, rule: bool
) -> None:
    spread = read_spread(FRACTIONS, buckets(*middles, half=half))
    assert (spread.overlap, spread.rule) == (overlap, rule)
    assert (spread.best_first, spread.worst_last) == (middles[0] + half, middles[3] - half)
    assert spread.fractions == (0.2, 0.4, 0.6, 0.8)


@pytest.mark.parametrize(
    ("middles", "holds"),
    [((50, 60, 70, 80, 90), False), ((50, 60, 61.9, 80, 90), True), ((75, 60, 70, 80, 90), True)],
)
def test_the_rule_of_thumb_looks_for_a_bad_sample_of_60_percent(middles: tuple[float, ...], holds: bool) -> None:
    assert rule_of_thumb(read_spread(FRACTIONS, buckets(*middles))) is holds


def test_missing_fits_are_no_extremes() -> None:
    values = buckets(50, 60, 70, 80, 90)
    values[0, 2] = np.nan
    assert read_spread(FRACTIONS, values).best_first == 50
    assert read_spread(FRACTIONS[:1], values[:1]) is None
    assert read_spread(FRACTIONS, np.full((5, 3), np.nan)) is None


@pytest.mark.parametrize(("gap", "chance"), [(4, 0.05), (3, 0.23), (2, 0.62)])
def test_without_any_effect_of_the_data_a_small_sample_still_wins(gap: float, chance: float) -> None:
    """What the paragraph says: the chance that the best of 5 at 20 % beats the worst of 5 at 80 %, by simulation."""
    rng = np.random.default_rng(0)
    won = 0
    for _ in range(1500):
        values = rng.normal(size=(2, 5)) + np.array([[0.0], [gap]])
        spread = read_spread(np.array([0.2, 0.8]), values)
        won += spread.best_first > spread.worst_last
    assert won / 1500 == pytest.approx(chance, abs=0.035)


def test_least_confidence_stands_against_the_others() -> None:
    gains = {"LeastConfidence": [-2.0, 1.0, -2.0, -2.0, -2.0, -2.0], "Margin": [4.0] * 6, "BADGE": [1.0] * 6}
    comparison = compare_arms(steady(gains), delta=0.5, saving=0.1)
    legacy = read_legacy(FRACTIONS, {"f1": buckets(1, 2, 3, 4, 5), "recall": buckets(50, 60, 70, 80, 90)}, comparison)
    assert list(legacy.spreads) == ["recall"]
    assert legacy.least_confidence["delta"] == pytest.approx(0.75 * -1.5)
    assert legacy.least_confidence["below_random"] == "in 5 of 6 replicates"
    assert legacy.least_confidence["best_other"] == "Margin, +3.00"
    assert read_legacy(FRACTIONS, {"recall": buckets(5, 6, 7, 8, 9)}).least_confidence is None
    assert read_legacy(FRACTIONS, {"f1": buckets(1, 2, 3, 4, 5)}, comparison) is None
