"""The k-means++ law: each next point with a chance in proportion to its squared distance from those before it.

Read as written, every pick takes a pass over all points. Here proposals come from weights of an earlier moment and are
accepted with the share of the weight that is left: squared distances only fall, so that old ones are upper bounds, and
rejection makes the law exact. The weights are brought up to date, one matrix product for all picks since, only when
the rejections to be expected would cost more.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_al.functional.inputs import uniform
from lightning_al.functional.shard import Features
from lightning_al.functional.spaces import Space

Array = npt.NDArray[np.floating]

_FEWEST_PROPOSALS, _MOST_PROPOSALS = 32, 256

# Costs in distances computed: a batch of proposals has a fixed price, and reading all points that of several centres.
_BATCH_COST = 20_000
_PASS_CENTRES = 12


def sample_by_squared_distance(space: Space, count: int, first: int, generator: torch.Generator) -> list[int]:
    """Pick points one by one, each in proportion to its squared distance from the nearest already picked.

    Args:
        space: The points.
        count: Number of points to pick, the first included.
        first: Position of the first.
        generator: Source of random numbers.

    Returns:
        Unique positions in the order picked: ``count``, or fewer where no other point has a distance above 0.
    """
    picks = [first]
    weights = torch.full((len(space),), math.inf, dtype=space.dtype, device=space.device)
    met = 0  # picks that the weights know of
    late = space.take(_positions(picks, space))  # features of the others
    proposals, work = _FEWEST_PROPOSALS, 0.0
    cumulative: Tensor | None = None
    while len(picks) < count:
        if cumulative is None:
            space.lower_to_nearest(weights, late)
            weights[_positions(picks[met:], space)] = 0
            met, work = len(picks), 0.0
            late = tuple(feature[:0] for feature in late)
            cumulative = weights.cumsum(0, dtype=torch.float64)
            if float(cumulative[-1]) <= 0:
                break
        before = len(picks)
        tried, late = _accept(space, weights, cumulative, picks, late, proposals, count, generator)
        rate = max(len(picks) - before, 0.5) / tried
        pending = len(picks) - met
        batch = proposals * (proposals + pending) + _BATCH_COST
        work += batch
        ahead = (1 / rate - 1) * (count - len(picks)) / proposals * batch
        if pending and max(ahead, work) > len(space) * max(pending, _PASS_CENTRES):
            cumulative = None
        if rate > 0.5:
            proposals = min(2 * proposals, _MOST_PROPOSALS)
        elif rate < 0.1:
            proposals = max(proposals // 2, _FEWEST_PROPOSALS)
    return picks


def _accept(
    space: Space,
    weights: Tensor,
    cumulative: Tensor,
    picks: list[int],
    late: Features,
    proposals: int,
    count: int,
    generator: torch.Generator,
) -> tuple[int, Features]:
    """Propose points by their old weights and extend ``picks`` by those accepted.

    Returns:
        How many were tried, and ``late``, the features of the picks that the weights do not know of, extended likewise.
    """
    chances = uniform(2 * proposals, generator).to(space.device)
    targets = chances[:proposals] * cumulative[-1]
    drawn = torch.searchsorted(cumulative, targets, right=True).clamp_(max=len(space) - 1)
    points = space.take(drawn)
    distances = weights[drawn]
    thresholds = chances[proposals:] * distances
    if pending := len(late[0]):
        distances = torch.minimum(distances, space.nearest(points, late))
        distances.masked_fill_(torch.isin(drawn, _positions(picks[-pending:], space)), 0)
    between = space.squared_distances(points, points).masked_fill_(drawn[:, None] == drawn, 0)
    accepted = _walk(_array(thresholds), _array(distances), _array(between), count - len(picks))
    picks.extend(drawn[accepted].tolist())
    late = tuple(torch.cat([old, new[accepted]]) for old, new in zip(late, points, strict=True))
    return proposals if len(picks) < count else accepted[-1] + 1, late


def _walk(thresholds: Array, distances: Array, between: Array, wanted: int) -> list[int]:
    """Go through the proposals in order, each accepted one lowering the distances of those after it."""
    accepted: list[int] = []
    start = 0
    while len(accepted) < wanted:
        passing = np.flatnonzero(thresholds[start:] < distances[start:])
        if len(passing) == 0:
            break
        start += int(passing[0])
        accepted.append(start)
        distances = np.minimum(distances, between[start])
        start += 1
    return accepted


def _positions(picks: list[int], space: Space) -> Tensor:
    return torch.tensor(picks, dtype=torch.int64, device=space.device)


def _array(values: Tensor) -> Array:
    array: Array = values.cpu().numpy()
    return array
