"""The learning curve of random labels, ``err = a n^-b + c``, and how many labels a level takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_al.study.saving import BOOTSTRAPS
from lightning_al.study.sign_flip import LEVEL, t_interval
from lightning_al.study.types import FloatArray

REACH = 4.0
"""Times the largest label count that the fitted curve is believed for: beyond lies what the data do not tell."""

EXPONENTS = np.geomspace(0.02, 4.0, 41)

Estimate = tuple[float, float, float]
"""A value and its 95 % interval."""


@dataclass(frozen=True)
class LabelsFor:
    """Labels that a level takes.

    Args:
        level: The level, higher is better.
        labels: Their number; None where the level lies beyond what the data tell.
        low: Lower end of the interval; None where it lies beyond, too.
        high: Upper end; None where it has no bound.
    """

    level: float
    labels: float | None
    low: float | None
    high: float | None

    @property
    def beyond(self) -> bool:
        """Whether the level lies beyond what the data tell."""
        return self.labels is None


@dataclass(frozen=True)
class LearningCurve:
    """``y = top - (a n^-b + c)``, fitted by least squares to the mean at each label count.

    Args:
        top: The best possible value: 100 or 0 points, or 0 where the metric has no bound.
        draws: ``a``, ``b`` and ``c`` of the fit (first row) and of each bootstrap sample ``(1 + B, 3)``.
        labels: Label counts ``(P,)`` that it was fitted to.
        means: Mean at each of them ``(P,)``, higher is better.
    """

    top: float
    draws: FloatArray
    labels: FloatArray
    means: FloatArray

    @property
    def a(self) -> Estimate:
        """Factor of the error that labels remove, with its interval."""
        return self._estimate(self.draws[:, 0])

    @property
    def b(self) -> Estimate:
        """Exponent: how fast labels remove it."""
        return self._estimate(self.draws[:, 1])

    @property
    def c(self) -> Estimate:
        """Error that no number of labels removes."""
        return self._estimate(self.draws[:, 2])

    def predict(self, labels: float) -> Estimate:
        """Predict the value at a label count.

        Args:
            labels: Number of labels, above 0.

        Returns:
            The value and its interval.
        """
        a, b, c = self.draws.T
        return self._estimate(self.top - c - a * labels**-b)

    def labels_for(self, level: float) -> LabelsFor:
        """Find how many labels a level takes.

        Args:
            level: The level, higher is better.

        Returns:
            Their number with its interval; beyond what the data tell, more than 4 times the largest count, is None.
        """
        a, b, c = self.draws.T
        excess = self.top - level - c
        with np.errstate(over="ignore", divide="ignore"):
            ratio = np.divide(a, excess, out=np.full_like(a, np.inf), where=excess > 0)
            needed = np.where(excess > 0, ratio ** (1 / b), np.inf)
        needed = np.maximum(needed, 1.0)
        low, high = _bounds(needed[1:])
        farthest = REACH * float(self.labels.max())
        value, low_end, high_end = (None if end > farthest else float(end) for end in (needed[0], low, high))
        return LabelsFor(level, value, low_end, high_end)

    def _estimate(self, values: FloatArray) -> Estimate:
        return float(values[0]), *_bounds(values[1:])


@dataclass(frozen=True)
class Headroom:
    """What the whole pilot gains over the first labels, paired by replicate.

    Args:
        value: Mean difference.
        low: Lower end of its 95 % t interval.
        high: Upper end.
        initial: Mean at the first label count.
        all: Mean with the whole pilot.
    """

    value: float
    low: float
    high: float
    initial: float
    all: float


def headroom(first: FloatArray, whole: FloatArray) -> Headroom | None:
    """Measure what all labels add to the first ones.

    Args:
        first: Random at the first label count, by replicate ``(R,)``.
        whole: Fits on the whole pilot ``(R,)``; NaN where one is missing.

    Returns:
        The headroom; None with fewer than two pairs.

    Examples:
        >>> found = headroom(np.array([50.0, 51.0, 52.0]), np.array([70.0, 72.0, 71.0]))
        >>> found.value, round(found.low, 2)
        (20.0, 17.52)
    """
    known = np.isfinite(whole)
    if known.sum() < 2:
        return None
    gains = whole[known] - first[known]
    return Headroom(float(gains.mean()), *t_interval(gains), float(first[known].mean()), float(whole[known].mean()))


def fit_learning_curve(
    labels: FloatArray,
    y: FloatArray,
    top: float,
    *,
    bounded: bool = True,
    whole: tuple[float, FloatArray] | None = None,
    seed: int = 0,
) -> LearningCurve | None:
    """Fit the learning curve to the nested random design, and to the fits on the whole pilot where there are any.

    For a given exponent the rest is linear, so the best of a fine grid of exponents is the fit: it always exists.

    Args:
        labels: Label count of each fraction ``(F,)``.
        y: Fits ``(F, k, T)``, higher is better; NaN where one is missing.
        top: The best possible value.
        bounded: Whether ``top`` is a bound, so that c >= 0.
        whole: Size of the pilot and the fits on it ``(R,)``, as `read_whole` gives them.
        seed: For the bootstrap over buckets, and over the seeds within each.

    Returns:
        The curve; None with fewer than three label counts.

    Examples:
        >>> n = np.array([50.0, 100.0, 200.0, 400.0])
        >>> curve = fit_learning_curve(n, (90 - 200 * n**-0.5)[:, None, None], 100.0)
        >>> [round(value[0], 2) for value in (curve.a, curve.b, curve.c)], round(curve.labels_for(80.0).labels)
        ([200.0, 0.5, 10.0], 400)
    """
    present = np.isfinite(y).any(axis=(1, 2)) & (labels > 0)
    labels, y = labels[present], y[present]
    samples = _resampled_means(y, np.random.default_rng([seed, 1]))
    if whole is not None:
        labels = np.append(labels, whole[0])
        samples = np.concatenate([samples, _resampled_whole(whole[1], np.random.default_rng([seed, 2]))], axis=1)
    if len(np.unique(labels)) < 3:
        return None
    return LearningCurve(top, fit_power_laws(top - samples, labels, bounded), labels, samples[0])


def _resampled_means(y: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Means of the fractions ``(1 + B, F)``: of the fits, then of resampled buckets with resampled seeds in each."""
    fractions, buckets, seeds = y.shape
    chosen = rng.integers(0, buckets, (BOOTSTRAPS, buckets))
    inner = rng.integers(0, seeds, (BOOTSTRAPS, buckets, seeds))
    drawn = y[:, chosen[:, :, None], inner].reshape(fractions, BOOTSTRAPS, -1)
    observed = y.reshape(fractions, -1)
    mean = np.nanmean(observed, axis=1)
    known = np.isfinite(drawn)
    total = known.sum(axis=2)
    # a sample may hold missing fits only: it then tells no more than the mean
    means = np.divide(
        np.where(known, drawn, 0.0).sum(axis=2), total, out=np.repeat(mean[:, None], BOOTSTRAPS, 1), where=total > 0
    )
    return np.concatenate([mean[:, None], means], axis=1).T


def _resampled_whole(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    known = values[np.isfinite(values)]
    drawn = known[rng.integers(0, len(known), (BOOTSTRAPS, len(known)))].mean(axis=1)
    return np.concatenate([known.mean(keepdims=True), drawn])[:, None]


def fit_power_laws(errors: FloatArray, labels: FloatArray, bounded: bool) -> FloatArray:
    """Fit ``a n^-b + c`` by least squares to each of many samples; the grid of exponents is refined around the best.

    Args:
        errors: Samples ``(B, P)``, lower is better.
        labels: Label count of each point ``(P,)``.
        bounded: Whether c >= 0; a >= 0 in any case.

    Returns:
        ``a``, ``b`` and ``c`` of each sample ``(B, 3)``.
    """
    grid = np.broadcast_to(EXPONENTS, (len(errors), len(EXPONENTS)))
    for _ in range(4):
        best, a, c = _linear(errors, labels, grid, bounded)
        rows = np.arange(len(errors))
        low = grid[rows, np.maximum(best - 1, 0)]
        high = grid[rows, np.minimum(best + 1, grid.shape[1] - 1)]
        b = grid[rows, best]
        grid = np.linspace(low, high, 31, axis=1)
    return np.stack([a, b, c], axis=1)


def _linear(
    errors: FloatArray, labels: FloatArray, exponents: FloatArray, bounded: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Best exponent's position, and a and c for it, with a >= 0 and, where bounded, c >= 0."""
    scale = labels.min()
    x = (labels / scale) ** -exponents[..., None]
    middle = x.mean(axis=2)
    slope = ((x - middle[..., None]) * errors[:, None, :]).sum(axis=2) / ((x - middle[..., None]) ** 2).sum(axis=2)
    slope = np.maximum(slope, 0.0)
    rest = errors.mean(axis=1)[:, None] - slope * middle
    if bounded:
        through_zero = np.maximum((x * errors[:, None, :]).sum(axis=2) / (x**2).sum(axis=2), 0.0)
        slope, rest = np.where(rest < 0, through_zero, slope), np.maximum(rest, 0.0)
    misfit = ((slope[..., None] * x + rest[..., None] - errors[:, None, :]) ** 2).sum(axis=2)
    best = misfit.argmin(axis=1)
    rows = np.arange(len(errors))
    return best, slope[rows, best] * scale ** exponents[rows, best], rest[rows, best]


def _bounds(values: FloatArray) -> tuple[float, float]:
    low = np.quantile(values, LEVEL / 2, method="lower")
    return float(low), float(np.quantile(values, 1 - LEVEL / 2, method="higher"))
