"""Asking a model's head: what it predicts for embeddings, and which way its loss rises there."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_al.functional.directions import unit_rows

Head = Callable[[Tensor], Tensor]
"""The last layer: embeddings ``(M, D)`` to logits ``(M, C)``."""


def predicted_classes(head: Head, points: Tensor, positions: Tensor) -> Tensor:
    """Return the class of the highest logit of each point.

    Args:
        head: The last layer.
        points: Embeddings ``(M, D)``.
        positions: The points' positions in the pool ``(M,)``, for the message.

    Returns:
        Classes ``(M,)``, int64, on the points' device.

    Raises:
        ValueError: If the head returns something else than finite logits ``(M, C)``; the message names the position.
    """
    return _check_logits(head(points), positions).argmax(1).to(points.device)


def steepest_ascent(head: Head, points: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return what the head predicts, and the direction in which the loss of that prediction rises fastest.

    Args:
        head: The last layer, differentiable.
        points: Embeddings ``(M, D)``.
        positions: The points' positions in the pool ``(M,)``, for the message.

    Returns:
        Classes :math:`\hat y` ``(M,)``, int64, and the gradients :math:`\nabla_z \bigl(-\log p_{\hat y}\bigr)` scaled
        to length 1 ``(M, D)``. A point whose prediction is certain to the last digit has no gradient: it stays 0.

    Raises:
        ValueError: If the head is not differentiable, or returns something else than finite logits ``(M, C)``.
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf = points.clone().requires_grad_()
        logits = head(leaf)
        if not logits.requires_grad:
            raise ValueError(
                "Expected `head` to be differentiable, but got logits without a graph. Leave out `torch.no_grad()` and "
                "`detach()` in it."
            )
        classes = _check_logits(logits.detach(), positions).argmax(1)
        loss = torch.nn.functional.cross_entropy(logits, classes, reduction="sum")
        (gradients,) = torch.autograd.grad(loss, leaf)
    return classes.to(points.device), unit_rows(gradients)


def _check_logits(logits: Tensor, positions: Tensor) -> Tensor:
    if logits.ndim != 2 or len(logits) != len(positions):
        raise ValueError(
            f"Expected `head` to return logits of shape ({len(positions)}, C), but got {tuple(logits.shape)}."
        )
    finite = torch.isfinite(logits)
    if not bool(finite.all()):
        row, column = finite.logical_not().nonzero()[0].tolist()
        raise ValueError(
            f"Expected the logits of `head` to be finite, but got {float(logits[row, column])} at position "
            f"{int(positions[row])}. Check the model: a diverged loss gives such values."
        )
    return logits
