"""The heads against scikit-learn's, and against themselves in other company and order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from lightning_al.study.heads import L2_PER_FEATURE, fit_heads, predict


def clouds(samples: int, width: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping normal clouds, one a class."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(classes, (samples,), generator=generator)
    means = torch.randn(classes, width, generator=generator)
    return means[targets] + 1.5 * torch.randn(samples, width, generator=generator), targets


def gradient(x: torch.Tensor, targets: torch.Tensor, head: torch.Tensor, l2: float) -> torch.Tensor:
    """The loss's gradient by the weights and the intercept, by autograd in float64."""
    weights = head.double().clone().requires_grad_()
    logits = x.double() @ weights[:-1] + weights[-1]
    loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum") + l2 / 2 * weights[:-1].square().sum()
    return torch.autograd.grad(loss, weights)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("samples", "width", "classes", "l2"),
    [(20, 50, 3, 5.0), (50, 50, 4, 1.0), (80, 6, 3, 0.5), (300, 12, 5, 100.0), (30, 8, 2, 2.0), (40, 30, 3, 1e-2)],
    ids=["wide", "square", "narrow", "strong", "two classes", "weak"],
)
def test_equals_scikit_learn(samples, width, classes, l2, dtype):
    x, targets = clouds(samples + 40, width, classes)
    (head,) = fit_heads(x.to(dtype), targets, [torch.arange(samples)], classes, l2=l2, tolerance=1e-10)
    assert head.dtype == dtype
    # with two classes scikit-learn keeps the difference of the two columns, penalised as one
    reference = LogisticRegression(C=(1 if classes > 2 else 2) / l2, tol=1e-10, max_iter=20_000)
    reference.fit(x[:samples].double().numpy(), targets[:samples].numpy())
    probs = predict(x.to(dtype), head)
    np.testing.assert_allclose(probs.numpy(), reference.predict_proba(x.double().numpy()), atol=3e-4)
    columns = head.numpy() if classes > 2 else (head[:, 1:] - head[:, :1]).numpy()
    np.testing.assert_allclose(columns[:-1], reference.coef_.T, atol=3e-3 * np.abs(reference.coef_).max())
    np.testing.assert_allclose(columns[-1], reference.intercept_, atol=3e-3)


@pytest.mark.parametrize(("samples", "width"), [(30, 60), (200, 10)])
def test_the_gradient_vanishes(samples, width):
    x, targets = clouds(samples, width, 4)
    (head,) = fit_heads(x.double(), targets, [torch.arange(samples)], 4, l2=3.0, tolerance=1e-22)
    assert float(gradient(x, targets, head, 3.0).abs().max()) < 1e-8
    np.testing.assert_allclose(head[-1].sum(), 0, atol=1e-9)


def test_the_loss_is_within_the_tolerance():
    x, targets = clouds(100, 30, 5)
    everything = [torch.arange(100)]

    def loss(head: torch.Tensor) -> float:
        logits = x.double() @ head[:-1] + head[-1]
        return float(torch.nn.functional.cross_entropy(logits, targets) + 2.0 / 200 * head[:-1].square().sum())

    best, rough = (fit_heads(x.double(), targets, everything, 5, l2=2.0, tolerance=t)[0] for t in (1e-18, 1e-4))
    assert 0 < loss(rough) - loss(best) < 1e-4


def test_a_head_by_hand():
    # Two samples, -1 and 1, classes 0 and 1: the logits' difference d at x = 1 solves d = 4 / (1 + e^d) for l2 = 1.
    x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    (head,) = fit_heads(x, torch.tensor([0, 1]), [torch.tensor([0, 1])], 2, l2=1.0, tolerance=1e-15)
    d = float(head[0, 1] - head[0, 0])
    np.testing.assert_allclose(d, 4 / (1 + np.exp(d)), rtol=1e-6)
    np.testing.assert_allclose(head[-1], [0, 0], atol=1e-9)


def test_a_class_without_a_sample_is_never_predicted():
    x, targets = clouds(60, 80, 5)
    mine = torch.arange(60)[(targets != 1) & (targets != 4)]
    (head,) = fit_heads(x, targets, [mine], 5)
    probs = predict(x, head)
    assert probs[:, [1, 4]].abs().max() == 0
    reference = LogisticRegression(C=1 / (80 * L2_PER_FEATURE), tol=1e-10, max_iter=20_000)
    reference.fit(x[mine].double().numpy(), targets[mine].numpy())
    np.testing.assert_allclose(probs[:, [0, 2, 3]].numpy(), reference.predict_proba(x.double().numpy()), atol=3e-4)


@pytest.mark.parametrize("positions", [[3], [3, 8, 11]])
def test_one_class_alone_is_certain(positions):
    x, _ = clouds(20, 4, 3)
    targets = torch.full((20,), 2)
    (head,) = fit_heads(x, targets, [torch.tensor(positions)], 3)
    assert torch.equal(predict(x, head), torch.tensor([0.0, 0.0, 1.0]).expand(20, 3))


def test_a_sample_given_twice_counts_twice():
    x, targets = clouds(40, 60, 3)
    twice = torch.cat([x, x[:10]]), torch.cat([targets, targets[:10]])
    (rows,) = fit_heads(*twice, [torch.arange(50)], 3, l2=9.0)
    (positions,) = fit_heads(x, targets, [torch.cat([torch.arange(40), torch.arange(10)])], 3, l2=9.0)
    (once,) = fit_heads(x, targets, [torch.arange(40)], 3, l2=9.0)
    torch.testing.assert_close(predict(x, rows), predict(x, positions), atol=1e-4, rtol=0)
    assert (predict(x, rows) - predict(x, once)).abs().max() > 5e-3
    weights = np.where(np.arange(40) < 10, 2.0, 1.0)
    reference = LogisticRegression(C=1 / 9, tol=1e-10, max_iter=20_000).fit(
        x.double().numpy(), targets.numpy(), weights
    )
    np.testing.assert_allclose(predict(x, rows).numpy(), reference.predict_proba(x.double().numpy()), atol=3e-4)


def test_identical_rows_of_different_classes_share_their_probability():
    x = torch.ones(6, 9)
    (head,) = fit_heads(x, torch.tensor([0, 0, 0, 1, 1, 2]), [torch.arange(6)], 3)
    np.testing.assert_allclose(predict(x[:1], head)[0], [1 / 2, 1 / 3, 1 / 6], atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), others=st.integers(0, 4), width=st.sampled_from([5, 40]))
def test_company_and_order_change_no_bit(seed, others, width):
    x, targets = clouds(60, width, 4, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    cells = [torch.randperm(60, generator=generator)[: 3 + 10 * k] for k in range(others + 1)]
    alone = fit_heads(x, targets, cells[:1], 4)[0]
    shuffled = cells[0][torch.randperm(len(cells[0]), generator=generator)]
    together = fit_heads(x, targets, [*cells[1:], shuffled, cells[0]], 4)
    assert torch.equal(together[-1], alone)
    assert torch.equal(together[-2], alone)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    samples=st.integers(1, 40),
    width=st.integers(1, 30),
    classes=st.integers(2, 6),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
)
def test_the_mean_prediction_is_the_share_of_each_class(seed, samples, width, classes, scale):
    """What a free intercept means, whatever the scale, the samples and the classes."""
    x, targets = clouds(samples, width, classes, seed=seed)
    (head,) = fit_heads(scale * x, targets, [torch.arange(samples)], classes, l2=2.0 * scale)
    shares = torch.bincount(targets, minlength=classes) / samples
    torch.testing.assert_close(predict(scale * x, head).mean(0), shares, atol=1e-3, rtol=0)


def test_half_precision_is_computed_in_float32():
    x, targets = clouds(50, 70, 3)
    (half,) = fit_heads(x.half(), targets, [torch.arange(50)], 3)
    (same,) = fit_heads(x.half().float(), targets, [torch.arange(50)], 3)
    assert half.dtype == torch.float32
    assert torch.equal(half, same)
    torch.testing.assert_close(
        predict(x, half), predict(x, fit_heads(x, targets, [torch.arange(50)], 3)[0]), atol=1e-2, rtol=0
    )


def test_the_default_strength_keeps_predictions_when_columns_are_doubled():
    x, targets = clouds(60, 20, 3)
    (head,) = fit_heads(x, targets, [torch.arange(40)], 3)
    doubled = torch.cat([x, x], dim=1)
    (wide,) = fit_heads(doubled, targets, [torch.arange(40)], 3)
    torch.testing.assert_close(predict(doubled, wide), predict(x, head), atol=1e-4, rtol=0)


def test_other_columns_and_constant_shifts_of_the_logits():
    x, targets = clouds(50, 8, 3)
    (head,) = fit_heads(x.double(), targets, [torch.arange(50)], 3, tolerance=1e-16)
    (moved,) = fit_heads(x.double() + 5, targets, [torch.arange(50)], 3, tolerance=1e-16)
    # the intercept takes up a shift of all samples, as it is not penalised
    torch.testing.assert_close(predict(x.double() + 5, moved), predict(x.double(), head), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labeled": [torch.tensor([], dtype=torch.int64)]}, "at least one"),
        ({"labeled": [torch.tensor([0.5])]}, "positions"),
        ({"labeled": [torch.tensor([0, 20])]}, "from 0 to 19, but got 0 to 20"),
        ({"labeled": [torch.tensor([-1, 3])]}, "-1 to 3"),
        ({"targets": torch.full((20,), 3)}, "from 0 to 2, but got 3 at position 0"),
        ({"targets": torch.zeros(20)}, "class indices"),
        ({"targets": torch.zeros(19, dtype=torch.int64)}, "class indices"),
        ({"embeddings": torch.full((20, 4), torch.nan)}, "`embeddings` to be finite, but got nan at position 0"),
        ({"embeddings": torch.zeros(20)}, "embeddings"),
        ({"l2": 0.0}, "`l2` to be above 0, but got 0"),
    ],
)
def test_bad_input(change, message):
    x, targets = clouds(20, 4, 3)
    arguments = {"embeddings": x, "targets": targets, "labeled": [torch.arange(5)], "num_classes": 3} | change
    with pytest.raises(ValueError, match=message):
        fit_heads(**arguments)


def test_a_minimum_that_is_not_found_says_what_to_change(monkeypatch):
    monkeypatch.setattr("lightning_al.study.heads._MOST_STEPS", {torch.float32: 2, torch.float64: 3})
    x, targets = clouds(20, 40, 3)
    with pytest.raises(ArithmeticError, match=r"in 3 steps: .* Raise `l2`"):
        fit_heads(x, targets, [torch.arange(20)], 3)
