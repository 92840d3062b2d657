"""DataLoaders over parts of the data, with the arguments that the user gave theirs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, SequentialSampler

_ARGUMENTS = (
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


def training_loader(loader: DataLoader[Any], labeled: Dataset[Any]) -> DataLoader[Any]:
    """The user's train loader over the labeled samples only, shuffled where theirs is."""
    return DataLoader(
        labeled,
        batch_size=loader.batch_size,
        shuffle=not isinstance(loader.sampler, SequentialSampler),
        drop_last=loader.drop_last,
        **_arguments(loader),
    )


def scoring_loader(loader: DataLoader[Any], dataset: Dataset[Any], indices: Tensor) -> DataLoader[Any]:
    """A loader like the user's over a dataset's samples at ``indices``, all of them and in that order."""
    arguments = _arguments(loader) | {"persistent_workers": False}
    arguments.pop("generator", None)  # a draw from it would change the coming fit's shuffle
    if "in_order" in arguments:
        arguments["in_order"] = True  # a score belongs to the sample at its place
    return DataLoader(dataset, batch_size=loader.batch_size, sampler=_InOrder(indices), **arguments)


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
    arguments = {name: getattr(loader, name) for name in _ARGUMENTS if hasattr(loader, name)}
    if not loader.num_workers:
        arguments.pop("prefetch_factor", None)
    if not arguments.get("pin_memory_device"):
        arguments.pop("pin_memory_device", None)
    return arguments
