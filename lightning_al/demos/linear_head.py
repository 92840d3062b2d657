"""A linear classifier for features that another, frozen model computed."""

from __future__ import annotations

from torch import Tensor, nn

from lightning_al.demos.classifier import Classifier


class LinearHead(Classifier):
    """Multinomial logistic regression: one linear layer.

    Args:
        num_features: Width of the features.
        num_classes: Number of classes.
        learning_rate: Step size of AdamW.
        weight_decay: Weight decay of AdamW: what keeps a thousand features from fitting a hundred labels by heart.

    Example:
        >>> import torch
        >>> LinearHead(num_features=5, num_classes=3)(torch.ones(4, 5)).shape
        torch.Size([4, 3])
    """

    def __init__(
        self, num_features: int, num_classes: int, learning_rate: float = 1e-3, weight_decay: float = 1e-2
    ) -> None:
        super().__init__(num_classes, learning_rate, weight_decay)
        self.head = nn.Linear(num_features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, C) for features (B, D)."""
        logits: Tensor = self.head(x)
        return logits
