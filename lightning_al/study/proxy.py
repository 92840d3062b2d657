"""Fits of linear heads on frozen embeddings, in the place of the user's whole model."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from lightning_al.functional.inputs import check_finite, check_matrix, compute_dtype
from lightning_al.querying import check_readable, checked_picks, draw_targets
from lightning_al.strategies.base import Outputs, QueryStrategy
from lightning_al.study.heads import L2_PER_FEATURE, check_l2, check_targets, fit_heads, predict, predict_logits
from lightning_al.study.memory import peak_memory_mb
from lightning_al.study.metrics import StudyMetrics
from lightning_al.study.types import Fit, IntArray, Observation, Request

SNAPSHOTS = 10
"""Heads that an observation is made of, each with half the penalty of the one before; the last is the fit itself."""


def check_strategies(strategies: Iterable[QueryStrategy]) -> None:
    """Raise where a strategy asks for what a proxy does not have, before anything is computed.

    Args:
        strategies: The strategies.

    Raises:
        MisconfigurationException: A strategy needs draws of the model, or what no run can give it.
    """
    for strategy in strategies:
        needs = strategy.needs
        if "samples" in needs.pool | needs.labeled | needs.target:
            raise MisconfigurationException(
                f"{strategy.name} reads several draws of the model, and a proxy's head is one. Leave the strategy out "
                "of `strategies`, or set mode='full'."
            )
        check_readable(strategy, "probs")


class ProxyFitter:
    """Answers requests with linear heads on embeddings that were extracted once.

    Embeddings are standardised by the pilot's own mean and standard deviation, without labels and without the test
    set. Heads, strategies and observations see them so. A head is the optimum of a convex problem: a request's seed
    decides what the strategies draw and nothing about the fit, and **a head has no training noise**.

    An observation's epochs are heads of falling penalty, ``l2 * 512`` to ``l2``: what a sample's label is predicted
    with as the head is given more room, which is how a network's training goes too, and depends on no solver.

    Args:
        pilot: Embeddings of the pilot ``(N, D)``.
        pilot_targets: Their class indices ``(N,)``.
        test: Embeddings of the test set ``(M, D)``.
        test_targets: Their class indices ``(M,)``.
        num_classes: Number of classes.
        metrics: What is computed on the test set.
        wanted: Embeddings of the samples that predictions are wanted for ``(W, D)``; by default some of the pilot's
            unlabeled ones stand for them.
        l2: Strength of the heads' penalty, scikit-learn's ``1 / C``; by default ``L2_PER_FEATURE * D``.

    Raises:
        ValueError: A shape does not fit, a value is not finite, or a target is no class index.

    References:
        Coleman et al. (ICLR 2020), *Selection via Proxy*. Swayamdipta et al. (EMNLP 2020), *Dataset Cartography*.

    Example:
        >>> pilot, targets = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1])
        >>> fitter = ProxyFitter(pilot, targets, pilot, targets, 2, StudyMetrics(["accuracy"]))
        >>> fit, = fitter.fit_many([Request(labeled=np.array([0, 3]), seed=0)])
        >>> fit.metrics
        {'accuracy': 1.0}
    """

    def __init__(
        self,
        pilot: Tensor,
        pilot_targets: Tensor,
        test: Tensor,
        test_targets: Tensor,
        num_classes: int,
        metrics: StudyMetrics,
        *,
        wanted: Tensor | None = None,
        l2: float | None = None,
    ) -> None:
        for name, embeddings, targets in (("pilot", pilot, pilot_targets), ("test", test, test_targets)):
            check_matrix(embeddings, name, "D")
            check_finite(embeddings, name)
            check_targets(targets, len(embeddings), num_classes, f"{name}_targets")
            if not len(embeddings):
                raise ValueError(f"Expected `{name}` to hold at least one sample, but got none.")
        for name, others in (("test", test), ("wanted", wanted)):
            if others is not None and pilot.shape[1] != others.shape[1]:
                raise ValueError(
                    f"Expected `{name}` to have the pilot's {pilot.shape[1]} columns, but got {others.shape[1]}: both "
                    "must come from one backbone."
                )
        self.pilot, self.test, *more = standardize(pilot, test, *([] if wanted is None else [wanted]))
        self.wanted = more[0] if more else None
        self.pilot_targets, self.test_targets = pilot_targets, test_targets
        self.num_classes, self.metrics = num_classes, metrics
        self.l2 = L2_PER_FEATURE * pilot.shape[1] if l2 is None else check_l2(l2)
        self._heads: dict[bytes, Tensor] = {}

    def fit_many(self, requests: Sequence[Request]) -> list[Fit]:
        """Answer the requests; the time of the fits is shared equally among them.

        Raises:
            ValueError: A request's positions are not of the pilot, or a strategy picks something else than it should.
        """
        began = time.perf_counter()
        heads = self._solve([request.labeled for request in requests])
        seconds = (time.perf_counter() - began) / max(len(requests), 1)
        return [self._answer(request, head, seconds) for request, head in zip(requests, heads, strict=True)]

    def _solve(self, labeled: Sequence[IntArray]) -> list[Tensor]:
        """A head for each; equal sets are solved once, those of the call before (another replicate's) not again."""
        keys = [np.sort(positions).astype(np.int64).tobytes() for positions in labeled]
        new = list(dict.fromkeys(key for key in keys if key not in self._heads))
        solved = self._fit_heads([np.frombuffer(key, dtype=np.int64) for key in new], self.l2)
        known = self._heads | dict(zip(new, solved, strict=True))
        self._heads = {key: known[key] for key in keys}
        return [known[key] for key in keys]

    def _fit_heads(self, labeled: Sequence[IntArray], l2: float) -> Tensor:
        positions = [torch.tensor(mine) for mine in labeled]
        return fit_heads(self.pilot, self.pilot_targets, positions, self.num_classes, l2=l2)

    def _answer(self, request: Request, head: Tensor, seconds_fit: float) -> Fit:
        began = time.perf_counter()
        metrics = self.metrics.compute(predict(self.test, head), self.test_targets)
        seconds_predict = time.perf_counter() - began
        picked, seconds_query, states = self._query(request, head)
        return Fit(
            metrics=metrics,
            picked=picked,
            seconds_fit=seconds_fit,
            seconds_predict=seconds_predict,
            seconds_query=seconds_query,
            peak_memory_mb=peak_memory_mb(self.pilot.device),
            observation=self._observe(request) if request.observe else None,
            states=states,
        )

    def _query(
        self, request: Request, head: Tensor
    ) -> tuple[dict[str, list[int]], dict[str, float], dict[str, dict[str, Any]]]:
        """What each arm asks for, the seconds it took, and what its strategy remembers of it."""
        picked, seconds, states = {}, {}, {}
        labeled = torch.tensor(request.labeled.tolist())
        free = torch.ones(len(self.pilot), dtype=torch.bool)
        free[labeled] = False
        candidates = free.nonzero()[:, 0]
        size = min(request.query_size, len(candidates))
        for arm, strategy in request.queries.items():
            began = time.perf_counter()
            picks: list[int] = []
            if size:
                needs, asked = strategy.needs, copy.deepcopy(strategy)  # what it remembers goes on by `states` alone
                pool = self._outputs(candidates, head, needs.pool)
                known = self._outputs(labeled, head, needs.labeled) if needs.labeled else None
                more = {}
                if needs.target:
                    more["target"] = self._target(candidates, head, needs.target, request.seed)
                # The same numbers for each arm, and those of a full fit: the random arm then picks the same samples.
                generator = torch.Generator().manual_seed(request.seed * 1_000_003 % (1 << 63))
                with isolate_rng():
                    given = asked.select(pool, size, labeled=known, generator=generator, **more)
                picks = candidates[checked_picks(given, size, len(candidates), strategy)].tolist()
                if state := asked.state_dict():
                    states[arm] = state
            picked[arm], seconds[arm] = picks, time.perf_counter() - began
        return picked, seconds, states

    def _target(self, candidates: Tensor, head: Tensor, needs: frozenset[str], seed: int) -> Outputs:
        """What a strategy reads of the samples that predictions are wanted for."""
        if self.wanted is None:
            return self._outputs(candidates[draw_targets(len(candidates), seed)], head, needs)
        return Outputs(
            probs=predict(self.wanted, head) if "probs" in needs else None,
            embeddings=self.wanted if "embeddings" in needs else None,
            dataset_indices=torch.arange(len(self.wanted)),
        )

    def _outputs(self, positions: Tensor, head: Tensor, needs: frozenset[str]) -> Outputs:
        """The fields that a strategy asks for, of some samples of the pilot."""
        return Outputs(
            probs=predict(self.pilot, head)[positions] if "probs" in needs else None,
            embeddings=self.pilot[positions] if "embeddings" in needs else None,
            targets=self.pilot_targets[positions] if "targets" in needs else None,
            head=(lambda values: predict_logits(values, head)) if "head" in needs else None,
            dataset_indices=positions,
        )

    def _observe(self, request: Request) -> Observation:
        """The pilot as heads of falling penalty see it."""
        truth = self.pilot_targets.to(self.pilot.device)
        confidence, correct = [], []
        for halvings in range(SNAPSHOTS):
            (head,) = self._fit_heads([np.sort(request.labeled)], self.l2 * 2 ** (SNAPSHOTS - 1 - halvings))
            probs = predict(self.pilot, head)
            confidence.append(probs.gather(1, truth[:, None])[:, 0].float().cpu().numpy())
            correct.append((probs.argmax(dim=1) == truth).cpu().numpy())
        return Observation(
            embeddings=self.pilot.float().cpu().numpy(),
            confidence=np.stack(confidence),
            correct=np.stack(correct),
            targets=truth.long().cpu().numpy(),
        )


def standardize(pilot: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Subtract the pilot's mean from each column and divide by its standard deviation.

    Args:
        pilot: Embeddings ``(N, D)``.
        others: Further embeddings with the same columns, to which the pilot's figures are applied.

    Returns:
        All of them, the pilot first, float32 or wider. A column that is constant in the pilot becomes 0 there.

    Example:
        >>> standardize(torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([[5.0, 6.0]]))
        (tensor([[-1., 0.], [ 1., 0.]]), tensor([[3., 1.]]))
    """
    dtype = compute_dtype(pilot.dtype)
    variance, mean = torch.var_mean(pilot.to(dtype), dim=0, correction=0)
    # The spread of a constant column is the rounding of its mean; divided by it, noise would look like a signal.
    scale = torch.where(variance.sqrt() > 1e-6 * mean.abs(), variance.sqrt(), 1.0)
    return tuple((part.to(dtype) - mean) / scale for part in (pilot, *others))
