"""What the covering strategies do beside calling their function: classes counted, radii kept."""

from __future__ import annotations

import pytest
import torch

from lightning_al.functional.dcom import adapt_deltas, dcom
from lightning_al.functional.herding import uncertainty_herding
from lightning_al.functional.prob_cover import prob_cover
from lightning_al.strategies.base import Outputs
from lightning_al.strategies.dcom import DCoM
from lightning_al.strategies.prob_cover import ProbCover
from lightning_al.strategies.uncertainty_herding import UHerding


def outputs(rows: int, seed: int = 0) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    probs = (3 * torch.randn(rows, 3, generator=generator)).softmax(1)
    embeddings = torch.randn(rows, 4, generator=generator)
    return Outputs(probs, embeddings=embeddings, targets=probs.argmax(1), dataset_indices=torch.arange(rows) + 10)


def first(whole: Outputs, rows: int) -> Outputs:
    return whole.take(torch.arange(rows))


def test_prob_cover_looks_for_as_many_clusters_as_classes_are_known():
    pool, labeled = outputs(150), outputs(9, seed=1)
    labeled.targets = torch.tensor([0, 1, 2] * 3)
    picks = ProbCover().select(pool, 12, labeled=labeled)
    assert torch.equal(picks, prob_cover(pool.embeddings, 12, labeled.embeddings, num_classes=3))
    labeled.targets = torch.zeros(9, dtype=torch.int64)
    picks = ProbCover().select(pool, 12, labeled=labeled)
    assert torch.equal(picks, prob_cover(pool.embeddings, 12, labeled.embeddings, num_classes=12))
    assert torch.equal(ProbCover(delta=0.4).select(pool, 12), prob_cover(pool.embeddings, 12, delta=0.4))


@pytest.mark.parametrize("strategy", [ProbCover, DCoM])
def test_a_radius_that_is_none_is_refused(strategy):
    for delta in (0, -1, float("nan"), "1"):
        with pytest.raises(ValueError, match="`delta` to be a number above 0"):
            strategy(delta)


def test_uncertainty_herding_calibrates_on_what_is_labeled():
    pool, labeled = outputs(150), outputs(9, seed=1)
    labeled.targets = (labeled.targets + 1) % 3
    parts = (labeled.embeddings, labeled.probs, labeled.targets)
    picks = UHerding().select(pool, 12, labeled=labeled)
    assert torch.equal(picks, uncertainty_herding(pool.embeddings, pool.probs, 12, *parts))
    assert not torch.equal(picks, uncertainty_herding(pool.embeddings, pool.probs, 12, parts[0]))


def test_dcom_keeps_the_radii_of_old_labels_and_adapts_those_of_new():
    pool, labeled = outputs(150), outputs(9, seed=1)
    strategy = DCoM(delta=0.3)
    assert torch.equal(strategy.select(pool, 5), dcom(pool.embeddings, pool.probs, 5, delta=0.3))
    strategy.select(pool, 5, labeled=first(labeled, 6))
    old = strategy.state_dict()["radii"]
    labeled.probs = labeled.probs.flip(1)  # another model, for which the old would get other radii
    picks = strategy.select(pool, 5, labeled=labeled)
    deltas = torch.tensor([*old.values(), *[torch.nan] * 3])
    parts = (labeled.embeddings, labeled.probs, labeled.targets)
    radii = adapt_deltas(pool.embeddings, pool.probs, *parts, deltas)
    assert strategy.state_dict()["radii"] == pytest.approx(dict(zip(range(10, 19), radii.tolist(), strict=True)))
    assert torch.equal(picks, dcom(pool.embeddings, pool.probs, 5, labeled.embeddings, radii))


def test_dcom_goes_on_from_its_state():
    pool, labeled = outputs(150), outputs(9, seed=1)
    strategy, other = DCoM(), DCoM()
    strategy.select(pool, 5, labeled=first(labeled, 6))
    other.load_state_dict(strategy.state_dict())
    assert torch.equal(strategy.select(pool, 5, labeled=labeled), other.select(pool, 5, labeled=labeled))
    assert strategy.state_dict() == other.state_dict()
    with pytest.raises(ValueError, match="the key 'radii' for DCoM, but got \\['stray'\\]"):
        other.load_state_dict({"stray": 1})
