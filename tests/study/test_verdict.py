"""Each branch of the rule and each flag by a comparison made for it, and the sentences that say why."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_al.study.comparison import Comparison, compare_arms
from lightning_al.study.cost import Cost
from lightning_al.study.room import Room
from lightning_al.study.variance import Variance, decompose
from lightning_al.study.verdict import FLAGS, decide
from tests._helpers.fits import curves_of, steady

CLEAR = {"delta": 2.0, "low": 1.0, "high": 3.0, "saving": 0.2, "saving_low": 0.15, "saving_high": 0.25}
NULL = {"delta": 0.0, "low": -0.2, "high": 0.2, "saving": 0.0, "saving_low": -0.1, "saving_high": 0.1}


def made(*arms: dict[str, Any], room: float = 9.0, replicates: int = 10, **changes: Any) -> Comparison:
    """A comparison whose arms have the given numbers, named A, B, ... unless said otherwise."""
    names = [arm.get("name", "ABCDEFGH"[place]) for place, arm in enumerate(arms)]
    base = compare_arms(steady({name: [1.0] * replicates for name in names}), delta=0.5, saving=0.1)
    given_arms = tuple(dataclasses.replace(arm, **new) for arm, new in zip(base.arms, arms, strict=True))
    return dataclasses.replace(base, arms=given_arms, room=Room(room - 0.5, room - 1, room), **changes)


def cost(net: float | None) -> Cost:
    return Cost("A", 1.0, 0.0, net, (net, net), net, (net, net), 0.0, 0.0, net, (net, net))


def spread(icc_low: float = 0.0, icc_high: float = 1.0, sigma: float = 0.1) -> Variance:
    base = decompose(np.random.default_rng(0).normal(size=(3, 4, 3)))
    return dataclasses.replace(base, icc_low=icc_low, icc_high=icc_high, sigma_training=sigma)


@pytest.mark.parametrize(
    ("comparison", "verdict", "flags", "winner"),
    [
        # 0: whatever else holds
        (made(CLEAR, replicates=5), "inconclusive", ("too_few_replicates",), None),
        (made(CLEAR, replicates=2, room=0.1), "inconclusive", ("too_few_replicates",), None),
        # 1: before a gain counts
        (made(CLEAR, room=0.49), "not_promising", ("saturated",), None),
        # 2: sure and large, or sure and saving enough
        (made(CLEAR), "promising", (), "A"),
        (made(NULL, CLEAR), "promising", (), "B"),
        (made(CLEAR, CLEAR | {"delta": 2.5}), "promising", (), "B"),
        (made(CLEAR | {"delta": 0.5, "saving_low": -1.0}, room=0.5), "promising", (), "A"),
        (made(CLEAR | {"delta": 0.4, "low": 0.1, "high": 0.7}), "promising", (), "A"),
        # 3: surely too small
        (made(NULL, NULL), "not_promising", (), None),
        (made(NULL | {"delta": 0.2, "low": 0.1, "high": 0.4, "saving_high": 0.09}), "not_promising", (), None),
        (made(NULL | {"saving_high": 0.9}), "not_promising", (), None),  # a saving counts with a sure gain only
        # 4: open
        (made(NULL | {"high": 0.5}), "inconclusive", (), None),
        (made(NULL | {"delta": 0.2, "low": 0.1, "high": 0.4, "saving_high": 0.1}), "inconclusive", (), None),
        (made(CLEAR | {"delta": 0.4, "low": 0.1, "high": 0.7, "saving_low": 0.1}), "inconclusive", (), None),
        (made(CLEAR | {"low": 0.0}), "inconclusive", (), None),
        (made(NULL, NULL | {"high": np.inf, "low": -np.inf}), "inconclusive", (), None),
    ],
)
def test_the_first_branch_that_holds_decides(
    comparison: Comparison, verdict: str, flags: tuple[str, ...], winner: str | None
) -> None:
    found = decide(comparison)
    assert (found.verdict, found.flags, found.winner) == (verdict, flags, winner)


@pytest.mark.parametrize(
    ("costs", "verdict", "winner"),
    [
        ({"A": cost(10.0), "B": cost(1.0)}, "promising", "A"),
        ({"A": cost(-1.0), "B": cost(1.0)}, "promising", "B"),
        ({"A": cost(0.0), "B": cost(None)}, "inconclusive", None),
        ({}, "inconclusive", None),
    ],
)
def test_where_labels_have_a_price_the_gain_must_be_worth_it(
    costs: dict[str, Cost], verdict: str, winner: str | None
) -> None:
    found = decide(made(CLEAR | {"delta": 2.5}, CLEAR), costs=costs)
    assert (found.verdict, found.winner) == (verdict, winner)
    assert any("not worth its cost" in reason for reason in found.reasons) == (winner is None)


HARM = {"delta": -0.5, "low": -1.0, "high": -0.1, "saving": None, "saving_low": -np.inf, "saving_high": -np.inf}


@pytest.mark.parametrize(
    ("arm", "harmful"),
    [
        ({"name": "LeastConfidence"}, True),
        ({"name": "least_confidence"}, True),
        ({"name": "Margin"}, False),
        ({"name": "LeastConfidence", "delta": -0.49}, False),
        ({"name": "LeastConfidence", "high": 0.0}, False),
    ],
)
def test_uncertainty_is_harmful_where_least_confidence_surely_loses(arm: dict[str, Any], harmful: bool) -> None:
    assert ("uncertainty_harmful" in decide(made(HARM | arm)).flags) is harmful


def test_too_few_replicates_prove_no_harm() -> None:
    assert decide(made(HARM | {"name": "LeastConfidence"}, replicates=5)).flags == ("too_few_replicates",)


@pytest.mark.parametrize(
    ("variance", "flags"),
    [
        (spread(0.0, 0.49), ("training_noise_dominant",)),
        (spread(0.21, 0.9), ("composition_matters",)),
        (spread(0.21, 0.49), ("training_noise_dominant", "composition_matters")),
        (spread(0.2, 0.5), ()),
    ],
)
def test_the_shares_of_the_variance_are_flagged(variance: Variance, flags: tuple[str, ...]) -> None:
    assert decide(made(NULL), variance).flags == flags


def test_a_gain_within_training_noise_is_the_winners() -> None:
    arms = (CLEAR | {"delta": 2.0}, CLEAR | {"delta": 1.0})
    assert decide(made(*arms), spread(sigma=2.1)).flags == ("gain_within_training_noise",)
    assert decide(made(*arms), spread(sigma=1.9)).flags == ()
    assert decide(made(NULL), spread(sigma=2.1)).flags == ()


def test_flags_raised_elsewhere_are_kept_once() -> None:
    comparison = made(NULL)
    curves = dataclasses.replace(comparison.curves, flags=("unpaired_start",))
    found = decide(dataclasses.replace(comparison, curves=curves), flags=("spam_suspected", "unpaired_start"))
    assert found.flags == ("unpaired_start", "spam_suspected")


def test_every_flag_of_the_rule_has_a_sentence() -> None:
    raised = {"saturated", "too_few_replicates", "uncertainty_harmful", "training_noise_dominant", "unpaired_start"}
    raised |= {"composition_matters", "gain_within_training_noise", "spam_suspected", "test_used_for_selection"}
    assert raised <= FLAGS.keys()


def test_the_headline_has_the_gain_the_interval_and_the_saving() -> None:
    found = decide(made(CLEAR | {"delta": 2.617, "low": 1.5, "high": 3.734}))
    assert found.headline == (
        "Active learning is promising: A gains 2.62 accuracy points over random labels on average over the budget "
        "(95 % interval 1.50 to 3.73), and reaches random's last level (within 0.50 points) with 20 % fewer labels "
        "(95 % interval 15 to 25 %)."
    )


@pytest.mark.parametrize(
    ("comparison", "said"),
    [
        (made(CLEAR, replicates=3), "has 3 of the 6 paired replicates"),
        (made(CLEAR, room=0.4), "room for at most 0.40 points"),
        (made(NULL), "no strategy gains the 0.50 points"),
        (made(NULL), "A is level with random labels"),
        (made(NULL | {"high": 0.9}), "leaves open whether a gain of 0.50 points is there"),
        (made(HARM), "A loses 0.50 accuracy points against random labels on average over the budget (95 % interval of"),
        (made(HARM), "(95 % interval of the gain \N{MINUS SIGN}1.00 to \N{MINUS SIGN}0.10)"),
    ],
)  # fmt: skip
def test_the_headline_says_what_the_answer_rests_on(comparison: Comparison, said: str) -> None:
    assert said in decide(comparison).headline


def test_lower_is_better_and_own_units_are_told_as_such() -> None:
    comparison = made(CLEAR)
    lower = dataclasses.replace(comparison.curves, metric="calibration_error", sign=-1)
    assert "A lowers calibration error by 2.00 points" in decide(dataclasses.replace(comparison, curves=lower)).headline
    own = dataclasses.replace(comparison.curves, metric="log_likelihood", scale=1.0)
    fine = dataclasses.replace(comparison, curves=own, delta=0.005)
    assert "A gains 2.00000 in log likelihood over" in decide(fine).headline  # digits are those of the tables
    assert "it was better than random in 10 of 10 replicates" in decide(fine).reasons[0]
    assert "random's last level (within 0.00500) with" in decide(fine).reasons[0]


def test_an_unpaid_gain_is_told_with_the_price_that_would_pay() -> None:
    # 50 labels are saved at 0.10 each, and computing costs 20: a label must cost 20 / 50 = 0.40.
    dear = Cost("A", 0.1, 4.0, 50.0, (40.0, 60.0), 5.0, (4.0, 6.0), 5.0, 20.0, -15.0, (-16.0, -14.0))
    none_saved = dataclasses.replace(dear, labels_saved=0.0, money_saved=0.0, net=-20.0)
    told = decide(made(CLEAR, CLEAR, CLEAR, required_R=34), costs={"A": dear, "B": none_saved, "C": cost(None)}).reasons
    assert (
        "A is better than random labels, but not worth its cost: net \N{MINUS SIGN}15.00. It would be if a label "
        in (" ".join(told))
    )
    assert "cost more than 0.40, not 0.10 as given." in " ".join(told)
    assert any("B is better" in each and "it saves no labels, and computing costs 20.00" in each for each in told)
    assert any("C is better" in each and "never reaches random's last level" in each for each in told)
    assert not any("34" in each for each in told)


def test_where_random_never_rises_no_saving_is_told() -> None:
    flat = dataclasses.replace(made(CLEAR), random_labels_to_target=10.0)
    found = decide(flat)
    assert "fewer labels" not in " ".join([found.headline, *found.reasons])
    assert any("Random labels improve by less than 0.50 points over the whole budget" in each for each in found.reasons)


def test_one_replicate_has_a_saving_without_an_interval() -> None:
    alone = CLEAR | {"saving_low": -np.inf, "saving_high": np.inf}
    told = decide(made(alone, replicates=1, required_R=None)).reasons[0]
    assert "it needs 80 % of random's labels for random's last level (within 0.50 points) (no interval)" in told


@pytest.mark.parametrize(
    ("comparison", "said"),
    [
        (made(NULL | {"high": 0.9}, required_R=34), "About 34 replicates instead of 10 would settle it"),
        (made(NULL | {"high": 0.9}, required_R=None), "Not even 200 replicates would settle it"),
        (made(CLEAR, replicates=1, required_R=None), "Run at least 6 replicates"),
        (made(CLEAR | {"collapses": ("3", "7")}), "A alone collapsed in replicates 3, 7"),
        (made(HARM), "never reaches random's last level (within 0.50 points) within the budget"),
        (made(NULL | {"saving": -0.3}), "needs 30 % more labels for random's last level (within 0.50 points)"),
        (made(NULL | {"saving_low": -np.inf}), "(95 % interval of the saving no bound to 10 %)"),
        (made(CLEAR | {"p_adj": 0.0001}), "adjusted p < 0.001"),
    ],
)  # fmt: skip
def test_the_reasons_hold_what_a_reader_needs(comparison: Comparison, said: str) -> None:
    assert any(said in reason for reason in decide(comparison).reasons)


def test_the_winner_is_spoken_of_first() -> None:
    found = decide(made(NULL, CLEAR | {"delta": 1.0}, CLEAR | {"delta": 4.0, "low": -1.0}))
    assert found.winner == "B"
    assert found.reasons[0].startswith("B gains 1.00")


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(0, 500), st.floats(0, 2), st.floats(-30, 30))
def test_the_verdict_depends_on_no_order_and_no_level(replicates: int, seed: int, gain: float, level: float) -> None:
    rng = np.random.default_rng(seed)
    shared = np.array([50.0, 65, 75]) + rng.normal(0, 2, (replicates, 1))
    arms = {name: shared + rng.normal(0, 0.5, (replicates, 3)) for name in ("random", "A", "B")}
    arms["A"] = arms["A"] + gain
    one = curves_of([10, 20, 30], **arms)
    turned = curves_of([10, 20, 30], **{name: arms[name][::-1] + level for name in ("random", "B", "A")})
    found, other = (decide(compare_arms(curves, delta=0.5, saving=0.1)) for curves in (one, turned))
    # the bootstrap draws other replicates in another order: a saving at its threshold may fall on either side
    near = [arm for arm in compare_arms(one, delta=0.5, saving=0.1).arms if arm.low > 0 and arm.delta < 0.5]
    if not near:
        assert (found.verdict, found.winner, found.flags) == (other.verdict, other.winner, other.flags)
