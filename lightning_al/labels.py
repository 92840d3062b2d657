"""Labels that an oracle gave, in the place of the dataset's own targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

_TARGET_KEYS = ("label", "labels", "target", "targets")


class LabeledSubset(Subset[Any]):
    """The labeled samples; where an oracle gave a label, it takes the place of the dataset's own target."""

    def __init__(self, dataset: Dataset[Any], indices: Sequence[int], labels: Mapping[int, Any]) -> None:
        super().__init__(dataset, indices)
        self.labels = dict(labels)  # as the dataset's own targets are, from the first time each is read

    def __getitem__(self, position: Any) -> Any:
        index = self.indices[position]
        sample = self.dataset[index]
        if index not in self.labels:
            return sample
        label = self.labels[index]
        if type(sample) is not tuple or len(sample) != 2:
            return with_label(sample, label)
        if type(label) is not type(sample[1]):
            label = self.labels[index] = like(label, sample[1])
        return sample[0], label

    def __getitems__(self, positions: list[int]) -> list[Any]:
        return [self[position] for position in positions]


def labeled_subset(dataset: Dataset[Any], indices: Sequence[int], labels: Mapping[int, Any]) -> Subset[Any]:
    """The samples at ``indices``: torch's own subset, at its own speed, unless an oracle gave labels of its own."""
    return LabeledSubset(dataset, indices, labels) if labels else Subset(dataset, indices)


def target_of(sample: Any) -> Any:
    """A sample's own target: the second of a tuple or list, or a mapping's; None where it has none.

    Example:
        >>> target_of((1.5, 0, "a.png")), target_of({"x": 1.5, "label": 2}), target_of(1.5)
        (0, 2, None)
    """
    if isinstance(sample, (tuple, list)):
        return sample[1] if len(sample) > 1 else None
    if isinstance(sample, Mapping):
        return next((sample[key] for key in _TARGET_KEYS if key in sample), None)
    return None


def with_label(sample: Any, label: Any) -> Any:
    """A sample with another target: the second of a tuple or list; put behind a sample that has none.

    Where the sample has a target of its own the label becomes one of its kind, so that both fit into one batch.

    Example:
        >>> with_label((1.5, 0, "a.png"), 7)
        (1.5, 7, 'a.png')
        >>> with_label(1.5, 7)
        (1.5, 7)
    """
    if isinstance(sample, (tuple, list)):
        changed = list(sample)
        changed[1:2] = [like(label, target_of(sample))]
        if isinstance(sample, list):
            return changed
        # a namedtuple's type takes its fields one by one
        return type(sample)(*changed) if hasattr(sample, "_fields") and len(sample) > 1 else tuple(changed)
    if isinstance(sample, Mapping):
        key = next((key for key in _TARGET_KEYS if key in sample), "label")
        return {**sample, key: like(label, sample.get(key))}
    return sample, label


def like(label: Any, target: Any) -> Any:
    """A label as the dataset's own target is: a tensor, an array or a number of the same type.

    Example:
        >>> like(3, torch.tensor(0.0)), like(3, 0.5), like("weed", 2)
        (tensor(3.), 3.0, 'weed')
    """
    number = isinstance(label, (bool, int, float, list))
    if isinstance(target, Tensor) and number:
        return torch.as_tensor(label, dtype=target.dtype, device=target.device)
    if isinstance(target, (np.ndarray, np.generic)) and number:
        return np.asarray(label, dtype=target.dtype)[()]
    if isinstance(target, float) and isinstance(label, (bool, int)):
        return float(label)
    return label


def check_kinds(labels: Mapping[int, Any], index: int, target: Any) -> None:
    """Raise where a label is of another kind than a target that it may share a batch with.

    Args:
        labels: The labels by dataset index; None for the dataset's own target.
        index: The dataset index of the target.
        target: The target. One of a kind that is not known here fits any label.

    Raises:
        ValueError: One of the two is a number, text, a list or a mapping, and the other is not.

    Example:
        >>> check_kinds({7: 2, 9: None}, index=3, target=torch.tensor(0))
        >>> check_kinds({7: "weed"}, index=3, target=0)
        Traceback (most recent call last):
        ...
        ValueError: Expected the label of dataset index 7 to be a number, ...
    """
    wanted = _kind(target)
    for at, label in labels.items():
        if wanted is not None and label is not None and _kind(label) != wanted:
            raise ValueError(
                f"Expected the label of dataset index {at} to be {wanted}, as the dataset's targets are (that of index "
                f"{index} is {target!r}), but got {label!r}, and no batch could hold both. Give labels coded as the "
                "targets are, or let the dataset give targets of the labels' kind, placeholders where none is known."
            )


def _kind(value: Any) -> str | None:
    if isinstance(value, (str, np.str_)):
        return "text"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) > 0:
        return "a list"
    return "a number" if isinstance(value, (Number, Tensor, np.ndarray, np.generic)) else None
