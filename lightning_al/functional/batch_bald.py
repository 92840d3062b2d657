"""BatchBALD: the batch whose labels together tell most of the model."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_al.functional.inputs import block_rows, check_query_size, default_generator, permutation, uniform
from lightning_al.functional.precision import full_precision
from lightning_al.functional.samples import check_samples, expected_entropy, information, score_samples

_FEWEST_CANDIDATES = 16  # evaluated at once: a product with fewer columns is no quicker
_TIE = 1e-6  # nats; float32 tells no closer gains apart


def batch_bald(
    probs: Tensor, query_size: int, num_samples: int = 10_000, generator: torch.Generator | None = None
) -> Tensor:
    r"""Pick greedily by what a label adds to those of the picks so far, :math:`H[y_i | y_S] - E_k H[y_i | k]`.

    The sum of these gains is the mutual information of the batch's labels and the draw. The outcomes :math:`y_S` are
    enumerated while there are at most ``num_samples`` of them, :math:`C^{|S|}`; from then on as many are sampled, by
    the paper's estimator. A gain never exceeds the sample's gain given fewer picks: samples whose earlier exact gain is
    below the best are passed over, and an estimate above it is cut to it.

    A batch holds at most :math:`\log K` nats. Once they are found, which with K = 20 takes some ten picks of unsure
    samples, gains are small and picks nearly arbitrary: ask for small batches, or draw more.

    A pick costs up to ``N M K C`` multiplications, M the number of outcomes; beside the inputs it keeps ``M K``
    numbers and a block. Gains that tie go by a permutation drawn from ``generator``.

    Args:
        probs: Class probabilities of K draws of the model ``(N, K, C)``; the draws must be joint, the same dropout mask
            or ensemble member for all samples.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        num_samples: How many outcomes of the picks to keep, at least 1; rounded to a multiple of K where sampled.
        generator: Source of random numbers, on the CPU. None: one with a fixed seed.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order picked.

    Raises:
        ValueError: If ``probs`` is not a floating-point ``(N, K, C)``, or holds a value that is no probability, or
            ``query_size`` or ``num_samples`` is not a positive integer.

    References:
        Kirsch, van Amersfoort and Gal (NeurIPS 2019), *BatchBALD: Efficient and Diverse Batch Acquisition for Deep
        Bayesian Active Learning*.

    Example:
        >>> import torch
        >>> first = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
        >>> other = torch.tensor([[0.8, 0.2], [0.2, 0.8], [0.8, 0.2], [0.2, 0.8]])
        >>> batch_bald(torch.stack([other, first, first]), query_size=2)[1]  # not the first pick's copy
        tensor(0)
    """
    probs = check_samples(probs)
    count = check_query_size(query_size, len(probs))
    limit = check_query_size(num_samples, 2**62, "num_samples")
    generator = default_generator(generator)
    noise, bounds = score_samples(probs, expected_entropy), score_samples(probs, information)
    picks = torch.empty(count, dtype=torch.int64, device=probs.device)
    if count == 0:
        return picks
    turns = permutation(len(probs), generator).to(probs.device)
    outcomes = _Outcomes(bounds.new_ones(1, probs.shape[1]).div_(probs.shape[1]), limit, generator)
    with full_precision(probs.device):
        for number in range(count):
            gains = bounds if number == 0 else _gains(probs, noise, bounds, outcomes)
            tied = (gains >= gains.max() - _TIE).nonzero()[:, 0]
            pick = tied[turns[tied].argmin()]
            picks[number] = pick
            bounds[pick] = -math.inf
            if number + 1 < count:
                outcomes.extend(probs[pick].to(bounds.dtype))
    return picks


def _gains(probs: Tensor, noise: Tensor, bounds: Tensor, outcomes: _Outcomes) -> Tensor:
    """Return the gains ``(N,)`` of all samples that may have the highest, and -inf for the rest.

    Exact gains become the new bounds.
    """
    gains = torch.full_like(bounds, -math.inf)
    best = -math.inf
    for chunk in bounds.argsort(descending=True).split(outcomes.candidates_at_once(probs.shape[2])):
        if float(bounds[chunk[0]]) < best - _TIE:
            break
        found = outcomes.entropy_of(probs[chunk].to(bounds.dtype)).sub_(noise[chunk])
        gains[chunk] = torch.minimum(found, bounds[chunk])
        best = max(best, float(gains[chunk].max()))
        if outcomes.exact:
            bounds[chunk] = gains[chunk]
    return gains


class _Outcomes:
    """The labels that the picks so far may get together: how likely each outcome is, and what it says of the draws.

    Posteriors of each outcome in place of joint probabilities: the product of many of those underflows.

    Args:
        prior: The draws' weights ``(1, K)`` before any label.
        limit: The most outcomes to keep.
        generator: Source of random numbers.
    """

    def __init__(self, prior: Tensor, limit: int, generator: torch.Generator) -> None:
        self.prior, self.limit, self.generator = prior, limit, generator
        self.posteriors, self.weights = prior, torch.ones_like(prior[:, 0])
        self.exact = True
        self.picks: list[Tensor] = []

    def candidates_at_once(self, classes: int) -> int:
        """How many candidates make one block."""
        return max(_FEWEST_CANDIDATES, block_rows(1, self.prior.device) // (max(self.posteriors.shape) * classes))

    def entropy_of(self, candidates: Tensor) -> Tensor:
        """Return the entropy ``(n,)`` of the labels of candidates ``(n, K, C)`` given the picks', ``H[y_i | y_S]``."""
        count, draws, classes = candidates.shape
        columns = candidates.transpose(0, 1).reshape(draws, count * classes)
        smallest = torch.finfo(columns.dtype).tiny
        negative = torch.zeros_like(columns[0])
        step = block_rows(count * classes, columns.device)
        for posteriors, weights in zip(self.posteriors.split(step), self.weights.split(step), strict=True):
            predicted = posteriors @ columns
            negative.addmv_(predicted.clamp(min=smallest).log_().mul_(predicted).t(), weights)
        return negative.neg_().view(count, classes).sum(1)

    def extend(self, pick: Tensor) -> None:
        """Add the label of a pick ``(K, C)``."""
        self.picks.append(pick)
        if self.exact and len(self.weights) * pick.shape[1] <= self.limit:
            joint = self.posteriors[:, None] * pick.t()  # (M, C, K)
            predicted = joint.sum(2)
            self.weights = (self.weights[:, None] * predicted).flatten()
            self.posteriors = _normalized(joint.flatten(0, 1))
        elif self.exact:
            self.exact = False
            each = max(1, self.limit // pick.shape[0])
            self.weights = pick.new_full((pick.shape[0] * each,), 1 / (pick.shape[0] * each))
            self.posteriors = self.prior.expand(len(self.weights), -1)
            for earlier in self.picks:
                self._sample(earlier)
        else:
            self._sample(pick)

    def _sample(self, pick: Tensor) -> None:
        """Draw the pick's label in each outcome from the draw that the outcome belongs to, equally many a draw."""
        shares = pick.double().cpu().cumsum(1)
        heights = uniform(len(self.weights), self.generator).cpu().view(len(pick), -1) * shares[:, -1:]
        labels = torch.searchsorted(shares, heights, right=True).clamp_(max=pick.shape[1] - 1)
        self.posteriors = _normalized(self.posteriors * pick.t()[labels.flatten().to(pick.device)])


def _normalized(weights: Tensor) -> Tensor:
    """Divide each row by its sum; an outcome that cannot be stays 0."""
    return weights / weights.sum(1, keepdim=True).clamp_(min=torch.finfo(weights.dtype).tiny)
