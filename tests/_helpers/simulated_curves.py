"""Curves with known means, under noise laws that training runs show: what intervals and verdicts are calibrated on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_al.study.curves import Curves

FloatArray = npt.NDArray[np.floating[Any]]

LABELS = np.arange(60.0, 541.0, 60.0)
PILOT = 4000.0


@dataclass(frozen=True)
class Law:
    """Noise of a run: normal, or scaled as a whole to have Student's tails; and runs that collapse on their way."""

    name: str
    tails: int | None = None  # degrees of freedom
    collapses: float = 0.0  # chance of a run to collapse


LAWS = (Law("normal"), Law("t3", tails=3), Law("t2", tails=2), Law("collapses", collapses=0.05))


@dataclass(frozen=True)
class Shape:
    """A mean learning curve, ``100 (1 - asymptote - reach (n / 60)^-speed)`` points."""

    asymptote: float
    reach: float
    speed: float

    def at(self, labels: FloatArray | float) -> FloatArray:
        return np.asarray(100 * (1 - self.asymptote - self.reach * (np.asarray(labels) / LABELS[0]) ** -self.speed))

    def faster(self, factor: float) -> FloatArray:
        """How far an arm lies above that needs ``1 / factor`` of the labels beyond the first ``(9,)``."""
        return self.at(LABELS[0] + factor * (LABELS - LABELS[0])) - self.at(LABELS)


def draw_shape(rng: np.random.Generator) -> Shape:
    """Draw a curve between steep and flat, ending between 30 and 98 %."""
    return Shape(rng.uniform(0.02, 0.3), rng.uniform(0.05, 0.4), rng.uniform(0.2, 1.2))


def area(values: FloatArray) -> FloatArray:
    """Return the mean height under curves ``(..., 9)``."""
    return np.asarray(np.trapezoid(values, LABELS, axis=-1) / (LABELS[-1] - LABELS[0]))


def draw_curves(
    rng: np.random.Generator,
    law: Law,
    shape: Shape,
    replicates: int,
    lifts: Sequence[FloatArray],
    sd: float,
) -> Curves:
    """Draw one set of paired curves.

    Args:
        rng: Source of random numbers.
        law: Noise of the runs.
        shape: Mean curve of random.
        replicates: Number of paired replicates.
        lifts: How far each further arm's mean lies above random's ``(9,)``, 0 at the first count.
        sd: Standard deviation of an arm's area minus random's, under normal noise.

    Returns:
        The curves, equal at the first count.
    """
    runs = (len(lifts) + 1, replicates)
    together = rng.uniform(0.5, 3) * _paths(rng, (replicates,), rng.uniform(0.5, 0.95))
    correlation = rng.uniform(0, 0.9)
    apart = _paths(rng, runs, correlation)
    apart[..., 0] = 0
    if law.tails is not None:
        apart *= np.sqrt(law.tails / rng.chisquare(law.tails, (*runs, 1)))
    means = shape.at(LABELS) + np.stack([np.zeros(len(LABELS)), *lifts])
    values = means[:, None] + together + apart * sd / _sd_of_difference(correlation)
    fallen = rng.random(runs) < law.collapses
    since = rng.integers(1, len(LABELS), runs)
    falls = (fallen * rng.uniform(10, 40, runs))[..., None] * (np.arange(len(LABELS)) >= since[..., None])
    values = np.clip(values - falls, 0, 100)
    arms = ("random", *(f"arm_{i + 1}" for i in range(len(lifts))))
    names = tuple(str(r) for r in range(replicates))
    return Curves("accuracy", 1, 100.0, LABELS, arms, dict(zip(arms, values, strict=True)), names)


def _paths(rng: np.random.Generator, runs: tuple[int, ...], correlation: float) -> FloatArray:
    """Stationary autoregressive noise of unit variance ``(*runs, 9)``."""
    path = rng.normal(size=(*runs, len(LABELS)))
    for i in range(1, len(LABELS)):
        path[..., i] = correlation * path[..., i - 1] + math.sqrt(1 - correlation**2) * path[..., i]
    return path


def _sd_of_difference(correlation: float) -> float:
    """The standard deviation of the area between two such paths that both begin at 0."""
    weights = area(np.eye(len(LABELS)))
    weights[0] = 0
    steps = np.arange(len(LABELS))
    covariance = correlation ** np.abs(steps[:, None] - steps)
    return math.sqrt(2 * weights @ covariance @ weights)


def true_saving(shape: Shape, lift: FloatArray, delta: float) -> float:
    """Return the share of random's labels that an arm saves on the way to random's end minus ``delta``."""
    target = float(shape.at(LABELS[-1])) - delta
    needed = [float(np.interp(target, shape.at(LABELS) + above, LABELS)) for above in (0 * lift, lift)]
    return 1 - needed[1] / needed[0]


def true_room(shape: Shape, lifts: Sequence[FloatArray]) -> float:
    """Return the area between a whole-pilot fit, at least as good as the best arm's end, and random's curve."""
    ends = [float(shape.at(LABELS[-1]) + lift[-1]) for lift in lifts]
    return max(float(shape.at(PILOT)), *ends) - float(area(shape.at(LABELS)))


def draw_design(rng: np.random.Generator, icc: float, shared: float) -> FloatArray:
    """Draw a nested design ``(5 fractions, 5 buckets, 3 seeds)`` with unit variance.

    Args:
        rng: Source of random numbers.
        icc: Share of the variance that is the bucket's composition.
        shared: Correlation of a bucket's composition effects between fractions, which share examples.

    Returns:
        Values around a mean that rises with the fraction.
    """
    own, common = rng.normal(size=(5, 5, 1)), rng.normal(size=(1, 5, 1))
    composition = math.sqrt(shared) * common + math.sqrt(1 - shared) * own
    rising = np.arange(5.0)[:, None, None]
    return rising + math.sqrt(icc) * composition + math.sqrt(1 - icc) * rng.normal(size=(5, 5, 3))


def as_curves(arrays: Mapping[str, FloatArray], rows: slice) -> Curves:
    """Turn accuracies in [0, 1] of simulated loops ``(replicates, 9)`` by arm into curves."""
    values = {arm: 100 * array[rows] for arm, array in arrays.items()}
    names = tuple(str(r) for r in range(len(values["random"])))
    return Curves("accuracy", 1, 100.0, LABELS, tuple(values), values, names)
