"""Prefilter: the highest scores, and another strategy on them."""

from __future__ import annotations

import pytest
import torch

from lightning_al.strategies import BADGE, CoreSet, Entropy, KMeans, LeastConfidence, Margin
from lightning_al.strategies.base import Outputs
from lightning_al.strategies.flqmi import FLQMI
from lightning_al.strategies.prefilter import Prefilter


def outputs(rows: int, seed: int) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    return Outputs(
        probs=torch.randn(rows, 3, generator=generator).softmax(1), embeddings=torch.randn(rows, 4, generator=generator)
    )


@pytest.mark.parametrize(("score", "strategy"), [(Margin(), CoreSet()), ("Entropy", "CoreSet")])
@pytest.mark.parametrize("factor", [1, 4, 99])
def test_picks_what_the_strategy_picks_among_the_highest_scores(score, strategy, factor):
    pool, labeled = outputs(60, 0), outputs(5, 1)
    picks = Prefilter(score, strategy, factor).select(pool, 6, labeled=labeled)
    scores = (score if isinstance(score, Margin) else Entropy()).score(pool.probs)
    kept = sorted(scores.argsort(descending=True)[: 6 * factor].tolist())
    few = Outputs(embeddings=pool.embeddings[kept])
    expected = CoreSet().select(few, 6, labeled=Outputs(embeddings=labeled.embeddings))
    assert picks.tolist() == [kept[i] for i in expected.tolist()]


def test_hands_the_target_on():
    pool, target = outputs(60, 0), outputs(4, 1)
    filtered = Prefilter("Margin", FLQMI(), 3)
    assert filtered.needs.target == {"embeddings"}
    kept = Margin().score(pool.probs).argsort(descending=True)[:15].sort().values
    expected = kept[FLQMI().select(Outputs(embeddings=pool.embeddings[kept]), 5, target=target)]
    assert torch.equal(filtered.select(pool, 5, target=target), expected)


def test_needs_names_and_refusals():
    filtered = Prefilter("Margin", "BADGE")
    assert filtered.needs.pool == {"probs", "embeddings"}
    assert filtered.name == "Prefilter(Margin, BADGE)"
    assert repr(filtered) == "Prefilter(score=Margin(), strategy=BADGE(), factor=10)"
    assert filtered.state_dict() == {"score": {}, "strategy": {}}
    assert isinstance(Prefilter().strategy, KMeans)
    assert Prefilter(LeastConfidence(), CoreSet()).needs.labeled == {"embeddings"}
    with pytest.raises(ValueError, match=r"`score` to be a strategy that scores each .*, but got BADGE\(\)"):
        Prefilter(BADGE(), "Margin")
    for factor in (0, 1.5, "2"):
        with pytest.raises(ValueError, match="`factor` to be a positive integer, but got"):
            Prefilter(factor=factor)
    with pytest.raises(ValueError, match="`query_size` to be a positive integer, but got 0"):
        filtered.select(outputs(9, 0), 0)
