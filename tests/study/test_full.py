"""Fits of the whole model: equal to plain ones, the same in any company, and without a trace."""

from __future__ import annotations

import copy
import functools
import json
import os
import pickle
import random
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, Dataset, Subset
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from lightning_al import ActiveLearning, ActiveLearningDataModule
from lightning_al.exceptions import ScoringError
from lightning_al.strategies import BADGE, CoreSet, Margin, Random
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy
from lightning_al.study.full import FullFitter
from lightning_al.study.full_data import class_indices
from lightning_al.study.metrics import StudyMetrics
from lightning_al.study.types import Fit, Request
from tests._helpers import processes, reference

PILOT, CLASSES = 40, 3


class Clouds(Dataset[tuple[Tensor, int]]):
    """Points of the plane in three clouds; with augmentation each reading is another one."""

    def __init__(self, size: int, seed: int, augmented: bool = False) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.targets = torch.arange(size) % CLASSES
        centers = torch.tensor([[0.0, 1.2], [-1.0, -0.6], [1.0, -0.6]])
        self.x = centers[self.targets] + 0.8 * torch.randn(size, 2, generator=generator)
        self.augmented = augmented
        self.own = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x = self.x[index]
        if self.augmented:
            noise = torch.randn(2) + random.random() + self.own.random() + np.random.rand()  # noqa: NPY002 - the global one is tested
            x = x + 0.2 * noise
        return x, int(self.targets[index])


class CloudsData(LightningDataModule):
    """40 points to train on, 24 to validate, 30 to test."""

    def __init__(self, augmented: bool = True, num_workers: int = 0) -> None:
        super().__init__()
        self.augmented, self.num_workers = augmented, num_workers
        self.log: tuple[str, ...] = ()

    def prepare_data(self) -> None:
        self.log = (*self.log, "prepare_data")

    def setup(self, stage: str) -> None:
        self.log = (*self.log, f"setup {stage}")
        self.train_set, self.val_set = Clouds(PILOT, 0, self.augmented), Clouds(24, 1)
        self.test_set = Clouds(30, 2)

    def teardown(self, stage: str) -> None:
        del self.train_set

    def pool_dataset(self) -> Clouds:
        return Clouds(PILOT, 0)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_set, batch_size=8, shuffle=True, num_workers=self.num_workers)

    def val_dataloader(self) -> Any:
        return DataLoader(self.val_set, batch_size=8)

    def test_dataloader(self) -> Any:
        return DataLoader(self.test_set, batch_size=8)


class Net(LightningModule):
    """Two layers with dropout and batch normalisation between them."""

    def __init__(self, lr: float = 0.05, one_cycle: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.body = nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.4))
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams["lr"], momentum=0.9)
        if not self.hparams["one_cycle"]:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.hparams["lr"], total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def plain_trainer(**more: Any) -> Trainer:
    given: dict[str, Any] = {"max_epochs": 3, "accelerator": "cpu", "devices": 1, "logger": False}
    off = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(**given | off | more)


def fitter(
    model: Any = Net, data: Any = None, trainer: Any = None, metrics: Sequence[Any] = ("accuracy", "f1"), **more: Any
) -> FullFitter:
    return FullFitter(
        model,
        CloudsData() if data is None else data,
        plain_trainer() if trainer is None else trainer,
        StudyMetrics(metrics),
        **more,
    )


def request(labeled: int = 16, seed: int = 7, arms: Sequence[QueryStrategy] = (), **more: Any) -> Request:
    order = np.random.default_rng(0).permutation(PILOT)
    return Request(order[:labeled], seed, {arm.name: arm for arm in arms}, 5 if arms else 0, **more)


def fit_one(made: FullFitter, asked: Request) -> Fit:
    (fit,) = made.fit_many([asked])
    return fit


def plain_fit(asked: Request, trainer: Trainer, model: Callable[[], Net] = Net) -> Net:
    """The same fit by hand."""
    data = CloudsData()
    data.setup("fit")
    seed_everything(asked.seed, workers=True, verbose=False)
    data.train_set.own = np.random.default_rng(asked.seed)
    fitted = model()
    loader = DataLoader(Subset(data.train_set, asked.labeled.tolist()), batch_size=8, shuffle=True)
    trainer.fit(fitted, loader, data.val_dataloader())
    return fitted.eval()


@torch.no_grad()
def probabilities(model: Net, x: Tensor) -> Tensor:
    return torch.cat([model(part).softmax(dim=1) for part in x.split(8)])


def as_values(fit: Fit) -> dict[str, Any]:
    """Everything that a fit says but times and memory, exactly."""
    values: dict[str, Any] = {"metrics": fit.metrics, "picked": fit.picked}
    if fit.observation is not None:
        seen = fit.observation
        values |= {name: getattr(seen, name).tolist() for name in ("embeddings", "confidence", "correct", "targets")}
    return values


# -- the fit
SETTINGS: dict[str, tuple[Callable[[], Net], Callable[[], Trainer]]] = {
    "plain": (Net, plain_trainer),
    "limits": (
        Net,
        lambda: plain_trainer(max_epochs=-1, max_steps=9, gradient_clip_val=0.1, accumulate_grad_batches=2),
    ),
    "schedule and early stopping": (
        lambda: Net(lr=0.3, one_cycle=True),
        lambda: plain_trainer(max_epochs=12, callbacks=[EarlyStopping("val_loss", patience=1)]),
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_equals_a_fit_by_hand(name: str) -> None:
    model, trainer = SETTINGS[name]
    asked = request(arms=[Margin()])
    fit = fit_one(fitter(model, trainer=trainer()), asked)
    by_hand = plain_fit(asked, trainer(), model)
    test, pilot = Clouds(30, 2), Clouds(PILOT, 0)
    probs = probabilities(by_hand, test.x)
    assert fit.metrics == {
        "accuracy": float(multiclass_accuracy(probs, test.targets, CLASSES, average="micro")),
        "f1": float(multiclass_f1_score(probs, test.targets, CLASSES, average="macro")),
    }
    rest = [i for i in range(PILOT) if i not in asked.labeled]
    best = reference.top_k(torch.tensor(reference.margin(probabilities(by_hand, pilot.x[rest]))), 5)
    assert fit.picked == {"Margin": [rest[position] for position in best]}


def test_tests_and_queries_with_the_best_checkpoint(tmp_path: Path) -> None:
    class Worse(Net):
        def on_validation_epoch_end(self) -> None:
            self.log("score", -float(self.current_epoch))

    checkpoint = ModelCheckpoint(dirpath=tmp_path / "user", monitor="score", mode="max", save_last=True, save_top_k=-1)
    trainer = plain_trainer(max_epochs=4, enable_checkpointing=True, callbacks=[checkpoint])
    asked = request(arms=[CoreSet()])
    best = fit_one(fitter(Worse, trainer=trainer), asked)
    first_epoch = fit_one(fitter(Worse, trainer=plain_trainer(max_epochs=1)), asked)
    last_epoch = fit_one(fitter(Worse, trainer=plain_trainer(max_epochs=4)), asked)
    assert as_values(best) == as_values(first_epoch)
    assert as_values(best) != as_values(last_epoch)
    assert list(tmp_path.iterdir()) == []


def everything() -> list[Request]:
    arms = [Random(), Margin(), CoreSet(), BADGE()]
    return [request(12, seed=3, arms=arms), request(PILOT, seed=4, observe=True), request(20, seed=3, arms=arms[:2])]


def _write_fits(path: str) -> None:
    warnings.simplefilter("ignore")
    torch.manual_seed(99)
    Path(path).write_text(json.dumps([as_values(fit) for fit in fitter().fit_many(everything()[::-1])]))


def test_same_request_same_answer(tmp_path: Path) -> None:
    made = fitter()
    together = [as_values(fit) for fit in made.fit_many(everything())]
    again = [as_values(fit) for fit in made.fit_many(everything()[::-1])][::-1]
    alone = [as_values(fit_one(fitter(), asked)) for asked in everything()]
    processes.run(tmp_path, _write_fits, str(tmp_path / "fits.json"))
    elsewhere = json.loads((tmp_path / "fits.json").read_text())[::-1]
    assert together == again == alone == elsewhere
    assert together[0]["picked"].keys() == {"Random", "Margin", "CoreSet", "BADGE"}


def test_a_copy_by_pickle_gives_the_same_answer() -> None:
    made = fitter()
    first = fit_one(made, request())
    copied = pickle.loads(pickle.dumps(made))
    assert as_values(fit_one(copied, request())) == as_values(first)
    assert copied.data.datamodule.log == ("setup fit", "setup test")  # no second download


def test_workers_and_a_loaders_own_generator_follow_the_seed() -> None:
    class OwnGenerator(CloudsData):
        generator = torch.Generator().manual_seed(0)

        def train_dataloader(self) -> DataLoader[Any]:
            new = torch.Generator().manual_seed(0) if self.num_workers else self.generator
            return DataLoader(self.train_set, batch_size=8, shuffle=True, generator=new, num_workers=self.num_workers)

    for data in (CloudsData(num_workers=1), OwnGenerator(), OwnGenerator(num_workers=1)):
        made = fitter(Net(), data, metrics=["accuracy", "calibration_error"])
        first, other, again = (as_values(fit) for fit in made.fit_many([request(seed=s) for s in (1, 2, 1)]))
        assert first == again
        assert first != other


def test_seeds_decide_the_weights_of_a_factory_only() -> None:
    still: Callable[[], Net] = lambda: Net(lr=0.0)  # noqa: E731 - a lambda is tested
    asked = [request(seed=1, observe=True), request(seed=2, observe=True)]
    made, copied = fitter(still), fitter(still())
    assert (made.model_is_factory, copied.model_is_factory) == (True, False)
    new, same = made.fit_many(asked), copied.fit_many(asked)
    heads = [[fit.observation.confidence[-1] for fit in fits if fit.observation] for fits in (new, same)]
    assert not np.allclose(heads[0][0], heads[0][1], atol=0.02)
    assert np.allclose(heads[1][0], heads[1][1], atol=0.02)  # batch statistics alone follow the order
    trained = fitter(Net()).fit_many([request(seed=1, observe=True), request(seed=2, observe=True)])
    assert as_values(trained[0]) != as_values(trained[1])


# -- the queries
def test_arms_that_share_a_pass_pick_as_each_alone() -> None:
    arms = [Random(), Margin(), CoreSet(), BADGE()]
    shared = fit_one(fitter(), request(arms=arms)).picked
    alone = {arm.name: fit_one(fitter(), request(arms=[arm])).picked[arm.name] for arm in arms}
    assert shared == alone
    assert all(len({*picks} - {*request().labeled.tolist()}) == 5 for picks in shared.values())


def test_core_set_starts_from_the_labeled_samples() -> None:
    asked = request(arms=[CoreSet()], observe=True)
    fit = fit_one(fitter(), asked)
    assert fit.observation is not None
    embeddings = torch.tensor(fit.observation.embeddings)
    rest = [i for i in range(PILOT) if i not in asked.labeled]
    picks = reference.k_center_greedy(embeddings[rest], 5, embeddings[asked.labeled])
    assert fit.picked == {"CoreSet": [rest[position] for position in picks]}


class Nosy(QueryStrategy):
    """Counts its queries, and fails where it sees what it does not need."""

    needs = Needs(pool=frozenset({"embeddings"}))

    def __init__(self) -> None:
        self.queries = 0

    def select(
        self,
        pool: Outputs,
        query_size: int,
        *,
        labeled: Outputs | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        self.queries += 1
        if pool.probs is not None or labeled is not None or pool.embeddings is None:
            raise AssertionError("Not what was asked for.")
        return torch.arange(query_size) + 2 * (self.queries - 1)


class Reader(QueryStrategy):
    """Reads all that a run can give; its picks tell whether it fits together."""

    needs = Needs(
        pool=frozenset({"probs", "samples", "embeddings", "head"}),
        labeled=frozenset({"targets", "embeddings"}),
        target=frozenset({"probs"}),
    )

    def select(self, pool: Outputs, query_size: int, *, labeled: Any = None, generator: Any = None, target: Any = None):
        torch.testing.assert_close(pool.head(pool.embeddings).softmax(-1), pool.probs)
        assert pool.samples.shape == (len(pool), 20, pool.probs.shape[1])
        assert target.probs.shape == pool.probs.shape
        return torch.tensor([int(labeled.targets.sum()) % 8, 8 + len(labeled) % 8])


def test_a_strategy_may_read_draws_the_head_labels_and_a_target_set() -> None:
    (fit,) = fitter().fit_many([replace(request(arms=[Reader()]), query_size=2)])
    labeled = request().labeled.tolist()
    data = CloudsData()
    targets = [int(data.pool_dataset()[i][1]) for i in labeled]
    rest = [i for i in range(PILOT) if i not in labeled]
    assert fit.picked["Reader"] == [rest[sum(targets) % 8], rest[8 + len(labeled) % 8]]


def test_strategies_see_what_they_need_and_keep_no_memory_from_request_to_request() -> None:
    nosy = Nosy()
    fits = fitter().fit_many([request(arms=[Margin(), nosy])] * 2)
    assert fits[0].picked["Nosy"] == fits[1].picked["Nosy"]
    assert nosy.queries == 0


def test_an_empty_rest_gives_no_picks() -> None:
    assert fit_one(fitter(), request(PILOT, arms=[Margin(), Random()])).picked == {"Margin": [], "Random": []}
    assert len(fit_one(fitter(), request(PILOT - 2, arms=[BADGE()])).picked["BADGE"]) == 2


# -- the observation
class Remember(Callback):
    """Keeps the model as it is after each epoch."""

    def __init__(self) -> None:
        self.models: list[Net] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.models.append(copy.deepcopy(pl_module).eval())


def test_observes_the_pilot_after_each_epoch() -> None:
    asked, remember = request(PILOT, observe=True), Remember()
    seen = fit_one(fitter(), asked).observation
    plain_fit(asked, plain_trainer(callbacks=[remember]))
    pilot = Clouds(PILOT, 0)
    probs = torch.stack([probabilities(model, pilot.x) for model in remember.models])
    assert seen is not None
    assert torch.equal(torch.tensor(seen.targets), pilot.targets)
    assert torch.equal(torch.tensor(seen.confidence), probs[:, torch.arange(PILOT), pilot.targets])
    assert torch.equal(torch.tensor(seen.correct), probs.argmax(dim=2) == pilot.targets)
    with torch.no_grad():
        expected = torch.cat([remember.models[-1].body(part) for part in pilot.x.split(8)])
    assert torch.equal(torch.tensor(seen.embeddings), expected)


class EpochTeller(Net):
    """Its probability of class 0 is a hundredth of the epochs it was trained for."""

    def __init__(self) -> None:
        super().__init__(lr=0.0)
        self.register_buffer("epochs", torch.zeros(()))

    def on_train_epoch_start(self) -> None:
        self.epochs += 1

    def forward(self, x: Tensor) -> Tensor:
        first = self.epochs.expand(len(x)) / 100
        second = (1 - first) / 2 + 0 * super().forward(x).sum(dim=1)
        return torch.stack([first, second, second], dim=1).log()


@pytest.mark.parametrize(
    ("limits", "epochs"),
    [
        ({"max_epochs": 20}, range(1, 21)),
        ({"max_epochs": 50}, range(3, 51, 3)),
        ({"max_epochs": -1, "max_steps": 50 * 5}, range(4, 51, 4)),  # 40 samples: five steps an epoch
        ({"max_epochs": 30, "max_steps": 5}, range(1, 2)),
    ],
)
def test_at_most_twenty_epochs_are_kept_evenly(limits: dict[str, int], epochs: range) -> None:
    seen = fit_one(fitter(EpochTeller, trainer=plain_trainer(**limits)), request(PILOT, observe=True)).observation
    assert seen is not None
    assert np.round(100 * seen.confidence[:, 0]).astype(int).tolist() == list(epochs)


# -- what is left behind
def test_nothing_of_the_caller_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    model, data, trainer = Net(), CloudsData(), plain_trainer(callbacks=[EarlyStopping("val_loss")])
    weights, before, callbacks = copy.deepcopy(model.state_dict()), dict(vars(data)), list(trainer.callbacks)
    fitter(model, data, trainer).fit_many([request(arms=[BADGE()]), request(PILOT, observe=True)])
    seed_everything(11, verbose=False)
    drawn = torch.rand(3).tolist(), random.random(), float(np.random.rand())  # noqa: NPY002 - the global one is tested
    seed_everything(11, verbose=False)
    fitter(model, data, trainer).fit_many([request()])
    assert (torch.rand(3).tolist(), random.random(), float(np.random.rand())) == drawn  # noqa: NPY002 - the global one is tested
    assert os.environ["PL_GLOBAL_SEED"] == "11"
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert vars(data) == before
    assert trainer.callbacks == callbacks
    assert trainer.state.fn is None
    assert trainer.global_step == 0
    assert trainer.callbacks[0].wait_count == 0
    assert all(module.training for module in model.modules())


def test_the_data_are_downloaded_and_set_up_once() -> None:
    made = fitter()
    made.check([Margin()])
    made.fit_many([request(), request(20)])
    assert made.data.datamodule.log == ("prepare_data", "setup fit", "setup test")


def test_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Writer(Callback):
        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            for folder in (trainer.default_root_dir, trainer.log_dir):
                (Path(str(folder)) / "written.txt").write_text("by a callback")

    class Logging(Net):
        def configure_callbacks(self) -> Any:
            return [ModelCheckpoint(dirpath=tmp_path / "the model's", monitor="train_loss")]

        def on_train_start(self) -> None:
            self.logger.experiment.add_text("note", "of a TensorBoard user")

    for name in ("here", "root", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=1,
        default_root_dir=tmp_path / "root",
        logger=CSVLogger(tmp_path / "logs"),
        profiler="simple",
        callbacks=[
            ActiveLearning("Margin", budget=30, dirpath=tmp_path / "run"),
            ModelCheckpoint(dirpath=tmp_path / "kept"),
            ModelCheckpoint(monitor="val_loss"),
            LearningRateMonitor(),
            Writer(),
        ],
    )
    fit = fit_one(fitter(Logging, trainer=trainer), request(arms=[Margin()]))
    assert len(fit.picked["Margin"]) == 5
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["here", "root", "temporary"]


def test_ctrl_c_stays_ctrl_c() -> None:
    class Interrupted(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fitter(Interrupted).fit_many([request()])
    assert signal.getsignal(signal.SIGINT) is before


# -- the data
def test_unwraps_an_active_learning_datamodule_with_its_pool_dataset() -> None:
    inner = CloudsData()
    inner.pool_dataset = None
    wrapped = ActiveLearningDataModule(inner, initial=3, pool_dataset=Clouds(PILOT, 0))
    asked = request(arms=[Margin(), CoreSet()])
    assert as_values(fit_one(fitter(data=wrapped), asked)) == as_values(fit_one(fitter(), asked))


def test_the_validation_set_stands_in_for_the_test_set() -> None:
    class NoTest(CloudsData):
        test_dataloader = LightningDataModule.test_dataloader

    class Bringing(Net):
        def configure_callbacks(self) -> Any:
            return EarlyStopping("val_loss")

    stopping = plain_trainer(callbacks=[EarlyStopping("val_loss")])
    on_train = plain_trainer(callbacks=[EarlyStopping("train_loss")])
    flags = [
        fitter(data=data(), trainer=trainer, model=model).test_used_for_selection
        for data, trainer, model in [
            (NoTest, stopping, Net),
            (NoTest, plain_trainer(), Bringing),
            (NoTest, on_train, Net),
            (CloudsData, stopping, Net),
        ]
    ]
    assert flags == [True, True, False, False]
    made = fitter(data=NoTest())
    fit = fit_one(made, request())
    probs = probabilities(plain_fit(request(), plain_trainer()), Clouds(24, 1).x)
    assert made.test_split == "val"
    assert fit.metrics["accuracy"] == float((probs.argmax(dim=1) == Clouds(24, 1).targets).float().mean())


class Scheduled(Net):
    """Has a schedule, described in one of the ways that Lightning knows.

    Args:
        described: Makes the return value of ``configure_optimizers`` from optimizer and schedule.
        kind: Makes the schedule.
    """

    def __init__(self, described: Callable[[Any, Any], Any], kind: Callable[[Any], Any] = ReduceLROnPlateau) -> None:
        super().__init__()
        self.described, self.kind = described, kind

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return self.described(optimizer, self.kind(optimizer))


def nested(optimizer: Any, schedule: Any) -> Any:
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val_loss"}}


def halving(optimizer: Any) -> Any:
    return StepLR(optimizer, 1, 0.5)


def needing_a_trainer(optimizer: Any) -> Any:
    raise RuntimeError("is not attached to a `Trainer`")


@pytest.mark.lightning_compat
@pytest.mark.parametrize(
    ("described", "kind", "steers"),
    [
        (nested, ReduceLROnPlateau, True),
        (lambda o, s: {"optimizer": o, "lr_scheduler": s, "monitor": "val_loss"}, ReduceLROnPlateau, True),
        (lambda o, s: ([o], [{"scheduler": s, "monitor": "val_loss"}]), ReduceLROnPlateau, True),
        (lambda o, s: [nested(o, s)], ReduceLROnPlateau, True),
        (lambda o, s: ([o], [{"scheduler": s, "monitor": "train_loss"}]), ReduceLROnPlateau, False),
        (nested, halving, False),  # Lightning does not look at its monitor
        (nested, needing_a_trainer, False),  # what it goes by is not known
        (lambda o, s: o, halving, False),
    ],
)
def test_a_schedule_that_goes_by_the_test_set_counts_too(described: Any, kind: Any, steers: bool) -> None:
    class NoTest(CloudsData):
        test_dataloader = LightningDataModule.test_dataloader

    asked = functools.partial(Scheduled, described, kind)
    assert fitter(asked, data=NoTest()).test_used_for_selection == steers
    assert not fitter(asked).test_used_for_selection
    if steers:  # it is what Lightning takes for a schedule by a metric
        trainer = plain_trainer(max_epochs=1)
        trainer.fit(asked(), datamodule=CloudsData())
        assert [config.monitor for config in trainer.lr_scheduler_configs] == ["val_loss"]


class SlowIO(TorchCheckpointIO):
    """Takes its time."""

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        time.sleep(0.3)
        super().save_checkpoint(*args, **kwargs)


@pytest.mark.lightning_compat
def test_checkpoints_that_are_written_in_the_background_are_waited_for(tmp_path: Path) -> None:
    def trainer(**more: Any) -> Trainer:
        checkpoint = ModelCheckpoint(dirpath=tmp_path, monitor="val_loss")
        return plain_trainer(max_epochs=2, enable_checkpointing=True, callbacks=[checkpoint], **more)

    # Lightning ends the plugin, which waits for the last file, before the hook that loads the best one.
    asked = request(arms=[Margin()])
    expected = as_values(fit_one(fitter(trainer=trainer()), asked))
    assert as_values(fit_one(fitter(trainer=trainer(plugins=[AsyncCheckpointIO(SlowIO())])), asked)) == expected
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "batch",
    [
        (torch.zeros(2, 3), torch.tensor([2, 0])),
        [torch.zeros(2, 3), torch.tensor([[2], [0]]), "more"],
        *({"x": torch.zeros(2, 3), key: torch.tensor([2.0, 0.0])} for key in ("label", "labels", "target", "targets")),
        {"x": torch.zeros(2, 3), "y": torch.tensor([2, 0], dtype=torch.uint8)},
    ],
)
def test_targets_of_a_batch(batch: Any) -> None:
    targets = class_indices(batch)
    assert targets.dtype == torch.int64
    assert targets.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.zeros(2, 3), r"a Tensor\. Let the datasets return tuples, \(x, label\), or dicts with a key 'label'"),
        ({"image": 1, "mask": 2}, r"a dict with \['image', 'mask'\]"),
        ((0, one_hot(torch.tensor([0, 1]))), r"got torch\.int64 \(2, 2\)"),
        ((0, torch.tensor([0.5, 1.0])), r"got torch\.float32 \(2,\)"),
        ((0, ["cat", "dog"]), "got a list"),
    ],
)
def test_refuses_targets(batch: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_indices(batch)


# -- what cannot work
class TwoTests(CloudsData):
    def test_dataloader(self) -> Any:
        return [super().test_dataloader(), super().test_dataloader()]


class NoHeldOut(CloudsData):
    val_dataloader = LightningDataModule.val_dataloader
    test_dataloader = LightningDataModule.test_dataloader


class Soft(CloudsData):
    def test_dataloader(self) -> Any:
        return DataLoader([(torch.zeros(2), torch.tensor([0.3, 0.7]))] * 4, batch_size=2)


class DropLast(CloudsData):
    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_set, batch_size=8, drop_last=True)


class Drawing(Nosy):
    needs = Needs(pool=frozenset({"targets"}))


class NoForward(Net):
    forward = LightningModule.forward


def used_trainer() -> Trainer:
    trainer = plain_trainer(max_epochs=1)
    data = CloudsData()
    data.setup("fit")
    trainer.fit(Net(), data.train_dataloader(), data.val_dataloader())
    return trainer


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "used trainer": ({"trainer": used_trainer}, "The Trainer was used already"),
    "devices": ({"trainer": lambda: plain_trainer(devices=2)}, "has 2 devices on 1 nodes.*set `devices=1`"),
    "launcher": ({"trainer": lambda: plain_trainer(strategy="ddp_spawn")}, "leave out `strategy=`"),
    "no epochs": ({"trainer": lambda: plain_trainer(max_epochs=0)}, "`max_epochs=0` on the Trainer trains nothing"),
    "no trainer": ({"trainer": lambda: 3}, "to make a lightning.pytorch.Trainer, but it made a builtins.int"),
    "no model": (
        {"model": lambda: nn.Linear(2, 3)},
        "to make a lightning.pytorch.LightningModule, but it made a torch",
    ),
    "no forward": ({"model": NoForward}, "NoForward has no `forward`"),
    "no layer": ({"embedding_layer": "haed"}, r"no layer 'haed'.*\['head'"),
    "test loaders": ({"data": TwoTests()}, "`test_dataloader` to give one loader, but got several"),
    "no test set": ({"data": NoHeldOut()}, "NoHeldOut has no `test_dataloader` and no `val_dataloader`"),
    "soft labels": ({"data": Soft()}, r"class indices \(B,\), integers, but got torch.float32 \(2, 2\)"),
    "drop_last": ({"data": DropLast()}, "leaves no batch to train on"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_check_refuses(name: str) -> None:
    given, message = REFUSED[name]
    with pytest.raises((MisconfigurationException, ValueError), match=message):
        fitter(**given).check([Margin()], fewest=7)


def test_check_refuses_strategies_and_models_that_share_weights() -> None:
    with pytest.raises(MisconfigurationException, match=r"Drawing needs \['targets'\] of the pool samples"):
        fitter().check([Drawing()])
    model = Net()
    with pytest.raises(MisconfigurationException, match=r"share the weights 'body\.0\.weight'.*model=lambda"):
        fitter(lambda: model).check([Margin()])
    fitter().check([Margin(), BADGE(), CoreSet(), Random()], fewest=7)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": 3}, "`model` to be a .* but got a int"),
        ({"trainer": 3}, "`trainer` to be a .* but got a builtins.int"),
        ({"data": 3}, "`datamodule` to be a .* but got a int"),
        ({"outputs": "scores"}, "`outputs` to be one of logits, .* but got 'scores'"),
    ],
)
def test_refuses_arguments(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fitter(**given)


def test_a_fit_that_diverges_is_named() -> None:
    with pytest.raises(FloatingPointError, match=r"NaN or infinite in epoch 0 of a fit on 16 labels with seed 7"):
        fitter(lambda: Net(lr=1e30)).fit_many([request()])


def test_outputs_that_are_not_finite_or_no_logits_are_named() -> None:
    class Broken(Net):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            return logits if self.training else logits * float("nan")

    class Labels(Net):
        def query_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self(batch[0]).argmax(dim=1)

    with pytest.raises(ValueError, match="probabilities of test sample 0 are not finite"):
        fitter(Broken).fit_many([request()])
    with pytest.raises(ScoringError, match=r"floating-point logits, but got torch\.int64"):
        fitter(Labels).fit_many([request()])
