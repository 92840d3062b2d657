"""A strategy beside Random on paired seeds: what `python examples/tasks/TASK.py` prints."""

from __future__ import annotations

import argparse
import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer, seed_everything
from scipy import integrate, stats

import lightning_al
from lightning_al import ActiveLearning
from lightning_al.strategies.base import QueryStrategy


def fit(
    model: LightningModule, loaders: Sequence[Any], callback: ActiveLearning, epochs: int, folder: str
) -> list[dict[str, Any]]:
    """Run a whole loop.

    Args:
        model: A new model.
        loaders: The loaders of the training set and of the test set; nothing is selected on the latter.
        callback: The loop.
        epochs: Epochs of each round's fit; the test set is read once, after the last.
        folder: Where the run's folder goes.

    Returns:
        The callback's history, a row a round.
    """
    trainer = Trainer(
        max_epochs=epochs,
        check_val_every_n_epoch=epochs,
        num_sanity_val_steps=0,
        callbacks=[callback],
        default_root_dir=folder,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, *loaders)
    return callback.history


def curve(task: Mapping[str, Any], strategy: QueryStrategy, seed: int) -> tuple[list[int], list[float]]:
    """One run from a seed, which draws the first labels, the weights and the batches.

    Args:
        task: What a task's file holds as ``TASK``.
        strategy: The strategy.
        seed: The seed: two strategies with the same one start from the same labels and weights.

    Returns:
        The number of labels and the metric, of each round.
    """
    seed_everything(seed, verbose=False)
    callback = ActiveLearning(strategy, seed=seed, **task["loop"])
    with tempfile.TemporaryDirectory() as folder:
        history = fit(task["model"](), task["loaders"](), callback, task["epochs"], folder)
    return [row["labeled"] for row in history], [float(row["metrics"][task["metric"]]) for row in history]


def area(labels: Sequence[int], values: Sequence[float]) -> float:
    """The mean height of a learning curve: its area by trapezia over the range of labels."""
    return float(integrate.trapezoid(values, labels) / (labels[-1] - labels[0]))


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """The mean of paired differences and half the length of its 95 % t interval."""
    n = len(differences)
    half = stats.t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / math.sqrt(n) if n > 1 else math.inf
    return float(np.mean(differences)), float(half)


def main(task: Mapping[str, Any], argv: Sequence[str] | None = None) -> None:
    """Compare a strategy with Random and print the table.

    Args:
        task: What a task's file holds as ``TASK``.
        argv: The command line's words; None for those of the process.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--strategy", default=task["strategy"], help=f"its class's name (default: {task['strategy']})")
    parser.add_argument("--aggregate", help="mean, max, sum, or a share such as 0.1, of a score strategy")
    parser.add_argument("--seeds", type=int, default=5, help="paired runs (default: 5)")
    given = parser.parse_args(argv)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")

    arms: dict[str, Callable[[], QueryStrategy]] = {
        "Random": lightning_al.Random,
        given.strategy: lambda: _strategy(given.strategy, given.aggregate),
    }
    runs = {name: [curve(task, make(), seed) for seed in range(given.seeds)] for name, make in arms.items()}
    labels = runs["Random"][0][0]
    means = {name: np.mean([values for _, values in each], axis=0) for name, each in runs.items()}
    print(f"{'labels':>10}" + "".join(f"{name:>20}" for name in means) + f"   ({task['metric']}, {given.seeds} seeds)")
    for row, count in enumerate(labels):
        print(f"{count:>10}" + "".join(f"{column[row]:>20.3f}" for column in means.values()))
    areas = {name: [area(*each) for each in runs[name]] for name in runs}
    print(f"{'area':>10}" + "".join(f"{np.mean(each):>20.4f}" for each in areas.values()))
    mean, half = interval(np.subtract(areas[given.strategy], areas["Random"]).tolist())
    better = "lower" if task["lower_is_better"] else "higher"
    print(f"{given.strategy} - Random: {mean:+.4f}, 95 % interval {mean - half:+.4f} to {mean + half:+.4f}; "
          f"{better} is better")  # fmt: skip


def _strategy(name: str, aggregate: str | None) -> QueryStrategy:
    made: Callable[..., QueryStrategy] = getattr(lightning_al, name)
    if aggregate is None:
        return made()
    return made(aggregate=aggregate if aggregate.isalpha() else float(aggregate))
