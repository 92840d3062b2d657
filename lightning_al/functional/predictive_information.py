"""EPIG: what a sample's label would tell of the predictions that are wanted."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_al.functional.inputs import block_rows
from lightning_al.functional.precision import full_precision
from lightning_al.functional.samples import check_samples, score_samples, total_entropy


def expected_predictive_information_gain(probs: Tensor, target_probs: Tensor) -> Tensor:
    r"""Return the mutual information of a sample's label and a target's, averaged over the targets (EPIG), in nats.

    .. math:: \frac{1}{N_*} \sum_{x_*} H[y] + H[y_*] - H[y, y_*], \quad
              p(y, y_*) = \frac{1}{K} \sum_k p_k(y | x) \, p_k(y_* | x_*)

    BALD counts all that a label tells of the model; this only what bears on the targets. The draws must be joint: draw
    k of a sample and draw k of a target come from the same model, the same dropout mask that is.

    One matrix product a block, ``N N* K C^2`` multiplications and ``N N* C^2`` logarithms in all; beside the inputs it
    keeps a copy of the targets and a block.

    Args:
        probs: Class probabilities of K draws of the model ``(N, K, C)``.
        target_probs: Those of the same draws for samples of the distribution to predict on ``(N*, K, C)``.

    Returns:
        Scores ``(N,)`` in :math:`[0, \log \min(K, C)]`, of the dtype of ``probs``; higher is more informative.

    Raises:
        ValueError: If an input is not a floating-point ``(N, K, C)``, or holds a value that is no probability, or there
            is no target, or the targets have other draws or classes.

    References:
        Bickford Smith, Kirsch, Farquhar, Gal, Foster and Rainforth (AISTATS 2023), *Prediction-Oriented Bayesian Active
        Learning*.

    Example:
        >>> import torch
        >>> told_apart, agreed = [[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]
        >>> expected_predictive_information_gain(torch.tensor([told_apart, agreed]), torch.tensor([told_apart]))
        tensor([0.6931, 0.0000])
    """
    probs, targets = check_samples(probs), check_samples(target_probs, "target_probs")
    if probs.shape[1:] != targets.shape[1:]:
        raise ValueError(
            f"Expected `target_probs` to hold the same {probs.shape[1]} draws and {probs.shape[2]} classes as `probs`, "
            f"but got {targets.shape[1]} and {targets.shape[2]}: one draw is one dropout mask or ensemble member, run "
            "over both."
        )
    if len(targets) == 0:
        raise ValueError("Expected `target_probs` to hold at least one sample, but got none.")
    own, theirs = score_samples(probs, total_entropy), score_samples(targets, total_entropy, "target_probs")
    with full_precision(probs.device):
        joint = _mean_joint_entropy(probs, targets.to(own.dtype))
    return (own + theirs.double().mean() - joint).clamp_(min=0).to(probs.dtype)


def _mean_joint_entropy(probs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over targets of ``H[y, y*]`` of each sample ``(N,)``, float64."""
    draws, classes = probs.shape[1:]
    right = targets.permute(1, 0, 2).flatten(1).div_(draws)
    elements, smallest = block_rows(1, probs.device), torch.finfo(right.dtype).tiny
    rows = max(1, math.isqrt(elements) // classes)
    columns = max(1, elements // (rows * classes))
    total = torch.zeros(len(probs), dtype=torch.float64, device=probs.device)
    for start in range(0, len(probs), rows):
        left = probs[start : start + rows].transpose(1, 2).to(right.dtype).flatten(0, 1)
        for part in right.split(columns, dim=1):
            joint = left @ part  # (n C, m), each column a class of a target
            terms = joint.clamp(min=smallest).log_().mul_(joint)
            total[start : start + rows] -= terms.view(-1, classes * part.shape[1]).sum(1)
    return total.div_(len(targets))
