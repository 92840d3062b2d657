"""What is selected from, and what is wanted of the selection: cases with their made-up inputs and targets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

CLOUDS = 100
TAILS = {"clouds": 0.1, "tails": 0.5}  # standard deviation of the logarithm of a sample's distance from the centre
LABELED = 10
BALL_SHARE = 0.01  # of the pairs are within ProbCover's radius

NEEDS = {
    "Entropy": ("probs",),
    "Margin": ("probs",),
    "LeastConfidence": ("probs",),
    "BALD": ("samples",),
    "BatchBALD": ("samples",),
    "CoreSet": ("embeddings", "labeled_embeddings"),
    "BADGE": ("embeddings", "probs"),
    "LCMD": ("embeddings", "labeled_embeddings"),
    "PosteriorVariance": ("embeddings",),
    "BAIT": ("embeddings", "probs"),
    "ProbCover": ("embeddings",),
    "MaxHerding": ("embeddings",),
    "KMeans": ("embeddings",),
    "TypiClust": ("embeddings",),
}
SAME_PICKS = set(NEEDS) - {"BADGE", "BatchBALD", "KMeans", "TypiClust"}
"""Strategies without chance: ours and the baseline pick the same. (BatchBALD draws once its outcomes are many.)"""

GROWING = ("Entropy", "CoreSet", "BADGE", "LCMD", "KMeans")


@dataclass(frozen=True)
class Case:
    """One row of the table; ``faster`` and ``roofline`` are the targets: at least, and at most so many times."""

    strategy: str
    samples: int
    dimensions: int = 0
    classes: int = 0
    query_size: int = 100
    draws: int = 0
    faster: float | None = None
    roofline: float | None = None
    shape: Literal["clouds", "tails", "sphere"] = "clouds"  # tails are k-center's best case, a sphere is its worst

    @property
    def name(self) -> str:
        sizes = (self.samples, self.dimensions, self.classes, self.query_size)
        shape = "" if self.shape == "clouds" else f" {self.shape}"
        return f"{self.strategy} {'/'.join(_short(size) for size in sizes)}{shape}"

    def quick(self) -> Case:
        """A small one of its kind, to see that it runs; its figures meet no target."""
        return replace(
            self, samples=min(self.samples, 2000), query_size=min(self.query_size, 20), draws=self.draws // 2
        )

    def inputs(self) -> dict[str, Array]:
        """What the strategy needs, float32; the same for the same sizes."""
        rng = np.random.default_rng(0)
        arrays = {}
        if "embeddings" in NEEDS[self.strategy]:
            points = self._points(rng)
            arrays["embeddings"], arrays["labeled_embeddings"] = points[: self.samples], points[self.samples :]
        if "samples" in NEEDS[self.strategy]:
            logits = 2 * rng.standard_normal((self.samples, 1, self.classes), dtype=np.float32)
            logits = logits + rng.standard_normal((self.samples, self.draws, self.classes), dtype=np.float32)
            arrays["samples"] = _softmax(logits)
        if "probs" in NEEDS[self.strategy]:
            arrays["probs"] = _softmax(3 * rng.standard_normal((self.samples, self.classes), dtype=np.float32))
        return {name: np.ascontiguousarray(arrays[name]) for name in NEEDS[self.strategy]}

    def numbers(self, inputs: dict[str, Array]) -> dict[str, Any]:
        """What else the selection is told."""
        numbers: dict[str, Any] = {"query_size": self.query_size}
        if self.strategy == "BatchBALD":
            numbers["num_samples"] = 10_000
        if self.strategy == "ProbCover":
            some = inputs["embeddings"][:1000]
            some = some / np.linalg.norm(some, axis=1, keepdims=True)
            numbers["delta"] = float(np.sqrt(np.quantile(2 - 2 * some @ some.T, BALL_SHARE + 1 / len(some))))
        return numbers

    def _points(self, rng: np.random.Generator) -> Array:
        """Clouds like a trained network's embeddings: k-center has to look at a third of all pairs there too.

        Directions differ in spread by a power law, and samples in their distance from the cloud's centre.
        """
        points = rng.standard_normal((self.samples + LABELED, self.dimensions), dtype=np.float32)
        if self.shape == "sphere":
            points /= np.linalg.norm(points, axis=1, keepdims=True)
            return points
        spread = np.arange(1, self.dimensions + 1, dtype=np.float32) ** -0.5
        rng.shuffle(spread)  # no implementation may gain from where the spread is
        points *= spread
        points *= np.exp(TAILS[self.shape] * rng.standard_normal((len(points), 1), dtype=np.float32))
        centres = rng.standard_normal((CLOUDS, self.dimensions), dtype=np.float32) * spread
        points += centres[rng.integers(CLOUDS, size=len(points))]
        return points


def _softmax(logits: Array) -> Array:
    logits = np.exp(logits - logits.max(-1, keepdims=True))
    logits /= logits.sum(-1, keepdims=True)
    return logits


def _short(size: int) -> str:
    return "-" if size == 0 else f"{size // 1000}k" if size >= 1000 and size % 1000 == 0 else str(size)


CASES = [
    Case("CoreSet", 50_000, 512, 10, 1000, faster=30, roofline=5),
    Case("CoreSet", 200_000, 512, 10, 100, faster=4, roofline=6),
    Case("CoreSet", 10_000, 128, 10, 100, faster=4, roofline=6),
    Case("CoreSet", 50_000, 512, 10, 1000, shape="tails", faster=30, roofline=5),
    Case("CoreSet", 50_000, 512, 10, 1000, shape="sphere"),
    Case("BADGE", 50_000, 512, 10, 1000, faster=50, roofline=12),
    Case("BADGE", 200_000, 512, 10, 100, faster=10, roofline=20),
    Case("BADGE", 10_000, 128, 10, 100, faster=10, roofline=20),
    Case("Entropy", 200_000, 0, 100, 100, faster=3.5, roofline=3),
    Case("Margin", 200_000, 0, 100, 100, faster=1.3, roofline=10),
    Case("LeastConfidence", 200_000, 0, 100, 100, faster=1.1, roofline=4),
    Case("BALD", 200_000, 0, 10, 100, draws=20, faster=3, roofline=5),
    Case("BatchBALD", 1000, 0, 10, 10, draws=20, faster=10),
    Case("ProbCover", 10_000, 128, 0, 100, faster=2.5, roofline=4),
    Case("KMeans", 50_000, 128, 0, 100, faster=2, roofline=4),
    Case("TypiClust", 50_000, 128, 0, 100, faster=1.3, roofline=4),
    Case("BAIT", 50_000, 512, 10, 100, faster=1.8, roofline=4),
    Case("LCMD", 50_000, 512, 0, 1000),
    Case("PosteriorVariance", 50_000, 512, 0, 100),
    Case("MaxHerding", 5000, 128, 0, 100),
]

GROWTH_SAMPLES = (12_500, 25_000, 50_000, 100_000)
GROWTH_QUERY_SIZES = (125, 250, 500, 1000)


def growth_cases(strategy: str, quick: bool) -> dict[str, list[Case]]:
    """Cases that grow in N, and in B where the strategy's time may depend on it."""
    scale = 25 if quick else 1
    base = Case(strategy, 50_000 // scale, 128, 10, 250 // scale)
    series = {"N": [replace(base, samples=size // scale) for size in GROWTH_SAMPLES]}
    if strategy != "Entropy":
        series["B"] = [replace(base, query_size=size // scale) for size in GROWTH_QUERY_SIZES]
    return series
