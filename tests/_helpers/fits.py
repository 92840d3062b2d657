"""Curves and tables of fits made by hand, for the tests of the study's statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_al.study.curves import Curves

Array = npt.NDArray[np.floating[Any]]


def curves_of(labels: Sequence[float], scale: float = 100.0, **arms: Array) -> Curves:
    """Curves of arms given as values ``(R, K)``; random first."""
    names = tuple(range(len(next(iter(arms.values())))))
    values = {name: np.asarray(value, dtype=float) for name, value in arms.items()}
    return Curves("accuracy", 1, scale, np.array(labels, dtype=float), tuple(arms), values, tuple(map(str, names)))


def steady(gains: Mapping[str, Sequence[float]], slope: float = 4.0) -> Curves:
    """Straight curves of random from 60 to 90 points; an arm lies above it by its gain at every count but the first.

    The area's gain of an arm is then 0.75 of what is given (three of four trapezoid halves at counts 10, 20, 30).
    """
    replicates = len(next(iter(gains.values())))
    random = np.repeat([[60.0, 75.0, 90.0]], replicates, axis=0) + slope * np.sin(np.arange(replicates))[:, None]
    arms = {name: random + np.outer(gain, [0, 1, 1]) for name, gain in gains.items()}
    return curves_of([10, 20, 30], random=random, **arms)


def table_of(curves: Mapping[str, Array], labels: Sequence[float], metric: str = "accuracy") -> list[dict[str, Any]]:
    """Rows of curves given as values ``(R, K)`` by arm."""
    return [
        {"arm": arm, "replicate": replicate, "labels": count, metric: float(value)}
        for arm, values in curves.items()
        for replicate, run in enumerate(values)
        for count, value in zip(labels, run, strict=True)
    ]
