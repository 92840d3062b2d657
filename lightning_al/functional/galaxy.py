"""GALAXY: search for the place where a class's labels change, class by class, by bisection."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_al.functional.inputs import (
    check_matrix,
    check_probs,
    check_probs_values,
    check_query_size,
    compute_dtype,
    default_generator,
    permutation,
    uniform,
)
from lightning_al.functional.targets import check_targets

_UNKNOWN = -1  # the class of a sample that is neither labeled nor picked

_KEPT_ORDERS = 16  # classes whose order is not sorted anew each time round: 64 bytes a sample at most

# Among the samples predicted as a class all margins are 0: this much of their confidence orders them.
_CONFIDENCE = 1e-8


def galaxy(
    probs: Tensor,
    query_size: int,
    labeled_probs: Tensor | None = None,
    labeled_targets: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Pick, class after class, the middle of the shortest path from a labeled sample of the class to one of another.

    For a class :math:`k` all samples, labeled or not, stand in a row in descending order of :math:`p_k - \max_c p_c`
    (those predicted as :math:`k` by their confidence); a sample is joined with the next. The shortest path without a
    known sample inside that leads from a sample of the class to one of another is halved; of several as short, that
    of the highest margins. Where labels change between neighbours only, samples up to 2, 3, ... places apart are joined
    until there is a path: it leads over the unlabeled sample nearest a change. Where all labels are of the class, or
    none is, an unlabeled sample is drawn uniformly. Classes take turns, in a new random order each time round.

    The paper reads every answer before it asks for the next label. Within a query answers are not known yet: here a
    pick counts as labeled with its predicted class. With ``query_size=1`` nothing is guessed.

    Args:
        probs: Class probabilities of the pool ``(N, C)``.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        labeled_probs: Class probabilities of the labeled samples ``(L, C)``.
        labeled_targets: Their classes ``(L,)``, integers from 0 to ``C - 1``.
        generator: Source of random numbers, on the CPU. None: one with a fixed seed.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order picked.

    Raises:
        ValueError: If a value is not finite or no probability, a shape does not fit, a target is no class, or
            ``query_size`` is not a positive integer.

    References:
        Zhang, Katz-Samuels and Nowak (ICML 2022), *GALAXY: Graph-based Active Learning at the Extreme*.

    Example:
        >>> import torch
        >>> p = torch.tensor([0.9, 0.7, 0.6, 0.4, 0.2])
        >>> labeled = torch.tensor([[0.95, 0.05], [0.05, 0.95]])
        >>> galaxy(torch.stack([p, 1 - p], 1), 1, labeled, torch.tensor([0, 1]))  # the middle between the two labels
        tensor([2])
    """
    probs = check_probs(probs)
    count = check_query_size(query_size, len(probs))
    check_probs_values(probs)
    classes = probs.shape[1]
    known = torch.full((len(probs),), _UNKNOWN, dtype=torch.int64, device=probs.device)
    parts = [probs]
    if labeled_probs is not None and len(labeled_probs):
        parts.append(_check_labeled_probs(labeled_probs, classes).to(probs.device))
        known = torch.cat([known, check_targets(labeled_targets, len(labeled_probs), classes).to(probs.device)])
    confidence = [part.amax(1) for part in parts]
    generator = default_generator(generator)
    orders: dict[int, Tensor] = {}
    picks: list[int] = []
    while len(picks) < count:
        for name in permutation(classes, generator)[: count - len(picks)].tolist():
            order = orders.get(name)
            if order is None:
                margins = [_margins(part[:, name], top) for part, top in zip(parts, confidence, strict=True)]
                order = torch.cat(margins).argsort(descending=True, stable=True).int()
                if len(orders) < _KEPT_ORDERS:
                    orders[name] = order
            pick = _bisect(known, order, name, generator)
            known[pick] = probs[pick].argmax()
            picks.append(pick)
    return torch.tensor(picks, dtype=torch.int64, device=probs.device)


def _check_labeled_probs(labeled: Tensor, classes: int) -> Tensor:
    labeled = check_matrix(labeled, "labeled_probs", "C")
    if labeled.shape[1] != classes:
        raise ValueError(f"Expected `labeled_probs` to have the pool's {classes} columns, but got {labeled.shape[1]}.")
    check_probs_values(labeled)
    return labeled


def _margins(column: Tensor, confidence: Tensor) -> Tensor:
    dtype = compute_dtype(column.dtype)
    return (column.to(dtype) - confidence.to(dtype)).add_(confidence.to(dtype), alpha=_CONFIDENCE)


def _bisect(known: Tensor, order: Tensor, name: int, generator: torch.Generator) -> int:
    """Return the position that a class asks for next, given the positions in descending order of its margin."""
    classes = known[order]
    places = (classes != _UNKNOWN).nonzero()[:, 0]  # of the known samples, in the row
    inside = classes[places] == name
    changes = (inside[1:] != inside[:-1]).nonzero()[:, 0]
    if len(changes) == 0:
        unknown = (known == _UNKNOWN).nonzero()[:, 0]
        return int(unknown[min(int(uniform(1, generator) * len(unknown)), len(unknown) - 1)])
    starts, stops = places[changes], places[changes + 1]
    lengths = stops - starts
    paths = (lengths > 1).nonzero()[:, 0]
    if len(paths):
        shortest = paths[int(lengths[paths].argmin())]
        return int(order[(starts[shortest] + stops[shortest]) // 2])
    # Labels change between neighbours only. The paths that need the fewest places joined lead over the last unlabeled
    # before a change or the first behind it, and that many places on to the change's far side.
    free = (classes == _UNKNOWN).nonzero()[:, 0]
    nowhere = free.new_tensor([2 * len(order)])
    free = torch.cat([-nowhere, free, nowhere])
    next_free = torch.searchsorted(free, starts)
    before, behind = free[next_free - 1], free[next_free]
    middles, reach = torch.cat([before, behind]), torch.cat([stops - before, behind - starts])
    return int(order[middles[reach == reach.amin()].amin()])
