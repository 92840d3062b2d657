"""Exact paired tests by sign flips, with simultaneous intervals for several arms (max-T).

Under the null hypothesis a paired difference is as likely to have either sign. What the largest studentised mean of all
arms does over every way to flip whole replicates bounds the chance of any false alarm among them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import stdtrit

from lightning_al.study.curves import ROUNDING
from lightning_al.study.types import FloatArray

LEVEL = 0.05
EXACT_UP_TO = 15
"""Replicates up to which every sign vector is tried; beyond, `SAMPLED` drawn ones."""
SAMPLED = 2**14


@lru_cache(maxsize=4)
def sign_vectors(replicates: int, seed: int = 0) -> FloatArray:
    """Return the ways to flip replicates; the first is never flipped, as all signs turned round give the same test.

    Args:
        replicates: R, at least 1.
        seed: For the draw where R > 15.

    Returns:
        Signs ``(F, R)``, the identity first; F = 2^(R - 1), at most 2^14. Read-only, as it is kept for the next call.

    Examples:
        >>> sign_vectors(3).tolist()
        [[1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [1.0, 1.0, -1.0], [1.0, -1.0, -1.0]]
    """
    if replicates <= EXACT_UP_TO:
        codes = np.arange(2 ** (replicates - 1))[:, None]
        flipped = codes >> np.arange(replicates - 1) & 1
    else:
        flipped = np.random.default_rng([seed, replicates]).integers(0, 2, (SAMPLED, replicates - 1))
        flipped[0] = 0
    signs = np.concatenate([np.ones((len(flipped), 1)), 1.0 - 2.0 * flipped], axis=1)
    signs.setflags(write=False)
    return signs


def flipped_means(x: FloatArray, seed: int = 0) -> FloatArray:
    """Return the mean of each arm under each sign vector, as a share of its root mean square.

    This share z orders arms and flips as the studentised mean does, t = z sqrt(R - 1) / sqrt(1 - z^2), but is finite.

    Args:
        x: Differences or residuals ``(J, R)``.
        seed: For the draw of sign vectors.

    Returns:
        Absolute shares ``(F, J)`` in [0, 1]; 0 for an arm of zeros.
    """
    size = np.sqrt((x**2).mean(axis=1))
    scaled = np.divide(x, size[:, None], out=np.zeros_like(x), where=size[:, None] > 0)
    shares: FloatArray = np.abs(sign_vectors(x.shape[1], seed) @ scaled.T) / x.shape[1]
    return shares


def studentised(share: float, replicates: int) -> float:
    """Turn a mean as a share of the root mean square into a t statistic; infinite where nothing varies."""
    rest = 1 - share**2
    return float(share * np.sqrt((replicates - 1) / rest)) if rest > 1e-12 else float(np.copysign(np.inf, share))


def spread(differences: FloatArray) -> FloatArray:
    """Return the standard deviation of each arm's differences.

    Args:
        differences: ``(J, R)``, R >= 2.

    Returns:
        ``(J,)``; exactly 0 where they differ by rounding errors only.
    """
    deviation: FloatArray = differences.std(axis=1, ddof=1)
    deviation[deviation <= ROUNDING * (1 + np.abs(differences).max(axis=1))] = 0.0
    return deviation


def critical_value(differences: FloatArray, seed: int = 0) -> float:
    """Return c of the simultaneous 95 % intervals, mean -+ c s / sqrt(R).

    Args:
        differences: Paired differences ``(J, R)``.
        seed: For the draw of sign vectors.

    Returns:
        The (floor(.05 F) + 1)-th largest max-T of the residuals; infinite where floor(.05 F) = 0 (R < 6).
    """
    residuals = differences - differences.mean(axis=1, keepdims=True)
    residuals[spread(differences) == 0] = 0.0
    largest = flipped_means(residuals, seed).max(axis=1)
    allowed = int(LEVEL * len(largest))
    if allowed == 0:
        return np.inf
    return studentised(float(np.partition(largest, -allowed - 1)[-allowed - 1]), differences.shape[1])


def simultaneous_intervals(differences: FloatArray, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Return intervals that hold for all arms at once with 95 % confidence.

    Args:
        differences: Paired differences ``(J, R)``.
        seed: For the draw of sign vectors.

    Returns:
        Lower and upper ends ``(J,)`` by `critical_value`; with R < 6 Bonferroni's t intervals, which are exploratory.
        An arm whose differences are all equal gets a point, one replicate gives no bounds.
    """
    arms, replicates = differences.shape
    mean = differences.mean(axis=1)
    if replicates == 1:
        return np.full(arms, -np.inf), np.full(arms, np.inf)
    c = critical_value(differences, seed)
    if np.isinf(c) and replicates < 6:
        c = float(stdtrit(replicates - 1, 1 - LEVEL / (2 * arms)))
    deviation = spread(differences)
    half = np.zeros(arms)
    half[deviation > 0] = c * deviation[deviation > 0] / np.sqrt(replicates)
    return mean - half, mean + half


def adjusted_p(differences: FloatArray, seed: int = 0) -> FloatArray:
    """Return two-sided p-values of "no difference from random", adjusted for the number of arms.

    Args:
        differences: Paired differences ``(J, R)``.
        seed: For the draw of sign vectors.

    Returns:
        ``(J,)``: the share of sign vectors under which the largest t of all arms is at least the arm's own.

    Examples:
        >>> adjusted_p(np.array([[1.0, 2.0, 1.5, 0.5, 1.0, 2.5]])).tolist()
        [0.03125]
    """
    shares = flipped_means(differences, seed)
    p: FloatArray = (shares.max(axis=1)[:, None] >= shares[0] - ROUNDING).mean(axis=0)
    return p


def t_interval(values: FloatArray) -> tuple[float, float]:
    """Return the two-sided 95 % t interval of a mean.

    Args:
        values: ``(R,)``, R >= 2.

    Returns:
        Its ends.

    Examples:
        >>> low, high = t_interval(np.array([1.0, 2.0, 3.0]))
        >>> round(low, 3), round(high, 3)
        (-0.484, 4.484)
    """
    half = float(stdtrit(len(values) - 1, 1 - LEVEL / 2)) * float(spread(values[None])[0]) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)
