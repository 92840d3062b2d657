"""The round loop in unusual company: kept optimizers, half-saved models, hands in the pool, resumes from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_al import ActiveLearning, ActiveLearningDataModule, Answers, DatasetOracle, Query
from lightning_al.exceptions import ResumeError
from lightning_al.ledger import Ledger
from lightning_al.run_folder import RunFolder
from tests._helpers.rounds_fixtures import Net, PointsData

pytestmark = pytest.mark.lightning_compat

QUIET: dict[str, Any] = {
    "max_epochs": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


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


@pytest.mark.parametrize("nothing", [{"max_epochs": 0}, {"max_steps": 0}, {"max_epochs": 1, "limit_train_batches": 0}])
def test_a_trainer_that_trains_nothing_is_refused(tmp_path: Path, nothing: dict[str, Any]) -> None:
    learning = ActiveLearning("Margin", query_size=4, rounds=2, dirpath=tmp_path / "run")
    trainer = Trainer(**nothing, accelerator="cpu", callbacks=[learning], logger=False, default_root_dir=tmp_path)
    with pytest.raises(MisconfigurationException, match=f"`{list(nothing)[-1]}=0` on the Trainer trains nothing"):
        trainer.fit(Net(), datamodule=ActiveLearningDataModule(PointsData(), initial=8))
    assert not (tmp_path / "run").exists()


def test_the_callback_shows_the_pool_of_plain_data(tmp_path: Path) -> None:
    learning = ActiveLearning("Random", query_size=4, rounds=2, initial=[5, 7, 9, 11], dirpath=tmp_path / "run")
    trainer = Trainer(accelerator="cpu", callbacks=[learning], default_root_dir=tmp_path, **QUIET)
    trainer.fit(Net(), PointsData().train_dataloader())
    assert learning.pool.labeled[:4].tolist() == [5, 7, 9, 11]
    assert len(learning.pool.labeled) == 8


class Dies(ActiveLearning):
    """Ends the process's work before the round after ``at`` is saved: its answers are in the ledger alone."""

    def __init__(self, *args: Any, at: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.at = at

    def end_round(self, trainer: Trainer) -> bool:
        if self.at == self.history[-1]["round"] + 1 if self.history else self.at == 0:
            raise KeyError("killed")
        return super().end_round(trainer)


def fit(folder: Path, model: Net, data: ActiveLearningDataModule, strategy: Any = "Random", **arguments: Any) -> Any:
    ckpt_path = arguments.pop("ckpt_path", None)
    kind = arguments.pop("kind", ActiveLearning)
    trainer_arguments = QUIET | arguments.pop("trainer", {})
    learning = kind(strategy, query_size=4, dirpath=folder / "run", **{"rounds": 4, **arguments})
    trainer = Trainer(accelerator="cpu", callbacks=[learning], default_root_dir=folder, **trainer_arguments)
    torch.manual_seed(3)
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return learning


def test_a_resumed_run_keeps_its_seed_whatever_the_new_process_says(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", Net(), ActiveLearningDataModule(PointsData(), initial=8, seed=0))
    cut = tmp_path / "cut"
    with pytest.raises(KeyError, match="killed"):
        fit(cut, Net(), ActiveLearningDataModule(PointsData(), initial=8, seed=0), kind=Dies, at=1)
    path = cut / "run" / "last-round.ckpt"
    resumed = fit(cut, Net(), ActiveLearningDataModule(PointsData(), initial=8, seed=5), ckpt_path=path)
    assert resumed.pool.labeled.tolist() == whole.pool.labeled.tolist()


class HalfSaved(Net):
    """Leaves its body out of checkpoints, as a model with a frozen backbone does."""

    def __init__(self) -> None:
        super().__init__()
        self.strict_loading = False
        self.body.requires_grad_(False)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return {name: value for name, value in super().state_dict(*args, **kwargs).items() if "body" not in name}


@pytest.mark.parametrize("reset", ["initial", "random"])
def test_a_model_that_saves_only_a_part_of_itself(tmp_path: Path, reset: Any) -> None:
    model = HalfSaved()
    body = model.body.weight.tolist()
    learning = fit(tmp_path, model, ActiveLearningDataModule(PointsData(), initial=8), "Margin", reset=reset)
    assert [row["labeled"] for row in learning.history] == [8, 12, 16, 20]
    if reset == "initial":
        assert model.body.weight.tolist() == body


@dataclass
class Recipe:
    name: str
    folder: Path


class HasRecipe(Net):
    def __init__(self, recipe: Recipe, folder: Path) -> None:
        super().__init__()
        self.save_hyperparameters()


def test_the_best_checkpoint_is_read_where_hyperparameters_are_of_the_users_own_types(tmp_path: Path) -> None:
    model = HasRecipe(Recipe("a", tmp_path), tmp_path)
    best = ModelCheckpoint(dirpath=tmp_path, monitor="val_loss")

    class WithBest(ActiveLearning):
        def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
            super().setup(trainer, pl_module, stage)

    learning = WithBest("Margin", query_size=4, rounds=3, dirpath=tmp_path / "run")
    quiet = QUIET | {"max_epochs": 2}
    trainer = Trainer(accelerator="cpu", callbacks=[learning, best], default_root_dir=tmp_path, **quiet)
    trainer.fit(model, datamodule=ActiveLearningDataModule(PointsData(), initial=8))
    assert [row["labeled"] for row in learning.history] == [8, 12, 16]


def test_what_was_labeled_and_rejected_by_hand_is_in_the_ledger_and_survives_a_resume(tmp_path: Path) -> None:
    def data() -> ActiveLearningDataModule:
        wrapped = ActiveLearningDataModule(PointsData(), initial=[0, 1, 2, 3])
        wrapped.setup("fit")
        return wrapped

    first = data()
    first.label([10, 11], [2, 1])
    first.reject([20, 21])
    with pytest.raises(KeyError, match="killed"):
        fit(tmp_path, Net(), first, kind=Dies, at=1)
    rows = Ledger(tmp_path / "run" / "ledger.csv").read()
    by_hand = {row.dataset_index: (row.label, row.rejected) for row in rows if row.dataset_index in (10, 11, 20, 21)}
    assert by_hand == {10: (2, False), 11: (1, False), 20: (None, True), 21: (None, True)}
    resumed = fit(tmp_path, Net(), data(), ckpt_path=tmp_path / "run" / "last-round.ckpt")
    assert resumed.pool.rejected.tolist() == [20, 21]
    assert resumed.pool.labeled[:6].tolist() == [0, 1, 2, 3, 10, 11]
    assert not {20, 21} & set(resumed.pool.labeled.tolist())


def test_a_cold_start_keeps_what_was_rejected_before(tmp_path: Path) -> None:
    data = ActiveLearningDataModule(PointsData(), initial=8)
    data.setup("fit")
    junk = data.pool.unlabeled[:3].tolist()
    data.reject(junk)
    learning = fit(tmp_path, Net(), data, "Random", initial_strategy="Random", rounds=11)
    assert learning.pool.rejected.tolist() == junk
    assert not set(junk) & set(learning.pool.labeled.tolist())


class DrawsRandomNumbers(DatasetOracle):
    def label(self, query: Query) -> Answers:
        torch.rand(7)
        return super().label(query)


def test_what_an_oracle_draws_does_not_reach_the_fit(tmp_path: Path) -> None:
    plain, drawing = Net(), Net()
    fit(tmp_path / "plain", plain, ActiveLearningDataModule(PointsData(), initial=8))
    fit(tmp_path / "drawing", drawing, ActiveLearningDataModule(PointsData(), initial=8), oracle=DrawsRandomNumbers())
    assert torch.equal(plain.head.weight, drawing.head.weight)


def test_a_run_without_checkpoints_is_not_replayed_under_another_strategy(tmp_path: Path) -> None:
    without = {"trainer": {"enable_checkpointing": False}}
    with pytest.raises(KeyError, match="killed"):
        fit(tmp_path, Net(), ActiveLearningDataModule(PointsData(), initial=8), "Margin", kind=Dies, at=1, **without)
    ledger = (tmp_path / "run" / "ledger.csv").read_bytes()
    with pytest.raises(ResumeError, match=r"unfinished run with strategy Margin\(\); this one has Random\(\)"):
        fit(tmp_path, Net(), ActiveLearningDataModule(PointsData(), initial=8), "Random", **without)
    assert (tmp_path / "run" / "ledger.csv").read_bytes() == ledger


def test_metrics_logged_before_a_resume_are_in_the_rounds_row(tmp_path: Path) -> None:
    class DiesInEpoch2(Net):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 2:
                raise KeyError("killed")

    limits = {"max_epochs": 3, "check_val_every_n_epoch": 2}

    def run_once(folder: Path, model: Net, ckpt_path: Path | None = None) -> Any:
        every = ModelCheckpoint(dirpath=folder, save_top_k=-1, filename="{epoch}", save_on_train_epoch_end=True)
        learning = ActiveLearning("Random", query_size=4, rounds=1, dirpath=folder / "run")
        trainer = Trainer(accelerator="cpu", callbacks=[learning, every], default_root_dir=folder, **QUIET | limits)
        torch.manual_seed(3)
        trainer.fit(model, datamodule=ActiveLearningDataModule(PointsData(), initial=8), ckpt_path=ckpt_path)
        return learning.history[0]["metrics"]

    whole = run_once(tmp_path / "whole", Net())
    with pytest.raises(KeyError, match="killed"):
        run_once(tmp_path / "cut", DiesInEpoch2())
    assert run_once(tmp_path / "cut", Net(), tmp_path / "cut" / "epoch=1.ckpt") == pytest.approx(whole)


class AwayAtFirst(DatasetOracle):
    """Answers nothing the first time it is asked."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def label(self, query: Query) -> Answers:
        self.asked.append(query.dataset_indices.tolist())
        return Answers(pending=self.asked[0]) if len(self.asked) == 1 else super().label(query)


def test_where_no_label_comes_back_the_run_ends_and_asks_for_the_same_ones_when_it_goes_on(tmp_path: Path) -> None:
    oracle = AwayAtFirst()
    waiting = fit(tmp_path, Net(), ActiveLearningDataModule(PointsData(), initial=8), oracle=oracle, rounds=3)
    assert [row["labeled"] for row in waiting.history] == [8]
    assert len(waiting.pool.pending) == 0
    assert RunFolder(tmp_path / "run").is_unfinished
    path = tmp_path / "run" / "last-round.ckpt"
    data = ActiveLearningDataModule(PointsData(), initial=8)
    resumed = fit(tmp_path, Net(), data, oracle=oracle, rounds=3, ckpt_path=path)
    assert [row["labeled"] for row in resumed.history] == [8, 12, 16]
    assert oracle.asked[0] == oracle.asked[1] == resumed.pool.labeled[8:12].tolist()


class WithoutForward(Net):
    forward = LightningModule.forward

    def loss(self, batch: Any) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self.head(torch.tanh(self.body(batch[0]))), batch[1])


def test_a_model_without_forward_is_refused_before_it_is_fitted(tmp_path: Path) -> None:
    model = WithoutForward()
    with pytest.raises(MisconfigurationException, match=r"WithoutForward has no `forward`.*query_step"):
        fit(tmp_path, model, ActiveLearningDataModule(PointsData(), initial=8), "Margin")
    assert model.seen == []
