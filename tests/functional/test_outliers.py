"""Distances to nearest neighbours against the whole matrix of distances."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_al.functional import outliers
from lightning_al.functional.outliers import knn_distances
from tests._helpers import reference
from tests._helpers.probes import LargestAllocation


def points(rows: int, columns: int = 5) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


def mean_of_nearest(x: Tensor, k: int) -> list[float]:
    rows = reference.distances(x, x).tolist()
    others = [sorted(row[:i] + row[i + 1 :])[:k] for i, row in enumerate(rows)]
    return [sum(nearest) / len(nearest) for nearest in others]


@pytest.mark.parametrize("tile", [4, 16, 1024])
@pytest.mark.parametrize("k", [1, 10, 69, 200])
def test_equals_the_sorted_distances(k, tile, monkeypatch):
    monkeypatch.setattr(outliers, "_TILE", tile)
    pool = points(70).double()
    assert knn_distances(pool, k).tolist() == pytest.approx(mean_of_nearest(pool, k), rel=1e-12)


@pytest.mark.parametrize(
    ("dtype", "offset", "within"),
    [(torch.float32, 0, 1e-5), (torch.float32, 1000, 1e-5), (torch.float16, 0, 1e-5), (torch.bfloat16, 0, 1e-5)],
)
def test_other_precisions_are_computed_in_float32(dtype, offset, within):
    pool = points(300).to(dtype) + offset
    distances = knn_distances(pool, 10)
    assert distances.dtype == torch.float32
    assert distances.tolist() == pytest.approx(mean_of_nearest(pool, 10), rel=within)


def test_copies_are_at_no_distance_and_one_sample_has_no_neighbours():
    pool = points(8, 64).repeat(12, 1) + 1000
    assert knn_distances(pool, 11).tolist() == [0.0] * 96
    assert knn_distances(pool, 12).tolist() == pytest.approx(mean_of_nearest(pool, 12), rel=1e-4)
    assert knn_distances(pool[:1]).tolist() == [0.0]
    assert knn_distances(pool[:0]).tolist() == []


def test_what_is_not_finite_or_no_number_of_neighbours_is_named():
    pool = points(30)
    pool[12, 2] = math.inf
    with pytest.raises(ValueError, match="`embeddings` to be finite, but got inf at position 12"):
        knn_distances(pool)
    with pytest.raises(ValueError, match="`k` to be a positive integer, but got 0"):
        knn_distances(pool, 0)
    with pytest.raises(ValueError, match="floating-point tensor, but got"):
        knn_distances(torch.ones(3, 2, dtype=torch.int64))


def test_never_copies_the_pool():
    pool = points(10_000, 512)
    with LargestAllocation() as largest:
        knn_distances(pool)
    assert largest.bytes <= pool.nbytes / 4
