"""Learning curves of several arms, paired by replicate and brought onto common label counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lightning_al.study.metric_direction import direction, scale_of
from lightning_al.study.pairing import arms_of, common_range, complete_replicates, notes_on_range, require_arms, runs_of
from lightning_al.study.reading import name_of, numbers, read_table, require_columns, rows_of
from lightning_al.study.types import FloatArray

ROUNDING = 1e-9
"""Points below which two numbers are equal: they differ by the order of a sum."""


@dataclass(frozen=True)
class Curves:
    """Curves of every arm in R replicates on m + 1 common label counts; higher is always better.

    Args:
        metric: Name of the metric.
        sign: -1 where a lower metric is better, else 1.
        scale: 100 where the metric lies in [0, 1] and is told in points, else 1.
        labels: Common label counts ``(m + 1,)``, increasing.
        arms: Names; the first is ``"random"``.
        values: ``sign * scale * metric`` by arm ``(R, m + 1)``.
        replicates: Names of the R rows.
        notes: What was left out or assumed, as sentences.
        flags: ``"unpaired_start"`` where arms of a replicate differ at the first count.
    """

    metric: str
    sign: int
    scale: float
    labels: FloatArray
    arms: tuple[str, ...]
    values: Mapping[str, FloatArray]
    replicates: tuple[str, ...]
    notes: tuple[str, ...] = ()
    flags: tuple[str, ...] = field(default=())

    @property
    def unit(self) -> str:
        """``"points"``, or ``""`` where the metric has its own unit."""
        return "points" if self.scale == 100 else ""

    def stacked(self) -> FloatArray:
        """All values as one array ``(arms, R, m + 1)``."""
        return np.stack([self.values[arm] for arm in self.arms])


def read_curves(
    source: Any, metric: str, *, higher_is_better: bool | None = None, scale: float | None = None
) -> Curves:
    """Read curves that can be compared: complete replicates on common label counts.

    A row without a finite metric is left out, and rows of the same arm, replicate and count are averaged. Replicates
    that lack an arm are dropped. The common counts are all counts in the range that every curve kept spans; values in
    between are linearly interpolated, nothing is extrapolated. A run that ended early would shorten the range for all.
    So of the ranges that start where some replicate starts and end where some ends, and of the replicates that span
    them, those with at least 6 replicates go first, as fewer allow no exact test; then the largest product of the
    number of replicates and the range's length; then the longer range. Notes say what was dropped or cut, and which
    runs are the cause.

    Args:
        source: A table of fits (see `lightning_al.study.reading.read_table`) with the columns ``arm``, ``replicate``,
            ``labels`` and the metric; with a column ``part``, its ``simulation`` rows.
        metric: Column to compare.
        higher_is_better: Direction of the metric; None: what its name or its torchmetrics class says, else True.
        scale: 100 for a metric in [0, 1], else 1; None: whether its values lie there.

    Returns:
        The curves.

    Raises:
        ValueError: A column or the control arm is missing, there is nothing to compare it with, a fit names no arm, a
            count is no number or negative, or no replicate's curves can be put side by side.

    Examples:
        >>> rows = [("random", 10, 0.5), ("random", 30, 0.7), ("Margin", 10, 0.5), ("Margin", 20, 0.7),
        ...         ("Margin", 30, 0.8)]
        >>> table = [{"arm": a, "replicate": 0, "labels": n, "accuracy": y} for a, n, y in rows]
        >>> curves = read_curves(table, "accuracy")
        >>> curves.labels.tolist(), curves.values["random"].round(6).tolist()
        ([10.0, 20.0, 30.0], [[50.0, 60.0, 70.0]])
    """
    table = read_table(source)
    sign, notes = direction(metric, higher_is_better)
    if metric not in table and metric.rpartition(".")[2] in table:  # a class path, whose column has the class's name
        metric = metric.rpartition(".")[2]
    require_columns(table, ["arm", "replicate", "labels", metric])
    require_arms(table, metric)
    rows = rows_of(table, "simulation")
    scale = scale_of(table, metric) if scale is None else scale
    runs, left_out = runs_of(rows, metric, sign * scale)
    arms = arms_of(rows, runs)
    replicates, dropped = complete_replicates(runs, arms)
    first, last, kept = common_range(runs, arms, replicates)
    dropped += notes_on_range(runs, arms, replicates, kept, first, last)
    counts = {count for arm in arms for replicate in kept for count in runs[arm][replicate]}
    labels = np.array(sorted(count for count in counts if first <= count <= last))
    values = {arm: np.array([_interpolated(runs[arm][replicate], labels) for replicate in kept]) for arm in arms}
    start = np.stack([values[arm][:, 0] for arm in arms])
    unpaired = bool((np.ptp(start, axis=0) > ROUNDING * (1 + np.abs(start).max())).any())
    flags = ("unpaired_start",) if unpaired else ()
    return Curves(metric, sign, scale, labels, arms, values, tuple(kept), (*notes, *left_out, *dropped), flags)


def read_whole(source: Any, curves: Curves) -> tuple[float, FloatArray] | None:
    """Read the fits on the whole pilot that belong to the replicates of the curves.

    Args:
        source: The table that the curves came from.
        curves: The curves.

    Returns:
        Size of the pilot and the values ``(R,)``, NaN where a replicate has none; None where no replicate has one.
    """
    table = read_table(source)
    rows = rows_of(table, "pilot")
    values = np.full(len(curves.replicates), np.nan)
    found = numbers(rows, curves.metric) * curves.sign * curves.scale
    names = [name_of(replicate) for replicate in rows["replicate"]]
    for position, replicate in enumerate(curves.replicates):
        mine = [value for value, name in zip(found, names, strict=True) if name == replicate and np.isfinite(value)]
        if mine:
            values[position] = np.mean(mine)
    if not np.isfinite(values).any():
        return None
    return float(np.nanmax(numbers(rows, "labels"))), values


def _interpolated(run: Mapping[float, float], labels: FloatArray) -> FloatArray:
    counts = sorted(run)
    return np.interp(labels, counts, [run[count] for count in counts])
