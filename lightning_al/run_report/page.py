"""The page of a run: one HTML file that needs nothing else, alike in look with the page of a study."""

from __future__ import annotations

import functools
import shlex
import tempfile
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jinja2

from lightning_al import __version__, durable
from lightning_al.recorded_query import RecordedQuery
from lightning_al.run_report import facts as facts_module
from lightning_al.run_report import telling
from lightning_al.run_report.facts import Facts
from lightning_al.run_report.reading import Left
from lightning_al.run_report.run_figures import MAX_METRICS, draw_figures
from lightning_al.study import wording
from lightning_al.study.page import Sheet, embedded, inlined, page_environment

SHEETS_BYTES = 4_000_000
"""What all contact sheets may take together, so that the page can still be sent by mail."""

SHOWN_SHEETS = 4
"""Contact sheets that are open on the page; those of earlier rounds are folded away."""

SHOWN_ROWS = 40
"""Rows of a table that are shown; the rest is folded away, or counted."""

TABLE_METRICS = 4
"""Metrics in the table of rounds; the others are in rounds.csv."""


def write_run_page(
    left: Left, folder: Path, metric: str | None = None, higher_is_better: bool | None = None
) -> tuple[Path, str]:
    """Writes ``index.html``.

    Args:
        left: What the run left.
        folder: Where to; made where it is absent.
        metric: The metric that goes first.
        higher_is_better: Its direction. By default as its name says.

    Returns:
        The path of the page, and the run in words.

    Raises:
        ActiveLearningError: The run did not log that metric.
        OSError: A file cannot be written.
    """
    facts = facts_of(left, metric, higher_is_better)
    folder.mkdir(parents=True, exist_ok=True)
    page = render(facts, sheets_of(left))
    durable.write_atomically(folder / "index.html", page.encode())
    return folder / "index.html", facts["words"]


def facts_of(left: Left, metric: str | None = None, higher_is_better: bool | None = None) -> Facts:
    """Puts together what the page shows, in plain values.

    Args:
        left: What the run left.
        metric: The metric that goes first.
        higher_is_better: Its direction.

    Returns:
        The facts; every text of them can be shown.

    Raises:
        ActiveLearningError: The run did not log that metric.
    """
    info, history = left.now.info, left.history
    curves = facts_module.curves_of(history, metric)
    waiting = facts_module.waiting_of(left)
    costs = [row["cost"] for row in history if "cost" in row]
    facts: Facts = {
        "folder": str(left.now.folder.path),
        "quoted": shlex.quote(str(left.now.folder.path)),
        "strategy": str(info.get("strategy", "an unknown strategy")).removesuffix("()"),
        "settings": {name: info[name] for name in ("strategy", "seed", "pool_size", "fingerprint") if name in info},
        "reason": str(info.get("reason") or ""),
        "standing": telling.standing_of(bool(info.get("finished")), waiting),
        "counts": facts_module.counts_of(left),
        "waiting": waiting,
        "curves": curves,
        "lower": bool(curves) and facts_module.lower_is_better(curves[0][0], higher_is_better),
        "rounds": [{"seconds_fit": 0.0, "seconds_query": 0.0, **row} for row in history],
        "cost": costs[-1] if costs else None,
        "classes": _with_shares(facts_module.classes_of(left)),
        "askers": facts_module.askers_of(left),
        "gain": left.gain,
        "changes": facts_module.changes_of(left),
        "rejections": facts_module.rejections_of(left),
        "last_answer": left.rows[-1].time if left.rows else "",
    }
    plain: Facts = wording.plain(facts)
    return {**plain, "words": telling.in_words(plain)}


def sheets_of(left: Left) -> list[tuple[int, Sheet]]:
    """Finds the contact sheets of a run that can be shown, the last round first, each with its round."""
    folder, found = left.now.folder, []
    inside = folder.path.resolve()
    for asked, query in sorted(left.now.queries.items(), reverse=True):
        path = folder.query_path(*asked).with_suffix(".png").resolve()
        if path.is_relative_to(inside) and _is_picture(path):  # a link shows no picture from outside the folder
            found.append((asked[0], _sheet(asked, query, path)))
    return found


def render(facts: Facts, sheets: list[tuple[int, Sheet]]) -> str:
    """Writes the page.

    Args:
        facts: As of `facts_of`.
        sheets: As of `sheets_of`.

    Returns:
        The HTML.

    Raises:
        OSError: A figure cannot be drawn, or a sheet not be read.
    """
    pictures = embedded([sheet for _, sheet in sheets], SHEETS_BYTES)
    shown = [{**picture, "round": round} for (round, _), picture in zip(sheets, pictures, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        figures = draw_figures(facts, Path(folder))
        drawn = {kind: [(each, inlined(each)) for each in found] for kind, found in figures.items()}
    page: str = _template().render(
        f=facts,
        answer=telling.BANNERS[facts["standing"]],
        figures=drawn,
        open_sheets=shown[:SHOWN_SHEETS],
        folded_sheets=shown[SHOWN_SHEETS:],
        columns=[name for name, _ in facts["curves"][:TABLE_METRICS]],
        now=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )
    return page


@functools.cache
def _template() -> jinja2.Template:
    environment = page_environment("lightning_al.run_report")
    environment.filters.update(level=_level, duration=telling.duration, when=telling.when)
    environment.globals.update(
        SHOWN_ROWS=SHOWN_ROWS, MAX_METRICS=MAX_METRICS, VERSION=__version__, best_of=telling.best_of
    )
    return environment.get_template("run.html.jinja")


def _level(value: Any) -> str:
    return telling.level(None if isinstance(value, jinja2.Undefined) else value)


def _with_shares(classes: Facts) -> Facts:
    """Adds each class's share of the labels, and of those drawn at random with its 95 % interval."""
    from scipy.stats import binomtest

    total, drawn = sum(row["labeled"] for row in classes["rows"]), classes["control"]
    rows = []
    for row in classes["rows"]:
        control: Mapping[str, Any] = {"control_share": None, "control_ci": None}
        if drawn:
            found = binomtest(row["control"], drawn).proportion_ci(method="wilson")
            control = {"control_share": row["control"] / drawn, "control_ci": [float(found.low), float(found.high)]}
        rows.append({**row, **control, "share": row["labeled"] / total})
    return {**classes, "rows": rows, "total": total}


def _sheet(asked: tuple[int, int], query: RecordedQuery, path: Path) -> Sheet:
    round, part = asked
    count, indices = len(query.dataset_indices), query.dataset_indices[:10]
    again = f" (query {part})" if part > 2 else ""
    what = f"Round {round}" + (f", in place of what was rejected{again}" if part > 1 else "")
    random = f", {len(query.control)} of them drawn at random" if query.control else ""
    more = " and more" if count > len(indices) else ""
    title = f"{what}: {count} {'sample' if count == 1 else 'samples'}"
    alt = (
        f"{title} asked by {query.strategy}{random}, in the order picked: dataset "
        f"{'index' if count == 1 else 'indices'} {', '.join(map(str, indices))}{more}."
    )
    return wording.plain(title), path, wording.plain(alt)


def _is_picture(path: Path) -> bool:
    """Whether a file is a whole PNG; its pixels are not decoded for it."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as opened:
            opened.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return True
