"""The experiment of the article that the study goes beyond, read as the article reads it; it never decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lightning_al.study.comparison import Comparison
from lightning_al.study.types import FloatArray
from lightning_al.study.wording import number

METRICS = ("accuracy", "precision", "recall")
"""What the article plots."""

PARAGRAPH = (
    "The spread over buckets mixes three things: which data were labeled, the luck of a single training run, and a "
    "curve that has become flat. With no effect of the data at all, the best fit on 20 % beats the worst on 80 % in "
    "62 % of studies with five buckets when the two lie 2 standard deviations apart, in 23 % at 3, and more often with "
    "more buckets; curves near their ceiling overlap always. On simulated problems the rule fired where nothing could "
    "be gained (38 of 50) and stayed silent where a strategy gained most (2 of 100). So it is shown, and the paired "
    "comparison decides."
)
"""Why the article's rule does not decide; the figures are from simulations."""


@dataclass(frozen=True)
class Spread:
    """One of the article's plots: a metric over buckets at each fraction, one run a cell.

    Args:
        fractions: Shares of a bucket, ascending, below 1.
        values: Value by fraction and bucket ``(F, k)``, NaN where it is missing.
        overlap: Whether the ranges of the fractions after the first (40, 60, 80 %) each overlap with the next.
        best_first: Best value at the smallest fraction.
        worst_last: Worst value at the largest fraction.
        rule: ``overlap`` and ``best_first`` better than ``worst_last``: "which data, not how much".
    """

    fractions: tuple[float, ...]
    values: FloatArray
    overlap: bool
    best_first: float
    worst_last: float
    rule: bool


@dataclass(frozen=True)
class Legacy:
    """The article's experiment.

    Args:
        spreads: Its plots by metric.
        rule_of_thumb: Whether a 60 % sample is as bad as or worse than a 20 or 40 % sample, by accuracy.
        least_confidence: What least confidence gained against random, and against the best other arm; None without it.
        paragraph: Why this does not decide.
    """

    spreads: Mapping[str, Spread]
    rule_of_thumb: bool
    least_confidence: Mapping[str, object] | None
    paragraph: str = PARAGRAPH


def read_spread(fractions: FloatArray, values: FloatArray) -> Spread | None:
    """Read one of the article's plots.

    Args:
        fractions: Shares of a bucket ``(F,)``, ascending.
        values: One run a cell ``(F, k)``, higher is better; NaN where it is missing. A fraction of 1 is left out.

    Returns:
        The plot; None with fewer than two fractions below 1 that have a value.

    Examples:
        >>> spread = read_spread(np.array([0.2, 0.4, 0.8]), np.array([[60.0, 71.0], [68.0, 72.0], [70.0, 74.0]]))
        >>> spread.best_first, spread.worst_last, spread.overlap, spread.rule
        (71.0, 70.0, True, True)
    """
    kept = (fractions < 1) & np.isfinite(values).any(axis=1)
    if kept.sum() < 2:
        return None
    values = values[kept]
    low, high = np.nanmin(values, axis=1), np.nanmax(values, axis=1)
    later = slice(1, None) if len(values) > 2 else slice(None)
    overlap = bool((high[later][:-1] >= low[later][1:]).all())
    best, worst = float(high[0]), float(low[-1])
    return Spread(tuple(fractions[kept].tolist()), values, overlap, best, worst, overlap and best > worst)


def rule_of_thumb(spread: Spread) -> bool:
    """Whether a sample of the last fraction but one is no better than one of those before.

    Args:
        spread: The plot of accuracy.

    Returns:
        For 20, 40, 60, 80 %: the worst at 60 % is at most the best at 20 or 40 %.

    Examples:
        >>> values = np.array([[60.0, 61.0], [64.0, 66.0], [65.0, 70.0], [72.0, 75.0]])
        >>> rule_of_thumb(read_spread(np.array([0.2, 0.4, 0.6, 0.8]), values))
        True
    """
    third = max(1, len(spread.fractions) - 2)
    return bool(np.nanmin(spread.values[third]) <= np.nanmax(spread.values[:third]))


def read_legacy(
    fractions: FloatArray, runs: Mapping[str, FloatArray], comparison: Comparison | None = None
) -> Legacy | None:
    """Run the article's experiment on a study's fits.

    Args:
        fractions: Shares of a bucket ``(F,)``, ascending.
        runs: One run a cell by metric ``(F, k)``, in the units to show; `METRICS` are read.
        comparison: The arms against random.

    Returns:
        The experiment; None without one of its metrics.
    """
    spreads = {name: read_spread(fractions, runs[name]) for name in METRICS if name in runs}
    found = {name: spread for name, spread in spreads.items() if spread is not None}
    if not found:
        return None
    least = None if comparison is None else _least_confidence(comparison)
    return Legacy(found, rule_of_thumb(next(iter(found.values()))), least)


def _least_confidence(comparison: Comparison) -> dict[str, object] | None:
    arms = {"".join(filter(str.isalpha, arm.name.lower())): arm for arm in comparison.arms}
    mine = arms.pop("leastconfidence", None)
    if mine is None:
        return None
    below = comparison.replicates - mine.wins
    found: dict[str, object] = {
        "delta": mine.delta,
        "ci": [mine.low, mine.high],
        "below_random": f"in {below} of {comparison.replicates} replicates",
    }
    if arms:
        best = max(arms.values(), key=lambda arm: arm.delta)
        found["best_other"] = f"{best.name}, {number(best.delta, signed=True)}"
    return found
