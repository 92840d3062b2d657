"""The rule that turns a comparison into an answer, and the flags that go with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lightning_al.study import reasons
from lightning_al.study.comparison import Arm, Comparison
from lightning_al.study.variance import Variance
from lightning_al.study.wording import FLAGS

if TYPE_CHECKING:
    from lightning_al.study.cost import Cost

__all__ = ["FLAGS", "Answer", "Verdict", "decide"]

Answer = Literal["promising", "not_promising", "inconclusive"]


@dataclass(frozen=True)
class Verdict:
    """Whether active learning will work for this problem.

    Args:
        verdict: The answer.
        headline: It in one sentence.
        reasons: Why, one sentence each.
        flags: Keys of `FLAGS`: what else the reader should know.
        winner: The arm that makes it promising; None otherwise.
    """

    verdict: Answer
    headline: str
    reasons: tuple[str, ...]
    flags: tuple[str, ...]
    winner: str | None = None


def decide(
    comparison: Comparison,
    variance: Variance | None = None,
    *,
    costs: Mapping[str, Cost] | None = None,
    flags: Sequence[str] = (),
) -> Verdict:
    """Apply the rule; the first that holds decides.

    0. Fewer than 6 replicates: ``inconclusive``.
    1. The room's upper bound is below delta: ``not_promising``, ``saturated``.
    2. Some arm's interval lies above 0, it gains at least delta or surely saves more than ``saving`` of the labels, and
       it is worth more than it costs where costs are given: ``promising``.
    3. Every interval lies below delta, and no arm above 0 can save ``saving``: ``not_promising``.
    4. Else ``inconclusive``.

    Args:
        comparison: The arms against random, with delta and saving.
        variance: The components of the nested design, for the flags.
        costs: What each arm saves and costs; None where labels have no price.
        flags: Flags raised elsewhere, such as ``"spam_suspected"``.

    Returns:
        The verdict. An answer of too few replicates raises no flag about arms.
    """
    winners = [arm for arm in comparison.arms if not comparison.exploratory and worthwhile(arm, comparison)]
    paying = [arm for arm in winners if costs is None or _pays(costs.get(arm.name))]
    winner = max(paying, key=lambda arm: (arm.delta, arm.name), default=None)
    answer, raised = _answer(comparison, winner)
    if not comparison.exploratory:
        raised += _arm_flags(comparison, variance, winner if answer == "promising" else None)
    if variance is not None and variance.sigma_training > 0:  # else nothing random was trained
        raised += ["training_noise_dominant"] * (variance.icc_high < 0.5)
        raised += ["composition_matters"] * (variance.icc_low > 0.2)
    every = tuple(dict.fromkeys([*raised, *comparison.curves.flags, *flags]))
    if answer != "promising":
        winner = None
    unpaid = () if paying else tuple(winners)
    headline = reasons.headline(comparison, answer, winner, saturated="saturated" in raised, unpaid=unpaid)
    why = reasons.reasons(comparison, answer, winner, variance=variance, costs=costs, unpaid=unpaid)
    return Verdict(answer, headline, why, every, winner.name if winner else None)


def worthwhile(arm: Arm, comparison: Comparison) -> bool:
    """Whether an arm is surely better than random, and by enough.

    Args:
        arm: The arm.
        comparison: Holds what is enough.

    Returns:
        ``L > 0 and (Delta >= delta or SL > saving)``.
    """
    return arm.low > 0 and (arm.delta >= comparison.delta or arm.saving_low > comparison.saving)


def _answer(comparison: Comparison, winner: Arm | None) -> tuple[Answer, list[str]]:
    delta, saving, arms = comparison.delta, comparison.saving, comparison.arms
    if comparison.exploratory:
        return "inconclusive", ["too_few_replicates"]
    if comparison.room is not None and comparison.room.high < delta:
        return "not_promising", ["saturated"]
    if winner is not None:
        return "promising", []
    if all(arm.high < delta for arm in arms) and all(arm.saving_high < saving for arm in arms if arm.low > 0):
        return "not_promising", []
    return "inconclusive", []


def _arm_flags(comparison: Comparison, variance: Variance | None, winner: Arm | None) -> list[str]:
    flags = []
    for arm in comparison.arms:
        least_confidence = "".join(filter(str.isalpha, arm.name.lower())).startswith("leastconfidence")
        if least_confidence and arm.high < 0 and arm.delta <= -comparison.delta:
            flags.append("uncertainty_harmful")
    if winner is not None and variance is not None and winner.delta < variance.sigma_training:
        flags.append("gain_within_training_noise")
    return flags


def _pays(cost: Cost | None) -> bool:
    return cost is not None and cost.net is not None and cost.net > 0
