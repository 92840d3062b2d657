"""GALAXY: each pick against the graphs of the paper, built and searched edge by edge."""

from __future__ import annotations

import importlib
import math
from collections import deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_al.functional.galaxy import _bisect, galaxy
from tests._helpers.probes import LargestAllocation


def distances_from(sources: list[int], labels: list[int | None], order: int) -> list[float]:
    """Return how many edges each place is from the nearest source, in the graph that joins places ``order`` apart.

    Edges between known places of different labels are cut, and no path leads on through a known place.
    """
    found = [math.inf] * len(labels)
    waiting = deque()
    for source in sources:
        found[source] = 0
        waiting.append(source)
    while waiting:
        here = waiting.popleft()
        for there in range(max(here - order, 0), min(here + order + 1, len(labels))):
            cut = labels[here] is not None and labels[there] is not None
            if not cut and found[there] > found[here] + 1:
                found[there] = found[here] + 1
                if labels[there] is None:
                    waiting.append(there)
    return found


def middles(labels: list[int | None]) -> set[int]:
    """Return the unknown places in the middle of a shortest shortest path, in the first graph that has a path."""
    positive = [i for i, label in enumerate(labels) if label == 1]
    negative = [i for i, label in enumerate(labels) if label == 0]
    unknown = [i for i, label in enumerate(labels) if label is None]
    if not positive or not negative:
        return set(unknown)
    for order in range(1, len(labels)):
        one, other = (distances_from(ends, labels, order) for ends in (positive, negative))
        shortest = min(one[i] + other[i] for i in unknown)
        if shortest < math.inf:
            return {i for i in unknown if one[i] + other[i] == shortest and abs(one[i] - other[i]) <= 1}
    raise AssertionError


@settings(max_examples=300, deadline=None)
@given(
    labels=st.lists(st.sampled_from([None, None, 0, 1]), min_size=1, max_size=14).filter(lambda row: None in row),
    seed=st.integers(0, 9),
)
def test_each_pick_is_the_middle_of_a_shortest_shortest_path(labels, seed):
    generator = torch.Generator().manual_seed(seed)
    places = torch.randperm(len(labels), generator=generator)  # where each position stands in the row
    known = torch.tensor([-1 if labels[place] is None else labels[place] for place in places.tolist()])
    pick = _bisect(known, places.argsort(), 1, generator)
    assert int(places[pick]) in middles(labels)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("1..0", 1),  # of an even number the one of the higher margin
        ("1...0", 2),
        ("0...1.0", 5),  # the shortest of several
        ("1.0.1", 1),  # as short: that of the highest margins
        (".110.", 4),  # nearest the far side of a change
        ("..10..", 1),  # as near on both sides: the higher margin
        ("..0.0", None),  # one kind of label: any
    ],
)
def test_by_hand(labels, expected):
    known = torch.tensor([{"1": 1, "0": 0, ".": -1}[label] for label in labels])
    order = torch.arange(len(labels))
    drawn = {_bisect(known, order, 1, torch.Generator().manual_seed(seed)) for seed in range(30)}
    assert drawn == ({expected} if expected is not None else {i for i, label in enumerate(labels) if label == "."})


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("labeled", [0, 4, 12])
@pytest.mark.parametrize("kept", [16, 1])
def test_every_query_is_made_of_such_picks_class_after_class(classes, labeled, kept, monkeypatch):
    monkeypatch.setattr(importlib.import_module("lightning_al.functional.galaxy"), "_KEPT_ORDERS", kept)
    generator = torch.Generator().manual_seed(classes)
    probs = (2 * torch.randn(40 + labeled, classes, generator=generator, dtype=torch.float64)).softmax(1)
    pool, known_probs = probs[:40], probs[40:]
    targets = torch.randint(classes, (labeled,), generator=generator)
    picks = galaxy(pool, 23, known_probs, targets, torch.Generator().manual_seed(1)).tolist()
    assert len(set(picks)) == 23
    classes_of: list[int | None] = [None] * 40 + targets.tolist()
    for start in range(0, 23, classes):
        options = [set(range(classes))]  # classes that may still be asked for in this time round
        for pick in picks[start : start + classes]:
            fitting = set()
            for name in range(classes):
                keys = [float(row[name] - row.max() + 1e-8 * row.max()) for row in probs]
                row = sorted(range(len(keys)), key=lambda i: (-keys[i], i))
                labels = [None if classes_of[i] is None else int(classes_of[i] == name) for i in row]
                if row.index(pick) in middles(labels):
                    fitting.add(name)
            options = [left - {name} for left in options for name in fitting & left]
            assert options
            classes_of[pick] = int(pool[pick].argmax())


def test_a_rare_class_gets_its_turn():
    """Of 300 samples ten are of the second class; the third is never unsure."""
    generator = torch.Generator().manual_seed(0)
    rare = torch.tensor([[0.3, 0.6, 0.1]]).repeat(10, 1)
    common = torch.tensor([[0.52, 0.08, 0.4]]).repeat(290, 1)
    pool = torch.cat([rare, common]) + 0.01 * torch.rand(300, 3, generator=generator)
    pool /= pool.sum(1, keepdim=True)
    labeled = torch.tensor([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]])
    picks = galaxy(pool, 30, labeled, torch.arange(3))
    assert (picks < 10).sum() >= 5  # at random: one


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["random", "identical", "certain"])
def test_hard_pools_give_unique_positions(dtype, kind):
    probs = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)).softmax(1)
    probs = {"random": probs, "identical": probs[:1].expand(60, -1), "certain": torch.eye(5).repeat(12, 1)}[kind]
    probs = probs.to(dtype)
    for known in (None, probs[:0], probs[:9]):
        targets = None if known is None else torch.arange(len(known)) % 5
        for size in (1, 7, 60, 99):
            picks = galaxy(probs, size, known, targets)
            assert picks.dtype == torch.int64
            assert sorted(set(picks.tolist())) == sorted(picks.tolist())
            assert len(picks) == min(size, 60)
        assert galaxy(probs[:1], 3, known, targets).tolist() == [0]
        assert galaxy(probs[:0], 3, known, targets).tolist() == []


def test_wrong_inputs_are_refused():
    probs = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    targets = torch.arange(6) % 4
    with pytest.raises(ValueError, match="classes from 0 to 3, but got 4 at position 2"):
        galaxy(probs, 3, probs[:6], targets.index_fill(0, torch.tensor(2), 4))
    with pytest.raises(ValueError, match="tensor of integers, but got NoneType"):
        galaxy(probs, 3, probs[:6])
    with pytest.raises(ValueError, match="the pool's 4 columns, but got 3"):
        galaxy(probs, 3, probs[:6, 1:], targets)
    with pytest.raises(ValueError, match=r"floating-point tensor, but got torch\.int64"):
        galaxy(probs.long(), 3)
    known = probs[:6].clone()
    known[5, 0] = math.inf
    with pytest.raises(ValueError, match="to be finite, but got inf at position 5"):
        galaxy(probs, 3, known, targets)
    probs[17, 1] = math.nan
    with pytest.raises(ValueError, match="`probs` to be finite, but got nan at position 17"):
        galaxy(probs, 3)


def test_keeps_a_few_numbers_a_sample():
    probs = torch.randn(30_000, 64, generator=torch.Generator().manual_seed(0)).softmax(1)
    with LargestAllocation() as largest:
        galaxy(probs, 5, probs[:50], torch.arange(50))
    assert largest.bytes <= 8 * (len(probs) + 50)
