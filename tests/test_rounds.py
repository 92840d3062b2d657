"""The round loop: what each round starts from, where a model makes its optimizer once and keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

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


@pytest.mark.parametrize("nothing", [{"max_epochs": 0}, {"max_epochs": 1, "limit_train_batches": 0}])
def test_a_trainer_that_trains_nothing_is_refused(tmp_path: Path, nothing: dict[str, Any]) -> None:
    learning = ActiveLearning("Margin", query_size=4, rounds=2, dirpath=tmp_path / "run")
    trainer = Trainer(**nothing, accelerator="cpu", callbacks=[learning], logger=False, default_root_dir=tmp_path)
    with pytest.raises(MisconfigurationException, match=f"`{list(nothing)[-1]}=0` on the Trainer trains nothing"):
        trainer.fit(Net(), datamodule=ActiveLearningDataModule(PointsData(), initial=8))
    assert not (tmp_path / "run").exists()


def test_the_callback_shows_the_pool_of_plain_data_and_its_seed_stands_beside_a_datamodule_without_one(
    tmp_path: Path,
) -> None:
    def fit(data: Any, **arguments: Any) -> ActiveLearning:
        learning = ActiveLearning("Random", query_size=4, rounds=2, seed=3, dirpath=tmp_path / "run", **arguments)
        quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(max_epochs=1, accelerator="cpu", callbacks=[learning], default_root_dir=tmp_path, **quiet)
        trainer.fit(Net(), **data)
        return learning

    plain = fit({"train_dataloaders": PointsData().train_dataloader()}, initial=[5, 7, 9, 11])
    wrapped = fit({"datamodule": ActiveLearningDataModule(PointsData(), initial=[5, 7, 9, 11])})
    assert plain.pool.labeled[:4].tolist() == [5, 7, 9, 11]
    assert plain.pool.labeled.tolist() == wrapped.pool.labeled.tolist()
    assert len(plain.pool.labeled) == 8
