"""Neighbours of the labeled against all distances in float64."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_al.functional.neighbours import neighbours
from tests._helpers import reference
from tests._helpers.probes import LargestAllocation


def points(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize(("labeled", "k"), [(1, 1), (1, 30), (37, 5), (200, 3), (3, 2000)])
def test_equals_all_distances_sorted(dtype, offset, labeled, k):
    pool, known = (points(2000, 16, 0) + offset).to(dtype), (points(labeled, 16, 1) + offset).to(dtype)
    expected: set[int] = set()
    for row in reference.distances(known, pool):
        expected.update(row.argsort()[:k].tolist())
    found = neighbours(pool, known, k)
    assert found.dtype == torch.int64
    if offset and dtype == torch.float32:  # distances that differ in the last digits may change places
        assert len(set(found.tolist()) ^ expected) <= 2
    else:
        assert found.tolist() == sorted(expected)


def test_nothing_is_near_without_labels_and_everything_where_k_covers_the_pool():
    pool = points(9, 3, 0)
    assert neighbours(pool, None, 4).tolist() == []
    assert neighbours(pool, pool[:0], 4).tolist() == []
    assert neighbours(pool[:0], pool, 4).tolist() == []
    assert neighbours(pool, pool[:1], 99).tolist() == list(range(9))
    assert len(neighbours(pool[:1].expand(9, -1), pool[:1], 4)) == 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    pool, known = points(500, 8, 0).to(dtype), points(10, 8, 1).to(dtype)
    assert neighbours(pool, known, 6).tolist() == neighbours(pool.float(), known.float(), 6).tolist()


def test_wrong_inputs_are_refused():
    pool, known = points(30, 4, 0), points(5, 4, 1)
    with pytest.raises(ValueError, match="`k` to be a positive integer, but got 0"):
        neighbours(pool, known, 0)
    with pytest.raises(ValueError, match="the pool's 4 columns, but got 3"):
        neighbours(pool, known[:, 1:], 2)
    known[2, 1] = math.nan
    with pytest.raises(ValueError, match="`labeled_embeddings` to be finite, but got nan at position 2"):
        neighbours(pool, known, 2)


def test_takes_an_eighth_of_the_pool():
    pool = points(30_000, 64, 0).float()
    with LargestAllocation() as largest:
        neighbours(pool, pool[:300] + 1, 20)
    assert largest.bytes <= pool.nbytes / 8
