"""Scores of disagreement against loops written from the papers, and what they must hold for any input."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_al.functional.committee import mean_std, mutual_information, variation_ratio, vote_entropy
from lightning_al.functional.uncertainty import least_confidence
from tests._helpers.probes import LargestAllocation


def by_mean(probs: torch.Tensor) -> torch.Tensor:
    return variation_ratio(probs, kind="mean")


def _votes(draws: list[list[float]]) -> list[float]:
    votes = [draw.index(max(draw)) for draw in draws]
    return [votes.count(c) / len(draws) for c in range(len(draws[0]))]


def _mean(draws: list[list[float]]) -> list[float]:
    return [sum(column) / len(draws) for column in zip(*draws, strict=True)]


def _entropy(row: list[float]) -> float:
    return -sum(p * math.log(p) for p in row if p > 0)


def _std(draws: list[list[float]]) -> float:
    spread = [math.sqrt(sum((draw[c] - m) ** 2 for draw in draws) / len(draws)) for c, m in enumerate(_mean(draws))]
    return sum(spread) / len(spread)


def _divergence(draws: list[list[float]]) -> float:
    """The mean KL from the consensus: not how the package computes it."""
    consensus = _mean(draws)
    kl = [sum(p * math.log(p / m) for p, m in zip(draw, consensus, strict=True) if p > 0) for draw in draws]
    return sum(kl) / len(kl)


SCORES = {
    "variation_ratio": (variation_ratio, lambda draws: 1 - max(_votes(draws))),
    "by_mean": (by_mean, lambda draws: 1 - max(_mean(draws))),
    "mean_std": (mean_std, _std),
    "vote_entropy": (vote_entropy, lambda draws: _entropy(_votes(draws))),
    "mutual_information": (mutual_information, _divergence),
}
each_score = pytest.mark.parametrize(("score", "naive"), SCORES.values(), ids=SCORES.keys())


def samples(rows: int, draws: int, classes: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shared = 2 * torch.randn(rows, 1, classes, generator=generator, dtype=torch.float64)
    own = torch.randn(rows, draws, classes, generator=generator, dtype=torch.float64)
    return (shared + own).softmax(2).to(dtype)


def expected(naive, probs: torch.Tensor) -> list[float]:
    return [naive(draws) for draws in probs.double().tolist()]


@each_score
@pytest.mark.parametrize(("rows", "draws", "classes"), [(1, 1, 1), (4, 1, 5), (5, 7, 1), (3000, 20, 10), (70, 3, 900)])
def test_equals_the_loop(score, naive, rows, draws, classes):
    probs = samples(rows, draws, classes)
    assert score(probs).tolist() == pytest.approx(expected(naive, probs), abs=1e-12)


@each_score
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 1e-2)])
def test_keeps_the_dtype_and_sums_in_float32(score, naive, dtype, tolerance):
    probs = samples(300, 20, 10, dtype=dtype)
    scores = score(probs)
    assert scores.dtype == dtype
    assert scores.tolist() == pytest.approx(expected(naive, probs), abs=tolerance)


def test_numbers_by_hand():
    probs = torch.tensor([[[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.1, 0.8, 0.1]]], dtype=torch.float64)
    assert variation_ratio(probs).tolist() == pytest.approx([1 / 3])
    assert by_mean(probs).tolist() == pytest.approx([1 - 1.6 / 3])
    assert mean_std(probs).tolist() == pytest.approx(
        [(math.sqrt(0.08) + math.sqrt(0.56 / 9) + math.sqrt(0.08 / 9)) / 3]
    )
    assert vote_entropy(probs).tolist() == pytest.approx([math.log(3) - 2 / 3 * math.log(2)])
    opposed = torch.tensor([[[0.75, 0.25], [0.25, 0.75]]], dtype=torch.float64)
    assert mutual_information(opposed).tolist() == pytest.approx([0.75 * math.log(3) - math.log(2)])


@each_score
def test_draws_that_agree_score_as_one_and_opposed_ones_highest(score, naive):
    opposed = torch.eye(4)[None]
    highest = {variation_ratio: 0.75, by_mean: 0.75, mean_std: math.sqrt(3) / 4}
    assert score(opposed).item() == pytest.approx(highest.get(score, math.log(4)), rel=1e-6)
    agreed = torch.eye(4)[torch.tensor([2, 2, 2])][None]
    assert score(agreed).item() == 0.0
    unsure = torch.full((1, 8, 4), 0.25)
    assert score(unsure).item() == pytest.approx(0.75 if score is by_mean else 0.0, abs=1e-7)


@pytest.mark.parametrize("classes", [3, 50])
def test_one_draw_is_one_model(classes):
    probs = samples(200, 1, classes, dtype=torch.float32)
    assert by_mean(probs).tolist() == least_confidence(probs[:, 0]).tolist()
    for score in (variation_ratio, mean_std, vote_entropy, mutual_information):
        assert score(probs).tolist() == [0.0] * 200


def test_votes_that_tie_go_to_the_first_class():
    probs = torch.tensor([[[0.4, 0.4, 0.2], [0.5, 0.25, 0.25], [0.2, 0.4, 0.4]]])
    assert variation_ratio(probs).item() == pytest.approx(1 / 3)


@each_score
@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(1, 60),
    draws=st.integers(1, 25),
    classes=st.one_of(st.integers(1, 12), st.integers(40, 300)),
    seed=st.integers(0, 10_000),
)
def test_equivariant_and_independent_of_chunks(score, naive, rows, draws, classes, seed):
    probs = samples(rows, draws, classes, seed, torch.float32)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(rows, generator=generator)
    scores = score(probs)
    assert torch.equal(score(probs[order]), scores[order])
    torch.testing.assert_close(score(probs[:, torch.randperm(draws, generator=generator)]), scores, atol=4e-6, rtol=0)
    torch.testing.assert_close(
        score(probs[..., torch.randperm(classes, generator=generator)]), scores, atol=4e-6, rtol=0
    )
    for size in (1, 7):
        assert torch.equal(torch.cat([score(chunk) for chunk in probs.split(size)]), scores)
    assert ((scores >= 0) & (scores <= max(1.0, math.log(classes)))).all()


@each_score
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_named(score, naive, value):
    probs = samples(3000, 4, 12, dtype=torch.float32)
    probs[2111, 3, 2] = value
    probs[2500, 0, 0] = math.nan
    with pytest.raises(ValueError, match=f"`probs` to be finite, but got {value} at position 2111"):
        score(probs)


@each_score
def test_wrong_inputs_are_refused(score, naive):
    with pytest.raises(ValueError, match=r"in \[0, 1\].* at position 1.*softmax"):
        score(torch.tensor([[[0.5, 0.5]], [[2.0, -1.0]]]))
    with pytest.raises(ValueError, match=r"floating-point tensor, but got torch.int64"):
        score(torch.ones(3, 2, 2, dtype=torch.int64))
    with pytest.raises(
        ValueError, match=r"shape \(N, K, C\).*, but got \(3, 2\)\. For a single draw, pass `probs\[:, N"
    ):
        score(torch.rand(3, 2))
    with pytest.raises(ValueError, match=r"shape \(N, K, C\).*, but got \(3, 0, 2\)\.$"):
        score(torch.rand(3, 0, 2))
    with pytest.raises(ValueError, match="`kind` to be 'votes' or 'mean', but got 'modal'"):
        variation_ratio(torch.full((1, 1, 2), 0.5), kind="modal")


@each_score
def test_allocates_blocks_only(score, naive):
    probs = torch.rand(50_000, 10, 20, generator=torch.Generator().manual_seed(0))
    with LargestAllocation() as largest:
        score(probs)
    assert largest.bytes <= probs.nbytes / 8


@each_score
def test_leaves_its_input_and_works_on_views_with_a_graph(score, naive):
    probs = samples(3000, 20, 10, dtype=torch.float32)
    view = probs.permute(1, 2, 0).contiguous().permute(2, 0, 1).requires_grad_()
    scores = score(view)
    assert not scores.requires_grad
    assert torch.equal(view, probs)
    assert torch.equal(scores, score(probs))
    assert score(probs[:0]).shape == (0,)
