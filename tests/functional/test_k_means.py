"""k-means: seeds against the law, steps against Lloyd's loop, picks against the nearest points."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_al.functional import k_means
from lightning_al.functional.k_means import cluster, k_means_plus_plus, lloyd, nearest_unique
from lightning_al.functional.spaces import EuclideanSpace
from tests._helpers import reference


def points(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def test_seeds_follow_the_law_of_k_means_plus_plus():
    space = EuclideanSpace(points(5, 3) + 1000)
    law = reference.k_means_plus_plus_law(points(5, 3) + 1000, 3)
    generator = torch.Generator().manual_seed(0)
    drawn = [tuple(k_means_plus_plus(space, 3, generator)) for _ in range(2500)]
    distance, expected = reference.total_variation(law, drawn)
    assert distance < 1.25 * expected


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_steps_equal_lloyds(iterations):
    pool = points(400, 6).double() + 100
    space = EuclideanSpace(pool)
    seeds = k_means_plus_plus(space, 8, torch.Generator().manual_seed(1))
    clusters = lloyd(space, seeds, iterations)
    labels, centroids = reference.lloyd(pool, pool[seeds], iterations)
    assert clusters.labels.tolist() == labels
    torch.testing.assert_close(clusters.centroids + space.origin, centroids)


def test_an_empty_cluster_starts_again_at_the_farthest_point():
    pool = torch.tensor([[0.0], [0.1], [0.2], [9.0], [9.1], [30.0]])
    space = EuclideanSpace(pool)
    clusters = lloyd(space, [0, 0, 3])  # two centroids on one point: the second gets none
    assert clusters.labels.bincount(minlength=3).tolist() == [3, 1, 2]


def test_finds_separate_clusters():
    centres = 50 * torch.eye(6, 20)
    pool = centres.repeat_interleave(30, 0) + points(180, 20)
    labels = cluster(EuclideanSpace(pool), 6, torch.Generator().manual_seed(0)).labels.view(6, 30)
    assert (labels == labels[:, :1]).all()
    assert sorted(labels[:, 0].tolist()) == list(range(6))
    picks = k_means(pool, 6)
    assert sorted((picks // 30).tolist()) == list(range(6))


def test_picks_are_the_nearest_that_are_free():
    pool = points(120, 5).double()
    space = EuclideanSpace(pool)
    centroids = torch.cat([points(6, 5, seed=3), points(6, 5, seed=3) + 1e-3, points(6, 5, seed=3) - 1e-3]).double()
    picks = nearest_unique(space, centroids)
    assert len(set(picks)) == 18
    distances = reference.distances(centroids, pool - space.origin)
    for centroid in range(18):  # nearest of all in turn; those that find theirs taken come after the others
        closer = (distances[centroid] < distances[centroid, picks[centroid]]).nonzero()[:, 0].tolist()
        assert set(closer) <= set(picks)
    nearest = distances.argmin(1).tolist()
    for centroid, position in enumerate(nearest):
        assert (picks[centroid] == position) is (nearest.index(position) == centroid)  # the first to come has it


@pytest.mark.parametrize("distinct", [1, 4, 10])
def test_fewer_distinct_points_than_clusters(distinct):
    pool = points(distinct, 3).repeat(10, 1) + 1000
    picks = k_means(pool, 10).tolist()
    assert len(set(picks)) == 10
    assert len({pick % distinct for pick in picks}) == distinct


def test_lowers_the_squared_error_below_that_of_the_seeds():
    pool = points(3000, 4).double()
    space = EuclideanSpace(pool)
    seeds = k_means_plus_plus(space, 20, torch.Generator().manual_seed(0))
    clusters = lloyd(space, seeds)
    moved = reference.distances(pool - space.origin, clusters.centroids).amin(1).square().mean()
    assert moved < 0.8 * reference.distances(pool, pool[seeds]).amin(1).square().mean()


def test_an_embedding_that_is_not_finite_is_named():
    pool = points(30, 3)
    pool[12, 2] = -math.inf
    with pytest.raises(ValueError, match="`embeddings` to be finite, but got -inf at position 12"):
        k_means(pool, 3)
