"""A small CNN for photos of 32 px."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from lightning_al.demos import Classifier


class SeedlingsCNN(Classifier):
    """Three convolution blocks with batch normalization, and a linear layer.

    Args:
        num_classes: Number of classes.
        width: Channels of the first block; the third has four times as many.
        learning_rate: Step size of AdamW.
        weight_decay: Weight decay of AdamW.
    """

    def __init__(
        self, num_classes: int = 12, width: int = 32, learning_rate: float = 2e-3, weight_decay: float = 1e-2
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


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
