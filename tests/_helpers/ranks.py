"""The run on several processes, and what each rank reports of it; ``python -m tests._helpers.ranks`` is a script."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor

from lightning_al import ActiveLearning, ActiveLearningDataModule
from tests._helpers import runs
from tests._helpers.moments import draw_nothing


class Frozen(runs.DropoutMLP):
    """Never learns: its scores, and so the picks, do not depend on how many processes train it."""

    def __init__(self) -> None:
        super().__init__()
        self.learning_rate = 0.0


class Breaking(runs.DropoutMLP):
    """Raises on one rank in the second query, or on all in training."""

    def __init__(self, in_query_of_rank: int | None = None, at_step: int | None = None) -> None:
        super().__init__()
        self.in_query_of_rank, self.at_step = in_query_of_rank, at_step

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, or raise."""
        trainer = self.trainer
        if trainer.predicting and trainer.datamodule.pool.round == 1 and trainer.global_rank == self.in_query_of_rank:
            raise RuntimeError(f"broken on rank {trainer.global_rank}")
        return super().forward(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss, or raise."""
        if self.global_step == self.at_step:
            raise RuntimeError("broken in training")
        torch.rand(1 + self.global_rank)  # the ranks' random states part
        return super().training_step(batch, batch_idx)


class Watched(ActiveLearningDataModule):
    """Remembers which samples this rank was given to score, a list a pass."""

    def scoring_dataloader(self, indices: Tensor, dataset: Any = None) -> Any:
        """Note the samples."""
        self.__dict__.setdefault("passes", []).append(indices.tolist())
        return super().scoring_dataloader(indices, dataset)


class Report(Callback):
    """Lets each rank write what it knows at the end."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Draw no figures on this rank."""
        torch.set_num_threads(1)
        draw_nothing()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the report."""
        callback = next(c for c in trainer.callbacks if isinstance(c, ActiveLearning))
        write_report(f"rank-{trainer.global_rank}", callback, trainer.datamodule)


def write_report(name: str, callback: ActiveLearning, data: ActiveLearningDataModule) -> None:
    """Write what a process knows to ``<name>.json``."""
    known = {
        "pid": os.getpid(),
        "history": callback.history,
        "pool": data.pool.digest(),
        "labeled": data.pool.labeled.tolist(),
        "passes": vars(data).get("passes", []),
    }
    Path(f"{name}.json").write_text(json.dumps(known))


def read_report(folder: Path, name: str) -> dict[str, Any]:
    """What a process wrote."""
    report: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return report


def fit(
    strategy: str = "Margin",
    size: int = 201,
    *,
    devices: int = 2,
    launch: str = "ddp",
    model: Callable[[], LightningModule] = Frozen,
    ckpt_path: Path | None = None,
    seed: int = runs.SEED,
    rounds: int = 3,
    control_fraction: float = 0.0,
) -> tuple[ActiveLearning, ActiveLearningDataModule]:
    """The run on this rank, or on all where the launcher starts them."""
    seed_everything(seed, verbose=False)  # the model's weights are drawn here
    data = Watched(runs.FewDigits(size), initial=30)
    _, callback, _ = runs.fit(
        runs.active_learning(strategy=strategy, rounds=rounds, control_fraction=control_fraction),
        model=model(),
        data=data,
        callbacks=[Report()],
        devices=devices,
        strategy=launch if devices > 1 else "auto",
        ckpt_path=ckpt_path,
        seed=seed,
        max_epochs=1,
    )
    return callback, data


def fit_rank(arguments: dict[str, Any], model_arguments: dict[str, Any] | None = None) -> None:
    """As :func:`fit`, in a process of its own."""
    fit(**arguments, model=Frozen if model_arguments is None else partial(Breaking, **model_arguments))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--launch", default="ddp")
    parser.add_argument("--strategy", default="Margin")
    given = parser.parse_args()
    callback, data = fit(given.strategy, launch=given.launch)
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        write_report("script", callback, data)
