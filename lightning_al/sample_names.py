"""What people call the samples and classes of a dataset: files and names, where the data say."""

from __future__ import annotations

import bisect
import os
from collections.abc import Sequence
from typing import Any

from torch.utils.data import ConcatDataset, Subset

_PATHS = ("paths", "files", "filenames", "image_paths", "samples", "imgs")


def path_of(dataset: Any, index: int) -> str | None:
    """The file of a sample.

    Args:
        dataset: As torchvision's folders have them, the files are the list ``samples``, of tuples that begin with a
            path; ``paths``, ``files`` or ``filenames`` of as many paths as samples are known too. Subsets and
            concatenations are looked into.
        index: Position of the sample.

    Returns:
        The path; None where the dataset does not say.

    Example:
        >>> class Photos:
        ...     paths = ["a.png", "b.png", "c.png"]
        ...
        ...     def __len__(self):
        ...         return 3
        >>> path_of(Subset(Photos(), [2, 0]), 0)
        'c.png'
    """
    if isinstance(dataset, Subset):
        return path_of(dataset.dataset, dataset.indices[index])
    if isinstance(dataset, ConcatDataset):
        part = bisect.bisect_right(dataset.cumulative_sizes, index)
        return path_of(dataset.datasets[part], index - (dataset.cumulative_sizes[part - 1] if part else 0))
    for name in _PATHS:
        files = getattr(dataset, name, None)
        if isinstance(files, Sequence) and not isinstance(files, str) and len(files) == len(dataset):
            file = files[index][0] if isinstance(files[index], (tuple, list)) and files[index] else files[index]
            if isinstance(file, (str, os.PathLike)):
                return os.fspath(file)
    return None


def class_names(*sources: Any) -> list[str] | None:
    """The names of the classes by index, of the first source that has a list of texts as ``classes``.

    Args:
        sources: Datamodules and datasets; subsets are looked into.

    Returns:
        The names; None where no source has any.

    Example:
        >>> class Photos:
        ...     classes = ("crop", "weed")
        >>> class_names(object(), Subset(Photos(), [2, 0]))
        ['crop', 'weed']
    """
    for source in sources:
        while isinstance(source, Subset):
            source = source.dataset
        names = getattr(source, "classes", None)
        if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
            return list(names)
    return None
