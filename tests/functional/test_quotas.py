"""Turns of classes against the loop that looks at all of them each time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lightning_al.functional.quotas import level_turns

few = st.integers(0, 9)


@given(classes=st.lists(st.tuples(few, few), max_size=6), query_size=st.integers(0, 40))
def test_each_turn_goes_to_the_class_with_the_fewest(classes, query_size):
    counts, available = [count for count, _ in classes], [free for _, free in classes]
    expected, have, left = [], list(counts), list(available)
    for _ in range(min(query_size, sum(available))):
        name = min((have[c], c) for c in range(len(have)) if left[c])[1]
        expected.append(name)
        have[name] += 1
        left[name] -= 1
    assert level_turns(counts, available, query_size) == expected
