"""The training set as active learning sees it: one map-style dataset, a labeled part of it, its fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, Subset


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
            doubled = next(i for i in amount if amount.count(i) > 1)
            raise ValueError(f"Expected `{name}` to list each dataset index once, but {doubled} is there twice or more.")
        count = len(amount)
    elif isinstance(amount, float) and not amount.is_integer():
        if not 0 < amount < 1:
            raise ValueError(f"Expected `{name}` to be a count or a share in (0, 1), but got {amount}.")
        count = max(1, round(amount * size))
    elif isinstance(amount, (int, float)) and not isinstance(amount, bool):
        count = int(amount)
    else:
        raise ValueError(f"Expected `{name}` to be a count, a share in (0, 1) or a list of indices, but got {amount!r}.")
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
        raise MisconfigurationException(
            f"Active learning needs `train_dataloader` to give one torch.utils.data.DataLoader, but got "
            f"{type(loader).__name__}. Several train loaders cannot share one labeled pool: make one of them."
        )
    dataset = loader.dataset
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise MisconfigurationException(
            f"Active learning needs a map-style training set, with `__getitem__` and `__len__`, but "
            f"{type(dataset).__name__} is iterable: a query must name the samples it wants."
        )
    sampler, batch_sampler = loader.sampler, loader.batch_sampler
    for custom, plain, name in (
        (sampler, (RandomSampler, SequentialSampler), "sampler"),
        (batch_sampler, (BatchSampler, type(None)), "batch_sampler"),
    ):
        if type(custom) not in plain:
            raise MisconfigurationException(
                f"The train loader has a {name} of its own, {type(custom).__name__}, which would give unlabeled "
                f"samples. Leave out `{name}=` and say `shuffle=True`; balance classes by the loss's weights instead."
            )
    return dataset


class LabeledSubset(Subset[Any]):
    """The labeled samples; where an oracle gave a label, it takes the place of the dataset's own target."""

    def __init__(self, dataset: Dataset[Any], indices: Sequence[int], labels: Mapping[int, Any]) -> None:
        super().__init__(dataset, indices)
        self.labels = labels

    def __getitem__(self, position: Any) -> Any:
        index = self.indices[position]
        sample = self.dataset[index]
        return with_label(sample, self.labels[index]) if index in self.labels else sample

    def __getitems__(self, positions: list[int]) -> list[Any]:
        return [self[position] for position in positions]


def labeled_subset(dataset: Dataset[Any], indices: Sequence[int], labels: Mapping[int, Any]) -> Subset[Any]:
    """The samples at ``indices``: torch's own subset, at its own speed, unless an oracle gave labels of its own."""
    return LabeledSubset(dataset, indices, labels) if labels else Subset(dataset, indices)


def with_label(sample: Any, label: Any) -> Any:
    """A sample with another target: the second of a tuple or list; put behind a sample that has none.

    Example:
        >>> with_label((1.5, 0, "a.png"), 7)
        (1.5, 7, 'a.png')
        >>> with_label(1.5, 7)
        (1.5, 7)
    """
    if isinstance(sample, (tuple, list)):
        rest = list(sample)
        return type(sample)([rest[0], label, *rest[2:]])
    if isinstance(sample, Mapping):
        key = next((k for k in ("label", "labels", "target", "targets") if k in sample), "label")
        return {**sample, key: label}
    return sample, label


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
            np.random.seed(repeat)  # noqa: NPY002 - what the user's transforms draw from
            for position in positions:
                _digest(dataset[position], content)
        digests.append(content.hexdigest()[:16])
    changing = digests[0] != digests[1]
    return ("" if changing else digests[0]), changing


def _digest(value: Any, content: Any) -> None:
    if isinstance(value, Tensor):
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
