"""The paired comparison of arms with random labels: area under the budget curve, endpoint, labels saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from lightning_al.study.curves import ROUNDING, Curves
from lightning_al.study.room import LEAST_REPLICATES, Room, required_replicates, room
from lightning_al.study.saving import savings
from lightning_al.study.sign_flip import LEVEL, adjusted_p, flipped_means, simultaneous_intervals, spread, studentised
from lightning_al.study.types import FloatArray


@dataclass(frozen=True)
class Arm:
    """One arm against random; gains in points, higher is better.

    Args:
        name: The arm.
        delta: Mean difference of the areas under the curve, divided by the range of label counts.
        sd: Standard deviation of the difference over replicates; None for one replicate.
        low: Lower end of the simultaneous 95 % interval of ``delta``.
        high: Upper end.
        p_adj: Sign-flip p-value, adjusted for the number of arms.
        t: The t statistic of ``delta``; infinite where every replicate gains the same.
        endpoint: Mean difference at the last label count.
        endpoint_ci: Its interval, simultaneous over arms as that of ``delta``.
        wins: Replicates whose area is above random's.
        labels_to_target: Least count that reaches the target; None where the arm never does.
        saving: Share of random's labels that are saved until then; None where the arm never reaches the target.
        saving_low: 2.5 % point of its bootstraps; minus infinity where too many never reach the target.
        saving_high: Upper end, which covers as one of Student's t does: see `savings`.
        censored_share: Share of the bootstraps that never reach the target.
        collapses: Replicates in which this arm alone collapsed; see `collapsed`.
    """

    name: str
    delta: float
    sd: float | None
    low: float
    high: float
    p_adj: float
    t: float
    endpoint: float
    endpoint_ci: tuple[float, float]
    wins: int
    labels_to_target: float | None
    saving: float | None
    saving_low: float
    saving_high: float
    censored_share: float
    collapses: tuple[str, ...]

    @property
    def censored(self) -> bool:
        """Whether the arm never reaches the target."""
        return self.saving is None

    @property
    def label_ratio(self) -> float | None:
        """Labels needed for each label of random, N_j / N_0; None where the arm never reaches the target."""
        return None if self.saving is None else 1 - self.saving

    @property
    def label_ratio_ci(self) -> tuple[float | None, float | None]:
        """Interval of the label ratio; None has no bound."""
        ends = (1 - self.saving_high, 1 - self.saving_low)
        return (ends[0] if np.isfinite(ends[0]) else None, ends[1] if np.isfinite(ends[1]) else None)


@dataclass(frozen=True)
class Comparison:
    """All arms against random.

    Args:
        curves: What was compared.
        delta: Least worthwhile gain, in points.
        saving: Least worthwhile share of labels saved.
        arms: The arms besides random.
        target: Level to reach, random's last less ``delta``; in points, higher is better.
        random_labels_to_target: Labels with which random reaches it.
        room: What any strategy could gain at most; None for one replicate.
        required_R: Replicates that would settle the question; None beyond 200.
        area: Mean level of each arm over the budget, by replicate ``(R,)``.
        penalty_matrix: ``[i, j]``: share of label counts at which arm i beats arm j, in the order of ``curves.arms``.
    """

    curves: Curves
    delta: float
    saving: float
    arms: tuple[Arm, ...]
    target: float
    random_labels_to_target: float
    room: Room | None
    required_R: int | None
    area: Mapping[str, FloatArray]
    penalty_matrix: FloatArray

    @property
    def replicates(self) -> int:
        """Paired replicates, R."""
        return len(self.curves.replicates)

    @property
    def exploratory(self) -> bool:
        """Whether there are too few replicates for an exact test."""
        return self.replicates < LEAST_REPLICATES


def compare_arms(
    curves: Curves, *, delta: float, saving: float, whole: FloatArray | None = None, seed: int = 0
) -> Comparison:
    """Compare every arm with random over the whole budget.

    Args:
        curves: Paired curves.
        delta: Least worthwhile gain, in points (the metric's own unit where its scale is 1), above 0.
        saving: Least worthwhile share of labels saved, in (0, 1).
        whole: Fits on the whole pilot with each replicate's seed ``(R,)``, as `read_whole` gives them.
        seed: For the bootstrap, and for the sign vectors where R > 15.

    Returns:
        The comparison.

    Raises:
        ValueError: ``delta`` or ``saving`` is out of range.

    Examples:
        >>> random = np.array([[50.0, 60.0, 70.0 + r] for r in range(6)])
        >>> curves = Curves("accuracy", 1, 100.0, np.array([10.0, 20.0, 30.0]), ("random", "Margin"),
        ...                 {"random": random, "Margin": random + [0, 4, 6]}, tuple("012345"))
        >>> arm = compare_arms(curves, delta=0.5, saving=0.1).arms[0]
        >>> arm.delta, arm.low, arm.high, arm.wins, arm.p_adj, arm.endpoint
        (3.5, 3.5, 3.5, 6, 0.03125, 6.0)
    """
    if not (np.isfinite(delta) and delta > 0):
        raise ValueError(f"Expected `delta`, the least worthwhile gain, to be above 0, but got {delta}.")
    if not 0 < saving < 1:
        raise ValueError(f"Expected `saving`, the least worthwhile share of labels, to be in (0, 1), but got {saving}.")
    values = curves.stacked()
    areas = area_under(values, curves.labels)
    gains, ends = areas[1:] - areas[0], values[1:, :, -1] - values[0, :, -1]
    replicates = gains.shape[1]
    deviations = spread(gains) if replicates > 1 else None
    lows, highs = simultaneous_intervals(gains, seed)
    end_lows, end_highs = simultaneous_intervals(ends, seed)
    shares = flipped_means(gains, seed)[0]
    p = adjusted_p(gains, seed)
    saved = savings(values, curves.labels, delta, seed)
    fallen = collapsed(values, least=10 * delta)
    arms = tuple(
        Arm(
            name=name,
            delta=float(gains[j].mean()),
            sd=None if deviations is None else float(deviations[j]),
            low=float(lows[j]),
            high=float(highs[j]),
            p_adj=float(p[j]),
            t=studentised(float(np.copysign(shares[j], gains[j].mean())), replicates) if replicates > 1 else 0.0,
            endpoint=float(ends[j].mean()),
            endpoint_ci=(float(end_lows[j]), float(end_highs[j])),
            wins=int((gains[j] > ROUNDING).sum()),
            labels_to_target=_finite(saved.labels[j + 1]),
            saving=_finite(saved.saving[j + 1]),
            saving_low=float(saved.low[j + 1]),
            saving_high=float(saved.high[j + 1]),
            censored_share=float(saved.censored_share[j + 1]),
            collapses=tuple(np.array(curves.replicates)[fallen[j + 1]].tolist()),
        )
        for j, name in enumerate(curves.arms[1:])
    )
    return Comparison(
        curves=curves,
        delta=delta,
        saving=saving,
        arms=arms,
        target=saved.target,
        random_labels_to_target=float(saved.labels[0]),
        room=room(areas[0], values[:, :, -1], whole),
        required_R=None
        if deviations is None
        else required_replicates(gains.mean(axis=1), deviations, replicates, delta),
        area=dict(zip(curves.arms, areas, strict=True)),
        penalty_matrix=penalties(values),
    )


def area_under(values: FloatArray, labels: FloatArray) -> FloatArray:
    """Return the mean level of curves over the range of label counts, by trapezoids.

    Args:
        values: ``(..., m + 1)``.
        labels: Label counts ``(m + 1,)``.

    Returns:
        ``(...)``.

    Examples:
        >>> area_under(np.array([0.0, 10.0, 10.0]), np.array([10.0, 20.0, 40.0])).item()
        8.333...
    """
    # a mean of the steps' middles, weighted by their width: a constant curve gives its level
    widths = np.diff(labels) / (labels[-1] - labels[0])
    areas: FloatArray = (values[..., 1:] + values[..., :-1]) / 2 @ widths
    return areas


def collapsed(values: FloatArray, *, least: float) -> npt.NDArray[np.bool_]:
    """Find the replicates in which one arm alone collapsed, as a training that diverged.

    An arm's fall is how far a value lies below the arm's median at that count, less the median of that over the other
    arms of the replicate (what they share, such as an unlucky first set, is no collapse). It is a collapse where it is
    larger than ``least`` and than 6 robust standard deviations (1.4826 times the median absolute fall, at that count or
    over all of the arm's counts, whichever is larger).

    Args:
        values: Curves ``(arms, R, m + 1)``.
        least: Smallest fall that counts, in points.

    Returns:
        Booleans ``(arms, R)``.
    """
    falls = np.median(values, axis=1, keepdims=True) - values
    falls = falls - np.stack([np.median(np.delete(falls, arm, axis=0), axis=0) for arm in range(len(falls))])
    size = np.abs(falls)
    usual = np.maximum(np.median(size, axis=1, keepdims=True), np.median(size, axis=(1, 2), keepdims=True))
    fallen: npt.NDArray[np.bool_] = np.any(falls > np.maximum(least, 6 * 1.4826 * usual), axis=2)
    return fallen


def penalties(values: FloatArray) -> FloatArray:
    """Return how often each arm beats each other, as the pairwise penalty matrix of BADGE's paper.

    Args:
        values: Curves ``(arms, R, m + 1)``.

    Returns:
        ``(arms, arms)``: share of the counts after the first at which row beats column by a two-sided paired t-test at
        5 %; zeros for one replicate.

    References:
        Ash et al. (2020), Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds, section 4.
    """
    arms, replicates, _ = values.shape
    if replicates < 2:
        return np.zeros((arms, arms))
    differences = (values[:, None] - values[None, :])[..., 1:]
    mean, error = differences.mean(axis=2), differences.std(axis=2, ddof=1) / np.sqrt(replicates)
    threshold = np.maximum(float(stdtrit(replicates - 1, 1 - LEVEL / 2)) * error, ROUNDING)
    beaten: FloatArray = (mean > threshold).mean(axis=2)
    return beaten


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
