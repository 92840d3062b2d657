"""Four simulated problems whose right verdict is known, a small model that is fitted in batches, and the paired loop.

The model is logistic regression on random Fourier features, trained by momentum descent on the full batch: a fit takes
milliseconds, and its seed decides the features and, where a problem corrupts labels, which ones.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_al.strategies import Outputs, QueryStrategy

FloatArray = npt.NDArray[np.floating[Any]]

CLASSES, DIMENSIONS, POOL, TEST = 10, 20, 4000, 2000
FIRST, STEP, ROUNDS = 60, 60, 8
BUCKETS, FRACTIONS, SEEDS = 5, (0.2, 0.4, 0.6, 0.8, 1.0), 3
DRAWN_FEATURES, ITERATIONS = 150, 60

# What a random stream is for. Keys of the same part have the same length: a trailing zero would not change a stream.
_INITIAL, _FIT, _QUERY, _WHOLE, _BUCKETS, _DESIGN = range(1, 7)

# Rows of the fits that are trained together: their features stay in the cache.
_ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class Case:
    """A problem, the arms it is tried with beside random, and what the study must say of it."""

    name: Literal["rare", "separable", "training_noise", "junk"]
    arms: tuple[str, ...]
    verdicts: tuple[str, ...]
    flag: str | None = None
    corruption: float = 0.0  # largest share of its labels that a fit corrupts


_ARMS = ("LeastConfidence", "Margin", "CoreSet", "KMeans")
CASES = (
    Case("rare", _ARMS, ("promising",)),
    Case("separable", _ARMS, ("not_promising",), flag="saturated"),
    # CoreSet has a real gain here: without it, composition does not matter on average.
    Case("training_noise", ("Margin", "LeastConfidence", "KMeans"), ("inconclusive", "not_promising"), corruption=0.6),
    Case("junk", _ARMS, ("promising",), flag="uncertainty_harmful"),
)


@dataclass(frozen=True)
class Data:
    """A pilot and a test set: points ``(N, 20)`` float32, targets ``(N,)`` int64."""

    points: Tensor
    targets: Tensor
    test_points: Tensor
    test_targets: Tensor


def make_data(name: str, seed: int) -> Data:
    """Draw a case's pilot and test set."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(CLASSES, DIMENSIONS))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    means *= {"rare": 3.0, "separable": 6.0, "training_noise": 1.2, "junk": 3.0}[name]
    noise = 0.8 if name == "junk" else 1.0
    # In `rare` two classes hold 84 % of the pilot and are tight there; the test set is balanced and as wide as any.
    shares = np.array([0.42, 0.42] + 8 * [0.02]) if name == "rare" else np.full(CLASSES, 0.1)
    targets = rng.choice(CLASSES, POOL, p=shares)
    points = means[targets] + noise * rng.normal(size=(POOL, DIMENSIONS))
    if name == "rare":
        head = targets < 2
        points[head] = means[targets[head]] + 0.3 * rng.normal(size=(head.sum(), DIMENSIONS))
    if name == "junk":
        junk = rng.random(POOL) < 0.35
        points[junk] = 0.35 * rng.normal(size=(junk.sum(), DIMENSIONS))
        targets[junk] = rng.choice(CLASSES, junk.sum())
    test_targets = rng.choice(CLASSES, TEST)
    test_points = means[test_targets] + noise * rng.normal(size=(TEST, DIMENSIONS))
    tensors = (torch.from_numpy(array) for array in (points, targets, test_points, test_targets))
    return Data(*(tensor.float() if tensor.is_floating_point() else tensor for tensor in tensors))


@dataclass(frozen=True)
class Head:
    """A fitted model: drawn frequencies ``(150, 20)`` and phases ``(150, 1)``, learned weights ``(10, 171)``."""

    frequencies: Tensor
    phases: Tensor
    weights: Tensor

    def probs(self, points: Tensor) -> Tensor:
        """Return class probabilities ``(N, 10)``."""
        return (self.weights @ _features(points, self.frequencies, self.phases)).softmax(0).t().contiguous()

    def accuracy(self, data: Data) -> float:
        """Return the share of the test set that is right."""
        logits = self.weights @ _features(data.test_points, self.frequencies, self.phases)
        return float((logits.argmax(0) == data.test_targets).double().mean())


def fit_heads(points: Tensor, targets: Tensor, keys: Sequence[tuple[int, ...]], corruption: float = 0.0) -> list[Head]:
    """Fit one model a row of the batch.

    Args:
        points: Training points ``(B, n, 20)``.
        targets: Their labels ``(B, n)``.
        keys: A key a fit, ``B`` of them: it alone decides what is random about the fit.
        corruption: Each fit draws a share up to this, and redraws so many of its labels.

    Returns:
        The models, in order. None depends on what it was fitted together with.
    """
    together = max(1, _ROWS_AT_ONCE // points.shape[1])
    heads: list[Head] = []
    for start in range(0, len(points), together):
        rows = slice(start, start + together)
        heads += _fit_together(points[rows], targets[rows], keys[rows], corruption)
    return heads


def _fit_together(points: Tensor, targets: Tensor, keys: Sequence[tuple[int, ...]], corruption: float) -> list[Head]:
    frequencies, phases, labels = [], [], []
    for row, key in zip(targets.numpy(), keys, strict=True):
        rng = np.random.default_rng(key)
        frequencies.append(rng.normal(0, 0.25, (DRAWN_FEATURES, DIMENSIONS)))
        phases.append(rng.uniform(0, 2 * math.pi, (DRAWN_FEATURES, 1)))
        corrupt = rng.random(len(row)) < corruption * rng.random()
        labels.append(np.where(corrupt, rng.choice(CLASSES, len(row)), row))
    drawn = torch.from_numpy(np.stack(frequencies)).float(), torch.from_numpy(np.stack(phases)).float()
    wanted = torch.nn.functional.one_hot(torch.from_numpy(np.stack(labels)), CLASSES).float()
    weights = _descend(_features(points, *drawn), wanted.transpose(1, 2).contiguous())
    return [Head(*parts) for parts in zip(*drawn, weights, strict=True)]


def _descend(features: Tensor, wanted: Tensor) -> Tensor:
    """Return weights ``(B, 10, 171)`` for features ``(B, 171, n)``: samples run along columns, the faster product."""
    rows = features.transpose(1, 2).contiguous()
    weights = features.new_zeros(len(features), CLASSES, features.shape[1])
    velocity = torch.zeros_like(weights)
    for _ in range(ITERATIONS):
        residuals = torch.bmm(weights, features).softmax(1).sub_(wanted)
        gradient = torch.baddbmm(weights, residuals, rows, beta=1e-4, alpha=1 / features.shape[2])
        velocity.mul_(0.9).add_(gradient)
        weights.sub_(velocity, alpha=1.2)
    return weights


def _features(points: Tensor, frequencies: Tensor, phases: Tensor) -> Tensor:
    """Return random Fourier features, the scaled points and a constant ``(..., 171, n)``."""
    columns = points.transpose(-1, -2)
    waves = (frequencies @ columns).add_(phases).cos_().mul_(math.sqrt(2 / DRAWN_FEATURES))
    ones = torch.ones_like(columns[..., :1, :])
    return torch.cat([waves, columns / (2 * math.sqrt(DIMENSIONS)), ones], -2)


def simulate(
    case: Case, data: Data, seed: int, arms: Mapping[str, QueryStrategy], replicates: Sequence[int]
) -> dict[str, FloatArray]:
    """Run the paired retrospective simulation.

    Args:
        case: The problem.
        data: Its pilot and test set.
        seed: Of everything drawn here.
        arms: Strategies by arm, random among them. Arms of one replicate share the initial set and the fits' seeds.
        replicates: Numbers of the replicates to run.

    Returns:
        Test accuracy in [0, 1] by arm ``(replicates, 9)``, at 60, 120, ..., 540 labels.
    """
    initial = [np.random.default_rng((seed, _INITIAL, r)).choice(POOL, FIRST, replace=False) for r in replicates]
    labeled = torch.from_numpy(np.stack(initial)).expand(len(arms), -1, -1)
    accuracy = np.empty((len(arms), len(replicates), ROUNDS + 1))
    for number in range(ROUNDS + 1):
        distinct = labeled if number else labeled[:1]  # the first fits of all arms are the same
        chosen = distinct.flatten(0, 1)
        keys = [(seed, _FIT, r, number) for r in replicates] * len(distinct)
        heads = fit_heads(data.points[chosen], data.targets[chosen], keys, case.corruption)
        heads = heads * (len(arms) // len(distinct))
        accuracy[:, :, number] = np.reshape([head.accuracy(data) for head in heads], accuracy.shape[:2])
        if number == ROUNDS:
            break
        queries = []
        for head, (arm, row) in zip(heads, np.ndindex(accuracy.shape[:2]), strict=True):
            name = list(arms)[arm]
            generator = _generator(seed, _QUERY, replicates[row], number, zlib.crc32(name.encode()))
            queries.append(_query(arms[name], head, data, labeled[arm, row], generator))
        labeled = torch.cat([labeled, torch.stack(queries).reshape(*accuracy.shape[:2], STEP)], 2)
    return dict(zip(arms, accuracy, strict=True))


def _query(strategy: QueryStrategy, head: Head, data: Data, labeled: Tensor, generator: torch.Generator) -> Tensor:
    """Return the pilot positions that a strategy asks for ``(60,)``; embeddings are the points themselves."""
    free = torch.ones(POOL, dtype=torch.bool)
    free[labeled] = False
    rest = free.nonzero()[:, 0]
    pool = Outputs(embeddings=data.points[rest])
    if "probs" in strategy.needs.pool:
        pool.probs = head.probs(data.points[rest])
    known = Outputs(embeddings=data.points[labeled])
    return rest[strategy.select(pool, STEP, labeled=known, generator=generator)]


def _generator(*key: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


def fit_whole(case: Case, data: Data, seed: int, replicates: Sequence[int]) -> FloatArray:
    """Return the test accuracy of a fit on the whole pilot for each replicate ``(replicates,)``."""
    keys = [(seed, _WHOLE, r) for r in replicates]
    points, targets = data.points.expand(len(keys), -1, -1), data.targets.expand(len(keys), -1)
    return np.array([head.accuracy(data) for head in fit_heads(points, targets, keys, case.corruption)])


def nested_design(case: Case, data: Data, seed: int) -> FloatArray:
    """Return the test accuracy of the nested random design ``(fractions, buckets, seeds)``: 5 x 5 x 3.

    A larger fraction of a bucket holds the smaller ones, as in the study itself.
    """
    buckets = np.array_split(np.random.default_rng((seed, _BUCKETS)).permutation(POOL), BUCKETS)
    accuracy = np.empty((len(FRACTIONS), BUCKETS, SEEDS))
    for row, fraction in enumerate(FRACTIONS):
        parts = np.stack([bucket[: round(fraction * len(bucket))] for bucket in buckets])
        chosen = torch.from_numpy(parts.repeat(SEEDS, 0))
        keys = [(seed, _DESIGN, row, bucket, t) for bucket in range(BUCKETS) for t in range(SEEDS)]
        heads = fit_heads(data.points[chosen], data.targets[chosen], keys, case.corruption)
        accuracy[row] = np.reshape([head.accuracy(data) for head in heads], accuracy.shape[1:])
    return accuracy


def curve_table(
    curves: Mapping[str, FloatArray], whole: FloatArray | None = None, design: FloatArray | None = None
) -> dict[str, list[Any]]:
    """Return the columns of the ``curves.csv`` that a study would write."""
    rows: list[tuple[Any, ...]] = []
    for arm, values in curves.items():
        rows += [("simulation", arm, r, "", "", i, FIRST + STEP * i, values[r, i]) for r, i in np.ndindex(values.shape)]
    if whole is not None:
        rows += [("pilot", "", r, "", "", "", POOL, value) for r, value in enumerate(whole)]
    if design is not None:
        for f, bucket, t in np.ndindex(design.shape):
            labels = round(FRACTIONS[f] * POOL / BUCKETS)
            rows.append(("design", "", t, bucket, FRACTIONS[f], "", labels, design[f, bucket, t]))
    names = ("part", "arm", "replicate", "bucket", "fraction", "round", "labels", "accuracy")
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
