"""What a ledger says in all: of each sample the answer that counts, and since which round."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lightning_al.ledger import LedgerRow


@dataclass(frozen=True)
class Answered:
    """Where a sample stands.

    Args:
        row: The answer that counts: the last one.
        since: The round that first trained with the sample as it is, labeled or rejected. A label that was corrected
            keeps it.
    """

    row: LedgerRow
    since: int


def answered(rows: Iterable[LedgerRow]) -> dict[int, Answered]:
    """Put the rows of a ledger together.

    Args:
        rows: In the order they were appended.

    Returns:
        By dataset index, in the order of the first answers.

    Examples:
        >>> row = LedgerRow(7, 1, "Margin", 0.5, "2", "")
        >>> late = LedgerRow(7, 3, "Margin", 0.5, "4", "")
        >>> answered([row, late])[7].row.label, answered([row, late])[7].since
        (4, 1)
    """
    found: dict[int, Answered] = {}
    for row in rows:
        before = found.get(row.dataset_index)
        same_side = before is not None and before.row.rejected == row.rejected
        found[row.dataset_index] = Answered(row, before.since if before is not None and same_side else row.round)
    return found
