"""The training set as active learning sees it: one map-style dataset, amounts of its samples, its fingerprint."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
)


def plain_amount(amount: Any) -> Any:
    """A tensor, an array, a tuple or a range of indices as a list, a tensor's or array's number as a number.

    Example:
        >>> plain_amount(torch.tensor([4, 8])), plain_amount(range(3)), plain_amount(0.1)
        ([4, 8], [0, 1, 2], 0.1)
    """
    if hasattr(amount, "tolist"):
        return amount.tolist()
    return list(amount) if isinstance(amount, Sequence) and not isinstance(amount, str) else amount


def count_of(amount: int | float | Sequence[int], size: int, name: str, least: int = 0) -> int:
    """A count, a share of ``size`` in (0, 1), or a list, as a count.

    Raises:
        ValueError: ``amount`` is none of these, below ``least``, or more than ``size``.

    Example:
        >>> count_of(30, 200, "initial"), count_of(0.25, 200, "initial"), count_of([4, 8], 200, "initial")
        (30, 50, 2)
    """
    if isinstance(amount, Sequence) and not isinstance(amount, str):
        bad = [i for i in amount if not isinstance(i, int) or isinstance(i, bool) or i < 0]
        if bad:
            raise ValueError(f"Expected `{name}` to list dataset indices, but got {bad[0]!r} in it.")
        if len(set(amount)) != len(amount):
            doubled = Counter(amount).most_common(1)[0][0]
            raise ValueError(f"Expected `{name}` to list each dataset index once, but {doubled} stands there twice.")
        count = len(amount)
    elif isinstance(amount, float) and (amount == 1.0 or not amount.is_integer()):
        if not 0 < amount < 1:  # 1.0 too: one sample, or all of them?
            raise ValueError(
                f"Expected `{name}` to be a count (a whole number) or a share in (0, 1), but got {amount}. For all "
                "samples give their number."
            )
        count = max(1, round(amount * size))
    elif isinstance(amount, (int, float)) and not isinstance(amount, bool):
        count = int(amount)
    else:
        raise ValueError(f"Expected `{name}` to be a count, a share in (0, 1) or a list, but got {amount!r}.")
    if count < least:
        raise ValueError(f"Expected `{name}` to be at least {least}, but got {amount}.")
    if count > size:
        raise ValueError(f"`{name}` asks for {count} samples and the training set has {size}: choose fewer.")
    return count


def training_dataset(loader: Any) -> Dataset[Any]:
    """The map-style dataset behind a train loader.

    Raises:
        MisconfigurationException: There are several loaders, the dataset is iterable or has no length, or the loader
            has a sampler of its own, which would pick unlabeled samples.
    """
    if not isinstance(loader, DataLoader):
        hint = "return a DataLoader over the training set"
        if isinstance(loader, (Sequence, Mapping, CombinedLoader)):
            hint = "several train loaders cannot share one labeled pool: join their datasets, ConcatDataset([...])"
        raise MisconfigurationException(
            f"Active learning needs `train_dataloader` to give one torch.utils.data.DataLoader, but got a "
            f"{type(loader).__name__}: {hint}."
        )
    dataset = loader.dataset
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise MisconfigurationException(
            f"Active learning needs a map-style training set, with `__getitem__` and `__len__`, but "
            f"{type(dataset).__name__} has no fixed order or length: a query must name the samples it wants. Read the "
            "stream into a list once, or index its files."
        )
    sampler, batch_sampler = loader.sampler, loader.batch_sampler
    for custom, plain, name in (
        (sampler, (RandomSampler, SequentialSampler), "sampler"),
        (batch_sampler, (BatchSampler, type(None)), "batch_sampler"),
    ):
        given = name == "batch_sampler" and custom is not None and loader.batch_size is None
        if given or type(custom) not in plain:
            raise MisconfigurationException(
                f"The train loader has a {name} of its own, {type(custom).__name__}, which would give unlabeled "
                f"samples. Leave out `{name}=` and say `shuffle=True`; balance classes by the loss's weights instead."
            )
    if loader.batch_size is None:
        raise MisconfigurationException(
            "The train loader has `batch_size=None`, so each item of its dataset is a whole batch, and a query could "
            "not name single samples. Give it a dataset of samples and a `batch_size`."
        )
    if isinstance(sampler, RandomSampler) and (sampler.replacement or sampler.num_samples != len(cast(Any, dataset))):
        raise MisconfigurationException(
            f"The train loader's RandomSampler draws {sampler.num_samples} of {len(cast(Any, dataset))} samples"
            f"{' with replacement' if sampler.replacement else ''}, which has no meaning over a labeled part that "
            "grows. Leave out `sampler=` and say `shuffle=True`; `limit_train_batches` shortens an epoch."
        )
    return dataset


def find_pool_dataset(given: Any, datamodule: LightningDataModule, training_set: Dataset[Any]) -> Dataset[Any]:
    """The training samples as they are scored: those given, the datamodule's ``pool_dataset()``, or the training set.

    Raises:
        MisconfigurationException: It is no map-style dataset, or has another length than the training set.
    """
    own = getattr(datamodule, "pool_dataset", None)
    found = given if given is not None else own() if callable(own) else own
    if found is None:
        return training_set
    if not hasattr(found, "__len__") or not hasattr(found, "__getitem__"):
        raise MisconfigurationException(
            "Expected `pool_dataset` to be a map-style dataset, with `__getitem__` and `__len__`, but got a "
            f"{type(found).__name__}."
        )
    if len(found) != len(cast(Any, training_set)):
        raise MisconfigurationException(
            f"`pool_dataset` has {len(found)} samples and the training set {len(cast(Any, training_set))}: they must "
            "be the same samples in the same order, the pool's without augmentation."
        )
    return cast("Dataset[Any]", found)


def fingerprint(dataset: Dataset[Any], samples: int = 8) -> tuple[str, bool]:
    """A hash of a few samples, to tell this dataset from another of the same length.

    Each is read twice: where the two differ the samples are drawn anew at each reading, by augmentation say, and
    there is nothing to compare.

    Returns:
        The hash (empty where the samples change), and whether they change.
    """
    size = len(cast(Any, dataset))
    positions = sorted({round(i * (size - 1) / max(samples - 1, 1)) for i in range(samples)})
    digests = []
    for repeat in range(2):
        content = hashlib.sha256()
        with isolate_rng():
            # Another seed for the second reading: the same one would draw the same augmentation.
            torch.manual_seed(repeat)
            random.seed(repeat)
            np.random.seed(repeat)  # noqa: NPY002 - what the user's transforms draw from
            for position in positions:
                _digest(dataset[position], content)
        digests.append(content.hexdigest()[:16])
    changing = digests[0] != digests[1]
    return ("" if changing else digests[0]), changing


def _digest(value: Any, content: Any) -> None:
    if isinstance(value, Tensor):
        value = value.to_dense() if value.layout != torch.strided else value
        content.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, np.ndarray):
        content.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        for key in value:
            content.update(str(key).encode())
            _digest(value[key], content)
    elif isinstance(value, (tuple, list)):
        for part in value:
            _digest(part, content)
    elif hasattr(value, "tobytes"):
        content.update(value.tobytes())  # a PIL image
    elif isinstance(value, (str, bytes, int, float, bool, type(None))):
        content.update(repr(value).encode())
