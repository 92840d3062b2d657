"""Every registered strategy against Random: linear heads on frozen features, paired by seed, with few and many labels.

    python tests/benchmarks/all_strategies.py --data_dir PATH --output all_strategies
    python tests/benchmarks/all_strategies.py --data_dir PATH --output all_strategies --strategies Margin NewOne

The arms of a seed start from the same labels, and a head is the optimum of a convex problem: what differs is the
queries. Strategies that read draws of a model get an ensemble of heads on bootstrap resamples of the labeled set. A
finished curve is appended to the strategy's CSV in the output folder; a second call goes on from there, adds the
strategies it names, and makes tables and figures of everything in the folder.
"""

from __future__ import annotations

import argparse
import copy
import csv
import dataclasses
import re
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lightning_al import strategies as registered
from lightning_al.durable import replacing
from lightning_al.strategies import QueryStrategy, get_strategy
from lightning_al.strategies.base import Outputs
from lightning_al.study.compare import LEAST_WORTHWHILE
from lightning_al.study.comparison import Comparison, compare_arms
from lightning_al.study.curves import read_curves
from lightning_al.study.drawing import BLUE, GRID, INK, MUTED, VERMILLION, limits, name_rows
from lightning_al.study.heads import fit_heads, predict
from lightning_al.study.metrics import StudyMetrics
from lightning_al.study.proxy import ProxyFitter
from lightning_al.study.sign_flip import t_interval
from lightning_al.study.types import Request

BUDGETS = {"low": (24, 24, 120), "high": (200, 100, 1000)}
"""Initial labels, labels a query, labels in all."""
OTHERWISE: dict[str, Sequence[tuple[str, dict[str, Any]]]] = {
    "Stochastic": [(f"Stochastic({inner})", {"strategy": inner}) for inner in ("Margin", "BALD")],
    "ExcludeOutliers": [(f"ExcludeOutliers({inner})", {"strategy": inner}) for inner in ("Margin", "CoreSet")],
}
"""Wrappers over other strategies than their default; every other class is taken with its default arguments."""
DRAWS, TOLERANCE = 5, 1e-4
"""Heads of an ensemble, and how far above its minimum the loss of each may stay, in nats a sample."""
COLUMNS = ("budget", "arm", "replicate", "labels", "accuracy", "seconds_fit", "seconds_query")
Row = dict[str, Any]


class EnsembleFitter(ProxyFitter):
    """A proxy that gives strategies the draws they read: heads on bootstrap resamples of the labeled set."""

    _ensemble: Tensor | None = None

    def _query(self, request: Request, head: Tensor) -> Any:
        needs = frozenset().union(*(each.needs.pool | each.needs.target for each in request.queries.values()))
        if "samples" in needs:  # before the query's time is taken: another model would have its draws from dropout
            rng, size = np.random.default_rng(request.seed), len(request.labeled)
            resampled = [torch.from_numpy(request.labeled[rng.integers(size, size=size)]) for _ in range(DRAWS)]
            self._ensemble = fit_heads(
                self.pilot, self.pilot_targets, resampled, self.num_classes, l2=self.l2, tolerance=TOLERANCE
            )
        return super()._query(request, head)

    def _outputs(self, positions: Tensor, head: Tensor, needs: frozenset[str]) -> Outputs:
        outputs = super()._outputs(positions, head, needs)
        if "samples" not in needs:
            return outputs
        assert self._ensemble is not None
        mine = self.pilot[positions]
        return dataclasses.replace(outputs, samples=torch.stack([predict(mine, each) for each in self._ensemble], 1))


def read_fitter(data_dir: Path) -> EnsembleFitter:
    """The training photos are the pool; the test part is that of the seedlings' example."""
    with np.load(data_dir / "plant_seedlings_v2_effnetlite0_224.npz", allow_pickle=False) as file:
        features, labels, split = (torch.from_numpy(file[name]) for name in ("embeddings", "labels", "split"))
    pool, held_out = (split == 0).nonzero()[:, 0], (split == 1).nonzero()[:, 0]
    test = held_out[torch.arange(len(held_out)) % 5 != 0]
    parts = features[pool].float(), labels[pool], features[test].float(), labels[test]
    return EnsembleFitter(*parts, int(labels.max()) + 1, StudyMetrics(["accuracy"]))


def find_arms(names: Sequence[str] | None) -> dict[str, QueryStrategy]:
    """The strategies by the name they are shown under; those that read draws of a model last, as they are slow."""
    arms: dict[str, QueryStrategy] = {"random": get_strategy("Random")}
    for name in registered.__all__:
        if name in OTHERWISE:
            arms |= {label: getattr(registered, name)(**given) for label, given in OTHERWISE[name]}
        elif name != "Random":
            strategy = get_strategy(name)
            arms[strategy.name] = strategy
    arms = dict(sorted(arms.items(), key=lambda arm: "samples" in arm[1].needs.pool))
    if names is None:
        return arms
    unknown = [name for name in names if name not in arms]
    if unknown:
        raise SystemExit(f"Expected `--strategies` of {sorted(arms)}, but got {unknown}.")
    return {name: arms[name] for name in dict.fromkeys(["random", *names])}


def run_cell(
    fitter: ProxyFitter, budget: str, arm: str, strategy: QueryStrategy, seed: int, seconds: float
) -> list[Row]:
    """One curve: what the strategy remembers goes from query to query, as in a run.

    Raises:
        TimeoutError: It took longer than ``seconds``.
    """
    (initial, size, most), began = BUDGETS[budget], time.monotonic()
    labeled = np.random.default_rng([seed, initial]).permutation(len(fitter.pilot))[:initial]
    strategy, rows = copy.deepcopy(strategy), []
    while True:
        queries = {arm: strategy} if len(labeled) < most else {}
        (fit,) = fitter.fit_many([Request(labeled, 10_000 * seed + len(labeled), queries, size)])
        spent = [fit.seconds_fit, fit.seconds_query.get(arm, np.nan)]
        cells = budget, arm, seed, len(labeled), fit.metrics["accuracy"], *(float(f"{each:.3g}") for each in spent)
        rows.append(dict(zip(COLUMNS, cells, strict=True)))
        if not queries:
            return rows
        if (passed := time.monotonic() - began) > seconds:
            raise TimeoutError(f"too slow: {passed:.0f} s for the queries of one seed up to {len(labeled)} labels")
        labeled = np.concatenate([labeled, np.array(fit.picked[arm], np.int64)])
        if arm in fit.states:
            strategy.load_state_dict(fit.states[arm])


class Store:
    """The finished curves, a CSV file a strategy, and the reasons why some are not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "cells").mkdir(parents=True, exist_ok=True)
        self.rows: list[Row] = []
        for path in sorted((folder / "cells").glob("*.csv")):
            with path.open(newline="") as file:
                self.rows += [{**row, "replicate": int(row["replicate"])} for row in csv.DictReader(file)]
        # A killed run may leave part of a curve: it is left aside, and made again.
        self.done = {
            (row["budget"], row["arm"], row["replicate"])
            for row in self.rows
            if int(row["labels"]) == BUDGETS[row["budget"]][2]
        }
        self.left_out: dict[tuple[str, str], str] = {}
        if (folder / "left_out.csv").exists():
            with (folder / "left_out.csv").open(newline="") as file:
                self.left_out = {(budget, arm): reason for budget, arm, reason in csv.reader(file)}

    def add(self, rows: list[Row]) -> None:
        path = self.folder / "cells" / f"{re.sub('[^A-Za-z0-9]+', '-', rows[0]['arm']).strip('-')}.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if new:
                writer.writeheader()
            writer.writerows(rows)
        self.rows += rows
        self.done.add((rows[0]["budget"], rows[0]["arm"], rows[0]["replicate"]))

    def leave_out(self, budget: str, arm: str, reason: str | None) -> None:
        """Note why an arm is not there; None takes the note away."""
        self.left_out.pop((budget, arm), None)
        if reason is not None:
            self.left_out[budget, arm] = reason
        with replacing(self.folder / "left_out.csv") as path, path.open("w", newline="") as file:
            csv.writer(file).writerows([*key, why] for key, why in self.left_out.items())

    def finished(self, budget: str, seeds: int) -> tuple[list[Row], list[str]]:
        """The rows of the arms that have every seed, and sentences on those that have not."""
        arms = dict.fromkeys(arm for each, arm, _ in sorted(self.done) if each == budget)
        counts = {arm: sum((budget, arm, seed) in self.done for seed in range(seeds)) for arm in arms}
        unique = {
            (row["arm"], row["replicate"], int(row["labels"])): row for row in self.rows if row["budget"] == budget
        }
        rows = [
            {**row, "labels": n}
            for (arm, seed, n), row in sorted(unique.items(), key=lambda item: item[0])
            if counts.get(arm) == seeds and seed < seeds
        ]
        notes = [f"{arm}: {why}" for (each, arm), why in self.left_out.items() if each == budget]
        return rows, notes + [f"{arm}: {n} of {seeds} seeds so far" for arm, n in counts.items() if n < seeds]


def run(fitter: ProxyFitter, arms: Mapping[str, QueryStrategy], store: Store, args: argparse.Namespace) -> None:
    """Make the curves that are not there, one seed of all arms after the other."""
    budgets = list(BUDGETS) if args.budget == "both" else [args.budget]
    for budget in budgets:
        for arm in args.strategies or ():
            store.leave_out(budget, arm, None)  # named: tried again
    waiting = [
        (budget, arm, seed)
        for seed in range(args.seeds)
        for budget in budgets
        for arm in arms
        if (budget, arm, seed) not in store.done and (budget, arm) not in store.left_out
    ]
    began = time.monotonic()
    for number, (budget, arm, seed) in enumerate(waiting):
        if (budget, arm) in store.left_out:
            continue
        try:
            store.add(run_cell(fitter, budget, arm, arms[arm], seed, args.limit / args.seeds))
        except Exception as error:  # one strategy's failure is a line of the table, not the end of the others
            store.leave_out(budget, arm, f"{type(error).__name__}: {error}")
            traceback.print_exc()
        left = (time.monotonic() - began) / (number + 1) * (len(waiting) - number - 1)
        print(f"{number + 1} of {len(waiting)}, {left / 60:.0f} min left: {budget}, {arm}, seed {seed}", flush=True)


@dataclasses.dataclass(frozen=True)
class Line:
    """An arm at a budget: gain in points of area over Random, and seconds a query."""

    gain: float
    together: tuple[float, float]  # 95 %, for all arms at once
    alone: tuple[float, float]  # 95 % t interval
    seconds: float

    @property
    def color(self) -> str:
        return BLUE if self.together[0] > 0 else VERMILLION if self.together[1] < 0 else MUTED

    def __str__(self) -> str:
        low, high = self.together
        return f"{self.gain:+.2f} [{low:+.2f}, {high:+.2f}] | [{self.alone[0]:+.2f}, {self.alone[1]:+.2f}]"


def compare(rows: list[Row]) -> tuple[Comparison, dict[str, Line]]:
    """The package's own comparison, and a line an arm."""
    compared = compare_arms(read_curves(rows, "accuracy"), delta=LEAST_WORTHWHILE, saving=0.1)
    lines = {}
    for arm in compared.arms:
        seconds = [float(row["seconds_query"]) for row in rows if row["arm"] == arm.name]
        alone = t_interval(compared.area[arm.name] - compared.area["random"])
        lines[arm.name] = Line(arm.delta, (arm.low, arm.high), alone, float(np.nanmean(seconds)))
    return compared, lines


def tell(store: Store, seeds: int) -> None:
    """Write and print the tables, and draw the figures of all arms that have every seed."""
    compared, lines = {}, {}
    with (store.folder / "curves.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for budget in BUDGETS:
            rows, notes = store.finished(budget, seeds)
            writer.writerows(rows)
            print(f"\n{budget} budget; not there: {'; '.join(notes) or 'none'}")
            if {row["arm"] for row in rows} > {"random"}:
                compared[budget], lines[budget] = compare(rows)
    for budget, arms in lines.items():
        random = compared[budget].curves.values["random"].mean(axis=0)
        labels = " to ".join(f"{n:g}" for n in compared[budget].curves.labels[[0, -1]])
        print(f"\n{budget} budget, {labels} labels, {seeds} seeds; random: {random[0]:.1f} to {random[-1]:.1f}\n")
        print("| strategy | over Random, 95 % for all at once | 95 % t interval | seconds a query |")
        print("| --- | --- | --- | --- |")
        for name, line in sorted(arms.items(), key=lambda item: -item[1].gain):
            print(f"| {name} | {line} | {line.seconds:.2f} |")
    if lines:
        draw_forest(lines, store.folder / "strategies_forest.png", seeds)
        draw_penalties(list(compared.values()), store.folder / "strategies_penalty.png")


def draw_forest(lines: Mapping[str, Mapping[str, Line]], path: Path, seeds: int) -> None:
    """Gains with both intervals, a panel a budget, in the order of the mean gain."""
    gains: dict[str, list[float]] = {}
    for arms in lines.values():
        for name, line in arms.items():
            gains.setdefault(name, []).append(line.gain)
    names = sorted(gains, key=lambda name: -float(np.mean(gains[name])))
    figure = Figure(figsize=(8.6, 1.3 + 0.21 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(lines), sharey=True, squeeze=False)[0]
    for axes, (budget, arms) in zip(panels, lines.items(), strict=True):
        name_rows(axes, names)
        # With few seeds the interval for all at once is many times as wide: what passes the panel's edge is cut.
        axes.set_xlim(*limits([0.0, *(end for line in arms.values() for end in line.alone)]))
        axes.axvline(0, color=INK, linewidth=1)
        for row, line in ((names.index(name), line) for name, line in arms.items()):
            axes.plot(line.together, [row, row], color=line.color, linewidth=1)
            axes.plot(line.alone, [row, row], color=line.color, linewidth=3, solid_capstyle="butt")
            axes.plot(line.gain, row, "o", color=line.color, markersize=5, markeredgecolor="white")
        initial, size, most = BUDGETS[budget]
        axes.set_title(f"{budget} budget: {initial} to {most:,} labels by {size}", loc="left", size=9.5, color=INK)
        axes.set_xlabel("area over Random, points of accuracy", size=9, color=MUTED)
        axes.tick_params(labelsize=8.5, color=GRID)
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
    figure.suptitle(
        f"Seedlings, linear heads on frozen features, {seeds} paired seeds. Thick: 95 % t interval; thin: 95 % for all "
        "at once,\nblue where it is above Random, red where below", size=9, color=MUTED, x=0.01, ha="left",
    )  # fmt: skip
    figure.savefig(path, dpi=110)


def draw_penalties(compared: Sequence[Comparison], path: Path) -> None:
    """How often the row beats the column, the mean of the budgets; below, the mean of each column."""
    names = [name for name in compared[0].curves.arms if all(name in each.curves.arms for each in compared)]
    parts = []
    for each in compared:
        places = [each.curves.arms.index(name) for name in names]
        parts.append(each.penalty_matrix[np.ix_(places, places)])
    beaten = np.mean(parts, axis=0)
    order = np.argsort(beaten.mean(axis=0), kind="stable")
    shown = np.vstack([beaten[np.ix_(order, order)], beaten.mean(axis=0)[order]])
    inches = 2.6 + 0.17 * len(names)
    figure = Figure(figsize=(inches, inches), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(100 * shown, cmap="Blues", vmin=0, vmax=100)
    axes.axhline(len(names) - 0.5, color=INK, linewidth=1)
    labels = [names[place] for place in order]
    axes.set_xticks(range(len(names)), labels, rotation=90, size=8)
    axes.set_yticks(range(len(names) + 1), [*labels, "mean: how often beaten"], size=8)
    axes.tick_params(length=0)
    figure.suptitle(
        "Share of label counts (%) at which the row beats the column\n(paired t test, 5 %), mean of the budgets",
        size=9, color=MUTED, x=0.01, ha="left",
    )  # fmt: skip
    bar = figure.colorbar(image, shrink=0.4)
    bar.ax.tick_params(labelsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="folder of the seedlings' npz files")
    parser.add_argument("--seeds", type=int, default=10, help="default: 10")
    parser.add_argument("--budget", choices=[*BUDGETS, "both"], default="both")
    parser.add_argument("--output", type=Path, default=Path("outputs/all_strategies"), help="default: %(default)s")
    parser.add_argument("--strategies", nargs="+", help="default: all; those named are tried again where they failed")
    parser.add_argument("--limit", type=float, default=300, help="seconds of all seeds at a budget (default: 300)")
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error(f"expected `--seeds` of at least 2, as one has no interval, but got {args.seeds}")
    torch.set_num_threads(1)
    store = Store(args.output)
    run(read_fitter(args.data_dir), find_arms(args.strategies), store, args)
    tell(store, args.seeds)


if __name__ == "__main__":
    main()
