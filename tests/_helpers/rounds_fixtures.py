"""A classification problem of 48 points, fitted in milliseconds, and a callback that notes how each round began."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from lightning_al import ActiveLearning, ActiveLearningDataModule
from lightning_al.oracles import Answers, DatasetOracle, Query

POOL_SIZE = 48
NUM_CLASSES = 3


class Points(Dataset[tuple[Tensor, int, int]]):
    """Points of the plane in three overlapping clouds; an item is the point, its class, its index."""

    def __init__(self, size: int = POOL_SIZE, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.targets = torch.arange(size) % NUM_CLASSES
        centers = torch.tensor([[0.0, 1.2], [-1.0, -0.6], [1.0, -0.6]])
        self.x = centers[self.targets] + torch.randn(size, 2, generator=generator)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        return self.x[index], int(self.targets[index]), index


class PointsData(LightningDataModule):
    """48 points to train on, 24 to validate, 24 to test."""

    def __init__(self, batch_size: int = 4, num_workers: int = 0, shuffle: bool = True) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.shuffle = shuffle
        self.train_set, self.val_set, self.test_set = Points(), Points(24, seed=1), Points(24, seed=2)

    def _loader(self, dataset: Points, shuffle: bool = False) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            shuffle=shuffle,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.train_set, self.shuffle)

    def val_dataloader(self) -> Any:
        return self._loader(self.val_set)

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.test_set)

    def predict_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.test_set)


class Net(LightningModule):
    """Two linear layers with momentum SGD; notes the dataset indices of each training batch."""

    def __init__(self, lr: float = 0.2) -> None:
        super().__init__()
        self.lr = lr
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.body = nn.Linear(2, 8)
            self.head = nn.Linear(8, NUM_CLASSES)
        self.seen: list[list[int]] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(x)))

    def loss(self, batch: Any) -> Tensor:
        return cross_entropy(self(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen.append(batch[2].tolist())
        loss = self.loss(batch)
        self.log("train_loss", loss, batch_size=len(batch[1]))
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_loss", self.loss(batch), batch_size=len(batch[1]))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", self.loss(batch), batch_size=len(batch[1]))

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch[0]).argmax(dim=-1)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


class ScriptedNet(Net):
    """Logs ``score`` after each validation: ``script[round][epoch]``, the last value again where it is too short."""

    def __init__(self, script: list[list[float]], lr: float = 0.2) -> None:
        super().__init__(lr)
        self.script = script
        self.round = -1

    def on_train_start(self) -> None:
        self.round += 1

    def on_validation_epoch_end(self) -> None:
        values = self.script[self.round]
        self.log("score", values[min(self.current_epoch, len(values) - 1)])


class Trace(Callback):
    """One dict a round of how it began and ended."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, Any]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        optimizers = trainer.optimizers
        self.rounds.append(
            {
                "epoch": trainer.current_epoch,
                "weights": weights_of(pl_module),
                "optimizer_state": sum(len(optimizer.state) for optimizer in optimizers),
                "lr": [group["lr"] for optimizer in optimizers for group in optimizer.param_groups],
                "gradients": sum(p.grad is not None for p in pl_module.parameters()),
                "metrics": dict(trainer.callback_metrics),
                "batches": trainer.num_training_batches,
                "global_step": trainer.global_step,
                "labeled": trainer.datamodule.labeled_indices().tolist(),
                "epochs": [],
                "epoch_lrs": [],
                "epoch_weights": [],
                "ended": 0,
            }
        )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.rounds[-1]["epoch_lrs"].append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.rounds[-1]["epochs"].append(trainer.current_epoch)
        self.rounds[-1]["epoch_weights"].append(weights_of(pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.rounds[-1]["ended"] += 1
        self.rounds[-1]["end_step"] = trainer.global_step
        self.rounds[-1]["end_weights"] = weights_of(pl_module)

    def column(self, name: str) -> list[Any]:
        """One value a round."""
        return [row[name] for row in self.rounds]


class WatchingOracle(DatasetOracle):
    """Answers as the dataset does, and notes each query with the weights that the model had then."""

    def __init__(self, model: nn.Module | None = None) -> None:
        super().__init__()
        self.model = model
        self.queries: list[Query] = []
        self.weights: list[dict[str, Tensor]] = []

    def label(self, query: Query) -> Answers:
        self.queries.append(query)
        if self.model is not None:
            self.weights.append(weights_of(self.model))
        return super().label(query)

    @property
    def picks(self) -> list[list[int]]:
        """What was asked, one list a query."""
        return [query.dataset_indices.tolist() for query in self.queries]


class Fitted:
    """What a finished fit leaves to look at."""

    def __init__(self, trainer: Trainer, model: Any, data: Any, callback: ActiveLearning, trace: Trace) -> None:
        self.trainer, self.model, self.data, self.callback, self.trace = trainer, model, data, callback, trace

    @property
    def picks(self) -> list[list[int]]:
        return self.callback.oracle.picks


def make_trainer(root: Path, callbacks: list[Callback], **arguments: Any) -> Trainer:
    """A quiet Trainer on the CPU."""
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": any(hasattr(c, "best_model_path") for c in callbacks),
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    limits: dict[str, Any] = {} if {"max_steps", "max_time", "fast_dev_run"} & arguments.keys() else {"max_epochs": 2}
    return Trainer(
        accelerator="cpu", devices=1, default_root_dir=root, callbacks=callbacks, **(quiet | limits | arguments)
    )


def wrapped(
    data: LightningDataModule | None = None, initial: int | list[int] = 8, seed: int = 0
) -> ActiveLearningDataModule:
    """The points, 8 of them labeled."""
    return ActiveLearningDataModule(PointsData() if data is None else data, initial=initial, seed=seed)


def run(
    root: Path,
    *callbacks: Callback,
    model: LightningModule | None = None,
    data: Any = None,
    al: dict[str, Any] | None = None,
    **arguments: Any,
) -> Fitted:
    """Three rounds of 8, 12 and 16 labels, unless ``al`` says otherwise."""
    model = Net() if model is None else model
    data = wrapped() if data is None else data
    callback = ActiveLearning(**({"query_size": 4, "rounds": 3, "oracle": WatchingOracle(model)} | (al or {})))
    trace = Trace()
    trainer = make_trainer(root, [callback, trace, *callbacks], **arguments)
    trainer.fit(model, datamodule=data)
    return Fitted(trainer, model, data, callback, trace)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's weights."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two sets of weights are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def least_margins(
    weights: dict[str, Tensor], labeled: list[int], size: int, dataset: Points | None = None
) -> list[int]:
    """The unlabeled points where Net with ``weights`` is least sure between two classes, written out by hand."""
    dataset = Points() if dataset is None else dataset
    margins = []
    for index in range(len(dataset)):
        hidden = torch.tanh(weights["body.weight"] @ dataset.x[index] + weights["body.bias"])
        logits = weights["head.weight"] @ hidden + weights["head.bias"]
        first, second = sorted((logits.exp() / logits.exp().sum()).tolist(), reverse=True)[:2]
        margins.append((first - second, index))
    return [index for _, index in sorted(margins) if index not in set(labeled)][:size]
