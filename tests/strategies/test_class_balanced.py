"""ClassBalanced: quotas by hand, and the strategy's own picks within a class."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from lightning_al.strategies import Margin, Random
from lightning_al.strategies.base import Outputs
from lightning_al.strategies.class_balanced import ClassBalanced


def outputs(predicted: list[int]) -> Outputs:
    """Return samples predicted as said, ever less surely."""
    probs = torch.full((len(predicted), 3), 0.1)
    for row, name in enumerate(predicted):
        probs[row, name] += 0.7 - 0.004 * row
        probs[row, (name + 1) % 3] += 0.004 * row
    return Outputs(probs=probs, dataset_indices=torch.arange(len(predicted)))


def test_each_pick_is_for_the_class_with_the_fewest_labels():
    pool = outputs([0, 0, 0, 0, 1, 1, 2, 0, 1])
    labeled = Outputs(targets=torch.tensor([0] * 4 + [1] * 2))
    picks = ClassBalanced("Margin").select(pool, 6, labeled=labeled).tolist()
    # Class 2 gives its only sample, class 1 its three, least sure first, until it has 5; class 0 has 4, and its turn.
    assert picks == [6, 8, 5, 7, 4, 3]


@pytest.mark.parametrize("labeled", [None, Outputs()])
def test_without_labels_classes_share_alike(labeled):
    predicted = [0] * 50 + [1] * 20 + [2] * 2
    picks = ClassBalanced("Random").select(outputs(predicted), 12, labeled=labeled).tolist()
    assert len(set(picks)) == 12
    assert Counter(predicted[pick] for pick in picks) == {0: 5, 1: 5, 2: 2}


def test_the_strategy_picks_within_a_class_with_the_generator_given():
    pool = outputs([0] * 30 + [1] * 3)
    picks = ClassBalanced(Random()).select(pool, 3, generator=torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(2)
    first = Random().select(Outputs(dataset_indices=torch.arange(30)), 2, generator=generator)
    second = Random().select(Outputs(dataset_indices=torch.arange(3)), 1, generator=generator) + 30
    assert picks.tolist() == [int(first[0]), int(second[0]), int(first[1])]


def test_needs_names_and_refusals():
    balanced = ClassBalanced()
    assert balanced.needs.pool == {"probs"}
    assert balanced.needs.labeled == {"targets"}
    assert balanced.name == "ClassBalanced(Margin)"
    assert repr(balanced) == "ClassBalanced(strategy=Margin())"
    assert isinstance(balanced.strategy, Margin)
    with pytest.raises(ValueError, match="classes from 0 to 2, but got 3 at position 1"):
        balanced.select(outputs([0, 1]), 1, labeled=Outputs(targets=torch.tensor([0, 3])))
    with pytest.raises(ValueError, match=r"of shape \(2,\), but got \(2, 3\)"):
        balanced.select(outputs([0, 1]), 1, labeled=Outputs(targets=torch.zeros(2, 3, dtype=torch.int64)))
    with pytest.raises(ValueError, match="`targets` in the outputs for the labeled samples"):
        balanced.select(outputs([0, 1]), 1, labeled=Outputs(embeddings=torch.zeros(2, 3)))
