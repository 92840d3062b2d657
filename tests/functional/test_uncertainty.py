"""Scores against sums written out, hand-computed numbers, and what they must hold for any input."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_al.functional import least_confidence, margin, predictive_entropy
from tests._helpers import reference
from tests._helpers.probes import LargestAllocation

SCORES = {
    "least_confidence": (least_confidence, reference.least_confidence),
    "margin": (margin, reference.margin),
    "predictive_entropy": (predictive_entropy, reference.predictive_entropy),
}
each_score = pytest.mark.parametrize(("score", "naive"), SCORES.values(), ids=SCORES.keys())


def probabilities(rows: int, classes: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)).softmax(1).to(dtype)


@each_score
@pytest.mark.parametrize(
    ("rows", "classes"), [(1, 1), (5, 1), (300, 2), (5000, 32), (3000, 33), (700, 100), (70, 3000)]
)
def test_equals_the_naive_sum(score, naive, rows, classes):
    probs = probabilities(rows, classes)
    assert score(probs).tolist() == pytest.approx(naive(probs), abs=1e-12)


@each_score
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("classes", [7, 50])
def test_keeps_the_dtype_and_sums_in_float32(score, naive, dtype, tolerance, classes):
    probs = probabilities(500, classes, dtype=dtype)
    scores = score(probs)
    assert scores.dtype == dtype
    assert scores.tolist() == pytest.approx(naive(probs), abs=tolerance)


def test_numbers_by_hand():
    probs = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.4, 0.2], [0.0, 1.0, 0.0]], dtype=torch.float64)
    assert least_confidence(probs).tolist() == pytest.approx([0.3, 0.6, 0.0])
    assert margin(probs).tolist() == pytest.approx([0.5, 1.0, 0.0])
    assert predictive_entropy(probs).tolist() == pytest.approx([0.8018185525433373, 1.0549201679861442, 0.0])


@each_score
@pytest.mark.parametrize("classes", [3, 40])
def test_certain_rows_score_zero_and_uniform_rows_highest(score, naive, classes):
    certain = torch.zeros(1, classes)
    certain[0, 1] = 1.0
    uniform = torch.full((1, classes), 1 / classes)
    assert score(certain).item() == 0.0
    highest = {"least_confidence": 1 - 1 / classes, "margin": 1.0, "predictive_entropy": math.log(classes)}
    assert score(uniform).item() == pytest.approx(highest[score.__name__], rel=1e-6)


@pytest.mark.parametrize("classes", [5, 40])
def test_margin_of_two_equal_first_classes_is_one(classes):
    probs = torch.full((3, classes), 0.2 / (classes - 2))
    probs[:, [0, classes - 1]] = 0.4
    assert margin(probs).tolist() == [1.0, 1.0, 1.0]


def test_entropy_holds_for_subnormal_probabilities():
    tiny = torch.tensor([[1e-42, 1.0], [1e-300, 1.0]], dtype=torch.float64)
    assert predictive_entropy(tiny).tolist() == pytest.approx([42e-42 * math.log(10), 300e-300 * math.log(10)])
    assert torch.isfinite(predictive_entropy(tiny.float())).all()


@each_score
@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(1, 60), classes=st.one_of(st.integers(1, 45), st.integers(46, 2000)), seed=st.integers(0, 10_000)
)
def test_equivariant_and_independent_of_chunks(score, naive, rows, classes, seed):
    probs = probabilities(rows, classes, seed, torch.float32)
    generator = torch.Generator().manual_seed(seed)
    row_order, class_order = torch.randperm(rows, generator=generator), torch.randperm(classes, generator=generator)
    scores = score(probs)
    assert torch.equal(score(probs[row_order]), scores[row_order])
    torch.testing.assert_close(score(probs[:, class_order]), scores)
    for size in (1, 7):
        assert torch.equal(torch.cat([score(chunk) for chunk in probs.split(size)]), scores)
    assert ((scores >= 0) & (scores <= max(1.0, math.log(classes)) + 1e-6)).all()


@each_score
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("classes", [4, 60])
def test_a_value_that_is_not_finite_is_named(score, naive, value, classes):
    probs = probabilities(9000, classes, dtype=torch.float32)
    probs[8111, 2] = value
    probs[8500, 0] = math.nan
    with pytest.raises(ValueError, match=rf"`probs` to be finite, but got {value} at position 8111"):
        score(probs)


@each_score
def test_logits_and_other_wrong_inputs_are_refused(score, naive):
    with pytest.raises(ValueError, match=r"in \[0, 1\].* at position 1.*softmax"):
        score(torch.tensor([[0.5, 0.5], [2.0, -1.0]]))
    with pytest.raises(ValueError, match=r"floating-point tensor, but got torch.int64"):
        score(torch.ones(3, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"shape \(N, C\), but got \(3,\)"):
        score(torch.rand(3))


@each_score
def test_allocates_blocks_only(score, naive):
    probs = torch.rand(200_000, 40).softmax(1)
    with LargestAllocation() as largest:
        score(probs)
    assert largest.bytes <= probs.nbytes / 8


@each_score
def test_leaves_its_input_and_works_on_views_with_a_graph(score, naive):
    probs = probabilities(200, 6, dtype=torch.float32)
    view = probs.t().contiguous().t().requires_grad_()
    before = view.detach().clone()
    scores = score(view)
    assert not scores.requires_grad
    assert torch.equal(view, before)
    assert torch.equal(scores, score(probs))
    assert score(probs[:0]).shape == (0,)
