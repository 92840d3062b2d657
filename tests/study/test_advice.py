"""What to run next, against sentences worked out by hand."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from jsonargparse import ArgumentParser
from scipy import stats

from lightning_al import ActiveLearning, strategies
from lightning_al.study.advice import advise, leader
from lightning_al.study.comparison import Comparison, compare_arms
from lightning_al.study.cost import Cost
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
    comparison = compared(Margin=EARLY, BADGE=LATE)
    run, yaml_file, ends, price, random_tenth = advise(comparison, "promising")

    # Gains: the area of (0, 6, 4, 1, 0) is 220 of 80, that of (0, 1, 2, 3, 4) is 160 of 80.
    assert leader(comparison).name == "Margin"
    # Random ends at 72, so that the target is 71.5: between 80 (70) and 100 (72) at 95. Margin has 71 at 80, 72 at 100.
    assert run == (
        'Run `ActiveLearning("Margin", query_size=20, initial=20, budget=90)`: 90 labels by Margin reached accuracy '
        "71.5, for which random labels took 95."
    )
    assert yaml_file.startswith("The same for `lightning-al fit`, in its YAML file under `trainer`: `callbacks: [{")
    # The first half, 20 to 60: Margin's area is (3 + 5) / 2 = 4, and BADGE's 1; the second: 1.5 and 3.
    assert "for a small budget" in ends.lower()
    early = _interval(4.0, 0.1 * SHIFTS[:, 0] * (0.5 + 1.5) / 2)
    late = _interval(3.0, 0.1 * SHIFTS[:, 0] * (2.5 + 3.5) / 2)
    assert ends == (
        f"For a small budget (20 to 60 labels) Margin leads with a gain of +4.00 {early} points, for a large budget "
        f"(60 to 100 labels) BADGE leads with a gain of +3.00 {late} points. The leader of several is flattered by the "
        "choice."
    )
    # Over the last half, 40 labels, random rises by 6 points, Margin by 72 - 70 = 2.
    assert price == (
        "At the end of the budget one point more of accuracy costs about 6.7 labels by random, 20 labels by Margin "
        "(slope of the mean curves from 60 to 100 labels)."
    )
    assert random_tenth.startswith("Keep labeling a random tenth")


def _interval(mean: float, deviations: Any) -> str:
    half = stats.t.ppf(0.975, 6) * np.std(deviations, ddof=1) / math.sqrt(7)
    mean += float(np.mean(deviations))
    return f"[{mean - half:+.2f}, {mean + half:+.2f}]"


def test_an_arm_that_never_reaches_the_target_is_given_the_whole_budget() -> None:
    # It leads by its area, and ends a point below random.
    run = advise(compared(Margin=(0, 8, 6, 0, -1)), "promising")[0]
    assert run == 'Run `ActiveLearning("Margin", query_size=20, initial=20, budget=100)`.'


@pytest.mark.parametrize(
    ("arm", "strategy"),
    [("margin", "Margin()"), ("Least Confidence", "LeastConfidence()"), ("Margin(aggregate='max')", None)],
)
def test_the_call_and_the_yaml_make_the_winner(arm: str, strategy: str | None) -> None:
    run, told = advise(compared(**{arm: EARLY}), "promising")[:2]
    made = eval(run.split("`")[1], {"ActiveLearning": ActiveLearning, "Margin": strategies.Margin})
    assert repr(made.strategy) == (strategy or "Margin(aggregate='max')")
    parser = ArgumentParser()
    parser.add_argument("--callbacks", type=list[ActiveLearning])
    (read,) = parser.instantiate(parser.parse_string(told.split("`")[5])).callbacks
    assert (repr(read.strategy), read.query_size, read.budget) == (repr(made.strategy), 20, 90)


def test_an_arm_that_is_no_strategy_of_ours_is_told_in_words() -> None:
    told = advise(compared(ours=EARLY), "promising")
    assert told[0].startswith("Query by ours, 20 labels at a time, from 20 labels to 90: 90 labels by ours reached")
    assert "ActiveLearning" not in " ".join(told)


def test_the_leader_is_sure_of_its_gain_where_one_is() -> None:
    wild = np.where(np.arange(7)[:, None] % 2, 40.0, -20.0) * np.array([0, 1, 1, 1, 1])
    comparison = compared(Wild=wild, Steady=LATE)
    assert max(comparison.arms, key=lambda arm: arm.delta).name == "Wild"
    assert leader(comparison).name == "Steady"


def test_not_promising() -> None:
    comparison = compared(Margin=(0, 0, 0, 0, 0))
    assert advise(comparison, "not_promising")[0].startswith("Label at random: it is simpler")
    assert advise(comparison, "not_promising", ["saturated"])[0] == (
        "Label at random, and fewer: 95 random labels are within 0.50 points of what 100 give."
    )


def test_inconclusive_says_what_would_settle_it() -> None:
    few = advise(compared(Margin=LATE, replicates=4), "inconclusive", mode="full")[0]
    assert few.startswith("Run at least 6 paired replicates, better 10 or more: with 4 no exact test")
    assert few.endswith("With the same `output`, finished fits are kept.")
    noise = np.array([2.0, -2.0, 1.5, -1.5, 1.0, -1.0, 0.3])[:, None] * np.array([0, 1, 1, 1, 1])
    wide = compared(Margin=0.8 * np.array([0, 1, 1, 1, 1]) + noise)
    assert wide.required_R is not None
    settled = f"About {wide.required_R} replicates would settle it if the gains stay as they are"
    assert advise(wide, "inconclusive", mode="proxy")[0] == (
        f"{settled}: set `replicates` to that and run again with the same `output`, finished fits are kept."
    )
    assert advise(wide, "inconclusive")[0] == f"{settled}."  # curves made elsewhere have no study to run again
    between = compared(Margin=0.5714 * np.array([0, 1, 1, 1, 1]) + 10 * noise)
    assert between.required_R is None
    assert "more than 200" in advise(between, "inconclusive")[0]


@pytest.mark.parametrize(
    ("flag", "begin"),
    [
        ("uncertainty_harmful", "Do not query by least confidence here"),
        ("spam_suspected", "Look at what least confidence asked for before you buy"),
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
    assert "reached accuracy 71.50, for which random labels took 95" in told
    assert "leads with a gain of +4.000 [" in told  # 0.5 worthwhile has three digits in 0.500
    assert "0.500 more accuracy costs about 3.3 labels by random" in told  # half of 6.7


def test_a_lower_metric_is_told_as_lower() -> None:
    comparison = compared(Margin=EARLY)
    lower = dataclasses.replace(comparison.curves, metric="calibration_error", sign=-1)
    told = " ".join(advise(dataclasses.replace(comparison, curves=lower), "promising"))
    assert "one point less of calibration error costs about 6.7 labels" in told
    assert "reached calibration error \N{MINUS SIGN}71.5" in told


@pytest.mark.parametrize(
    ("arm", "random", "said"),
    [
        ((0, 0, 0, -10, -30), RANDOM, "6.7 labels by random; more labels by Margin no longer buy it (slope"),
        # a steep beginning, and 0.9 points over the last half
        (LATE, np.array([50.0, 80.0, 95.0, 95.5, 95.9]) + SHIFTS,
         "More random labels no longer buy one point more of accuracy within the budget measured: from 60 to 100 "
         "labels they add less."),
    ],
)  # fmt: skip
def test_a_curve_that_no_longer_rises_has_no_price(arm: Any, random: Any, said: str) -> None:
    comparison = compare_arms(curves_of(LABELS, random=random, Margin=random + np.array(arm)), delta=0.5, saving=0.1)
    told = " ".join(advise(comparison, "not_promising"))
    assert said in told
    assert "by Margin (slope" not in told


def test_an_unpaid_gain_is_advised_by_the_price_of_a_label() -> None:
    comparison = compared(Margin=EARLY, BADGE=LATE)
    dear = Cost("Margin", 0.1, 4.0, 50.0, (40.0, 60.0), 5.0, (4.0, 6.0), 5.0, 20.0, -15.0, (-16.0, -14.0))
    costs = {"Margin": dear, "BADGE": dataclasses.replace(dear, name="BADGE", labels_saved=80.0)}
    told = advise(comparison, "inconclusive", costs=costs, mode="full")
    assert told[0].startswith(  # 20 / 50 = 0.40 and 20 / 80 = 0.25
        "Label at random unless a label costs more than 0.25: from there on BADGE pays, which saves 80 labels for 20.00"
    )
    assert "would settle it" not in " ".join(told)
    unsaving = {name: dataclasses.replace(cost, labels_saved=None) for name, cost in costs.items()}
    assert advise(comparison, "inconclusive", costs=unsaving)[0].startswith("Decide by what a better model is worth")
