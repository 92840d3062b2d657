"""What a run tells of its rounds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lightning_al import reporting
from lightning_al.pool import Pool
from lightning_al.reporting import Reporting, round_line, round_row
from lightning_al.run_folder import RunFolder


def row(**other: Any) -> dict[str, Any]:
    pool = Pool(2000)
    pool.label(range(60))
    pool.hold(other.pop("pending", []))
    pool.reject([70])
    return round_row(2, pool, {"val_acc": 0.8125, "loss": 1e-5}, 30.0) | other


def test_a_row_counts_the_pool() -> None:
    assert row(pending=[61, 62]) == {
        "round": 2,
        "labeled": 60,
        "unlabeled": 1937,
        "pending": 2,
        "rejected": 1,
        "metrics": {"val_acc": 0.8125, "loss": 1e-5},
        "seconds_fit": 30.0,
        "seconds_query": 0.0,
    }


def test_a_line_tells_of_pending_samples_where_there_are_any() -> None:
    rest = "  loss 1e-05  val_acc 0.8125  (fit 30.0 s, query 0.0 s)"
    assert round_line(row(), 0) == f"Round 2: 60 labeled, 1,939 unlabeled{rest}"
    assert round_line(row(pending=[61, 62]), 0) == f"Round 2: 60 labeled, 1,937 unlabeled, 2 pending{rest}"


@pytest.mark.parametrize(
    ("seconds", "left"),
    [(1.0, ""), (2.0, ", about 6 s left"), (29.0, ", about 87 s left"), (40.0, ", about 2 min left")],
)
def test_a_line_tells_how_long_the_rounds_left_may_take(seconds: float, left: str) -> None:
    line = round_line(row(seconds_fit=seconds), rounds_left=3)
    assert line.endswith(f"(fit {seconds} s, query 0.0 s{left})")


def test_a_cost_is_told_where_there_is_one() -> None:
    pool = Pool(10)
    assert round_row(0, pool, {}, 1.0, 1234.5)["cost"] == 1234.5
    assert round_line(row(cost=1234.5), 0).startswith("Round 2: 60 labeled, 1,939 unlabeled, cost 1,234.5  loss")


def test_figures_are_drawn_at_once_at_the_end_and_seldom_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, Path]] = []
    logged: list[Any] = []
    trainer: Any = SimpleNamespace(loggers=["logger"], global_step=7)
    monkeypatch.setattr(reporting, "learning_curve", lambda history, path, title: drawn.append((len(history), path)))
    monkeypatch.setattr(reporting, "log_run_images", lambda *told: logged.append(told))
    clock = iter([100.0, 100.0, 101.0, 131.0, 131.0, 132.0])
    monkeypatch.setattr(reporting.time, "monotonic", lambda: next(clock))
    told = Reporting(RunFolder(tmp_path), "Margin")
    for count, finished in ((1, False), (2, False), (3, False), (4, True)):
        told.write([row()] * count, trainer, finished=finished)
        assert len(RunFolder(tmp_path).read_rounds()) == count
    assert drawn == [(count, tmp_path / "metrics") for count in (1, 3, 4)]
    assert logged == [(["logger"], told.folder, [row()] * count, 7) for count in (1, 3, 4)]


def test_without_a_folder_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "learning_curve", None)
    trainer: Any = None
    Reporting(None, "Margin").write([row()], trainer, finished=True)
