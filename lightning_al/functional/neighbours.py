"""The part of a pool that is near what is labeled."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_al.functional.inputs import check_labeled, check_matrix, check_query_size
from lightning_al.functional.precision import full_precision
from lightning_al.functional.spaces import EuclideanSpace

# Labeled samples looked at together: their distances from all of the pool take an eighth of the pool's memory at most.
_MOST_ROWS = 64
_COLUMNS_A_ROW = 8


def neighbours(embeddings: Tensor, labeled_embeddings: Tensor | None, k: int) -> Tensor:
    """Return the samples of the pool that are among the ``k`` nearest of at least one labeled sample.

    Distances are Euclidean. Beside the inputs there are the distances of some labeled samples from all of the pool, an
    eighth of its memory.

    Args:
        embeddings: Embeddings of the pool ``(N, D)``.
        labeled_embeddings: Embeddings of the labeled samples ``(L, D)``. Without any, nothing is near.
        k: Number of neighbours of each, at least 1. More than ``N`` gives the pool.

    Returns:
        Unique pool positions ``(M,)``, int64, ascending.

    Raises:
        ValueError: If an embedding is not finite, a shape does not fit, or ``k`` is not a positive integer.

    Example:
        >>> import torch
        >>> embeddings = torch.tensor([[0.0], [1.0], [5.0], [6.0], [20.0]])
        >>> neighbours(embeddings, torch.tensor([[0.4], [5.1]]), k=2)
        tensor([0, 1, 2, 3])
    """
    embeddings = check_matrix(embeddings, "embeddings", "D")
    labeled = check_labeled(labeled_embeddings, embeddings)
    count = check_query_size(k, len(embeddings), "k")
    near = torch.zeros(len(embeddings), dtype=torch.bool, device=embeddings.device)
    if labeled is None or count == 0:
        return near.nonzero()[:, 0]
    with full_precision(embeddings.device):
        space = EuclideanSpace(embeddings, labeled)
        rows = max(min(embeddings.shape[1] // _COLUMNS_A_ROW, _MOST_ROWS), 1)
        distances = torch.empty(rows, len(embeddings), dtype=space.dtype, device=space.device)
        for start in range(len(embeddings), len(space), rows):
            known = space.take(slice(start, min(start + rows, len(space))))
            some = distances[: len(known[0])]
            for part in space.slices():
                if part.start < len(embeddings):
                    some[:, part] = space.squared_distances(space.take(part), known).t()
            near[some.topk(count, dim=1, largest=False, sorted=False).indices.flatten()] = True
    return near.nonzero()[:, 0]
