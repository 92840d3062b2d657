"""What ClusterMargin remembers: clusters are found once, by dataset index, and survive a checkpoint."""

from __future__ import annotations

import io
import math

import pytest
import torch

from lightning_al.functional.cluster_margin import agglomerate, cluster_margin
from lightning_al.strategies import cluster_margin as module
from lightning_al.strategies.base import Outputs
from lightning_al.strategies.cluster_margin import ClusterMargin


def pool_of(indices: torch.Tensor, seed: int = 0) -> Outputs:
    """Return the outputs of some of 200 samples; a seed is a model."""
    generator = torch.Generator().manual_seed(seed)
    probs = (2 * torch.randn(200, 4, generator=generator)).softmax(1)
    embeddings = torch.randn(200, 3, generator=generator)
    return Outputs(probs=probs[indices], embeddings=embeddings[indices], dataset_indices=indices)


@pytest.fixture
def clustered(monkeypatch) -> list[int]:
    """Count the samples of each clustering."""
    counted: list[int] = []

    def counting(embeddings: torch.Tensor) -> torch.Tensor:
        counted.append(len(embeddings))
        return agglomerate(embeddings)

    monkeypatch.setattr(module, "agglomerate", counting)
    return counted


def test_clusters_are_found_once_and_follow_the_dataset_indices(clustered):
    strategy, generator = ClusterMargin(), torch.Generator().manual_seed(0)
    first = pool_of(torch.randperm(200, generator=generator)[:150])
    strategy.select(first, 10)
    clusters = agglomerate(first.embeddings)
    by_index = dict(zip(first.dataset_indices.tolist(), clusters.tolist(), strict=True))
    rest = first.dataset_indices[20:].flip(0)
    later = pool_of(rest, seed=1)  # another model, whose embeddings are not asked again
    picks = strategy.select(later, 10, generator=torch.Generator().manual_seed(5))
    expected = torch.tensor([by_index[index] for index in rest.tolist()])
    assert torch.equal(picks, cluster_margin(later.probs, expected, 10, 10.0, torch.Generator().manual_seed(5)))
    assert clustered == [150]


def test_samples_that_come_later_are_clustered_among_themselves(clustered):
    strategy = ClusterMargin()
    strategy.select(pool_of(torch.arange(0, 100)), 5)
    before = strategy.state_dict()["clusters"]
    strategy.select(pool_of(torch.arange(50, 200)), 5)
    after = strategy.state_dict()["clusters"]
    assert clustered == [100, 100]
    assert torch.equal(after[:100], before)
    assert not set(after[100:].tolist()) & set(before.tolist())
    assert torch.equal(after[100:] - before.max() - 1, agglomerate(pool_of(torch.arange(100, 200)).embeddings))


def test_the_memory_survives_a_checkpoint_that_loads_weights_only(clustered):
    strategy, file = ClusterMargin(candidates=2), io.BytesIO()
    strategy.select(pool_of(torch.arange(30, 200)), 5)
    torch.save(strategy.state_dict(), file)
    file.seek(0)
    resumed = ClusterMargin(candidates=2)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    later = pool_of(torch.arange(40, 190), seed=2)
    assert torch.equal(resumed.select(later, 9), strategy.select(later, 9))
    assert clustered == [170]
    assert (resumed.state_dict()["clusters"][:30] == -1).all()


def test_a_state_is_a_copy_and_a_wrong_one_is_refused():
    strategy = ClusterMargin()
    strategy.select(pool_of(torch.arange(50)), 5)
    state = strategy.state_dict()
    state["clusters"].fill_(0)
    assert strategy.state_dict()["clusters"].max() > 0
    for wrong in ({}, {"clusters": [1, 2]}, {"clusters": torch.ones(3)}, {**state, "stray": 1}):
        with pytest.raises(ValueError, match="int64 tensor `clusters`, but got"):
            strategy.load_state_dict(wrong)


def test_a_query_that_fails_leaves_no_memory():
    pool = pool_of(torch.arange(50))
    pool.probs[7, 0] = math.nan
    strategy = ClusterMargin()
    with pytest.raises(ValueError, match="`probs` to be finite, but got nan at position 7"):
        strategy.select(pool, 5)
    assert len(strategy.state_dict()["clusters"]) == 0


@pytest.mark.parametrize("candidates", [0.9, math.inf, math.nan, True])
def test_wrong_arguments_are_refused(candidates):
    with pytest.raises(ValueError, match="Expected `candidates` to be a number of at least 1, but got"):
        ClusterMargin(candidates)
    assert repr(ClusterMargin(1.25)) == "ClusterMargin(candidates=1.25)"
