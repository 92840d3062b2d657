"""While a run goes on: what its strategy gains over random labels, from the control samples among its queries."""

from __future__ import annotations

from typing import Any, cast

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_al.control import Gain, estimate_gain
from lightning_al.datamodule import ActiveLearningDataModule
from lightning_al.labeling import BY_HAND, CONTROL, INITIAL, Labeling
from lightning_al.labels import target_of
from lightning_al.querying import Querying
from lightning_al.ranks import on_rank_zero

_MOST_TESTED = 2000
"""Validation samples looked at: they are read twice, for the model and for their labels."""


class LiveGain:
    """Measures the gain after each fit, with the model's embeddings of then; called on every rank.

    Args:
        datamodule: The wrapped data.
        querying: Runs the model.
        labeling: Knows who picked which sample.
    """

    def __init__(self, datamodule: ActiveLearningDataModule, querying: Querying, labeling: Labeling) -> None:
        self.datamodule, self.querying, self.labeling = datamodule, querying, labeling

    def measure(self, round: int) -> Gain | None:
        """The gain so far; None with few control samples, without a validation set, or without classes."""
        rows = on_rank_zero(self.querying.trainer, lambda: self.labeling.rows)  # the others have read none
        strategies = {row.dataset_index: row.strategy for row in reversed(rows)}
        labeled = [
            index for index in self.datamodule.pool.labeled.tolist() if strategies.get(index, BY_HAND) != BY_HAND
        ]
        first = {row.dataset_index for row in rows if row.round == 0 or row.strategy == INITIAL}
        picked_by = [INITIAL if index in first else strategies[index] for index in labeled]
        if CONTROL not in picked_by:
            return None
        dataset = self._validation_set()
        if dataset is None:
            return None
        size = len(cast(Any, dataset))
        tested = torch.randperm(size, generator=torch.Generator().manual_seed(self.querying.seed))[:_MOST_TESTED]
        targets = _classes(self.datamodule.targets(labeled))
        with isolate_rng():
            wanted = _classes([target_of(dataset[index]) for index in tested.tolist()])
        if targets is None or wanted is None:
            return None
        title = f"Round {round}: what the strategy gains"
        known = self.querying.embeddings(torch.tensor(labeled), round, title)
        held_out = self.querying.embeddings(tested, round, title, dataset)
        classes = int(max(targets.max(), wanted.max())) + 1
        return estimate_gain(known, targets, picked_by, held_out, wanted, classes, self.querying.seed + round)

    def _validation_set(self) -> Dataset[Any] | None:
        loader: Any = self.querying.trainer.val_dataloaders
        loader = loader[0] if isinstance(loader, (list, tuple)) and loader else loader
        dataset = loader.dataset if isinstance(loader, DataLoader) else None
        return dataset if hasattr(dataset, "__len__") and len(cast(Any, dataset)) else None


def _classes(targets: list[Any]) -> Tensor | None:
    """Class indices ``(N,)``; None where the targets are something else."""
    try:
        found = torch.stack([torch.as_tensor(target) for target in targets])
    except (RuntimeError, TypeError, ValueError):
        return None
    whole = found.ndim == 1 and not found.is_floating_point() and found.dtype != torch.bool
    return found.long() if whole and bool((found >= 0).all()) else None
