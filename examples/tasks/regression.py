"""Regression: scikit-learn's diabetes progression, or a made function whose inputs crowd in a few places.

python examples/tasks/regression.py --data made --strategy LCMD --seeds 5
"""

from __future__ import annotations

import argparse
import functools
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanSquaredError

FEATURES = 10


def diabetes() -> tuple[TensorDataset, TensorDataset]:
    """442 patients, ten features and the disease's progress after a year, all standardized; 142 of them to test."""
    data = load_diabetes()
    inputs = torch.tensor(data.data, dtype=torch.float32) * len(data.data) ** 0.5  # columns come with norm 1
    targets = torch.tensor(data.target, dtype=torch.float32)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    train, test = order[142:], order[:142]
    targets = (targets - targets[train].mean()) / targets[train].std()
    return TensorDataset(inputs[train], targets[train]), TensorDataset(inputs[test], targets[test])


def made() -> tuple[TensorDataset, TensorDataset]:
    """A smooth function of ten inputs with a little noise, of which three matter.

    Nine of ten of the 1,000 inputs to train on lie in one tenth of the range, as records of a machine's usual state do;
    the 500 to test are spread evenly.
    """
    draw = torch.Generator().manual_seed(0)
    crowded = torch.rand(1000, FEATURES, generator=draw)
    crowded[100:, :3] = 0.45 + 0.1 * crowded[100:, :3]
    parts = []
    for inputs in (crowded, torch.rand(500, FEATURES, generator=draw)):
        a, b, c = (2 * inputs[:, :3] - 1).T
        targets = torch.sin(3 * a) + b * c + c**2 + 0.05 * torch.randn(len(inputs), generator=draw)
        parts.append(TensorDataset(2 * inputs - 1, targets))
    return parts[0], parts[1]


def loaders(data: Literal["diabetes", "made"] = "diabetes") -> tuple[DataLoader[Any], DataLoader[Any]]:
    """The training set, shuffled, and the test set."""
    train, test = diabetes() if data == "diabetes" else made()
    return DataLoader(train, batch_size=32, shuffle=True), DataLoader(test, batch_size=512)


class ValueNet(LightningModule):
    """Two hidden layers and one value a sample; what the last layer reads is the embedding that LCMD reads."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.head = nn.Linear(64, 1)
        self.rmse = MeanSquaredError(squared=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return values (B, 1) for inputs (B, 10)."""
        values: Tensor = self.head(self.body(inputs))
        return values

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the mean squared error."""
        inputs, targets = batch
        return mse_loss(self(inputs)[:, 0], targets)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the root mean squared error."""
        inputs, targets = batch
        self.rmse(self(inputs)[:, 0], targets)
        self.log("rmse", self.rmse)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam with weight decay."""
        return torch.optim.AdamW(self.parameters(), lr=5e-3, weight_decay=0.1)


TASK: dict[str, Any] = {
    "model": ValueNet,
    "loaders": loaders,
    "loop": {"outputs": "regression", "initial": 20, "query_size": 20, "rounds": 7},
    "epochs": 25,
    "metric": "rmse",
    "lower_is_better": True,
    "strategy": "LCMD",
}

if __name__ == "__main__":
    from comparison import main  # of this folder, which Python looks into first when it runs a script

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--data", choices=["diabetes", "made"], default="diabetes")
    given, rest = parser.parse_known_args()
    main(TASK | {"loaders": functools.partial(loaders, given.data)}, rest)
