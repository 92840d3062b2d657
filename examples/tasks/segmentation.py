"""Segmentation: which digit each pixel belongs to, on canvases of several sizes that are padded to one.

python examples/tasks/segmentation.py --strategy Entropy --aggregate 0.1 --seeds 5
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassJaccardIndex

DIGITS = 3
"""The digits 0 to 2; class 0 is the background, class k + 1 the ink of digit k."""
SIDE = 24
IGNORED = -100


def canvases(count: int, seed: int) -> TensorDataset:
    """Noisy canvases of 16 to 24 px a side with one to three digits, padded to 24 x 24.

    Args:
        count: How many.
        seed: Of all that is drawn.

    Returns:
        An item is an image (1, 24, 24), the classes of its pixels (24, 24), where padding is `IGNORED`, and a bool
        mask (24, 24) of the pixels that are no padding: known without labels.
    """
    draw = torch.Generator().manual_seed(seed)
    digits = load_digits(n_class=DIGITS)
    scans, names = torch.tensor(digits.images, dtype=torch.float32) / 16, digits.target
    images = 0.15 * torch.rand(count, 1, SIDE, SIDE, generator=draw)
    classes = torch.full((count, SIDE, SIDE), IGNORED)
    for image, places in zip(images, classes, strict=True):
        height, width = torch.randint(16, SIDE + 1, (2,), generator=draw).tolist()
        places[:height, :width] = 0
        for _ in range(int(torch.randint(1, 4, (), generator=draw))):
            number = int(torch.randint(len(scans), (), generator=draw))
            top, left = (int(torch.randint(side - 7, (), generator=draw)) for side in (height, width))
            ink = scans[number] > 0.3
            image[0, top : top + 8, left : left + 8][ink] = scans[number][ink]
            places[top : top + 8, left : left + 8][ink] = int(names[number]) + 1
    mask = classes != IGNORED
    images *= mask[:, None]
    return TensorDataset(images, classes, mask)


def loaders() -> tuple[DataLoader[Any], DataLoader[Any]]:
    """300 canvases to train on, shuffled, and 100 to test."""
    return DataLoader(canvases(300, seed=0), batch_size=8, shuffle=True), DataLoader(canvases(100, seed=1), 50)


class PixelNet(LightningModule):
    """Four convolutions with a field of view of 13 px, and a mask in its ``query_step``."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, kernel_size=3, padding=2, dilation=2),
            nn.ReLU(),
            nn.Conv2d(16, DIGITS + 1, kernel_size=3, padding=2, dilation=2),
        )
        self.iou = MulticlassJaccardIndex(DIGITS + 1, ignore_index=IGNORED)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, 4, 24, 24) for images (B, 1, 24, 24)."""
        logits: Tensor = self.layers(images)
        return logits

    def query_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> dict[str, Tensor]:
        """Return the logits and which pixels count: padding should not make a small canvas look certain."""
        images, _, mask = batch
        return {"logits": self(images), "mask": mask}

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Return the mean cross-entropy of the pixels that count."""
        images, classes, _ = batch
        return cross_entropy(self(images), classes, ignore_index=IGNORED)

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Log the intersection over union, a mean over classes."""
        images, classes, _ = batch
        self.iou(self(images), classes)
        self.log("iou", self.iou)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-2)


TASK: dict[str, Any] = {
    "model": PixelNet,
    "loaders": loaders,
    "loop": {"outputs": "dense", "initial": 8, "query_size": 8, "rounds": 5},
    "epochs": 25,
    "metric": "iou",
    "lower_is_better": False,
    "strategy": "Entropy",
}

if __name__ == "__main__":
    from comparison import main  # of this folder, which Python looks into first when it runs a script

    main(TASK)
