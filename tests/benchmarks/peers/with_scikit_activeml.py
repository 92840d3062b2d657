"""scikit-activeml's pool strategies, and the k-means of scikit-learn that its Clue and TypiClust run."""

from __future__ import annotations

from typing import Any

import numpy as np
from skactiveml import pool
from skactiveml.base import SkactivemlClassifier
from skactiveml.pool._bald import batch_bald as utilities_of_batches
from skactiveml.utils import simple_batch
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.preprocessing import normalize

Array = Any


class Predicted(SkactivemlClassifier):
    """A fitted classifier whose predictions are known."""

    def __init__(self, probs: Array) -> None:
        super().__init__()
        self.probs = probs

    def fit(self, X: Array, y: Array, sample_weight: Array = None) -> Predicted:
        return self

    def predict_proba(self, X: Array) -> Array:
        return self.probs


def _uncertain(method: str) -> Any:
    return lambda probs, query_size: (
        lambda: simple_batch(pool.uncertainty_scores(probs, method=method), random_state=0, batch_size=query_size)
    )


def bald(samples: Array, query_size: int) -> Any:
    # The mean divergence of the members from their consensus is the mutual information.
    members_first = np.ascontiguousarray(samples.swapaxes(0, 1))
    return lambda: simple_batch(pool.average_kl_divergence(members_first), random_state=0, batch_size=query_size)


def batch_bald(samples: Array, query_size: int, num_samples: int) -> Any:
    members_first = np.ascontiguousarray(samples.swapaxes(0, 1))
    return lambda: np.nanargmax(
        utilities_of_batches(members_first, query_size, n_MC_samples=num_samples, random_state=0), axis=1
    )


def core_set(embeddings: Array, labeled_embeddings: Array, query_size: int) -> Any:
    samples = np.concatenate([embeddings, labeled_embeddings])
    labels = np.r_[np.full(len(embeddings), np.nan), np.zeros(len(labeled_embeddings))]
    return lambda: pool.CoreSet(random_state=0).query(samples, labels, batch_size=query_size)


def badge(probs: Array, embeddings: Array, query_size: int) -> Any:
    labels, classifier = _unlabeled(embeddings), Predicted(probs)
    return lambda: pool.Badge(random_state=0).query(
        embeddings, labels, classifier, fit_clf=False, batch_size=query_size
    )


def prob_cover(embeddings: Array, query_size: int, delta: float) -> Any:
    directions, labels = normalize(embeddings), _unlabeled(embeddings)
    return lambda: pool.ProbCover(deltas=[delta], random_state=0).query(directions, labels, batch_size=query_size)


def max_herding(embeddings: Array, query_size: int) -> Any:
    labels = _unlabeled(embeddings)
    return lambda: pool.MaxHerding(metric_dict={"gamma": 1.0}, random_state=0).query(
        embeddings, labels, batch_size=query_size
    )


def typiclust(embeddings: Array, query_size: int) -> Any:
    labels = _unlabeled(embeddings)
    return lambda: pool.TypiClust(k=20, random_state=0).query(embeddings, labels, batch_size=query_size)


def k_means(embeddings: Array, query_size: int) -> Any:
    def select() -> Array:
        clusters = KMeans(query_size, n_init=1, max_iter=20, random_state=0).fit(embeddings)
        return pairwise_distances_argmin_min(clusters.cluster_centers_, embeddings)[0]

    return select


def _unlabeled(embeddings: Array) -> Array:
    return np.full(len(embeddings), np.nan)


SELECTIONS = {
    "Entropy": _uncertain("entropy"),
    "Margin": _uncertain("margin_sampling"),
    "LeastConfidence": _uncertain("least_confident"),
    "BALD": bald,
    "BatchBALD": batch_bald,
    "CoreSet": core_set,
    "BADGE": badge,
    "ProbCover": prob_cover,
    "MaxHerding": max_herding,
    "TypiClust": typiclust,
    "KMeans": k_means,
}


if __name__ == "__main__":
    from serving import serve

    serve(SELECTIONS)
