"""BAIT against the trace of inverses computed anew for every candidate, and the cases that break inverses."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_al.functional.bait import bait
from tests._helpers.probes import LargestAllocation

module = importlib.import_module("lightning_al.functional.bait")  # not the function


def gradients(probs: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    """Return the expected gradients of both outcomes of "the most likely class is right" ``(N, 2, D)``.

    As in Huseljic et al. (2024): the gradient of the log-likelihood of each outcome, times the root of its probability.
    """
    rows = []
    for p, z in zip(probs.double(), embeddings.double(), strict=True):
        top = float(p.max())
        rows.append(torch.stack([math.sqrt(top) * (1 - top) * z, math.sqrt(max(1 - top, 0.0)) * -top * z]))
    return torch.stack(rows)


class Reference:
    """The paper's Algorithm 1 with inverses of whole matrices."""

    def __init__(self, probs, embeddings, labeled_probs, labeled_embeddings, regularization=1.0):
        self.information = [g.t() @ g for g in gradients(probs, embeddings)]
        known = [g.t() @ g for g in gradients(labeled_probs, labeled_embeddings)] if len(labeled_probs) else []
        everything = [*self.information, *known]
        self.fisher = torch.stack(everything).sum(0) / len(everything)
        self.start = regularization * torch.eye(embeddings.shape[1], dtype=torch.float64)
        for each in known:
            self.start = self.start + each

    def trace(self, picks: list[int]) -> float:
        total = self.start
        for pick in picks:
            total = total + self.information[pick]
        return float(torch.trace(torch.linalg.inv(total) @ self.fisher))

    def select(self, query_size: int) -> list[int]:
        count = min(query_size, len(self.information))
        picks: list[int] = []
        for _ in range(min(2 * count, len(self.information))):
            free = [i for i in range(len(self.information)) if i not in picks]
            picks.append(min(free, key=lambda i: self.trace([*picks, i])))
        while len(picks) > count:
            picks.remove(min(reversed(picks), key=lambda i: self.trace([j for j in picks if j != i])))
        return picks


def outputs(rows: int, columns: int, seed: int = 0, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    probs = (2 * torch.randn(rows, classes, generator=generator)).softmax(1)
    return probs, torch.randn(rows, columns, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("labeled", [0, 15])
@pytest.mark.parametrize("regularization", [1.0, 0.01])
def test_equals_the_papers_algorithm(dtype, labeled, regularization):
    probs, embeddings = (values.to(dtype) for values in outputs(90 + labeled, 6))
    parts = probs[:90], embeddings[:90], probs[90:], embeddings[90:]
    picks = bait(parts[0], parts[1], 12, parts[2], parts[3], regularization)
    assert picks.tolist() == Reference(*parts, regularization).select(12)


def test_equals_the_papers_algorithm_far_from_the_origin():
    probs, embeddings = outputs(60, 5)
    parts = probs.double(), embeddings.double() + 1000, *outputs(0, 5)
    reference = Reference(*parts)
    picks = bait(parts[0], parts[1], 8).tolist()
    assert reference.trace(picks) == pytest.approx(reference.trace(reference.select(8)), rel=1e-6)
    rounded = bait(probs, embeddings + 1000, 8).tolist()
    assert len(set(rounded)) == 8
    assert reference.trace(rounded) < 1.2 * reference.trace(picks)
    assert reference.trace(list(range(8))) > 1.5 * reference.trace(picks)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    probs, embeddings = (values.to(dtype) for values in outputs(70, 5))
    reference = Reference(probs, embeddings, probs[:0], embeddings[:0])
    assert bait(probs, embeddings, 9).tolist() == reference.select(9)


def test_pruning_pays():
    """The first pick alone explains most, and is not needed once the others are there."""
    embeddings = torch.tensor([[2.0, 2.0], [3.0, 0.0], [0.0, 3.0], [0.1, 0.0]])
    probs = torch.full((4, 2), 0.5)
    reference = Reference(probs, embeddings, probs[:0], embeddings[:0])
    assert bait(probs, embeddings, 1).tolist() == reference.select(1)
    assert bait(probs, embeddings, 2).tolist() == [1, 2]
    assert reference.trace([1, 2]) < reference.trace([0, 1])


def test_the_first_pick_by_hand():
    """D = 1, v = z / 2: the gain z^2 / (4 + z^2) is largest for the largest z; certain predictions gain nothing."""
    probs = torch.tensor([[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]])
    assert bait(probs, torch.tensor([[1.0], [-3.0], [50.0]]), 1).tolist() == [1]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 14), st.integers(0, 3))
def test_is_a_set_of_the_right_size(rows, query_size, certain):
    probs, embeddings = outputs(rows, 3, seed=rows)
    probs[:certain] = torch.tensor([1.0, 0, 0, 0])
    picks = bait(probs, embeddings, query_size).tolist()
    assert len(picks) == len(set(picks)) == min(query_size, rows)
    free_of_gradient = [i for i in picks if i < certain]
    assert len(free_of_gradient) == max(0, len(picks) - max(0, rows - certain))  # only when nothing else is left


def test_what_cannot_be_told_apart_goes_to_the_lowest_position():
    probs = torch.eye(3)[torch.arange(20) % 3]
    assert bait(probs, torch.randn(20, 4), 5).tolist() == [0, 1, 2, 3, 4]
    same = torch.full((20, 3), 1 / 3)
    assert bait(same, torch.full((20, 4), 1000.0), 5).tolist() == [0, 1, 2, 3, 4]
    assert sorted(bait(same, torch.ones(20, 4), 99).tolist()) == list(range(20))
    assert bait(same[:0], torch.ones(0, 4), 3).tolist() == []


def test_wrong_inputs_are_refused():
    probs, embeddings = outputs(30, 4)
    with pytest.raises(ValueError, match="for each of 30 `probs`, but got 29"):
        bait(probs, embeddings[1:], 2)
    for regularization in (0, -1.0, math.nan, math.inf, True):
        with pytest.raises(ValueError, match="`regularization` to be a number above 0, but got"):
            bait(probs, embeddings, 2, regularization=regularization)
    with pytest.raises(ValueError, match="`labeled_probs` for each of 5 labeled, but got None"):
        bait(probs, embeddings, 2, labeled_embeddings=embeddings[:5])
    known = embeddings[:5].clone()
    known[3, 1] = math.inf
    with pytest.raises(ValueError, match="`labeled_embeddings` to be finite, but got inf at position 3"):
        bait(probs, embeddings, 2, probs[:5], known)
    embeddings[11, 0] = math.nan
    with pytest.raises(ValueError, match="`embeddings` to be finite, but got nan at position 11"):
        bait(probs, embeddings, 2)
    probs[4, 1] = math.inf
    with pytest.raises(ValueError, match="`probs` to be finite, but got inf at position 4"):
        bait(probs, embeddings.nan_to_num(), 2)


def test_a_pick_is_one_product_of_the_pool_and_no_copy_of_it(monkeypatch):
    probs, embeddings = outputs(20_000, 64)
    products, counted = module._Gradients.products, []
    monkeypatch.setattr(
        module._Gradients, "products", lambda self, rows: (counted.append(len(rows)), products(self, rows))[1]
    )
    with LargestAllocation() as largest:
        bait(probs, embeddings, 10, probs[:5], embeddings[:5])
    assert counted == [2] * 20
    assert largest.bytes <= embeddings.nbytes / 4
