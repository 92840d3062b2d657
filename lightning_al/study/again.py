"""The page once more: of a study's folder, or of learning curves that were made elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

from lightning_al.exceptions import ActiveLearningError
from lightning_al.study.compare import compare_curves
from lightning_al.study.report import FeasibilityReport


def make_report(
    source: Path,
    output: Path | None = None,
    metric: str | None = None,
    delta: float | None = None,
    saving: float | None = None,
) -> Path:
    """Make the page of a study, or of learning curves made elsewhere; nothing is trained.

    Args:
        source: A study's folder, or a CSV file of curves with the columns arm (the control is random), replicate,
            labels, and one a metric.
        output: The folder for the page; by default the study's own, or one beside the file.
        metric: What the verdict goes by. For a study's folder by default what it went by.
        delta: The least gain worth while: points for a metric in [0, 1] (0.5 by default), else in its own unit.
        saving: The least share of labels saved that is worth while, 0.1 by default.

    Returns:
        The path of the page.

    Raises:
        ActiveLearningError: There is no study and no such file, or the curves cannot be compared.
    """
    source = Path(source)
    found = source / "feasibility.json"
    if source.is_dir() and metric is None and found.is_file():
        target = source if output is None else Path(output)
        report = _read(found)
        if delta is not None or saving is not None:
            raise ActiveLearningError(
                f"{source} has its answer. Run the study again with other `delta` or `saving`: its fits are kept. Or "
                f"say --metric {report.metric['name']} too, and its curves alone are judged anew."
            )
        if target != source and (source / "sheets").is_dir():
            shutil.copytree(source / "sheets", target / "sheets", dirs_exist_ok=True)
    else:
        curves = source / "curves.csv" if source.is_dir() else source
        if not curves.is_file():
            hint = "has no curves.csv and no feasibility.json" if source.is_dir() else "is no file and no folder"
            raise ActiveLearningError(f"{source} {hint}: give the folder of a study, or a CSV file of curves.")
        if metric is None:
            raise ActiveLearningError(f"Which column of {curves} is the metric? Say --metric accuracy, for example.")
        target = Path(output) if output is not None else curves.with_suffix("")
        try:
            report = compare_curves(curves, metric, delta=delta, saving=0.1 if saving is None else saving)
        except ValueError as error:
            raise ActiveLearningError(f"{curves}: {error}") from error
    page = report.save(target)
    print(f"{report.headline}\nThe report: {page}")
    return page


def _read(path: Path) -> FeasibilityReport:
    try:
        return FeasibilityReport.from_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ActiveLearningError(f"{path}: {error}") from error
