"""This package's selections."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_al.functional.badge import badge
from lightning_al.functional.bait import bait
from lightning_al.functional.batch_bald import batch_bald
from lightning_al.functional.committee import mutual_information
from lightning_al.functional.herding import max_herding
from lightning_al.functional.k_center import k_center_greedy
from lightning_al.functional.k_means import k_means
from lightning_al.functional.lcmd import lcmd
from lightning_al.functional.posterior_variance import posterior_variance
from lightning_al.functional.prob_cover import prob_cover
from lightning_al.functional.top_k import top_k
from lightning_al.functional.typiclust import typiclust
from lightning_al.functional.uncertainty import least_confidence, margin, predictive_entropy


def _scored(score: Any) -> Any:
    return lambda probs, query_size: lambda: top_k(score(probs), query_size)


def bald(samples: Tensor, query_size: int) -> Any:
    return lambda: top_k(mutual_information(samples), query_size)


def select_batch_bald(samples: Tensor, query_size: int, num_samples: int) -> Any:
    return lambda: batch_bald(samples, query_size, num_samples)


def core_set(embeddings: Tensor, labeled_embeddings: Tensor, query_size: int) -> Any:
    return lambda: k_center_greedy(embeddings, query_size, labeled_embeddings)


def select_badge(probs: Tensor, embeddings: Tensor, query_size: int) -> Any:
    return lambda: badge(probs, embeddings, query_size)


def select_lcmd(embeddings: Tensor, labeled_embeddings: Tensor, query_size: int) -> Any:
    return lambda: lcmd(embeddings, query_size, labeled_embeddings)


def variance(embeddings: Tensor, query_size: int) -> Any:
    return lambda: posterior_variance(embeddings, query_size)


def select_bait(probs: Tensor, embeddings: Tensor, query_size: int) -> Any:
    return lambda: bait(probs, embeddings, query_size)


def cover(embeddings: Tensor, query_size: int, delta: float) -> Any:
    return lambda: prob_cover(embeddings, query_size, delta=delta)


def herding(embeddings: Tensor, query_size: int) -> Any:
    return lambda: max_herding(embeddings, query_size)


def select_k_means(embeddings: Tensor, query_size: int) -> Any:
    return lambda: k_means(embeddings, query_size)


def select_typiclust(embeddings: Tensor, query_size: int) -> Any:
    return lambda: typiclust(embeddings, query_size)


SELECTIONS = {
    "Entropy": _scored(predictive_entropy),
    "Margin": _scored(margin),
    "LeastConfidence": _scored(least_confidence),
    "BALD": bald,
    "BatchBALD": select_batch_bald,
    "CoreSet": core_set,
    "BADGE": select_badge,
    "LCMD": select_lcmd,
    "PosteriorVariance": variance,
    "BAIT": select_bait,
    "ProbCover": cover,
    "MaxHerding": herding,
    "KMeans": select_k_means,
    "TypiClust": select_typiclust,
}


if __name__ == "__main__":
    from serving import serve

    serve(SELECTIONS, torch.from_numpy)
