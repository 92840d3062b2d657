"""Naive references, written from the papers in float64: loops, whole matrices, no trick of the package's own."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

import torch
from torch import Tensor


def least_confidence(probs: Tensor) -> list[float]:
    return [1 - max(row) for row in probs.double().tolist()]


def margin(probs: Tensor) -> list[float]:
    ordered = [[*sorted(row, reverse=True), 0.0] for row in probs.double().tolist()]
    return [1 - (row[0] - row[1]) for row in ordered]


def predictive_entropy(probs: Tensor) -> list[float]:
    return [-sum(p * math.log(p) for p in row if p > 0) for row in probs.double().tolist()]


def top_k(scores: Tensor, k: int) -> list[int]:
    values = scores.double().tolist()
    return sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]


def distances(x: Tensor, y: Tensor) -> Tensor:
    return (x.double()[:, None] - y.double()[None]).square().sum(-1).sqrt()


def k_center_greedy(embeddings: Tensor, query_size: int, labeled: Tensor | None = None) -> list[int]:
    """Return the greedy order of Gonzalez (1985): always the farthest from all centres, the lowest where they tie."""
    x = embeddings.double()
    picks: list[int] = []
    if labeled is None or len(labeled) == 0:
        picks.append(int((x - x.mean(0)).square().sum(1).argmin()))
        nearest = distances(x, x[picks]).amin(1)
    else:
        nearest = distances(x, labeled).amin(1)
    while len(picks) < min(query_size, len(x)):
        nearest[picks] = -1
        picks.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, distances(x, x[picks[-1:]])[:, 0])
    return picks


def greedy_shortfall(embeddings: Tensor, picks: list[int], labeled: Tensor | None = None) -> float:
    """Return by what share a pick's distance falls short of the farthest there was, at worst; 0: the greedy order."""
    x = embeddings.double()
    if labeled is None or len(labeled) == 0:
        nearest, rest = distances(x, x[picks[:1]]).amin(1), picks[1:]
    else:
        nearest, rest = distances(x, labeled).amin(1), picks
    worst = 0.0
    for pick in rest:
        worst = max(worst, 1 - float(nearest[pick] / nearest.max()))
        nearest = torch.minimum(nearest, distances(x, x[[pick]])[:, 0])
    return worst


def gradients(probs: Tensor, embeddings: Tensor) -> Tensor:
    """Return BADGE's gradient embeddings ``(N, C D)``, multiplied out."""
    probs, embeddings = probs.double(), embeddings.double()
    rows = []
    for p, z in zip(probs, embeddings, strict=True):
        predicted = int(p.argmax())
        rows.append(torch.cat([(p[c] - float(c == predicted)) * z for c in range(len(p))]))
    return torch.stack(rows)


def k_means_plus_plus_law(points: Tensor, count: int, first: int | None = None) -> dict[tuple[int, ...], float]:
    """Return the probability of every ordered pick of ``count`` points; ``first`` None: drawn uniformly."""
    squared = distances(points, points).square()
    law = {}
    for order in permutations(range(len(points)), count):
        if first is not None and order[0] != first:
            continue
        chance = 1.0 if first is not None else 1 / len(points)
        for taken in range(1, count):
            weights = squared[:, list(order[:taken])].amin(1)
            chance *= float(weights[order[taken]] / weights.sum())
        law[order] = chance
    return law


def total_variation(law: dict[tuple[int, ...], float], drawn: list[tuple[int, ...]]) -> tuple[float, float]:
    """Return the total variation between a law and draws, and what it is expected to be were the draws from the law."""
    counts, total = Counter(drawn), len(drawn)
    keys = set(law) | set(counts)
    distance = sum(abs(law.get(key, 0.0) - counts[key] / total) for key in keys) / 2
    expected = sum(math.sqrt(2 * p * (1 - p) / (math.pi * total)) for p in law.values()) / 2
    return distance, expected


def lloyd(points: Tensor, centroids: Tensor, iterations: int) -> tuple[list[int], Tensor]:
    """Return labels and centroids after a number of Lloyd's steps; no cluster may become empty."""
    points, centroids = points.double(), centroids.double()
    for _ in range(iterations):
        labels = distances(points, centroids).argmin(1)
        centroids = torch.stack([points[labels == k].mean(0) for k in range(len(centroids))])
    return labels.tolist(), centroids


def typiclust(points: Tensor, labels: list[int], num_labeled: int, query_size: int) -> list[int]:
    """Return TypiClust's picks given clusters; the labeled points are the last ``num_labeled``.

    Written from Hacohen et al. (2022), Algorithm 1. Clusters take turns; an empty one is passed over.
    """
    pool_size = len(points) - num_labeled
    sizes, known = Counter(labels), Counter(labels[pool_size:])
    order = sorted(sizes, key=lambda c: (known[c], -sizes[c], c))
    left = {c: [i for i in range(pool_size) if labels[i] == c] for c in order}
    picks: list[int] = []
    for group in ([c for c in order if sizes[c] > 5], [c for c in order if sizes[c] <= 5]):
        while any(left[c] for c in group) and len(picks) < query_size:
            for c in group:
                if not left[c] or len(picks) == query_size:
                    continue
                members = left[c]
                k = max(min(20, len(members) // 2), 1)
                mean = []
                for i in members:
                    others = sorted(float((points[i].double() - points[j].double()).norm()) for j in members if j != i)
                    mean.append(sum(others[:k]) / k)
                best = members[mean.index(min(mean))]
                picks.append(best)
                members.remove(best)
    return picks
