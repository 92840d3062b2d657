"""A LightningDataModule around any other: its train loader sees only what is labeled."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_al.dataset import count_of, find_pool_dataset, fingerprint, plain_amount, training_dataset
from lightning_al.exceptions import PoolError, ResumeError
from lightning_al.labels import check_kinds, labeled_subset, target_of
from lightning_al.ledger import LedgerRow
from lightning_al.loaders import scoring_loader, training_loader
from lightning_al.pool import Pool
from lightning_al.run_folder import RunFolder
from lightning_al.sample_names import class_names, path_of
from lightning_al.spawned import SharedPath, pool_of
from lightning_al.transparent import TransparentDataModule


class ActiveLearningDataModule(TransparentDataModule):
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

    initial: int | float | list[int]
    seed: int
    given_pool_dataset: Dataset[Any] | None
    fingerprint: str
    _dataset: Dataset[Any]
    _scored: Dataset[Any]
    _pool: Pool | None
    _labels: dict[int, Any]

    def __init__(
        self,
        datamodule: LightningDataModule,
        *,
        initial: int | float | list[int] = 100,
        pool_dataset: Dataset[Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(datamodule)
        initial = plain_amount(initial)
        count_of(initial, 1 << 62, "initial")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"Expected `seed` to be a whole number, but got {seed!r}.")
        self.__dict__ |= {
            "initial": initial,
            "seed": seed,
            "given_pool_dataset": pool_dataset,
            "fingerprint": "",
            "_dataset": None,
            "_scored": None,
            "_pool": None,
            "_labels": {},
            "_run_folder": SharedPath(),
            "_live_in": 0,
        }

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
        super().setup(stage)
        if stage == "fit":
            self.setup_pool()

    def setup_pool(self, remedy: str | None = None) -> None:
        """Find the training set and label the initial samples; the wrapped datamodule is set up already.

        Args:
            remedy: How the user gives samples without augmentation, where the callback made this wrapper.

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
        pool_dataset = find_pool_dataset(self.given_pool_dataset, self.datamodule, dataset)
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
            inner = type(self.datamodule).__name__
            remedy = remedy or f"a method `pool_dataset()` on {inner}, or ActiveLearningDataModule(pool_dataset=...)"
            rank_zero_warn(
                "Reading the same training sample twice gave two different samples, so the training set looks "
                f"augmented, and the pool would be scored with augmentation. Give the samples without it: {remedy}."
            )

    def initial_count(self, size: int | None = None) -> int:
        """How many samples ``initial`` asks for."""
        return count_of(self.initial, self.pool.size if size is None else size, "initial")

    def unlabel_initial(self) -> None:
        """Back to nothing labeled, for a cold start that picks the first samples by a strategy."""
        rejected = self.pool.rejected
        self._pool = Pool(self.pool.size)
        self._pool.reject(rejected)

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

    def take_later_answers(self, rows: Sequence[LedgerRow], round: int) -> None:
        """Put answers into the pool that came late, were corrected, or were given past any query.

        Args:
            rows: In the order they came.
            round: The round that first trains on them.
        """
        often = {index for index, count in Counter(row.dataset_index for row in rows).items() if count > 1}
        self._move_answered([row for row in rows if row.dataset_index not in often], round)
        for row in rows:
            if row.dataset_index in often:  # to and fro: one after the other
                self._move_answered([row], round)
            if row.rejected:
                self._labels.pop(row.dataset_index, None)
            elif row.label is not None:
                self._labels[row.dataset_index] = row.label

    def _move_answered(self, rows: Sequence[LedgerRow], round: int) -> None:
        """Move each sample, there once, to where its answer says."""
        sides: tuple[Literal["labeled", "rejected"], ...] = ("labeled", "rejected")
        held = {side: set(getattr(self.pool, side).tolist()) for side in sides}
        for side, other in (sides, sides[::-1]):
            mine = [row.dataset_index for row in rows if row.rejected == (side == "rejected")]
            back = [index for index in mine if index in held[other]]
            new = [index for index in mine if index not in held["labeled"] | held["rejected"]]
            (self.pool.reject if side == "rejected" else self.pool.label)(new, round)
            if back:
                self.pool.correct(back, side, round)

    def pool_and_labels(self) -> tuple[Pool, dict[int, Any]]:
        """The pool and the labels as they are now, for `put_back`."""
        return self.pool.copy(), dict(self._labels)

    def put_back(self, state: tuple[Pool, dict[int, Any]]) -> None:
        """Forget what was labeled since `pool_and_labels`."""
        self._pool, self._labels = state[0].copy(), dict(state[1])

    @property
    def class_names(self) -> list[str] | None:
        """The names of the classes by index, where datamodule or training set have them."""
        return class_names(self.datamodule, self._dataset)

    def path(self, index: int) -> str | None:
        """The file of a sample, where the dataset says."""
        found = path_of(self._scored, index)
        return path_of(self._dataset, index) if found is None else found

    def check_labels(self, labels: Mapping[int, Any]) -> None:
        """Raise where new labels are of another kind than the targets that they will share batches with.

        One training sample is read to see: a labeled one, or the first of the new ones where there is none yet.

        Raises:
            ValueError: A label is text where the dataset's targets are numbers, or the like.
        """
        given = {index: label for index, label in labels.items() if label is not None}
        if given:
            index = [*self.pool.labeled[:1].tolist(), *given][0]
            with isolate_rng():  # its augmentation must not reach the coming fit
                sample = labeled_subset(self._dataset, [index], self._labels)[0]
            check_kinds(given, index, target_of(sample))

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
        return training_loader(loader, labeled_subset(dataset, pool.labeled.tolist(), self._labels))

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

    def scoring_dataloader(self, indices: Tensor, dataset: Dataset[Any] | None = None) -> DataLoader[Any]:
        """A loader over a dataset's samples at ``indices``, in that order; of the pool's, without augmentation."""
        loader = cast("DataLoader[Any]", self.datamodule.train_dataloader())
        return scoring_loader(loader, self._scored if dataset is None else dataset, indices)

    def scoring_batch_size(self) -> int:
        """Samples in a batch of :meth:`scoring_dataloader`."""
        return self.datamodule.train_dataloader().batch_size or 1

    def targets(self, indices: Sequence[int]) -> list[Any]:
        """The labels of labeled samples: those given, else the dataset's own."""
        with isolate_rng():  # their augmentation must not reach the coming fit
            return [self._labels[index] if index in self._labels else self._own_target(index) for index in indices]

    def _own_target(self, index: int) -> Any:
        # of the pool's where it has one: a training set that is augmented may draw from a generator of its own
        target = target_of(self._scored[index])
        return target_of(self._dataset[index]) if target is None else target

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
