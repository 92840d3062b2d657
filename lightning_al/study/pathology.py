"""What each strategy asked for: junk, near-duplicates, rare classes, against what the pilot holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from lightning_al.study.label_noise import held_out_probs, mislabeled, noise_rate
from lightning_al.study.neighbors import Neighborhood, neighborhood
from lightning_al.study.types import FloatArray, IntArray, Observation

_MOST = 20_000
"""Neighbors are looked for among at most so many samples: all pairs of more take minutes."""

_MAP_POINTS = 2_000

Picks = Mapping[str, Sequence[Sequence[int]]]


def examine(seen: Observation, picks: Picks, seed: int = 0) -> dict[str, Any]:
    """Compare what the arms asked for with the pilot they asked from.

    Args:
        seen: What a fit on the whole pilot says of its N samples.
        picks: Per arm and replicate, the pilot positions asked for, first to last.
        seed: Draws the part of a pilot too large to look at whole, and the folds.

    Returns:
        The report's ``pathology``: ``by_strategy``, ``label_noise``, ``duplicates_in_pilot``, ``dataset_map``,
        ``notes``.
    """
    total = len(seen.targets)
    rng = np.random.default_rng(seed)
    part = np.arange(total) if total <= _MOST else np.sort(rng.permutation(total)[:_MOST])
    notes = [
        "Junk is an outlier (mean cosine distance to the 10 nearest others above Tukey's fence of its logarithm), or a "
        "sample whose label at most one of the 10 shares. Distances are between embeddings of a model fitted on the "
        "whole pilot.",
        "A finite pilot has few candidates for each pick: a large pool offers a strategy more junk, and more of what "
        "it looks for, than is seen here.",
    ]
    if len(part) < total:
        notes.append(f"Neighbors were looked for among {len(part):,} random samples of the pilot's {total:,}.")
    around = neighborhood(seen.embeddings[part], seen.targets[part])
    rate, low, high = noise_rate(
        mislabeled(held_out_probs(seen.embeddings[part], seen.targets[part], seed), seen.targets[part])
    )
    rare = rare_classes(seen.targets)
    return {
        "by_strategy": [_arm(name, asked, around, part, total, seen.targets, rare) for name, asked in picks.items()],
        "label_noise": {"rate": rate, "ci": [low, high]},
        "duplicates_in_pilot": {"share": float(around.near_duplicate.mean())},
        "dataset_map": dataset_map(seen.confidence, seen.correct, rng),
        "notes": notes,
    }


def spam_suspected(pathology: Mapping[str, Any]) -> bool:
    """Whether least confidence asked for clearly more junk than the pilot holds: half as much again, beyond chance."""
    for arm in pathology["by_strategy"]:
        if arm["name"].lower().startswith(("leastconfidence", "least_confidence")):
            junk = arm["junk"]
            return bool(
                junk["ci"][0] is not None and junk["ci"][0] > junk["pool"] and junk["share"] >= 1.5 * junk["pool"]
            )
    return False


def rare_classes(targets: IntArray) -> IntArray:
    """The classes with less than half the samples that each would have if all had equally many.

    Example:
        >>> rare_classes(np.array([0] * 50 + [1] * 45 + [2] * 5)).tolist()
        [2]
    """
    classes, counts = np.unique(targets, return_counts=True)
    return np.asarray(classes[counts < 0.5 * len(targets) / len(classes)], dtype=np.int64)


def dataset_map(
    confidence: FloatArray, correct: npt.NDArray[np.bool_], rng: np.random.Generator
) -> dict[str, list[float]]:
    """Place each sample by how sure the model was of its label over the epochs, and how much that changed.

    Args:
        confidence: Probability of the given label ``(epochs, N)``.
        correct: Whether it was predicted ``(epochs, N)``.
        rng: Draws the samples shown where there are too many.

    Returns:
        ``confidence`` (mean), ``variability`` (standard deviation) and ``correctness`` (share) of at most 2,000.

    References:
        Swayamdipta et al., "Dataset Cartography: Mapping and Diagnosing Datasets with Training Dynamics", EMNLP 2020.
    """
    total = confidence.shape[1]
    shown = np.sort(rng.permutation(total)[:_MAP_POINTS])
    return {
        "confidence": confidence[:, shown].mean(axis=0).round(4).tolist(),
        "variability": confidence[:, shown].std(axis=0).round(4).tolist(),
        "correctness": correct[:, shown].mean(axis=0).round(4).tolist(),
    }


def _arm(
    name: str,
    asked: Sequence[Sequence[int]],
    around: Neighborhood,
    part: IntArray,
    total: int,
    targets: IntArray,
    rare: IntArray,
) -> dict[str, Any]:
    place = np.full(total, -1)
    place[part] = np.arange(len(part))

    def share(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
        found = [place[np.asarray(picked, dtype=np.int64)] for picked in asked]
        shares = [mask[kept[kept >= 0]].mean() for kept in found if (kept >= 0).any()]
        return _against(shares, float(mask.mean()))

    recall = None
    if len(rare):
        is_rare = np.isin(targets, rare)
        recalls = [is_rare[np.asarray(picked, dtype=np.int64)].sum() / is_rare.sum() for picked in asked]
        chance = float(np.mean([len(picked) / total for picked in asked])) if asked else 0.0
        recall = {**_against(recalls, chance), "classes": rare.tolist()}
    return {
        "name": name,
        "picks": int(np.mean([len(picked) for picked in asked])) if asked else 0,
        "outliers": share(around.outlier),
        "near_duplicates": share(around.near_duplicate),
        "label_disagreement": share(around.disagreement),
        "junk": share(around.junk),
        "rare_recall": recall,
    }


def _against(shares: Sequence[float], pool: float) -> dict[str, Any]:
    """Mean share with its 95 % t interval over replicates, beside the pilot's."""
    mean = float(np.mean(shares)) if len(shares) else None
    low = high = None
    if mean is not None and len(shares) > 1:
        half = float(stats.t.ppf(0.975, len(shares) - 1) * np.std(shares, ddof=1) / np.sqrt(len(shares)))
        low, high = max(0.0, mean - half), min(1.0, mean + half)
    ratio = None if mean is None or not pool else mean / pool
    return {"share": mean, "ci": [low, high], "pool": pool, "ratio": ratio}
