"""The statistics of a study as the parts of its report: plain numbers, in the units that are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import stdtrit

from lightning_al.study.comparison import Arm, Comparison
from lightning_al.study.curves import Curves, read_whole
from lightning_al.study.learning_curve import Headroom, LearningCurve
from lightning_al.study.legacy import Legacy
from lightning_al.study.pairing import CONTROL
from lightning_al.study.reading import Table, name_of, numbers, rows_of
from lightning_al.study.sign_flip import LEVEL, spread, t_interval
from lightning_al.study.types import FloatArray
from lightning_al.study.variance import NestedFits, Variance

Part = dict[str, Any]

UNTOLD: Part = {"saving": None, "saving_ci": [None, None], "label_ratio": None, "label_ratio_ci": [None, None]}
"""What an arm saves against a number of labels that is not known."""


def strategy_entries(comparison: Comparison, table: Table) -> list[Part]:
    """Return one entry an arm; gains are positive where the arm is better, whatever the metric's direction.

    Where random has reached the target at the first count, how few labels it needs is not known (censored), so that no
    arm has a saving or a label ratio.

    Args:
        comparison: The arms against random.
        table: All fits, for the seconds they took.

    Returns:
        The entries, in the order of the arms.
    """
    seconds = {name: _seconds(table, name) for name in ("seconds_query", "seconds_fit")}
    untold = UNTOLD if reached_at_once(comparison) else {}
    return [
        {**_entry(arm), **untold, **{name: by_arm.get(arm.name) for name, by_arm in seconds.items()}}
        for arm in comparison.arms
    ]


def reached_at_once(comparison: Comparison) -> bool:
    """Whether random labels have reached the target at the first count, as where they never rise."""
    return bool(comparison.random_labels_to_target <= comparison.curves.labels[0])


def comparison_parts(comparison: Comparison) -> Part:
    """Return the parts of a report that the comparison alone fills, by name."""
    curves, room = comparison.curves, comparison.room
    return {
        "replicates": comparison.replicates,
        "exploratory": comparison.exploratory,
        "required_R": comparison.required_R,
        "target": {
            "value": curves.sign * comparison.target,
            "random_labels": comparison.random_labels_to_target,
            "at_once": reached_at_once(comparison),
        },
        "room": None if room is None else {"mean": room.mean, "ci": [room.low, room.high]},
        "curves": {
            "labels": [count(each) for each in curves.labels],
            "arms": {arm: _band(curves, curves.values[arm]) for arm in curves.arms},
        },
        "penalty_matrix": {"names": list(curves.arms), "rows": comparison.penalty_matrix.tolist()},
    }


def variance_part(variance: Variance, nested: NestedFits, sign: int, *, noiseless: bool = False) -> Part:
    """Return the components of the variance, and the fits by fraction.

    Args:
        variance: The components.
        nested: The fits they are of.
        sign: Turns a value back into what is shown.
        noiseless: Whether the fits have no training noise by construction: then what is told of it, and of the data
            against it, is None.

    Returns:
        The part ``variance``.
    """
    by_fraction = [
        {
            "fraction": float(nested.fractions[row]),
            "labels": count(nested.labels[row]),
            "mean": sign * float(variance.means[row]),
            "ci": sorted((sign * float(variance.lows[row]), sign * float(variance.highs[row]))),
            "values": (sign * nested.y[row]).tolist(),
        }
        for row in np.flatnonzero(np.isfinite(variance.means))
    ]
    against_noise = {
        "sigma_training": variance.sigma_training,
        "icc": variance.icc,
        "icc_ci": [variance.icc_low, variance.icc_high],
        "f": variance.f,
        "p": variance.p,
    }
    return {
        **(dict.fromkeys(against_noise) if noiseless else against_noise),
        "sigma_data": variance.sigma_data,
        "by_fraction": by_fraction,
        "superiority": {"fractions": nested.fractions.tolist(), "rows": variance.superiority.tolist()},
    }


def curve_part(curve: LearningCurve, points: list[Part], curves: Curves) -> Part:
    """Return the learning curve; a and c in the metric's unit, so that an error rate lies in [0, 1].

    Args:
        curve: The fitted curve.
        points: What it was fitted to, in the units shown.
        curves: Hold sign and scale.

    Returns:
        The part ``curve``.
    """
    sign, scale = curves.sign, curves.scale
    a, b, c = (np.array(each) / unit for each, unit in ((curve.a, scale), (curve.b, 1.0), (curve.c, scale)))
    fit = []
    for labels in np.geomspace(curve.labels.min(), curve.labels.max(), 40):
        mean, low, high = (sign * value for value in curve.predict(labels))
        fit.append({"labels": float(labels), "mean": mean, "low": min(low, high), "high": max(low, high)})
    asked = [curve.labels_for(level) for level in _levels(curve)]
    return {
        **{"a": a[0], "b": b[0], "c": c[0], "ci": {"a": a[1:].tolist(), "b": b[1:].tolist(), "c": c[1:].tolist()}},
        "points": points,
        "fit": fit,
        "labels_for": [
            {"metric": sign * each.level, "labels": each.labels, "ci": [each.low, each.high], "beyond": each.beyond}
            for each in asked
        ],
    }


def points_part(
    nested: NestedFits, variance: Variance, whole: tuple[float, FloatArray] | None, sign: int
) -> list[Part]:
    """Return the means that the learning curve is fitted to, with their intervals, in the units shown."""
    found = [
        (nested.labels[row], variance.means[row], variance.lows[row], variance.highs[row])
        for row in np.flatnonzero(np.isfinite(variance.means))
    ]
    if whole is not None and np.isfinite(whole[1]).sum() >= 2:
        known = whole[1][np.isfinite(whole[1])]
        found.append((whole[0], known.mean(), *t_interval(known)))
    return [
        {
            "labels": count(labels),
            "mean": sign * float(mean),
            "low": min(sign * float(low), sign * float(high)),
            "high": max(sign * float(low), sign * float(high)),
        }
        for labels, mean, low, high in found
    ]


def headroom_part(headroom: Headroom, sign: int) -> Part:
    """Return the headroom: a gain is positive, the two levels are in the units shown."""
    return {
        "value": headroom.value,
        "ci": [headroom.low, headroom.high],
        "initial": sign * headroom.initial,
        "all": sign * headroom.all,
    }


def legacy_part(legacy: Legacy) -> Part:
    """Return the article's experiment."""
    return {
        "metrics": {
            name: {
                "fractions": list(spread.fractions),
                "values": spread.values.tolist(),
                "overlap": spread.overlap,
                "best_20": spread.best_first,
                "worst_80": spread.worst_last,
                "rule": spread.rule,
            }
            for name, spread in legacy.spreads.items()
        },
        "rule_of_thumb": legacy.rule_of_thumb,
        "least_confidence": None if legacy.least_confidence is None else dict(legacy.least_confidence),
        "paragraph": legacy.paragraph,
    }


def whole_pilot(table: Table, curves: Curves) -> tuple[float, FloatArray] | None:
    """Read the fits on the whole pilot, where the table has any."""
    return read_whole(table, curves) if "part" in table else None


def count(labels: float) -> int | float:
    """Return a label count as a whole number where it is one."""
    return int(labels) if float(labels).is_integer() else float(labels)


def _entry(arm: Arm) -> Part:
    return {
        "name": arm.name,
        "delta": arm.delta,
        "ci": [arm.low, arm.high],
        "sd": arm.sd,
        "p_adj": arm.p_adj,
        "saving": arm.saving,
        "saving_ci": [arm.saving_low, arm.saving_high],
        "label_ratio": arm.label_ratio,
        "label_ratio_ci": list(arm.label_ratio_ci),
        "censored": arm.censored,
        "censored_share": arm.censored_share,
        "labels_to_target": arm.labels_to_target,
        "endpoint": arm.endpoint,
        "endpoint_ci": list(arm.endpoint_ci),
        "wins": arm.wins,
        "collapses": list(arm.collapses),
    }


def _seconds(table: Table, column: str) -> Mapping[str, float]:
    """Mean seconds of an arm's fits or queries."""
    rows = rows_of(table, "simulation")
    if column not in rows:
        return {}
    spent = numbers(rows, column)
    by_arm: dict[str, list[float]] = {}
    for arm, value in zip(rows["arm"], spent, strict=True):
        if np.isfinite(value):
            name = name_of(arm)
            by_arm.setdefault(CONTROL if name.lower() == CONTROL else name, []).append(float(value))
    return {arm: float(np.mean(values)) for arm, values in by_arm.items()}


def _band(curves: Curves, values: FloatArray) -> dict[str, list[float]]:
    """Mean and pointwise 95 % t interval; with one replicate the interval is the point."""
    shown, runs = curves.sign * values, len(values)
    mean, half = shown.mean(axis=0), np.zeros(shown.shape[1])
    if runs > 1:  # `t_interval` of every column at once: there may be thousands of counts
        half = float(stdtrit(runs - 1, 1 - LEVEL / 2)) * spread(shown.T) / np.sqrt(runs)
    return {"mean": mean.tolist(), "low": (mean - half).tolist(), "high": (mean + half).tolist()}


def _levels(curve: LearningCurve) -> list[float]:
    """Four to ten round levels between the worst and the best mean, and the next two."""
    low, high = float(curve.means.min()), float(curve.means.max())
    rough = max((high - low) / 4, 1e-6)
    power = 10 ** np.floor(np.log10(rough))
    step = float(power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999))
    first = int(np.ceil(low / step))
    levels = [step * number for number in range(first, int(np.floor(high / step)) + 3)]
    # a bounded metric ends at its top
    return [float(round(level, 12)) for level in levels if level < curve.top or curve.top <= high]
