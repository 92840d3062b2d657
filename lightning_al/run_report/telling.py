"""A run in words: where it stands, how far it is, what the metric does, what it spent."""

# ruff: noqa: RUF001, RUF002 (the true minus sign is meant)

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lightning_al.run_report.facts import Curve, Facts
from lightning_al.study.wording import number

Standing = Literal["ended", "waiting", "going"]

BANNERS: dict[Standing, tuple[str, str]] = {
    "ended": ("The run has ended", ""),
    "waiting": ("The run waits for answers", "It goes on once enough of them are there."),
    "going": ("The run is not finished", "Nothing that it asked holds it up."),
}
"""What stands on top of the page, by where the run stands."""


def standing_of(finished: bool, waiting: Sequence[Mapping[str, Any]]) -> Standing:
    """Says where a run stands.

    Args:
        finished: Whether it has come to its end.
        waiting: The queries that wait for answers, as of `facts.waiting_of`; late ones hold nothing up.

    Returns:
        A key of `BANNERS`.
    """
    if finished:
        return "ended"
    return "going" if all(each["late"] for each in waiting) else "waiting"


def level(value: float | None) -> str:
    """Writes a value of a metric with four digits.

    Args:
        value: The value; None where a round has none.

    Returns:
        The text.

    Examples:
        >>> level(0.87654), level(12345.6), level(-2e-7), level(None), level(float("nan"))
        ('0.8765', '12,346', '−2e−07', '-', 'not a number')
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else number(value)
    text = f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
    return text.replace("-", "−")


def duration(seconds: float) -> str:
    """Writes seconds as people say them.

    Args:
        seconds: How long something took.

    Returns:
        The text.

    Examples:
        >>> duration(3.14), duration(75), duration(600), duration(9000)
        ('3.1 s', '75 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def when(time: str) -> str:
    """Writes the ledger's time as people read it.

    Args:
        time: As the ledger has it; other texts stay as they are.

    Returns:
        The text.

    Examples:
        >>> when("2026-01-02T03:04:05+00:00"), when("")
        ('2026-01-02 03:04:05 UTC', '-')
    """
    found = re.fullmatch(r"([\d-]{10})T([\d:]{8})\+00:00", time, re.ASCII)
    return f"{found[1]} {found[2]} UTC" if found else time or "-"


def best_of(curve: Curve, lower: bool) -> tuple[int, float]:
    """Finds the best point of a curve, the first where several are as good.

    Args:
        curve: Name and points of a metric.
        lower: Whether the lowest value is the best.

    Returns:
        Labels and value.
    """
    return (min if lower else max)(curve[1], key=lambda point: point[1])


def in_words(facts: Facts) -> str:
    """Tells a run in a paragraph.

    Args:
        facts: What the page shows: see `page.facts_of`.

    Returns:
        The sentences.
    """
    return " ".join([_state(facts), _progress(facts), _metric(facts), *_spent(facts)])


def _state(facts: Facts) -> str:
    if facts["standing"] == "ended":
        reason = str(facts["reason"]).strip()
        return f"The run has ended: {reason.rstrip('.')}." if reason else "The run has ended."
    if facts["standing"] == "waiting":
        open_ = [each for each in facts["waiting"] if not each["late"]]
        count = sum(each["count"] for each in open_)
        rounds = sorted({each["round"] for each in open_})
        where = f"round {rounds[0]}" if len(rounds) == 1 else f"rounds {rounds[0]} to {rounds[-1]}"
        return f"The run waits for {_counted(count, 'answer')} of {where} ({', '.join(e['table'] for e in open_)})."
    return "The run is not finished, and no answer that is missing holds it up."


def _progress(facts: Facts) -> str:
    counts, done = facts["counts"], len(facts["rounds"])
    rounds = f"{_counted(done, 'round')} of training {'is' if done == 1 else 'are'} done"
    share = f" ({100 * counts['labeled'] / counts['size']:.1f} %)" if counts["size"] else ""
    late = sum(each["count"] for each in facts["waiting"] if each["late"])
    parts = [
        f"{counts['labeled']:,} of {counts['size']:,} samples labeled{share}",
        f"{counts['rejected']:,} rejected" if counts["rejected"] else "none rejected",
        *([f"{late:,} without an answer since earlier rounds"] if late else []),
    ]
    return f"{rounds[0].upper()}{rounds[1:]}; {', '.join(parts)}."


def _metric(facts: Facts) -> str:
    if not facts["curves"]:
        return "The run has logged no metric to draw."
    curve, lower = facts["curves"][0], facts["lower"]
    name, points = curve
    (labels, last), (at, best) = points[-1], best_of(curve, lower)
    told = f"{name} is {level(last)} with {labels:,} labels"
    if len(points) == 1:
        return f"{told}, its only value so far."
    side, first = "lowest" if lower else "highest", f"it began at {level(points[0][1])} with {points[0][0]:,}"
    if (at, best) == (labels, last):
        return f"{told}, the {side} so far; {first}."
    if (at, best) == tuple(points[0]):
        return f"{told}; {first}, its {side}."
    return f"{told}; {first}, and its {side} was {level(best)} with {at:,}."


def _spent(facts: Facts) -> list[str]:
    told = []
    if facts["rounds"]:
        fit, query = (sum(row[name] for row in facts["rounds"]) for name in ("seconds_fit", "seconds_query"))
        told.append(f"Training took {duration(fit)}, querying {duration(query)}.")
    if facts["cost"] is not None:
        told.append(f"The cost spent is {number(facts['cost'])}.")
    late, corrected = (len(facts["changes"][kind]) for kind in ("late", "corrected"))
    if late or corrected:
        sentence = f"{_counted(late, 'answer')} came late, {_counted(corrected, 'answer')} {_was(corrected)} corrected."
        told.append(sentence[0].upper() + sentence[1:])
    return told


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def _counted(count: int, what: str) -> str:
    return f"{f'{count:,}' if count else 'no'} {what}{'' if count == 1 else 's'}"
