"""Linear heads on frozen embeddings: many L2-penalised multinomial logistic regressions, each to its optimum.

The embeddings have more columns than a head has labels, mostly. Every head is therefore solved in the span of its own
samples (the representer theorem): an ``n x n`` problem in place of a ``D x C`` one. Each is solved by itself, with
products of its own shape only, so that its answer is the same to the bit alone and among any others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lightning_al.functional.inputs import check_finite, check_matrix, compute_dtype
from lightning_al.functional.precision import full_precision

L2_PER_FEATURE = 100 / 1280
"""Default strength of the penalty for each column of the embeddings, so that it does not depend on their number.

Standardised columns give a sample's squared norm, and with it every inner product, the scale of D: a head keeps its
predictions when each column is doubled only if the strength doubles too. 100 (scikit-learn's ``C=0.01``) on 1,280
columns is a known good level.
"""

_MEMORY = 5  # pairs: with a weak penalty fewer take many more steps, and with the default any number does
_MOST_STEPS = {torch.float32: 300, torch.float64: 3000}
_MOST_HALVINGS = 30

Precondition = Callable[[Tensor], tuple[Tensor, Tensor]]


def fit_heads(
    embeddings: Tensor,
    targets: Tensor,
    labeled: Sequence[Tensor],
    num_classes: int,
    *,
    l2: float | None = None,
    tolerance: float = 1e-7,
) -> Tensor:
    r"""Fit a linear head on each of many parts of the same embeddings.

    A head minimises :math:`\sum_i -\log \mathrm{softmax}(W^T x_i + b)_{y_i} + \frac{\lambda}{2} |W|^2`, the intercept
    :math:`b` free. The problem is convex, so that no initial weights, seed or order of the samples has a part in the
    answer. A class without a sample has no logit: its column is 0, with an intercept of minus infinity.

    Args:
        embeddings: What the heads see ``(N, D)``, standardised. Half precision is computed in float32.
        targets: Class indices ``(N,)``.
        labeled: For each head the positions of its samples ``(n,)``, in any order.
        num_classes: Number of classes C.
        l2: Strength :math:`\lambda` of the penalty, scikit-learn's ``1 / C`` (``2 / C`` for two classes, where it has
            one column of weights in the place of two). None: ``L2_PER_FEATURE * D``.
        tolerance: How far above its minimum the loss may stay, in nats a sample.

    Returns:
        Weights ``(len(labeled), D + 1, C)``, the intercept in the last row; float32, or float64 for float64.

    Raises:
        ValueError: A shape does not fit, a value is not finite, a target is no class index, or a head has no sample.
        ArithmeticError: The minimum was not found.

    References:
        Schölkopf, Herbrich and Smola (COLT 2001), *A Generalized Representer Theorem*. Böhning (Annals of the
        Institute of Statistical Mathematics 1992), *Multinomial Logistic Regression Algorithm*: the fixed curvature
        that preconditions. Liu and Nocedal (Mathematical Programming 1989), *On the Limited Memory BFGS Method*.

    Example:
        >>> x = torch.tensor([[-1.0], [-0.5], [0.5], [1.0]])
        >>> heads = fit_heads(x, torch.tensor([0, 0, 1, 1]), [torch.tensor([0, 3])], num_classes=2, l2=1.0)
        >>> [round(p, 2) for p in predict(x, heads[0])[:, 1].tolist()]
        [0.26, 0.37, 0.63, 0.74]
    """
    embeddings = check_matrix(embeddings, "embeddings", "D")
    check_targets(targets, len(embeddings), num_classes)
    width = embeddings.shape[1]
    strength = L2_PER_FEATURE * width if l2 is None else check_l2(l2)
    heads = embeddings.new_zeros((len(labeled), width + 1, num_classes), dtype=compute_dtype(embeddings.dtype))
    with full_precision(embeddings.device):
        for head, positions in zip(heads, labeled, strict=True):
            mine = _checked_positions(positions, len(embeddings)).to(embeddings.device)
            x = embeddings[mine].to(heads.dtype)
            if not bool(torch.isfinite(x.sum())):  # or the sum was too large
                check_finite(embeddings, "embeddings")
            present, classes = targets.to(embeddings.device)[mine].unique(return_inverse=True)
            head[-1] = -torch.inf
            try:
                found = _fit_head(x, classes, strength, tolerance)
            # a weak penalty on large values
            except (ArithmeticError, torch.linalg.LinAlgError):  # type: ignore[attr-defined]  # torch lists no names
                if x.dtype == torch.float64:
                    raise
                found = _fit_head(x.double(), classes, strength, tolerance)
            head[:, present] = found.to(head.dtype)
    return heads


def predict(embeddings: Tensor, head: Tensor) -> Tensor:
    """The class probabilities that a head gives.

    Args:
        embeddings: What the head sees ``(N, D)``.
        head: Weights ``(D + 1, C)``, one of those that `fit_heads` returns.

    Returns:
        Probabilities ``(N, C)``, of the head's type.
    """
    return predict_logits(embeddings, head).softmax(dim=1)


def predict_logits(embeddings: Tensor, head: Tensor) -> Tensor:
    """The logits ``(N, C)`` that a head gives, finite and differentiable; see `predict`."""
    differentiable = torch.is_grad_enabled()
    with full_precision(head.device), torch.set_grad_enabled(differentiable):
        logits = torch.addmm(head[-1], embeddings.to(head.dtype), head[:-1])
        return logits.clamp_min(torch.finfo(logits.dtype).min)  # a class without a label has minus infinity


def check_l2(l2: float) -> float:
    """Return the strength of a penalty.

    Raises:
        ValueError: It is not above 0.
    """
    if not l2 > 0:
        raise ValueError(f"Expected `l2` to be above 0, but got {l2}: the minimum would not be unique.")
    return l2


def check_targets(targets: Tensor, samples: int, num_classes: int, name: str = "targets") -> None:
    """Raise unless there is one class index a sample.

    Args:
        targets: Class indices ``(samples,)``.
        samples: Number of samples.
        num_classes: Number of classes.
        name: The argument's name, for the message.

    Raises:
        ValueError: The shape does not fit, or a target is no class index.
    """
    if targets.shape != (samples,) or targets.is_floating_point():
        raise ValueError(
            f"Expected `{name}` to be class indices ({samples},), integers, but got {targets.dtype} "
            f"{tuple(targets.shape)}."
        )
    bad = ((targets < 0) | (targets >= num_classes)).nonzero()
    if len(bad):
        raise ValueError(
            f"Expected `{name}` to be class indices from 0 to {num_classes - 1}, but got {int(targets[bad[0]])} at "
            f"position {int(bad[0])}."
        )


def _fit_head(x: Tensor, targets: Tensor, l2: float, tolerance: float) -> Tensor:
    """Weights ``(D + 1, C)`` for samples ``x`` ``(n, D)`` of which every class has one.

    A state is (coefs, logits), both ``(C, n)``: the weights are ``coefs @ x``, and the rows of ``coefs`` sum to zero,
    which is what an optimal intercept means. Gradients are coefficients too, and their inner product with a direction
    is that with the direction's change of the logits. So neither weights nor intercept are needed on the way.
    """
    y = functional.one_hot(targets).T.to(x.dtype).contiguous()
    if len(y) == 1:
        return x.new_zeros((x.shape[1] + 1, 1))
    shares = y.mean(dim=1, keepdim=True)
    # The mean eigenvalue of the loss's Hessian for one sample at the start, in the C - 1 directions where it has any.
    curvature = float(1 - shares.square().sum()) / (len(y) - 1)

    def excess(gradient: Tensor) -> float:
        """How far above the minimum the loss can be: the weights' part is a bound, by the penalty's curvature."""
        by_intercept = float(gradient.sum(dim=1).square().sum()) / (2 * curvature * len(x))
        return float((gradient @ x).square().sum()) / (2 * l2) + by_intercept

    start = shares.log() - shares.log().mean()
    coefs, logits = _minimize(y, start, l2, tolerance * len(x), _preconditioner(x, curvature, l2), excess)
    weights = coefs @ x
    intercept = (logits - weights @ x.T).mean(dim=1, keepdim=True)
    return torch.cat([weights, intercept], dim=1).T


def _minimize(
    y: Tensor,
    intercept: Tensor,
    l2: float,
    tolerance: float,
    precondition: Precondition,
    excess: Callable[[Tensor], float],
) -> tuple[Tensor, Tensor]:
    """Coefficients and logits ``(C, n)`` at the minimum, by preconditioned L-BFGS."""
    coefs, logits = torch.zeros_like(y), intercept.expand_as(y)
    loss, gradient = _loss(coefs, logits, y, l2)
    pairs: deque[tuple[Tensor, Tensor, Tensor, float]] = deque(maxlen=_MEMORY)
    ask_at = 2 * tolerance
    for _ in range(_MOST_STEPS[y.dtype]):
        step, change = _quasi_newton(gradient, pairs, precondition)
        gain = _inner(gradient, change)  # twice what a whole step is predicted to gain
        if gain <= ask_at:  # the excess costs more to tell than a step
            if excess(gradient) <= tolerance:
                return coefs, logits
            ask_at = gain / 4
        length = 1.0
        for _ in range(_MOST_HALVINGS):
            new_coefs = torch.sub(coefs, step, alpha=length)
            new_logits = torch.sub(logits, change, alpha=length)
            new_loss, new_gradient = _loss(new_coefs, new_logits, y, l2)
            # Near the minimum gains are below what sums of float32 resolve.
            if new_loss <= loss - 1e-4 * length * gain + 1e-6 * abs(loss):
                break
            length /= 2
        difference, moved = new_gradient - gradient, new_logits - logits
        bend = _inner(difference, moved)
        if bend > 0:  # always, but for rounding
            pairs.append((new_coefs - coefs, moved, difference, bend))
        coefs, logits, loss, gradient = new_coefs, new_logits, new_loss, new_gradient
    raise ArithmeticError(
        f"A head on {y.shape[1]} samples was not found to its tolerance in {_MOST_STEPS[y.dtype]} steps: its loss may "
        f"be {excess(gradient) / y.shape[1]:.1e} a sample above the minimum. Raise `l2` (it is {l2}) or `tolerance`."
    )


def _loss(coefs: Tensor, logits: Tensor, y: Tensor, l2: float) -> tuple[float, Tensor]:
    """The loss, and its gradient as coefficients ``(C, n)``."""
    log_probs = logits.log_softmax(dim=0)
    loss = _inner(coefs, logits) * l2 / 2 - _inner(log_probs, y)
    return loss, torch.add(log_probs.exp_().sub_(y), coefs, alpha=l2)


def _quasi_newton(
    gradient: Tensor, pairs: Sequence[tuple[Tensor, Tensor, Tensor, float]], precondition: Precondition
) -> tuple[Tensor, Tensor]:
    """The inverse of the Hessian, as L-BFGS knows it, times the gradient: as coefficients and as change of logits."""
    rest, shares = gradient, []
    for _, moved, difference, bend in reversed(pairs):
        shares.append(_inner(moved, rest) / bend)
        rest = torch.sub(rest, difference, alpha=shares[-1])
    step, change = precondition(rest)
    for (stepped, moved, difference, bend), share in zip(pairs, reversed(shares), strict=True):
        more = share - _inner(difference, change) / bend
        step, change = torch.add(step, stepped, alpha=more), torch.add(change, moved, alpha=more)
    return step, change


def _inner(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.flatten(), b.flatten()))


def _preconditioner(x: Tensor, curvature: float, l2: float) -> Precondition:
    """Newton's step were the Hessian of each sample's loss ``curvature`` times the identity.

    That is ridge regression: with K = x x' solve ``(curvature K + l2) step + curvature intercept = gradient`` for each
    class so that the step sums to zero. The logits change by ``K step + intercept``, which needs no product with K.
    """
    wide = len(x) <= x.shape[1]
    matrix = x @ x.T if wide else x.T @ x
    matrix.mul_(curvature).diagonal().add_(l2)
    factor = torch.linalg.cholesky(matrix)

    def ridge(gradient: Tensor) -> Tensor:
        if wide:
            return torch.cholesky_solve(gradient.T, factor).T
        return torch.sub(gradient, torch.cholesky_solve((gradient @ x).T, factor).T @ x.T, alpha=curvature) / l2

    constant = ridge(x.new_ones((1, len(x))))
    constant = constant / constant.sum()

    def precondition(gradient: Tensor) -> tuple[Tensor, Tensor]:
        step = ridge(gradient)
        step = torch.addmm(step, step.sum(dim=1, keepdim=True), constant, alpha=-1)
        return step, torch.sub(gradient, step, alpha=l2) / curvature

    return precondition


def _checked_positions(positions: Tensor, samples: int) -> Tensor:
    """The positions, ascending: sums do not depend on the order in which samples were labeled."""
    if positions.ndim != 1 or positions.is_floating_point() or not len(positions):
        raise ValueError(
            f"Expected each of `labeled` to be positions (n,), integers, at least one, but got {positions.dtype} "
            f"{tuple(positions.shape)}."
        )
    mine = positions.long().sort().values
    if int(mine[0]) < 0 or int(mine[-1]) >= samples:
        raise ValueError(
            f"Expected `labeled` to hold positions from 0 to {samples - 1}, but got {int(mine[0])} to {int(mine[-1])}."
        )
    return mine
