"""The page once more: of a study's folder, or of learning curves that were made elsewhere."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from lightning_al.exceptions import ActiveLearningError
from lightning_al.study import settings
from lightning_al.study.compare import build_report, compare_curves
from lightning_al.study.design import slug
from lightning_al.study.metrics import KNOWN, StudyMetrics, metric_name
from lightning_al.study.reading import Table, metrics_in, name_of, parts_of, read_table, take
from lightning_al.study.report import FeasibilityReport

_KEPT_FLAGS = ("spam_suspected", "test_used_for_selection")
"""Flags that a study raises besides those of its curves."""


def make_report(
    source: Path,
    output: Path | None = None,
    metric: str | None = None,
    delta: float | None = None,
    saving: float | None = None,
    higher_is_better: bool | None = None,
) -> Path:
    """Make the page of a study, or of learning curves made elsewhere; nothing is trained.

    With no more than a study's folder, its page is made once more. With another metric or bar besides, the study's
    fits are judged anew, and the study's own answer stays as it is.

    Args:
        source: A study's folder, or a CSV file of curves with the columns arm (the control is random), replicate,
            labels, and one a metric.
        output: The folder for the page. By default the study's own, one in it that is named after metric and bars where
            fits are judged anew, or one beside the file.
        metric: What the verdict goes by. By default what the study went by, or the only metric of the file.
        delta: The least gain worth while: points for a metric in [0, 1] (0.5 by default), else in its own unit. By
            default the study's where its metric is kept.
        saving: The least share of labels saved that is worth while. By default the study's, else 0.1.
        higher_is_better: Direction of the metric. By default the study's where its metric is kept, else what the
            metric's name or torchmetrics says.

    Returns:
        The path of the page.

    Raises:
        ActiveLearningError: There is no study and no such file, it cannot be read or compared, or the page cannot be
            written.
    """
    source = Path(source)
    asked = {"metric": metric, "delta": delta, "saving": saving, "higher_is_better": higher_is_better}
    anew = any(value is not None for value in asked.values())
    found, curves = source / "feasibility.json", source / "curves.csv" if source.is_dir() else source
    study = _read(found) if source.is_dir() and found.is_file() else None
    if not curves.is_file() and (anew or study is None):
        absent = "has no curves.csv" + " and no feasibility.json" * (study is None)
        raise ActiveLearningError(
            f"{source} {absent if source.is_dir() else 'is no file and no folder'}: give the folder of a study, or a "
            "CSV file of curves."
        )
    if study is None:
        report = _of_curves(curves, asked)
        place = curves.with_suffix("") if curves.suffix else curves.with_name(f"{curves.name}-report")
    elif anew:
        report = _judged_anew(study, found, curves, asked)
        place = source / _name_of(report)
    else:
        report, place = study, source
    target = place if output is None else Path(output)
    elsewhere = target.resolve() != source.resolve()
    if study is not None and anew and not elsewhere:
        raise ActiveLearningError(f"The study's own answer in {source} would be overwritten. Give another --output.")
    try:
        if study is not None and elsewhere and (source / "sheets").is_dir():
            shutil.copytree(source / "sheets", target / "sheets", dirs_exist_ok=True)
        page = report.save(target)
    except OSError as error:
        raise ActiveLearningError(f"The page cannot be written into {target} ({error}). Set another output.") from error
    except Exception as error:
        if report is not study:
            raise
        raise ActiveLearningError(
            f"{found} holds what no page can show ({type(error).__name__}: {error}). If it was changed by hand, undo "
            "that; else make it anew with the version of lightning-al that is installed."
        ) from error
    print(f"{report.headline}\nThe report: {page}")
    if study is not None and anew:
        print(f"The study's own answer, by {study.metric['name']}, stays in {source}: {study.verdict}.")
    return page


@contextmanager
def _telling(path: Path, advice: str = "") -> Iterator[None]:
    """Say of which file an error is."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ActiveLearningError(f"{path}: {error}{advice}") from error


def _read(path: Path) -> FeasibilityReport:
    curves = path.with_name("curves.csv")
    alone = f", or give {curves} alone" if curves.is_file() else ""
    with _telling(path, f" Run the study again, whose finished fits are kept{alone}."):
        return FeasibilityReport.from_json(path.read_text(encoding="utf-8"))


def _of_curves(curves: Path, asked: Mapping[str, Any]) -> FeasibilityReport:
    with _telling(curves):
        table = read_table(curves)
        return compare_curves(
            table,
            _only_metric(table) if asked["metric"] is None else asked["metric"],
            delta=asked["delta"],
            saving=0.1 if asked["saving"] is None else asked["saving"],
            higher_is_better=asked["higher_is_better"],
        )


def _only_metric(table: Table) -> str:
    found = metrics_in(table)
    if len(found) != 1:
        there = f"it may be one of {', '.join(found)}" if found else f"none of the columns {[*table]} can be one"
        raise ValueError(f"Which column is the metric? Say --metric NAME: {there}.")
    return found[0]


def _judged_anew(study: FeasibilityReport, found: Path, curves: Path, asked: Mapping[str, Any]) -> FeasibilityReport:
    """Judge a study's fits by what is asked, and where nothing is, by what the study was asked."""
    with _telling(found):
        own = _own(study)
    with _telling(curves):
        table = _whole_replicates(read_table(curves))
        metric = asked["metric"] or own["metric"]
        name = metric if metric in table else metric_name(metric)
        kept = own if name == own["metric"] else {**own, "metric": name, "delta": None, **_known(metric)}
        wanted = {key: asked[key] for key in ("delta", "saving", "higher_is_better") if asked[key] is not None}
        report = build_report(table, **{**kept, **wanted})
        of_curves = build_report(table, **own).notes
    report.settings = {**study.settings, **report.settings}
    report.data, report.pathology, report.failures = study.data, study.pathology, study.failures
    report.seconds, report.versions = study.seconds, {**study.versions, **report.versions}
    report.notes += [note for note in study.notes if note not in of_curves]
    report.notes.append(
        f"The study went by {own['metric']}, with {own['delta']:g} as the least gain and {100 * own['saving']:g} % as "
        f"the least saving worth while, and found: {study.headline} Its fits were judged anew for this page; what is "
        "asked once an answer is known proves less."
    )
    if study.confirm is not None:
        report.notes.append("The full model's confirmation is on the study's own page; this one is of the proxy alone.")
    return report


def _name_of(report: FeasibilityReport) -> str:
    """The folder of fits judged anew: what the answer goes by, so that no other answer has it, nor the study itself."""
    direction = "" if report.metric["higher_is_better"] else "-lower-is-better"
    bars = (f"{name}-{report.settings[name]!r}".removesuffix(".0") for name in ("delta", "saving"))
    return f"rejudged-{slug(report.metric['name'])}{direction}-{'-'.join(bars)}"


def _own(study: FeasibilityReport) -> dict[str, Any]:
    """What the study asked `build_report`."""
    prices = {name: study.settings.get(name) for name in ("label_cost", "hour_cost")}
    delta, saving, seed = (study.settings.get(name) for name in ("delta", "saving", "seed"))
    if delta is None or seed is None:
        raise ValueError("The study's feasibility.json has no `delta` or no `seed` under `settings`: run it again.")
    settings.check_amounts(delta=delta, **prices)
    settings.check_counts(0, seed=seed)
    return {
        "metric": study.metric["name"],
        "higher_is_better": study.metric["higher_is_better"],
        "scale": float(study.metric["scale"]),
        "delta": delta,
        "saving": settings.check_share("saving", saving),
        "seed": seed,
        "flags": [flag for flag in study.flags if flag in _KEPT_FLAGS],
        "settings": {"mode": str(study.settings.get("mode", "curves"))},
        **prices,
    }


def _known(metric: str) -> dict[str, Any]:
    """What torchmetrics says of a metric; None leaves it to the metric's name and values."""
    name, unknown = metric_name(metric), {"higher_is_better": None, "scale": None}
    if metric not in KNOWN and not name[:1].isupper():  # a column "val.score" is no reason to import "val"
        return unknown
    try:
        known = StudyMetrics([metric])
    except ValueError:
        return unknown
    scale = 100.0 if known.in_unit_interval(name) else 1.0
    return {"higher_is_better": known.higher_is_better(name), "scale": scale}


def _whole_replicates(table: Table) -> Table:
    """Leave out replicates that lack a fit, as the study does: a shorter curve would shorten the budget for all."""
    if not {"arm", "replicate", "round"} <= table.keys():
        return table
    names, parts = [name_of(replicate) for replicate in table["replicate"]], parts_of(table)
    fits: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for name, part, arm, round in zip(names, parts, table["arm"], table["round"], strict=True):
        if part == "simulation":
            fits[name].add((name_of(arm), name_of(round)))
    every = set().union(*fits.values())
    needed = set(product({arm for arm, _ in every}, {round for _, round in every}))
    return take(table, [row for row, part in enumerate(parts) if part != "simulation" or needed <= fits[names[row]]])
