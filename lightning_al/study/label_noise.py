"""How many of the given labels are wrong, by confident learning (Northcutt, Jiang and Chuang 2021)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lightning_al.study.types import FloatArray, IntArray

_FOLDS = 5


def held_out_probs(embeddings: FloatArray, targets: IntArray, seed: int = 0) -> FloatArray:
    """Predict each sample by a linear model that was not fitted on it.

    Args:
        embeddings: ``(N, D)``.
        targets: Labels ``(N,)``.
        seed: Draws the folds.

    Returns:
        Probabilities ``(N, C)`` with C = the largest label + 1; a class that is absent from a fold's fit has 0.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probs = np.zeros((len(targets), int(targets.max()) + 1))
    # Strong shrinkage: on standardised deep features the default overfits, and an overfitted model is too sure.
    for fitted, held_out in KFold(min(_FOLDS, len(targets)), shuffle=True, random_state=seed).split(embeddings):
        classes = np.unique(targets[fitted])
        if len(classes) == 1:
            probs[held_out, classes[0]] = 1
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
        model.fit(embeddings[fitted], targets[fitted])
        probs[np.ix_(held_out, classes)] = model.predict_proba(embeddings[held_out])
    return probs


def mislabeled(probs: FloatArray, targets: IntArray) -> npt.NDArray[np.bool_]:
    """Find the labels that a held-out model is confident are another class's.

    A sample counts for class j where its probability of j is at least the mean that the samples labeled j have; among
    several such classes for the most probable.

    Args:
        probs: Held-out probabilities ``(N, C)``.
        targets: Given labels ``(N,)``.

    Returns:
        Mask ``(N,)``.

    References:
        Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70 (2021).

    Example:
        >>> probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9], [0.95, 0.05]])
        >>> mislabeled(probs, np.array([0, 0, 1, 1, 1])).tolist()
        [False, False, False, False, True]
    """
    classes = probs.shape[1]
    thresholds = np.full(classes, np.inf)
    for label in range(classes):
        given = targets == label
        if given.any():
            thresholds[label] = probs[given, label].mean()
    confident = probs >= thresholds
    likely = np.where(confident, probs, -1).argmax(axis=1)
    return np.asarray(confident.any(axis=1) & (likely != targets))


def noise_rate(mask: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """Share of wrong labels with its Wilson 95 % interval.

    Example:
        >>> [round(share, 3) for share in noise_rate(np.array([True] * 5 + [False] * 95))]
        [0.05, 0.022, 0.112]
    """
    from scipy.stats import binomtest

    interval = binomtest(int(mask.sum()), len(mask)).proportion_ci(method="wilson")
    return float(mask.mean()), float(interval.low), float(interval.high)
