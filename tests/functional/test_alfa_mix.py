"""ALFA-Mix: the candidates against the closed form taken literally, division and all."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_al.functional.alfa_mix import _BOUNDS, _anchors, _candidates, alfa_mix
from tests._helpers.probes import LargestAllocation


def heads(kind: str, columns: int = 6, classes: int = 4):
    torch.manual_seed(3)
    if kind == "linear":
        return torch.nn.Linear(columns, classes).double()
    return torch.nn.Sequential(
        torch.nn.Linear(columns, 16), torch.nn.Tanh(), torch.nn.Linear(16, classes, bias=False)
    ).double()


def points(rows: int, seed: int, columns: int = 6) -> torch.Tensor:
    return 2 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def flips_of_the_paper(pool, head, labeled, targets, epsilon):
    """Return the positions that flip, sample by sample and class by class, by Parvaneh et al. (2022), Equation 6."""
    found = []
    for position, row in enumerate(pool):
        z = row.clone().requires_grad_()
        logits = head(z[None])[0]
        predicted = int(logits.argmax())
        (gradient,) = torch.autograd.grad(-logits.log_softmax(0)[predicted], z)
        for c in set(targets.tolist()):
            anchor = labeled[targets == c].mean(0)
            alpha = epsilon * (anchor - row).norm() * gradient / (gradient.norm() * (anchor - row))
            mixed = alpha * anchor + (1 - alpha) * row
            if int(head(mixed[None])[0].argmax()) != predicted:
                found.append(position)
                break
    return found


@pytest.mark.parametrize("kind", ["linear", "deep"])
@pytest.mark.parametrize("query_size", [1, 20, 60, 1000])
def test_candidates_are_those_of_the_closed_form(kind, query_size):
    head, pool, labeled = heads(kind), points(150, 0), points(30, 1)
    targets = torch.arange(30) % 3  # the fourth class has no label
    found = _candidates(pool, head, _anchors(labeled, targets), query_size).tolist()
    for bound in _BOUNDS:
        expected = flips_of_the_paper(pool, head, labeled, targets, bound / math.sqrt(6))
        if len(expected) >= query_size:
            break
    if kind == "linear":
        assert found == expected
    else:  # a curved head may take a flip back at a larger bound: what flipped once stays
        assert set(expected) <= set(found)
        assert len(found) - len(expected) < 5


def test_picks_candidates_only_and_one_from_each_group():
    head = torch.nn.Linear(2, 2, bias=False).double()
    head.weight.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).double()
    near = torch.tensor([[0.01, 3.0], [-0.01, -3.0]]).double().repeat(10, 1)
    far = torch.tensor([[30.0, 1.0], [-30.0, 1.0]]).double().repeat(50, 1)
    anchors, targets = torch.tensor([[5.0, 0.5], [-5.0, 0.5]]).double(), torch.tensor([0, 1])
    picks = alfa_mix(torch.cat([far, near]), head, 2, anchors, targets)
    assert picks.min() >= 100
    assert {pick % 2 for pick in picks.tolist()} == {0, 1}


def test_a_feature_that_equals_the_anchors_is_not_moved():
    """Only the first feature decides, and it is the anchor's: a division by 0 for others, and no flip."""
    head = torch.nn.Linear(2, 2, bias=False)
    head.weight.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    pool = torch.tensor([[0.001, 2.0], [0.001, 3.0], [0.002, 3.0]])
    labeled, targets = torch.tensor([[0.001, 9.0]]), torch.tensor([0])
    assert _candidates(pool, head, _anchors(labeled, targets), 3).tolist() == [2]


def test_a_certain_prediction_has_no_gradient_and_does_not_flip():
    pool = torch.tensor([[1e4], [2e4], [0.1]])
    head = torch.nn.Linear(1, 2, bias=False)
    head.weight.data = torch.tensor([[1.0], [-1.0]])
    labeled, targets = torch.tensor([[1e6], [-1e6]]), torch.tensor([0, 1])
    assert _candidates(pool, head, _anchors(labeled, targets), 3).tolist() == [2]


def test_without_labels_the_whole_pool_is_clustered():
    pool = torch.cat([torch.eye(4) + 0.01 * torch.randn(4, 4, generator=torch.Generator().manual_seed(0))] * 10)
    for known in (None, torch.empty(0, 4)):
        picks = alfa_mix(pool, heads("linear", 4).float(), 4, known, None)
        assert {pick % 4 for pick in picks.tolist()} == {0, 1, 2, 3}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["random", "identical", "zeros", "offset"])
def test_hard_pools_give_unique_positions(dtype, kind):
    pool = points(60, 0)
    pool = {
        "random": pool,
        "identical": pool[:1].expand(60, -1),
        "zeros": 0 * pool,
        "offset": pool + 1000,
    }[kind].to(dtype)
    head = heads("linear").to(torch.float64 if dtype == torch.float64 else torch.float32)
    labeled, targets = pool[:9].clone(), torch.arange(9) % 4
    for size in (1, 7, 60, 99):
        picks = alfa_mix(pool, head, size, labeled, targets)
        assert sorted(set(picks.tolist())) == sorted(picks.tolist())
        assert len(picks) == min(size, 60)
    assert alfa_mix(pool[:1], head, 3, labeled, targets).tolist() == [0]
    assert alfa_mix(pool[:0], head, 3, labeled, targets).tolist() == []


def test_leaves_the_head_as_it_was_and_works_where_gradients_are_off():
    head, pool = heads("linear"), points(50, 0)
    expected = alfa_mix(pool, head, 5, pool[:8], torch.arange(8) % 4)
    with torch.inference_mode():
        assert torch.equal(alfa_mix(pool.clone(), head, 5, pool[:8].clone(), torch.arange(8) % 4), expected)
    assert all(parameter.grad is None for parameter in head.parameters())


def test_wrong_inputs_are_refused():
    head, pool, labeled, targets = heads("linear"), points(30, 0), points(8, 1), torch.arange(8) % 4

    @torch.no_grad()
    def closed(z):
        return head(z)

    with pytest.raises(ValueError, match="`head` to be differentiable"):
        alfa_mix(pool, closed, 2, labeled, targets)
    with pytest.raises(ValueError, match=r"tensor of integers, but got torch\.float32"):
        alfa_mix(pool, head, 2, labeled, targets.float())
    with pytest.raises(ValueError, match="tensor of integers, but got NoneType"):
        alfa_mix(pool, head, 2, labeled)
    with pytest.raises(ValueError, match=r"of shape \(8,\), but got \(7,\)"):
        alfa_mix(pool, head, 2, labeled, targets[1:])
    with pytest.raises(ValueError, match="classes of 0 or more, but got -1 at position 5"):
        alfa_mix(pool, head, 2, labeled, targets.index_fill(0, torch.tensor(5), -1))
    with pytest.raises(ValueError, match="the pool's 6 columns, but got 5"):
        alfa_mix(pool, head, 2, labeled[:, 1:], targets)
    with pytest.raises(ValueError, match="logits of `head` to be finite, but got nan at position 0"):
        alfa_mix(pool, lambda z: head(z) * math.nan, 2, labeled, targets)
    labeled[3, 0] = math.nan
    with pytest.raises(ValueError, match="`labeled_embeddings` to be finite, but got nan at position 3"):
        alfa_mix(pool, head, 2, labeled, targets)
    pool[21, 2] = math.inf
    with pytest.raises(ValueError, match="`embeddings` to be finite, but got inf at position 21"):
        alfa_mix(pool, head, 2, labeled, targets)


def test_never_copies_the_pool():
    pool = points(30_000, 0, 64).float()
    head = heads("linear", 64).float()
    with LargestAllocation() as largest:
        alfa_mix(pool, head, 20, pool[:50], torch.arange(50) % 4)
    assert largest.bytes <= pool.nbytes / 4
