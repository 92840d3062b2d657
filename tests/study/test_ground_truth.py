"""Problems whose right verdict is known: the study's answer to each, from its curves to the flags."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_al.strategies import Random, get_strategy
from lightning_al.study.comparison import compare_arms
from lightning_al.study.curves import read_curves, read_whole
from lightning_al.study.variance import decompose
from lightning_al.study.verdict import decide
from tests._helpers import simulated_curves as simulated
from tests._helpers.ground_truth import (
    CASES,
    Case,
    Data,
    FloatArray,
    curve_table,
    fit_heads,
    fit_whole,
    make_data,
    nested_design,
    simulate,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_verdict_is_the_right_one(case: Case) -> None:
    data = make_data(case.name, seed=0)
    arms = {"random": Random()} | {name: get_strategy(name) for name in case.arms}
    design = nested_design(case, data, seed=0)
    replicates = range(6)  # the fewest that an exact test can do with; the calibration has 10
    whole_fits = fit_whole(case, data, 0, replicates)
    table = curve_table(simulate(case, data, 0, arms, replicates), whole_fits, design)
    curves = read_curves(table, "accuracy")
    whole = read_whole(table, curves)
    assert whole is not None
    assert whole[0] == 4000
    verdict = decide(compare_arms(curves, delta=0.5, saving=0.1, whole=whole[1]), decompose(100 * design))
    assert verdict.verdict in case.verdicts
    assert case.flag is None or case.flag in verdict.flags
    assert "unpaired_start" not in verdict.flags


def naive_fit(data: Data, labeled: list[int], key: tuple[int, ...], corruption: float) -> FloatArray:
    """Test probabilities of the same model, one sample after the other, in float64."""
    rng = np.random.default_rng(key)
    frequencies, phases = rng.normal(0, 0.25, (150, 20)), rng.uniform(0, 2 * np.pi, (150, 1))[:, 0]
    targets = data.targets.numpy()[labeled]
    corrupt = rng.random(len(labeled)) < corruption * rng.random()
    other = rng.choice(10, len(labeled))
    targets = [int(new if swap else old) for new, old, swap in zip(other, targets, corrupt, strict=True)]

    def features(point: FloatArray) -> FloatArray:
        waves = np.cos(frequencies @ point + phases) * np.sqrt(2 / 150)
        return np.array([*waves, *(point / np.sqrt(20) / 2), 1.0])

    def softmax(logits: FloatArray) -> FloatArray:
        return np.asarray(np.exp(logits) / np.exp(logits).sum())

    rows = [features(point) for point in data.points.double().numpy()[labeled]]
    weights, velocity = np.zeros((171, 10)), np.zeros((171, 10))
    for _ in range(60):
        gradient = 1e-4 * weights
        for row, target in zip(rows, targets, strict=True):
            gradient += np.outer(row, softmax(row @ weights) - np.eye(10)[target]) / len(rows)
        velocity = 0.9 * velocity + gradient
        weights = weights - 1.2 * velocity
    return np.array([softmax(features(point) @ weights) for point in data.test_points.double().numpy()])


@pytest.mark.parametrize("corruption", [0.0, 0.6])
def test_batched_fits_equal_a_naive_one(corruption: float) -> None:
    data = make_data("training_noise", seed=1)
    chosen = torch.arange(5 * 700).reshape(5, 700)[:, :30]
    keys = [(3, 1, i) for i in range(5)]
    heads = fit_heads(data.points[chosen], data.targets[chosen], keys, corruption)
    for i in (0, 4):
        expected = naive_fit(data, chosen[i].tolist(), keys[i], corruption)
        np.testing.assert_allclose(heads[i].probs(data.test_points).numpy(), expected, atol=2e-4)
        right = (expected.argmax(1) == data.test_targets.numpy()).mean()
        assert heads[i].accuracy(data) == pytest.approx(right, abs=1e-3)  # two near ties of 2,000 at most


def test_a_replicate_is_paired_and_stands_alone() -> None:
    case, data = CASES[0], make_data("rare", seed=2)
    arms = {"random": Random(), "Margin": get_strategy("Margin"), "disguise": Random()}
    three = simulate(case, data, 2, arms, range(3))
    alone = simulate(case, data, 2, arms, [1])
    for arm in arms:
        np.testing.assert_array_equal(three[arm][:, 0], three["random"][:, 0])
        np.testing.assert_allclose(three[arm][1], alone[arm][0], atol=0.01)  # another batch rounds differently
    assert (three["disguise"][:, 1:] != three["random"][:, 1:]).any(axis=1).all()
    assert len({*three["random"][:, 0]}) == 3


def test_the_cases_are_made_as_described() -> None:
    rare, junk = make_data("rare", seed=0), make_data("junk", seed=0)
    assert (rare.targets < 2).double().mean() == pytest.approx(0.84, abs=0.02)
    assert (rare.test_targets < 2).double().mean() == pytest.approx(0.2, abs=0.03)
    for klass, spread in ((0, 0.3), (5, 1.0)):
        assert rare.points[rare.targets == klass].std(0).mean() == pytest.approx(spread, abs=0.1)
    centred = junk.points.norm(dim=1) < 2.4  # noise of SD .35 in 20 dimensions has length 1.6 -+ .25; the means 3
    assert centred.double().mean() == pytest.approx(0.35, abs=0.02)
    assert (junk.test_points.norm(dim=1) < 2.4).double().mean() < 0.02


def test_drawn_curves_have_the_means_and_spread_they_are_drawn_with() -> None:
    rng = np.random.default_rng(0)
    shape = simulated.Shape(asymptote=0.2, reach=0.3, speed=0.5)
    lift = shape.faster(2)
    curves = simulated.draw_curves(rng, simulated.LAWS[0], shape, 4000, [lift], sd=0.8)
    gains = curves.values["arm_1"] - curves.values["random"]
    assert (gains[:, 0] == 0).all()
    np.testing.assert_allclose(gains.mean(0), lift, atol=0.1)
    areas = np.trapezoid(gains, simulated.LABELS) / 480
    assert areas.mean() == pytest.approx(np.trapezoid(lift, simulated.LABELS) / 480, abs=0.05)
    assert areas.std() == pytest.approx(0.8, abs=0.03)


def test_true_savings_and_rooms_are_those_of_the_mean_curves() -> None:
    # 40 + 0.05 (n - 60): no power law, but its saving is plain
    class Line(simulated.Shape):
        def at(self, labels: FloatArray | float) -> FloatArray:
            return 40 + 0.05 * (np.asarray(labels) - 60)

    line = Line(0, 0, 0)
    # random ends at 64 and reaches 63 at 520; twice as fast, 63 is reached at 290
    assert simulated.true_saving(line, line.faster(2), delta=1.0) == pytest.approx(1 - 290 / 520)
    # the whole pilot's 237 is above both ends; random's mean height is 52
    assert simulated.true_room(line, [line.faster(2)]) == pytest.approx(237 - 52)
    # were the best arm's end above it, room would be up to there
    assert simulated.true_room(line, [np.full(9, 200.0)]) == pytest.approx(264 - 52)
