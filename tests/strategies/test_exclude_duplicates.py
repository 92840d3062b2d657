"""A strategy that does not get to see the same sample twice."""

from __future__ import annotations

import pytest
import torch

from lightning_al import ActiveLearning
from lightning_al.strategies import ExcludeDuplicates, ExcludeOutliers, Margin
from lightning_al.strategies.base import Outputs


def pool() -> Outputs:
    """Twelve samples, of which the four most uncertain are one sample four times."""
    generator = torch.Generator().manual_seed(3)
    embeddings = torch.randn(12, 4, generator=generator)
    embeddings[[2, 5, 7, 9]] = embeddings[2].clone()
    first = torch.linspace(0.6, 0.95, 12)
    first[[2, 5, 7, 9]] = 0.5
    return Outputs(probs=torch.stack([first, 1 - first], dim=1), embeddings=embeddings)


def test_of_a_sample_that_is_there_four_times_one_is_asked() -> None:
    assert Margin().select(pool(), 4).sort().values.tolist() == [2, 5, 7, 9]
    assert ExcludeDuplicates("Margin").select(pool(), 4).tolist() == [2, 0, 1, 3]


def test_none_is_asked_where_it_is_labeled() -> None:
    labeled = Outputs(embeddings=pool().embeddings[[2]])
    assert ExcludeDuplicates("Margin").select(pool(), 3, labeled=labeled).tolist() == [0, 1, 3]


def test_duplicates_fill_a_query_that_needs_them() -> None:
    picks = ExcludeDuplicates("Margin").select(pool(), 11).tolist()
    assert len(set(picks)) == 11
    assert len({2, 5, 7, 9} & set(picks)) == 3


def test_the_callback_wraps_its_strategy() -> None:
    callback = ActiveLearning("Margin", 5, rounds=2, exclude_outliers=0.1, exclude_duplicates=True)
    assert isinstance(callback.strategy, ExcludeOutliers)
    assert isinstance(callback.strategy.strategy, ExcludeDuplicates)
    assert callback.strategy.share == 0.1
    assert repr(ActiveLearning("Margin", 5, rounds=2).strategy) == "Margin()"


@pytest.mark.parametrize("share", [-0.1, 1.0, True])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"Expected `exclude_outliers` to be a share of the pool in \[0, 1\)"):
        ActiveLearning(rounds=2, exclude_outliers=share)
    with pytest.raises(ValueError, match="Expected `share` to be at least 0"):
        ExcludeDuplicates(share=-1)
