"""Selections over a pool spread over ranks: the picks of one process, and no more travels than it must.

The ranks are threads, each with its own rows; what they gather is written down.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_al.functional import badge, k_center_greedy
from lightning_al.functional.shard import Shard
from lightning_al.functional.sharded_space import ShardedSpace
from lightning_al.functional.spaces import EuclideanSpace, GradientSpace
from tests._helpers.probes import LargestAllocation

Act = Callable[[Shard, slice], Any]


class Ranks:
    """Threads that gather from each other.

    Args:
        world_size: How many.
        size: Number of rows of the whole pool.
    """

    def __init__(self, world_size: int, size: int) -> None:
        self.world_size, self.size = world_size, size
        self.gathered: list[torch.Size] = []
        self._slots: list[Tensor] = [torch.empty(0)] * world_size
        self._barrier = Barrier(world_size, timeout=30)

    def run(self, act: Act) -> list[Any]:
        """What ``act`` returns on each rank, or the error that ended it."""

        def on(rank: int) -> Any:
            torch.set_num_threads(1)
            shard = Shard(rank, self.world_size, self.size, lambda mine: self._gather(rank, mine))
            try:
                return act(shard, slice(rank, None, self.world_size))
            except Exception as error:
                return error

        with ThreadPoolExecutor(self.world_size) as pool:
            return list(pool.map(on, range(self.world_size)))

    def _gather(self, rank: int, mine: Tensor) -> Tensor:
        self._slots[rank] = mine.clone()
        self._barrier.wait()
        whole = torch.stack(self._slots)
        self._barrier.wait()
        if rank == 0:
            self.gathered.append(whole.shape)
        return whole


def on_ranks(world_size: int, size: int, act: Act) -> list[list[int]]:
    return [each if isinstance(each, Exception) else each.tolist() for each in Ranks(world_size, size).run(act)]


def grid(rows: int, columns: int, seed: int = 0) -> Tensor:
    """Small integers: ties everywhere, and every squared distance exact."""
    return torch.randint(-3, 4, (rows, columns), generator=torch.Generator().manual_seed(seed)).float()


def grid_probs(rows: int, seed: int = 1) -> Tensor:
    """Probabilities of three classes in eighths."""
    first = torch.randint(0, 5, (rows, 2), generator=torch.Generator().manual_seed(seed)) / 8
    return torch.cat([first, 1 - first.sum(1, keepdim=True)], dim=1)


def mixture(rows: int, columns: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(7, columns, generator=generator)
    members = torch.randint(7, (rows,), generator=generator)
    return centres[members] + torch.randn(rows, columns, generator=generator)


def random_probs(rows: int, seed: int = 1) -> Tensor:
    return (2 * torch.randn(rows, 5, generator=torch.Generator().manual_seed(seed))).softmax(1)


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- the picks of one process
SIZES = [(1, 1), (2, 2), (5, 5), (7, 3), (64, 64), (301, 40), (2500, 600)]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize(("size", "query_size"), SIZES)
@pytest.mark.parametrize("labeled", [0, 3])
def test_k_center_on_a_grid(world_size: int, size: int, query_size: int, labeled: int) -> None:
    pool, known = grid(size, 3), grid(labeled, 3, seed=9)
    expected = k_center_greedy(pool, query_size, known).tolist()
    picks = on_ranks(world_size, size, lambda shard, own: k_center_greedy(pool[own], query_size, known, shard))
    assert picks == [expected] * world_size


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize(("size", "query_size"), SIZES)
def test_badge_on_a_grid(world_size: int, size: int, query_size: int) -> None:
    probs, embeddings = grid_probs(size), grid(size, 3)
    expected = badge(probs, embeddings, query_size, seeded()).tolist()
    picks = on_ranks(
        world_size, size, lambda shard, own: badge(probs[own], embeddings[own], query_size, seeded(), shard)
    )
    assert picks == [expected] * world_size


@settings(max_examples=40, deadline=None)
@given(
    points=st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=25),
    known=st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), max_size=2),
    world_size=st.integers(2, 3),
    tile=st.integers(1, 6),
)
def test_ties_go_where_they_go_in_one_process(points: list[Any], known: list[Any], world_size: int, tile: int) -> None:
    pool, labeled = torch.tensor(points).double(), torch.tensor(known).double().reshape(-1, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightning_al.functional.k_center._TILE", tile)
        patch.setattr("lightning_al.functional.k_center._SMALLEST_TILE", 1)
        expected = k_center_greedy(pool, len(points), labeled).tolist()
        picks = on_ranks(
            world_size, len(points), lambda shard, own: k_center_greedy(pool[own], len(points), labeled, shard)
        )
    assert picks == [expected] * world_size


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("labeled", [0, 600])
def test_k_center_on_random_points(world_size: int, labeled: int, dtype: torch.dtype) -> None:
    points = (mixture(3600, 16) + 1000 * (dtype == torch.float64)).to(dtype)
    pool, known = points[:3000], points[3000 : 3000 + labeled]
    expected = k_center_greedy(pool, 250, known).tolist()
    picks = on_ranks(world_size, 3000, lambda shard, own: k_center_greedy(pool[own], 250, known, shard))
    assert picks == [expected] * world_size


@pytest.mark.parametrize(
    "settings",
    [{}, {"_PASS_CENTRES": 0, "_BATCH_COST": 10**9}, {"_BATCH_COST": -(10**9)}],
    ids=["as-it-is", "always-refreshed", "never-refreshed"],
)
@pytest.mark.parametrize("world_size", [2, 3])
def test_badge_on_random_outputs(world_size: int, settings: dict[str, int], monkeypatch: Any) -> None:
    for name, value in settings.items():
        monkeypatch.setattr(f"lightning_al.functional.d2_sampling.{name}", value)
    probs, embeddings = random_probs(3000).double(), mixture(3000, 16)  # two types travel as one
    expected = badge(probs, embeddings, 250, seeded()).tolist()
    picks = on_ranks(world_size, 3000, lambda shard, own: badge(probs[own], embeddings[own], 250, seeded(), shard))
    assert picks == [expected] * world_size


def test_more_asked_for_than_there_is() -> None:
    pool = mixture(20, 4)
    picks = on_ranks(3, 20, lambda shard, own: k_center_greedy(pool[own], 99, None, shard))
    assert picks == [k_center_greedy(pool, 20).tolist()] * 3
    assert on_ranks(3, 0, lambda shard, own: k_center_greedy(pool[:0], 99, None, shard)) == [[]] * 3


# -- what travels
@pytest.mark.parametrize("strategy", ["k_center", "k_center_labeled", "badge"])
def test_the_pool_never_travels_and_no_pick_travels_alone(strategy: str) -> None:
    size, picks = 60_000, 400
    probs, embeddings, known = random_probs(size), mixture(size, 128), mixture(700, 128, seed=3)

    def act(shard: Shard, own: slice) -> int:
        rows, labeled = embeddings[own], known if strategy == "k_center_labeled" else None
        with LargestAllocation() as largest:
            if strategy == "badge":
                badge(probs[own], rows, picks, seeded(), shard)
            else:
                k_center_greedy(rows, picks, labeled, shard)
        return largest.bytes

    ranks = Ranks(3, size)
    assert max(ranks.run(act)) <= embeddings.nbytes / 4
    rows_together = [shape[0] * shape[1] for shape in ranks.gathered if len(shape) == 3]
    assert max(rows_together) <= 9000  # the largest tile and its padding, however large the pool
    assert max(shape.numel() for shape in ranks.gathered if len(shape) == 2) == size  # a number a sample
    assert len(rows_together) < picks / 8


# -- the parts
@pytest.mark.parametrize(("world_size", "size"), [(2, 9), (3, 10), (3, 2), (1, 4)])
def test_rows_are_joined_and_taken_in_their_order(world_size: int, size: int) -> None:
    whole = torch.arange(3.0 * size).reshape(size, 3)
    positions = torch.randint(size, (17,), generator=seeded())

    def act(shard: Shard, own: slice) -> tuple[Tensor, ...]:
        rows, numbers = whole[own], whole[own, 0].double()
        assert shard.rows == len(rows)
        return shard.join(rows), *shard.take(positions, lambda mine: (rows[mine], numbers[mine]))

    for joined, rows, numbers in Ranks(world_size, size).run(act):
        assert torch.equal(joined, whole)
        assert torch.equal(rows, whole[positions])
        assert torch.equal(numbers, whole[positions, 0].double())
        assert rows.is_contiguous()


@pytest.mark.parametrize("world_size", [2, 3])
def test_a_sharded_space_is_the_space_of_one_process(world_size: int) -> None:
    probs, embeddings, known = grid_probs(41), grid(41, 3), grid(4, 3, seed=2)
    some = torch.tensor([7, 40, 0, 7, 33])
    whole = EuclideanSpace(embeddings, known)
    gradients = GradientSpace(probs, embeddings)

    def act(shard: Shard, own: slice) -> None:
        space = ShardedSpace(EuclideanSpace(embeddings[own], known, shard), shard)
        others = ShardedSpace(GradientSpace(probs[own], embeddings[own], shard), shard)
        assert (len(space), len(others)) == (45, 41)
        for one, sharded, rows in [(whole, space, some), (whole, space, slice(42, 45)), (gradients, others, some)]:
            features, expected = sharded.take(rows), one.take(rows)
            assert all(map(torch.equal, features, expected))
            assert torch.equal(sharded.nearest(features, features), one.nearest(expected, expected))
            bounds = torch.full((41,), 30.0)
            sharded.lower_to_nearest(bounds, features)
            squared = one.squared_distances(one.take(slice(0, 41)), expected)
            assert torch.equal(bounds, squared.amin(1).clamp(max=30))

    assert Ranks(world_size, 41).run(act) == [None] * world_size


# -- errors
def errors(world_size: int, size: int, act: Act) -> list[str]:
    results = Ranks(world_size, size).run(act)
    assert all(isinstance(error, Exception) for error in results)
    return [f"{type(error).__name__}: {error}" for error in results]


@pytest.mark.parametrize("strategy", ["k_center", "badge"])
def test_an_error_on_one_rank_ends_all_with_its_message(strategy: str) -> None:
    probs, embeddings = random_probs(30), mixture(30, 4)
    embeddings[7, 2] = torch.nan  # the third row of rank 1

    def act(shard: Shard, own: slice) -> Tensor:
        if strategy == "badge":
            return badge(probs[own], embeddings[own], 5, None, shard)
        return k_center_greedy(embeddings[own], 5, None, shard)

    message = "ValueError: Expected `embeddings` to be finite, but got nan at position 2."
    for rank, text in enumerate(errors(3, 30, act)):
        assert text.startswith(message if rank == 1 else f"ActiveLearningError: Rank 1 failed: {message}")


def test_rows_that_are_not_this_ranks_are_refused() -> None:
    pool = mixture(30, 4)
    first, second = errors(2, 30, lambda shard, own: k_center_greedy(pool[own if shard.rank else ...], 5, None, shard))
    assert "to hold the 15 rows of rank 0 out of 30 on 2 ranks, but got 30" in first
    assert second == f"ActiveLearningError: Rank 0 failed: {first}"


@pytest.mark.parametrize("differing", ["generator", "query_size", "columns"])
def test_ranks_that_would_part_are_told(differing: str) -> None:
    probs, pool = random_probs(900), mixture(900, 4)

    def act(shard: Shard, own: slice) -> Tensor:
        if differing == "generator":
            return badge(probs[own], pool[own], 50, seeded(shard.rank), shard)
        if differing == "query_size":
            return k_center_greedy(pool[own], 50 + shard.rank, None, shard)
        return k_center_greedy(pool[own, : 3 + shard.rank], 50, None, shard)

    assert all("ActiveLearningError: The ranks are about to part" in text for text in errors(2, 900, act))


def test_an_error_around_a_selection_reaches_those_inside_it() -> None:
    pool = mixture(300, 4)

    def act(shard: Shard, own: slice) -> Tensor:
        def select() -> Tensor:
            if shard.rank == 2:
                raise RuntimeError("no memory left: " + 3000 * "é")
            return k_center_greedy(pool[own], 50, None, shard)

        return shard.together(select)

    first, second, third = errors(3, 300, act)
    assert third.startswith("RuntimeError: no memory left: é")
    assert first == second
    assert first.startswith("ActiveLearningError: Rank 2 failed: RuntimeError: no memory left: éé")


def test_an_error_after_a_selection_reaches_those_that_are_done() -> None:
    pool = mixture(300, 4)

    def act(shard: Shard, own: slice) -> Tensor:
        def select() -> Tensor:
            picks = k_center_greedy(pool[own], 50, None, shard)
            if shard.rank == 0:
                raise KeyError("late")
            return picks

        return shard.together(select)

    assert errors(2, 300, act) == ["KeyError: 'late'", "ActiveLearningError: Rank 0 failed: KeyError: 'late'"]


def test_ranks_that_return_different_picks_are_told() -> None:
    def act(shard: Shard, own: slice) -> Tensor:
        return shard.together(lambda: torch.tensor([3, 4 + shard.rank]))

    assert all("set `sharded = False` in its class" in text for text in errors(2, 9, act))
