"""The check of the labeled samples' classes, for the strategies that read them."""

from __future__ import annotations

from torch import Tensor


def check_targets(targets: Tensor | None, count: int, num_classes: int | None = None) -> Tensor:
    """Return the classes of the labeled samples in int64, after checking that they are such.

    Args:
        targets: Classes ``(L,)``, integers.
        count: Number of labeled samples L.
        num_classes: Number of classes, which the targets must be below; None: any that are not negative.

    Returns:
        The same classes ``(L,)``, int64.

    Raises:
        ValueError: If there are none, they are no integers of that shape, or one is no class; the message names the
            first position.
    """
    if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.is_complex():
        got = targets.dtype if isinstance(targets, Tensor) else type(targets).__name__
        raise ValueError(f"Expected `labeled_targets` to be a tensor of integers, but got {got}.")
    if targets.shape != (count,):
        raise ValueError(f"Expected `labeled_targets` to be of shape ({count},), but got {tuple(targets.shape)}.")
    classes = targets.long()
    wrong = classes < 0 if num_classes is None else (classes < 0) | (classes >= num_classes)
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0])
        limit = "of 0 or more" if num_classes is None else f"from 0 to {num_classes - 1}"
        raise ValueError(
            f"Expected `labeled_targets` to be classes {limit}, but got {int(classes[first])} at position {first}."
        )
    return classes
