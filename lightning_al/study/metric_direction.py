"""Which way a metric is better, and whether it is told in points: by its name, by torchmetrics, or by its values."""

from __future__ import annotations

import importlib

import numpy as np

from lightning_al.study.reading import Table, numbers

HIGHER_IS_BETTER = {
    **dict.fromkeys(("accuracy", "balanced_accuracy", "precision", "recall", "f1", "auroc", "average_precision"), True),
    **dict.fromkeys(("calibration_error", "ece", "error", "loss", "nll", "brier", "mse", "rmse", "mae"), False),
}
"""Directions of metrics that go by these names."""


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
