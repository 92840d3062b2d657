"""A report's numbers, intervals and flags as people read them, alike in text, tables, figures and alt texts."""

# ruff: noqa: RUF001, RUF002 (the true minus sign is meant)

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

NOT_MEASURED = "not measured"

NOISELESS = f"{NOT_MEASURED}: a proxy's heads have no training noise"
"""What stands for a number that tells of training noise."""

VERDICTS: dict[str, tuple[str, str]] = {
    "promising": (
        "Yes, active learning is promising here",
        "Choosing what to label pays.",
    ),
    "not_promising": (
        "No, active learning is not worth it here",
        "Choosing what to label gains too little.",
    ),
    "inconclusive": ("Undecided: it cannot be told yet", "A worthwhile gain is neither shown nor ruled out."),
}
"""What each verdict means, and in a few words more."""

UNPAID = ("Undecided: better, but not shown to pay", "A gain is shown; at the costs given it is not worth its price.")
"""The same for an inconclusive answer whose reason is the price."""

FLAGS: dict[str, str] = {
    "saturated": "The first labels already give nearly all that more of them can give: there is no room for a gain.",
    "too_few_replicates": "Fewer than 6 replicates: no test can be exact, so intervals are exploratory.",
    "uncertainty_harmful": "Least confidence makes the model worse than random labels: do not use it here.",
    "training_noise_dominant": "Most of the spread comes from the training seed, not from which data were labeled.",
    "composition_matters": "Which data are labeled matters, beyond training noise.",
    "gain_within_training_noise": "The gain is real on average, but smaller than the chance of a single training run.",
    "spam_suspected": "Least confidence asks for far more junk than the pool holds: look at what it asks for first.",
    "unpaired_start": "The strategies did not start from the same labels, so a part of a gain may be luck.",
    "test_used_for_selection": "The test set also steered the training, so levels are too good; compare gains only.",
}
"""What each flag of a report tells its reader."""


def number(value: float | None, decimals: int = 2, *, signed: bool = False) -> str:
    """Writes a number with a true minus sign and thousands separators.

    Args:
        value: The number; None or NaN was not measured.
        decimals: Digits after the point.
        signed: Whether to write the sign of a positive number.

    Returns:
        The text.

    Examples:
        >>> number(-1234.5, 1), number(0.25, signed=True), number(None)
        ('−1,234.5', '+0.25', 'not measured')
    """
    if value is None or math.isnan(value):
        return NOT_MEASURED
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:{'+' if signed else ''},.{decimals}f}"
    if float(text.replace(",", "")) == 0:  # no "-0.00"
        text = text.lstrip("+-")
    return text.replace("-", "−")


def interval(ends: Sequence[float | None] | None, decimals: int = 2, *, signed: bool = False) -> str:
    """Writes an interval; an end that is None has no bound.

    Args:
        ends: Lower and upper end; None where neither has a bound.
        decimals: Digits after the point.
        signed: Whether to write the sign of positive ends.

    Returns:
        The text.

    Examples:
        >>> interval((0.5, 1)), interval((None, 2)), interval(None)
        ('[0.50, 1.00]', '[−∞, 2.00]', '[−∞, ∞]')
    """
    low, high = ends or (None, None)
    low_text = "−∞" if low is None else number(low, decimals, signed=signed)
    return f"[{low_text}, {'∞' if high is None else number(high, decimals, signed=signed)}]"


def estimate(
    value: float | None,
    ends: Sequence[float | None] | None,
    decimals: int = 2,
    *,
    signed: bool = False,
    unit: str = "",
) -> str:
    """Writes a number with its interval.

    Args:
        value: The number; None was not measured.
        ends: Its interval, as for `interval`.
        decimals: Digits after the point.
        signed: Whether to write the sign of positive numbers.
        unit: What stands after the number.

    Returns:
        The text.

    Examples:
        >>> estimate(1.5, (0.5, 2.5), signed=True, unit="points")
        '+1.50 points [+0.50, +2.50]'
    """
    if value is None or math.isnan(value):
        return NOT_MEASURED
    unit = f" {unit}" if unit else ""
    return f"{number(value, decimals, signed=signed)}{unit} {interval(ends, decimals, signed=signed)}"


def share(value: float | None, ends: Sequence[float | None] | None, decimals: int = 0) -> str:
    """Writes a share in [0, 1] as percent with its interval.

    Args:
        value: The share; None was not measured.
        ends: Its interval, as for `interval`.
        decimals: Digits after the point.

    Returns:
        The text.

    Examples:
        >>> share(0.25, (None, 0.5)), share(0.034, (0.02, 0.05), 1)
        ('25 % [−∞, 50]', '3.4 % [2.0, 5.0]')
    """
    hundredfold = None if value is None else 100 * value
    percents = [None if end is None else 100 * end for end in ends or (None, None)]
    return estimate(hundredfold, percents, decimals, unit="%")


def p_value(value: float | None) -> str:
    """Writes a p value.

    Args:
        value: In [0, 1]; None was not measured.

    Returns:
        The text.

    Examples:
        >>> p_value(0.03125), p_value(0.0001)
        ('0.031', '< 0.001')
    """
    return "< 0.001" if value is not None and value < 0.001 else number(value, 3)


def words(name: str) -> str:
    """Writes a name of the code as words.

    Args:
        name: Such as ``calibration_error``.

    Returns:
        The words.

    Examples:
        >>> words("calibration_error")
        'calibration error'
    """
    return name.replace("_", " ")


def plain(value: Any) -> Any:
    r"""Replaces characters that cannot be shown or that turn the text around, in every string of a report.

    Args:
        value: A string, or mappings and lists of strings and other values.

    Returns:
        The same with each control, direction and lone surrogate character replaced.

    Examples:
        >>> plain({"name": "a\x00b", "seeds": [1, None]})
        {'name': 'a�b', 'seeds': [1, None]}
    """
    if isinstance(value, str):
        return "".join(each if each.isprintable() else " " if each.isspace() else "�" for each in value)
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(each) for key, each in value.items()}
    if isinstance(value, Sequence):
        return [plain(each) for each in value]
    return value


def shorter(text: str, length: int) -> str:
    """Cuts a text that is too long for its place in a figure.

    Args:
        text: The text.
        length: The most characters to keep.

    Returns:
        The text, its end replaced by an ellipsis where it is too long.

    Examples:
        >>> shorter("LeastConfidence", 18), shorter("LeastConfidence", 6)
        ('LeastConfidence', 'Least…')
    """
    return text if len(text) <= length else text[: length - 1] + "…"


def decimals(report: Mapping[str, Any]) -> tuple[int, int]:
    """Finds how many decimals gains and levels of a report are written with.

    Args:
        report: The report.

    Returns:
        As for `decimals_of`.

    Examples:
        >>> decimals({"metric": {"scale": 100}}), decimals({"metric": {"scale": 1}, "settings": {"delta": 0.005}})
        ((2, 1), (5, 4))
    """
    return decimals_of(report["metric"].get("scale"), (report.get("settings") or {}).get("delta"))


def decimals_of(scale: float | None, delta: float | None) -> tuple[int, int]:
    """Finds how many decimals gains and levels of a metric are written with.

    Args:
        scale: 100 where the metric is told in points, else 1.
        delta: The least worthwhile gain; None is not known.

    Returns:
        Decimals of gains and of levels: 2 and 1 for points; in other units, so many that the least worthwhile
        gain has three digits.

    Examples:
        >>> decimals_of(100, 0.5), decimals_of(1, 0.5), decimals_of(1, 40)
        ((2, 1), (3, 2), (1, 0))
    """
    if scale == 100:
        return 2, 1
    gains = max(0, 2 - math.floor(math.log10(delta))) if delta else 3
    return gains, max(0, gains - 1)


def price(value: float) -> str:
    """Writes a price with two decimals, and a small one with up to three digits.

    Args:
        value: The price.

    Returns:
        The text.

    Examples:
        >>> price(1234.5), price(0.01234), price(0.05)
        ('1,234.50', '0.0123', '0.05')
    """
    decimals = 2 - math.floor(math.log10(abs(value))) if 0 < abs(value) < 0.1 else 2
    text = number(value, decimals)
    return text if decimals == 2 else text.rstrip("0")


def metric_label(report: Mapping[str, Any]) -> str:
    """Names the metric with its unit and, where it is not the usual one, its direction.

    Args:
        report: The report.

    Returns:
        The label of an axis.

    Examples:
        >>> metric_label({"metric": {"name": "calibration_error", "unit": "points", "higher_is_better": False}})
        'calibration error (points, lower is better)'
    """
    metric = report["metric"]
    hints = [metric.get("unit") or "", "" if metric.get("higher_is_better", True) else "lower is better"]
    kept = ", ".join(hint for hint in hints if hint)
    return words(str(metric["name"])) + (f" ({kept})" if kept else "")


def gain_label(report: Mapping[str, Any]) -> str:
    """Names a gain over random labels with its unit, and says what it is where a lower metric is better.

    Args:
        report: The report.

    Returns:
        The label of an axis.

    Examples:
        >>> gain_label({"metric": {"name": "accuracy", "unit": "points"}})
        'gain over random labels (points)'
        >>> gain_label({"metric": {"name": "calibration_error", "unit": "points", "higher_is_better": False}})
        'gain over random (points less calibration error)'
        >>> gain_label({"metric": {"name": "log_likelihood", "unit": ""}})
        'gain over random labels (in log likelihood)'
    """
    metric, unit = report["metric"], report["metric"].get("unit") or ""
    name = words(str(metric["name"]))
    if not metric.get("higher_is_better", True):
        return f"gain over random ({f'{unit} less {name}'.strip()})"
    return f"gain over random labels ({unit or f'in {name}'})"
