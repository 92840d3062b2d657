"""scikit-learn's digits: 1,797 real scans of 8 x 8 pixels that come with the library."""

from __future__ import annotations

from functools import cached_property

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_al.demos.classifier import Classifier


class DigitsDataModule(LightningDataModule):
    """The digits 0 to 9 as float images (1, 8, 8) in [0, 1], split once and for all.

    The split is stratified and does not depend on any seed: 1,197 images to train on, 200 to validate, 400 to test.
    There is no augmentation, so the training set is also what a query scores.

    Args:
        batch_size: Images in a batch, of every loader.
        num_workers: Processes that load data; 0 is fastest, since the images are in memory.
    """

    num_classes = 10

    def __init__(self, batch_size: int = 32, num_workers: int = 0) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = num_workers

    @cached_property
    def splits(self) -> dict[str, TensorDataset]:
        """The three data sets by name: ``train``, ``val`` and ``test``."""
        # Here, not above: the command line imports this module, and its --help should not wait for scikit-learn.
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
        targets = torch.tensor(digits.target, dtype=torch.int64)
        rest, test = train_test_split(range(len(targets)), test_size=400, stratify=targets, random_state=0)
        train, val = train_test_split(rest, test_size=200, stratify=targets[rest], random_state=0)
        parts = {"train": train, "val": val, "test": test}
        return {name: TensorDataset(images[part], targets[part]) for name, part in parts.items()}

    def _loader(self, split: str) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(
            self.splits[split],
            batch_size=self.batch_size,
            shuffle=split == "train",
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the 1,197 training images, shuffled."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the 200 validation images."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the 400 test images."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the test images."""
        return self._loader("test")


class DigitsCNN(Classifier):
    """Two convolutions and two linear layers, 38 thousand parameters, for images of 8 x 8 pixels.

    Args:
        learning_rate: Step size of AdamW.
        num_classes: Number of classes.
        width: Channels of the first convolution; the second has twice as many.
        weight_decay: Weight decay of AdamW.

    Example:
        >>> DigitsCNN()(torch.zeros(4, 1, 8, 8)).shape
        torch.Size([4, 10])
    """

    def __init__(
        self, learning_rate: float = 3e-3, num_classes: int = 10, width: int = 16, weight_decay: float = 1e-2
    ) -> None:
        super().__init__(num_classes, learning_rate, weight_decay)
        self.features = nn.Sequential(
            nn.Conv2d(1, width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * width, 64),
            nn.ReLU(),
        )
        self.head = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, C) for images (B, 1, 8, 8)."""
        logits: Tensor = self.head(self.features(x))
        return logits
