"""A query as it is put to an oracle, and as it is recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lightning_al.oracles import Query
from lightning_al.oracles.base import no_path
from lightning_al.recorded_query import RecordedQuery


def part_of(query: Query, positions: list[int]) -> Query:
    """Some of the samples of a query, as a query."""

    def rows(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[positions]

    return replace(
        query, dataset_indices=query.dataset_indices[positions], scores=rows(query.scores), probs=rows(query.probs)
    )


def as_record(query: Query) -> RecordedQuery:
    """A query as it is recorded."""
    asked = query.dataset_indices.tolist()
    guesses = None
    if query.probs is not None:
        confidence, guess = query.probs.double().max(dim=1)
        guesses = list(zip(guess.tolist(), confidence.tolist(), strict=True))
    paths = [query.path(index) for index in asked]
    known = [path for path in paths if path is not None]
    scores = None if query.scores is None else query.scores.tolist()
    return RecordedQuery(
        asked, scores, query.strategy, query.control, guesses, known if len(known) == len(asked) else None
    )


def as_query(
    round: int,
    recorded: RecordedQuery,
    preview: Callable[[int], Any],
    part: int = 1,
    path: Callable[[int], str | None] = no_path,
) -> Query:
    """A recorded query as a query again; of the model's probabilities the record has the guess alone."""
    scores = None if recorded.scores is None else torch.tensor(recorded.scores, dtype=torch.float64)
    indices = torch.tensor(recorded.dataset_indices, dtype=torch.int64)
    return Query(indices, round, recorded.strategy, scores, None, preview, part, recorded.control, path)
