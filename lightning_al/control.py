"""Is it working? Samples drawn at random among the strategy's, and what they tell of its gain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LEAST = 5
"""Control samples below which nothing is told."""

_RESAMPLES = 50
_WIDER = 1.3
"""Labels drawn anew vary so much more than resampled ones: measured with 5, 10 and 30 controls (1.27 to 1.28)."""

_TOLERANCE = 1e-2  # nats a sample: far below what resampling changes


@dataclass(frozen=True)
class Gain:
    """What a strategy gains over random labels, in points of accuracy of a linear head on the model's embeddings.

    Args:
        points: At as many labels as are random ones: the strategy's first picks against the control's.
        low: Lower end of the 95 % interval.
        high: Upper end.
        labels: At how many labels.
    """

    points: float
    low: float
    high: float
    labels: int

    def as_json(self) -> dict[str, object]:
        """As the run's folder keeps it, for the report."""
        note = f"Linear heads on the model's embeddings, at {self.labels} labels each."
        return {"gain": self.points, "low": self.low, "high": self.high, "unit": "points", "note": note}

    def __str__(self) -> str:
        """A sentence for the terminal."""
        sure = "" if self.low > 0 or self.high < 0 else ", not told apart from 0"
        return (
            f"The strategy against random labels, at {self.labels} labels each: {self.points:+.1f} points "
            f"[{self.low:+.1f}, {self.high:+.1f}]{sure} (linear heads on the model's embeddings)."
        )


def check_fraction(fraction: float) -> float:
    """Return the fraction.

    Raises:
        ValueError: It is not in [0, 1).
    """
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 <= fraction < 1:
        raise ValueError(
            f"Expected `control_fraction` to be a share of each query in [0, 1), 0.1 say, but got {fraction!r}."
        )
    return float(fraction)


def count_controls(size: int, fraction: float) -> int:
    """How many of a query are drawn at random: the share, at least one where it is above 0 and the query has two.

    Example:
        >>> count_controls(100, 0.1), count_controls(4, 0.1), count_controls(4, 0.0)
        (10, 1, 0)
    """
    if not fraction or size < 2:
        return 0
    return min(max(1, round(fraction * size)), size - 1)


def draw_controls(unlabeled: Tensor, count: int, seed: int) -> Tensor:
    """Draw from all that is unlabeled, each sample with the same chance, junk too: as random labels would be.

    Args:
        unlabeled: Dataset indices ``(U,)``.
        count: How many, at most U.
        seed: Of the draw.

    Returns:
        Dataset indices ``(count,)``, int64.
    """
    generator = torch.Generator().manual_seed(seed % (1 << 63))
    return unlabeled[torch.randperm(len(unlabeled), generator=generator)[:count]].long()


def estimate_gain(
    embeddings: Tensor,
    targets: Tensor,
    picked_by: Sequence[str],
    test_embeddings: Tensor,
    test_targets: Tensor,
    num_classes: int,
    seed: int = 0,
) -> Gain | None:
    """Compare the strategy's labels with the control's by linear heads trained on as many of each.

    One head gets the first labels and all m control samples, the other the first labels and the strategy's first m
    picks. Both are tested on samples that no strategy picked: accuracy on picked ones would say nothing of the pool.
    The interval is of 50 resamples of labels and test samples together, so that it is wide where m is small.

    Args:
        embeddings: Of the labeled samples, in the order they came ``(L, D)``.
        targets: Their classes ``(L,)``.
        picked_by: Of each ``"initial"``, ``"control"``, or anything else for the strategy.
        test_embeddings: Of held-out samples ``(M, D)``.
        test_targets: Their classes ``(M,)``.
        num_classes: C.
        seed: Of the resampling.

    Returns:
        The gain; None with fewer than five control samples or picks.

    Example:
        >>> points = torch.tensor([[-1.0], [1.0]] * 8)
        >>> kinds = torch.tensor([0, 1] * 8)
        >>> by = ["initial"] * 4 + ["control", "Margin"] * 6
        >>> gain = estimate_gain(points, kinds, by, points, kinds, num_classes=2)
        >>> gain.points, gain.labels
        (0.0, 10)
    """
    from lightning_al.study.heads import fit_heads, predict

    names = np.array(picked_by)
    first, control = np.flatnonzero(names == "initial"), np.flatnonzero(names == "control")
    picks = np.flatnonzero((names != "initial") & (names != "control"))
    m = min(len(control), len(picks))
    if m < LEAST:
        return None
    rng = np.random.default_rng(seed)
    arms = (control[:m], picks[:m])
    sets, tests = [np.concatenate([first, arm]) for arm in arms], [np.arange(len(test_targets))]
    for _ in range(_RESAMPLES):
        start = rng.choice(first, len(first))
        sets += [np.concatenate([start, rng.choice(arm, m)]) for arm in arms]
        tests.append(rng.choice(len(test_targets), len(test_targets)))
    known = torch.cat([embeddings, test_embeddings]).float()
    known = (known - known.mean(dim=0)) / known.std(dim=0).clamp(min=1e-6)
    train, test = known[: len(embeddings)], known[len(embeddings) :]
    positions = [torch.from_numpy(each) for each in sets]
    heads = fit_heads(train, targets, positions, num_classes, tolerance=_TOLERANCE)
    right = torch.stack([predict(test, head).argmax(dim=1) == test_targets for head in heads]).double()
    gains = [
        100 * float((right[2 * number + 1, drawn] - right[2 * number, drawn]).mean())
        for number, drawn in enumerate(map(torch.from_numpy, tests))
    ]
    half = 1.96 * _WIDER * float(np.std(gains[1:], ddof=1))
    return Gain(gains[0], gains[0] - half, gains[0] + half, len(first) + m)
