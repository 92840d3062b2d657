"""A LightningDataModule around any other: its train loader sees only what is labeled."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lightning_al.dataset import count_of, fingerprint, labeled_subset, plain_amount, training_dataset
from lightning_al.exceptions import PoolError, ResumeError
from lightning_al.pool import Pool
from lightning_al.run_folder import RunFolder
from lightning_al.spawned import SharedPath, pool_of

# Only what the user overrode is forwarded: Lightning asks `is_overridden(name, datamodule)`.
_FORWARDED_HOOKS = (
    "prepare_data",
    "val_dataloader",
    "test_dataloader",
    "predict_dataloader",
    "on_exception",
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
)
_LOADER_ARGUMENTS = (
    "num_workers",
    "collate_fn",
    "pin_memory",
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
    "generator",
    "prefetch_factor",
    "persistent_workers",
    "pin_memory_device",
    "in_order",
)


class ActiveLearningDataModule(LightningDataModule):
    """Wraps a LightningDataModule and tracks which training samples are labeled.

    The train loader gives only the labeled samples; every other loader, hook and attribute is the wrapped
    datamodule's own.

    Args:
        datamodule: Any LightningDataModule whose ``train_dataloader`` gives one DataLoader over a map-style dataset.
        initial: The samples labeled at the start: a count, a share of the training set in (0, 1), or a list of
            dataset indices. 0 only with ``ActiveLearning(initial_strategy=...)``.
        pool_dataset: The training samples without augmentation, same length and order, for scoring. By default the
            wrapped datamodule's ``pool_dataset()`` method, else the training set itself.
        seed: Draws the initial samples.

    Raises:
        ValueError: ``initial`` is negative, doubled, or not a count, a share or a list.

    Example:
        >>> from lightning_al.demos import DigitsDataModule
        >>> datamodule = ActiveLearningDataModule(DigitsDataModule(), initial=[5, 2, 9])
        >>> datamodule.setup("fit")
        >>> datamodule.labeled_indices().tolist()
        [5, 2, 9]
        >>> datamodule.num_classes  # unknown attributes reach the wrapped datamodule
        10
    """

    def __init__(
        self,
        datamodule: LightningDataModule,
        *,
        initial: int | float | list[int] = 100,
        pool_dataset: Dataset[Any] | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(datamodule, LightningDataModule):
            other = "pytorch_lightning" in {base.__module__.split(".")[0] for base in type(datamodule).__mro__}
            hint = " Import it from lightning.pytorch: the two packages do not mix." if other else ""
            raise ValueError(
                "Expected `datamodule` to be a lightning.pytorch.LightningDataModule, but got a "
                f"{type(datamodule).__qualname__}.{hint}"
            )
        if isinstance(datamodule, ActiveLearningDataModule):
            raise ValueError("The datamodule is an ActiveLearningDataModule already: pass the plain one.")
        initial = plain_amount(initial)
        count_of(initial, 1 << 62, "initial")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"Expected `seed` to be a whole number, but got {seed!r}.")
        super().__init__()
        # What Lightning's constructor set and the wrapped datamodule has too (hyperparameters, flags) is the latter's.
        for name in vars(self).keys() & vars(datamodule).keys():
            del self.__dict__[name]
        # Past `__setattr__`, which would give `seed` and the like to a wrapped datamodule that has its own.
        self.__dict__ |= {
            "datamodule": datamodule,
            "initial": initial,
            "seed": seed,
            "given_pool_dataset": pool_dataset,
            "fingerprint": "",
            "_dataset": None,
            "_scored": None,
            "_pool": None,
            "_labels": {},
            "_set_up": set(),
            "_run_folder": SharedPath(),
            "_live_in": 0,
        }
        for name in _FORWARDED_HOOKS:
            if is_overridden(name, datamodule):
                setattr(self, name, getattr(datamodule, name))

    # -- transparency
    datamodule: LightningDataModule
    initial: int | float | list[int]
    seed: int
    given_pool_dataset: Dataset[Any] | None
    fingerprint: str
    _dataset: Dataset[Any]
    _scored: Dataset[Any]
    _pool: Pool | None
    _labels: dict[int, Any]
    _set_up: set[str]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "datamodule" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__dict__["datamodule"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        # The Tuner's `scale_batch_size` and CLI links set attributes on what the trainer knows: this wrapper.
        inner = self.__dict__.get("datamodule")
        own = name in self.__dict__ or hasattr(type(self), name)
        its = inner is not None and not name.startswith("_") and (name in vars(inner) or hasattr(type(inner), name))
        if its and not own:
            setattr(inner, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def trainer(self) -> Any:
        """The trainer, the same for the wrapped datamodule."""
        return self._trainer

    @trainer.setter
    def trainer(self, trainer: Any) -> None:
        self.__dict__["_trainer"] = trainer
        if "datamodule" in self.__dict__:
            self.datamodule.trainer = trainer

    # -- the pool
    @property
    def pool(self) -> Pool:
        """What is labeled, unlabeled, pending and rejected, and since which round."""
        elsewhere = self._run_folder.read() if self._live_in != os.getpid() else None
        if elsewhere is not None:  # the run was one of processes that this one spawned, with copies of all this
            return pool_of(RunFolder(elsewhere))
        if self._pool is None:
            raise MisconfigurationException("The pool is known after `setup('fit')`: call it, or `trainer.fit`, first.")
        return self._pool

    def live_here(self) -> None:
        """From now on a run changes the pool of this process."""
        self.__dict__["_live_in"] = os.getpid()

    def share_folder(self, path: Path) -> None:
        """Let the process that spawned this one know where to look the pool up."""
        self._run_folder.write(path)

    def setup(self, stage: str) -> None:
        """Set up the wrapped datamodule, once until it is torn down, and, for ``"fit"``, the pool."""
        if stage not in self._set_up:  # a script's own `setup("fit")`, then the trainer's: a split is drawn once
            self.datamodule.setup(stage)
            self._set_up.add(stage)
        if stage == "fit":
            self.setup_pool()

    def teardown(self, stage: str) -> None:
        """Tear down the wrapped datamodule."""
        self._set_up.discard(stage)
        self.datamodule.teardown(stage)

    def setup_pool(self) -> None:
        """Find the training set and label the initial samples; the wrapped datamodule is set up already.

        Raises:
            MisconfigurationException: The training data are not one DataLoader over a map-style dataset without a
                sampler of its own, or ``pool_dataset`` has another length.
            ValueError: ``initial`` does not fit the data.
        """
        if self._pool is not None:
            return
        self._run_folder.write(None)  # of an earlier run
        dataset = training_dataset(self.datamodule.train_dataloader())
        size = len(cast(Any, dataset))
        pool_dataset = self._find_pool_dataset(dataset, size)
        pool = Pool(size)
        if isinstance(self.initial, list):
            try:
                pool.label(self.initial)
            except PoolError as error:
                raise ValueError(f"`initial` does not fit the training set: {error}") from None
        else:
            generator = torch.Generator().manual_seed(self.seed)
            pool.label(torch.randperm(size, generator=generator, dtype=torch.int32)[: self.initial_count(size)])
        self._dataset, self._scored, self._pool = dataset, pool_dataset, pool
        self.fingerprint, changing = fingerprint(pool_dataset)
        if changing:
            rank_zero_warn(
                "Reading the same training sample twice gave two different samples, so the training set looks "
                "augmented, and the pool would be scored with augmentation. Give the samples without it: a method "
                f"`pool_dataset()` on {type(self.datamodule).__name__}, or ActiveLearningDataModule(pool_dataset=...)."
            )

    def initial_count(self, size: int | None = None) -> int:
        """How many samples ``initial`` asks for."""
        return count_of(self.initial, self.pool.size if size is None else size, "initial")

    def unlabel_initial(self) -> None:
        """Back to nothing labeled, for a cold start that picks the first samples by a strategy."""
        rejected = self.pool.rejected
        self._pool = Pool(self.pool.size)
        self._pool.reject(rejected)

    def _find_pool_dataset(self, dataset: Dataset[Any], size: int) -> Dataset[Any]:
        found = self.given_pool_dataset
        method = getattr(self.datamodule, "pool_dataset", None)
        if found is None and method is not None:
            found = method() if callable(method) else method
        if found is None:
            return dataset
        if not hasattr(found, "__len__") or not hasattr(found, "__getitem__"):
            raise MisconfigurationException(
                "Expected `pool_dataset` to be a map-style dataset, with `__getitem__` and `__len__`, but got a "
                f"{type(found).__name__}."
            )
        if len(cast(Any, found)) != size:
            raise MisconfigurationException(
                f"`pool_dataset` has {len(cast(Any, found))} samples and the training set {size}: they must be the "
                "same samples in the same order, the pool's without augmentation."
            )
        return found

    def labeled_indices(self) -> Tensor:
        """Dataset indices with a label, in the order they came ``(L,)``, int64."""
        return self.pool.labeled

    def unlabeled_indices(self) -> Tensor:
        """Dataset indices a query may pick, ascending ``(U,)``, int64."""
        return self.pool.unlabeled

    def label(self, indices: Sequence[int] | Tensor, labels: Sequence[Any] | None = None) -> None:
        """Label samples; the next train loader has them.

        Args:
            indices: Dataset indices, unlabeled or pending.
            labels: One a sample, taking the place of the dataset's own targets; None where the dataset knows them.

        Raises:
            PoolError: An index is out of range, doubled, labeled or rejected, or the lengths differ.
        """
        if labels is not None and len(labels) != len(indices):
            raise PoolError(f"Got {len(labels)} labels for {len(indices)} indices.")
        self.label_in_round(indices, labels, self.pool.round)

    def label_in_round(self, indices: Sequence[int] | Tensor, labels: Sequence[Any] | None, round: int) -> None:
        """As :meth:`label`, for the round that first trains on the labels."""
        self.pool.label(indices, round)
        if labels is not None:
            own = zip(torch.as_tensor(indices).tolist(), labels, strict=True)
            # Plain numbers for tensors and arrays: what a checkpoint may hold and any batch can take.
            self._labels.update({i: plain_amount(label) for i, label in own if label is not None})

    @property
    def given_labels(self) -> dict[int, Any]:
        """The labels that take the place of the dataset's own targets, by dataset index."""
        return self._labels

    def reject(self, indices: Sequence[int] | Tensor) -> None:
        """Take samples out of the pool for good: junk that cannot be labeled."""
        self.pool.reject(indices)

    # -- loaders
    def train_dataloader(self) -> DataLoader[Any]:
        """The wrapped datamodule's train loader over the labeled samples only."""
        loader = cast("DataLoader[Any]", self.datamodule.train_dataloader())
        dataset, pool = training_dataset(loader), self.pool
        if len(cast(Any, dataset)) != pool.size:
            raise MisconfigurationException(
                f"The training set had {pool.size} samples and now has {len(cast(Any, dataset))}: the pool's indices "
                "would name others. Split the data once, in `setup`, not in `train_dataloader`."
            )
        self._check_batches(len(pool.labeled), loader)
        subset = labeled_subset(dataset, pool.labeled.tolist(), self._labels)
        shuffle = not isinstance(loader.sampler, torch.utils.data.SequentialSampler)
        return DataLoader(
            subset,
            batch_size=loader.batch_size,
            shuffle=shuffle,
            drop_last=loader.drop_last,
            **_arguments(loader),
        )

    def check_batches(self, labels: int) -> None:
        """Raise where a fit on that many labels would have no batch.

        Raises:
            MisconfigurationException: There are no labels, or fewer than a batch and ``drop_last=True``.
        """
        self._check_batches(labels, cast("DataLoader[Any]", self.datamodule.train_dataloader()))

    def _check_batches(self, labels: int, loader: DataLoader[Any]) -> None:
        if labels == 0:
            raise MisconfigurationException(
                f"None of the {self.pool.size} samples is labeled ({len(self.pool.rejected)} were rejected, "
                f"{len(self.pool.pending)} are pending): there is nothing to train on. Label some first, `initial=20`."
            )
        world_size = getattr(self.trainer, "world_size", 1)
        if loader.drop_last and -(-labels // world_size) < (loader.batch_size or 1):
            raise MisconfigurationException(
                f"`drop_last=True` with {labels} labels and a batch size of {loader.batch_size}"
                f"{f' on {world_size} devices' if world_size > 1 else ''} leaves no batch to train on. Set "
                "`drop_last=False` in `train_dataloader`, or a larger `initial`."
            )

    def scoring_dataloader(self, indices: Tensor) -> DataLoader[Any]:
        """A loader over the pool dataset's samples at ``indices``, in that order, without augmentation."""
        loader = cast("DataLoader[Any]", self.datamodule.train_dataloader())
        arguments = _arguments(loader) | {"persistent_workers": False}
        arguments.pop("generator", None)  # a draw from it would change the coming fit's shuffle
        if "in_order" in arguments:
            arguments["in_order"] = True  # a score belongs to the sample at its place
        return DataLoader(self._scored, batch_size=loader.batch_size, sampler=_InOrder(indices), **arguments)

    def scoring_batch_size(self) -> int:
        """Samples in a batch of :meth:`scoring_dataloader`."""
        return self.datamodule.train_dataloader().batch_size or 1

    def preview(self, index: int) -> Any:
        """The pool dataset's sample at a dataset index."""
        return self._scored[index]

    # -- checkpoints
    def state_dict(self) -> dict[str, Any]:
        """The pool as index lists, and the wrapped datamodule's own state."""
        state: dict[str, Any] = {"inner": self.datamodule.state_dict()}
        if self._pool is not None:
            state |= {"pool": self._pool.state_dict(), "fingerprint": self.fingerprint}
            state["labels"] = {str(index): label for index, label in self._labels.items()}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the pool.

        Raises:
            ResumeError: The checkpoint belongs to another dataset.
            PoolError: The checkpoint was changed.
        """
        # `trainer.test(ckpt_path=...)` loads this state too, and an old checkpoint should not take labels away.
        stage = None if self.trainer is None else self.trainer.state.fn
        if self._pool is not None and "pool" in state_dict and stage in (None, TrainerFn.FITTING):
            pool = Pool.from_state_dict(state_dict["pool"])
            self.check_same_dataset(pool.size, str(state_dict.get("fingerprint", "")), "The checkpoint")
            try:
                labels = {int(index): label for index, label in state_dict["labels"].items()}
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise PoolError(f"The checkpoint's labels cannot be read ({error!r}): it was changed.") from None
            self._pool, self._labels = pool, labels
        self.datamodule.load_state_dict(state_dict.get("inner", {}))

    def check_same_dataset(self, size: int, fingerprint: str, source: str) -> None:
        """Raise where a checkpoint or a folder was made with another dataset.

        Raises:
            ResumeError: The size differs, or the samples that were compared do.
        """
        if size != self.pool.size:
            raise ResumeError(f"{source} is of a dataset with {size} samples; this one has {self.pool.size}.")
        if fingerprint and self.fingerprint and fingerprint != self.fingerprint:
            raise ResumeError(f"{source} is of another dataset: as many samples ({size}), but not the same ones.")


class _InOrder(Sampler[int]):
    """Gives dataset indices straight from a tensor: no list of ten million, no lookup through a subset."""

    def __init__(self, indices: Tensor) -> None:
        self.indices = indices

    def __iter__(self) -> Iterator[int]:
        for block in self.indices.split(1 << 16):
            yield from block.tolist()

    def __len__(self) -> int:
        return len(self.indices)


def _arguments(loader: DataLoader[Any]) -> dict[str, Any]:
    arguments = {name: getattr(loader, name) for name in _LOADER_ARGUMENTS if hasattr(loader, name)}
    if not loader.num_workers:
        arguments.pop("prefetch_factor", None)
    if not arguments.get("pin_memory_device"):
        arguments.pop("pin_memory_device", None)
    return arguments
