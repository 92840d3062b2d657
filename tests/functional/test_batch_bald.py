"""BatchBALD against every outcome enumerated, and its sampled estimates against exact ones."""

from __future__ import annotations

import importlib
import math
from itertools import product

import pytest
import torch

from lightning_al.functional.batch_bald import _Outcomes, batch_bald
from lightning_al.functional.committee import mutual_information
from tests._helpers.probes import LargestAllocation


def samples(rows: int, draws: int, classes: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(rows, 1, classes, generator=generator, dtype=torch.float64)
    own = 2 * torch.randn(rows, draws, classes, generator=generator, dtype=torch.float64)
    return (shared + own).softmax(2)


def batch_information(probs: torch.Tensor, batch: list[int]) -> float:
    """The mutual information of the batch's labels and the draw, outcome by outcome."""
    picked = probs[batch].double().tolist()
    draws, classes = range(len(picked[0])), range(len(picked[0][0]))
    together = within = 0.0
    for labels in product(classes, repeat=len(batch)):
        chances = [math.prod(picked[i][k][label] for i, label in enumerate(labels)) for k in draws]
        mean = sum(chances) / len(chances)
        together -= mean * math.log(mean) if mean > 0 else 0.0
        within -= sum(chance * math.log(chance) for chance in chances if chance > 0) / len(chances)
    return together - within


def greedy(probs: torch.Tensor, count: int) -> list[int]:
    picks: list[int] = []
    for _ in range(count):
        rest = [i for i in range(len(probs)) if i not in picks]
        picks.append(max(rest, key=lambda i: batch_information(probs, [*picks, i])))
    return picks


def joint_entropy(probs: torch.Tensor, batch: list[int]) -> float:
    """As above for larger batches: all outcomes at once, by outer products."""
    joint = torch.ones(1, probs.shape[1], dtype=torch.float64)
    for i in batch:
        joint = (joint[:, None] * probs[i].double().t()).flatten(0, 1)
    chances = joint.mean(1)
    return float(-torch.special.xlogy(chances, chances).sum())


def information(probs: torch.Tensor, batch: list[int]) -> float:
    own = -torch.special.xlogy(probs[batch].double(), probs[batch].double()).sum(2).mean(1)
    return joint_entropy(probs, batch) - float(own.sum())


def greedy_at_scale(probs: torch.Tensor, count: int) -> list[int]:
    picks: list[int] = []
    for _ in range(count):
        gains = [-math.inf if i in picks else information(probs, [*picks, i]) for i in range(len(probs))]
        picks.append(gains.index(max(gains)))
    return picks


@pytest.mark.parametrize(("rows", "draws", "classes", "count"), [(9, 4, 2, 6), (7, 5, 3, 4), (5, 2, 4, 3)])
def test_equals_greedy_over_enumerated_outcomes(rows, draws, classes, count):
    probs = samples(rows, draws, classes)
    assert batch_bald(probs, count).tolist() == greedy(probs, count)


def test_numbers_by_hand():
    """Draw 0 to 3 in two bits; a label that tells one of them costs log 2 of the two there are."""
    assert batch_information(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), [0]) == pytest.approx(math.log(2))
    one, zero, either = [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]
    first, second, nothing = [one, one, zero, zero], [one, zero, one, zero], [either] * 4
    probs = torch.tensor([first] * 10 + [second] * 10 + [nothing] * 10)
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        picks = batch_bald(probs.to(dtype), 30).tolist()
        assert {pick // 10 for pick in picks[:2]} == {0, 1}
        assert sorted(picks) == list(range(30))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("at_once", [1, 16])
def test_passing_over_bounds_leaves_the_picks(dtype, at_once, monkeypatch):
    monkeypatch.setattr(importlib.import_module("lightning_al.functional.batch_bald"), "_FEWEST_CANDIDATES", at_once)
    monkeypatch.setattr(importlib.import_module("lightning_al.functional.batch_bald"), "block_rows", lambda *_: 64)
    bits = torch.tensor(list(product([-1.0, 1.0], repeat=3)), dtype=torch.float64)
    for seed in range(8):
        # Labels of one bit of the draw keep their gain after picks of another, labels of two bits lose some of it: the
        # best often stands behind others whose bounds are old.
        generator = torch.Generator().manual_seed(seed)
        strength = torch.randn(150, 3, generator=generator, dtype=torch.float64)
        strength *= torch.rand(150, 3, generator=generator, dtype=torch.float64) < 0.5
        logits = strength @ bits.t()
        probs = torch.stack([logits, -logits], dim=2).softmax(2).to(dtype)
        assert batch_bald(probs, 6).tolist() == greedy_at_scale(probs, 6)


def test_most_candidates_are_passed_over_while_outcomes_are_exact(monkeypatch):
    evaluated = []
    original = _Outcomes.entropy_of
    monkeypatch.setattr(_Outcomes, "entropy_of", lambda self, c: evaluated.append(len(c)) or original(self, c))
    monkeypatch.setattr(importlib.import_module("lightning_al.functional.batch_bald"), "block_rows", lambda *_: 512)
    probs = samples(1000, 6, 3)
    probs[50:] = (probs[50:] + 20) / (probs[50:] + 20).sum(2, keepdim=True)  # nearly the same in every draw
    batch_bald(probs, 4)
    assert sum(evaluated) <= 3 * (50 + 512 // 18)


def test_the_best_sample_is_picked_first_and_a_larger_batch_extends_a_smaller():
    probs = samples(40, 8, 3, seed=1)
    picks = batch_bald(probs, 6).tolist()
    assert picks[0] == int(mutual_information(probs).argmax())
    for count in range(1, 6):
        assert batch_bald(probs, count).tolist() == picks[:count]


def test_sampled_entropies_are_right_on_average():
    """Sampled outcomes of three picks, over many seeds, against H[y_i, y_S] - H[y_S] enumerated."""
    probs = samples(8, 4, 3, seed=2)
    batch, others = [0, 1, 2], [3, 4, 5, 6, 7]
    exact = [joint_entropy(probs, [*batch, i]) - joint_entropy(probs, batch) for i in others]
    estimates = []
    for seed in range(400):
        prior = torch.full((1, 4), 0.25, dtype=torch.float64)
        outcomes = _Outcomes(prior, 20, torch.Generator().manual_seed(seed))
        for i in batch:
            outcomes.extend(probs[i])
        assert not outcomes.exact
        assert len(outcomes.weights) == 20
        estimates.append(outcomes.entropy_of(probs[others]))
    runs = torch.stack(estimates)
    error = (runs.mean(0) - torch.tensor(exact, dtype=torch.float64)).abs() / (runs.std(0) / math.sqrt(len(runs)))
    assert (error < 3.5).all()
    assert (runs.std(0) > 1e-3).all()


def test_enumerated_entropies_are_exact():
    probs = samples(8, 4, 3, seed=2)
    outcomes = _Outcomes(torch.full((1, 4), 0.25, dtype=torch.float64), 27, torch.Generator())
    for i in (0, 1, 2):
        outcomes.extend(probs[i])
    expected = [joint_entropy(probs, [0, 1, 2, i]) - joint_entropy(probs, [0, 1, 2]) for i in range(3, 8)]
    assert outcomes.exact
    assert outcomes.entropy_of(probs[3:]).tolist() == pytest.approx(expected, abs=1e-12)


def test_batches_by_sampled_outcomes_are_nearly_as_informative():
    probs = samples(60, 8, 10, seed=4)
    best = information(probs, greedy_at_scale(probs, 4))
    assert information(probs, batch_bald(probs, 4, num_samples=10_000).tolist()) == pytest.approx(best, rel=1e-9)
    sampled = information(probs, batch_bald(probs, 4, num_samples=99).tolist())
    drawn = [information(probs, torch.randperm(60)[:4].tolist()) for _ in range(50)]
    assert sampled > 0.97 * best
    assert max(drawn) < sampled


def test_hundreds_of_picks_do_not_underflow():
    """The probability of 300 labels is below float32's range; with so many the draw is known."""
    probs = samples(305, 3, 4).float()
    outcomes = _Outcomes(torch.full((1, 3), 1 / 3), 300, torch.Generator().manual_seed(0))
    for pick in probs[:300]:
        outcomes.extend(pick)
    own = -torch.special.xlogy(probs[300:], probs[300:]).sum(2).mean(1)
    torch.testing.assert_close(outcomes.entropy_of(probs[300:]), own, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["identical", "certain", "one draw", "one class", "opposed"])
@pytest.mark.parametrize("num_samples", [1, 30, 10_000])
def test_hard_pools_give_unique_picks(kind, num_samples):
    probs = samples(40, 5, 4).float()
    if kind == "identical":
        probs = probs[:1].expand(40, -1, -1)
    elif kind == "certain":
        probs = torch.eye(4)[torch.arange(40) % 4][:, None].repeat(1, 5, 1)
    elif kind == "one draw":
        probs = probs[:, :1]
    elif kind == "one class":
        probs = torch.ones(40, 5, 1)
    elif kind == "opposed":
        probs = torch.eye(4)[torch.randint(4, (40, 5), generator=torch.Generator().manual_seed(0))]
    for count in (1, 7, 40, 99):
        picks = batch_bald(probs, count, num_samples).tolist()
        assert len(set(picks)) == len(picks) == min(count, 40)


def test_gains_that_tie_go_by_the_seed():
    probs = samples(1, 5, 3).expand(30, -1, -1)
    first, again, other = (batch_bald(probs, 5, generator=torch.Generator().manual_seed(s)).tolist() for s in (0, 0, 1))
    assert first == again
    assert first != other


def test_keeps_outcomes_and_a_block_only():
    probs = samples(20_000, 10, 10).float()
    with LargestAllocation() as largest:
        batch_bald(probs, 4, num_samples=100)
    assert largest.bytes <= 2 * 4 * (1 << 19)


def test_wrong_inputs_are_refused():
    probs = samples(30, 4, 3).float()
    with pytest.raises(ValueError, match=r"shape \(N, K, C\).*pass `probs\[:, None\]`"):
        batch_bald(probs[:, 0], 2)
    for number in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match=f"`query_size` to be a positive integer, but got {number}"):
            batch_bald(probs, number)
        with pytest.raises(ValueError, match=f"`num_samples` to be a positive integer, but got {number}"):
            batch_bald(probs, 2, number)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        batch_bald(probs - 0.5, 2)
    assert batch_bald(probs[:0], 2).tolist() == []
    probs[11, 3, 0] = math.nan
    with pytest.raises(ValueError, match="`probs` to be finite, but got nan at position 11"):
        batch_bald(probs, 2)
