"""A small CNN for photos of 32 px."""

from __future__ import annotations

import itertools

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from lightning_al.demos import Classifier


class SeedlingsCNN(Classifier):
    """Three convolution blocks with batch normalization, and a linear layer.

    Args:
        num_classes: Number of classes.
        width: Channels of the first block; the third has four times as many.
        learning_rate: Largest step size of AdamW; each round warms up to it and then falls to nearly zero.
        weight_decay: Weight decay of AdamW.
    """

    def __init__(
        self, num_classes: int = 12, width: int = 16, learning_rate: float = 1e-2, weight_decay: float = 1e-2
    ) -> None:
        super().__init__(num_classes, learning_rate, weight_decay)
        widths = [3, width, 2 * width, 4 * width]
        blocks = [_block(before, after) for before, after in itertools.pairwise(widths)]
        self.features = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, C) for photos (B, 3, 32, 32)."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW on one cycle; its length is that of the round's fit, longer with more labels."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.learning_rate, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
