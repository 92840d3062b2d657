"""BAIT: the batch whose labels tell most of what all predictions depend on, by Fisher information."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import linear

from lightning_al.functional.inputs import (
    block_rows,
    check_finite,
    check_labeled,
    check_matrix,
    check_probs,
    check_probs_values,
    check_query_size,
    compute_dtype,
)
from lightning_al.functional.precision import full_precision

# As in the paper: so many picks a sample wanted, before the worst are taken back.
_OVERSAMPLING = 2

# Gains that have fallen below this share of what they were when last computed in full are computed in full again.
_STALE = 1e-3

# Embeddings are far from 0 where their mean's squared norm is so many times their variance; seen on some rows.
_FAR, _ROWS_FOR_ORIGIN = 100, 1024


def bait(
    probs: Tensor,
    embeddings: Tensor,
    query_size: int,
    labeled_probs: Tensor | None = None,
    labeled_embeddings: Tensor | None = None,
    regularization: float = 1.0,
) -> Tensor:
    r"""Pick greedily to minimise :math:`\operatorname{tr}(M_S^{-1} F)`, a bound on the error that is left.

    The binary form: the prediction is taken for that of a logistic regression that says whether the most likely class
    is right, with probability :math:`\hat p`. A sample's Fisher information is then :math:`v v^T` with
    :math:`v = \sqrt{\hat p (1 - \hat p)}\, z`, and

    .. math:: M_S = \lambda I + \sum_{i \in L \cup S} v_i v_i^T, \qquad F = \frac{1}{N + L} \sum_{i \in U \cup L} v_i
              v_i^T.

    Twice as many as wanted are picked one by one, each the one that lowers the trace most; then those whose removal
    raises it least are taken back, one by one. Ties go to the lowest position, and to the latest pick when picks are
    taken back. A picked sample weighs as much as a labeled one; the paper's code weighs it B times as much.

    A pick costs one product of the pool with two vectors: :math:`v^T M^{-1} v` and :math:`v^T M^{-1} F M^{-1} v` are
    kept for each sample, in float64, and corrected by the rank-one change of :math:`M^{-1}`.

    Args:
        probs: Class probabilities ``(N, C)``.
        embeddings: What the last layer sees ``(N, D)``.
        query_size: Number of samples to pick, at least 1. More than ``N`` picks all.
        labeled_probs: Class probabilities of the labeled samples ``(L, C)``.
        labeled_embeddings: Embeddings of the labeled samples ``(L, D)``.
        regularization: :math:`\lambda`, above 0: the precision of the prior on the last layer's weights.

    Returns:
        Unique pool positions ``(min(query_size, N),)``, int64, in the order picked.

    Raises:
        ValueError: If a value is not finite or no probability, a shape does not fit, ``query_size`` is not a positive
            integer or ``regularization`` is not above 0.

    References:
        Ash, Goel, Krishnamurthy and Kakade (NeurIPS 2021), *Gone Fishing: Neural Active Learning with Fisher
        Embeddings*; Huseljic, Hahn, Herde, Rauch and Sick (ECML PKDD 2024), *Fast Fishing: Approximating BAIT for
        Efficient and Scalable Deep Active Image Classification*, for the binary form.

    Example:
        >>> import torch
        >>> probs = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [1.0, 0.0]])
        >>> embeddings = torch.tensor([[4.0, 0.0], [4.0, 0.0], [0.0, 3.0], [0.0, 9.0]])
        >>> bait(probs, embeddings, query_size=2)  # one of each direction; the last is certain
        tensor([0, 2])
    """
    probs = check_probs(probs)
    embeddings = check_matrix(embeddings, "embeddings", "D")
    if len(probs) != len(embeddings):
        raise ValueError(f"Expected a row of `embeddings` for each of {len(probs)} `probs`, but got {len(embeddings)}.")
    count = check_query_size(query_size, len(probs))
    if isinstance(regularization, bool) or not 0 < regularization < math.inf:
        raise ValueError(f"Expected `regularization` to be a number above 0, but got {regularization!r}.")
    labeled = check_labeled(labeled_embeddings, embeddings)
    check_finite(embeddings, "embeddings")
    pool = _Gradients(embeddings, _scales(probs))
    known = None
    if labeled is not None:
        if labeled_probs is None or len(labeled_probs) != len(labeled):
            got = None if labeled_probs is None else len(labeled_probs)
            raise ValueError(f"Expected a row of `labeled_probs` for each of {len(labeled)} labeled, but got {got}.")
        check_finite(labeled, "labeled_embeddings")
        known = _Gradients(labeled, _scales(check_probs(labeled_probs)))
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=embeddings.device)
    with full_precision(embeddings.device):
        picks = _select(pool, known, count, regularization)
    return torch.tensor(picks, dtype=torch.int64, device=embeddings.device)


class _Gradients:
    """The vectors v of some samples: embeddings times a scale of each.

    Far from 0, embeddings are read as an origin and a small rest, or float32 would see what they share alone.
    """

    def __init__(self, embeddings: Tensor, scales: Tensor) -> None:
        self.embeddings = embeddings
        self.scales = scales
        self.dtype = compute_dtype(embeddings.dtype)
        some = embeddings[:: max(len(embeddings) // _ROWS_FOR_ORIGIN, 1)].double()
        mean = some.mean(0) if len(some) else embeddings.new_zeros(embeddings.shape[1]).double()
        self.far = bool(mean.square().sum() > _FAR * (some - mean).square().sum(1).mean())
        self.origin = mean.to(self.dtype).double() if self.far else torch.zeros_like(mean)

    def information(self) -> Tensor:
        """Return the sum of all v v^T ``(D, D)``."""
        total = torch.diag(torch.zeros_like(self.origin))
        cross = torch.zeros_like(self.origin)
        for rows in self._slices():
            scales = self.scales[rows, None].to(self.dtype)
            scaled = self._rests(rows) * scales
            total += scaled.t() @ scaled
            cross += (scaled * scales).sum(0)
        shared = torch.outer(cross + self.origin * (self.scales.square().sum() / 2), self.origin)
        return total + shared + shared.t()

    def quadratic(self, matrix: Tensor) -> Tensor:
        """Return all v^T A v ``(N,)`` with a symmetric matrix A."""
        rounded, linear_part = matrix.to(self.dtype), (2 * matrix @ self.origin).to(self.dtype)
        rests = (self._rests(rows) for rows in self._slices())
        values = torch.cat([torch.addmm(linear_part, rest, rounded).mul_(rest).sum(1) for rest in rests])
        return (values.double() + self.origin @ matrix @ self.origin) * self.scales.square()

    def products(self, vectors: Tensor) -> Tensor:
        """Return all v^T u ``(N, M)`` with the rows u of a matrix ``(M, D)``."""
        rounded = vectors.to(self.dtype)
        # On a CPU three times as quick as the product with the same vectors laid out as columns.
        products = torch.cat([linear(self._rests(rows), rounded) for rows in self._slices()])
        return (products.double() + vectors @ self.origin) * self.scales[:, None]

    def take(self, rows: Tensor) -> Tensor:
        """Return some v ``(M, D)`` in float64."""
        return self.embeddings[rows].double() * self.scales[rows, None]

    def _rests(self, rows: slice) -> Tensor:
        block = self.embeddings[rows].to(self.dtype)
        return block - self.origin.to(self.dtype) if self.far else block

    def _slices(self) -> list[slice]:
        step = block_rows(self.embeddings.shape[1], self.scales.device)
        return [slice(start, start + step) for start in range(0, len(self.scales), step)]


def _scales(probs: Tensor) -> Tensor:
    """Return the standard deviation of whether the most likely class is right ``(N,)``."""
    check_probs_values(probs)
    confidence = probs.amax(1).double().clamp_(max=1)
    return (confidence * (1 - confidence)).sqrt_()


def _select(pool: _Gradients, known: _Gradients | None, count: int, regularization: float) -> list[int]:
    dimensions = pool.embeddings.shape[1]
    inverse = torch.eye(dimensions, dtype=torch.float64, device=pool.scales.device) / regularization
    fisher, size = pool.information(), len(pool.scales)
    if known is not None:
        information = known.information()
        fisher, size = fisher + information, size + len(known.scales)
        information.diagonal().add_(regularization)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(information))
    fisher /= size
    picks = _forward(pool, inverse, fisher, min(_OVERSAMPLING * count, len(pool.scales)))
    return _backward(pool.take(torch.tensor(picks, device=inverse.device)), picks, inverse, fisher, count)


def _forward(pool: _Gradients, inverse: Tensor, fisher: Tensor, count: int) -> list[int]:
    """Return the picks that lower the trace most, one by one; ``inverse``, of M, is updated in place.

    By Sherman and Morrison a pick lowers it by :math:`v^T M^{-1} F M^{-1} v / (1 + v^T M^{-1} v)`.
    """
    variances, gains = pool.quadratic(inverse), pool.quadratic(inverse @ fisher @ inverse)
    picks: list[int] = []
    free = torch.ones(len(pool.scales), dtype=torch.bool, device=inverse.device)
    highest = 0.0
    for _ in range(count):
        pick, gain = _best(variances, gains, free)
        if gain < _STALE * highest:
            variances, gains = pool.quadratic(inverse), pool.quadratic(inverse @ fisher @ inverse)
            pick, highest = _best(variances, gains, free)
        highest = max(highest, gain)
        picks.append(int(pick))
        free[pick] = False
        gradient = pool.take(pick)[0]
        direction = inverse @ gradient
        shrinkage = 1 / (1 + gradient @ direction)
        pushed = fisher @ direction
        covariance, cross = pool.products(torch.stack([direction, inverse @ pushed])).unbind(1)
        gains += covariance * shrinkage * (covariance * ((direction @ pushed) * shrinkage) - 2 * cross)
        variances -= covariance.square() * shrinkage
        inverse.addr_(direction, direction * shrinkage, alpha=-1)
    return picks


def _best(variances: Tensor, gains: Tensor, free: Tensor) -> tuple[Tensor, float]:
    """Return the position ``(1,)`` of the free sample that lowers the trace most, and by how much."""
    lowered = torch.where(free, gains.clamp(min=0) / (1 + variances.clamp(min=0)), -1)
    pick = lowered.argmax()[None]
    return pick, float(lowered[pick])


def _backward(gradients: Tensor, picks: list[int], inverse: Tensor, fisher: Tensor, count: int) -> list[int]:
    """Return ``count`` of the picks, after taking back those whose loss raises the trace least, one by one.

    Taking one back raises it by :math:`v^T M^{-1} F M^{-1} v / (1 - v^T M^{-1} v)`. All that is needed are the products
    among the picks.
    """
    pushed = gradients @ inverse
    variances = pushed @ gradients.t()
    gains = pushed @ fisher @ pushed.t()
    left = torch.ones(len(picks), dtype=torch.bool, device=gradients.device)
    tiny = torch.finfo(torch.float64).tiny
    for _ in range(len(picks) - count):
        raised = gains.diagonal().clamp(min=0) / (1 - variances.diagonal()).clamp(min=tiny)
        raised = torch.where(left, raised, math.inf)
        worst = len(picks) - 1 - raised.flip(0).argmin()
        left[worst] = False
        column = variances[:, worst] / (1 - variances[worst, worst]).clamp(min=tiny)
        row = gains[worst].clone()
        own = row[worst].clone()
        gains += torch.outer(column, row) + torch.outer(row, column) + torch.outer(column, column) * own
        variances += torch.outer(column, variances[worst].clone())
    return [pick for pick, kept in zip(picks, left.tolist(), strict=True) if kept]
