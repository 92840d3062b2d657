"""A small active-learning run on the digits, where the random state matters, and what it left as digests."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from lightning_al import ActiveLearning, ActiveLearningDataModule
from lightning_al.demos import Classifier, DigitsDataModule

SEED = 3


class DropoutMLP(Classifier):
    """A quick model with dropout: a resumed run equals the other only if the random state is put back too."""

    def __init__(self, width: int = 24) -> None:
        super().__init__(num_classes=10, learning_rate=3e-3)
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 10)."""
        logits: Tensor = self.layers(x)
        return logits


class FewDigits(DigitsDataModule):
    """The first of the digits."""

    def __init__(self, size: int = 200, batch_size: int = 16) -> None:
        super().__init__(batch_size=batch_size)
        self.size = size

    def train_dataloader(self) -> DataLoader[Any]:
        """Return some training images, shuffled."""
        return DataLoader(Subset(self.splits["train"], range(self.size)), batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return 64 validation images."""
        return DataLoader(Subset(self.splits["val"], range(64)), batch_size=64)


CONFIG: dict[str, Any] = {
    "seed_everything": SEED,
    "trainer": {
        "max_epochs": 3,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "callbacks": [
            {"class_path": "ActiveLearning", "init_args": {"strategy": "Margin", "query_size": 25, "rounds": 4}},
            {"class_path": "ModelCheckpoint", "init_args": {"monitor": "val_acc", "mode": "max"}},
        ],
    },
    "model": "tests._helpers.runs.DropoutMLP",
    "data": {
        "class_path": "ActiveLearningDataModule",
        "init_args": {"initial": 30, "datamodule": {"class_path": "tests._helpers.runs.FewDigits"}},
    },
}


def write_config(folder: Path, **trainer: Any) -> None:
    """Write ``fit.yaml``, with other arguments of the trainer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fit.yaml").write_text(yaml.safe_dump({**CONFIG, "trainer": {**CONFIG["trainer"], **trainer}}))


def command_line(*more: str) -> None:
    """``lightning-al fit --config fit.yaml ...`` in this process."""
    from lightning_al.cli import main

    main(["fit", "--config", "fit.yaml", *more])


def active_learning(**arguments: Any) -> ActiveLearning:
    """The callback of the run."""
    return ActiveLearning(**{"strategy": "Margin", "query_size": 25, "rounds": 3, **arguments})


def data(size: int = 200, initial: int = 30) -> ActiveLearningDataModule:
    """The data of the run."""
    return ActiveLearningDataModule(FewDigits(size), initial=initial)


def fit(
    callback: ActiveLearning | None = None,
    *,
    ckpt_path: str | Path | None = None,
    seed: int = SEED,
    model: Classifier | None = None,
    data: ActiveLearningDataModule | None = None,
    initial: int = 30,
    callbacks: list[Any] | None = None,
    given: dict[str, Any] | None = None,
    **trainer: Any,
) -> tuple[Trainer, ActiveLearning, ActiveLearningDataModule]:
    """The run in Python, in the current folder."""
    seed_everything(seed, verbose=False)
    callback = callback or active_learning()
    data = data or ActiveLearningDataModule(FewDigits(), initial=initial)
    arguments: dict[str, Any] = {**CONFIG["trainer"], "max_epochs": 2, **trainer}
    own = [ModelCheckpoint(monitor="val_acc", mode="max")] if callbacks is None else callbacks
    arguments["callbacks"] = [callback, *own]
    runner = Trainer(**arguments)
    runner.fit(model or DropoutMLP(), **(given or {"datamodule": data}), ckpt_path=ckpt_path)
    return runner, callback, data


# -- what a run left
def ledger(folder: Path) -> list[tuple[str, ...]]:
    """The ledger's rows without times."""
    return _rows(folder / "ledger.csv", without=("time", "checksum"))


def rounds(folder: Path) -> list[tuple[str, ...]]:
    """The rows of rounds.csv without times."""
    return _rows(folder / "rounds.csv", without=("seconds_fit", "seconds_query"))


def _rows(path: Path, without: tuple[str, ...]) -> list[tuple[str, ...]]:
    with path.open(newline="") as file:
        return [tuple(v for k, v in row.items() if k not in without) for row in csv.DictReader(file)]


def checkpoint(folder: Path) -> dict[str, Any]:
    """The run's last checkpoint."""
    loaded: dict[str, Any] = torch.load(folder / "last-round.ckpt", weights_only=True)
    return loaded


def digests(folder: Path, datamodule: str = "ActiveLearningDataModule") -> dict[str, str]:
    """What a run left, by kind, as short digests; times are left out."""
    saved = checkpoint(folder)
    pool = {k: v.tolist() if isinstance(v, Tensor) else v for k, v in saved[datamodule]["pool"].items()}
    state = saved["callbacks"]["ActiveLearning"]
    content = {
        "ledger": ledger(folder),
        "rounds": rounds(folder),
        "queries": [(p.name, p.read_text()) for p in sorted((folder / "queries").glob("*.csv"))],
        "pool": sorted(pool.items()),
        "weights": _plain(saved["state_dict"]),
        "optimizer": _plain(saved["optimizer_states"]),
        "step": (saved["global_step"], state["round"], state["step0"]),
        "random": _plain(state["rng"]),
    }
    return {name: hashlib.sha256(repr(value).encode()).hexdigest()[:12] for name, value in content.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.flatten().tolist()
    if isinstance(value, dict):
        return [(k, _plain(v)) for k, v in value.items()]
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
