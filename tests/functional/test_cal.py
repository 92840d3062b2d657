"""CAL against the paper's loop: neighbours sorted one by one, divergences summed one by one."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_al.functional import predictive_entropy, top_k
from lightning_al.functional.cal import cal, contrastive_divergence
from tests._helpers.probes import LargestAllocation

module = importlib.import_module("lightning_al.functional.cal")  # not the function


def reference(probs, embeddings, labeled_probs, labeled_embeddings, neighbours=10) -> list[float]:
    """Return the scores of Margatina et al. (2021), Algorithm 1, with features of length 1."""
    scores = []
    unit = [z / z.norm() for z in labeled_embeddings.double()]
    for p, z in zip(probs.double().tolist(), embeddings.double(), strict=True):
        distances = [float((z / z.norm() - other).norm()) for other in unit]
        nearest = sorted(range(len(unit)), key=distances.__getitem__)[:neighbours]
        divergences = []
        for number in nearest:
            q = labeled_probs[number].double().tolist()
            divergences.append(sum(b * math.log(b / a) for a, b in zip(p, q, strict=True) if b > 0))
        scores.append(sum(divergences) / len(divergences))
    return scores


def outputs(rows: int, columns: int = 6, seed: int = 0, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    probs = (2 * torch.randn(rows, classes, generator=generator)).softmax(1)
    return probs, torch.randn(rows, columns, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("labeled", "neighbours"), [(1, 10), (7, 10), (60, 10), (60, 3)])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_equals_the_papers_loop(dtype, labeled, neighbours, offset, monkeypatch):
    monkeypatch.setattr(module, "_LABELED_AT_ONCE", 13)
    pool, known = outputs(80), outputs(labeled, seed=1)
    pool, known = [(probs.to(dtype), (4 * (embeddings + offset)).to(dtype)) for probs, embeddings in (pool, known)]
    scores = contrastive_divergence(*pool, *known, neighbours)
    expected = torch.tensor(reference(*pool, *known, neighbours), dtype=dtype)
    if offset and dtype == torch.float32:  # directions that differ in the seventh digit may change places
        assert (scores - expected).abs().median() < 1e-4
    else:
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)
    assert cal(*pool, 9, *known, neighbours).tolist() == top_k(scores, 9).tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    pool, known = outputs(50), outputs(20, seed=1)
    pool, known = [(probs.to(dtype), embeddings.to(dtype)) for probs, embeddings in (pool, known)]
    scores = contrastive_divergence(*pool, *known)
    assert scores.dtype == torch.float32
    # Half-precision rows add up to 1 but for their rounding, which both sides see.
    expected = torch.tensor(reference(*pool, *known)).clamp(min=0)
    torch.testing.assert_close(scores, expected.float(), rtol=1e-3, atol=1e-3)


def test_by_hand():
    """The neighbour is certain and the sample is not: KL = log 2; twice as certain of another class: log 10."""
    unit = torch.tensor([[1.0, 0.0]])
    certain = torch.tensor([[1.0, 0.0]])
    probs = torch.tensor([[0.5, 0.5], [0.1, 0.9], [1.0, 0.0]])
    scores = contrastive_divergence(probs, unit.expand(3, 2), certain, unit)
    torch.testing.assert_close(scores, torch.tensor([math.log(2), math.log(10), 0.0]))


def test_probabilities_of_0_give_finite_scores():
    probs = torch.eye(3)
    known = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    scores = contrastive_divergence(probs, torch.ones(3, 2), known, torch.ones(2, 2))
    assert torch.isfinite(scores).all()
    assert scores.argsort(descending=True).tolist() == [2, 0, 1]  # none, a quarter and most of what they predict


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(1, 12), st.integers(1, 15))
def test_does_not_depend_on_the_length_of_embeddings(rows, labeled, neighbours):
    pool, known = outputs(rows, seed=rows), outputs(labeled, seed=labeled + 50)
    scores = contrastive_divergence(*pool, *known, neighbours)
    lengths = torch.arange(1, rows + 1)[:, None]
    again = contrastive_divergence(pool[0], pool[1] * lengths, known[0], known[1] / 7, neighbours)
    torch.testing.assert_close(again, scores, rtol=1e-4, atol=1e-5)
    picks = cal(*pool, 99, *known, neighbours, torch.Generator().manual_seed(0)).tolist()
    assert sorted(picks) == list(range(rows))


def test_without_labels_the_highest_entropy_is_picked():
    probs, embeddings = outputs(50)
    expected = top_k(predictive_entropy(probs), 7)
    assert torch.equal(cal(probs, embeddings, 7), expected)
    assert torch.equal(cal(probs, embeddings, 7, probs[:0], embeddings[:0]), expected)
    with pytest.raises(ValueError, match="at least one sample, but got none"):
        contrastive_divergence(probs, embeddings, probs[:0], embeddings[:0])


def test_wrong_inputs_are_refused():
    (probs, embeddings), (known, places) = outputs(30), outputs(9, seed=1)
    with pytest.raises(ValueError, match=r"but got \(29, 4\) and \(9, 4\)"):
        contrastive_divergence(probs[1:], embeddings, known, places)
    with pytest.raises(ValueError, match=r"but got \(30, 4\) and \(9, 3\)"):
        contrastive_divergence(probs, embeddings, known[:, 1:], places)
    with pytest.raises(ValueError, match="`neighbours` to be a positive integer, but got 0"):
        cal(probs, embeddings, 2, known, places, neighbours=0)
    with pytest.raises(ValueError, match="`labeled_probs` with `labeled_embeddings`, but got None"):
        cal(probs, embeddings, 2, labeled_embeddings=places)
    places[4, 0] = math.nan
    with pytest.raises(ValueError, match="`labeled_embeddings` to be finite, but got nan at position 4"):
        cal(probs, embeddings, 2, known, places)
    embeddings[11, 0] = math.inf
    for labeled in ((), (known, places.nan_to_num())):
        with pytest.raises(ValueError, match="`embeddings` to be finite, but got inf at position 11"):
            cal(probs, embeddings, 2, *labeled)
    probs[5, 0] = math.nan
    with pytest.raises(ValueError, match="`probs` to be finite, but got nan at position 5"):
        cal(probs, embeddings.nan_to_num(posinf=0), 2)


def test_never_copies_the_pool():
    pool, known = outputs(30_000, 200), outputs(700, 200, seed=1)
    with LargestAllocation() as largest:
        cal(*pool, 20, *known)
    assert largest.bytes <= pool[1].nbytes / 4
