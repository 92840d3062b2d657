"""The statistics of a study on curves, wherever they were made: `compare_curves`."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from lightning_al.study import sections
from lightning_al.study.advice import advise, leader
from lightning_al.study.comparison import Comparison, compare_arms
from lightning_al.study.cost import Cost, cost_of
from lightning_al.study.curves import Curves, read_curves
from lightning_al.study.learning_curve import fit_learning_curve, headroom
from lightning_al.study.legacy import METRICS, read_legacy
from lightning_al.study.metric_direction import scale_of
from lightning_al.study.reading import Table, numbers, read_table, rows_of
from lightning_al.study.report import FeasibilityReport
from lightning_al.study.types import FloatArray
from lightning_al.study.variance import Variance, decompose, read_nested
from lightning_al.study.verdict import decide

LEAST_WORTHWHILE = 0.5
"""Points that a gain must have to be worth while, unless told otherwise."""


def compare_curves(
    curves: Any,
    metric: str,
    delta: float | None = None,
    saving: float = 0.1,
    higher_is_better: bool | None = None,
    seed: int = 0,
) -> FeasibilityReport:
    """Tell from learning curves made anywhere whether active learning beats random labels; nothing is trained.

    Arms are compared with the arm ``random`` by the area under the curve, paired by replicate: runs of one replicate
    should share their first labels and seeds. Intervals and tests are exact sign flips, simultaneous over arms. With
    fewer than 6 replicates that every arm has, the answer is ``inconclusive`` and the intervals are exploratory.

    Args:
        curves: A path to a CSV file, a DataFrame, a mapping of columns or a list of rows, one row a fit, with the
            columns ``arm`` (the control is ``random``), ``replicate``, ``labels`` and the metric. A study's own
            ``curves.csv`` has a column ``part`` besides, and its random design and fits on the whole pilot are used.
        metric: The column to compare. Values in [0, 1] are taken as points, times 100.
        delta: Least worthwhile gain: points for a metric in [0, 1], where None is 0.5; else in the metric's own unit,
            and then it must be given.
        saving: Least worthwhile share of labels saved, in (0, 1).
        higher_is_better: Direction of the metric. None: as its name or torchmetrics says, else True, with a note.
        seed: For the bootstrap, and for the sign vectors beyond 15 replicates.

    Returns:
        The report: ``verdict``, ``headline``, ``reasons``, ``flags``, ``strategies`` and more; ``save`` writes a page.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A column or the arm ``random`` is missing, the curves cannot be put side by side, ``delta`` is
            needed, or an argument is out of its range.

    References:
        Hemerik and Goeman (2018), Exact testing with random permutations. Westfall and Young (1993), Resampling-Based
        Multiple Testing (max-T).

    Examples:
        >>> levels = {"random": (0.5, 0.6, 0.7), "Margin": (0.5, 0.7, 0.8)}
        >>> rows = [
        ...     {"arm": arm, "replicate": r, "labels": n, "accuracy": level - 0.01 * (r % 3)}
        ...     for arm in levels for r in range(6) for n, level in zip((10, 20, 30), levels[arm])
        ... ]
        >>> report = compare_curves(rows, "accuracy")
        >>> report.verdict, round(report.strategies[0]["delta"], 2), round(report.strategies[0]["label_ratio"], 3)
        ('promising', 7.5, 0.669)
        >>> compare_curves([row for row in rows if row["replicate"] < 3], "accuracy").flags
        ['too_few_replicates']
    """
    return build_report(
        read_table(curves), metric, delta=delta, saving=saving, higher_is_better=higher_is_better, seed=seed
    )


def build_report(
    table: Table,
    metric: str,
    *,
    delta: float | None = None,
    saving: float = 0.1,
    higher_is_better: bool | None = None,
    scale: float | None = None,
    seed: int = 0,
    label_cost: float | None = None,
    hour_cost: float | None = None,
    flags: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> FeasibilityReport:
    """Run all statistics on a table of fits.

    Args:
        table: The fits, by column.
        metric: As for `compare_curves`.
        delta: As for `compare_curves`.
        saving: As for `compare_curves`.
        higher_is_better: As for `compare_curves`.
        scale: 100 for a metric in [0, 1], else 1; None: whether its values lie there.
        seed: As for `compare_curves`.
        label_cost: Price of a label.
        hour_cost: Price of an hour of training and querying.
        flags: Flags raised elsewhere.
        settings: What else the study was asked to do; goes over what the curves tell.

    Returns:
        The report, without the parts that need the data: pathology, confirmation, failures.

    Raises:
        ValueError: As for `compare_curves`.
    """
    for name, price in (("label_cost", label_cost), ("hour_cost", hour_cost)):
        if price is not None and not (np.isfinite(price) and price >= 0):
            raise ValueError(f"Expected `{name}` to be at least 0, but got {price}.")
    curves = read_curves(table, metric, higher_is_better=higher_is_better, scale=scale)
    delta = _resolved(delta, curves, table)
    mode = str((settings or {}).get("mode", "curves"))
    whole = sections.whole_pilot(table, curves)
    comparison = compare_arms(curves, delta=delta, saving=saving, whole=None if whole is None else whole[1], seed=seed)
    strategies = sections.strategy_entries(comparison, table)
    costs = _costs(strategies, comparison, table, label_cost, hour_cost)
    parts, variance, notes = _design_parts(table, comparison, whole, seed, noiseless=mode == "proxy")
    verdict = decide(comparison, variance, costs=costs, flags=flags)
    chosen = verdict.winner or leader(comparison).name
    asked = {**_settings(comparison, seed, label_cost, hour_cost), **(settings or {})}
    if whole is None:
        notes.append("Random's last level stands for what all labels would give in the room for a gain.")
    if sections.reached_at_once(comparison):
        notes.append(
            f"How few random labels reach the target is not known (censored): the first {curves.labels[0]:g} do, and "
            "fewer were not tried. So no share of labels saved and no label ratio are told."
        )
    if comparison.replicates == 1:
        notes.append("One replicate has no spread: its bands in the figure of the curves have no width.")
    return FeasibilityReport(
        verdict=verdict.verdict,
        headline=verdict.headline,
        reasons=list(verdict.reasons),
        flags=list(verdict.flags),
        metric={
            "name": curves.metric,
            "higher_is_better": curves.sign > 0,
            "scale": int(curves.scale),
            "unit": curves.unit,
        },
        strategies=strategies,
        **sections.comparison_parts(comparison),
        **parts,
        winner=verdict.winner,
        advice=advise(comparison, verdict.verdict, verdict.flags, verdict.winner, costs=costs, mode=mode),
        cost=None if costs is None else dataclasses.asdict(costs[chosen]),
        settings=asked,
        seeds={"seed": seed},
        versions={"python": platform.python_version(), **{name: version(name) for name in ("numpy", "scipy")}},
        notes=[*curves.notes, *notes],
    )


def _resolved(delta: float | None, curves: Curves, table: Table) -> float:
    if delta is not None:
        return float(delta)
    if curves.scale == 100:
        return LEAST_WORTHWHILE
    values = numbers(table, curves.metric)
    low, high = np.nanmin(values), np.nanmax(values)
    raise ValueError(
        f"{curves.metric!r} does not lie in [0, 1] (its values go from {low:g} to {high:g}), so a gain of it has no "
        "points: pass `delta`, the least worthwhile gain in its own unit, or divide percentages by 100."
    )


def _costs(
    strategies: Sequence[Mapping[str, Any]],
    comparison: Comparison,
    table: Table,
    label_cost: float | None,
    hour_cost: float | None,
) -> dict[str, Cost] | None:
    if label_cost is None:
        return None
    rows = rows_of(table, "simulation")
    columns: dict[str, Any] = {name: numbers(rows, name) for name in rows if name in ("labels", *_SECONDS)}
    fits = [
        {
            "part": "simulation",
            "arm": str(arm).strip(),
            **{name: _or_none(column[row]) for name, column in columns.items()},
        }
        for row, arm in enumerate(rows["arm"])
        if np.isfinite(columns["labels"][row])
    ]
    needed = comparison.random_labels_to_target
    return {
        str(arm["name"]): cost_of(
            {**arm, "saving_ci": [_or_none(end) for end in arm["saving_ci"]]},
            needed,
            fits,
            label_cost=label_cost,
            hour_cost=hour_cost or 0.0,
        )
        for arm in strategies
    }


_SECONDS = ("seconds_fit", "seconds_query")


def _or_none(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _design_parts(
    table: Table, comparison: Comparison, whole: tuple[float, FloatArray] | None, seed: int, *, noiseless: bool
) -> tuple[dict[str, Any], Variance | None, list[str]]:
    """What the nested random design and the fits on the whole pilot tell, where the table has them.

    Of fits that have no training noise by construction there is no variance to decide by.
    """
    curves = comparison.curves
    parts: dict[str, Any] = {}
    notes: list[str] = []
    if whole is not None:
        found = headroom(curves.values[curves.arms[0]][:, 0], whole[1])
        parts["headroom"] = None if found is None else sections.headroom_part(found, curves.sign)
    nested = read_nested(table, curves.metric, curves.sign * curves.scale)
    if nested is None:
        return parts, None, notes
    variance = decompose(nested.y, seed)
    if variance is None:
        notes.append(
            "The random design has no fraction with two buckets of two training seeds each, so that data and training "
            "noise cannot be told apart."
        )
    else:
        notes += variance.notes
        parts["variance"] = sections.variance_part(variance, nested, curves.sign, noiseless=noiseless)
    curve = fit_learning_curve(
        nested.labels,
        nested.y,
        100.0 if curves.scale == 100 and curves.sign > 0 else 0.0,
        bounded=curves.scale == 100,
        whole=whole,
        seed=seed,
    )
    if curve is not None:
        points = [] if variance is None else sections.points_part(nested, variance, whole, curves.sign)
        parts["curve"] = sections.curve_part(curve, points, curves)
    runs = {}
    for name in METRICS:
        if name in table and np.isfinite(numbers(table, name)).any():
            other = read_nested(table, name, scale_of(table, name))
            if other is not None and other.y.shape == nested.y.shape:
                runs[name] = other.y[:, :, 0]
    legacy = read_legacy(nested.fractions, runs, comparison)
    parts["legacy"] = None if legacy is None else sections.legacy_part(legacy)
    return parts, None if noiseless else variance, notes


def _settings(comparison: Comparison, seed: int, label_cost: float | None, hour_cost: float | None) -> dict[str, Any]:
    curves = comparison.curves
    return {
        "mode": "curves",
        "delta": comparison.delta,
        "saving": comparison.saving,
        "replicates": comparison.replicates,
        "rounds": len(curves.labels) - 1,
        "initial": sections.count(curves.labels[0]),
        "query_size": sections.count(float(np.median(np.diff(curves.labels)))),
        "strategies": list(curves.arms[1:]),
        "seed": seed,
        "label_cost": label_cost,
        "hour_cost": hour_cost,
    }
