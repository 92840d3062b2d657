"""ALFA-Mix: samples whose prediction flips when a little of another class is mixed in."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_al.functional.directions import spread_over
from lightning_al.functional.heads import Head, predicted_classes, steepest_ascent
from lightning_al.functional.inputs import block_rows, check_finite, check_pool, compute_dtype, default_generator
from lightning_al.functional.precision import full_precision
from lightning_al.functional.targets import check_targets

# Bounds of the mixing, in units of 1 / sqrt(D); the next is tried where the last has not flipped enough predictions.
_BOUNDS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)


def alfa_mix(
    embeddings: Tensor,
    head: Head,
    query_size: int,
    labeled_embeddings: Tensor | None = None,
    labeled_targets: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Pick among samples whose prediction flips when they are mixed with a class's mean, one near each of B centroids.

    The anchor :math:`z^\ast` of a class is the mean of its labeled embeddings. A sample is mixed with it feature by
    feature, :math:`\tilde z = \alpha \odot z^\ast + (1 - \alpha) \odot z`, with the paper's closed form

    .. math:: \alpha = \epsilon |z^\ast - z|_2 \frac{\nabla}{|\nabla|_2} \oslash (z^\ast - z)
              \quad\Rightarrow\quad \tilde z_d = z_d + \epsilon |z^\ast - z|_2 \frac{\nabla_d}{|\nabla|_2}
              \text{ where } z^\ast_d \ne z_d, \text{ else } z_d,

    :math:`\nabla` the gradient by :math:`z` of the loss of the predicted class. Candidates are the samples whose
    prediction flips for any anchor at :math:`\epsilon = 1 / (32 \sqrt D)`, which is doubled, at most to :math:`1 /
    \sqrt D`, until there are ``query_size`` of them. Scaled to length 1 they are cut into clusters by k-means, and the
    one nearest each centroid is picked. Where there are fewer candidates than picks, the rest is drawn uniformly.

    Args:
        embeddings: What the last layer sees ``(N, D)``.
        head: The last layer, ``(M, D)`` to logits ``(M, C)``, differentiable.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        labeled_embeddings: Embeddings of the labeled samples ``(L, D)``. Without any, all of the pool are candidates.
        labeled_targets: Their classes ``(L,)``, integers.
        generator: Source of random numbers, on the CPU. None: one with a fixed seed.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order of the clusters' seeds.

    Raises:
        ValueError: If an embedding or a logit is not finite, a shape does not fit, the head is not differentiable, or
            ``query_size`` is not a positive integer.

    References:
        Parvaneh, Abbasnejad, Teney, Haffari, van den Hengel and Shi (CVPR 2022), *Active Learning by Feature Mixing*.

    Example:
        >>> import torch
        >>> head = torch.nn.Linear(1, 2)
        >>> head.weight.data, head.bias.data = torch.tensor([[1.0], [-1.0]]), torch.zeros(2)
        >>> embeddings = torch.tensor([[4.0], [0.1], [-4.0]])  # the second is nearest the boundary at 0
        >>> alfa_mix(embeddings, head, 1, torch.tensor([[5.0], [-5.0]]), torch.tensor([0, 1]))
        tensor([1])
    """
    embeddings, labeled, count = check_pool(embeddings, labeled_embeddings, query_size)
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=embeddings.device)
    check_finite(embeddings, "embeddings")
    generator = default_generator(generator)
    with full_precision(embeddings.device):
        if labeled is None:
            candidates = torch.arange(len(embeddings), device=embeddings.device)
        else:
            check_finite(labeled, "labeled_embeddings")
            anchors = _anchors(labeled, check_targets(labeled_targets, len(labeled)))
            candidates = _candidates(embeddings, head, anchors.to(embeddings.device), count)
        return spread_over(embeddings, candidates, count, generator)


def _anchors(labeled: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of each class's labeled embeddings ``(classes, D)``."""
    classes, members = targets.to(labeled.device).unique(return_inverse=True)
    sums = torch.zeros(len(classes), labeled.shape[1], dtype=torch.float64, device=labeled.device)
    sums.index_add_(0, members, labeled.double())
    return sums.div_(members.bincount()[:, None]).to(compute_dtype(labeled.dtype))


def _candidates(embeddings: Tensor, head: Head, anchors: Tensor, count: int) -> Tensor:
    """Return the positions of the samples that flip at the smallest bound that flips ``count``, ascending."""
    flipped = torch.zeros(len(embeddings), dtype=torch.bool, device=embeddings.device)
    for bound in _BOUNDS:
        epsilon = bound / math.sqrt(embeddings.shape[1])
        for rows in flipped.logical_not().nonzero()[:, 0].split(block_rows(embeddings.shape[1], embeddings.device)):
            flipped[rows] = _flips(embeddings[rows].to(anchors.dtype), rows, head, anchors, epsilon)
        if int(flipped.sum()) >= count:
            break
    return flipped.nonzero()[:, 0]


def _flips(points: Tensor, positions: Tensor, head: Head, anchors: Tensor, epsilon: float) -> Tensor:
    """Return whether the prediction flips for any anchor ``(M,)``."""
    classes, directions = steepest_ascent(head, points, positions)
    flips = torch.zeros_like(classes, dtype=torch.bool)
    steps = epsilon * torch.cdist(points, anchors, compute_mode="donot_use_mm_for_euclid_dist")
    for anchor, step in zip(anchors, steps.t(), strict=True):
        # Multiplied out, the division by the difference cancels; where that is 0 no mixing moves the feature.
        mixed, same = torch.addcmul(points, step[:, None], directions), points == anchor
        if bool(same.any()):
            mixed = torch.where(same, points, mixed)
        flips |= predicted_classes(head, mixed, positions) != classes
    return flips
