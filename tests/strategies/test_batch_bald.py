"""BatchBALD's candidates: the highest BALD of a large pool."""

from __future__ import annotations

import pytest
import torch

from lightning_al.functional.batch_bald import batch_bald
from lightning_al.functional.committee import mutual_information
from lightning_al.strategies import batch_bald as module
from lightning_al.strategies.base import Outputs
from lightning_al.strategies.batch_bald import BatchBALD


def samples(rows: int) -> torch.Tensor:
    return torch.randn(rows, 5, 3, generator=torch.Generator().manual_seed(0)).mul(3).softmax(2)


@pytest.mark.parametrize(("count", "kept"), [(2, 30), (4, 40)])
def test_of_a_large_pool_the_highest_by_bald_are_candidates(count, kept, monkeypatch):
    monkeypatch.setattr(module, "_FEWEST_CANDIDATES", 30)
    monkeypatch.setattr(module, "_CANDIDATES_A_PICK", 10)
    probs = samples(300)
    candidates = mutual_information(probs).argsort(descending=True)[:kept]
    picks = BatchBALD().select(Outputs(samples=probs), count)
    assert picks.tolist() == candidates[batch_bald(probs[candidates], count)].tolist()


def test_a_small_pool_is_taken_whole_and_the_argument_passed_on():
    probs = samples(200)
    for num_samples in (5, 10_000):
        picks = BatchBALD(num_samples).select(Outputs(samples=probs), 6, generator=torch.Generator().manual_seed(3))
        expected = batch_bald(probs, 6, num_samples, torch.Generator().manual_seed(3))
        assert picks.tolist() == expected.tolist()


@pytest.mark.parametrize("number", [0, 1.5, "10", True])
def test_a_wrong_number_of_outcomes_is_refused(number):
    with pytest.raises(ValueError, match=f"`num_samples` to be a positive integer, but got {number!r}"):
        BatchBALD(number)
