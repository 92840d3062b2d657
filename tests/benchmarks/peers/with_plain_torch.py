"""The baseline: each strategy as its definition reads, in plain torch.

Scores are formulas on the whole matrix; a greedy selection reads the pool once a pick, by a matrix-vector product.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

CLUSTER_STEPS, NEIGHBOURS, SMALL_CLUSTER = 20, 20, 5  # as the package has them
NOISE = 0.1


def _highest(score: Any) -> Any:
    return lambda probs, query_size: lambda: score(probs).argsort(descending=True, stable=True)[:query_size]


def _entropy(probs: Tensor) -> Tensor:
    return -torch.xlogy(probs, probs).sum(-1)


def _margin(probs: Tensor) -> Tensor:
    first, second = probs.topk(2, dim=1).values.unbind(1)
    return 1 - (first - second)


def bald(samples: Tensor, query_size: int) -> Any:
    return _highest(lambda samples: _entropy(samples.mean(1)) - _entropy(samples).mean(1))(samples, query_size)


def batch_bald(samples: Tensor, query_size: int, num_samples: int) -> Any:
    """Every candidate's gain anew for each pick; outcomes are enumerated while there are few, then sampled."""

    def select() -> list[int]:
        draws, classes = samples.shape[1:]
        noise, picks = _entropy(samples).mean(1), list[int]()
        joint, weights = torch.ones(1, draws), torch.ones(1)  # of each outcome: its chance in each draw; its weight
        while len(picks) < query_size:
            predicted = torch.einsum("mk,nkc->nmc", joint / draws, samples)
            share = predicted / joint.mean(1)[:, None]
            gains = -(weights[:, None] * torch.xlogy(share, share)).sum((1, 2)) - noise
            gains[picks] = -math.inf
            picks.append(int(gains.argmax()))
            if classes ** len(picks) <= num_samples:
                joint = (joint[:, None] * samples[picks[-1]].t()).flatten(0, 1)
                weights = joint.mean(1)
            else:
                each = num_samples // draws
                labels = torch.multinomial(samples[picks].flatten(0, 1), each, replacement=True)
                labels = labels.view(len(picks), -1)
                joint = torch.stack([samples[p].t()[label] for p, label in zip(picks, labels, strict=True)]).prod(0)
                weights = torch.full((len(joint),), 1 / len(joint))
        return picks

    return select


def core_set(embeddings: Tensor, labeled_embeddings: Tensor, query_size: int) -> Any:
    def select() -> list[int]:
        norms, nearest, picks = embeddings.square().sum(1), _from_labeled(embeddings, labeled_embeddings), list[int]()
        while len(picks) < query_size:
            picks.append(int(nearest.argmax()))
            torch.minimum(nearest, _squared(embeddings, norms, picks[-1]), out=nearest)
            nearest[picks] = -1
        return picks

    return select


def badge(probs: Tensor, embeddings: Tensor, query_size: int) -> Any:
    def select() -> list[int]:
        residuals = probs - torch.nn.functional.one_hot(probs.argmax(1), probs.shape[1])
        norms = residuals.square().sum(1) * embeddings.square().sum(1)
        nearest, picks = torch.full_like(norms, math.inf), [int(norms.argmax())]
        while len(picks) < query_size:
            products = (residuals @ residuals[picks[-1]]) * (embeddings @ embeddings[picks[-1]])
            distances = (norms + norms[picks[-1]] - 2 * products).clamp(min=0)
            nearest = torch.minimum(nearest, distances)
            nearest[picks] = 0
            picks.append(int(nearest.multinomial(1)))
        return picks

    return select


def lcmd(embeddings: Tensor, labeled_embeddings: Tensor, query_size: int) -> Any:
    def select() -> list[int]:
        norms, picks = embeddings.square().sum(1), list[int]()
        nearest, owners = torch.cdist(embeddings, labeled_embeddings).square().min(1)
        while len(picks) < query_size:
            weights = owners.bincount(nearest.double())
            picks.append(int(torch.where(owners == weights.argmax(), nearest, -1).argmax()))
            distances = _squared(embeddings, norms, picks[-1])
            owners[distances < nearest] = len(labeled_embeddings) + len(picks) - 1
            torch.minimum(nearest, distances, out=nearest)
        return picks

    return select


def posterior_variance(embeddings: Tensor, query_size: int) -> Any:
    def select() -> list[int]:
        points, picks = embeddings / embeddings.square().sum(1).mean().sqrt(), list[int]()
        variances, covariance = points.square().sum(1), torch.eye(points.shape[1], dtype=points.dtype)
        while len(picks) < query_size:
            picks.append(int(variances.argmax()))
            direction = covariance @ points[picks[-1]]
            direction /= (points[picks[-1]] @ direction + NOISE**2).sqrt()
            covariance -= direction.outer(direction)
            variances -= (points @ direction).square()
            variances[picks] = -1
        return picks

    return select


def bait(probs: Tensor, embeddings: Tensor, query_size: int) -> Any:
    """The inverse is kept; what each sample would lower the trace by is computed anew for each pick."""

    def select() -> list[int]:
        confidence = probs.amax(1, keepdim=True)
        gradients = (confidence * (1 - confidence)).sqrt() * embeddings
        inverse = torch.eye(gradients.shape[1], dtype=gradients.dtype)
        fisher, picks = gradients.t() @ gradients / len(gradients), list[int]()
        for sign, wanted in ((1, min(2 * query_size, len(gradients))), (-1, query_size)):
            while len(picks) != wanted:
                # Taken back, the latest of those that tie goes first.
                rows = gradients if sign > 0 else gradients[picks[::-1]]
                pushed = rows @ inverse
                change = ((pushed @ fisher) * pushed).sum(1) / (1 + sign * (pushed * rows).sum(1))
                if sign > 0:
                    change[picks] = -1
                    picks.append(int(change.argmax()))
                    row = gradients[picks[-1]]
                else:
                    row = gradients[picks.pop(len(picks) - 1 - int(change.argmin()))]
                direction = inverse @ row
                inverse -= sign * direction.outer(direction) / (1 + sign * row @ direction)
        return picks

    return select


def prob_cover(embeddings: Tensor, query_size: int, delta: float) -> Any:
    """The graph of all pairs, as a matrix; the row sums anew for each pick."""

    def select() -> list[int]:
        directions, picks = torch.nn.functional.normalize(embeddings), list[int]()
        edges = torch.cdist(directions, directions) < delta
        while len(picks) < query_size:
            picks.append(int(edges.sum(1).argmax()))
            edges[:, edges[picks[-1]].clone()] = False
        return picks

    return select


def max_herding(embeddings: Tensor, query_size: int) -> Any:
    def select() -> list[int]:
        directions, picks = torch.nn.functional.normalize(embeddings), list[int]()
        kernel = torch.cdist(directions, directions).square().neg().exp()
        covered = torch.zeros_like(kernel[0])
        while len(picks) < query_size:
            gains = (kernel - covered).clamp(min=0).sum(1)
            gains[picks] = -1
            picks.append(int(gains.argmax()))
            covered = torch.maximum(covered, kernel[picks[-1]])
        return picks

    return select


def k_means(embeddings: Tensor, query_size: int) -> Any:
    def select() -> Tensor:
        _, centroids = _clusters(embeddings, query_size)
        return torch.cdist(centroids, embeddings).argmin(1)

    return select


def typiclust(embeddings: Tensor, query_size: int) -> Any:
    """One pick from each of the largest clusters; with no labels none has any."""

    def select() -> list[int]:
        labels, _ = _clusters(embeddings, query_size)
        sizes = labels.bincount(minlength=query_size)
        picks = []
        for cluster in sizes.argsort(descending=True):
            members = (labels == cluster).nonzero()[:, 0]
            if len(members):
                distances = torch.cdist(embeddings[members], embeddings[members])
                count = max(min(NEIGHBOURS, len(members) // 2), 1)
                nearest = distances.topk(min(count + 1, len(members)), largest=False).values  # itself among them
                picks.append(int(members[nearest.sum(1).argmin()]))
        return picks

    return select


def _from_labeled(embeddings: Tensor, labeled: Tensor) -> Tensor:
    return torch.cdist(embeddings, labeled).square().amin(1)


def _squared(embeddings: Tensor, norms: Tensor, centre: int) -> Tensor:
    """Squared distances from one of the points: the matrix-vector product that every pick takes."""
    return torch.addmv(norms, embeddings, embeddings[centre], alpha=-2).add_(norms[centre]).clamp_(min=0)


def _clusters(points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    norms, generator = points.square().sum(1), torch.Generator().manual_seed(0)
    seeds = [int(torch.randint(len(points), (1,), generator=generator))]
    nearest = _squared(points, norms, seeds[0])
    while len(seeds) < count:
        seeds.append(int(nearest.multinomial(1, generator=generator)))
        torch.minimum(nearest, _squared(points, norms, seeds[-1]), out=nearest)
    centroids = points[seeds]
    for _ in range(CLUSTER_STEPS):
        labels = torch.cdist(points, centroids).argmin(1)
        sizes = labels.bincount(minlength=count).clamp(min=1)
        centroids = torch.zeros_like(centroids).index_add_(0, labels, points) / sizes[:, None]
    return labels, centroids


SELECTIONS = {
    "Entropy": _highest(_entropy),
    "Margin": _highest(_margin),
    "LeastConfidence": _highest(lambda probs: 1 - probs.amax(1)),
    "BALD": bald,
    "BatchBALD": batch_bald,
    "CoreSet": core_set,
    "BADGE": badge,
    "LCMD": lcmd,
    "PosteriorVariance": posterior_variance,
    "BAIT": bait,
    "ProbCover": prob_cover,
    "MaxHerding": max_herding,
    "KMeans": k_means,
    "TypiClust": typiclust,
}


if __name__ == "__main__":
    from serving import serve

    serve(SELECTIONS, torch.from_numpy)
