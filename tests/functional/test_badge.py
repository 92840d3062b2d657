"""BADGE: the law of its picks against gradients multiplied out, and the cases that broke others."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_al.functional import badge
from lightning_al.functional.d2_sampling import sample_by_squared_distance
from lightning_al.functional.spaces import GradientSpace
from tests._helpers import reference
from tests._helpers.probes import LargestAllocation


def outputs(rows: int, classes: int, columns: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    probs = (2 * torch.randn(rows, classes, generator=generator)).softmax(1)
    return probs, torch.randn(rows, columns, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_distances_equal_those_of_the_gradients(dtype, offset):
    probs, embeddings = outputs(60, 5, 9)
    probs[:5] = probs[0]  # rows that differ in their embeddings only
    probs, embeddings = probs.to(dtype), (embeddings + offset).to(dtype)
    space = GradientSpace(probs, embeddings)
    gradients = reference.gradients(probs, embeddings)
    expected = reference.distances(gradients, gradients).square()
    everything = space.take(slice(0, 60))
    squared = space.squared_distances(everything, everything)
    relative = 1e-9 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(squared.double(), expected, rtol=relative, atol=1e-6)
    torch.testing.assert_close(space.squared_norms.double(), gradients.square().sum(1), rtol=relative, atol=1e-6)
    assert (squared.diagonal() == 0).all()


def test_picks_follow_the_law_of_k_means_plus_plus():
    probs, embeddings = outputs(7, 3, 4, seed=5)
    gradients = reference.gradients(probs, embeddings)
    first = int(gradients.square().sum(1).argmax())
    law = reference.k_means_plus_plus_law(gradients, 4, first)
    assert sum(law.values()) == pytest.approx(1)
    generator = torch.Generator().manual_seed(1)
    drawn = [tuple(badge(probs, embeddings, 4, generator).tolist()) for _ in range(3000)]
    distance, expected = reference.total_variation(law, drawn)
    assert distance < 1.25 * expected


@pytest.mark.parametrize(
    "settings",
    [
        {"_FEWEST_PROPOSALS": 2, "_MOST_PROPOSALS": 2, "_BATCH_COST": -(10**9)},
        {"_FEWEST_PROPOSALS": 2, "_MOST_PROPOSALS": 2, "_PASS_CENTRES": 0, "_BATCH_COST": 10**9},
        {"_FEWEST_PROPOSALS": 3, "_MOST_PROPOSALS": 5, "_BATCH_COST": 30},
        {"_FEWEST_PROPOSALS": 1, "_MOST_PROPOSALS": 1, "_BATCH_COST": -(10**9)},
    ],
    ids=["never-refreshed", "always-refreshed", "both", "each-pick-in-a-batch-of-its-own"],
)
def test_the_law_holds_however_old_the_weights_are(settings, monkeypatch):
    for name, value in settings.items():
        monkeypatch.setattr(f"lightning_al.functional.d2_sampling.{name}", value)
    probs, embeddings = outputs(6, 3, 4, seed=2)
    gradients = reference.gradients(probs, embeddings)
    law = reference.k_means_plus_plus_law(gradients, 3, 4)
    space, generator = GradientSpace(probs, embeddings), torch.Generator().manual_seed(1)
    drawn = [tuple(sample_by_squared_distance(space, 3, 4, generator)) for _ in range(1500)]
    distance, expected = reference.total_variation(law, drawn)
    assert distance < 1.6 * expected  # noise alone seldom gives 1.5; a wrong law gives more


def test_the_law_test_sees_a_wrong_law():
    probs, embeddings = outputs(7, 3, 4, seed=5)
    gradients = reference.gradients(probs, embeddings)
    first = int(gradients.square().sum(1).argmax())
    law = reference.k_means_plus_plus_law(gradients, 3, first)
    wrong = reference.k_means_plus_plus_law(gradients.sign() * gradients.abs().sqrt(), 3, first)  # weights too flat
    chances = torch.tensor(list(wrong.values()))
    generator = torch.Generator().manual_seed(1)
    orders = list(wrong)
    drawn = [orders[i] for i in torch.multinomial(chances, 3000, replacement=True, generator=generator)]
    distance, expected = reference.total_variation(law, drawn)
    assert distance > 1.25 * expected


def test_first_pick_has_the_largest_gradient():
    probs, embeddings = outputs(500, 6, 12)
    largest = reference.gradients(probs, embeddings).square().sum(1).argmax()
    assert badge(probs, embeddings, 1).tolist() == [largest.item()]


def test_spreads_over_a_large_pool_as_the_naive_loop_does():
    """The mean distance to the nearest pick, over picks of a pool where weights are refreshed and stale in turn."""
    probs, embeddings = outputs(3000, 4, 6)
    gradients = reference.gradients(probs, embeddings)
    ours, naive = [], []
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        picks = badge(probs, embeddings, 300, generator)
        assert len(set(picks.tolist())) == 300
        ours.append(torch.cdist(gradients, gradients[picks]).amin(1).square().mean())
        loop = [int(gradients.square().sum(1).argmax())]
        squared = (gradients - gradients[loop[0]]).square().sum(1)
        for _ in range(299):
            loop.append(int(torch.multinomial(squared, 1, generator=generator)))
            squared = torch.minimum(squared, (gradients - gradients[loop[-1]]).square().sum(1))
        naive.append(torch.cdist(gradients, gradients[loop]).amin(1).square().mean())
    assert torch.stack(ours).mean().item() == pytest.approx(torch.stack(naive).mean().item(), rel=0.03)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_fewer_gradients_than_picks_gives_all_of_them_first(offset):
    probs, embeddings = outputs(12, 3, 5)
    probs, embeddings = probs.repeat(20, 1), embeddings.repeat(20, 1) + offset
    picks = badge(probs, embeddings, 100)
    assert len(set(picks.tolist())) == 100
    assert len({pick % 12 for pick in picks[:12].tolist()}) == 12


def test_certain_predictions_have_no_gradient_and_the_rest_is_drawn_uniformly():
    probs = torch.eye(3)[torch.arange(50) % 3]
    probs[7] = torch.tensor([0.5, 0.3, 0.2])
    first = [badge(probs, torch.ones(50, 4), 20, torch.Generator().manual_seed(seed)).tolist() for seed in (0, 1)]
    for picks in first:
        assert picks[0] == 7
        assert len(set(picks)) == 20
    assert first[0] != first[1]


def test_an_untrained_head_far_from_the_origin_still_spreads():
    """All probabilities equal, embeddings offset: without centring, rounding hides that the samples differ."""
    embeddings = torch.cat([torch.randn(95, 8) * 1e-3, 5 * torch.eye(8)[:5]]) + 1000
    picks = badge(torch.full((100, 4), 0.25), embeddings, 6)
    assert set(range(95, 100)) <= set(picks.tolist())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    probs, embeddings = outputs(80, 5, 9)
    picks = badge(probs.to(dtype), embeddings.to(dtype), 80)
    assert sorted(picks.tolist()) == list(range(80))


def test_never_multiplies_the_gradients_out():
    probs, embeddings = outputs(40_000, 20, 64)
    with LargestAllocation() as largest:
        badge(probs, embeddings, 50)
    assert largest.bytes <= embeddings.nbytes / 4


def test_wrong_inputs_are_refused():
    probs, embeddings = outputs(30, 3, 4)
    with pytest.raises(ValueError, match="for each of 30 `probs`, but got 29"):
        badge(probs, embeddings[1:], 2)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        badge(probs - 0.5, embeddings, 2)
    embeddings[11, 0] = math.nan
    with pytest.raises(ValueError, match="`embeddings` to be finite, but got nan at position 11"):
        badge(probs, embeddings, 2)
    probs[4, 1] = math.inf
    with pytest.raises(ValueError, match="`probs` to be finite, but got inf at position 4"):
        badge(probs, embeddings, 2)
