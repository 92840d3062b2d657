"""How far a run goes, against counts worked out by hand."""

from __future__ import annotations

import pytest

from lightning_al.costs import Costs, read_costs
from lightning_al.limits import Limits
from lightning_al.pool import Pool


def pool(labeled: int, pending: int = 0, rejected: int = 0, size: int = 100) -> Pool:
    pool = Pool(size)
    pool.label(range(labeled))
    pool.hold(range(labeled, labeled + pending))
    pool.reject(range(labeled + pending, labeled + pending + rejected))
    return pool


def priced(most: float | None) -> Limits:
    """A budget in cost, at a tenth a sample."""
    return Limits(None, None, 10, Costs(read_costs(0.1, 100), most))


@pytest.mark.parametrize(
    ("limits", "round", "state", "reason"),
    [
        (Limits(3, None, 10), 1, pool(20), None),
        (Limits(3, None, 10), 2, pool(20), "all 3 rounds are done."),
        (Limits(None, 30, 10), 9, pool(29), None),
        (Limits(None, 30, 10), 0, pool(30), "the budget of 30 labels is spent."),
        (Limits(9, 99, 10), 0, pool(90, rejected=9), None),
        (Limits(9, 99, 10), 0, pool(90, rejected=10), "the pool is empty."),
        (Limits(9, 99, 10), 0, pool(90, pending=4, rejected=6), "the pool is empty (4 pending)."),
        (Limits(None, None, 10), 99, pool(99), None),  # a stopping rule's business
        (priced(4.0), 0, pool(20, rejected=19), None),
        (priced(4.0), 0, pool(20, pending=40, rejected=20), "the budget of 4 is spent (cost 4)."),
        (
            priced(4.05),
            0,
            pool(20, rejected=20),
            "what is left of the budget of 4.05 (cost 4) pays for no unlabeled sample: the cheapest costs 0.1.",
        ),
        (priced(None), 0, pool(90), None),
    ],
)
def test_reasons_to_stop(limits: Limits, round: int, state: Pool, reason: str | None) -> None:
    assert limits.reason_to_stop(round, state) == reason


@pytest.mark.parametrize(
    ("limits", "state", "size"),
    [
        (Limits(9, None, 10), pool(20), 10),
        (Limits(9, None, 0.25), pool(20), 25),  # of the whole pool, each round the same
        (Limits(9, 34, 10), pool(20), 10),
        (Limits(9, 34, 10), pool(30), 4),
        (Limits(9, 99, 10), pool(90, pending=3), 7),
        (Limits(9, 92, 10), pool(90, pending=3), 2),
    ],
)
def test_the_last_query_takes_what_is_left(limits: Limits, state: Pool, size: int) -> None:
    assert limits.next_query_size(state) == size


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        (Limits(5, None, 10), 2),  # after rounds 0, 1 and 2
        (Limits(None, 31, 10), 1),
        (Limits(None, 41, 10), 2),
        (Limits(5, 31, 10), 1),
        (Limits(5, 90, 0.1), 2),
        (Limits(None, None, 10), 0),
    ],
)
def test_rounds_left(limits: Limits, left: int) -> None:
    assert limits.rounds_left(2, labeled=30, size=100) == left
