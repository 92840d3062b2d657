"""A test set that is part of the pilot is refused, copied samples are counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import Subset, TensorDataset

from lightning_al.study.overlap import identical_samples, near_duplicates, refuse_shared

DATA = TensorDataset(torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3)


def test_parts_of_one_dataset_that_meet_are_refused() -> None:
    with pytest.raises(MisconfigurationException, match=r"shares 2 of its 4 samples .*index 8 of the TensorDataset"):
        refuse_shared(Subset(DATA, range(10)), Subset(DATA, [8, 9, 20, 21]))
    with pytest.raises(MisconfigurationException, match="shares 30 of its 30"):
        refuse_shared(DATA, DATA)


def test_a_part_of_a_part_is_followed_to_the_whole() -> None:
    second = Subset(Subset(DATA, range(10, 20)), [0, 5])  # 10 and 15 of the whole
    refuse_shared(Subset(DATA, range(10)), second)
    with pytest.raises(MisconfigurationException, match=r"shares 1 of its 2 samples .*index 15"):
        refuse_shared(Subset(DATA, [15]), second)


def test_parts_that_do_not_meet_and_other_datasets_pass() -> None:
    refuse_shared(Subset(DATA, range(10)), Subset(DATA, range(10, 30)))
    refuse_shared(DATA, TensorDataset(*DATA.tensors))
    refuse_shared(DATA, None)


def test_copied_inputs_are_counted_whatever_their_label() -> None:
    inputs = torch.cat([DATA.tensors[0][[3, 7]], torch.zeros(5, 4)])
    assert identical_samples(DATA, TensorDataset(inputs, torch.zeros(7))) == (2, 7)
    assert identical_samples(DATA, None) == (0, 0)


def test_dicts_are_compared_without_labels_and_indices() -> None:
    pilot = [{"x": torch.tensor([1.0]), "label": 0, "index": 0}, {"x": torch.tensor([2.0]), "label": 1, "index": 1}]
    test = [{"x": torch.tensor([2.0]), "label": 0, "index": 5}, {"x": torch.tensor([3.0]), "label": 1, "index": 6}]
    assert identical_samples(pilot, test) == (1, 2)


def test_random_numbers_that_a_dataset_draws_are_put_back() -> None:
    class Noisy:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.rand(2), 0

    torch.manual_seed(1)
    identical_samples(Noisy(), Noisy())
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert drawn == torch.rand(1)


def test_near_duplicates_against_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    pilot, test = rng.normal(size=(40, 6)), rng.normal(size=(10, 6))
    test[2], test[7] = pilot[5] * (1 + 1e-9), pilot[9] * 3
    cosine = [max(a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in pilot) for a in test]
    assert near_duplicates(pilot, test) == sum(1 - each < 1e-6 for each in cosine) == 2
