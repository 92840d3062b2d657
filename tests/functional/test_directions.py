"""Unit vectors of some rows of a pool: lengths that cannot be squared, and pools far from the origin."""

from __future__ import annotations

import pytest
import torch

from lightning_al.functional.directions import CandidateDirections, spread_over, unit_rows
from tests._helpers import reference


@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1.0, 1e37])
def test_rows_have_length_one_whatever_their_size(scale):
    rows = torch.randn(20, 7, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([row / row.norm() for row in rows.double()]).float()
    torch.testing.assert_close(unit_rows(rows * scale), expected, rtol=1e-5, atol=1e-6)
    assert unit_rows(torch.zeros(2, 3)).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_distances_are_those_of_the_candidates_directions(offset, dtype):
    pool = (torch.randn(900, 6, generator=torch.Generator().manual_seed(1)).double() + offset).to(dtype)
    candidates = torch.arange(3, 900, 7)
    space = CandidateDirections(pool, candidates)
    exact = pool.double()[candidates]
    exact /= exact.norm(dim=1, keepdim=True)
    expected = reference.distances(exact, exact)
    everything = space.take(torch.arange(len(space)))
    measured = space.squared_distances(everything, everything).sqrt().double()
    torch.testing.assert_close(measured, expected, rtol=1e-4, atol=1e-10 if dtype == torch.float64 else 1e-6)


@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_one_sample_is_picked_from_each_group_of_directions(offset):
    """Groups at three angles; within a group lengths differ by orders of magnitude, and do not matter."""
    generator = torch.Generator().manual_seed(2)
    angles = torch.tensor([0.0, 2.0, 4.0]).repeat(40) + 0.01 * torch.randn(120, generator=generator)
    lengths = 10 ** (4 * torch.rand(120, generator=generator) - 2)
    pool = lengths[:, None] * torch.stack([angles.cos(), angles.sin()], 1)
    pool = torch.cat([pool, torch.full((120, 2), offset)])
    picks = spread_over(pool, torch.arange(120), 3, generator)
    assert {pick % 3 for pick in picks.tolist()} == {0, 1, 2}
    assert picks.max() < 120


def test_all_candidates_come_before_others_and_equal_ones_are_not_repeated():
    pool, generator = torch.ones(30, 4), torch.Generator().manual_seed(0)
    picks = spread_over(pool, torch.tensor([4, 9]), 10, generator).tolist()
    assert picks[:2] == [4, 9]
    assert len(set(picks)) == 10
    among = torch.arange(5, 25)
    picks = spread_over(pool, among, 12, generator).tolist()
    assert len(set(picks)) == 12
    assert set(picks) <= set(among.tolist())
