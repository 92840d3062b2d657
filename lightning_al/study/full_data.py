"""The user's data as many fits share them: set up once, each fit with labels of its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_al.datamodule import ActiveLearningDataModule
from lightning_al.labels import target_of
from lightning_al.pool import Pool
from lightning_al.study.seeding import reseed
from lightning_al.study.types import IntArray


class PilotData(ActiveLearningDataModule):
    """A datamodule that is set up once and then handed to one fit after the other, with other labels each time.

    What fits write onto it (a found batch size, say) goes to copies: the user's own stays as it is.

    Args:
        datamodule: The user's, wrapped or not.
    """

    loader_seed: int

    def __init__(self, datamodule: LightningDataModule) -> None:
        plain = datamodule.datamodule if isinstance(datamodule, ActiveLearningDataModule) else datamodule
        given = datamodule.given_pool_dataset if isinstance(datamodule, ActiveLearningDataModule) else None
        super().__init__(copy.copy(plain), initial=[], pool_dataset=given)
        self.__dict__["loader_seed"] = 0

    def prepare(self, trainer: Trainer, *, download: bool) -> None:
        """Set up everything that a fit and its test need.

        Args:
            trainer: What the datamodule's hooks see as theirs.
            download: Whether ``prepare_data`` is still to be called.
        """
        self.trainer = trainer
        if download:
            self.prepare_data()
        self.datamodule.setup("fit")
        if self.test_split == "test":
            self.datamodule.setup("test")
        self.setup_pool()  # after both: a setup that ignores its stage splits anew each time

    @property
    def plain_samples(self) -> Dataset[Any]:
        """The pilot without augmentation."""
        return self._scored

    @property
    def test_split(self) -> str:
        """Where the test set comes from: ``"test"``, or ``"val"`` where there is no test loader.

        Raises:
            MisconfigurationException: There is neither.
        """
        for split in ("test", "val"):
            if is_overridden(f"{split}_dataloader", self.datamodule):
                return split
        raise MisconfigurationException(
            f"{type(self.datamodule).__name__} has no `test_dataloader` and no `val_dataloader`, and a study needs "
            "samples to test on that it does not train on: add one of the two."
        )

    @property
    def test_set(self) -> Any:
        """What the test loader reads; None where that is not known."""
        return getattr(self.test_loader(), "dataset", None)

    def test_loader(self) -> Any:
        """The loader of the test set.

        Raises:
            MisconfigurationException: There are several.
        """
        name = f"{self.test_split}_dataloader"
        loader = getattr(self.datamodule, name)()
        loaders = loader if isinstance(loader, Sequence) else [loader]
        if len(loaders) != 1 or isinstance(loaders[0], (Mapping, CombinedLoader)):
            raise MisconfigurationException(
                f"Expected `{name}` to give one loader, but got several: a study compares fits on one test set. Join "
                "the datasets, ConcatDataset([...])."
            )
        return loaders[0]

    def part(self, labeled: IntArray, seed: int) -> PilotData:
        """The same data with only these pilot positions labeled, and loaders whose own generators have this seed."""
        part = PilotData(self.datamodule)
        part.__dict__ |= {name: self.__dict__[name] for name in ("_dataset", "_scored", "fingerprint")}
        part.__dict__ |= {"_pool": Pool(self.pool.size), "loader_seed": seed, "_set_up": {"fit", "validate", "test"}}
        part.__dict__.pop("prepare_data", None)
        part.pool.label(torch.as_tensor(np.asarray(labeled, dtype=np.int64)))
        return part

    def train_dataloader(self) -> DataLoader[Any]:
        """The user's train loader over the labeled samples; a generator of its own begins anew."""
        loader = super().train_dataloader()
        if loader.generator is not None:
            reseed(loader.generator, self.loader_seed)
            self.loader_seed += 1  # the next one of this fit, where loaders are made anew each epoch
        return loader

    def teardown(self, stage: str) -> None:
        """Nothing: the next fit needs the data too."""


def class_indices(batch: Any) -> Tensor:
    """The targets of a batch.

    Returns:
        Class indices ``(B,)``, int64.

    Raises:
        ValueError: The batch has no targets at the usual place, or they are no class indices.

    Example:
        >>> class_indices((torch.zeros(2, 4), torch.tensor([1, 0]))), class_indices({"y": torch.tensor([[1.0]])})
        (tensor([1, 0]), tensor([1]))
    """
    found = batch.get("y") if isinstance(batch, Mapping) and "y" in batch else target_of(batch)
    if found is None:
        got = f"a dict with {sorted(map(str, batch))}" if isinstance(batch, Mapping) else f"a {type(batch).__name__}"
        raise ValueError(
            f"Expected a batch of the loaders to hold its targets, but got {got}. Let the datasets return tuples, "
            "(x, label), or dicts with a key 'label', 'labels', 'target', 'targets' or 'y'."
        )
    values = found
    if isinstance(values, Tensor) and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    whole = isinstance(values, Tensor) and not (values.is_complex() or (values.is_floating_point() and _broken(values)))
    if not isinstance(values, Tensor) or values.ndim != 1 or not whole:
        got = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise ValueError(
            f"Expected the targets of a batch to be class indices (B,), integers, but got {got}. A study compares "
            "classifiers: let the datasets return one class index a sample, `one_hot.argmax()` for example."
        )
    return values.long()


def _broken(values: Tensor) -> bool:
    return bool((values != values.round()).any())
