"""Whose turn it is, where several classes share a query."""

from __future__ import annotations

from heapq import heapify, heappop, heapreplace


def level_turns(counts: list[int], available: list[int], query_size: int) -> list[int]:
    """Give each turn to the class that has the fewest, so that the counts become as level as they can.

    Args:
        counts: What each class has already.
        available: How often each class can take a turn.
        query_size: Number of turns; fewer where no class can take another.

    Returns:
        The class of each turn; of classes that have as few, the lowest comes first.

    Example:
        >>> level_turns([5, 0, 1], [9, 9, 1], query_size=4)
        [1, 1, 2, 1]
    """
    waiting = [(count, name) for name, count in enumerate(counts) if available[name]]
    heapify(waiting)
    left = list(available)
    turns: list[int] = []
    while waiting and len(turns) < query_size:
        count, name = waiting[0]
        turns.append(name)
        left[name] -= 1
        if left[name]:
            heapreplace(waiting, (count + 1, name))
        else:
            heappop(waiting)
    return turns
