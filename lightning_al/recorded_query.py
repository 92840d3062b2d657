"""queries/round-003.record: what was asked, with checksums, so that a kill cannot have it asked twice."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

from lightning_al import durable

_HEADER = "rank,dataset_index,strategy,score,control,guess,confidence,path,checksum"


@dataclass(frozen=True)
class RecordedQuery:
    """What was asked in a round, written before it was asked.

    Args:
        dataset_indices: Which samples, in the order picked.
        scores: The strategy's scores, one for each, NaN for what it did not pick; ``None`` where it gives none.
        strategy: The strategy's name.
        control: Those of the samples that were drawn at random, to compare the strategy's with.
        guesses: The model's class and its probability, one pair for each; ``None`` where nobody is shown them.
        paths: Where each sample's file lies; ``None`` where the dataset does not say.
    """

    dataset_indices: list[int]
    scores: list[float] | None
    strategy: str
    control: frozenset[int] = frozenset()
    guesses: list[tuple[int, float]] | None = None
    paths: list[str] | None = None


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
        rank,dataset_index,strategy,score,control,guess,confidence,path,checksum
        1,41,Margin,0.5,,,,,0071cd46cfbeab13
    """
    indices = [operator.index(index) for index in query.dataset_indices]
    if not indices or len(set(indices)) < len(indices) or min(indices) < 0:
        raise ValueError(
            "Expected `dataset_indices` of a query to be one or more different indices from 0, but got "
            f"{len(indices)}, of which {len(set(indices))} are different{f': {indices[:10]}' if indices else ''}."
        )
    for name, values in (("scores", query.scores), ("guesses", query.guesses), ("paths", query.paths)):
        if values is not None and len(values) != len(indices):
            raise ValueError(f"Expected `{name}` to have {len(indices)} values, but got {len(values)}.")
    given = [math.nan] * len(indices) if query.scores is None else query.scores
    scores = ["" if math.isnan(score) else repr(float(score)) for score in given]
    guesses = [("", "")] * len(indices)
    if query.guesses is not None:
        guesses = [(str(operator.index(guess)), repr(float(confidence))) for guess, confidence in query.guesses]
    paths = [""] * len(indices) if query.paths is None else [durable.encode_cell(path) for path in query.paths]
    strategy = durable.encode_cell(query.strategy)
    lines = [
        durable.join_cells(
            (str(rank), str(index), strategy, score, "1" if index in query.control else "", *guess, path)
        )
        for rank, (index, score, guess, path) in enumerate(zip(indices, scores, guesses, paths, strict=True), start=1)
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
        >>> decode(3, encode(3, RecordedQuery([41], [0.5], "Margin"))).dataset_indices
        [41]
    """
    header, *lines = content.split(b"\n")
    if header.decode(errors="replace") != _HEADER or len(lines) < 2 or lines.pop():
        raise ValueError(f"it does not begin with {_HEADER!r}, or does not end with a whole row")
    rows = []
    checksum = _chain_start(round, len(lines))
    for number, line in enumerate(lines, start=1):
        try:
            cells, checksum = durable.unseal(line, checksum)
            _, index, strategy, score, control, guess, confidence, path = cells
            guessed = (int(guess), float(confidence)) if guess else None
            row = int(index), durable.decode_cell(strategy), float(score) if score else None, bool(control), guessed
            rows.append((*row, durable.decode_cell(path)))
        except ValueError as error:
            raise ValueError(f"row {number} (line {number + 1}): {error}") from error
    scores = [math.nan if score is None else score for _, _, score, *_ in rows]
    return RecordedQuery(
        [index for index, *_ in rows],
        None if all(map(math.isnan, scores)) else scores,
        rows[0][1],
        frozenset(index for index, _, _, control, *_ in rows if control),
        [guessed for *_, guessed, _ in rows if guessed is not None] or None,
        [path for *_, path in rows] if rows[0][-1] else None,
    )


def _chain_start(round: int, rows: int) -> str:
    # round and count are in the chain: a record under another round's name, or without its last rows, is found
    return durable.chain_start(f"{_HEADER}\nround {round}, {rows} rows")
