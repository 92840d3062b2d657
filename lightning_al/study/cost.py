"""What active learning would save in labels, hours and money, with its interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_al.study.table import Row

Interval = tuple[float | None, float | None]


@dataclass(frozen=True)
class Cost:
    """The value of one arm where random labels reach the target, in the currency of the label's price.

    Args:
        name: The arm.
        label_cost: Price of a label.
        hour_cost: Price of an hour of training and querying.
        labels_saved: Labels fewer than random needs; None where the arm never reaches the target.
        ci: Its interval; None is unbounded.
        money_saved: Their price.
        money_ci: Its interval.
        hours: Hours of the arm's fits and queries up to the target, less the one fit that random labels need.
        compute_cost: Their price.
        net: What is left.
        net_ci: Its interval; the hours count as known.
    """

    name: str
    label_cost: float
    hour_cost: float
    labels_saved: float | None
    ci: Interval
    money_saved: float | None
    money_ci: Interval
    hours: float
    compute_cost: float
    net: float | None
    net_ci: Interval


def cost_of(
    strategy: Mapping[str, Any],
    random_labels: float | None,
    rows: Sequence[Row],
    *,
    label_cost: float,
    hour_cost: float = 0.0,
) -> Cost:
    """Reckon what an arm saves.

    Args:
        strategy: An entry of a report's ``strategies``: ``name``, ``labels_to_target``, ``saving_ci``.
        random_labels: Labels that random needs for the target.
        rows: The rows of the table, with the seconds of the fits and queries.
        label_cost: Price of a label.
        hour_cost: Price of an hour of training and querying.

    Returns:
        The cost; its money is None where the arm never reaches the target.

    Example:
        >>> arm = {"name": "Margin", "labels_to_target": 300, "saving_ci": (0.2, 0.5)}
        >>> rows = [{"part": "simulation", "arm": arm, "replicate": 0, "labels": n, "seconds_fit": 1800.0,
        ...          "seconds_query": 0.0} for arm in ("random", "Margin") for n in (200, 300, 500)]
        >>> cost = cost_of(arm, 500, rows, label_cost=2.0, hour_cost=10.0)
        >>> cost.labels_saved, cost.money_saved, cost.hours, cost.net, cost.net_ci
        (200, 400.0, 0.5, 395.0, (195.0, 495.0))
    """
    name, needed = str(strategy["name"]), strategy["labels_to_target"]
    low, high = strategy["saving_ci"]
    saved = None if random_labels is None or needed is None else random_labels - needed
    ci = tuple(None if share is None or random_labels is None else share * random_labels for share in (low, high))
    alone = _seconds(rows, "random", random_labels)[-1:]
    hours = (sum(_seconds(rows, name, needed)) - sum(alone)) / 3600
    compute = hour_cost * hours

    def priced(labels: float | None, less: float = 0.0) -> float | None:
        return None if labels is None else label_cost * labels - less

    return Cost(
        name=name,
        label_cost=label_cost,
        hour_cost=hour_cost,
        labels_saved=saved,
        ci=(ci[0], ci[1]),
        money_saved=priced(saved),
        money_ci=(priced(ci[0]), priced(ci[1])),
        hours=hours,
        compute_cost=compute,
        net=priced(saved, compute),
        net_ci=(priced(ci[0], compute), priced(ci[1], compute)),
    )


def _seconds(rows: Iterable[Row], arm: str, up_to: float | None) -> list[float]:
    """Mean seconds of each round of an arm, fit and query, up to the first that has so many labels."""
    by_labels: dict[int, list[float]] = {}
    for row in rows:
        if row["part"] == "simulation" and str(row["arm"]).lower() == arm.lower():
            spent = float(row.get("seconds_fit") or 0) + float(row.get("seconds_query") or 0)
            by_labels.setdefault(int(row["labels"]), []).append(spent)
    means = []
    for labels, seconds in sorted(by_labels.items()):
        means.append(float(np.mean(seconds)))
        if up_to is not None and labels >= up_to:
            break
    return means
