"""Where a report stands: what its answer rests on, and which of its parts may be spoken of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_al.study.wording import UNPAID, VERDICTS

Report = Mapping[str, Any]


def best_strategy(report: Report) -> dict[str, Any] | None:
    """Picks the strategy to speak of first.

    It is the one that the verdict rests on, else the one that the cost was reckoned for, else the largest gain among
    those surely above zero, else the largest gain.

    Args:
        report: The report.

    Returns:
        Its entry; None where the report has no strategies.

    Examples:
        >>> best_strategy({"strategies": [{"name": "A", "delta": 2, "ci": [-1, 5]}, {"name": "B", "delta": 1,
        ...     "ci": [0.5, 1.5]}]})["name"]
        'B'
    """
    measured = [each for each in report.get("strategies") or () if each.get("delta") is not None]
    winners = [each for each in measured if each["name"] == report.get("winner")]
    priced = [each for each in measured if each["name"] == (report.get("cost") or {}).get("name")]
    sure = [each for each in measured if (_end(each, "ci") or 0) > 0]
    return max(winners or priced or sure or measured, key=lambda each: float(each["delta"]), default=None)


def is_unpaid(report: Report) -> bool:
    """Whether the price is the reason that nothing is decided: some strategy is worthwhile, and none pays.

    Args:
        report: The report.

    Returns:
        The answer.
    """
    settings = report.get("settings") or {}
    delta, saving = settings.get("delta"), settings.get("saving")
    if report["verdict"] != "inconclusive" or report.get("exploratory") or not report.get("cost") or delta is None:
        return False
    return any(
        (_end(each, "ci") or 0) > 0
        and (each["delta"] >= delta or (saving is not None and (_end(each, "saving_ci") or 0) > saving))
        for each in report.get("strategies") or ()
    )


def is_open(report: Report) -> bool:
    """Whether it is open that there is a worthwhile gain: an inconclusive answer for another reason than the price."""
    return bool(report["verdict"] == "inconclusive" and not is_unpaid(report))


def answer(report: Report) -> tuple[str, str]:
    """The verdict, and in a few words more what it means."""
    return UNPAID if is_unpaid(report) else VERDICTS[report["verdict"]]


def _end(entry: Mapping[str, Any], interval: str) -> float | None:
    """The lower end of an interval; None has no bound."""
    ends = entry.get(interval)
    return None if not ends else ends[0]
