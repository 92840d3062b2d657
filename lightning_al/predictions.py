"""What a model returns, by kind: checked, and as the distributions that query strategies score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_al.exceptions import ScoringError

OutputKind = Literal["logits", "log_probs", "probs", "binary", "multilabel", "dense", "regression", "detection"]

ONE_DISTRIBUTION = ("logits", "log_probs", "probs", "binary")
"""Kinds with one distribution over classes a sample: every strategy can read them."""

DEFAULT_AGGREGATE: Mapping[str, Literal["mean", "max"]] = {"multilabel": "mean", "dense": "mean", "detection": "max"}
"""How the scores of a sample's several predictions become the sample's, by kind, unless the strategy says otherwise."""


class NotFiniteError(ScoringError):
    """The outputs have the right shape and are NaN or infinite."""


_SHAPES = {
    "binary": "(B,) or (B, 1)",
    "multilabel": "(B, L)",
    "dense": "(B, C, ...) with C >= 2",
    "regression": "(B,) or (B, T)",
}


@dataclass(frozen=True)
class Prediction:
    """What the model returned for a batch of B samples, of the right shape.

    Args:
        values: A tensor ``(B, ...)``, of K draws ``(B, K, ...)``; of ``"detection"`` B tensors, one a sample.
        draws: Whether it holds K draws.
        given: All that the model returned beside it, by name: ``embeddings``, ``head``, ``mask``.
    """

    values: Any
    draws: bool
    given: Mapping[str, Any]

    def __len__(self) -> int:
        """Return the number of samples B."""
        return len(self.values)


def read(raw: Any, kind: OutputKind, rows: int, batch_size: int | None) -> Prediction:
    """Check what the model returned for a batch.

    Args:
        raw: What ``forward`` or ``query_step`` returned: predictions, or a dict with them under ``"logits"``, or with
            K draws of them under ``"samples"``.
        kind: What they are.
        rows: Number of samples in the batch, at most so many where the batch size is not known.
        batch_size: Samples in each batch but the last; None where it is not known.

    Returns:
        The predictions.

    Raises:
        ScoringError: They have another type or shape.
    """
    given = raw if isinstance(raw, dict) else {"logits": raw}
    if "logits" not in given and "samples" not in given:
        raise ScoringError(f"`query_step` returned a dict without 'logits'; it has {sorted(given)}.")
    values = given["samples"] if "samples" in given else given["logits"]
    if kind == "detection":
        values = _boxes(values)
        draws = False
    else:
        draws = "samples" in given or _are_draws(values, kind)
        _check_tensor(values, kind, draws, rows, batch_size)
        if kind == "binary" and draws and values.ndim == 2:
            values = values[..., None]
    if len(values) > rows or (batch_size is not None and len(values) != rows):
        raise ScoringError(
            f"The model returned {len(values)} rows for a batch of {rows} samples: `forward` or `query_step` must "
            "return one row a sample."
        )
    mask = given.get("mask")
    if mask is not None and kind == "dense":
        places = values[:, 0, 0] if draws else values[:, 0]
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != places.shape:
            got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
            raise ScoringError(
                f"Expected 'mask' to say which places count, bool {tuple(places.shape)}, but got {got} from "
                "`query_step`."
            )
    return Prediction(values, draws, given)


def to_probs(raw: Tensor, kind: OutputKind) -> Tensor:
    """What the model returned as probabilities, float32 or wider.

    Args:
        raw: ``(B, C)``, or K draws ``(B, K, C)``; of ``"binary"`` ``(B,)``, ``(B, 1)`` or ``(B, K, 1)``.
        kind: What it is.

    Returns:
        Probabilities of the same shape; ``"binary"`` gets two classes.

    Example:
        >>> to_probs(torch.tensor([0.0]), "binary").tolist()
        [[0.5, 0.5]]
    """
    values = raw if raw.dtype == torch.float64 else raw.float()
    if kind == "binary":
        return _two_classes((values[..., 0] if values.ndim > 1 else values).sigmoid())
    if kind == "logits":
        return values.softmax(dim=-1)
    return values.exp() if kind == "log_probs" else values


def units(values: Any, kind: OutputKind, *, draws: bool = False, mask: Tensor | None = None) -> Iterator[Tensor]:
    """The distributions of samples that have several each, in blocks of samples with equally many.

    Args:
        values: What the model returned of B samples: logits ``(B, L)`` of L labels; logits ``(B, C, ...)`` of C classes
            at each place; or B tensors, the class probabilities ``(n, C)``, or the scores ``(n,)``, of n boxes.
        kind: ``"multilabel"``, ``"dense"`` or ``"detection"``.
        draws: Whether the second dimension is that of K draws, ``(B, K, L)`` or ``(B, K, C, ...)``.
        mask: Of ``"dense"``: which places count ``(B, ...)``, bool; None for all.

    Yields:
        ``(S, U, C)`` of the next S samples with U distributions each; with draws ``(S, U, K, C)``.
    """
    if kind == "multilabel":
        labels = _two_classes(values.float().sigmoid())
        yield labels.transpose(1, 2) if draws else labels
        return
    classes = int(draws)  # their dimension
    for number, sample in enumerate(values):
        if kind == "detection":
            boxes = sample.float()
            yield (_two_classes(boxes) if boxes.ndim == 1 else boxes)[None]
        else:  # one sample at a time: the copy that brings the classes to the end is as large as the logits
            places = sample.float().flatten(classes + 1).softmax(dim=classes).movedim(-1, 0)
            yield (places if mask is None else places[mask[number].flatten()])[None]


def look_like_probs(raw: Any) -> bool:
    """Whether what the model returned are distributions already, as far as their values tell.

    Logits of a trained or an untrained model hardly ever are: every row would have to be non-negative and sum to one.

    Example:
        >>> look_like_probs(torch.tensor([[0.2, 0.8]])), look_like_probs(torch.tensor([[0.2, 0.9]]))
        (True, False)
    """
    values = raw.get("logits") if isinstance(raw, dict) else raw
    if not isinstance(values, Tensor) or values.ndim != 2 or not len(values):
        return False
    return bool((values >= 0).all()) and bool(((values.float().sum(dim=1) - 1).abs() <= 1e-4).all())


def _two_classes(positive: Tensor) -> Tensor:
    return torch.stack([1 - positive, positive], dim=-1)


def _are_draws(values: Any, kind: OutputKind) -> bool:
    """Whether a tensor has one dimension more than its kind: K draws. Of pixels only the name ``"samples"`` tells."""
    return isinstance(values, Tensor) and values.ndim == 3 and kind not in ("dense", "regression")


def _check_tensor(logits: Any, kind: OutputKind, draws: bool, rows: int, batch_size: int | None) -> None:
    if not isinstance(logits, Tensor):
        raise ScoringError(
            f"Expected the model to return a tensor of {kind}, but got a {type(logits).__name__}. Return the {kind} "
            "alone from `forward`, or add a method `query_step(batch, batch_idx)` that does."
        )
    shape = tuple(logits.shape)
    if not logits.is_floating_point():
        raise ScoringError(
            f"Expected the model to return floating-point {kind}, but got {logits.dtype} of shape {shape}. Predicted "
            "classes cannot be scored: return what they are taken from in `forward`, or add a method "
            "`query_step(batch, batch_idx)` that does."
        )
    wanted = _SHAPES.get(kind, "(B, C) with C >= 2")
    own = logits[:, 0] if draws and logits.ndim > 1 and logits.shape[1] else logits  # the shape of one draw
    if kind in ("binary", "regression"):
        right = own.ndim == 1 or (own.ndim == 2 and (own.shape[1] == 1 or kind == "regression"))
    else:
        right = own.ndim == 2 if kind != "dense" else own.ndim > 2
        right = right and own.shape[1] >= (1 if kind == "multilabel" else 2)
    if not right:
        one = kind in ("logits", "log_probs", "probs") and (
            logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] == 1)
        )
        hint = " For one logit a sample say ActiveLearning(outputs='binary')." if one else ""
        if batch_size is not None and rows == 1 and logits.ndim < (1 if kind == "binary" else 2):
            hint = " A batch of one sample lost its first dimension: write `squeeze(-1)` in place of `squeeze()`."
        elif logits.ndim > 3 and kind in ("logits", "log_probs", "probs"):
            hint = " For a prediction at each pixel or token say ActiveLearning(outputs='dense')."
        elif logits.ndim > 2:
            hint = " Add a method `query_step(batch, batch_idx)` that returns one row a sample."
        raise ScoringError(f"Expected the model to return {kind} of shape {wanted}, but got {shape}.{hint}")


def _boxes(values: Any) -> Sequence[Tensor]:
    """The boxes of each image: class probabilities (n, C) or scores (n,)."""
    line = (
        "Return a list of one tensor an image from `query_step(batch, batch_idx)`: the class probabilities (n, C) of "
        "its n boxes, or their scores (n,)."
    )
    if not isinstance(values, (list, tuple)):
        raise ScoringError(f"Expected the boxes of each image for outputs='detection', but got {_type(values)}. {line}")
    for boxes in values:
        if not isinstance(boxes, Tensor) or not boxes.is_floating_point() or boxes.ndim not in (1, 2):
            raise ScoringError(
                f"Expected probabilities (n, C) or scores (n,) of an image's boxes, but got {_type(boxes)}. {line}"
            )
    return values


def _type(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def check_simplex(probs: Tensor, kind: OutputKind, seen: Tensor) -> None:
    """Raise where rows are no distributions.

    Args:
        probs: ``(B, ..., C)``.
        kind: What they were declared to be.
        seen: The dataset index of each row ``(B,)``.

    Raises:
        ScoringError: One is none; the message names its dataset index.
    """
    rows = probs.reshape(len(probs), -1, probs.shape[-1])  # its draws one below the other
    off = ((rows.sum(dim=-1) - 1).abs() > 1e-2) | (rows < 0).any(dim=-1)
    if bool(off.any()):
        row, draw = off.nonzero()[0].tolist()
        remedy = "If the model returns logits, leave out `outputs=`."
        if kind == "detection":
            remedy = "Scale the class probabilities of each box to a sum of 1, or return one score a box, (n,)."
        total, least = float(rows[row, draw].sum()), float(rows[row, draw].min())
        raise ScoringError(
            f"outputs={kind!r}, but the model's output for dataset index {int(seen[row])} is no distribution: its "
            f"probabilities sum to {total:.4g}, the least is {least:.4g}. {remedy}"
        )


def check_finite(name: str, values: Tensor, seen: Tensor) -> None:
    """Raise where values are NaN or infinite.

    Args:
        name: What they are.
        values: ``(B, ...)``.
        seen: The dataset index of each row ``(B,)``.

    Raises:
        NotFiniteError: One is; the message names its dataset index.
    """
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        row = int((~finite.flatten(1).all(dim=1) if values.ndim > 1 else ~finite).nonzero()[0])
        what = "probabilities of the model" if name in ("probs", "samples") else name
        raise NotFiniteError(
            f"The {what} for dataset index {int(seen[row])} are not finite (NaN or infinite). The pool is unchanged. "
            "The fit may have diverged: look at the loss and lower the learning rate, or look at that sample."
        )
