"""A test set that is part of the pilot is refused, copied samples are counted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import Subset, TensorDataset

from lightning_al.study import overlap
from lightning_al.study.overlap import Contents, Samples, near_duplicates, refuse_shared, warn_of_copies

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
    assert Contents(DATA, TensorDataset(inputs, torch.zeros(7))).copies() == (2, 7)
    assert Contents(DATA, None).copies() == (0, 0)


def test_dicts_are_compared_without_labels_and_indices() -> None:
    pilot = [{"x": torch.tensor([1.0]), "label": 0, "index": 0}, {"x": torch.tensor([2.0]), "label": 1, "index": 1}]
    test = [{"x": torch.tensor([2.0]), "label": 0, "index": 5}, {"x": torch.tensor([3.0]), "label": 1, "index": 6}]
    assert Contents(pilot, test).copies() == (1, 2)


class Noted(list[tuple[torch.Tensor, int]]):
    """Samples that note who is read."""

    def __init__(self, samples: Iterable[tuple[torch.Tensor, int]]) -> None:
        super().__init__(samples)
        self.read: list[int] = []

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
        self.read.append(position)
        return super().__getitem__(position)


def test_a_sample_is_read_once_whatever_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "_MOST_HASHED", 4)
    monkeypatch.setattr(overlap, "_MOST", 8)
    pilot, test = Noted(DATA), Noted(list(DATA)[:6])
    contents = Contents(pilot, test)
    first = contents.digest
    assert (pilot.read, test.read) == ([0, 9, 19, 29], [0, 1, 3, 5])  # evenly over the whole
    assert (contents.copies(), contents.digest) == ((2, 6), first)  # of the pilot 0, 4, 8, 12, 16, 20, 24 and 29
    assert (len(pilot.read), sorted(test.read)) == (len(set(pilot.read)), list(range(6)))


def test_the_digest_sees_labels_and_what_stands_at_the_end() -> None:
    x, y = DATA.tensors
    whole = Contents(DATA, DATA).digest
    assert Contents(TensorDataset(x.clone(), y.clone()), DATA).digest == whole
    relabeled, moved = y.clone(), x.clone()
    relabeled[-1] = 1
    moved[-1] += 1
    assert len({whole, *(Contents(TensorDataset(*each), DATA).digest for each in [(x, relabeled), (moved, y)])}) == 3
    assert Samples(range(10_001)).spread(5) == [0, 2500, 5000, 7500, 10_000]


def test_the_warning_of_copies_is_kept_with_the_study(tmp_path: Path) -> None:
    told = ["30 of 30 test samples are in the pilot too, byte for byte: they flatter every fit."]
    with pytest.warns(UserWarning, match="30 of 30 test samples"):
        assert warn_of_copies(Contents(DATA, DATA), tmp_path) == told
    unread = Noted(DATA)
    with pytest.warns(UserWarning, match="Take them out of one of the two"):
        assert warn_of_copies(Contents(unread, unread), tmp_path) == told
    assert unread.read == []


def test_random_numbers_that_a_dataset_draws_are_put_back() -> None:
    class Noisy:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.rand(2), 0

    torch.manual_seed(1)
    Contents(Noisy(), Noisy()).copies()
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert drawn == torch.rand(1)


def test_near_duplicates_against_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    pilot, test = rng.normal(size=(40, 6)), rng.normal(size=(10, 6))
    test[2], test[7] = pilot[5] * (1 + 1e-9), pilot[9] * 3
    cosine = [max(a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in pilot) for a in test]
    assert near_duplicates(pilot, test) == sum(1 - each < 1e-6 for each in cosine) == 2
