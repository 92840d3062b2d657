"""``lightning-al report``: the page of a run, of a study, or of learning curves made elsewhere, by what is there."""

from __future__ import annotations

from pathlib import Path

from lightning_al.exceptions import ActiveLearningError, RunFolderError
from lightning_al.run_folder import RunFolder
from lightning_al.study import make_report as make_study_report


def make_report(
    source: Path,
    output: Path | None = None,
    metric: str | None = None,
    delta: float | None = None,
    saving: float | None = None,
    higher_is_better: bool | None = None,
) -> Path:
    """Make the page of a run, of a study, or of learning curves made elsewhere; nothing is trained.

    Of a run, also while it is on: how far it is, its learning curves, what it asked for and what was answered. Of a
    study, with no more than its folder, its page is made once more; with another metric or bar besides, the study's
    fits are judged anew, and the study's own answer stays as it is.

    Args:
        source: A run's folder (active_learning, say), a study's folder, or a CSV file of curves with the columns arm
            (the control is random), replicate, labels, and one a metric.
        output: The folder for the page. By default the run's or the study's own, the metric's in it where fits are
            judged anew, or one beside the file.
        metric: Of a run, the metric that goes first. Of a study, what the verdict goes by: by default what the study
            went by, or the only metric of the file.
        delta: The least gain worth while: points for a metric in [0, 1] (0.5 by default), else in its own unit. By
            default the study's where its metric is kept. Not for a run.
        saving: The least share of labels saved that is worth while. By default the study's, else 0.1. Not for a run.
        higher_is_better: Direction of the metric. By default the study's where its metric is kept, else what the
            metric's name or torchmetrics says.

    Returns:
        The path of the page.

    Raises:
        ActiveLearningError: There is no run, no study and no such file, it cannot be read or compared, or the page
            cannot be written.
    """
    source = Path(source)
    if not _is_run(source):
        return make_study_report(source, output, metric, delta, saving, higher_is_better)
    for name, value in (("delta", delta), ("saving", saving)):
        if value is not None:
            raise ActiveLearningError(
                f"`--{name} {value}` is the bar of a study, and {source} is the folder of a run, which has no verdict: "
                "leave it out."
            )
    return make_run_report(source, output, metric, higher_is_better)


def make_run_report(
    run_dir: str | Path,
    output: str | Path | None = None,
    metric: str | None = None,
    higher_is_better: bool | None = None,
) -> Path:
    """Make the page of a run, finished or not; also while it is on.

    Args:
        run_dir: The run's folder.
        output: The folder for ``index.html``. By default the run's own.
        metric: The metric that goes first. By default one of validation or testing that rises, where there is one.
        higher_is_better: Its direction. By default as its name says.

    Returns:
        The path of the page.

    Raises:
        ActiveLearningError: There is no run in the folder, it was changed, it did not log the metric, or the page
            cannot be written.
    """
    # Here: other commands need neither matplotlib nor jinja2.
    from lightning_al.run_report import read_run, write_run_page

    target = Path(run_dir if output is None else output)
    try:
        left = read_run(run_dir)
        page, words = write_run_page(left, target, metric, higher_is_better)
    except OSError as error:
        raise ActiveLearningError(f"The page cannot be written into {target} ({error}). Set another output.") from error
    except ActiveLearningError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunFolderError(
            f"{run_dir} holds what no page can show ({type(error).__name__}: {error}). If run.json was changed by "
            "hand, undo that."
        ) from error
    print(f"{words}\nThe report: {page}")
    return page


def _is_run(source: Path) -> bool:
    """Whether a folder is a run's, or has a run's inside and nothing of a study: then the error names that one."""
    if not source.is_dir():
        return False
    of_study = any((source / name).exists() for name in ("feasibility.json", "curves.csv"))
    return RunFolder(source).run_json.exists() or (
        not of_study and any(RunFolder(each).exists for each in (source, source / "active_learning"))
    )
