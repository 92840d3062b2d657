"""The plan of a study: sizes, seeds, nested buckets, and the cells that its tasks make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lightning_al.strategies import LeastConfidence, Margin
from lightning_al.study.cells import OBSERVED, Work
from lightning_al.study.design import Design, check_arms, sizes
from lightning_al.study.table import picks_of, rows_of
from lightning_al.study.types import Fit, Observation, Request

DESIGN = Design(
    pilot=60, initial=6, query_size=4, rounds=3, replicates=2, buckets=4, fractions=(0.5, 1.0), seeds=2,
    arms=("Margin", "LeastConfidence"), seed=3,
)  # fmt: skip


class CountingFitter:
    """Picks the lowest positions that are not labeled; the metric is the sum of the labeled ones."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def fit_many(self, requests: Sequence[Request]) -> list[Fit]:
        self.requests += requests
        return [self._fit(request) for request in requests]

    def _fit(self, request: Request) -> Fit:
        rest = np.setdiff1d(np.arange(60), request.labeled)
        picked = {
            arm: (rest if arm == "random" else rest[::-1])[: request.query_size].tolist() for arm in request.queries
        }
        seen = None
        if request.observe:
            seen = Observation(np.ones((60, 2)), np.ones((3, 60)), np.ones((3, 60), bool), np.zeros(60, np.int64))
        return Fit({"accuracy": float(request.labeled.sum()), "auroc": float("nan")}, picked, observation=seen)


def run(
    design: Design, fitter: CountingFitter, *, batched: bool, known: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Run every task in order and return the cells."""
    cells: dict[str, Any] = dict(known or {})
    work = Work(design, fitter, {"Margin": Margin(), "LeastConfidence": LeastConfidence()})
    for task in design.tasks(batched=batched):
        before = dict(cells)  # a task reads what was finished before it began
        for key, cell, arrays in work(task, before.get):
            assert key not in cells
            cells[key] = cell
            assert (arrays is not None) == (key == OBSERVED)
    return cells


@pytest.mark.parametrize("batched", [False, True])
def test_the_tasks_make_each_fit_once(batched: bool) -> None:
    fitter = CountingFitter()
    cells = run(DESIGN, fitter, batched=batched)
    # 4 buckets x 2 fractions x 2 seeds, 2 first fits, 2 whole pilots, 2 replicates x 3 arms x 3 rounds
    assert len(cells) == len(fitter.requests) == DESIGN.num_fits == 16 + 2 + 2 + 18
    assert sum(len(request.labeled) for request in fitter.requests) == DESIGN.num_labels
    assert sum(task.fits for task in DESIGN.tasks(batched=batched)) == DESIGN.num_fits


def test_batched_or_not_the_cells_are_the_same() -> None:
    assert run(DESIGN, CountingFitter(), batched=True) == run(DESIGN, CountingFitter(), batched=False)


@pytest.mark.parametrize("batched", [False, True])
def test_a_killed_study_makes_only_what_is_missing(batched: bool) -> None:
    whole = run(DESIGN, CountingFitter(), batched=batched)
    rng = np.random.default_rng(0)
    chains = [key for key in whole if key.startswith("simulation")]
    for _ in range(5):
        # What a kill can leave: some tasks whole, and of each chain its first rounds.
        kept_rounds = {key.rsplit("-", 1)[0]: int(rng.integers(0, 4)) for key in chains}
        known = {
            key: cell
            for key, cell in whole.items()
            if (key in chains and cell["round"] <= kept_rounds[key.rsplit("-", 1)[0]])
            or (key not in chains and rng.random() < 0.5)
        }
        assert run(DESIGN, CountingFitter(), batched=batched, known=known) == whole


def test_arms_share_initial_set_and_seeds_and_grow_by_what_they_asked_for() -> None:
    fitter = CountingFitter()
    cells = run(DESIGN, fitter, batched=False)
    for replicate in range(2):
        initial = set(DESIGN.initial_set(replicate).tolist())
        rest = sorted(set(range(60)) - initial)
        for arm, order in (("random", rest), ("Margin", rest[::-1])):
            for round in (1, 2, 3):
                cell = cells[DESIGN.simulation_key(replicate, arm, round)]
                assert cell["labels"] == 6 + 4 * round
                assert cell["metrics"]["accuracy"] == sum(initial) + sum(order[: 4 * round])
        seeds = [
            {cells[DESIGN.simulation_key(replicate, arm, round)]["seed"] for arm in ("random", "Margin")}
            for round in (1, 2, 3)
        ]
        assert [len(each) for each in seeds] == [1, 1, 1]
        assert len(set.union(*seeds)) == 3
    assert set(DESIGN.initial_set(0).tolist()) != set(DESIGN.initial_set(1).tolist())


def test_buckets_are_disjoint_cover_the_pilot_and_their_shares_are_nested() -> None:
    buckets = [DESIGN.bucket(b).tolist() for b in range(4)]
    assert sorted(position for bucket in buckets for position in bucket) == list(range(60))
    for b in range(4):
        half, whole = DESIGN.bucket_share(b, 0.5).tolist(), DESIGN.bucket_share(b, 1.0).tolist()
        assert len(half) == 8 or len(half) == 7
        assert half == whole[: len(half)]
        assert sorted(whole) == sorted(buckets[b])


def test_every_fit_of_the_nested_design_has_its_own_seed() -> None:
    cells = run(DESIGN, CountingFitter(), batched=True)
    seeds = [cell["seed"] for cell in cells.values() if cell["part"] == "design"]
    assert len(set(seeds)) == 16


def test_the_rows_hold_the_shared_first_fit_for_each_arm_and_no_nan() -> None:
    rows = rows_of(run(DESIGN, CountingFitter(), batched=True).values(), DESIGN)
    simulated = [row for row in rows if row["part"] == "simulation"]
    assert len(simulated) == 2 * 3 * 4
    first = [row for row in simulated if row["round"] == 0 and row["replicate"] == 1]
    assert [row["arm"] for row in first] == ["random", "Margin", "LeastConfidence"]
    assert {row["accuracy"] for row in first} == {float(DESIGN.initial_set(1).sum())}
    assert {row["auroc"] for row in rows} == {None}


def test_picks_are_in_the_order_asked_and_leave_out_a_broken_chain() -> None:
    cells = run(DESIGN, CountingFitter(), batched=False)
    del cells[DESIGN.simulation_key(1, "Margin", 2)]
    picks = picks_of(cells.values(), DESIGN)
    rest = sorted(set(range(60)) - set(DESIGN.initial_set(0).tolist()))
    assert picks["Margin"] == [rest[::-1][:12]]
    assert len(picks["random"]) == 2


@pytest.mark.parametrize(
    ("pilot", "rounds", "initial", "query_size", "expected"),
    [
        (1197, 8, None, None, (66, 66)),  # 1197 // 2 = 598 = 9 x 66 + 4
        (1197, 8, 100, None, (100, 62)),  # 498 // 8
        (1197, 8, None, 50, (50, 50)),
        (1197, 8, None, 70, (38, 70)),  # 598 - 560
        (200, 4, 20, 45, (20, 45)),  # the last count is the pilot: asked for, so done
    ],
)
def test_sizes(pilot: int, rounds: int, initial: int | None, query_size: int | None, expected: tuple[int, int]) -> None:
    assert sizes(pilot, rounds, initial, query_size) == expected


@pytest.mark.parametrize(("initial", "query_size"), [(None, None), (5, None), (None, 9), (10, 3)])
def test_a_pilot_too_small_for_the_rounds_is_refused(initial: int | None, query_size: int | None) -> None:
    with pytest.raises(ValueError, match="Set fewer `rounds`"):
        sizes(15, 8, initial, query_size)


def test_arms_whose_files_would_meet_are_refused() -> None:
    with pytest.raises(ValueError, match="'margin' meets 'Margin'"):
        check_arms(["Margin", "margin"])
    with pytest.raises(ValueError, match="the control arm"):
        check_arms(["Random"])


def test_the_confirming_plan_draws_anew_and_stays_in_range() -> None:
    planned = Design(90, 9, 9, 2, 6, 3, (0.5, 1.0), 2, ("Margin", "BADGE"), seed=4)
    confirming = planned.confirming("BADGE")
    assert (confirming.arms, confirming.seed) == (("BADGE",), 4 + 2**31)
    assert planned.confirming("BADGE") == confirming
    assert replace(planned, seed=2**32 - 1).confirming("BADGE").seed == 2**31 - 1
    places = [("simulation", r, i) for r in range(6) for i in range(3)] + [("pilot", r) for r in range(6)]
    assert {planned.fit_seed(*place) for place in places}.isdisjoint(confirming.fit_seed(*place) for place in places)
    assert all(set(planned.initial_set(r)) != set(confirming.initial_set(r)) for r in range(6))
