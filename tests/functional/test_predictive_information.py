"""EPIG against the joint distributions written out, and what it must hold."""

from __future__ import annotations

import importlib
import math

import pytest
import torch

from lightning_al.functional.committee import mutual_information
from lightning_al.functional.predictive_information import expected_predictive_information_gain
from tests._helpers.probes import LargestAllocation


def samples(rows: int, draws: int, classes: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(rows, draws, classes, generator=generator, dtype=torch.float64)).softmax(2)


def loop(probs: torch.Tensor, targets: torch.Tensor) -> list[float]:
    """The mean divergence of p(y, y*) from the product of its marginals, label by label."""
    scores = []
    for x in probs.double().tolist():
        total = 0.0
        for t in targets.double().tolist():
            classes = range(len(x[0]))
            joint = [[sum(a[i] * b[j] for a, b in zip(x, t, strict=True)) / len(x) for j in classes] for i in classes]
            rows, columns = [sum(row) for row in joint], [sum(column) for column in zip(*joint, strict=True)]
            total += sum(
                joint[i][j] * math.log(joint[i][j] / (rows[i] * columns[j]))
                for i in classes
                for j in classes
                if joint[i][j] > 0
            )
        scores.append(total / len(targets))
    return scores


@pytest.mark.parametrize(
    ("rows", "targets", "draws", "classes"), [(1, 1, 1, 1), (3, 2, 1, 4), (30, 7, 5, 3), (300, 40, 4, 2), (3, 2, 3, 60)]
)
def test_equals_the_loop(rows, targets, draws, classes):
    probs, wanted = samples(rows, draws, classes), samples(targets, draws, classes, seed=1)
    assert expected_predictive_information_gain(probs, wanted).tolist() == pytest.approx(loop(probs, wanted), abs=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float16, 1e-3), (torch.bfloat16, 1e-2)])
def test_keeps_the_dtype_and_sums_in_float32(dtype, tolerance):
    probs, wanted = samples(40, 6, 5).to(dtype), samples(20, 6, 5, seed=1)
    scores = expected_predictive_information_gain(probs, wanted.to(dtype))
    assert scores.dtype == dtype
    assert scores.tolist() == pytest.approx(loop(probs, wanted.to(dtype)), abs=tolerance)


def test_of_blocks_the_size_does_not_matter(monkeypatch):
    probs, wanted = samples(50, 4, 7), samples(30, 4, 7, seed=1)
    whole = expected_predictive_information_gain(probs, wanted)
    for elements in (1, 60, 1000):
        monkeypatch.setattr(
            importlib.import_module("lightning_al.functional.predictive_information"),
            "block_rows",
            lambda *_, size=elements: size,
        )
        torch.testing.assert_close(expected_predictive_information_gain(probs, wanted), whole, atol=1e-13, rtol=0)


def test_counts_only_what_bears_on_the_targets():
    """Four models: one bit of them decides the target's label, the other a label that does not matter."""
    one, zero = [1.0, 0.0], [0.0, 1.0]
    relevant, beside, both_unsure = [one, one, zero, zero], [one, zero, one, zero], [[0.5, 0.5]] * 4
    probs, target = torch.tensor([beside, relevant, both_unsure]), torch.tensor([relevant])
    assert expected_predictive_information_gain(probs, target).tolist() == pytest.approx([0, math.log(2), 0], abs=1e-6)
    assert mutual_information(probs).tolist() == pytest.approx([math.log(2), math.log(2), 0], abs=1e-6)


def test_never_exceeds_what_the_label_tells_of_the_model():
    probs = samples(200, 5, 4).float()
    scores = expected_predictive_information_gain(probs, samples(9, 5, 4, seed=1).float())
    assert (scores >= 0).all()
    assert (scores <= mutual_information(probs) + 1e-6).all()


def test_one_draw_tells_nothing():
    scores = expected_predictive_information_gain(samples(20, 1, 6).float(), samples(9, 1, 6, seed=1).float())
    assert scores.tolist() == pytest.approx([0.0] * 20, abs=1e-6)


def test_allocates_blocks_only():
    probs, wanted = samples(20_000, 10, 10).float(), samples(100, 10, 10, seed=1).float()
    with LargestAllocation() as largest:
        expected_predictive_information_gain(probs, wanted)
    assert largest.bytes <= max(wanted.nbytes, 2 * 4 * (1 << 19))


def test_wrong_inputs_are_refused():
    probs, wanted = samples(30, 4, 3).float(), samples(8, 4, 3, seed=1).float()
    with pytest.raises(ValueError, match="same 4 draws and 3 classes as `probs`, but got 2 and 3: one draw is"):
        expected_predictive_information_gain(probs, wanted[:, :2])
    with pytest.raises(ValueError, match="`target_probs` to hold at least one sample"):
        expected_predictive_information_gain(probs, wanted[:0])
    with pytest.raises(ValueError, match=r"`target_probs` to be of shape \(N, K, C\).*pass `target_probs\[:, None\]`"):
        expected_predictive_information_gain(probs, wanted[:, 0])
    with pytest.raises(ValueError, match=r"`target_probs` to be probabilities in \[0, 1\], but got .* at position 0"):
        expected_predictive_information_gain(probs, wanted - 0.5)
    wanted[5, 3, 1] = math.nan
    with pytest.raises(ValueError, match="`target_probs` to be finite, but got nan at position 5"):
        expected_predictive_information_gain(probs, wanted)
    probs[17, 0, 2] = math.inf
    with pytest.raises(ValueError, match="`probs` to be finite, but got inf at position 17"):
        expected_predictive_information_gain(probs, wanted)
    assert expected_predictive_information_gain(probs[:0], samples(8, 4, 3)).tolist() == []
