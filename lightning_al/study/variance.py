"""How much of the spread between fits is training noise, and how much is which data were labeled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import fdtrc, fdtri

from lightning_al.study.reading import Table, in_order, name_of, numbers, rows_of
from lightning_al.study.saving import resampling_weights
from lightning_al.study.sign_flip import LEVEL
from lightning_al.study.types import FloatArray


@dataclass(frozen=True)
class Variance:
    """Components of ``y = mu_f + a_(f,b) + e_(f,b,t)``: fraction f, bucket b, training seed t.

    Args:
        sigma_training: Standard deviation between training seeds on the same data, in points.
        sigma_data: Standard deviation between buckets, beyond training noise.
        icc: Share of the data in the variance, in [0, 1].
        icc_low: Lower end of its 95 % F interval, cut to [0, 1].
        icc_high: Upper end.
        f: Ratio of the mean squares; infinite where the seed changes nothing.
        p: Of the pooled F test of "which data does not matter".
        ms_bucket: Mean square between buckets of a fraction.
        ms_within: Mean square between seeds of a bucket and fraction.
        means: Mean of each fraction ``(F,)``.
        lows: Lower ends of their 95 % intervals, by bootstrap over buckets ``(F,)``.
        highs: Upper ends ``(F,)``.
        superiority: ``[i, j]``: chance that a fit on fraction i beats one on fraction j, ties counted half ``(F, F)``.
        notes: What was left out.
    """

    sigma_training: float
    sigma_data: float
    icc: float
    icc_low: float
    icc_high: float
    f: float
    p: float
    ms_bucket: float
    ms_within: float
    means: FloatArray
    lows: FloatArray
    highs: FloatArray
    superiority: FloatArray
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class NestedFits:
    """The fits of the nested random design.

    Args:
        fractions: Shares of a bucket ``(F,)``, ascending.
        labels: Label counts that they are ``(F,)``, means over buckets.
        y: ``(F, k, T)``: fraction, bucket, seed; higher is better, NaN where a fit is missing.
    """

    fractions: FloatArray
    labels: FloatArray
    y: FloatArray


def read_nested(table: Table, metric: str, factor: float) -> NestedFits | None:
    """Read the fits of the nested random design from a table.

    Args:
        table: All fits; those of the part ``design`` are read.
        metric: Its column.
        factor: What the metric is multiplied with: its sign times its scale.

    Returns:
        The fits; None where the table has none.
    """
    rows = rows_of(table, "design")
    if not {"bucket", "fraction"} <= rows.keys() or not rows["bucket"]:
        return None
    values, fractions, labels = numbers(rows, metric) * factor, numbers(rows, "fraction"), numbers(rows, "labels")
    buckets, seeds = [name_of(each) for each in rows["bucket"]], [name_of(each) for each in rows["replicate"]]
    shares = np.unique(fractions[np.isfinite(fractions)])
    bucket_names, seed_names = in_order(set(buckets)), in_order(set(seeds))
    y = np.full((len(shares), len(bucket_names), len(seed_names)), np.nan)
    for fraction, bucket, seed, value in zip(fractions, buckets, seeds, values, strict=True):
        if np.isfinite(fraction):
            y[int(np.searchsorted(shares, fraction)), bucket_names.index(bucket), seed_names.index(seed)] = value
    if not np.isfinite(y).any():
        return None
    return NestedFits(shares, np.array([np.nanmean(labels[fractions == share]) for share in shares]), y)


def decompose(y: FloatArray, seed: int = 0) -> Variance | None:
    """Split the variance within fractions into training noise and data.

    ``sigma_T^2 = MS_within``, ``sigma_D^2 = max(0, (MS_bucket - MS_within) / T)``, both pooled over fractions. A bucket
    and fraction that lacks a fit is left out.

    Args:
        y: Fits ``(F, k, T)``, in points; NaN where one is missing.
        seed: For the bootstrap over buckets.

    Returns:
        The components; None where no fraction has two buckets with two seeds.

    References:
        Searle, Casella and McCulloch (1992), Variance Components, section 3.6.

    Examples:
        >>> found = decompose(np.array([[[1.0, 3.0], [5.0, 7.0], [9.0, 11.0]]]))
        >>> found.ms_bucket, found.ms_within, found.f, round(found.icc, 4)
        (32.0, 2.0, 16.0, 0.8824)
    """
    seeds = y.shape[2]
    whole: npt.NDArray[np.bool_] = np.all(np.isfinite(y), axis=2)
    buckets = whole.sum(axis=1)
    between_freedom, within_freedom = int(np.maximum(buckets - 1, 0).sum()), int(buckets.sum()) * (seeds - 1)
    if seeds < 2 or between_freedom < 1:
        return None
    cells = np.where(whole, np.where(whole[..., None], y, 0.0).mean(axis=2), np.nan)
    kept = cells[buckets > 0]
    means = np.nanmean(kept, axis=1)
    ms_bucket = float(seeds * np.nansum((kept - means[:, None]) ** 2) / between_freedom)
    ms_within = float(((y - cells[..., None])[whole] ** 2).sum() / within_freedom)
    size = 1e-20 * (1 + float(np.nanmax(np.abs(y)))) ** 2  # rounding errors are no spread
    ms_bucket, ms_within = (0.0 if square <= size else square for square in (ms_bucket, ms_within))
    data = max(0.0, (ms_bucket - ms_within) / seeds)
    f = ms_bucket / ms_within if ms_within else (np.inf if ms_bucket else 0.0)
    low, high = _icc_interval(f, between_freedom, within_freedom, seeds)
    if not ms_within and not ms_bucket:
        low, high = 0.0, 1.0  # no spread at all: nothing to share
    missing = int((~whole).sum())
    notes = (f"{missing} of {whole.size} bucket fractions lack a fit and were left out.",) if missing else ()
    fraction_means, lows, highs = _fraction_means(cells, seed)
    return Variance(
        sigma_training=float(np.sqrt(ms_within)),
        sigma_data=float(np.sqrt(data)),
        icc=data / (data + ms_within) if data else 0.0,
        icc_low=low,
        icc_high=high,
        f=float(f),
        p=float(fdtrc(between_freedom, within_freedom, f)) if np.isfinite(f) else 0.0,
        ms_bucket=ms_bucket,
        ms_within=ms_within,
        means=fraction_means,
        lows=lows,
        highs=highs,
        superiority=superiority(y),
        notes=notes,
    )


def superiority(y: FloatArray) -> FloatArray:
    """Return the chance that a fit on one fraction beats one on another.

    Args:
        y: Fits ``(F, k, T)``, higher is better; NaN where one is missing.

    Returns:
        ``(F, F)``: share of the pairs of fits in which the row's is better, ties counted half; NaN-free, 0.5 where a
        fraction has no fit.

    Examples:
        >>> superiority(np.array([[[1.0, 2.0]], [[2.0, 3.0]]])).tolist()
        [[0.5, 0.125], [0.875, 0.5]]
    """
    runs = [fits[np.isfinite(fits)] for fits in y]
    return np.array([[_better(mine, other) for other in runs] for mine in runs])


def _better(mine: FloatArray, other: FloatArray) -> float:
    if not (mine.size and other.size):
        return 0.5
    return float((0.5 + 0.5 * np.sign(mine[:, None] - other[None, :])).mean())


def _icc_interval(f: float, between: int, within: int, seeds: int) -> tuple[float, float]:
    if np.isinf(f):
        return 1.0, 1.0
    ends = [f / float(fdtri(between, within, 1 - LEVEL / 2)), f / float(fdtri(between, within, LEVEL / 2))]
    low, high = (min(max((end - 1) / (end + seeds - 1), 0.0), 1.0) for end in ends)
    return low, high


def _fraction_means(cells: FloatArray, seed: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Means of the fractions, with intervals from the same resampled buckets for all of them."""
    known = np.isfinite(cells)
    weights = resampling_weights(cells.shape[1], seed)[:, None, :] * known
    total = weights.sum(axis=2)
    drawn = np.divide(
        (weights * np.where(known, cells, 0.0)).sum(axis=2), total, out=np.full(total.shape, np.nan), where=total > 0
    )
    means, lows, highs = np.full((3, len(cells)), np.nan)
    for fraction in np.flatnonzero(known.any(axis=1)):
        means[fraction] = cells[fraction][known[fraction]].mean()
        lows[fraction], highs[fraction] = np.nanquantile(drawn[:, fraction], [LEVEL / 2, 1 - LEVEL / 2])
    return means, lows, highs
