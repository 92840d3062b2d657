"""What a study found, as it is read from Python and as ``feasibility.json`` holds it."""

from __future__ import annotations

import dataclasses
import json
import math
import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lightning_al import durable

SCHEMA = 1
"""Raised when a key of ``feasibility.json`` changes its meaning."""

METRIC = {"name": str, "higher_is_better": bool, "scale": float, "unit": str}
"""What a report says of its metric; read again where other curves are judged by it."""

VerdictName = Literal["promising", "not_promising", "inconclusive"]


@dataclass
class FeasibilityReport:
    """Whether active learning will work for this problem, why, and what was measured.

    Every attribute is a key of ``feasibility.json``; a part that was not measured is None. Intervals are 95 %, and
    values are points (100 times the metric) where the metric lies in [0, 1].

    Args:
        verdict: ``"promising"``, ``"not_promising"`` or ``"inconclusive"``.
        headline: The verdict in one sentence.
        reasons: Why, one sentence each.
        flags: What else the reader should know; see ``lightning_al.study.FLAGS``.
        metric: Its name, direction, scale and unit.
        strategies: One entry an arm against random labels: ``delta`` and its interval ``ci``, ``p_adj``,
            ``label_ratio``, ``censored``, and more.
        replicates: Paired repetitions that every arm has.
        exploratory: Whether there are too few replicates for the exact test.
        winner: The strategy that makes it promising; None otherwise.
        required_R: Replicates that would settle an inconclusive answer, if the gains stay as they are; None beyond 200.
        target: The level that savings are counted to, the labels random needs for it, and whether its first labels
            reach it at once: then fewer might, and no saving is told.
        room: What any strategy could gain at most.
        curves: Mean and interval of each arm at each number of labels.
        penalty_matrix: How often each arm beats each other, as in BADGE's paper (Ash et al. 2020).
        variance: How much of the spread is training noise, and how much is which data.
        curve: The learning curve fitted to the random design.
        headroom: What the whole pilot gains over the first labels.
        pathology: Junk in what each strategy asked for.
        advice: What to run next.
        cost: What would be saved in money.
        legacy: The experiment and the rule of the article that the study goes beyond.
        confirm: The deciding comparison with the full model, after a proxy.
        settings: What the study was asked to do.
        data: Sizes of pilot and test set, classes.
        seeds: The seeds of the study and of its parts.
        versions: Of the packages that decide the numbers.
        seconds: Time spent.
        failures: Fits that failed twice, and why.
        notes: What the numbers do not say.
    """

    verdict: VerdictName
    headline: str
    reasons: list[str]
    flags: list[str]
    metric: dict[str, Any]
    strategies: list[dict[str, Any]]
    replicates: int
    exploratory: bool
    required_R: int | None
    winner: str | None = None
    target: dict[str, Any] | None = None
    room: dict[str, Any] | None = None
    curves: dict[str, Any] | None = None
    penalty_matrix: dict[str, Any] | None = None
    variance: dict[str, Any] | None = None
    curve: dict[str, Any] | None = None
    headroom: dict[str, Any] | None = None
    pathology: dict[str, Any] | None = None
    advice: list[str] = field(default_factory=list)
    cost: dict[str, Any] | None = None
    legacy: dict[str, Any] | None = None
    confirm: dict[str, Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] | None = None
    seeds: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain dicts, lists, strings, numbers and None; what is unbounded is None."""
        plain: dict[str, Any] = _plain({"schema": SCHEMA, **dataclasses.asdict(self)})
        return plain

    def to_json(self) -> str:
        """Return the report as JSON, the text of ``feasibility.json``."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> FeasibilityReport:
        """Read what `to_json` wrote.

        Args:
            text: The JSON.

        Returns:
            The report.

        Raises:
            ValueError: It is no report, one of another version's, or a part of it is of the wrong type.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ValueError(f"This is no report of a study: it is not JSON ({error}).") from None
        if not isinstance(values, dict) or "verdict" not in values:
            raise ValueError("This is no report of a study: it has no 'verdict'.")
        schema = values.pop("schema", None)
        if schema != SCHEMA:
            raise ValueError(f"Expected a report of schema {SCHEMA}, but got {schema!r}: another version wrote it.")
        known = {each.name for each in dataclasses.fields(cls)}
        unknown = sorted(values.keys() - known)
        if unknown:
            raise ValueError(f"Expected the keys of a report, but got {unknown} too.")
        try:
            report = cls(**values)
        except TypeError as error:
            raise ValueError(f"The report is not whole: {error}.") from None
        for name, kind in get_type_hints(cls).items():
            _check_type(name, getattr(report, name), kind)
        for name, kind in METRIC.items():
            _check_type(f"metric.{name}", report.metric.get(name), kind)
        return report

    def save(self, folder: str | Path) -> Path:
        """Write ``feasibility.json``, the figures and ``index.html``.

        Args:
            folder: Where to; made where it is absent.

        Returns:
            The path of the page.

        Raises:
            OSError: A file cannot be written.
        """
        # Here: reading a report from Python needs neither matplotlib nor jinja2.
        from lightning_al.study.page import write_page

        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        durable.write_atomically(target / "feasibility.json", self.to_json().encode())
        write_page(self.to_dict(), target)
        return target / "index.html"


def _check_type(name: str, value: Any, kind: Any) -> None:
    if not _is_of(value, kind):
        told = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")
        raise ValueError(f"Expected `{name}` of a report to be of type {told}, but got {reprlib.repr(value)}.")


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value read from JSON is of an attribute's type."""
    origin, inside = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin is Literal:
        return value in inside
    if origin is UnionType:
        return any(_is_of(value, each) for each in inside)
    if origin is list:
        return isinstance(value, list) and all(_is_of(each, inside[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(_is_of(each, inside[1]) for each in value.values())
    if kind in (int, float):  # JSON writes 100.0 as 100; True is an int to Python
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)


def _plain(value: Any) -> Any:
    """What JSON can hold; NumPy's numbers and arrays too."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
