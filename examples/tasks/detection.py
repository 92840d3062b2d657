"""Detection: which digits an image shows, and where; a third of the images show none.

python examples/tasks/detection.py --strategy Margin --seeds 5
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, smooth_l1_loss
from torch.utils.data import DataLoader, TensorDataset

DIGITS = 3
"""The digits 0 to 2 are objects; class 3 of a cell is: no object."""
CELL, GRID = 8, 3


def scenes(count: int, seed: int) -> TensorDataset:
    """Noisy images with up to three digits, at most one centered in each of 3 x 3 cells of 8 px.

    Args:
        count: How many.
        seed: Of all that is drawn.

    Returns:
        An item is an image (1, 24, 24) and the cells' targets (3, 3, 3): class, and the center's place in the cell,
        row and column from -0.5 to 0.5.
    """
    draw = torch.Generator().manual_seed(seed)
    digits = load_digits(n_class=DIGITS)
    scans, names = torch.tensor(digits.images, dtype=torch.float32) / 16, digits.target
    side = CELL * GRID
    images = 0.2 * torch.rand(count, 1, side, side, generator=draw)
    targets = torch.zeros(count, 3, GRID, GRID)
    targets[:, 0] = DIGITS
    for image, target in zip(images, targets, strict=True):
        shown = int(torch.randint(3, (), generator=draw)) and int(torch.randint(1, 4, (), generator=draw))
        for cell in torch.randperm(GRID**2, generator=draw)[:shown].tolist():
            row, column = divmod(cell, GRID)
            number = int(torch.randint(len(scans), (), generator=draw))
            top, left = (  # up to 3 px off, within the image
                min(max(at * CELL + int(torch.randint(-3, 4, (), generator=draw)), 0), side - CELL)
                for at in (row, column)
            )
            patch = image[0, top : top + CELL, left : left + CELL]
            torch.maximum(patch, scans[number], out=patch)
            offset = torch.tensor([top / CELL - row, left / CELL - column])
            target[:, row, column] = torch.cat([torch.tensor([float(names[number])]), offset])
    return TensorDataset(images, targets)


def loaders() -> tuple[DataLoader[Any], DataLoader[Any]]:
    """400 images to train on, shuffled, and 200 to test."""
    return DataLoader(scenes(400, seed=0), batch_size=20, shuffle=True), DataLoader(scenes(200, seed=1), 100)


class GridDetector(LightningModule):
    """A convolutional net that says of each cell what is centered there, and where in the cell."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=8, stride=4, padding=2),  # the cell and 2 px, of 12, on each side
            nn.ReLU(),
            nn.Conv2d(32, DIGITS + 3, kernel_size=1),
        )
        self.counts = torch.zeros(2)  # right boxes; boxes said and boxes there

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits (B, 4, 3, 3) and centers (B, 2, 3, 3) for images (B, 1, 24, 24)."""
        out: Tensor = self.layers(images)
        return out[:, : DIGITS + 1], out[:, DIGITS + 1 :]

    def query_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> list[Tensor]:
        """Return the digits' probabilities (n, 3) of each image's n boxes, which may be none."""
        cells = self(batch[0])[0].flatten(2).transpose(1, 2).softmax(dim=-1)
        boxes = [each[each[:, DIGITS] < 0.8, :DIGITS] for each in cells]
        return [each / each.sum(dim=1, keepdim=True) for each in boxes]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the cross-entropy of the cells' classes and the error of the centers, where there is a digit."""
        images, targets = batch
        logits, centers = self(images)
        classes = targets[:, 0].long()
        there = (classes < DIGITS)[:, None]
        error = smooth_l1_loss(centers * there, targets[:, 1:] * there, reduction="sum") / there.sum().clamp(min=1)
        return cross_entropy(logits, classes) + error

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count the boxes with the right class whose center is at most 2 px off."""
        images, targets = batch
        logits, centers = self(images)
        said, there = logits.argmax(dim=1), targets[:, 0].long()
        near = ((centers - targets[:, 1:]).abs() <= 2 / CELL).all(dim=1)
        right = (said == there) & (there < DIGITS) & near
        self.counts += torch.stack([2 * right.sum(), (said < DIGITS).sum() + (there < DIGITS).sum()])

    def on_validation_epoch_end(self) -> None:
        """Log F1: the boxes that are right, of those said and those there."""
        self.log("f1", self.counts[0] / self.counts[1].clamp(min=1))
        self.counts = torch.zeros(2)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=5e-3)


TASK: dict[str, Any] = {
    "model": GridDetector,
    "loaders": loaders,
    "loop": {"outputs": "detection", "initial": 20, "query_size": 20, "rounds": 5},
    "epochs": 30,
    "metric": "f1",
    "lower_is_better": False,
    "strategy": "Margin",
}

if __name__ == "__main__":
    from comparison import main  # of this folder, which Python looks into first when it runs a script

    main(TASK)
