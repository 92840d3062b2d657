"""A ResNet of torchvision, from scratch or from a local file of pretrained weights."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision import models

from examples import DataError
from lightning_al.demos import Classifier


class ResNet(Classifier):
    """A torchvision ResNet with a new last layer.

    Args:
        architecture: Which ResNet; the paper's is the one with 50 layers.
        weights: A local file with torchvision's ``state_dict`` for this architecture, for instance ImageNet's; none
            trains from scratch. The file's last layer is left out where its number of classes differs.
        num_classes: Number of classes.
        learning_rate: Step size of AdamW.
        weight_decay: Weight decay of AdamW.

    Raises:
        DataError: There is no such file, or it is of another architecture.
    """

    def __init__(
        self,
        architecture: Literal["resnet18", "resnet34", "resnet50"] = "resnet50",
        weights: Path | None = None,
        num_classes: int = 9,
        learning_rate: float = 1e-4,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(num_classes, learning_rate, weight_decay)
        self.network: nn.Module = getattr(models, architecture)(weights=None, num_classes=num_classes)
        if weights is not None:
            self._load(Path(weights))

    def _load(self, path: Path) -> None:
        if not path.is_file():
            raise DataError(f"Expected `weights` to be a file with a state_dict, but there is no {path}.")
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        own = {name: tuple(value.shape) for name, value in self.network.state_dict().items()}
        fits = {name: value for name, value in loaded.items() if tuple(value.shape) == own.get(name)}
        problems = [name for name in own | loaded if name not in fits and name not in ("fc.weight", "fc.bias")]
        if problems:
            raise DataError(f"{path} is not a state_dict of this architecture: {problems[:3]} do not match.")
        self.network.load_state_dict(fits, strict=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, C) for photos (B, 3, H, W)."""
        logits: Tensor = self.network(x)
        return logits
