"""Outliers are left out, positions are those of the whole pool, and the strategy within stays what it is."""

from __future__ import annotations

import pytest
import torch

from lightning_al.strategies import CoreSet, Margin
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy
from lightning_al.strategies.exclude_outliers import ExcludeOutliers

FAR = [3, 17, 40]


def pool(rows: int = 60) -> Outputs:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(rows, 4, generator=generator)
    embeddings[FAR] += 50 * torch.eye(4)[:3]
    probs = torch.randn(rows, 3, generator=generator).softmax(1)
    return Outputs(probs=probs, embeddings=embeddings, dataset_indices=torch.arange(rows))


class Recorder(QueryStrategy):
    """Picks the first samples, and keeps what it was shown."""

    needs = Needs(pool=frozenset({"probs"}), target=frozenset({"probs"}))

    def select(self, pool, query_size, *, labeled=None, generator=None, target=None):
        self.seen = (pool, labeled, target, generator)
        return torch.arange(min(query_size, len(pool)))

    def state_dict(self):
        return {"queries": 7}

    def load_state_dict(self, state):
        self.restored = state


def test_picks_what_the_strategy_picks_among_the_others():
    outputs = pool()
    others = [i for i in range(60) if i not in FAR]
    inner = Margin().select(outputs.take(torch.tensor(others)), 20).tolist()
    assert ExcludeOutliers("Margin", share=0.05).select(outputs, 20).tolist() == [others[i] for i in inner]
    assert set(FAR) <= set(CoreSet().select(outputs, 4).tolist())
    assert not set(FAR) & set(ExcludeOutliers(CoreSet()).select(outputs, 57).tolist())


@pytest.mark.parametrize(("query_size", "left_out"), [(57, 3), (58, 2), (59, 1), (60, 0), (99, 0)])
def test_leaves_out_no_more_than_the_query_can_spare(query_size, left_out):
    picks = ExcludeOutliers("Margin").select(pool(), query_size).tolist()
    assert len(set(picks)) == len(picks) == min(query_size, 60)
    assert len(set(FAR) & set(picks)) == 3 - left_out


def test_no_share_leaves_the_query_as_it_is():
    outputs, generator = pool(), torch.Generator
    with_none = ExcludeOutliers("Random", share=0).select(outputs, 9, generator=generator().manual_seed(3))
    assert torch.equal(
        with_none, ExcludeOutliers("Random", 0.0, 1).strategy.select(outputs, 9, generator=generator().manual_seed(3))
    )


def test_hands_on_labels_targets_generator_and_state():
    recorder, outputs, generator = Recorder(), pool(), torch.Generator()
    strategy = ExcludeOutliers(recorder)
    assert strategy.needs == Needs(pool=frozenset({"probs", "embeddings"}), target=frozenset({"probs"}))
    labeled, target = Outputs(probs=torch.ones(2, 1)), Outputs(probs=torch.ones(3, 1))
    picks = strategy.select(outputs, 5, labeled=labeled, target=target, generator=generator)
    assert picks.tolist() == [0, 1, 2, 4, 5]
    shown, *rest = recorder.seen
    assert shown.dataset_indices.tolist() == [i for i in range(60) if i not in FAR]
    assert rest[0] is labeled
    assert rest[1] is target
    assert rest[2] is generator
    strategy.load_state_dict(strategy.state_dict())
    assert recorder.restored == {"queries": 7}


def test_wrong_arguments_are_refused():
    for share in (1, -0.1, 1.5, "a", True, float("nan")):
        with pytest.raises(ValueError, match=r"`share` to be a share of the pool in \[0, 1\)"):
            ExcludeOutliers("Margin", share=share)
    with pytest.raises(ValueError, match="`neighbours` to be a positive integer, but got 0"):
        ExcludeOutliers("Margin", neighbours=0)
    with pytest.raises(ValueError, match="Did you mean 'Margin'"):
        ExcludeOutliers("Margins")


def test_a_subset_has_the_rows_of_every_field():
    def head(rows):
        return rows

    whole = Outputs(samples=torch.arange(24.0).view(4, 2, 3), targets=torch.tensor([5, 6, 7, 8]), head=head)
    part = whole.take(torch.tensor([3, 0]))
    assert part.samples.tolist() == [whole.samples[3].tolist(), whole.samples[0].tolist()]
    assert part.targets.tolist() == [8, 5]
    assert part.head is head
    assert part.probs is part.embeddings is part.dataset_indices is None
