"""Outputs, needs, names, and that each class calls the function it stands for."""

from __future__ import annotations

import pytest
import torch

from lightning_al import functional, strategies
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy, get_strategy
from tests._helpers.probes import LargestAllocation


def test_outputs_know_their_length():
    assert len(Outputs()) == 0
    assert len(Outputs(dataset_indices=torch.arange(7))) == 7
    assert len(Outputs(probs=torch.rand(3, 2), embeddings=torch.rand(3, 5))) == 3
    with pytest.raises(ValueError, match=r"same samples, but got {'embeddings': 4, 'probs': 3}"):
        Outputs(probs=torch.rand(3, 2), embeddings=torch.rand(4, 5))


def test_needs_name_fields_that_exist():
    with pytest.raises(ValueError, match=r"but got \['embedings'\]"):
        Needs(pool=frozenset({"embedings"}))


def test_only_random_needs_no_forward_pass():
    needs = {name: getattr(strategies, name)().needs for name in strategies.__all__}
    assert needs.pop("Random") == Needs()
    assert all(need.pool & {"probs", "embeddings", "samples"} for need in needs.values())
    assert {name for name, need in needs.items() if need.target} == {"EPIG", "FLQMI"}


@pytest.mark.parametrize(
    ("given", "hint"),
    [("margin", "Did you mean 'Margin'"), ("Entrpy", "Did you mean 'Entropy'"), ("xyz", r"but got 'xyz'\.$")],
)
def test_a_misspelt_name_lists_the_known_and_the_closest(given, hint):
    with pytest.raises(ValueError, match=hint) as error:
        get_strategy(given)
    assert all(repr(name) in str(error.value) for name in strategies.__all__)


def test_a_class_in_place_of_an_instance_is_explained():
    with pytest.raises(ValueError, match=r"Write `Margin\(\)`"):
        get_strategy(strategies.Margin)
    with pytest.raises(ValueError, match="but got None"):
        get_strategy(None)


def test_a_class_of_ones_own_is_found_by_name():
    class FirstComeFirstServed(QueryStrategy):
        needs = Needs()

        def select(self, pool, query_size, *, labeled=None, generator=None):
            return torch.arange(min(query_size, len(pool)))

    assert isinstance(get_strategy("FirstComeFirstServed"), FirstComeFirstServed)


def test_each_class_calls_its_function():
    generator = torch.Generator().manual_seed(0)
    probs, embeddings = torch.randn(90, 4, generator=generator).softmax(1), torch.randn(90, 6, generator=generator)
    known, samples = torch.randn(11, 6, generator=generator), torch.randn(90, 3, 4, generator=generator).softmax(2)
    sure, classes, weights = torch.randn(11, 4, generator=generator).softmax(1), torch.arange(11) % 4, torch.randn(6, 4)
    pool = Outputs(probs=probs, embeddings=embeddings, samples=samples, head=lambda values: values @ weights)
    labeled = Outputs(embeddings=known, probs=sure, targets=classes)

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(3)

    expected = {
        "ALFAMix": functional.alfa_mix(embeddings, pool.head, 9, known, classes, seeded()),
        "BADGE": functional.badge(probs, embeddings, 9, seeded()),
        "BAIT": functional.bait(probs, embeddings, 9, sure, known),
        "BALD": functional.top_k(functional.mutual_information(samples), 9, seeded()),
        "BatchBALD": functional.batch_bald(samples, 9, 10_000, seeded()),
        "CAL": functional.cal(probs, embeddings, 9, sure, known, generator=seeded()),
        "DropQuery": functional.drop_query(embeddings, pool.head, 9, seeded()),
        "FALCUN": functional.falcun(probs, 9, seeded()),
        "GALAXY": functional.galaxy(probs, 9, sure, classes, seeded()),
        "LCMD": functional.lcmd(embeddings, 9, known),
        "MaxHerding": functional.max_herding(embeddings, 9, known, seeded()),
        "MeanStd": functional.top_k(functional.mean_std(samples), 9, seeded()),
        "PosteriorVariance": functional.posterior_variance(embeddings, 9, known),
        "UHerding": functional.uncertainty_herding(embeddings, probs, 9, known, sure, classes, seeded()),
        "VariationRatio": functional.top_k(functional.variation_ratio(samples), 9, seeded()),
        "VoteEntropy": functional.top_k(functional.vote_entropy(samples), 9, seeded()),
        "CoreSet": functional.k_center_greedy(embeddings, 9, known),
        "Entropy": functional.top_k(functional.predictive_entropy(probs), 9, seeded()),
        "KMeans": functional.k_means(embeddings, 9, seeded()),
        "LeastConfidence": functional.top_k(functional.least_confidence(probs), 9, seeded()),
        "Margin": functional.top_k(functional.margin(probs), 9, seeded()),
        "Random": torch.randperm(90, generator=seeded())[:9],
        "TypiClust": functional.typiclust(embeddings, 9, known, seeded()),
    }
    assert expected.keys() <= set(strategies.__all__)
    for name, picks in expected.items():
        chosen = get_strategy(name).select(pool, 9, labeled=labeled, generator=seeded())
        assert chosen.tolist() == picks.tolist(), name


def test_random_is_uniform():
    pool, generator = Outputs(dataset_indices=torch.arange(10)), torch.Generator().manual_seed(0)
    counts = torch.zeros(10)
    for _ in range(2000):
        counts[strategies.Random().select(pool, 3, generator=generator)] += 1
    assert counts.sum() == 6000
    assert ((counts - 600).abs() < 90).all()  # four standard deviations


def test_random_keeps_four_bytes_a_sample():
    indices = torch.arange(10_000_000, dtype=torch.int32)
    with LargestAllocation() as largest:
        picks = strategies.Random().select(Outputs(dataset_indices=indices), 1000)
    assert len(set(picks.tolist())) == 1000
    assert largest.bytes <= indices.nbytes
