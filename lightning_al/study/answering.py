"""A study from its first fit to its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from lightning_al.study.asked import Asked
from lightning_al.study.cell_store import CellStore, Failure
from lightning_al.study.cells import Work
from lightning_al.study.design import Design, slug
from lightning_al.study.evidence import cells_of, conclude, confirmed, notes_on
from lightning_al.study.full import FullFitter
from lightning_al.study.kept_embeddings import proxy_of
from lightning_al.study.plan import fits_left, plan_of
from lightning_al.study.progress import progress
from lightning_al.study.report import FeasibilityReport
from lightning_al.study.setting_up import what_decides
from lightning_al.study.subject import backbone_name, description_of
from lightning_al.study.types import Fitter, Task


def fitter_of(asked: Asked, subject: FullFitter, store: CellStore | None) -> Fitter:
    """What makes the fits: the whole model, or linear heads.

    Args:
        asked: What the study was asked.
        subject: The whole model.
        store: Keeps a proxy's embeddings; None does not.

    Returns:
        The fitter.
    """
    return subject if asked.mode == "full" else proxy_of(subject, asked.backbone, asked.strategies.values(), store)


def say_time(asked: Asked, design: Design, fitter: Fitter) -> None:
    """Tell the plan with the time that it may take, from a trial fit."""
    for seed in (design.seed, design.seed + 1):  # one may fail by its seed, as a cell may
        try:
            trial = replace(design, seed=seed)
            plan = plan_of(trial, asked.mode, asked.runner.side_by_side, fitter, asked.strategies)
        except Exception as error:
            failed = error
        else:
            rank_zero_info(f"{plan}\n{plan.hint}".rstrip())
            return
    rank_zero_warn(
        "Two trial fits failed, so how long the study takes is not known. It goes on: a fit that fails is tried "
        f"once more and then left out. A dry run shows where it fails. {type(failed).__name__}: {failed}"
    )


def make_fits(asked: Asked, store: CellStore, work: Work, tasks: Sequence[Task], title: str = "Study") -> list[Failure]:
    """Make the fits that the store lacks.

    Args:
        asked: Holds the runner.
        store: The finished cells.
        work: Runs a task.
        tasks: The tasks.
        title: Of the progress.

    Returns:
        The tasks that failed.
    """
    left = fits_left(work.design, tasks, cells_of(store, work.design))
    with progress(title, *left) as told:
        return asked.runner.run(tasks, work, store, progress=lambda task, key, cell: told(1, cell["labels"]))


def confirm_by_full_model(
    asked: Asked, subject: FullFitter, report: FeasibilityReport, design: Design
) -> FeasibilityReport:
    """Run random and the proxy's best arm with the full model, and let them decide.

    Args:
        asked: What the study was asked.
        subject: The full model.
        report: The proxy's.
        design: Its plan.

    Returns:
        The report, in which the full model decides.
    """
    best = report.winner or max(report.strategies, key=lambda arm: (arm["delta"], arm["name"]))["name"]
    deciding = design.confirming(best)
    tasks = [task for task in deciding.tasks(batched=False) if task.part != "design"]
    settings_of_full = {**what_decides(asked, subject, deciding), "mode": "full", "backbone": None, "confirms": best}
    with CellStore(asked.output / "confirm" / slug(best)).opened(settings_of_full) as store:
        work = Work(deciding, subject, {best: asked.strategies[best]})
        failures = make_fits(asked, store, work, tasks, f"Confirming {best} with the full model")
        full = report_of(asked, store, deciding, subject, failures, mode="full")
    return confirmed(report, full)


def report_of(
    asked: Asked,
    store: CellStore,
    design: Design,
    subject: FullFitter,
    failures: Sequence[Failure],
    mode: str | None = None,
) -> FeasibilityReport:
    """What the finished cells of a study tell.

    Args:
        asked: What it was asked.
        store: The cells.
        design: The plan that they belong to.
        subject: What was studied.
        failures: The tasks that failed.
        mode: What made the fits; None: as asked.

    Returns:
        The report.

    Raises:
        ActiveLearningError: Too much failed for a comparison.
    """
    mode = mode or asked.mode
    report = conclude(
        store,
        design,
        failures=failures,
        flags=["test_used_for_selection"] * subject.test_used_for_selection,
        preview=subject.data.preview,
        metric=asked.metric,
        delta=asked.delta,
        saving=asked.saving,
        higher_is_better=asked.metrics.higher_is_better(asked.metric),
        scale=100.0 if asked.metrics.in_unit_interval(asked.metric) else 1.0,
        label_cost=asked.label_cost,
        hour_cost=asked.hour_cost,
        settings={
            "mode": mode,
            "backbone": backbone_name(asked.backbone),
            "buckets": design.buckets,
            "fractions": list(design.fractions),
            "seeds": design.seeds,
            "outputs": subject.outputs,
        },
    )
    report.data = description_of(subject.data)
    report.notes += notes_on(mode, own_weights=subject.model_is_factory)
    return report
