"""What any strategy could gain at most, and the replicates that would settle an open question."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import stdtrit

from lightning_al.study.sign_flip import LEVEL, t_interval
from lightning_al.study.types import FloatArray

MOST_REPLICATES = 200
LEAST_REPLICATES = 6
"""With fewer, no sign-flip interval is finite."""


@dataclass(frozen=True)
class Room:
    """The whole pilot's metric less random's area, in points.

    Args:
        mean: Mean over replicates.
        low: Lower end of its two-sided 95 % t interval.
        high: Upper end.
    """

    mean: float
    low: float
    high: float


def room(area: FloatArray, last: FloatArray, whole: FloatArray | None = None) -> Room | None:
    """Bound what a strategy could add to random's area under the curve.

    Args:
        area: Random's area in each replicate ``(R,)``.
        last: Last points of all arms ``(J + 1, R)``, random first.
        whole: Fits on the whole pilot ``(R,)``, NaN where there is none; None or too few: random's last points.

    Returns:
        The room, with the whole pilot shifted up so that its mean is at least the best arm's mean last point; None
        for one replicate.
    """
    if len(area) < 2:
        return None
    if whole is None or np.isfinite(whole).sum() < 2:
        whole = last[0]
    known = np.isfinite(whole)
    shift = max(0.0, float(last.mean(axis=1).max() - whole[known].mean()))
    values = whole[known] + shift - area[known]
    return Room(float(values.mean()), *t_interval(values))


def required_replicates(gains: FloatArray, deviations: FloatArray, replicates: int, delta: float) -> int | None:
    """Find how many replicates would give an answer, were the gains and spreads as they are now.

    Args:
        gains: Mean gain of each arm ``(J,)``.
        deviations: Standard deviation of each arm's gains ``(J,)``.
        replicates: R now.
        delta: Least worthwhile gain.

    Returns:
        Least R' > R, at least 6 and at most 200, with which, at 80 % power, a worthwhile gain would be above zero or
        every gain below delta; None where there is none.

    Examples:
        >>> required_replicates(np.array([1.0]), np.array([1.5]), 6, 0.5)
        20
    """
    candidates = np.arange(max(replicates + 1, LEAST_REPLICATES), MOST_REPLICATES + 1)
    half = _multipliers(len(gains))[candidates][:, None] * deviations
    gained = ((gains >= delta) & (gains - half > 0)).any(axis=1)
    settled = candidates[gained | (gains + half < delta).all(axis=1)]
    return int(settled[0]) if settled.size else None


@lru_cache(maxsize=16)
def _multipliers(arms: int) -> FloatArray:
    """(t_(.05 / 2J) + t_(.2)) / sqrt(R') by R'."""
    replicates = np.arange(MOST_REPLICATES + 1)
    freedom = np.maximum(replicates - 1, 1)
    quantiles = stdtrit(freedom, 1 - LEVEL / (2 * arms)) + stdtrit(freedom, 0.8)
    multipliers: FloatArray = quantiles / np.sqrt(np.maximum(replicates, 1))
    return multipliers
