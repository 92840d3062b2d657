"""Labels that an arm saves until it is as good as random labels at the end of the budget."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr, stdtrit

from lightning_al.study.curves import ROUNDING
from lightning_al.study.types import FloatArray

BOOTSTRAPS = 1000
_LOWER_TAIL = 0.025


@dataclass(frozen=True)
class Savings:
    """Labels to the target, of every arm; the first is random.

    Args:
        target: Random's fit at the last count less delta, in points, higher is better.
        labels: Least count that reaches it ``(J + 1,)``; infinite where the arm never does.
        saving: 1 - N_j / N_0 ``(J + 1,)``; minus infinity where the arm never reaches the target.
        low: 2.5 % point of the bootstraps ``(J + 1,)``.
        high: Upper end, of the bootstraps too ``(J + 1,)``: the 97.5 % point would be below the truth far more often
            than 2.5 % of the time, as a mean of few replicates varies more than its bootstraps do. It is taken as far
            out as Student's t says, at the 99.1 % point with ten replicates.
        censored_share: Share of the bootstraps in which the arm never reaches the target ``(J + 1,)``.
    """

    target: float
    labels: FloatArray
    saving: FloatArray
    low: FloatArray
    high: FloatArray
    censored_share: FloatArray


def isotonic(y: FloatArray) -> FloatArray:
    """Fit increasing sequences by least squares, many at once: the max-min formula of isotonic regression.

    Args:
        y: Sequences ``(..., K)``.

    Returns:
        Fits ``(..., K)``, each non-decreasing.

    References:
        Robertson, Wright and Dykstra (1988), Order Restricted Statistical Inference, theorem 1.4.4.

    Examples:
        >>> isotonic(np.array([1.0, 3.0, 2.0, 4.0])).tolist()
        [1.0, 2.5, 2.5, 4.0]
    """
    size = y.shape[-1]
    sums = np.cumsum(y, axis=-1)
    before = np.concatenate([np.zeros_like(sums[..., :1]), sums[..., :-1]], axis=-1)
    fit = np.full_like(y, -np.inf)
    for start in range(size):
        means = (sums[..., start:] - before[..., start : start + 1]) / np.arange(1, size - start + 1)
        least = np.minimum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
        np.maximum(fit[..., start:], least, out=fit[..., start:])
    return fit


def labels_to_reach(y: FloatArray, labels: FloatArray, target: FloatArray) -> FloatArray:
    """Find the least count at which the increasing fits of curves reach a target, linear between counts.

    The fit is `isotonic`'s, of which no more is made than this needs, in time linear in K: it reaches the target first
    where the sum of all later values' excess over the target is largest, a block of equal values begins there, and
    another ends before it.

    Args:
        y: Curves ``(..., K)``.
        labels: Their label counts ``(K,)``.
        target: What to reach, of a shape that broadcasts to ``(...)``.

    Returns:
        Counts ``(...)``: the first one where the fit starts above the target, infinite where it never gets there.

    Examples:
        >>> labels_to_reach(np.array([60.0, 70.0, 80.0]), np.array([10.0, 20.0, 30.0]), np.array(75.0)).item()
        25.0
        >>> labels_to_reach(np.array([60.0, 80.0, 70.0]), np.array([10.0, 20.0, 30.0]), np.array(75.0)).item()
        20.0
    """
    target = np.broadcast_to(target, y.shape[:-1])
    excess = np.cumsum((y - (target - ROUNDING)[..., None])[..., ::-1], axis=-1)[..., ::-1]
    after = excess.argmax(axis=-1)  # the first of equals
    reached = np.take_along_axis(excess, after[..., None], axis=-1)[..., 0] >= 0
    before = np.maximum(after - 1, 0)
    # where a block begins, the fit is the least mean of what follows; where one ends, the largest of what precedes
    position = np.arange(y.shape[-1])
    later = np.where(position >= after[..., None], y, 0.0).cumsum(axis=-1) / np.maximum(
        position - after[..., None] + 1, 1
    )
    high = np.where(position >= after[..., None], later, np.inf).min(axis=-1)
    earlier = np.where(position <= before[..., None], y, 0.0)[..., ::-1].cumsum(axis=-1)[..., ::-1]
    earlier /= np.maximum(before[..., None] - position + 1, 1)
    low = np.where(position <= before[..., None], earlier, -np.inf).max(axis=-1)
    rise = high - low
    share = np.clip(np.divide(target - low, rise, out=np.zeros_like(rise), where=rise > 0), 0, 1)
    counts = labels[before] + share * (labels[after] - labels[before])
    result: FloatArray = np.where(reached, counts, np.inf)
    return result


def savings(values: FloatArray, labels: FloatArray, delta: float, seed: int = 0) -> Savings:
    """Compare the label counts at which arms reach random's last level, less delta.

    Args:
        values: Curves ``(J + 1, R, K)``, random first, higher is better.
        labels: Label counts ``(K,)``.
        delta: Least worthwhile gain, in the unit of the values.
        seed: For the bootstrap of replicates, the same ones for every arm.

    Returns:
        The savings with their bootstrap intervals.

    References:
        Hesterberg (2015), What teachers should know about the bootstrap, section 5.3 (the expanded percentile).
    """
    mean = values.mean(axis=1)
    target, needed = _needed(mean, labels, delta)
    arms, replicates, counts = values.shape
    flat = values.transpose(1, 0, 2).reshape(replicates, -1)
    resampled = (resampling_weights(replicates, seed) @ flat).reshape(-1, arms, counts)
    drawn = _saved(_needed(resampled, labels, delta)[1])
    censored = np.isneginf(drawn).mean(axis=0)
    if replicates == 1:  # tells nothing of the spread
        return Savings(float(target), needed, _saved(needed), np.full(arms, -np.inf), np.full(arms, np.inf), censored)
    # order statistics: nothing can be interpolated between minus infinity and a number
    low = np.quantile(drawn, _LOWER_TAIL, axis=0, method="lower")
    high = np.quantile(drawn, 1 - _upper_tail(replicates), axis=0, method="higher")
    return Savings(float(target), needed, _saved(needed), low, high, censored)


@lru_cache(maxsize=16)
def resampling_weights(replicates: int, seed: int = 0, draws: int = BOOTSTRAPS) -> FloatArray:
    """Return the weight of each replicate in each bootstrap sample of its mean.

    Args:
        replicates: R, at least 1.
        seed: For the draw.
        draws: Number of samples.

    Returns:
        ``(draws, R)``; each row sums to 1. Read-only, as it is kept for the next call.
    """
    counts = np.random.default_rng([seed, replicates]).multinomial(
        replicates, np.full(replicates, 1 / replicates), draws
    )
    weights: FloatArray = counts / replicates
    weights.setflags(write=False)
    return weights


def _upper_tail(replicates: int) -> float:
    """The share of the bootstraps above the upper end, so that it covers as a t interval of a mean does.

    Examples:
        >>> [round(_upper_tail(replicates), 4) for replicates in (6, 10, 20, 1000)]
        [0.0024, 0.0086, 0.0159, 0.0248]
    """
    wider = np.sqrt(replicates / (replicates - 1))  # bootstraps spread by the SD that divides by R
    return float(ndtr(wider * stdtrit(replicates - 1, _LOWER_TAIL)))


def _needed(mean: FloatArray, labels: FloatArray, delta: float) -> tuple[FloatArray, FloatArray]:
    # random's fit at the last count: the largest mean of the values that end there
    backwards = mean[..., 0, ::-1].cumsum(axis=-1) / np.arange(1, len(labels) + 1)
    target: FloatArray = backwards.max(axis=-1) - delta
    return target, labels_to_reach(mean, labels, target[..., None])


def _saved(needed: FloatArray) -> FloatArray:
    random = needed[..., :1]
    # with no label at all random may be there already: then nothing can be saved
    ratio = np.divide(needed, random, out=np.where(needed > 0, np.inf, 1.0), where=random > 0)
    saved: FloatArray = 1 - ratio
    return saved
