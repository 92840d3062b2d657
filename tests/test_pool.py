"""The pool against plain Python lists and sets."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from torch import Tensor

from lightning_al.exceptions import PoolError
from lightning_al.pool import Pool

STATUSES = ("labeled", "pending", "rejected")
MOVES = {"labeled": "label", "pending": "hold", "rejected": "reject"}


def through_a_file(state: Any) -> Any:
    """What a checkpoint gives back to a loader that runs no code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def lists_of(pool: Pool) -> dict[str, list[tuple[int, int]]]:
    """Index and round of all that left the pool, in order."""
    return {s: list(zip(getattr(pool, s).tolist(), pool.rounds(s).tolist(), strict=True)) for s in STATUSES}


class PoolMachine(RuleBasedStateMachine):
    """Random moves on a pool and on three plain lists."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 13
        self.pool = Pool(self.size)
        self.model: dict[str, list[tuple[int, int]]] = {s: [] for s in STATUSES}

    def where(self, index: int) -> str | None:
        return next((s for s in STATUSES if index in [i for i, _ in self.model[s]]), None)

    @rule(
        to=st.sampled_from(STATUSES),
        indices=st.lists(st.integers(-2, 14), max_size=5),
        as_tensor=st.booleans(),
        round=st.none() | st.integers(0, 9),
    )
    def move(self, to: str, indices: list[int], as_tensor: bool, round: int | None) -> None:
        allowed = (None,) if to == "pending" else (None, "pending")
        fine = len(set(indices)) == len(indices) and all(
            0 <= i < self.size and self.where(i) in allowed for i in indices
        )
        given: Any = torch.tensor(indices, dtype=torch.int64) if as_tensor else indices
        before = lists_of(self.pool), self.pool.digest()
        shared = self.tensors()
        copies = [tensor.clone() for tensor in shared]
        if fine:
            getattr(self.pool, MOVES[to])(given, round)
            self.model["pending"] = [(i, r) for i, r in self.model["pending"] if i not in indices]
            self.model[to] += [(i, self.pool.round if round is None else round) for i in indices]
        else:
            with pytest.raises(PoolError):
                getattr(self.pool, MOVES[to])(given, round)
            assert (lists_of(self.pool), self.pool.digest()) == before
        # Another process may hold these very tensors in shared memory.
        assert all(torch.equal(tensor, copy) for tensor, copy in zip(shared, copies, strict=True))

    def tensors(self) -> list[Tensor]:
        return [self.pool._is_unlabeled, *self.pool._indices.values(), *self.pool._rounds.values()]

    @rule(round=st.integers(0, 9))
    def next_round(self, round: int) -> None:
        self.pool.round = round

    @rule()
    def save_and_load(self) -> None:
        digest, round = self.pool.digest(), self.pool.round
        self.pool = Pool.from_state_dict(through_a_file(self.pool.state_dict()))
        assert (self.pool.digest(), self.pool.round) == (digest, round)

    @precondition(lambda self: any(self.model.values()))
    @rule(data=st.data())
    def tampering_is_found(self, data: st.DataObject) -> None:
        state = self.pool.state_dict()
        status = data.draw(st.sampled_from([s for s in STATUSES if self.model[s]]))
        position = data.draw(st.integers(0, len(self.model[status]) - 1))
        key = data.draw(st.sampled_from([status, f"{status}_rounds"]))
        change = data.draw(st.sampled_from(["other", "dropped", "size", "round"]))
        if change == "other":
            state[key][position] += 1
        elif change == "dropped":
            state[key] = torch.cat([state[key][:position], state[key][position + 1 :]])
        else:
            state[change] += 1
        with pytest.raises(PoolError):
            Pool.from_state_dict(state)

    @invariant()
    def equals_the_lists(self) -> None:
        assert lists_of(self.pool) == self.model
        gone = {i for s in STATUSES for i, _ in self.model[s]}
        unlabeled = [i for i in range(self.size) if i not in gone]
        assert self.pool.unlabeled.tolist() == unlabeled
        assert self.pool.candidates().tolist() == unlabeled
        assert self.pool.num_unlabeled == len(unlabeled)
        assert self.pool.are_unlabeled(list(range(-1, self.size + 1))).tolist() == [
            i in unlabeled for i in range(-1, self.size + 1)
        ]
        assert all(getattr(self.pool, s).dtype == torch.int64 for s in ("unlabeled", *STATUSES))


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=20, stateful_step_count=12, deadline=None, derandomize=True)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(picked=st.sets(st.integers(0, 699_999), max_size=50))
def test_unlabeled_is_found_across_blocks(picked: set[int]) -> None:
    pool = Pool(700_000)  # more than two blocks of the search
    pool.reject(sorted(picked))
    expected = np.setdiff1d(np.arange(700_000), sorted(picked))
    assert np.array_equal(pool.unlabeled.numpy(), expected)
    assert np.array_equal(pool.candidates().numpy(), expected)
    assert pool.candidates().dtype == torch.int32


def test_digest_sees_order_round_and_place() -> None:
    def digest(*moves: tuple[str, list[int], int], round: int = 0, size: int = 6) -> str:
        pool = Pool(size)
        for name, indices, since in moves:
            getattr(pool, name)(indices, since)
        pool.round = round
        return pool.digest()

    digests = [
        digest(("label", [1, 2], 0)),
        digest(("label", [2, 1], 0)),
        digest(("label", [1, 2], 1)),
        digest(("reject", [1, 2], 0)),
        digest(("hold", [1, 2], 0)),
        digest(("label", [1], 0), ("reject", [2], 0)),
        digest(("label", [1, 2], 0), round=1),
        digest(("label", [1, 2], 0), size=7),
    ]
    assert len(set(digests)) == len(digests)
    assert digests[0] == digest(("label", [1], 0), ("label", [2], 0))


@pytest.mark.parametrize("kind", [tuple, range, np.array, "int32", "numpy items"])
def test_any_sequence_of_integers_is_taken(kind: Any) -> None:
    indices: Any = [2, 3, 4]
    if kind == "int32":
        given: Any = torch.tensor(indices, dtype=torch.int32)
    elif kind == "numpy items":
        given = [np.int64(i) for i in indices]
    else:
        given = range(2, 5) if kind is range else kind(indices)
    pool = Pool(6)
    pool.label(given)
    assert pool.labeled.tolist() == indices


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1.5, 2.0], "Expected dataset indices to be integers, but got torch.float32"),
        (torch.tensor([True, False, True]), r"torch.bool. For a mask give `mask.nonzero\(\).flatten\(\)`"),
        ([0, 5], "Index 5 is outside the dataset of 5 samples: expected 0 to 4"),
        ([-1], "Index -1 is outside"),
        ([2, 3, 2], "Index 2 is named more than once"),
        ([0], "Index 0 is labeled already and cannot become rejected"),
    ],
)
def test_bad_indices_are_named_and_nothing_moves(given: Any, message: str) -> None:
    pool = Pool(5)
    pool.label([0])
    with pytest.raises(PoolError, match=message):
        pool.reject(given)
    assert lists_of(pool) == {"labeled": [(0, 0)], "pending": [], "rejected": []}


def test_an_empty_pool_is_refused() -> None:
    with pytest.raises(PoolError, match="has 0 samples"):
        Pool(0)


@pytest.mark.parametrize(
    "state",
    [{}, None, [], {"size": "many"}, {"size": 1e400}, {"size": 3, "labeled": [[9]]}, {"size": 3, "labeled": None}],
)
def test_a_state_of_something_else_is_refused(state: Any) -> None:
    with pytest.raises(PoolError, match="was changed after"):
        Pool.from_state_dict(state)


def test_state_does_not_grow_with_the_pool() -> None:
    def bytes_of(size: int) -> int:
        pool = Pool(size)
        pool.label(range(100))
        file = io.BytesIO()
        torch.save(pool.state_dict(), file)
        return len(file.getvalue())

    assert bytes_of(1_000_000) <= bytes_of(1_000) + 64


def test_state_is_a_copy() -> None:
    pool = Pool(5)
    pool.label([1])
    state = pool.state_dict()
    state["labeled"][0] = 4
    assert pool.labeled.tolist() == [1]


def test_repr_counts() -> None:
    pool = Pool(9)
    pool.label([1, 2])
    pool.hold([3])
    assert repr(pool) == "Pool(9 samples: 2 labeled, 1 pending, 0 rejected, 6 unlabeled)"


def test_no_python_list_of_the_pool_is_made() -> None:
    tracemalloc.start()  # sees Python's objects, not torch's tensors
    pool = Pool(2_000_000)
    pool.label(torch.arange(1000))
    pool.unlabeled, pool.candidates(), pool.digest(), pool.are_unlabeled([5])
    pool = Pool.from_state_dict(pool.state_dict())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
