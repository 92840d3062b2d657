"""What to run next, against sentences worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lightning_al.study.advice import advise, leader
from lightning_al.study.comparison import Comparison, compare_arms
from tests._helpers.fits import curves_of

LABELS = (20, 40, 60, 80, 100)
SHIFTS = np.array([0.0, 0.3, -0.3, 0.1, -0.1, 0.2, -0.2])[:, None]
RANDOM = np.array([50.0, 60.0, 66.0, 70.0, 72.0]) + SHIFTS


def compared(scale: float = 100.0, delta: float = 0.5, replicates: int = 7, **gains: Any) -> Comparison:
    arms = {name: RANDOM + np.asarray(gain) + 0.1 * SHIFTS * np.arange(5) for name, gain in gains.items()}
    values = {name: value[:replicates] for name, value in {"random": RANDOM, **arms}.items()}
    return compare_arms(curves_of(LABELS, scale, **values), delta=delta, saving=0.1)


EARLY, LATE = (0, 6, 4, 1, 0), (0, 1, 2, 3, 4)


def test_promising_names_the_call_the_ends_and_the_price_of_a_point() -> None:
    comparison = compared(Early=EARLY, Late=LATE)
    run, ends, price, random_tenth = advise(comparison, "promising")

    # Gains: the area of (0, 6, 4, 1, 0) is 220 of 80, that of (0, 1, 2, 3, 4) is 160 of 80.
    assert leader(comparison).name == "Early"
    # Random ends at 72, so that the target is 71.5: between 80 (70) and 100 (72) at 95. Early has 71 at 80, 72 at 100.
    assert run == (
        'Run ActiveLearning("Early", query_size=20, initial=20, budget=90): 90 labels by Early reached 71.5 accuracy '
        "points, for which random labels took 95."
    )
    # The first half, 20 to 60: Early's area is (3 + 5) / 2 = 4, and Late's 1; the second: 1.5 and 3.
    assert "for a small budget" in ends.lower()
    early = _interval(4.0, 0.1 * SHIFTS[:, 0] * (0.5 + 1.5) / 2)
    late = _interval(3.0, 0.1 * SHIFTS[:, 0] * (2.5 + 3.5) / 2)
    assert ends == (
        f"For a small budget (20 to 60 labels) Early leads with +4.00 {early} points, for a large budget (60 to 100 "
        f"labels) Late leads with +3.00 {late} points. The leader of several is flattered by the choice."
    )
    # Over the last two steps of 20 labels random rises by 6 points, Early by 72 - 70 = 2.
    assert price == (
        "At the end of the budget one more point costs about 6.7 labels by random, 20 labels by Early (slope of the "
        "mean curves)."
    )
    assert random_tenth.startswith("Keep labeling a random tenth")


def _interval(mean: float, deviations: Any) -> str:
    half = stats.t.ppf(0.975, 6) * np.std(deviations, ddof=1) / math.sqrt(7)
    mean += float(np.mean(deviations))
    return f"[{mean - half:+.2f}, {mean + half:+.2f}]"


def test_an_arm_that_never_reaches_the_target_is_given_the_whole_budget() -> None:
    # It leads by its area, and ends a point below random.
    run = advise(compared(Early=(0, 8, 6, 0, -1)), "promising")[0]
    assert run == 'Run ActiveLearning("Early", query_size=20, initial=20, budget=100).'


def test_the_leader_is_sure_of_its_gain_where_one_is() -> None:
    wild = np.where(np.arange(7)[:, None] % 2, 40.0, -20.0) * np.array([0, 1, 1, 1, 1])
    comparison = compared(Wild=wild, Steady=LATE)
    assert max(comparison.arms, key=lambda arm: arm.delta).name == "Wild"
    assert leader(comparison).name == "Steady"


def test_not_promising() -> None:
    comparison = compared(Margin=(0, 0, 0, 0, 0))
    assert advise(comparison, "not_promising")[0].startswith("Label at random: it is simpler")
    assert advise(comparison, "not_promising", ["saturated"])[0] == (
        "Label at random, and fewer: 95 random labels are within 0.5 points of what 100 give."
    )


def test_inconclusive_says_what_would_settle_it() -> None:
    few = advise(compared(Margin=LATE, replicates=4), "inconclusive")[0]
    assert few.startswith("Run at least 6 paired replicates, better 10 or more: with 4 no exact test")
    noise = np.array([2.0, -2.0, 1.5, -1.5, 1.0, -1.0, 0.3])[:, None] * np.array([0, 1, 1, 1, 1])
    wide = compared(Margin=0.8 * np.array([0, 1, 1, 1, 1]) + noise)
    assert wide.required_R is not None
    assert advise(wide, "inconclusive")[0].startswith(f"About {wide.required_R} replicates would settle it")
    between = compared(Margin=0.5714 * np.array([0, 1, 1, 1, 1]) + 10 * noise)
    assert between.required_R is None
    assert "more than 200" in advise(between, "inconclusive")[0]


@pytest.mark.parametrize(
    ("flag", "begin"),
    [
        ("uncertainty_harmful", "Do not query by least confidence here"),
        ("spam_suspected", "Look at the contact sheet of least confidence before you buy"),
    ],
)
def test_harm_by_uncertainty_is_told(flag: str, begin: str) -> None:
    comparison = compared(LeastConfidence=(0, -2, -2, -2, -2), KMeans=LATE)
    told = advise(comparison, "promising", [flag])
    assert [sentence.startswith(begin) for sentence in told if "least confidence" in sentence] == [True]
    assert not any("least confidence" in sentence for sentence in advise(comparison, "promising"))


def test_a_metric_with_its_own_unit_has_no_points() -> None:
    told = " ".join(advise(compared(scale=1.0, Early=EARLY), "promising"))
    assert "points" not in told
    assert "reached accuracy 71.5, for which random labels took 95" in told
    assert "one more unit of accuracy costs about 6.7 labels by random" in told


def test_a_curve_that_falls_has_no_price() -> None:
    falling = compared(Margin=(0, 0, 0, -10, -30))
    assert not any("one more point" in sentence for sentence in advise(falling, "not_promising"))
