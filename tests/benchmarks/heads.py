"""How fast and how exact are a proxy's heads? Every fit of a study, beside scikit-learn's on the same samples.

    python tests/benchmarks/heads.py
    python tests/benchmarks/heads.py --data PATH/plant_seedlings_v2_effnetlite0_224.npz

A whole proxy study is run first, in one process on one thread: the random design (5 buckets, five shares, 3 seeds), the
simulation (random and four strategies, 10 replicates, 60 to 600 labels by 60) and a fit on the whole pilot for each
replicate, the first of them observed. Then each different set of samples is fitted again, alone, and by scikit-learn's
LogisticRegression on the same float32 features, with the same penalty and its default tolerance. Without a file the
features are made up.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_al.strategies import BADGE, KMeans, LeastConfidence, Margin, Random
from lightning_al.study.heads import L2_PER_FEATURE, fit_heads, predict
from lightning_al.study.metrics import StudyMetrics
from lightning_al.study.proxy import ProxyFitter
from lightning_al.study.types import Fit, Request

ARMS = {
    "random": Random(),
    "LeastConfidence": LeastConfidence(),
    "Margin": Margin(),
    "BADGE": BADGE(),
    "KMeans": KMeans(),
}
Data = tuple[Tensor, Tensor, Tensor, Tensor]


def read(path: Path) -> Data:
    """Pilot and test set of an npz file with embeddings, labels and split."""
    file = np.load(path, allow_pickle=False)
    embeddings, labels = torch.from_numpy(file["embeddings"]), torch.from_numpy(file["labels"])
    held_out = torch.from_numpy(file["split"] == 1)
    return embeddings[~held_out], labels[~held_out], embeddings[held_out], labels[held_out]


def made_up() -> Data:
    """As many samples, features and classes as the seedlings have, of clouds that overlap."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(12, (5539,), generator=generator)
    low = torch.randn(12, 60, generator=generator)[labels] + 3 * torch.randn(5539, 60, generator=generator)
    embeddings = low @ torch.randn(60, 1280, generator=generator) / 8 + torch.randn(5539, 1280, generator=generator)
    return embeddings[:3872], labels[:3872], embeddings[3872:], labels[3872:]


def study(fitter: ProxyFitter, replicates: int) -> Iterator[tuple[str, Request, Fit]]:
    """Ask for every fit of a study."""

    def ask(part: str, requests: Iterable[Request]) -> Iterator[tuple[str, Request, Fit]]:
        requests = list(requests)
        yield from ((part, request, fit) for request, fit in zip(requests, fitter.fit_many(requests), strict=True))

    size = len(fitter.pilot)
    buckets = np.array_split(np.random.default_rng(0).permutation(size), 5)
    for share in (0.2, 0.4, 0.6, 0.8, 1.0):
        parts = [bucket[: round(share * len(bucket))] for bucket in buckets]
        yield from ask("design", (Request(part, seed) for part in parts for seed in range(3)))
    for replicate in range(replicates):
        initial = np.random.default_rng([1, replicate]).permutation(size)[:60]
        labeled = dict.fromkeys(ARMS, initial)
        for step in range(10):
            requests = [Request(labeled[arm], replicate * 100 + step, {arm: ARMS[arm]}, 60) for arm in ARMS]
            for arm, made in zip(ARMS, ask("simulation", requests), strict=True):
                labeled[arm] = np.concatenate([labeled[arm], made[2].picked[arm]])
                yield made
    for replicate in range(replicates):
        yield from ask("whole pilot", [Request(np.arange(size), replicate, observe=replicate == 0)])


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """A result and the CPU seconds it took."""
    began = time.process_time()
    return work(), time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="npz file with embeddings (N, D), labels (N,) and split (1: test)")
    parser.add_argument("--replicates", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = read(arguments.data) if arguments.data else made_up()
    classes = 1 + int(data[1].max())

    began, cpu = time.perf_counter(), time.process_time()
    fitter = ProxyFitter(*data, classes, StudyMetrics())
    fits = list(study(fitter, arguments.replicates))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    # resident, the interpreter and its libraries included
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    queries: dict[str, float] = defaultdict(float)
    for _, _, fit in fits:
        for arm, spent in fit.seconds_query.items():
            queries[arm] += spent
    print(
        f"{len(fits)} fits of a study on {len(fitter.pilot):,} x {fitter.pilot.shape[1]:,} embeddings, "
        f"{classes} classes"
    )
    print(f"one thread: {seconds:.1f} s, of them CPU {cpu:.1f} s; most memory {memory:,.0f} MB")
    print(f"  fits {sum(fit.seconds_fit for *_, fit in fits):6.1f} s")
    print(f"  tests {sum(fit.seconds_predict for *_, fit in fits):5.1f} s")
    print("  queries " + ", ".join(f"{arm} {spent:.1f} s" for arm, spent in queries.items()))

    compare(fitter, fits, classes)
    levels(fitter, classes)


def compare(fitter: ProxyFitter, fits: list[tuple[str, Request, Fit]], classes: int) -> None:
    """Print a table: our heads and scikit-learn's on the same samples, each different set once."""
    from sklearn.linear_model import LogisticRegression

    test, truth = fitter.test.numpy(), fitter.test_targets.numpy()
    strength = 1 / (L2_PER_FEATURE * fitter.pilot.shape[1])
    sets: dict[bytes, tuple[str, Any]] = {}
    asked: dict[str, float] = defaultdict(float)
    rows: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    repeats = defaultdict(int)
    for part, request, _ in fits:
        sets.setdefault(np.sort(request.labeled).tobytes(), (part, np.sort(request.labeled)))
        repeats[np.sort(request.labeled).tobytes()] += 1
    for key, (part, positions) in sets.items():
        ours, seconds = timed(
            lambda: fit_heads(fitter.pilot, fitter.pilot_targets, [torch.from_numpy(positions)], classes)[0]  # noqa: B023 - called at once
        )
        x, y = fitter.pilot[positions].numpy(), fitter.pilot_targets[positions].numpy()
        theirs, their_seconds = timed(lambda: LogisticRegression(C=strength, max_iter=1000).fit(x, y))  # noqa: B023 - called at once
        probs = predict(fitter.test, ours).numpy()
        gap = np.abs(probs[:, theirs.classes_] - theirs.predict_proba(test)).max()
        difference = 100 * ((probs.argmax(1) == truth).mean() - (theirs.predict(test) == truth).mean())
        rows[part].append((seconds, their_seconds, difference, gap))
        asked[part] += repeats[key] * their_seconds
    everything = [row for values in rows.values() for row in values]
    print("\nCPU seconds, each different set of samples once")
    print("part          sets     ours  scikit-learn  ratio  mean accuracy difference  largest of a probability")
    for part, values in [*rows.items(), ("all", everything)]:
        own, their, difference, gap = np.array(values).T
        print(
            f"{part:12s} {len(values):5d} {own.sum():8.2f} {their.sum():13.2f} {their.sum() / own.sum():6.1f} "
            f"{difference.mean():+18.3f} points {gap.max():25.4f}"
        )
    ratio = sum(asked.values()) / sum(row[0] for row in everything)
    print(f"all {len(fits)} fits of the study, where equal sets are solved once: {ratio:.1f} times faster")


def levels(fitter: ProxyFitter, classes: int) -> None:
    """Print the accuracy at some numbers of random labels, mean of three draws."""
    print("\naccuracy at random labels, mean of 3 draws")
    for n in (100, 200, 500, 1000, 2000, len(fitter.pilot)):
        draws = [
            torch.randperm(len(fitter.pilot), generator=torch.Generator().manual_seed(seed))[:n] for seed in range(3)
        ]
        heads = fit_heads(fitter.pilot, fitter.pilot_targets, draws if n < len(fitter.pilot) else draws[:1], classes)
        accuracy = [(predict(fitter.test, head).argmax(1) == fitter.test_targets).float().mean() for head in heads]
        print(f"{n:6,d} {float(torch.stack(accuracy).mean()):.3f}")


if __name__ == "__main__":
    main()
