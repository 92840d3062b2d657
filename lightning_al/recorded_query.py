"""queries/round-003.csv: what was asked, with checksums, so that a kill cannot have it asked twice."""

from __future__ import annotations

import operator
from dataclasses import dataclass

from lightning_al import durable

_HEADER = "rank,dataset_index,strategy,score,checksum"


@dataclass(frozen=True)
class RecordedQuery:
    """What was asked in a round, written before it was asked.

    Args:
        dataset_indices: Which samples, in the order picked.
        scores: The strategy's scores, one for each; ``None`` where it gives none.
        strategy: The strategy's name.
    """

    dataset_indices: list[int]
    scores: list[float] | None
    strategy: str


def encode(round: int, query: RecordedQuery) -> bytes:
    """Writes a query.

    Args:
        round: The round that will train on the labels.
        query: What is asked.

    Returns:
        Content of the file.

    Raises:
        ValueError: If there is nothing to ask, an index comes twice, or there are not as many scores as indices.

    Examples:
        >>> print(encode(3, RecordedQuery([41], [0.5], "Margin")).decode(), end="")
        rank,dataset_index,strategy,score,checksum
        1,41,Margin,0.5,4242f7cf396c18b9
    """
    indices = [operator.index(index) for index in query.dataset_indices]
    if not indices or len(set(indices)) < len(indices) or min(indices) < 0:
        raise ValueError(
            "Expected `dataset_indices` of a query to be one or more different indices from 0, but got "
            f"{len(indices)}, of which {len(set(indices))} are different{f': {indices[:10]}' if indices else ''}."
        )
    scores = [""] * len(indices) if query.scores is None else [repr(float(score)) for score in query.scores]
    if len(scores) != len(indices):
        raise ValueError(f"Expected `scores` to have {len(indices)} values, but got {len(scores)}.")
    strategy = durable.encode_cell(query.strategy)
    lines = [
        durable.join_cells((str(rank), str(index), strategy, score))
        for rank, (index, score) in enumerate(zip(indices, scores, strict=True), start=1)
    ]
    sealed, _ = durable.seal(lines, _chain_start(round, len(lines)))
    return _HEADER.encode() + b"\n" + sealed


def decode(round: int, content: bytes) -> RecordedQuery:
    """Reads a query.

    Args:
        round: The round that trains on the labels.
        content: Content of the file.

    Returns:
        The query.

    Raises:
        ValueError: If it is not as it was written.

    Examples:
        >>> decode(3, encode(3, RecordedQuery([41], [0.5], "Margin")))
        RecordedQuery(dataset_indices=[41], scores=[0.5], strategy='Margin')
    """
    header, *lines = content.split(b"\n")
    if header.decode(errors="replace") != _HEADER or len(lines) < 2 or lines.pop():
        raise ValueError(f"it does not begin with {_HEADER!r}, or does not end with a whole row")
    rows = []
    checksum = _chain_start(round, len(lines))
    for number, line in enumerate(lines, start=1):
        try:
            cells, checksum = durable.unseal(line, checksum)
            _, index, strategy, score = cells
            rows.append((int(index), durable.decode_cell(strategy), float(score) if score else None))
        except ValueError as error:
            raise ValueError(f"row {number} (line {number + 1}): {error}") from error
    scores = [score for _, _, score in rows if score is not None]
    return RecordedQuery([index for index, _, _ in rows], scores or None, rows[0][1])


def _chain_start(round: int, rows: int) -> str:
    # round and count are in the chain: a record under another round's name, or without its last rows, is found
    return durable.chain_start(f"{_HEADER}\nround {round}, {rows} rows")
