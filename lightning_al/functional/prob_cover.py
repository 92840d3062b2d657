"""ProbCover: balls about the picks that cover as much of the pool as they can."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_al.functional.ball_cover import BallCover
from lightning_al.functional.inputs import check_pool, check_query_size, default_generator, permutation
from lightning_al.functional.k_means import cluster
from lightning_al.functional.precision import full_precision
from lightning_al.functional.unit_space import UnitSpace

_PURE_SHARE = 0.95  # the paper's alpha

# Balls whose purity is looked at: the share of pure ones is then known to 0.7 %.
_BALLS_LOOKED_AT = 1024

_DIAMETER = 2.0  # of the unit sphere

_AT_ONCE = 512


def prob_cover(
    embeddings: Tensor,
    query_size: int,
    labeled_embeddings: Tensor | None = None,
    delta: float | None = None,
    generator: torch.Generator | None = None,
    num_classes: int | None = None,
) -> Tensor:
    r"""Pick, one by one, the sample whose ball covers the most that no ball before it covers.

    .. math:: i^\ast = \arg\max_i \bigl|\{x : |z_x - z_i|_2 < \delta\} \setminus
              \textstyle\bigcup_{j \in L \cup S} \{x : |z_x - z_j|_2 < \delta\}\bigr|

    with embeddings scaled to length 1. Ties go to the lowest position. Once no ball covers anything new, the sample
    farthest from all that are labeled or picked comes next.

    Args:
        embeddings: Embeddings of the pool ``(N, D)``.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        labeled_embeddings: Embeddings of the labeled samples ``(L, D)``.
        delta: Radius of the balls, above 0; distances are at most 2. None: see `pure_radius`.
        generator: Source of random numbers for the choice of ``delta``, on the CPU. None: one with a fixed seed.
        num_classes: Number of classes, for the choice of ``delta``. None: ``query_size``, as in the paper's smallest
            queries.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order picked.

    Raises:
        ValueError: If an embedding is not finite, a shape does not fit, or ``query_size``, ``num_classes`` or ``delta``
            is not positive.

    References:
        Yehuda, Dekel, Hacohen and Weinshall (NeurIPS 2022), *Active Learning Through a Covering Lens*.

    Example:
        >>> import torch
        >>> angles = torch.tensor([0.0, 0.1, 0.2, 1.5, 1.6, 3.0])
        >>> prob_cover(torch.stack([angles.cos(), angles.sin()], 1), query_size=3, delta=0.15)
        tensor([1, 3, 5])
    """
    embeddings, labeled, count = check_pool(embeddings, labeled_embeddings, query_size)
    classes = check_query_size(query_size if num_classes is None else num_classes, 1 << 62, "num_classes")
    if delta is not None:
        check_delta(delta)
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=embeddings.device)
    with full_precision(embeddings.device):
        space = UnitSpace(embeddings, labeled)
        radius = pure_radius(space, classes, default_generator(generator)) if delta is None else delta
        radii = torch.full((len(space) - len(embeddings),), radius, dtype=space.dtype)
        picks = _greedy(space, BallCover(space, len(embeddings), radius, radii), count)
    return torch.tensor(picks, dtype=torch.int64, device=embeddings.device)


def check_delta(delta: float) -> None:
    """Raise unless the radius of a ball is a positive number.

    Args:
        delta: The radius.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(delta, bool) or not isinstance(delta, int | float) or not 0 < delta < math.inf:
        raise ValueError(
            f"Expected `delta` to be a number above 0 (unit vectors are at most 2 apart), but got {delta!r}."
        )


def pure_radius(space: UnitSpace, num_classes: int, generator: torch.Generator) -> float:
    """Return the largest radius at which 95 % of the balls are pure: of one class, as k-means guesses the classes.

    A ball is pure up to the distance of the nearest point of another cluster, so that the radius is a quantile of
    those distances. They are taken for 1024 points drawn at random, or for all if there are fewer.

    Args:
        space: All points, labeled ones too.
        num_classes: Number of classes: k-means looks for as many clusters, two at least.
        generator: Source of random numbers.

    Returns:
        The radius, at most 2: there all is one ball.
    """
    labels = cluster(space, min(max(num_classes, 2), len(space)), generator).labels
    drawn = permutation(len(space), generator)[:_BALLS_LOOKED_AT].long().to(space.device)
    nearest = torch.full((len(drawn),), _DIAMETER**2, dtype=space.dtype, device=space.device)
    for name in labels.unique().tolist():
        others = (labels[drawn] != name).nonzero()[:, 0]
        points = space.take(drawn[others])
        for members in (labels == name).nonzero()[:, 0].split(_AT_ONCE):
            nearest[others] = torch.minimum(nearest[others], space.nearest(points, space.take(members)))
    impure = len(drawn) - math.ceil(_PURE_SHARE * len(drawn))
    return math.sqrt(float(nearest.sort().values[impure]))


def _greedy(space: UnitSpace, cover: BallCover, count: int) -> list[int]:
    picks: list[int] = []
    while len(picks) < count:
        best = int(cover.gains.argmax())
        if int(cover.gains[best]) <= 0:
            break
        picks.append(best)
        if len(picks) < count:
            cover.pick(best)
    if len(picks) < count:
        known = torch.arange(len(cover.gains), len(space), device=space.device)
        nearest = space.distances_from_nearest(torch.cat([known, known.new_tensor(picks)]))
        nearest[picks] = -1
    while len(picks) < count:
        picks.append(int(nearest.argmax()))
        pick = known.new_tensor(picks[-1:])
        nearest = torch.minimum(nearest, space.distances_from_nearest(pick)).index_fill_(0, pick, -1)
    return picks
