"""What to do next, from what a study found: which strategy, how many labels, and what would settle it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from lightning_al.study.comparison import Arm, Comparison, area_under
from lightning_al.study.types import FloatArray


def advise(comparison: Comparison, verdict: str, flags: Sequence[str] = (), winner: str | None = None) -> list[str]:
    """Say what to run next.

    Args:
        comparison: The arms against random.
        verdict: ``"promising"``, ``"not_promising"`` or ``"inconclusive"``.
        flags: The verdict's flags.
        winner: The arm that makes it promising.

    Returns:
        Sentences, the most useful first.
    """
    said = []
    best = next((arm for arm in comparison.arms if arm.name == winner), leader(comparison))
    if verdict == "promising":
        said += [_run_it(comparison, best), _ends(comparison)]
    elif verdict == "not_promising":
        said.append(_label_at_random(comparison, flags))
    else:
        said.append(_settle(comparison))
    said.append(_price_of_a_point(comparison, best))
    if "uncertainty_harmful" in flags:
        said.append(
            "Do not query by least confidence here: what the model is least sure of teaches it nothing. Look at its "
            "contact sheet, and clear the pool of what nobody can label."
        )
    elif "spam_suspected" in flags:
        said.append(
            "Look at the contact sheet of least confidence before you buy labels by uncertainty: many of its picks are "
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


def _run_it(comparison: Comparison, best: Arm) -> str:
    labels = comparison.curves.labels
    step = round(float(np.median(np.diff(labels))))
    # Where random never rises above its first level, the target is met before anything was asked for.
    reached = best.labels_to_target if (best.labels_to_target or 0) > labels[0] else None
    budget = float(np.ceil(reached or labels[-1]))
    line = f'ActiveLearning("{best.name}", query_size={step}, initial={labels[0]:.0f}, budget={budget:.0f})'
    if reached is None:
        return f"Run {line}."
    return (
        f"Run {line}: {budget:.0f} labels by {best.name} reached {_level(comparison, comparison.target)}, for which "
        f"random labels took {np.ceil(comparison.random_labels_to_target):.0f}."
    )


def _ends(comparison: Comparison) -> str:
    """Which arm leads over the first and over the last half of the budget."""
    labels = comparison.curves.labels
    if len(labels) < 4:
        return ""
    middle = len(labels) // 2
    halves = {"small": slice(0, middle + 1), "large": slice(middle, len(labels))}
    told = []
    for size, part in halves.items():
        name, gain, half = _best_over(comparison, part)
        told.append(
            f"for a {size} budget ({labels[part][0]:.0f} to {labels[part][-1]:.0f} labels) {name} leads with "
            f"{gain:+.2f} [{gain - half:+.2f}, {gain + half:+.2f}]{_unit(comparison)}"
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
            f"Label at random, and fewer: {comparison.random_labels_to_target:.0f} random labels are within "
            f"{comparison.delta:g}{_unit(comparison)} of what {comparison.curves.labels[-1]:.0f} give."
        )
    return (
        "Label at random: it is simpler, its data serve any later model, and it makes a fair test set. A harder "
        "problem, a larger pool or rarer classes may change the answer: run the study again then."
    )


def _settle(comparison: Comparison) -> str:
    if comparison.exploratory:
        return (
            f"Run at least 6 paired replicates, better 10 or more: with {comparison.replicates} no exact test can tell "
            "a gain from luck. With the same `output`, finished fits are kept."
        )
    if comparison.required_R is None:
        return (
            "More replicates would hardly settle it (more than 200, if the gains stay as they are): the gains are "
            "about as large as the least worthwhile one. Decide by cost and convenience, or ask for more of `delta`."
        )
    return (
        f"About {comparison.required_R} replicates would settle it if the gains stay as they are: set `replicates` to "
        "that and run again with the same `output`, finished fits are kept."
    )


def _price_of_a_point(comparison: Comparison, best: Arm) -> str:
    """Labels that one more point takes at the end of the budget."""
    labels = comparison.curves.labels
    if len(labels) < 3:
        return ""
    prices = {}
    for name in (comparison.curves.arms[0], best.name):
        mean = comparison.curves.values[name].mean(axis=0)
        slope = (mean[-1] - mean[-3]) / (labels[-1] - labels[-3])
        if slope > 0:
            prices[name] = 1 / slope
    if len(prices) < 2:
        return ""
    unit = "point" if comparison.curves.unit else f"unit of {comparison.curves.metric}"
    told = ", ".join(f"{_few(labels_each)} labels by {name}" for name, labels_each in prices.items())
    return f"At the end of the budget one more {unit} costs about {told} (slope of the mean curves)."


def _few(labels: float) -> str:
    return f"{labels:.0f}" if labels >= 10 else f"{labels:.2g}"


def _level(comparison: Comparison, value: float) -> str:
    curves = comparison.curves
    shown = curves.sign * value / (1 if curves.unit else curves.scale)
    return f"{shown:.1f} {curves.metric} points" if curves.unit else f"{curves.metric} {shown:.3g}"


def _unit(comparison: Comparison) -> str:
    return f" {comparison.curves.unit}" if comparison.curves.unit else ""
