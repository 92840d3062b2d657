"""Junk, near-duplicates, wrong labels and rare classes, planted and found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lightning_al.study.label_noise import held_out_probs, mislabeled, noise_rate
from lightning_al.study.neighbors import neighborhood
from lightning_al.study.pathology import dataset_map, examine, rare_classes, spam_suspected
from lightning_al.study.types import Observation


def blobs(rng: np.random.Generator, each: int = 60, classes: int = 4, spread: float = 0.3) -> tuple[np.ndarray, ...]:
    """Well-separated classes along different axes."""
    targets = np.repeat(np.arange(classes), each)
    return np.eye(8)[targets] * 4 + rng.normal(0, spread, (len(targets), 8)), targets


def test_neighbors_are_those_of_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    embeddings, targets = rng.normal(size=(40, 5)), rng.integers(0, 3, 40)
    around = neighborhood(embeddings, targets)
    for i in range(40):
        cosine = [
            1 - embeddings[i] @ embeddings[j] / np.linalg.norm(embeddings[i]) / np.linalg.norm(embeddings[j])
            for j in range(40)
        ]
        order = [j for j in np.argsort(cosine) if j != i][:10]
        assert around.distance[i] == pytest.approx(np.mean([cosine[j] for j in order]), abs=1e-5)
        assert around.nearest[i] == pytest.approx(cosine[order[0]], abs=1e-5)
        assert around.agreement[i] == pytest.approx(np.mean(targets[order] == targets[i]))


def test_planted_outliers_duplicates_and_wrong_labels_are_found() -> None:
    rng = np.random.default_rng(1)
    embeddings, targets = blobs(rng)
    embeddings[:3] = rng.normal(0, 3, (3, 8))  # nowhere near its class
    embeddings[10] = embeddings[11] * 2  # the same direction
    targets[[65, 110]] = 3  # of class 1
    around = neighborhood(embeddings, targets)
    assert set(np.flatnonzero(around.outlier)) >= {0, 1, 2}
    assert around.outlier.mean() < 0.05
    assert set(np.flatnonzero(around.near_duplicate)) == {10, 11}
    assert set(np.flatnonzero(around.disagreement)) >= {65, 110}
    assert around.junk.mean() < 0.08


def test_identical_samples_are_duplicates_and_never_a_crash() -> None:
    around = neighborhood(np.ones((30, 4)), np.arange(30) % 2)
    assert around.near_duplicate.all()
    assert not around.outlier.any()
    around = neighborhood(np.zeros((3, 4)), np.array([0, 0, 1]))
    assert np.isfinite(around.distance).all()
    with pytest.raises(ValueError, match="at least two samples"):
        neighborhood(np.ones((1, 4)), np.zeros(1, np.int64))


def test_confident_learning_finds_flipped_labels_at_their_rate() -> None:
    rng = np.random.default_rng(2)
    embeddings, truth = blobs(rng, each=100)
    targets = truth.copy()
    flipped = rng.choice(400, 40, replace=False)
    targets[flipped] = (targets[flipped] + 1) % 4
    mask = mislabeled(held_out_probs(embeddings, targets), targets)
    assert (mask == (targets != truth)).mean() > 0.97
    rate, low, high = noise_rate(mask)
    assert low < 0.1 < high
    assert rate == mask.mean()


def test_a_class_with_a_single_sample_and_a_fold_with_one_class_are_no_crash() -> None:
    probs = held_out_probs(np.eye(6), np.array([0, 0, 0, 0, 0, 1]))
    assert probs.shape == (6, 2)
    assert np.isfinite(probs).all()


def test_rare_classes_by_hand() -> None:
    assert rare_classes(np.array([0] * 42 + [1] * 42 + [2] * 8 + [3] * 8)).tolist() == [2, 3]  # below 100 / 4 / 2
    assert rare_classes(np.arange(4)).tolist() == []


def test_dataset_map_by_hand() -> None:
    confidence = np.array([[0.2, 0.9], [0.6, 0.9]])
    shown = dataset_map(confidence, confidence > 0.5, np.random.default_rng(0))
    assert shown == {"confidence": [0.4, 0.9], "variability": [0.2, 0.0], "correctness": [0.5, 1.0]}


def observation(embeddings: np.ndarray, targets: np.ndarray) -> Observation:
    ones = np.ones((2, len(targets)))
    return Observation(embeddings.astype(np.float32), ones, ones > 0, targets)


def test_an_arm_that_asks_for_spam_is_told_from_one_that_does_not() -> None:
    rng = np.random.default_rng(3)
    embeddings, targets = blobs(rng, each=80)
    spam = rng.choice(320, 60, replace=False)
    embeddings[spam] = rng.normal(0, 0.3, (60, 8))
    targets[spam] = rng.integers(0, 4, 60)
    seen = observation(embeddings, targets)
    clean = np.setdiff1d(np.arange(320), spam)
    picks = {
        "random": [rng.permutation(320)[:40].tolist() for _ in range(6)],
        "LeastConfidence": [rng.permutation(spam)[:40].tolist() for _ in range(6)],
        "Margin": [rng.permutation(clean)[:40].tolist() for _ in range(6)],
    }
    found = examine(seen, picks)
    junk = {arm["name"]: arm["junk"] for arm in found["by_strategy"]}
    assert junk["LeastConfidence"]["share"] > 2 * junk["random"]["share"] > 4 * junk["Margin"]["share"]
    assert spam_suspected(found)
    # By hand: the share of the mask among the picks, its t interval over replicates.
    mask = neighborhood(seen.embeddings, targets).junk
    shares = [mask[picked].mean() for picked in picks["random"]]
    half = stats.t.ppf(0.975, 5) * np.std(shares, ddof=1) / np.sqrt(6)
    assert junk["random"]["share"] == pytest.approx(np.mean(shares))
    assert junk["random"]["ci"] == pytest.approx([np.mean(shares) - half, np.mean(shares) + half])
    assert junk["random"]["pool"] == pytest.approx(mask.mean())
    swapped = {"LeastConfidence": picks["Margin"], "Margin": picks["LeastConfidence"]}
    assert not spam_suspected(examine(seen, swapped))


def test_recall_of_rare_classes_by_hand() -> None:
    rng = np.random.default_rng(4)
    embeddings, targets = blobs(rng, each=50)
    targets = np.where(np.arange(200) < 195, np.minimum(targets, 2), 3)  # class 3: the last five
    picks = {"Margin": [[199, 198, 0, 1], [197, 2, 3, 4]], "random": [[0, 1, 2, 3], [4, 5, 6, 7]]}
    found = examine(observation(embeddings, targets), picks)
    margin = found["by_strategy"][0]["rare_recall"]
    assert margin["share"] == pytest.approx((2 / 5 + 1 / 5) / 2)
    assert margin["pool"] == pytest.approx(4 / 200)
    assert found["by_strategy"][1]["rare_recall"]["share"] == 0


def test_an_arm_without_a_whole_replicate_has_no_share() -> None:
    embeddings, targets = blobs(np.random.default_rng(5))
    found = examine(observation(embeddings, targets), {"Margin": [], "LeastConfidence": [[1, 2]]})
    assert found["by_strategy"][0]["junk"]["share"] is None
    assert found["by_strategy"][1]["junk"]["ci"] == [None, None]
    assert not spam_suspected(found)
