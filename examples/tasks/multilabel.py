"""Multi-label: a scan of a digit has five properties, each of them true or false.

python examples/tasks/multilabel.py --strategy Margin --aggregate max --seeds 5
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MultilabelAccuracy

PROPERTIES: dict[str, set[int]] = {
    "even": {0, 2, 4, 6, 8},
    "above four": {5, 6, 7, 8, 9},
    "prime": {2, 3, 5, 7},
    "has a loop": {0, 6, 8, 9},
    "a multiple of three": {0, 3, 6, 9},
}
TEST_SIZE = 597


def datasets() -> tuple[TensorDataset, TensorDataset]:
    """scikit-learn's scans (64,) in [0, 1] with the five properties (5,) of each: 1,200 to train on, 597 to test."""
    digits = load_digits()
    scans = torch.tensor(digits.data, dtype=torch.float32) / 16
    labels = torch.tensor([[float(digit in which) for which in PROPERTIES.values()] for digit in digits.target])
    order = torch.randperm(len(scans), generator=torch.Generator().manual_seed(0))
    train, test = order[TEST_SIZE:], order[:TEST_SIZE]
    return TensorDataset(scans[train], labels[train]), TensorDataset(scans[test], labels[test])


def loaders() -> tuple[DataLoader[Any], DataLoader[Any]]:
    """The training set, shuffled, and the test set."""
    train, test = datasets()
    return DataLoader(train, batch_size=32, shuffle=True), DataLoader(test, batch_size=TEST_SIZE)


class PropertiesNet(LightningModule):
    """A hidden layer, and a logit for each property: what ``outputs="multilabel"`` scores."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, len(PROPERTIES)))
        self.accuracy = MultilabelAccuracy(len(PROPERTIES))

    def forward(self, scans: Tensor) -> Tensor:
        """Return logits (B, 5) for scans (B, 64)."""
        logits: Tensor = self.layers(scans)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the mean cross-entropy of the properties."""
        scans, labels = batch
        return binary_cross_entropy_with_logits(self(scans), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the share of properties that are told right."""
        scans, labels = batch
        self.accuracy(self(scans), labels.long())
        self.log("accuracy", self.accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=5e-3)


TASK: dict[str, Any] = {
    "model": PropertiesNet,
    "loaders": loaders,
    "loop": {"outputs": "multilabel", "initial": 20, "query_size": 20, "rounds": 8},
    "epochs": 30,
    "metric": "accuracy",
    "lower_is_better": False,
    "strategy": "Margin",
}

if __name__ == "__main__":
    from comparison import main  # of this folder, which Python looks into first when it runs a script

    main(TASK)
