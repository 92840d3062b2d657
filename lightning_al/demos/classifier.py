"""The steps every small classifier of the examples shares."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy


class Classifier(LightningModule):
    """Cross-entropy, accuracy and AdamW around any ``forward(x) -> logits``.

    Logs ``train_loss``, ``val_loss``, ``val_acc`` and ``test_acc`` once an epoch.

    Args:
        num_classes: Number of classes, the width of the logits.
        learning_rate: Step size of AdamW.
        weight_decay: Weight decay of AdamW.
    """

    def __init__(self, num_classes: int, learning_rate: float = 1e-3, weight_decay: float = 1e-2) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.val_acc = MulticlassAccuracy(num_classes, average="micro")
        self.test_acc = MulticlassAccuracy(num_classes, average="micro")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the cross-entropy of one batch."""
        x, y = batch
        loss = functional.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(y))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log loss and accuracy of one validation batch."""
        x, y = batch
        logits = self(x)
        self.val_acc(logits, y)
        self.log("val_loss", functional.cross_entropy(logits, y), batch_size=len(y), sync_dist=True)
        self.log("val_acc", self.val_acc, batch_size=len(y), prog_bar=True)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log accuracy of one test batch."""
        x, y = batch
        self.test_acc(self(x), y)
        self.log("test_acc", self.test_acc, batch_size=len(y))

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the predicted class of each sample, (B,)."""
        predictions: Tensor = self(batch[0]).argmax(dim=-1)
        return predictions

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW over all parameters."""
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
