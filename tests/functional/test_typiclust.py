"""TypiClust against the paper's loop on the same clusters, and that it always returns enough."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_al.functional import typiclust
from lightning_al.functional.k_means import cluster
from lightning_al.functional.spaces import EuclideanSpace
from tests._helpers import reference


def points(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize(("labeled", "query_size"), [(0, 1), (0, 4), (0, 25), (7, 5), (30, 40), (3, 140)])
def test_equals_the_papers_loop(labeled, query_size):
    everything = points(140 + labeled, 4)
    pool, known = everything[:140], everything[140:]
    picks = typiclust(pool, query_size, known, torch.Generator().manual_seed(2)).tolist()
    space = EuclideanSpace(pool, known)
    clusters = cluster(space, min(labeled + query_size, len(everything)), torch.Generator().manual_seed(2))
    expected = reference.typiclust(everything, clusters.labels.tolist(), labeled, query_size)
    assert picks == expected


def test_asks_where_there_are_no_labels_first():
    centres = 100 * torch.eye(5, 8, dtype=torch.float64)
    pool = centres.repeat_interleave(20, 0) + points(100, 8)
    known = centres[[0, 2]] + points(2, 8, seed=1)
    picks = typiclust(pool, 3, known)
    assert sorted((picks // 20).tolist()) == [1, 3, 4]


def test_only_small_clusters_still_give_enough():
    pool = 100 * torch.eye(12).repeat_interleave(3, 0) + points(36, 12).float()
    picks = typiclust(pool, 12).tolist()
    assert sorted(pick // 3 for pick in picks) == list(range(12))
    assert sorted(typiclust(pool, 36).tolist()) == list(range(36))


def test_more_picks_than_clusters_allowed():
    pool = points(700, 3)
    assert sorted(typiclust(pool, 650).tolist()) == sorted(set(typiclust(pool, 650).tolist()))
    assert len(typiclust(pool, 650)) == 650


def test_an_embedding_that_is_not_finite_is_named():
    pool = points(30, 3)
    pool[12, 2] = math.nan
    with pytest.raises(ValueError, match="`embeddings` to be finite, but got nan at position 12"):
        typiclust(pool, 3)
    with pytest.raises(ValueError, match="`labeled_embeddings` to be finite, but got nan at position 0"):
        typiclust(pool[:12], 3, pool[12:13])
