"""What to do next, from what a study found: which strategy, how many labels, and what would settle it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from lightning_al.study import reasons
from lightning_al.study.calls import spelled
from lightning_al.study.comparison import Arm, Comparison, area_under
from lightning_al.study.sections import reached_at_once
from lightning_al.study.types import FloatArray
from lightning_al.study.verdict import worthwhile
from lightning_al.study.wording import decimals_of, interval, number, price, words

if TYPE_CHECKING:
    from lightning_al.study.cost import Cost


def advise(
    comparison: Comparison,
    verdict: str,
    flags: Sequence[str] = (),
    winner: str | None = None,
    *,
    costs: Mapping[str, Cost] | None = None,
    mode: str = "curves",
) -> list[str]:
    """Say what to run next.

    Args:
        comparison: The arms against random.
        verdict: ``"promising"``, ``"not_promising"`` or ``"inconclusive"``.
        flags: The verdict's flags.
        winner: The arm that makes it promising.
        costs: What each arm saves and costs; None where labels have no price.
        mode: ``"full"`` or ``"proxy"`` where a study made the fits, which goes on in its folder; else ``"curves"``.

    Returns:
        Sentences, the most useful first.
    """
    said = []
    best = next((arm for arm in comparison.arms if arm.name == winner), leader(comparison))
    unpaid = [] if comparison.exploratory else [arm for arm in comparison.arms if worthwhile(arm, comparison)]
    if verdict == "promising":
        said += [*_run_it(comparison, best), _ends(comparison)]
    elif verdict == "not_promising":
        said.append(_label_at_random(comparison, flags))
    elif unpaid:  # only the price can have kept these from being promising
        said.append(_make_it_pay(unpaid, costs or {}))
    else:
        said.append(_settle(comparison, mode))
    said.append(_price_of_a_gain(comparison, best))
    if "uncertainty_harmful" in flags:
        said.append(
            "Do not query by least confidence here: what the model is least sure of teaches it nothing. Look at what "
            "it asked for first, and clear the pool of what nobody can label."
        )
    elif "spam_suspected" in flags:
        said.append(
            "Look at what least confidence asked for before you buy labels by uncertainty: many of its picks are "
            "outliers, or contradicted by their neighbors. In a larger pool there are more of them to pick."
        )
    if verdict == "promising":
        said.append(
            "Keep labeling a random tenth of each query besides: it is the only fair measure of what the strategy "
            "gains in earnest."
        )
    return [sentence for sentence in said if sentence]


def leader(comparison: Comparison) -> Arm:
    """The arm with the largest gain among those whose interval is above 0, else among all."""
    sure = [arm for arm in comparison.arms if arm.low > 0]
    return max(sure or comparison.arms, key=lambda arm: arm.delta)


def _run_it(comparison: Comparison, best: Arm) -> list[str]:
    """The callback that does it, in Python and in YAML; an arm that is no strategy of ours is told in words."""
    labels = comparison.curves.labels
    step, first = round(float(np.median(np.diff(labels)))), round(float(labels[0]))
    # Where random never rises above its first level, the target is met before anything was asked for.
    reached = None if reached_at_once(comparison) else best.labels_to_target
    budget = int(np.ceil(reached or labels[-1]))
    told = "" if reached is None else (
        f": {budget} labels by {best.name} reached {_level(comparison, comparison.target)}, for which random labels "
        f"took {np.ceil(comparison.random_labels_to_target):.0f}"
    )  # fmt: skip
    known = spelled(best.name)
    if known is None:
        return [f"Query by {best.name}, {step} labels at a time, from {first} labels to {budget}{told}."]
    python, yaml = known
    arguments = f"query_size: {step}, initial: {first}, budget: {budget}"
    return [
        f"Run `ActiveLearning({python}, {arguments.replace(': ', '=')})`{told}.",
        "The same for `lightning-al fit`, in its YAML file under `trainer`: "
        f"`callbacks: [{{class_path: ActiveLearning, init_args: {{strategy: {yaml}, {arguments}}}}}]`.",
    ]


def _ends(comparison: Comparison) -> str:
    """Which arm leads over the first and over the last half of the budget."""
    labels = comparison.curves.labels
    if len(labels) < 4:
        return ""
    middle = len(labels) // 2
    halves = {"small": slice(0, middle + 1), "large": slice(middle, len(labels))}
    digits, unit = _decimals(comparison)[0], _unit(comparison)
    told = []
    for size, part in halves.items():
        name, gain, half = _best_over(comparison, part)
        ends = interval((gain - half, gain + half), digits, signed=True)
        told.append(
            f"for a {size} budget ({labels[part][0]:.0f} to {labels[part][-1]:.0f} labels) {name} leads with a gain of "
            f"{number(gain, digits, signed=True)} {ends}{unit}"
        )
    return f"{told[0][0].upper()}{told[0][1:]}, {told[1]}. The leader of several is flattered by the choice."


def _best_over(comparison: Comparison, part: slice) -> tuple[str, float, float]:
    """The arm with the largest mean gain over some counts, the gain, and half of its paired 95 % t interval."""
    curves = comparison.curves
    best: tuple[str, FloatArray] | None = None
    for name in curves.arms[1:]:
        gains = area_under((curves.values[name] - curves.values[curves.arms[0]])[:, part], curves.labels[part])
        if best is None or gains.mean() > best[1].mean():
            best = name, gains
    assert best is not None  # a comparison has an arm
    name, gains = best
    n = len(gains)
    half = float(stats.t.ppf(0.975, n - 1) * gains.std(ddof=1) / np.sqrt(n)) if n > 1 else float("inf")
    return name, float(gains.mean()), half


def _label_at_random(comparison: Comparison, flags: Sequence[str]) -> str:
    if "saturated" in flags:
        return (
            f"Label at random, and fewer: {np.ceil(comparison.random_labels_to_target):.0f} random labels are within "
            f"{reasons.amount(comparison, comparison.delta)} of what {comparison.curves.labels[-1]:.0f} give."
        )
    return (
        "Label at random: it is simpler, its data serve any later model, and it makes a fair test set. A harder "
        "problem, a larger pool or rarer classes may change the answer: ask again then."
    )


def _make_it_pay(unpaid: Sequence[Arm], costs: Mapping[str, Cost]) -> str:
    priced = [(least, arm) for arm in unpaid if (least := reasons.paying_price(costs.get(arm.name))) is not None]
    if not priced:
        names = " and ".join(arm.name for arm in unpaid)
        return (
            f"Decide by what a better model is worth to you: {names} surely gain{'s' * (len(unpaid) == 1)} over random "
            "labels, but not enough labels are saved to pay for it. More replicates will not change that."
        )
    least, arm = min(priced, key=lambda each: each[0])
    cost = costs[arm.name]
    return (
        f"Label at random unless a label costs more than {price(least)}: from there on {arm.name} pays, which saves "
        f"{number(cost.labels_saved, 0)} labels for {price(cost.compute_cost)} of computing. Cheaper computing, as by "
        "larger queries, lowers that price; more replicates will not change the answer."
    )


def _settle(comparison: Comparison, mode: str) -> str:
    of_a_study = mode != "curves"
    if comparison.exploratory:
        return (
            f"Run at least 6 paired replicates, better 10 or more: with {comparison.replicates} no exact test can tell "
            "a gain from luck." + " With the same `output`, finished fits are kept." * of_a_study
        )
    if comparison.required_R is None:
        return (
            "More replicates would hardly settle it (more than 200, if the gains stay as they are): the gains are "
            "about as large as the least worthwhile one. Decide by cost and convenience, or set `delta` to the gain "
            "that you would really work for."
        )
    return f"About {comparison.required_R} replicates would settle it if the gains stay as they are" + (
        ": set `replicates` to that and run again with the same `output`, finished fits are kept."
        if of_a_study
        else "."
    )


def _price_of_a_gain(comparison: Comparison, best: Arm) -> str:
    """Labels that one more point takes in the last half of the budget, where random labels still add a point there."""
    curves, labels = comparison.curves, comparison.curves.labels
    if len(labels) < 3:
        return ""
    middle = min(len(labels) // 2, len(labels) - 2)
    span = labels[-1] - labels[middle]
    # A metric in its own unit has no points: there the least worthwhile gain is the step.
    step = 1.0 if curves.unit else comparison.delta
    rises = {name: float((curves.values[name][:, -1] - curves.values[name][:, middle]).mean())
             for name in (curves.arms[0], best.name)}  # fmt: skip
    metric, more = words(curves.metric), "more" if curves.sign > 0 else "less"
    what = (
        f"one point {more} of {metric}" if curves.unit else f"{number(step, _decimals(comparison)[0])} {more} {metric}"
    )
    where = f"from {labels[middle]:.0f} to {labels[-1]:.0f} labels"
    if rises[curves.arms[0]] < step:
        return f"More random labels no longer buy {what} within the budget measured: {where} they add less."
    told = [f"{_few(step * span / rise)} labels by {name}" for name, rise in rises.items() if rise >= step]
    stopped = "" if rises[best.name] >= step else f"; more labels by {best.name} no longer buy it"
    return f"At the end of the budget {what} costs about {', '.join(told)}{stopped} (slope of the mean curves {where})."


def _few(labels: float) -> str:
    return f"{labels:.0f}" if labels >= 10 else f"{labels:.2g}"


def _level(comparison: Comparison, value: float) -> str:
    curves = comparison.curves
    return f"{words(curves.metric)} {number(curves.sign * value, _decimals(comparison)[1])}"


def _decimals(comparison: Comparison) -> tuple[int, int]:
    return decimals_of(comparison.curves.scale, comparison.delta)


def _unit(comparison: Comparison) -> str:
    return f" {comparison.curves.unit}" if comparison.curves.unit else ""
