"""What a sample's nearest neighbors say of it: outliers, near-duplicates, labels that nobody near shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lightning_al.study.types import FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]

K = 10
"""Neighbors looked at."""

_DUPLICATE = 0.05
"""Nearer than this share of the usual distance to the nearest neighbor is a near-duplicate."""


@dataclass(frozen=True)
class Neighborhood:
    """Per sample ``(N,)``, from its K nearest others by cosine distance.

    Args:
        distance: Mean distance to them.
        nearest: Distance to the nearest.
        agreement: Share of them with the sample's label.
    """

    distance: FloatArray
    nearest: FloatArray
    agreement: FloatArray

    @property
    def outlier(self) -> BoolArray:
        """Farther from its neighbors than Tukey's upper fence over the logarithms of the distances."""
        logs = np.log(np.maximum(self.distance, 1e-12))
        first, third = np.quantile(logs, [0.25, 0.75])
        return np.asarray(logs > third + 1.5 * (third - first))

    @property
    def near_duplicate(self) -> BoolArray:
        """Much nearer to another sample than is usual in this pool."""
        return np.asarray(self.nearest <= _DUPLICATE * np.median(self.nearest))

    @property
    def disagreement(self) -> BoolArray:
        """At most one in ten of its neighbors has its label."""
        return np.asarray(self.agreement <= 0.1)

    @property
    def junk(self) -> BoolArray:
        """An outlier, or a label that nobody near shares."""
        return self.outlier | self.disagreement


def neighborhood(embeddings: FloatArray, targets: IntArray) -> Neighborhood:
    """Look at each sample's K nearest others.

    Cosine distance, since the length of a deep embedding speaks of the network's certainty more than of the sample.

    Args:
        embeddings: ``(N, D)``, N > 1.
        targets: Labels ``(N,)``.

    Returns:
        The neighborhood of each sample.

    Raises:
        ValueError: There are fewer than two samples.

    Example:
        >>> points = np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.01, 1.0]])
        >>> neighborhood(points, np.array([0, 0, 1, 1])).nearest.round(4).tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    from sklearn.neighbors import NearestNeighbors

    if len(embeddings) < 2:
        raise ValueError(f"Expected at least two samples to compare, but got {len(embeddings)}.")
    k = min(K, len(embeddings) - 1)
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    directions = (embeddings / np.maximum(norms, 1e-12)).astype(np.float32)
    # Asked without a query, scikit-learn leaves each sample itself out, exact copies of it in.
    chords, others = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(directions).kneighbors()
    distances = chords.astype(np.float64) ** 2 / 2  # of unit vectors: 1 - cosine
    return Neighborhood(
        distance=distances.mean(axis=1),
        nearest=distances[:, 0],
        agreement=(targets[others] == targets[:, None]).mean(axis=1),
    )
