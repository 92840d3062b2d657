"""The round loop: what each round starts from, where a model makes its optimizer once and keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from lightning_al import ActiveLearning, ActiveLearningDataModule
from tests._helpers.rounds_fixtures import Net, PointsData

pytestmark = pytest.mark.lightning_compat


class KeepsItsOptimizer(Net):
    """Returns the same optimizer and schedule each time, as LightningCLI's models do."""

    def __init__(self) -> None:
        super().__init__()
        self.optimizer = torch.optim.SGD(self.parameters(), lr=0.2, momentum=0.9)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=1, gamma=0.1)
        self.starts: list[tuple[float, int]] = []

    def configure_optimizers(self) -> Any:
        return {"optimizer": self.optimizer, "lr_scheduler": self.schedule}

    def on_train_start(self) -> None:
        self.starts.append((self.optimizer.param_groups[0]["lr"], len(self.optimizer.state)))


def run(model: Net, folder: Path, rounds: int, ckpt_path: Path | None = None) -> None:
    learning = ActiveLearning("Margin", query_size=4, rounds=rounds, dirpath=folder)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=2, accelerator="cpu", callbacks=[learning], default_root_dir=folder, **quiet)
    trainer.fit(model, datamodule=ActiveLearningDataModule(PointsData(), initial=8), ckpt_path=ckpt_path)


def test_a_kept_optimizer_starts_each_round_without_momentum_and_at_its_first_rate(tmp_path: Path) -> None:
    model = KeepsItsOptimizer()
    run(model, tmp_path, rounds=3)
    assert model.starts == [(0.2, 0), (0.2, 0), (0.2, 0)]


def test_a_kept_optimizer_starts_anew_after_a_resume_too(tmp_path: Path) -> None:
    run(KeepsItsOptimizer(), tmp_path, rounds=1)
    model = KeepsItsOptimizer()
    run(model, tmp_path, rounds=3, ckpt_path=tmp_path / "last-round.ckpt")
    assert model.starts == [(0.2, 0), (0.2, 0)]
