"""From finished cells to the report: the table, the statistics, what the picks hold, and the pictures of them."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from lightning_al.exceptions import ActiveLearningError
from lightning_al.figures import MAX_TILES, contact_sheet
from lightning_al.study.cell_store import CellStore, Failure
from lightning_al.study.cells import OBSERVED, Cell
from lightning_al.study.compare import build_report
from lightning_al.study.design import CONTROL, Design, slug
from lightning_al.study.pathology import examine, spam_suspected
from lightning_al.study.reading import read_table
from lightning_al.study.report import FeasibilityReport
from lightning_al.study.table import picks_of, rows_of, write_rows
from lightning_al.study.types import Observation

OF_THE_DATA = ("spam_suspected",)
"""The flags that a proxy raises of the data themselves; all others speak of its heads or of its comparison."""

_PACKAGES = ("lightning-al", "lightning", "torch", "torchmetrics", "scikit-learn")

Preview = Callable[[int], Any]


def conclude(
    store: CellStore,
    design: Design,
    *,
    failures: Sequence[Failure] = (),
    flags: Sequence[str] = (),
    preview: Preview | None = None,
    **asked: Any,
) -> FeasibilityReport:
    """Turn the cells of a study into its report, and write ``curves.csv`` and the contact sheets beside them.

    Args:
        store: The finished cells.
        design: The plan that they belong to.
        failures: The tasks that failed.
        flags: Flags raised elsewhere.
        preview: Gives a sample of the pilot by its position, for the contact sheets; None: no sheets.
        asked: The remaining arguments of ``build_report``.

    Returns:
        The report.

    Raises:
        ActiveLearningError: Too much failed for a comparison.
    """
    cells = cells_of(store, design)
    if cells and all(cell["metrics"].get(asked["metric"]) is None for cell in cells):
        raise ActiveLearningError(
            f"No fit has a value of {asked['metric']!r}: it has no meaning on this test set (a class that it needs may "
            "be missing). Set another `metric`; the fits are kept."
        )
    rows = rows_of(cells, design)
    write_rows(rows, store.folder / "curves.csv")
    picks = picks_of(cells, design)
    arrays = store.read_arrays(OBSERVED) if store.has(OBSERVED) else {}
    pathology = examine(Observation(**arrays), picks, design.seed) if arrays else None
    if pathology is not None:
        if spam_suspected(pathology):
            flags = [*flags, "spam_suspected"]
        if preview is not None:
            _draw_sheets(pathology, cells, preview, store.folder)
    broken = [r for r in range(design.replicates) if not _is_whole(cells, design, r)]
    kept = [row for row in rows if row["part"] != "simulation" or row["replicate"] not in broken]
    try:
        report = build_report(read_table(kept), flags=flags, seed=design.seed, **asked)
    except ValueError as error:
        if not failures:
            raise
        told = "; ".join(f"{failure.key}: {failure.error}" for failure in failures[:3])
        raise ActiveLearningError(
            f"{len(failures)} tasks of the study failed, and without them nothing can be compared ({error}) First of "
            f"them: {told}. Mend the cause and run the study again: what is finished is kept."
        ) from error
    report.pathology = pathology
    if broken:
        named = ", ".join(map(str, broken))
        report.notes.append(f"Replicates that lack a fit were left out, with all of their arms: {named}.")
    if arrays:
        classes, counts = np.unique(arrays["targets"], return_counts=True)
        alone = classes[counts == 1].tolist()
        if alone:
            report.notes.append(
                f"Class{'es' * (len(alone) > 1)} {', '.join(map(str, alone))} {'have' if len(alone) > 1 else 'has'} a "
                "single sample in the pilot: no strategy can show what it would find of them."
            )
    report.failures = [
        {"key": failure.key, "error": failure.error, "attempts": failure.attempts} for failure in failures
    ]
    report.seconds = {
        "fit": sum(cell["seconds_fit"] for cell in cells),
        "predict": sum(cell["seconds_predict"] for cell in cells),
        "query": sum(seconds for cell in cells for seconds in cell["seconds_query"].values()),
    }
    report.versions = {"python": platform.python_version(), **report.versions, **{p: version(p) for p in _PACKAGES}}
    return report


def _is_whole(cells: Sequence[Cell], design: Design, replicate: int) -> bool:
    """Whether every arm of a replicate has every round: a shorter curve would shorten the budget for all."""
    found = {cell["key"] for cell in cells if cell["part"] == "simulation" and cell["replicate"] == replicate}
    return len(found) == 1 + (1 + len(design.arms)) * design.rounds


def cells_of(store: CellStore, design: Design) -> list[Cell]:
    """The finished cells of a study; its folder may hold more replicates, from an earlier and larger one."""
    found = [cell for cell in map(store.read, store.keys()) if cell is not None and "part" in cell]
    return [cell for cell in found if cell["part"] == "design" or cell["replicate"] < design.replicates]


def confirmed(report: FeasibilityReport, full: FeasibilityReport) -> FeasibilityReport:
    """Let the full model's comparison decide over the proxy's, and keep both.

    Args:
        report: The proxy's.
        full: Of random and the proxy's best arm, with the full model.

    Returns:
        The proxy's report with the full model's verdict, and its comparison as ``confirm``, with what failed in it and
        what there is to note of it. Of the proxy's flags those of the data stay.
    """
    kept = ("verdict", "headline", "reasons", "flags", "strategies", "replicates", "exploratory", "required_R")
    more = ("winner", "target", "room", "curves", "cost", "failures", "notes", "seconds", "seeds", "advice")
    report.confirm = {name: getattr(full, name) for name in (*kept, *more)}
    before = report.verdict.replace("_", " ")
    report.reasons = [*full.reasons, f"The proxy's linear heads had said {before}: {report.headline}"]
    of_the_data = [flag for flag in report.flags if flag in OF_THE_DATA]
    report.flags = list(dict.fromkeys([*full.flags, *of_the_data]))
    report.verdict, report.headline, report.advice = full.verdict, full.headline, full.advice
    report.required_R, report.winner = full.required_R, full.winner
    report.seeds = {**report.seeds, "confirm": full.seeds.get("seed")}
    return report


def notes_on(mode: str, *, own_weights: bool) -> list[str]:
    """What the reader should know of how the fits were made.

    Args:
        mode: ``"full"`` or ``"proxy"``.
        own_weights: Whether each fit began with weights of its own.
    """
    if mode == "proxy":
        return [
            "This is a proxy: linear heads on frozen embeddings stand for your model. They have no training noise, so "
            "how much of the spread is training noise is not measured; seconds and hours are the heads' too."
        ]
    if own_weights:
        return []
    return [
        "Every fit began with the same weights, since a model was given and no function that makes one: training seeds "
        "vary the order, dropout and augmentation only."
    ]


def _draw_sheets(
    pathology: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], preview: Preview, folder: Path
) -> None:
    """Draw what each arm asked for first, in the first replicate, where samples are images."""
    first = next((cell for cell in cells if cell["key"] == "start-r00"), None)
    if first is None:
        return
    (folder / "sheets").mkdir(exist_ok=True)
    for arm in pathology["by_strategy"]:
        asked = first["picked"].get(arm["name"], [])[:MAX_TILES]
        name = "Random labels" if arm["name"] == CONTROL else f"{arm['name']} asked for these first"
        path = folder / "sheets" / f"{slug(arm['name'])}.png"
        samples = [preview(position) for position in asked]
        drawn = contact_sheet(samples, [f"#{position}" for position in asked], path, f"{name} (replicate 1)")
        arm["sheet"] = f"sheets/{path.name}" if drawn else None
