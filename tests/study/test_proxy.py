"""The proxy: what its fits tell, what its queries pick, and that neither depends on anything but the request."""

from __future__ import annotations

import pickle
from typing import ClassVar

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lightning_al.functional import badge, k_center_greedy
from lightning_al.strategies import BADGE, ALFAMix, CoreSet, DropQuery, KMeans, LeastConfidence, Margin, Random
from lightning_al.strategies.base import Needs, Outputs, QueryStrategy
from lightning_al.study.heads import L2_PER_FEATURE
from lightning_al.study.metrics import StudyMetrics
from lightning_al.study.proxy import SNAPSHOTS, ProxyFitter, check_strategies, standardize
from lightning_al.study.types import Request

CLASSES, WIDTH = 4, 12


def data(samples: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clouds whose columns have means and scales of their own."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(CLASSES, (samples,), generator=generator)
    means = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(9))
    x = means[targets] + torch.randn(samples, WIDTH, generator=generator)
    return 3 + x * torch.logspace(-2, 2, WIDTH), targets


PILOT, TARGETS = data(150, 0)
TEST, TEST_TARGETS = data(300, 1)
FREE = np.random.default_rng(0).permutation(150)


@pytest.fixture
def fitter() -> ProxyFitter:
    return ProxyFitter(PILOT, TARGETS, TEST, TEST_TARGETS, CLASSES, StudyMetrics(["accuracy", "auroc"]))


def reference(labeled: np.ndarray, l2: float = L2_PER_FEATURE * WIDTH) -> tuple[StandardScaler, LogisticRegression]:
    """scikit-learn's head on scikit-learn's standardised embeddings."""
    scaler = StandardScaler().fit(PILOT.double().numpy())
    head = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=10_000)
    return scaler, head.fit(scaler.transform(PILOT.double().numpy())[labeled], TARGETS.numpy()[labeled])


def test_metrics_are_those_of_scikit_learns_head(fitter):
    scaler, head = reference(FREE[:40])
    probs = head.predict_proba(scaler.transform(TEST.double().numpy()))
    (fit,) = fitter.fit_many([Request(FREE[:40], seed=0)])
    assert fit.metrics["accuracy"] == pytest.approx((probs.argmax(1) == TEST_TARGETS.numpy()).mean(), abs=0.004)
    expected = StudyMetrics(["auroc"]).compute(torch.from_numpy(probs), TEST_TARGETS)["auroc"]
    assert fit.metrics["auroc"] == pytest.approx(expected, abs=1e-4)
    assert fit.picked == fit.seconds_query == {}
    assert fit.observation is None
    assert fit.seconds_fit > 0
    assert fit.seconds_predict > 0
    assert fit.peak_memory_mb > 10


def test_strategies_pick_by_probabilities_and_standardised_embeddings(fitter):
    labeled = FREE[:40]
    scaler, head = reference(labeled)
    x = scaler.transform(PILOT.double().numpy())
    rest = np.sort(FREE[40:])
    probs = head.predict_proba(x[rest])
    queries = {"least": LeastConfidence(), "margin": Margin(), "core": CoreSet(), "badge": BADGE(), "random": Random()}
    (fit,) = fitter.fit_many([Request(labeled, 5, queries, query_size=7)])

    assert fit.picked["least"] == rest[np.argsort(probs.max(1))[:7]].tolist()
    top = np.sort(probs, axis=1)
    assert fit.picked["margin"] == rest[np.argsort(top[:, -1] - top[:, -2])[:7]].tolist()
    farthest = k_center_greedy(torch.from_numpy(x[rest]), 7, torch.from_numpy(x[labeled]))
    assert fit.picked["core"] == rest[farthest].tolist()
    generator = torch.Generator().manual_seed(5 * 1_000_003)
    spread = badge(torch.from_numpy(probs).float(), torch.from_numpy(x[rest]).float(), 7, generator)
    assert fit.picked["badge"] == rest[spread].tolist()
    assert sorted(fit.seconds_query) == sorted(queries)
    for picks in fit.picked.values():
        assert len(set(picks)) == 7
        assert not set(picks) & set(labeled.tolist())


def test_an_answer_depends_on_its_request_only(fitter):
    queries = {"KMeans": KMeans(), "Random": Random(), "BADGE": BADGE()}
    request = Request(FREE[:30], 3, queries, query_size=9, observe=True)
    others = [Request(FREE[:n], seed, {"Random": Random()}, query_size=4) for n, seed in ((20, 1), (30, 3), (60, 2))]
    torch.manual_seed(1)
    (alone,) = fitter.fit_many([request])
    fitter.fit_many(others)
    (*_, among) = pickle.loads(pickle.dumps(fitter)).fit_many([*others, request])
    (swapped,) = fitter.fit_many([Request(FREE[:30], 3, dict(reversed(queries.items())), 9)])
    assert alone.metrics == among.metrics == swapped.metrics
    assert alone.picked == among.picked == swapped.picked
    assert np.array_equal(alone.observation.confidence, among.observation.confidence)


def test_the_seed_moves_the_draw_and_not_the_fit(fitter):
    first, second, reordered = fitter.fit_many(
        [
            Request(mine, seed, {"Random": Random()}, 10)
            for mine, seed in ((FREE[:25], 1), (FREE[:25], 2), (FREE[24::-1], 1))
        ]
    )
    assert first.metrics == second.metrics == reordered.metrics
    assert first.picked == reordered.picked != second.picked


def test_arms_with_one_strategy_draw_alike(fitter):
    (fit,) = fitter.fit_many([Request(FREE[:25], 1, {"a": Random(), "b": Random()}, 10)])
    assert fit.picked["a"] == fit.picked["b"]


def test_a_query_ends_with_the_pilot(fitter):
    few, none = fitter.fit_many(
        [
            Request(FREE[:145], 0, {"margin": Margin()}, 20),
            Request(FREE, 0, {"margin": Margin(), "core": CoreSet()}, 20),
        ]
    )
    assert sorted(few.picked["margin"]) == sorted(FREE[145:].tolist())
    assert none.picked == {"margin": [], "core": []}


def test_the_callers_random_numbers_and_the_strategies_stay_as_they_are(fitter):
    class Careless(QueryStrategy):
        needs: ClassVar[Needs] = Needs(pool=frozenset({"probs"}))
        calls = 0

        def select(self, pool, query_size, *, labeled=None, generator=None):
            self.calls += 1
            return torch.randperm(len(pool))[:query_size]

    strategy, before = Careless(), torch.get_rng_state()
    fitter.fit_many([Request(FREE[:25], 1, {"a": strategy}, 10)])
    assert torch.equal(torch.get_rng_state(), before)
    assert strategy.calls == 0


def test_a_strategy_sees_what_it_asks_for_and_no_more(fitter):
    seen: dict[str, Outputs] = {}

    class Curious(QueryStrategy):
        needs: ClassVar[Needs] = Needs(pool=frozenset({"embeddings"}), labeled=frozenset({"probs"}))

        def select(self, pool, query_size, *, labeled=None, generator=None):
            seen.update(pool=pool, labeled=labeled)
            return torch.arange(query_size)

    (fit,) = fitter.fit_many([Request(FREE[:25], 1, {"a": Curious()}, 3)])
    assert fit.picked["a"] == np.sort(FREE[25:])[:3].tolist()
    assert seen["pool"].probs is None
    assert seen["labeled"].embeddings is None
    assert seen["labeled"].dataset_indices.tolist() == FREE[:25].tolist()
    np.testing.assert_allclose(
        seen["pool"].embeddings, StandardScaler().fit_transform(PILOT.double().numpy())[np.sort(FREE[25:])], atol=1e-4
    )
    scaler, head = reference(FREE[:25])
    expected = head.predict_proba(scaler.transform(PILOT.double().numpy()[FREE[:25]]))
    np.testing.assert_allclose(seen["labeled"].probs, expected, atol=1e-3)


def test_a_strategy_that_picks_twice_is_told_so(fitter):
    class Twice(QueryStrategy):
        needs: ClassVar[Needs] = Needs()

        def select(self, pool, query_size, *, labeled=None, generator=None):
            return torch.zeros(query_size, dtype=torch.int64)

    with pytest.raises(ValueError, match="3 different pool positions from 0 to 124, but got 3, of which 1"):
        fitter.fit_many([Request(FREE[:25], 1, {"a": Twice()}, 3)])


def test_an_observation_is_the_path_of_falling_penalty(fitter):
    (fit,) = fitter.fit_many([Request(np.arange(150), 0, observe=True)])
    seen = fit.observation
    x = StandardScaler().fit_transform(PILOT.double().numpy())
    np.testing.assert_allclose(seen.embeddings, x, atol=1e-4)
    assert seen.targets.tolist() == TARGETS.tolist()
    assert seen.confidence.shape == seen.correct.shape == (SNAPSHOTS, 150)
    for epoch in (0, 6, 9):
        _, head = reference(np.arange(150), L2_PER_FEATURE * WIDTH * 2 ** (9 - epoch))
        probs = head.predict_proba(x)
        np.testing.assert_allclose(seen.confidence[epoch], probs[np.arange(150), TARGETS], atol=1e-3)
        assert (seen.correct[epoch] == (probs.argmax(1) == TARGETS.numpy())).mean() > 0.98


def test_standardize_uses_the_pilot_alone():
    pilot = torch.tensor([[1.0, 0.1, -4.0], [3.0, 0.1, -4.0], [8.0, 0.1, 4.0]]).half()
    test = torch.tensor([[4.0, 5.1, 0.0]])
    ours = standardize(pilot, test)
    scaler = StandardScaler().fit(pilot.double().numpy())
    for mine, given in zip(ours, (pilot, test), strict=True):
        assert mine.dtype == torch.float32
        np.testing.assert_allclose(mine, scaler.transform(given.double().numpy()), atol=1e-5)


def test_a_constant_column_is_zero_whatever_rounding_does():
    # 1,000 times 0.1 in float32 has a mean beside 0.1
    (pilot,) = standardize(torch.cat([torch.full((1000, 1), 0.1), torch.arange(1000.0)[:, None]], dim=1))
    assert pilot[:, 0].abs().max() < 1e-6
    assert float(pilot[:, 1].std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_half_precision_embeddings(fitter):
    half = ProxyFitter(PILOT.half(), TARGETS, TEST.half(), TEST_TARGETS, CLASSES, StudyMetrics(["accuracy", "auroc"]))
    request = Request(FREE[:40], 0, {"badge": BADGE()}, 5)
    (exact,), (rounded,) = fitter.fit_many([request]), half.fit_many([request])
    assert rounded.metrics["auroc"] == pytest.approx(exact.metrics["auroc"], abs=5e-3)
    assert len(set(rounded.picked["badge"])) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pilot": torch.full((150, WIDTH), torch.inf)}, "`pilot` to be finite"),
        ({"test": torch.full((300, WIDTH), torch.nan)}, "`test` to be finite"),
        ({"test": TEST[:, :5]}, "pilot's 12 columns, but got 5"),
        ({"pilot_targets": TARGETS[:-1]}, "`pilot_targets` to be class indices"),
        ({"test_targets": TEST_TARGETS + 1}, "`test_targets` .* 0 to 3, but got 4"),
        ({"test": TEST[:0], "test_targets": TEST_TARGETS[:0]}, "`test` to hold at least one sample"),
        ({"l2": -1.0}, "`l2` to be above 0, but got -1"),
    ],
)
def test_bad_input(change, message):
    arguments = {
        "pilot": PILOT,
        "pilot_targets": TARGETS,
        "test": TEST,
        "test_targets": TEST_TARGETS,
        "num_classes": CLASSES,
        "metrics": StudyMetrics(["accuracy"]),
    }
    with pytest.raises(ValueError, match=message):
        ProxyFitter(**(arguments | change))


@pytest.mark.parametrize(
    "needs",
    [Needs(pool=frozenset({"samples"})), Needs(labeled=frozenset({"samples"})), Needs(target=frozenset({"samples"}))],
)
def test_a_strategy_that_needs_more_is_refused(needs):
    class Demanding(Random):
        pass

    Demanding.needs = needs
    check_strategies([Margin(), BADGE(), KMeans(), CoreSet(), Random()])
    with pytest.raises(MisconfigurationException, match=r"Demanding reads several draws.*mode='full'"):
        check_strategies([Margin(), Demanding()])


class Reader(QueryStrategy):
    """Reads all that a proxy has; its picks tell whether it fits together, and it counts its queries."""

    needs = Needs(
        pool=frozenset({"probs", "embeddings", "head"}),
        labeled=frozenset({"targets", "probs"}),
        target=frozenset({"embeddings"}),
    )

    def __init__(self, queries=0):
        self.queries = queries

    def state_dict(self):
        return {"queries": self.queries}

    def select(self, pool, query_size, *, labeled=None, generator=None, target=None):
        torch.testing.assert_close(pool.head(pool.embeddings).softmax(-1), pool.probs)
        assert torch.equal(target.embeddings, pool.embeddings)  # fewer than a thousand: all of them
        self.queries += 1
        return torch.tensor([int(labeled.targets.sum()), len(labeled)])


def test_a_strategy_may_read_the_head_labels_and_a_target_set(fitter):
    (fit,) = fitter.fit_many([Request(FREE[:40], 0, {"reader": Reader(3)}, 2)])
    rest = [i for i in range(len(PILOT)) if i not in FREE[:40].tolist()]
    assert fit.picked["reader"] == [rest[int(TARGETS[FREE[:40]].sum())], rest[40]]
    assert fit.states == {"reader": {"queries": 4}}


class Seeker(QueryStrategy):
    """Picks what is nearest to the first sample wanted."""

    needs = Needs(pool=frozenset({"embeddings"}), target=frozenset({"probs", "embeddings"}))

    def select(self, pool, query_size, *, labeled=None, generator=None, target=None):
        assert (len(target), target.probs.shape) == (3, (3, CLASSES))
        torch.testing.assert_close(target.probs.sum(1), torch.ones(3))
        assert target.dataset_indices.tolist() == [0, 1, 2]
        return torch.cdist(target.embeddings[:1], pool.embeddings)[0].topk(query_size, largest=False).indices


def test_the_samples_wanted_are_seen_as_the_pilot_is():
    metrics = StudyMetrics(["accuracy"])
    chosen = FREE[[50, 60, 70]].tolist()
    fitter = ProxyFitter(PILOT, TARGETS, TEST, TEST_TARGETS, CLASSES, metrics, wanted=PILOT[chosen])
    (fit,) = fitter.fit_many([Request(FREE[:40], 0, {"seeker": Seeker()}, 1)])
    assert fit.picked["seeker"] == chosen[:1]
    with pytest.raises(ValueError, match=f"`wanted` to have the pilot's {PILOT.shape[1]} columns, but got 1"):
        ProxyFitter(PILOT, TARGETS, TEST, TEST_TARGETS, CLASSES, metrics, wanted=PILOT[:, :1])


def test_strategies_that_run_the_head_work_before_every_class_has_a_label(fitter):
    few = np.array([i for i in FREE if int(TARGETS[i]) != 2][:12])
    request = Request(few, 0, {"drop": DropQuery(), "mix": ALFAMix()}, 5)
    (fit,) = fitter.fit_many([request])
    for picks in fit.picked.values():
        assert len(set(picks) - set(few.tolist())) == 5
