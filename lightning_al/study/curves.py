"""Learning curves of several arms, paired by replicate and brought onto common label counts."""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_al.study.reading import Table, in_order, name_of, numbers, parts_of, read_table, require_columns, rows_of
from lightning_al.study.types import FloatArray

CONTROL = "random"
"""The arm that the others are compared with, in lower case."""

HIGHER_IS_BETTER = {
    **dict.fromkeys(("accuracy", "balanced_accuracy", "precision", "recall", "f1", "auroc", "average_precision"), True),
    **dict.fromkeys(("calibration_error", "ece", "error", "loss", "nll", "brier", "mse", "rmse", "mae"), False),
}
"""Directions of metrics that go by these names."""

ROUNDING = 1e-9
"""Points below which two numbers are equal: they differ by the order of a sum."""

ENOUGH = 6
"""Replicates that an exact test needs: `room.LEAST_REPLICATES`, which cannot be imported by what it builds on."""


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
    _require_arms(table, metric)
    rows = rows_of(table, "simulation")
    scale = scale_of(table, metric) if scale is None else scale
    runs, left_out = _runs(rows, metric, sign * scale)
    arms = _arms(rows, runs)
    replicates, dropped = _complete(runs, arms)
    first, last, kept = _common_range(runs, arms, replicates)
    dropped += _cut(runs, arms, replicates, kept, first, last)
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


def direction(metric: str, higher_is_better: bool | None = None) -> tuple[int, tuple[str, ...]]:
    """Find whether a metric is better when higher.

    Args:
        metric: A name of `HIGHER_IS_BETTER`, a torchmetrics class or its path, or any other name.
        higher_is_better: The caller's answer, which goes first.

    Returns:
        1 or -1, and a note where it had to be assumed.

    Examples:
        >>> direction("calibration_error")
        (-1, ())
        >>> direction("torchmetrics.MeanSquaredError")
        (-1, ())
    """
    if higher_is_better is None:
        higher_is_better = HIGHER_IS_BETTER.get(metric.lower().replace(" ", "_"))
    if higher_is_better is None:
        higher_is_better = getattr(_metric_class(metric), "higher_is_better", None)
    if higher_is_better is None:
        return 1, (f"A higher {metric} was taken to be better; `higher_is_better=False` says otherwise.",)
    return (1 if higher_is_better else -1), ()


def scale_of(table: Table, metric: str) -> float:
    """Find the scale of a metric.

    Args:
        table: All fits.
        metric: The metric's column.

    Returns:
        100 where every value lies in [0, 1], else 1.

    Raises:
        ValueError: The column holds no number.
    """
    values = numbers(table, metric)
    values = values[np.isfinite(values)]
    if values.size == 0:
        raise ValueError(f"Expected the column {metric!r} of `curves` to hold numbers, but it holds none.")
    # a float32 metric may miss its bounds by a rounding error
    return 100.0 if values.min() >= -1e-6 and values.max() <= 1 + 1e-6 else 1.0


MOST_TOLD = 4
"""Causes that a note names."""

Runs = dict[str, dict[str, dict[float, float]]]
"""Value by arm, replicate and label count."""


def _runs(rows: Table, metric: str, factor: float) -> tuple[Runs, list[str]]:
    labels, values = numbers(rows, "labels"), numbers(rows, metric) * factor
    if not (labels[np.isfinite(values)] >= 0).all():
        wrong = next(row for row in np.flatnonzero(np.isfinite(values)) if not labels[row] >= 0)
        raise ValueError(
            f"Expected `labels` to be counts of at least 0, but got {rows['labels'][wrong]!r} for arm "
            f"{rows['arm'][wrong]!r}, replicate {rows['replicate'][wrong]!r}."
        )
    found: dict[tuple[str, str, float], list[float]] = defaultdict(list)
    for arm, replicate, count, value in zip(rows["arm"], rows["replicate"], labels, values, strict=True):
        if np.isfinite(value):
            found[_arm_name(arm), name_of(replicate), float(count)].append(float(value))
    runs: Runs = defaultdict(lambda: defaultdict(dict))
    for (arm, replicate, count), same in found.items():
        runs[arm][replicate][count] = float(np.mean(same))
    notes = []
    empty, doubled = int((~np.isfinite(values)).sum()), sum(len(same) > 1 for same in found.values())
    if empty:
        what, were = ("rows", "were") if empty > 1 else ("row", "was")
        notes.append(f"{empty} {what} without a finite {metric} {were} left out.")
    if doubled:
        notes.append(f"{doubled} label count{'s' * (doubled > 1)} of a run had several rows, which were averaged.")
    return runs, notes


def _require_arms(table: Table, metric: str) -> None:
    """Refuse a fit that names no arm: counted to all of them, it would draw every curve to its value."""
    counts, values = numbers(table, "labels"), numbers(table, metric)
    for row, (arm, part) in enumerate(zip(table["arm"], parts_of(table), strict=True)):
        if part == "simulation" and np.isfinite(values[row]) and not name_of(arm):
            raise ValueError(
                f"Expected every fit to name its arm, but row {row + 1} below the header (replicate "
                f"{name_of(table['replicate'][row])!r}, {counts[row]:g} labels) has an empty `arm`. Write {CONTROL!r} "
                "or the strategy's name there; a fit that several arms share takes a row for each of them."
            )


def _arm_name(value: Any) -> str:
    name = name_of(value)
    return CONTROL if name.lower() == CONTROL else name


def _named(rows: Table) -> list[str]:
    return [name for name in dict.fromkeys(_arm_name(arm) for arm in rows["arm"]) if name]


def _arms(rows: Table, runs: Runs) -> tuple[str, ...]:
    named = _named(rows)
    if CONTROL not in named:
        raise ValueError(f"Expected an arm named {CONTROL!r} to compare the others with, but the arms are {named}.")
    if len(named) < 2:
        raise ValueError(f"Expected an arm besides {CONTROL!r}, but it is the only one: there is nothing to compare.")
    empty = [arm for arm in named if arm not in runs]
    if empty:
        raise ValueError(f"Expected every arm to have a finite metric somewhere, but {empty} have none: remove them.")
    return (CONTROL, *(arm for arm in named if arm != CONTROL))


def _complete(runs: Runs, arms: Sequence[str]) -> tuple[list[str], list[str]]:
    every = in_order({replicate for arm in arms for replicate in runs[arm]})
    complete = [replicate for replicate in every if all(replicate in runs[arm] for arm in arms)]
    notes = [
        f"Replicate {replicate} lacks {_listed([arm for arm in arms if replicate not in runs[arm]])} and was dropped."
        for replicate in every
        if replicate not in complete
    ]
    if not complete:
        raise ValueError(
            f"Expected a replicate with a curve of every arm ({_listed(arms)}), but there is none: "
            + "; ".join(f"{arm} has {_listed(in_order(set(runs[arm])))}" for arm in arms)
            + ". Leave out the arms with few replicates."
        )
    return complete, notes


def _common_range(runs: Runs, arms: Sequence[str], replicates: list[str]) -> tuple[float, float, list[str]]:
    starts = np.array([max(min(runs[arm][replicate]) for arm in arms) for replicate in replicates])
    ends = np.array([min(max(runs[arm][replicate]) for arm in arms) for replicate in replicates])

    def spanning(first: float, last: float) -> npt.NDArray[np.intp]:
        return np.flatnonzero((starts <= first) & (ends >= last))

    def worth(pair: tuple[float, float]) -> tuple[bool, float, float]:
        kept, length = len(spanning(*pair)), pair[1] - pair[0]
        return kept >= ENOUGH, kept * length, length

    pairs = [(first, last) for first in np.unique(starts).tolist() for last in np.unique(ends).tolist() if first < last]
    ranges = [pair for pair in pairs if len(spanning(*pair))]
    if not ranges:
        raise ValueError(
            "Expected the arms to share a range of label counts, but no replicate has two counts that every arm "
            f"spans: the first and last are {[*zip(starts.tolist(), ends.tolist(), strict=True)]}."
        )
    first, last = max(ranges, key=worth)
    return first, last, [replicates[row] for row in spanning(first, last)]


def _cut(
    runs: Runs, arms: Sequence[str], replicates: Sequence[str], kept: Sequence[str], first: float, last: float
) -> list[str]:
    """Say which replicates the common range cost, how much of the others' curves, and which runs are the cause."""
    notes = []
    short = [replicate for replicate in replicates if replicate not in kept]
    if short:
        late = [(arm, r) for arm in arms for r in short if min(runs[arm][r]) > first]
        early = [(arm, r) for arm in arms for r in short if max(runs[arm][r]) < last]
        verbs = ("do", "were") if len(short) > 1 else ("does", "was")
        notes.append(
            f"Replicate{'s' * (len(short) > 1)} {_listed(short)} {verbs[0]} not span {first:g} to {last:g} labels and "
            f"{verbs[1]} dropped: {_ends(runs, late, early)}."
        )
    low = min(min(runs[arm][r]) for arm in arms for r in kept)
    high = max(max(runs[arm][r]) for arm in arms for r in kept)
    if low < first or last < high:
        late = [(arm, r) for arm in arms for r in kept if low < first == min(runs[arm][r])]
        early = [(arm, r) for arm in arms for r in kept if high > last == max(runs[arm][r])]
        notes.append(
            f"The curves are compared from {first:g} to {last:g} labels only, though some go from {low:g} to {high:g}: "
            f"{_ends(runs, late, early)}."
        )
    return notes


def _ends(runs: Runs, late: Sequence[tuple[str, str]], early: Sequence[tuple[str, str]]) -> str:
    """Name the runs that start late or end early, those of an arm at the same count together."""
    groups: dict[str, list[str]] = defaultdict(list)
    for verb, end, found in (("starts", min, late), ("ends", max, early)):
        for arm, replicate in found:
            groups[f"{arm} {verb} at {end(runs[arm][replicate]):g}"].append(replicate)
    told = [f"{what} in replicate{'s' * (len(names) > 1)} {_listed(names)}" for what, names in groups.items()]
    return "; ".join(told[:MOST_TOLD]) + (f"; and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else "")


def _interpolated(run: Mapping[float, float], labels: FloatArray) -> FloatArray:
    counts = sorted(run)
    return np.interp(labels, counts, [run[count] for count in counts])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _metric_class(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    if not attribute[:1].isupper():
        return None  # no class: a column called "val.score" is no reason to import a module "val"
    for place in [module] if module else ["torchmetrics", "torchmetrics.classification"]:
        try:
            found = getattr(importlib.import_module(place), attribute, None)
        except ImportError:
            continue
        if getattr(found, "higher_is_better", None) is not None:
            return found
    return None
