"""bmdal_reg's selections, with the kernel that makes each of them the strategy of that name."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from bmdal_reg.bmdal import selection
from bmdal_reg.bmdal.feature_data import ListFeatureData, TensorFeatureData
from bmdal_reg.bmdal.feature_maps import IdentityFeatureMap, ProductFeatureMap
from bmdal_reg.bmdal.features import Features
from torch import Tensor

NOISE = 0.1  # of posterior variance, as this package has it


def core_set(embeddings: Tensor, labeled_embeddings: Tensor, query_size: int) -> Any:
    pool, labeled = _linear(embeddings), _linear(labeled_embeddings)
    return lambda: selection.MaxDistSelectionMethod(pool, labeled, verbosity=0).select(query_size)


def lcmd(embeddings: Tensor, labeled_embeddings: Tensor, query_size: int) -> Any:
    pool, labeled = _linear(embeddings), _linear(labeled_embeddings)
    return lambda: selection.LargestClusterMaxDistSelectionMethod(pool, labeled, verbosity=0).select(query_size)


def badge(probs: Tensor, embeddings: Tensor, query_size: int) -> Any:
    residuals = probs - torch.nn.functional.one_hot(probs.argmax(1), probs.shape[1])
    kernel = ProductFeatureMap([IdentityFeatureMap(part.shape[1]) for part in (residuals, embeddings)])
    factors = ListFeatureData([TensorFeatureData(residuals), TensorFeatureData(embeddings)])
    pool = Features(kernel, factors).precompute()
    np.random.seed(0)  # noqa: NPY002 - what it draws the first pick from
    return lambda: selection.KmeansppSelectionMethod(pool, pool, sel_with_train=False, verbosity=0).select(query_size)


def posterior_variance(embeddings: Tensor, query_size: int) -> Any:
    pool = _linear(embeddings / embeddings.square().sum(1).mean().sqrt())
    return lambda: selection.MaxDetSelectionMethod(pool, pool, noise_sigma=NOISE, verbosity=0).select(query_size)


def bait(
    probs: Tensor,
    embeddings: Tensor,
    query_size: int,
    labeled_probs: Tensor | None = None,
    labeled_embeddings: Tensor | None = None,
    overselection: float = 2.0,
) -> Any:
    pool = _linear(_gradients(probs, embeddings))
    if labeled_probs is None or labeled_embeddings is None:
        labeled = _linear(torch.zeros_like(embeddings[:1]))  # tells nothing
    else:
        labeled = _linear(_gradients(labeled_probs, labeled_embeddings))
    return lambda: selection.BaitFeatureSpaceSelectionMethod(
        pool, labeled, sel_with_train=True, noise_sigma=1.0, overselection_factor=overselection, verbosity=0
    ).select(query_size)


def _gradients(probs: Tensor, embeddings: Tensor) -> Tensor:
    confidence = probs.amax(1, keepdim=True)
    return (confidence * (1 - confidence)).sqrt() * embeddings


def _linear(embeddings: Tensor) -> Features:
    return Features(IdentityFeatureMap(embeddings.shape[1]), TensorFeatureData(embeddings)).precompute()


SELECTIONS = {
    "CoreSet": core_set,
    "LCMD": lcmd,
    "BADGE": badge,
    "PosteriorVariance": posterior_variance,
    "BAIT": bait,
}


if __name__ == "__main__":
    from serving import serve

    serve(SELECTIONS, torch.from_numpy)
