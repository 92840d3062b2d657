"""FLQMI: samples like those of a few rare classes, by facility location mutual information."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_al.functional.directions import unit_rows
from lightning_al.functional.inputs import block_rows, check_finite, check_matrix, check_query_size
from lightning_al.functional.lazy import highest_bounds
from lightning_al.functional.precision import full_precision

_LARGEST_TILE = 512  # rows whose gains are brought up to date at once


def flqmi(embeddings: Tensor, target_embeddings: Tensor, query_size: int, eta: float = 1.0) -> Tensor:
    r"""Pick greedily the samples that cover a target set and resemble it.

    Each pick adds the most to the facility location mutual information of the picks :math:`S` and the targets
    :math:`Q`,

    .. math:: \sum_{q \in Q} \max\Bigl(0, \max_{i \in S} s_{iq}\Bigr) + \eta \sum_{i \in S} \max_{q \in Q} s_{iq},

    :math:`s` the cosine similarity. The greedy order exactly, in less than a pass over the pool a pick: gains only
    fall, so that old ones are upper bounds, and only the rows with the largest need to be brought up to date. Ties go
    to the lowest position; identical rows may differ by the rounding of a product and then are none.

    Args:
        embeddings: Embeddings of the pool ``(N, D)``.
        target_embeddings: Embeddings of samples of the classes sought ``(T, D)``, at least one.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        eta: How much likeness counts against cover, 0 or more. Without it picks that cover nothing new tie.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order picked.

    Raises:
        ValueError: If an embedding is not finite, a shape does not fit, there are no targets, ``eta`` is not a number
            of 0 or more, or ``query_size`` is not a positive integer.

    References:
        Kothawade, Beck, Killamsetty and Iyer (NeurIPS 2021), *SIMILAR: Submodular Information Measures Based Active
        Learning in Realistic Scenarios*.

    Example:
        >>> import torch
        >>> embeddings = torch.tensor([[-1.0, 0.0], [1.0, 0.1], [1.0, 0.0], [0.0, 1.0]])
        >>> flqmi(embeddings, torch.tensor([[2.0, 0.0], [0.0, 3.0]]), query_size=3)
        tensor([1, 3, 2])
    """
    embeddings = check_matrix(embeddings, "embeddings", "D")
    targets = check_matrix(target_embeddings, "target_embeddings", "D")
    if len(targets) == 0 or targets.shape[1] != embeddings.shape[1]:
        raise ValueError(
            f"Expected `target_embeddings` to be one row or more of the pool's {embeddings.shape[1]} columns, but got "
            f"{tuple(targets.shape)}."
        )
    check_eta(eta)
    count = check_query_size(query_size, len(embeddings))
    check_finite(embeddings, "embeddings")
    check_finite(targets, "target_embeddings")
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=embeddings.device)
    with full_precision(embeddings.device):
        picks = _greedy(embeddings, unit_rows(targets.to(embeddings.device, embeddings.dtype)).t(), count, eta)
    return torch.tensor(picks, dtype=torch.int64, device=embeddings.device)


def check_eta(eta: float) -> None:
    """Raise unless the weight of likeness is a finite number of 0 or more.

    Args:
        eta: The weight.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(eta, bool) or not isinstance(eta, int | float) or not 0 <= eta < math.inf:
        raise ValueError(f"Expected `eta` to be a finite number of 0 or more, but got {eta!r}.")


def _greedy(embeddings: Tensor, targets: Tensor, count: int, eta: float) -> list[int]:
    """Pick ``count`` positions; ``targets`` are unit vectors ``(D, T)``."""
    covered = torch.zeros(targets.shape[1], dtype=targets.dtype, device=targets.device)
    step = block_rows(max(targets.shape), embeddings.device)
    bounds = torch.cat([_gains(unit_rows(rows) @ targets, covered, eta) for rows in embeddings.split(step)])
    size = min(_LARGEST_TILE, 4 * block_rows(targets.shape[1], embeddings.device))
    picks: list[int] = []
    while len(picks) < count:
        tile, ceiling, rival = highest_bounds(bounds, size)
        similarities, positions = unit_rows(embeddings[tile]) @ targets, tile.tolist()
        while len(picks) < count:
            # Rounding may lift a gain above its bound: held below, a round without a pick lowers the highest bound.
            gains = torch.minimum(bounds[tile], _gains(similarities, covered, eta))
            bounds[tile] = gains
            best = int(gains.argmax())
            gain = float(gains[best])
            # A row outside the tile may still gain more, or as much at a lower position.
            if gain < ceiling or (gain == ceiling and positions[best] > rival):
                break
            picks.append(positions[best])
            bounds[positions[best]] = -math.inf
            torch.maximum(covered, similarities[best], out=covered)
    return picks


def _gains(similarities: Tensor, covered: Tensor, eta: float) -> Tensor:
    """Return what each row would add ``(M,)``, from its similarities to the targets ``(M, T)``."""
    return (similarities - covered).clamp_(min=0).sum(1).add_(similarities.amax(1), alpha=eta)
