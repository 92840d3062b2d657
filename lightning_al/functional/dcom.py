"""DCoM: density while little is covered, margin once most is."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_al.functional.ball_cover import BallCover, uncovered_by
from lightning_al.functional.inputs import (
    check_labeled,
    check_matrix,
    check_probs,
    check_probs_values,
    check_query_size,
    default_generator,
)
from lightning_al.functional.precision import full_precision
from lightning_al.functional.prob_cover import check_delta, pure_radius
from lightning_al.functional.targets import check_targets
from lightning_al.functional.uncertainty import margin
from lightning_al.functional.unit_space import UnitSpace

# The logistic weight of the margin: half its height at a coverage of 0.8, and steep.
_CENTRE, _STEEPNESS = 0.8, 50.0

# Radii are looked for by halving (0, 1.1) until less than 0.05 is left: they are multiples of 1.1 / 64.
_LARGEST_RADIUS, _STEPS = 1.1, 64

_AT_ONCE = 512


def dcom(
    embeddings: Tensor,
    probs: Tensor,
    query_size: int,
    labeled_embeddings: Tensor | None = None,
    labeled_deltas: Tensor | None = None,
    delta: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Pick, one by one, the highest mix of margin and density, the more by margin the more is covered.

    .. math:: i^\ast = \arg\max_i w \frac{u_i}{\max u} + (1 - w) \frac{\rho_i}{\max \rho}, \quad
              w = \frac{1 + e^{-50 (1 - 0.8)}}{1 + e^{-50 (c - 0.8)}}

    where :math:`u` is :math:`1 - (p_1 - p_2)` less its minimum, :math:`\rho_i` the number of samples in the ball about
    :math:`i` that no ball before covers, and :math:`c` the share of all samples in the balls about the labeled ones.
    Maxima are over what is left. New balls have the mean radius of the labeled ones. Embeddings are scaled to length
    1. Ties go to the lowest position.

    Args:
        embeddings: Embeddings of the pool ``(N, D)``.
        probs: Class probabilities of the pool ``(N, C)``.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        labeled_embeddings: Embeddings of the labeled samples ``(L, D)``.
        labeled_deltas: Radii ``(L,)`` of the balls about them, see `adapt_deltas`; None with none labeled.
        delta: Radius of the balls while nothing is labeled. None: that at which 95 % are of one cluster of ``C``.
        generator: Source of random numbers for the choice of ``delta``, on the CPU. None: one with a fixed seed.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order picked.

    Raises:
        ValueError: If a value is not finite or no probability, a shape does not fit, or ``query_size`` or ``delta`` is
            not positive.

    References:
        Mishal and Weinshall (2024), *DCoM: Active Learning for All Learners*, arXiv:2407.01804.

    Example:
        >>> import torch
        >>> angles = torch.tensor([0.0, 0.1, 0.2, 1.5, 1.6, 3.0])
        >>> probs = torch.tensor([[0.5, 0.5]]).expand(6, 2)
        >>> dcom(torch.stack([angles.cos(), angles.sin()], 1), probs, query_size=2, delta=0.15)
        tensor([1, 3])
    """
    embeddings, probs = check_matrix(embeddings, "embeddings", "D"), check_probs(probs)
    _check_rows(probs, embeddings, "probs")
    labeled = check_labeled(labeled_embeddings, embeddings)
    count = check_query_size(query_size, len(embeddings))
    check_probs_values(probs)
    if delta is not None:
        check_delta(delta)
    known = 0 if labeled is None else len(labeled)
    if (0 if labeled_deltas is None else len(labeled_deltas)) != known:
        raise ValueError(
            f"Expected `labeled_deltas` to hold a radius for each of {known} labeled samples, but got "
            f"{labeled_deltas!r}."
        )
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=embeddings.device)
    with full_precision(embeddings.device):
        space = UnitSpace(embeddings, labeled)
        if labeled_deltas is not None and known:
            radii, radius = labeled_deltas, float(labeled_deltas.double().mean())
        else:
            radii = torch.empty(0)
            radius = pure_radius(space, probs.shape[1], default_generator(generator)) if delta is None else delta
        cover = BallCover(space, len(embeddings), radius, radii)
        weight = _competence(_coverage(cover.uncovered, known))
        picks = _greedy(cover, margin(probs).to(space.dtype), weight, count)
    return torch.tensor(picks, dtype=torch.int64, device=embeddings.device)


def adapt_deltas(
    embeddings: Tensor,
    probs: Tensor,
    labeled_embeddings: Tensor,
    labeled_probs: Tensor,
    labeled_targets: Tensor,
    deltas: Tensor,
    delta: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Return the radii of the balls about labeled samples, the new ones as large as the model's predictions allow.

    With :math:`c` the share of all samples covered while the new balls have the mean radius of the old, a new radius
    is what bisection of (0, 1.1) finds as the largest at which a share :math:`0.4 + 0.2 c` of the samples in the ball
    is predicted to be of its centre's class.

    Args:
        embeddings: Embeddings of the pool ``(N, D)``.
        probs: Class probabilities of the pool ``(N, C)``.
        labeled_embeddings: Embeddings of the labeled samples ``(L, D)``.
        labeled_probs: Class probabilities of the labeled samples ``(L, C)``.
        labeled_targets: Their classes ``(L,)``, integers.
        deltas: Radii ``(L,)`` so far, NaN for what is new.
        delta: The radius that new ones start with where there is no old. None: as in `dcom`.
        generator: Source of random numbers for the choice of ``delta``, on the CPU. None: one with a fixed seed.

    Returns:
        Radii ``(L,)``, float64; new ones are multiples of 1.1 / 64.

    Raises:
        ValueError: If an embedding is not finite, a shape does not fit, or a target is no class.

    References:
        Mishal and Weinshall (2024), *DCoM: Active Learning for All Learners*, arXiv:2407.01804.

    Example:
        >>> import torch
        >>> angles = torch.tensor([0.1, 0.2, 0.4, 0.5, 0.6, 0.7])
        >>> pool = torch.stack([angles.cos(), angles.sin()], 1)
        >>> probs = torch.tensor([[0.9, 0.1]] * 2 + [[0.1, 0.9]] * 4)
        >>> centre, new = torch.tensor([[1.0, 0.0]]), torch.tensor([torch.nan])
        >>> adapt_deltas(pool, probs, centre, probs[:1], torch.tensor([0]), new, delta=0.3)
        tensor([0.6703], dtype=torch.float64)
    """
    embeddings, probs = check_matrix(embeddings, "embeddings", "D"), check_probs(probs)
    labeled = check_matrix(labeled_embeddings, "labeled_embeddings", "D")
    _check_rows(probs, embeddings, "probs")
    labeled_probs = check_probs(labeled_probs)
    _check_rows(labeled_probs, labeled, "labeled_probs")
    check_probs_values(labeled_probs)
    _check_rows(deltas, labeled, "deltas")
    targets = check_targets(labeled_targets, len(labeled), probs.shape[1]).to(embeddings.device)
    radii = deltas.double()
    new = radii.isnan()
    if not bool(new.any()):
        return radii
    with full_precision(embeddings.device):
        space = UnitSpace(embeddings, check_labeled(labeled, embeddings))
        if not bool(new.all()):
            start = float(radii[~new].mean())
        else:
            start = pure_radius(space, probs.shape[1], default_generator(generator)) if delta is None else delta
        radii = radii.masked_fill(new, start)
        coverage = _coverage(uncovered_by(space, len(embeddings), radii), len(labeled))
        centres = new.nonzero()[:, 0].to(embeddings.device)
        predicted = torch.cat([probs.argmax(1), labeled_probs.argmax(1).to(embeddings.device)])
        purity = torch.cat(
            [_purity(space, some + len(embeddings), targets[some], predicted) for some in centres.split(_AT_ONCE)]
        )
    radii[new] = _bisect(purity >= 0.4 + 0.2 * coverage).to(radii) * (_LARGEST_RADIUS / _STEPS)
    return radii


def _purity(space: UnitSpace, centres: Tensor, targets: Tensor, predicted: Tensor) -> Tensor:
    """Return which share of a ball is predicted to be of its centre's class, for each radius ``(centres, _STEPS)``."""
    points = space.take(centres)
    inside = torch.zeros(2, len(centres), _STEPS + 1, dtype=torch.float64, device=space.device)
    for rows in space.slices():
        distances = space.squared_distances(points, space.take(rows)).sqrt_()
        shells = distances.mul_(_STEPS / _LARGEST_RADIUS).clamp_(max=_STEPS).long()
        alike = (targets[:, None] == predicted[rows]).double()
        inside[0].scatter_add_(1, shells, alike)
        inside[1].scatter_add_(1, shells, torch.ones_like(alike))
    counts = inside[:, :, :_STEPS].cumsum(2)
    return counts[0].div_(counts[1])


def _bisect(pure: Tensor) -> Tensor:
    """Return where bisection of each row of answers ends; the radius of step s has its answer in column s - 1."""
    low = torch.zeros(len(pure), dtype=torch.int64, device=pure.device)
    width = _STEPS
    while width > 2:
        width //= 2
        middle = low + width
        low = torch.where(pure.gather(1, middle[:, None] - 1)[:, 0], middle, low)
    return low + 1


def _coverage(uncovered: Tensor, known: int) -> float:
    """Return the covered share of all samples; the labeled ones are in balls of their own."""
    return 1 - float(uncovered.sum()) / (len(uncovered) + known)


def _competence(coverage: float) -> float:
    highest = 1 + math.exp(-_STEEPNESS * (1 - _CENTRE))
    return highest / (1 + math.exp(-_STEEPNESS * (coverage - _CENTRE)))


def _greedy(cover: BallCover, unsure: Tensor, weight: float, count: int) -> list[int]:
    picks: list[int] = []
    unsure = unsure - unsure.amin()
    tiny = torch.finfo(unsure.dtype).tiny
    while len(picks) < count:
        density = cover.gains.clamp(min=0).to(unsure.dtype)
        scores = unsure * (weight / unsure.amax().clamp(min=tiny))
        scores += density * ((1 - weight) / density.amax().clamp(min=1))
        scores[picks] = -1
        picks.append(int(scores.argmax()))
        unsure[picks[-1]] = 0
        if len(picks) < count:
            cover.pick(picks[-1])
    return picks


def _check_rows(values: Tensor, embeddings: Tensor, name: str) -> None:
    if len(values) != len(embeddings):
        raise ValueError(f"Expected `{name}` to have {len(embeddings)} rows, as its embeddings, but got {len(values)}.")
