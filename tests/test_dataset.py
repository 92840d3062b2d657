"""The training set as active learning sees it, against written-out values."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from lightning_al.dataset import (
    count_of,
    fingerprint,
    plain_amount,
    training_dataset,
)


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(5))


def numbers(size: int = 6) -> TensorDataset:
    return TensorDataset(torch.arange(size).float().unsqueeze(1), torch.arange(size) % 3)


# -- amounts
@pytest.mark.parametrize(
    ("amount", "count"),
    [(0, 0), (7, 7), (200, 200), (7.0, 7), (0.25, 50), (0.001, 1), (0.9999, 200), ([5, 2], 2), ((5, 2), 2), ([], 0)],
)
def test_amounts_as_counts(amount: Any, count: int) -> None:
    assert count_of(amount, 200, "initial") == count


@pytest.mark.parametrize(
    ("amount", "message"),
    [
        (-1, "Expected `initial` to be at least 0, but got -1"),
        (201, "`initial` asks for 201 samples and the training set has 200: choose fewer"),
        (1.5, r"a count \(a whole number\) or a share in \(0, 1\), but got 1.5"),
        (1.0, "but got 1.0. For all samples give their number"),
        (-0.5, "but got -0.5"),
        (float("nan"), "but got nan"),
        (float("inf"), "but got inf"),
        (True, "but got True"),
        ("all", "but got 'all'"),
        (None, "but got None"),
        ([3, 7, 3], "list each dataset index once, but 3 stands there twice"),
        ([3, -7], "list dataset indices, but got -7 in it"),
        ([3, 0.5], "list dataset indices, but got 0.5 in it"),
        ([3, True], "list dataset indices, but got True in it"),
    ],
)
def test_bad_amounts_are_named(amount: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count_of(amount, 200, "initial")


def test_least_amount_is_named() -> None:
    with pytest.raises(ValueError, match="Expected `query_size` to be at least 1, but got 0"):
        count_of(0, 200, "query_size", least=1)


@pytest.mark.parametrize(
    ("amount", "plain"),
    [
        (torch.tensor([4, 8]), [4, 8]),
        (np.array([4, 8]), [4, 8]),
        (np.int64(4), 4),
        (np.float32(0.5), 0.5),
        (range(3), [0, 1, 2]),
        ((4, 8), [4, 8]),
        (0.25, 0.25),
        ("all", "all"),
        (None, None),
    ],
)
def test_plain_amount(amount: Any, plain: Any) -> None:
    got = plain_amount(amount)
    assert got == plain
    assert type(got) is type(plain)


# -- the dataset behind a loader
@pytest.mark.parametrize("shuffle", [True, False])
def test_the_dataset_of_a_plain_loader(shuffle: bool) -> None:
    dataset = ConcatDataset([numbers(), numbers()])
    assert training_dataset(DataLoader(dataset, batch_size=2, shuffle=shuffle, drop_last=True)) is dataset


class Balanced(RandomSampler):
    """A sampler of the user's own."""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DataLoader(Stream()), "map-style training set.*Stream has no fixed order or length"),
        (lambda: [DataLoader(numbers()), DataLoader(numbers())], r"but got a list: several.*ConcatDataset\(\[...\]\)"),
        (lambda: {"a": DataLoader(numbers())}, "but got a dict: several train loaders"),
        (lambda: CombinedLoader([DataLoader(numbers())]), "but got a CombinedLoader: several"),
        (lambda: None, "but got a NoneType: return a DataLoader over the training set"),
        (lambda: iter([1, 2]), "but got a list_iterator: return a DataLoader"),
        (
            lambda: DataLoader(numbers(), sampler=WeightedRandomSampler([1.0] * 6, 6)),
            "sampler of its own, WeightedRandomSampler.*Leave out `sampler=` and say `shuffle=True`",
        ),
        (lambda: DataLoader(numbers(), sampler=Balanced(numbers())), "sampler of its own, Balanced"),
        (
            lambda: DataLoader(numbers(), batch_sampler=BatchSampler(SequentialSampler(numbers()), 2, False)),
            "batch_sampler of its own, BatchSampler.*Leave out `batch_sampler=`",
        ),
        (
            lambda: DataLoader(numbers(), sampler=RandomSampler(numbers(), replacement=True)),
            "draws 6 of 6 samples with replacement.*`limit_train_batches`",
        ),
        (
            lambda: DataLoader(numbers(), sampler=RandomSampler(numbers(), num_samples=4)),
            "draws 4 of 6 samples, which has no meaning",
        ),
        (lambda: DataLoader(numbers(), batch_size=None), "`batch_size=None`, so each item of its dataset is a whole"),
    ],
)
def test_loaders_that_cannot_be_queried(make: Any, message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        training_dataset(make())


# -- fingerprints
class Noisy(Dataset[Any]):
    """Draws anew at each reading, from one of the three global generators."""

    def __init__(self, source: str) -> None:
        self.source = source

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> float:
        draw = {
            "torch": lambda: float(torch.rand(())),
            "numpy": lambda: float(np.random.rand()),  # noqa: NPY002 - what users' transforms draw from
            "python": random.random,
        }
        return index + draw[self.source]()


@pytest.mark.parametrize("source", ["torch", "numpy", "python"])
def test_augmentation_is_seen_and_the_random_state_is_kept(source: str) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002 - what users' transforms draw from
    assert fingerprint(Noisy(source)) == ("", True)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002 - what users' transforms draw from
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


class Items(Dataset[Any]):
    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])),
        (torch.tensor(1.0, dtype=torch.bfloat16), torch.tensor(2.0, dtype=torch.bfloat16)),
        (torch.tensor([True]), torch.tensor([False])),
        (torch.eye(3).to_sparse(), torch.ones(3, 3).to_sparse()),
        (np.array([1, 2]), np.array([2, 1])),
        ({"x": 1}, {"y": 1}),
        ((1, "a"), (1, "b")),
        ([None], [0]),
    ],
)
def test_fingerprint_tells_samples_apart(one: Any, other: Any) -> None:
    first = fingerprint(Items([one] * 5))
    assert first == fingerprint(Items([one] * 5))
    assert len(first[0]) == 16
    assert first[0] != fingerprint(Items([one] * 4 + [other]))[0]
    assert first[1] is False


def test_fingerprint_reads_a_few_samples_only() -> None:
    read: list[int] = []

    class Huge(Dataset[int]):
        def __len__(self) -> int:
            return 10_000_000

        def __getitem__(self, index: int) -> int:
            read.append(index)
            return index

    fingerprint(Huge())
    assert len(set(read)) == 8
    assert (min(read), max(read)) == (0, 9_999_999)
