"""The answer and what it rests on, as sentences for someone who decides on a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lightning_al.study.comparison import Arm, Comparison
from lightning_al.study.curves import Curves
from lightning_al.study.room import LEAST_REPLICATES, MOST_REPLICATES
from lightning_al.study.variance import Variance
from lightning_al.study.wording import number, words

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
    curves, best = comparison.curves, max(comparison.arms, key=lambda arm: arm.delta)
    least = amount(curves, comparison.delta)
    if winner is not None:
        saved = "" if winner.saving is None or winner.saving <= 0 else f", and {saves(comparison, winner)}"
        return f"Active learning is promising: {gains(curves, winner)}{saved}."
    if comparison.exploratory:
        return (
            f"It cannot be told yet: the comparison has {comparison.replicates} of the {LEAST_REPLICATES} paired "
            "replicates that an exact test needs."
        )
    if saturated and comparison.room is not None:
        return (
            f"Active learning is not worth it here: random labels leave room for at most "
            f"{amount(curves, max(comparison.room.high, 0.0))} on average over the budget, less than the {least} that "
            "would be worthwhile."
        )
    if answer == "not_promising":
        return (
            f"Active learning is not worth it here: no strategy gains the {least} over random labels that would be "
            f"worthwhile; {gains(curves, best)}."
        )
    if unpaid:
        return f"{gains(curves, unpaid[0])}, but at the costs given it is not shown to be worth its price."
    return f"This study cannot tell yet: {gains(curves, best)}, which leaves open whether a gain of {least} is there."


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
    curves = comparison.curves
    said = [_arm(comparison, arm) for arm in sorted(comparison.arms, key=lambda arm: (arm is not winner, -arm.delta))]
    if comparison.room is not None:
        room = comparison.room
        said.append(
            f"Any strategy could add {amount(curves, room.mean)} to random labels on average over the budget at most "
            f"{between(room.low, room.high, curves)}."
        )
    for arm in unpaid:
        cost = (costs or {}).get(arm.name)
        net = "it never reaches random's last level" if cost is None or cost.net is None else f"net {number(cost.net)}"
        said.append(f"{arm.name} is better than random labels, but not worth its cost: {net}.")
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
            f"Training noise alone moves a fit by {amount(curves, variance.sigma_training)}; which data are labeled "
            f"makes {number(100 * variance.icc, 0)} % of the variance (95 % interval "
            f"{number(100 * variance.icc_low, 0)} to {number(100 * variance.icc_high, 0)} %)."
        )
    if answer == "inconclusive" and not unpaid:
        said.append(_what_settles(comparison))
    return tuple(said)


def amount(curves: Curves, value: float) -> str:
    """Write a difference with its unit.

    Args:
        curves: Hold the unit.
        value: The difference, in points.

    Returns:
        The text, as "0.5 points".
    """
    return f"{_digits(curves, value)} {curves.unit}".rstrip()


def between(low: float, high: float, curves: Curves) -> str:
    """Write a 95 % interval in brackets, without its unit."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return "(no interval)"
    return f"(95 % interval {_digits(curves, low)} to {_digits(curves, high)})"


def gains(curves: Curves, arm: Arm) -> str:
    """Say what an arm gains over random, with its interval.

    Args:
        curves: Hold the metric and its unit.
        arm: The arm.

    Returns:
        A clause, as "Margin gains 2.6 accuracy points over random labels on average over the budget (95 % ...)".
    """
    metric, value = words(curves.metric), _digits(curves, abs(arm.delta))
    where = "random labels on average over the budget"
    interval = between(arm.low, arm.high, curves)
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
    level = f"random's last level (less {amount(comparison.curves, comparison.delta)})"
    if arm.saving is None:
        return f"never reaches {level} within the budget"
    low, high = (number(100 * end, 0) if np.isfinite(end) else "no bound" for end in (arm.saving_low, arm.saving_high))
    interval = f"{low} to {high}"
    if abs(arm.saving) < 0.005:
        return f"reaches {level} with as many labels (95 % interval of the saving {interval} %)"
    if arm.saving < 0:
        return (
            f"needs {number(-100 * arm.saving, 0)} % more labels for {level} (95 % interval of the saving {interval} %)"
        )
    return f"reaches {level} with {number(100 * arm.saving, 0)} % fewer labels (95 % interval {interval} %)"


def _arm(comparison: Comparison, arm: Arm) -> str:
    wins = f"it was above random in {arm.wins} of {comparison.replicates} replicates"
    p = (
        ""
        if comparison.exploratory
        else f", adjusted p {'< 0.001' if arm.p_adj < 0.001 else '= ' + number(arm.p_adj, 3)}"
    )
    exploratory = " The interval is exploratory." if comparison.exploratory else ""
    return f"{gains(comparison.curves, arm)}; {wins}{p}; it {saves(comparison, arm)}.{exploratory}"


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


def _digits(curves: Curves, value: float) -> str:
    if curves.scale == 100:
        return number(value, 1 if abs(value) >= 10 else 2)
    return number(value, max(0, 2 - int(np.floor(np.log10(abs(value))))) if value else 0)
