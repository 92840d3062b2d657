"""Scores of how far several draws of a model disagree on each sample: dropout passes or the members of an ensemble.

All are blocked: beside the ``(N,)`` result they keep two buffers that fit the cache.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lightning_al.functional.samples import (
    check_samples,
    entropy,
    information,
    mean_draw,
    score_samples,
    sum_rows,
)

VariationKind = Literal["votes", "mean"]


def check_variation_kind(kind: VariationKind) -> None:
    """Raise unless it is a form of the variation ratio.

    Args:
        kind: The form.

    Raises:
        ValueError: It is none.
    """
    if kind not in ("votes", "mean"):
        raise ValueError(f"Expected `kind` to be 'votes' or 'mean', but got {kind!r}.")


def variation_ratio(probs: Tensor, *, kind: VariationKind = "votes") -> Tensor:
    r"""Return the share of draws that vote against the class with the most votes, :math:`1 - \max_c v_c / K`.

    A draw votes for its most likely class, the first of those that tie. Votes take K values only, so that many samples
    tie where K is small; the form by the mean, :math:`1 - \max_c P_c` with :math:`P` the mean over draws, does not, and
    with K = 1 it is `least_confidence`.

    Args:
        probs: Class probabilities of K draws of the model ``(N, K, C)``.
        kind: ``"votes"`` or ``"mean"``.

    Returns:
        Scores ``(N,)`` in :math:`[0, 1 - 1/C]`, of the dtype of ``probs``; higher is less sure.

    Raises:
        ValueError: If ``probs`` is not a floating-point ``(N, K, C)``, or holds a value that is no probability, or
            there is no such ``kind``.

    References:
        Freeman (1965), *Elementary Applied Statistics*; Gal, Islam and Ghahramani (ICML 2017), *Deep Bayesian Active
        Learning with Image Data*.

    Example:
        >>> import torch
        >>> probs = torch.tensor([[[0.75, 0.25], [0.75, 0.25], [0.0, 1.0]]])
        >>> variation_ratio(probs), variation_ratio(probs, kind="mean")
        (tensor([0.3333]), tensor([0.5000]))
    """
    check_variation_kind(kind)
    probs = check_samples(probs)
    return score_samples(probs, _against_mode if kind == "votes" else _against_mean).to(probs.dtype)


def mean_std(probs: Tensor) -> Tensor:
    r"""Return the standard deviation over draws, averaged over classes.

    .. math:: \frac{1}{C} \sum_c \sqrt{\frac{1}{K} \sum_k (p_{kc} - P_c)^2}

    Args:
        probs: Class probabilities of K draws of the model ``(N, K, C)``.

    Returns:
        Scores ``(N,)`` in [0, 1/2], of the dtype of ``probs``; higher is less sure.

    Raises:
        ValueError: If ``probs`` is not a floating-point ``(N, K, C)``, or holds a value that is no probability.

    References:
        Kampffmeyer, Salberg and Jenssen (CVPR Workshops 2016), *Semantic Segmentation of Small Objects and Modeling of
        Uncertainty in Urban Remote Sensing Images Using Deep Convolutional Neural Networks*.

    Example:
        >>> import torch
        >>> mean_std(torch.tensor([[[0.75, 0.25], [0.25, 0.75]], [[0.5, 0.5], [0.5, 0.5]]]))
        tensor([0.2500, 0.0000])
    """
    probs = check_samples(probs)
    return score_samples(probs, _mean_deviation).to(probs.dtype)


def vote_entropy(probs: Tensor) -> Tensor:
    r"""Return the entropy of the draws' votes in nats, :math:`-\sum_c (v_c / K) \log (v_c / K)`.

    A draw votes for its most likely class, the first of those that tie.

    Args:
        probs: Class probabilities of K draws of the model ``(N, K, C)``.

    Returns:
        Scores ``(N,)`` in :math:`[0, \log \min(K, C)]`, of the dtype of ``probs``; higher is less sure.

    Raises:
        ValueError: If ``probs`` is not a floating-point ``(N, K, C)``, or holds a value that is no probability.

    References:
        Dagan and Engelson (ICML 1995), *Committee-Based Sampling for Training Probabilistic Classifiers*.

    Example:
        >>> import torch
        >>> vote_entropy(torch.tensor([[[0.75, 0.25], [0.25, 0.75]], [[0.75, 0.25], [0.75, 0.25]]]))
        tensor([0.6931, 0.0000])
    """
    probs = check_samples(probs)
    return score_samples(probs, _entropy_of_votes).to(probs.dtype)


def mutual_information(probs: Tensor) -> Tensor:
    r"""Return what the label would tell of the model, :math:`H[P] - \frac{1}{K} \sum_k H[p_k]` (BALD), in nats.

    It equals the mean divergence of the draws from their consensus, :math:`\frac{1}{K} \sum_k KL(p_k, P)`. It is 0
    where the draws agree, however unsure they are; rounding never makes it negative.

    Args:
        probs: Class probabilities of K draws of the model ``(N, K, C)``.

    Returns:
        Scores ``(N,)`` in :math:`[0, \log \min(K, C)]`, of the dtype of ``probs``; higher is more informative.

    Raises:
        ValueError: If ``probs`` is not a floating-point ``(N, K, C)``, or holds a value that is no probability.

    References:
        Houlsby, Huszar, Ghahramani and Lengyel (2011), *Bayesian Active Learning for Classification and Preference
        Learning*; Gal, Islam and Ghahramani (ICML 2017), *Deep Bayesian Active Learning with Image Data*.

    Example:
        >>> import torch
        >>> mutual_information(torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]]))
        tensor([0.6931, 0.0000])
    """
    probs = check_samples(probs)
    return score_samples(probs, information).to(probs.dtype)


def _against_mode(block: Tensor, scratch: Tensor) -> Tensor:
    return 1 - _vote_shares(block, scratch).amax(0)


def _against_mean(block: Tensor, scratch: Tensor) -> Tensor:
    return 1 - mean_draw(block, scratch).amax(0).clamp_(max=1)


def _mean_deviation(block: Tensor, scratch: Tensor) -> Tensor:
    draws, classes, _ = block.shape
    squares = block.sub_(mean_draw(block, scratch)).square_()
    deviations = sum_rows(squares, squares).div_(draws).sqrt_()
    return sum_rows(deviations, deviations).div_(classes)


def _entropy_of_votes(block: Tensor, scratch: Tensor) -> Tensor:
    shares = _vote_shares(block, scratch)
    return entropy(shares, torch.empty_like(shares))


def _vote_shares(block: Tensor, scratch: Tensor) -> Tensor:
    """Return the share ``(C, n)`` of the draws that vote for each class."""
    draws, classes, _ = block.shape
    highest, votes = block[:, 0].clone(), torch.zeros_like(block[:, 0])
    for index in range(1, classes):
        votes.masked_fill_(block[:, index] > highest, index)
        torch.maximum(highest, block[:, index], out=highest)
    names = torch.arange(classes, dtype=block.dtype, device=block.device)
    agreements = torch.eq(votes[:, None], names[:, None], out=scratch)
    return sum_rows(agreements, agreements).div_(draws)
