"""The answer and what it rests on, as sentences for someone who decides on a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lightning_al.study.comparison import Arm, Comparison
from lightning_al.study.room import LEAST_REPLICATES, MOST_REPLICATES
from lightning_al.study.sections import reached_at_once
from lightning_al.study.variance import Variance
from lightning_al.study.wording import decimals_of, number, price, words

if TYPE_CHECKING:
    from lightning_al.study.cost import Cost


def headline(
    comparison: Comparison, answer: str, winner: Arm | None, *, saturated: bool, unpaid: Sequence[Arm] = ()
) -> str:
    """Say the answer in one sentence.

    Args:
        comparison: What was compared.
        answer: The verdict.
        winner: The arm that makes it promising.
        saturated: Whether there is no room for any strategy.
        unpaid: Arms that would be worthwhile, were they worth their costs.

    Returns:
        The sentence.
    """
    best = max(comparison.arms, key=lambda arm: arm.delta)
    least = amount(comparison, comparison.delta)
    if winner is not None:
        saved = (
            f", and {saves(comparison, winner)}" if (winner.saving or 0) > 0 and not reached_at_once(comparison) else ""
        )
        return f"Active learning is promising: {gains(comparison, winner)}{saved}."
    if comparison.exploratory:
        return (
            f"It cannot be told yet: the comparison has {comparison.replicates} of the {LEAST_REPLICATES} paired "
            "replicates that an exact test needs."
        )
    if saturated and comparison.room is not None:
        return (
            f"Active learning is not worth it here: random labels leave room for at most "
            f"{amount(comparison, max(comparison.room.high, 0.0))} on average over the budget, less than the {least} "
            "that would be worthwhile."
        )
    if answer == "not_promising":
        return (
            f"Active learning is not worth it here: no strategy gains the {least} over random labels that would be "
            f"worthwhile; {gains(comparison, best)}."
        )
    if unpaid:
        return f"{gains(comparison, unpaid[0])}, but at the costs given it is not shown to be worth its price."
    return (
        f"This study cannot tell yet: {gains(comparison, best)}, which leaves open whether a gain of {least} is there."
    )


def reasons(
    comparison: Comparison,
    answer: str,
    winner: Arm | None,
    *,
    variance: Variance | None,
    costs: Mapping[str, Cost] | None,
    unpaid: Sequence[Arm],
) -> tuple[str, ...]:
    """Say what the answer rests on.

    Args:
        comparison: What was compared.
        answer: The verdict.
        winner: The arm that makes it promising.
        variance: The components of the nested design.
        costs: What each arm saves and costs.
        unpaid: Arms that would be worthwhile, were they worth their costs.

    Returns:
        Sentences, the most important first.
    """
    said = [_arm(comparison, arm) for arm in sorted(comparison.arms, key=lambda arm: (arm is not winner, -arm.delta))]
    if reached_at_once(comparison):
        said.append(
            f"Random labels improve by less than {amount(comparison, comparison.delta)} over the whole budget: they "
            "reach no level for which saved labels could be counted."
        )
    if comparison.room is not None:
        room = comparison.room
        said.append(
            "The room for a gain: on average over the budget no strategy could add more than "
            f"{amount(comparison, room.mean)} to random labels {between(comparison, room.low, room.high)}."
        )
    said += [_not_paying(arm, (costs or {}).get(arm.name)) for arm in unpaid]
    if winner is not None and costs is not None:
        said.append(f"{winner.name} is worth {number(costs[winner.name].net)} net of its computing.")
    for arm in comparison.arms:
        if arm.collapses:
            said.append(
                f"{arm.name} alone collapsed in replicate{'s' * (len(arm.collapses) > 1)} {', '.join(arm.collapses)}: "
                "the interval is not protected against that, look at those runs."
            )
    if variance is not None and variance.sigma_training > 0:
        said.append(
            f"Training noise alone moves a fit by {amount(comparison, variance.sigma_training)}; which data are "
            f"labeled makes {number(100 * variance.icc, 0)} % of the variance (95 % interval "
            f"{number(100 * variance.icc_low, 0)} to {number(100 * variance.icc_high, 0)} %)."
        )
    if answer == "inconclusive" and not unpaid:
        said.append(_what_settles(comparison))
    return tuple(said)


def paying_price(cost: Cost | None) -> float | None:
    """Find what a label must cost at least for an arm to be worth its computing.

    Args:
        cost: What the arm saves and costs.

    Returns:
        The price; None where the arm saves no labels, so that no price makes it pay.
    """
    if cost is None or cost.labels_saved is None or cost.labels_saved <= 0:
        return None
    return cost.compute_cost / cost.labels_saved


def amount(comparison: Comparison, value: float) -> str:
    """Write a difference with its unit.

    Args:
        comparison: Holds the unit.
        value: The difference, in points.

    Returns:
        The text, as "0.50 points".
    """
    return f"{_digits(comparison, value)} {comparison.curves.unit}".rstrip()


def between(comparison: Comparison, low: float, high: float) -> str:
    """Write a 95 % interval in brackets, without its unit."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return "(no interval)"
    return f"(95 % interval {_digits(comparison, low)} to {_digits(comparison, high)})"


def gains(comparison: Comparison, arm: Arm) -> str:
    """Say what an arm gains over random, with its interval.

    Args:
        comparison: Holds the metric and its unit.
        arm: The arm.

    Returns:
        A clause, as "Margin gains 2.60 accuracy points over random labels on average over the budget (95 % ...)".
    """
    curves = comparison.curves
    metric, value = words(curves.metric), _digits(comparison, abs(arm.delta))
    where = "random labels on average over the budget"
    interval = between(comparison, arm.low, arm.high)
    if arm.delta < 0:
        interval = interval.replace("interval", "interval of the gain", 1)
    what = f"{metric} points" if curves.unit else f"in {metric}"
    if not value.strip("0."):
        return f"{arm.name} is level with {where} {interval}"
    if curves.sign < 0:
        verb = "lowers" if arm.delta > 0 else "raises"
        return f"{arm.name} {verb} {metric} by {value} {curves.unit}".rstrip() + f" against {where} {interval}"
    change = f"gains {value} {what} over" if arm.delta > 0 else f"loses {value} {what} against"
    return f"{arm.name} {change} {where} {interval}"


def saves(comparison: Comparison, arm: Arm) -> str:
    """Say how many labels an arm needs to be as good as random labels at the end.

    Args:
        comparison: Holds the target.
        arm: The arm.

    Returns:
        A clause without the arm's name.
    """
    level = f"random's last level (within {amount(comparison, comparison.delta)})"
    if arm.saving is None:
        return f"never reaches {level} within the budget"
    low, high = (number(100 * end, 0) if np.isfinite(end) else "no bound" for end in (arm.saving_low, arm.saving_high))
    interval = f"{low} to {high}"
    if not np.isfinite([arm.saving_low, arm.saving_high]).any():
        return f"needs {number(100 * (1 - arm.saving), 0)} % of random's labels for {level} (no interval)"
    if abs(arm.saving) < 0.005:
        return f"reaches {level} with as many labels (95 % interval of the saving {interval} %)"
    if arm.saving < 0:
        return (
            f"needs {number(-100 * arm.saving, 0)} % more labels for {level} (95 % interval of the saving {interval} %)"
        )
    return f"reaches {level} with {number(100 * arm.saving, 0)} % fewer labels (95 % interval {interval} %)"


def _arm(comparison: Comparison, arm: Arm) -> str:
    said = [gains(comparison, arm)]
    p = "< 0.001" if arm.p_adj < 0.001 else f"= {number(arm.p_adj, 3)}"
    said.append(
        f"it was better than random in {arm.wins} of {comparison.replicates} replicates"
        + ("" if comparison.exploratory else f", adjusted p {p}")
    )
    if not reached_at_once(comparison):
        said.append(f"it {saves(comparison, arm)}")
    return "; ".join(said) + "." + (" The interval is exploratory." if comparison.exploratory else "")


def _not_paying(arm: Arm, cost: Cost | None) -> str:
    least = paying_price(cost)
    if cost is None or cost.net is None:
        why = "it never reaches random's last level, so that it saves no labels"
    elif least is None:
        why = f"it saves no labels, and computing costs {price(cost.compute_cost)}"
    else:
        why = (
            f"net {price(cost.net)}. It would be if a label cost more than {price(least)}, "
            f"not {price(cost.label_cost)} as given"
        )
    return f"{arm.name} is better than random labels, but not worth its cost: {why}."


def _what_settles(comparison: Comparison) -> str:
    needed = comparison.required_R
    if needed is not None:
        return (
            f"About {needed} replicates instead of {comparison.replicates} would settle it, if gains and spread stay "
            "as they are (80 % power)."
        )
    if comparison.replicates < 2:
        return f"Run at least {LEAST_REPLICATES} replicates: the spread between them is not known yet."
    return (
        f"Not even {MOST_REPLICATES} replicates would settle it: the gain is too close to the least worthwhile one. A "
        "larger budget or another strategy is more likely to."
    )


def _digits(comparison: Comparison, value: float) -> str:
    return number(value, decimals_of(comparison.curves.scale, comparison.delta)[0])
