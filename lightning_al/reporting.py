"""What a run tells of its rounds: a line, a row of rounds.csv, a figure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer

from lightning_al.figures import learning_curve
from lightning_al.labeling import telling_of_failures
from lightning_al.logged_images import log_run_images
from lightning_al.pool import Pool
from lightning_al.run_folder import RunFolder

_SECONDS_BETWEEN_FIGURES = 30.0
"""Half a second a drawing: often enough to look at, too rarely to slow quick rounds down."""


class Reporting:
    """Writes a run's history and its figure; on one process only.

    Args:
        folder: The run's folder; None writes nothing.
        strategy: The name of the strategy, for the figure's title.
    """

    def __init__(self, folder: RunFolder | None, strategy: str) -> None:
        self.folder, self.strategy = folder, strategy
        self._drawn = float("-inf")

    def write(self, history: Sequence[dict[str, Any]], trainer: Trainer, *, finished: bool) -> None:
        """Write rounds.csv; at the end and now and then before, draw the curve and show loggers the pictures."""
        if self.folder is None:
            return
        self.folder.write_rounds(history)
        if finished or time.monotonic() - self._drawn > _SECONDS_BETWEEN_FIGURES:
            with telling_of_failures("the learning curve"):
                learning_curve(history, self.folder.path / "metrics", f"{self.strategy}: metrics against labels")
                log_run_images(trainer.loggers, self.folder, history, trainer.global_step)
            self._drawn = time.monotonic()


def logged_metrics(trainer: Trainer) -> dict[str, float]:
    """The metrics logged last, but for ``round`` and ``labeled``, which the history has as counts."""
    metrics = trainer.callback_metrics
    return {k: float(v) for k, v in metrics.items() if v.numel() == 1 and k not in ("round", "labeled")}


def round_row(
    round: int, pool: Pool, metrics: dict[str, float], seconds_fit: float, cost: float | None = None
) -> dict[str, Any]:
    """A round's row of the history, before its query; ``cost`` is what was spent so far, where samples have a cost."""
    row = {
        "round": round,
        "labeled": len(pool.labeled),
        "unlabeled": pool.num_unlabeled,
        "pending": len(pool.pending),
        "rejected": len(pool.rejected),
        "metrics": metrics,
        "seconds_fit": seconds_fit,
        "seconds_query": 0.0,
    }
    return row if cost is None else {**row, "cost": cost}


def round_line(row: dict[str, Any], rounds_left: int) -> str:
    """A round in one line, with the time that the rounds left may take.

    Example:
        >>> row = {"round": 2, "labeled": 60, "unlabeled": 938, "pending": 2, "metrics": {"val_acc": 0.81}}
        >>> round_line(row | {"seconds_fit": 30.0, "seconds_query": 2.0}, rounds_left=4)
        'Round 2: 60 labeled, 938 unlabeled, 2 pending  val_acc 0.81  (fit 30.0 s, query 2.0 s, about 2 min left)'
    """
    counts = f"{row['labeled']:,} labeled, {row['unlabeled']:,} unlabeled"
    pending = f", {row['pending']:,} pending" if row["pending"] else ""
    cost = f", cost {row['cost']:,.6g}" if "cost" in row else ""
    metrics = "  ".join(f"{name} {value:.4g}" for name, value in sorted(row["metrics"].items()))
    seconds = rounds_left * (row["seconds_fit"] + row["seconds_query"])
    left = f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"
    spent = f"fit {row['seconds_fit']:.1f} s, query {row['seconds_query']:.1f} s{left if seconds >= 5 else ''}"
    return f"Round {row['round']}: {counts}{pending}{cost}  {metrics}  ({spent})"
