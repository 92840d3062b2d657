"""EPIG's targets: those given, else some of the pool."""

from __future__ import annotations

import pytest
import torch

from lightning_al.functional.predictive_information import expected_predictive_information_gain
from lightning_al.strategies import epig
from lightning_al.strategies.base import Outputs
from lightning_al.strategies.epig import EPIG


def samples(rows: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, 5, 3, generator=torch.Generator().manual_seed(seed)).mul(3).softmax(2)


def highest(pool: torch.Tensor, targets: torch.Tensor, count: int) -> list[int]:
    return expected_predictive_information_gain(pool, targets).argsort(descending=True)[:count].tolist()


def test_takes_the_highest_for_the_targets_given():
    pool, targets = samples(40, 0), samples(6, 1)
    picks = EPIG().select(Outputs(samples=pool), 7, target=Outputs(samples=targets))
    assert picks.tolist() == highest(pool, targets, 7)
    assert picks.tolist() != highest(pool, pool, 7)


@pytest.mark.parametrize("target", [None, Outputs(), Outputs(samples=torch.empty(0, 5, 3))])
def test_without_targets_the_pool_is_the_target(target):
    pool = samples(40, 0)
    assert EPIG().select(Outputs(samples=pool), 7, target=target).tolist() == highest(pool, pool, 7)


def test_of_a_large_pool_a_part_drawn_by_the_seed_is_the_target(monkeypatch):
    monkeypatch.setattr(epig, "_TARGETS", 3)
    pool = Outputs(samples=samples(40, 0))
    drawn = [EPIG().select(pool, 40, generator=torch.Generator().manual_seed(seed)).tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_targets_without_samples_are_named():
    with pytest.raises(ValueError, match="Expected `samples` in the outputs for the targets of EPIG"):
        EPIG().select(Outputs(samples=samples(9, 0)), 2, target=Outputs(probs=torch.rand(4, 3)))
