"""CAL: contrastive samples, which look like labeled ones to the model and are yet predicted otherwise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_al.functional.inputs import (
    check_finite,
    check_labeled,
    check_matrix,
    check_probs,
    check_probs_values,
    check_query_size,
    compute_dtype,
)
from lightning_al.functional.precision import full_precision
from lightning_al.functional.top_k import top_k
from lightning_al.functional.uncertainty import predictive_entropy
from lightning_al.functional.unit_space import UnitSpace

_LABELED_AT_ONCE = 512


def cal(
    probs: Tensor,
    embeddings: Tensor,
    query_size: int,
    labeled_probs: Tensor | None = None,
    labeled_embeddings: Tensor | None = None,
    neighbours: int = 10,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Pick the samples whose predictions differ most from those of the labeled samples near them.

    The scores are those of `contrastive_divergence`. Before there are labels nothing can be contrasted, and the
    samples of the highest predictive entropy are picked.

    Args:
        probs: Class probabilities ``(N, C)``.
        embeddings: Embeddings of the pool ``(N, D)``.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        labeled_probs: Class probabilities of the labeled samples ``(L, C)``.
        labeled_embeddings: Embeddings of the labeled samples ``(L, D)``.
        neighbours: Number of nearest labeled samples a prediction is compared with, at least 1; at most all.
        generator: Source of the permutation that breaks ties; without one they go to the lowest position.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, the highest score first.

    Raises:
        ValueError: If a value is not finite or no probability, a shape does not fit, or ``query_size`` or
            ``neighbours`` is not a positive integer.

    References:
        Margatina, Vernikos, Barrault and Aletras (EMNLP 2021), *Active Learning by Acquiring Contrastive Examples*.

    Example:
        >>> import torch
        >>> probs = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
        >>> embeddings = torch.tensor([[1.0, 0.1], [1.0, 0.2]])
        >>> cal(probs, embeddings, 1, torch.tensor([[0.8, 0.2]]), torch.tensor([[1.0, 0.0]]))
        tensor([1])
    """
    probs = check_probs(probs)
    embeddings = check_matrix(embeddings, "embeddings", "D")
    count = check_query_size(query_size, len(probs))
    labeled = check_labeled(labeled_embeddings, embeddings)
    if labeled is None or count == 0:
        check_finite(embeddings, "embeddings")
        return top_k(predictive_entropy(probs), query_size, generator)
    if labeled_probs is None:
        raise ValueError("Expected `labeled_probs` with `labeled_embeddings`, but got None.")
    return top_k(contrastive_divergence(probs, embeddings, labeled_probs, labeled, neighbours), query_size, generator)


def contrastive_divergence(
    probs: Tensor, embeddings: Tensor, labeled_probs: Tensor, labeled_embeddings: Tensor, neighbours: int = 10
) -> Tensor:
    r"""Return how far each prediction is from those of the nearest labeled samples.

    .. math:: s_i = \frac{1}{k} \sum_{j \in kNN_L(i)} KL(p_j \,\|\, p_i)
              = - \frac{1}{k} \sum_j H(p_j) - \sum_c \bar p_c \log p_{ic}

    with :math:`\bar p` the neighbours' mean prediction. Neighbours are the nearest in Euclidean distance between
    embeddings of length 1, as in the paper's code. Where :math:`p_{ic}` is 0 and a neighbour's is not, the logarithm is
    that of the smallest normal number, so that the score stays finite.

    Args:
        probs: Class probabilities ``(N, C)``.
        embeddings: Embeddings of the pool ``(N, D)``.
        labeled_probs: Class probabilities of the labeled samples ``(L, C)``, at least one.
        labeled_embeddings: Embeddings of the labeled samples ``(L, D)``.
        neighbours: Number of nearest labeled samples, at least 1; at most all.

    Returns:
        Scores ``(N,)`` of at least 0, in nats; higher is more contrastive.

    Raises:
        ValueError: If a value is not finite or no probability, a shape does not fit, or ``neighbours`` is not a
            positive integer.

    Example:
        >>> import torch
        >>> unit = torch.tensor([[1.0, 0.0]])
        >>> contrastive_divergence(torch.tensor([[0.25, 0.75]]), unit, torch.tensor([[0.5, 0.5]]), unit)
        tensor([0.1438])
    """
    probs, labeled_probs = check_probs(probs), check_probs(labeled_probs)
    embeddings = check_matrix(embeddings, "embeddings", "D")
    labeled = check_labeled(labeled_embeddings, embeddings)
    if labeled is None:
        raise ValueError("Expected `labeled_embeddings` of at least one sample, but got none.")
    if (len(probs), *labeled_probs.shape) != (len(embeddings), len(labeled), probs.shape[1]):
        raise ValueError(
            f"Expected `probs` {(len(embeddings), 'C')} and `labeled_probs` {(len(labeled), 'C')}, but got "
            f"{tuple(probs.shape)} and {tuple(labeled_probs.shape)}."
        )
    count = check_query_size(neighbours, len(labeled), "neighbours")
    check_probs_values(probs)
    check_probs_values(labeled_probs)
    dtype = compute_dtype(probs.dtype)
    known_probs = labeled_probs.to(dtype)
    known_entropy = predictive_entropy(known_probs)
    scores = torch.empty(len(probs), dtype=dtype, device=probs.device)
    with full_precision(embeddings.device):
        space = UnitSpace(embeddings, labeled)
        nearest = _nearest_labeled(space, len(probs), count)
    for rows in space.slices():
        if rows.start >= len(probs):
            break
        mean = torch.zeros(len(nearest[rows]), probs.shape[1], dtype=dtype, device=probs.device)
        for column in nearest[rows].unbind(1):
            mean += known_probs[column]
        log_probs = probs[rows].to(dtype).clamp(min=torch.finfo(dtype).tiny).log_()
        cross_entropy = -mean.div_(count).mul_(log_probs).sum(1)
        scores[rows] = cross_entropy - known_entropy[nearest[rows]].mean(1)
    return scores.clamp_(min=0)


def _nearest_labeled(space: UnitSpace, pool_size: int, count: int) -> Tensor:
    """Return the numbers of the labeled samples nearest each sample of the pool ``(N, count)``."""
    best = torch.full((pool_size, count), math.inf, dtype=space.dtype, device=space.device)
    numbers = torch.zeros(pool_size, count, dtype=torch.int64, device=space.device)
    for start in range(pool_size, len(space), _LABELED_AT_ONCE):
        known = space.take(slice(start, min(start + _LABELED_AT_ONCE, len(space))))
        for rows in space.slices():
            if rows.start >= pool_size:
                break
            distances = space.squared_distances(space.take(rows), known)
            near = distances.topk(min(count, distances.shape[1]), dim=1, largest=False)
            best[rows], order = torch.cat([best[rows], near.values], 1).topk(count, dim=1, largest=False)
            both = torch.cat([numbers[rows], near.indices + (start - pool_size)], 1)
            numbers[rows] = both.gather(1, order)
    return numbers
