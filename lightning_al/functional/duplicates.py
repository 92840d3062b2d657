"""Samples that are next to the same as others."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_al.functional.inputs import check_finite, check_labeled, check_matrix, compute_dtype
from lightning_al.functional.outliers import knn_distances
from lightning_al.functional.precision import full_precision

_TILE = 1024  # rows of a block of pairs
_ROUNDING = 1e-3  # of unit vectors: what half-precision embeddings of one sample may differ by


def near_duplicates(embeddings: Tensor, labeled_embeddings: Tensor | None = None, share: float = 0.05) -> Tensor:
    """Tell which samples are next to the same as an earlier one of the pool, or as a labeled one.

    Two are next to the same where their directions are nearer than a share of what is usual: of the median distance
    of a sample from its nearest other. Of several such samples the first one is none.

    Args:
        embeddings: Embeddings ``(N, D)``.
        labeled_embeddings: Those of labeled samples ``(L, D)``.
        share: How near, at least 0.

    Returns:
        ``(N,)``, bool.

    Raises:
        ValueError: If an embedding is not finite, or ``share`` is negative.

    Example:
        >>> near_duplicates(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1e-4], [1.0, 1.0], [-1.0, 0.0]])).tolist()
        [False, False, True, False, False]
    """
    embeddings = check_matrix(embeddings, "embeddings", "D")
    labeled = check_labeled(labeled_embeddings, embeddings)
    if isinstance(share, bool) or not share >= 0:
        raise ValueError(f"Expected `share` to be at least 0, but got {share!r}.")
    check_finite(embeddings, "embeddings")
    if labeled is not None:
        check_finite(labeled, "labeled_embeddings")
    with full_precision(embeddings.device):
        pool = _directions(embeddings)
        usual = float(knn_distances(pool, 1).median()) if len(pool) > 1 else 0.0
        within = max(share * usual, _ROUNDING)
        found = torch.zeros(len(pool), dtype=torch.bool, device=pool.device)
        known = (
            None
            if labeled is None or not len(labeled)
            else _directions(labeled.to(embeddings.device, embeddings.dtype))
        )
        for start in range(0, len(pool), _TILE):
            block = pool[start : start + _TILE]
            if known is not None:
                found[start : start + _TILE] |= torch.cdist(block, known).amin(dim=1) <= within
            if start:
                found[start : start + _TILE] |= torch.cdist(block, pool[:start]).amin(dim=1) <= within
            found[start : start + _TILE] |= (torch.cdist(block, block) <= within).tril(-1).any(dim=1)
    return found


def _directions(embeddings: Tensor) -> Tensor:
    """Unit vectors; one without length stays as it is, next to the same as others of its kind."""
    values = embeddings.to(compute_dtype(embeddings.dtype))
    lengths = torch.linalg.vector_norm(values, dim=1, keepdim=True)
    directions: Tensor = values / lengths.clamp(min=torch.finfo(values.dtype).tiny)
    return directions
