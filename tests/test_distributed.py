"""Several processes pick what one picks, score every sample once, and go on and fail together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_al.strategies import BADGE, CoreSet
from tests._helpers import ranks, runs
from tests._helpers.processes import environment, run, start_ranks, wait_all

RUN = "active_learning"


def picks(folder: Path) -> list[tuple[str, ...]]:
    """Who was asked when and by whom; scores may differ in their last bit with the batch a sample was in."""
    return [row[:3] for row in runs.ledger(folder / RUN)]


def reports(folder: Path) -> list[dict[str, Any]]:
    return [ranks.read_report(folder, f"rank-{rank}") for rank in range(2)]


def on_two_ranks(folder: Path, arguments: dict[str, Any], model: dict[str, Any] | None = None) -> None:
    wait_all(start_ranks(folder, ranks.fit_rank, arguments, model))


@pytest.mark.parametrize(
    ("strategy", "size"),
    [
        pytest.param("Margin", 201, marks=pytest.mark.lightning_compat),  # 171 to score, then 146: odd, then even
        ("Margin", 56),  # 26 to score, then 1: fewer than ranks
        ("Random", 56),
        ("CoreSet", 201),
        ("BADGE", 56),
        ("TypiClust", 57),
    ],
)
def test_two_ranks_pick_what_one_process_picks(strategy: str, size: int, tmp_path: Path) -> None:
    arguments = {"strategy": strategy, "size": size, "rounds": 4}
    run(tmp_path / "one", ranks.fit_rank, {**arguments, "devices": 1})

    on_two_ranks(tmp_path / "two", arguments)

    assert picks(tmp_path / "two") == picks(tmp_path / "one")
    first, second = reports(tmp_path / "two")
    assert first["pool"] == second["pool"] == ranks.read_report(tmp_path / "one", "rank-0")["pool"]
    assert first["labeled"] == second["labeled"] == [int(row[0]) for row in picks(tmp_path / "two")]
    assert first["pid"] != second["pid"]


def test_two_ranks_measure_the_gain_over_control_samples_as_one_does(tmp_path: Path) -> None:
    arguments = {"size": 201, "rounds": 3, "control_fraction": 0.3}
    run(tmp_path / "one", ranks.fit_rank, {**arguments, "devices": 1})

    on_two_ranks(tmp_path / "two", arguments)

    assert picks(tmp_path / "two") == picks(tmp_path / "one")
    alone = ranks.read_report(tmp_path / "one", "rank-0")["history"][-1]["metrics"]
    for report in reports(tmp_path / "two"):
        gain = {name: value for name, value in report["history"][-1]["metrics"].items() if name.startswith("control")}
        assert gain == {name: pytest.approx(alone[name], abs=0.5) for name in gain}
        assert len(gain) == 3


class Sharded:
    """Writes down how much of the pool this rank was given; may raise on one rank in the second query."""

    sharded = True
    broken_rank: int | None = None

    def select(self, pool: Any, query_size: int, **options: Any) -> Any:
        rank = pool.shard.rank
        fields = [value for value in (pool.probs, pool.embeddings) if value is not None]
        with Path(f"rows-{rank}.txt").open("a") as file:
            file.write(f"{len(pool)} {len(pool.dataset_indices)} {[len(values) for values in fields]}\n")
        if len(pool) == 146 and rank == self.broken_rank:
            raise RuntimeError(f"broken on rank {rank}")
        return super().select(pool, query_size, **options)


class ShardedCoreSet(Sharded, CoreSet):
    pass


class ShardedBADGE(Sharded, BADGE):
    pass


class BrokenCoreSet(ShardedCoreSet):
    broken_rank = 1


class OwnCoreSet(CoreSet):
    """Overrides ``select`` and does not know of shards."""

    def select(self, pool: Any, query_size: int, **options: Any) -> Any:
        assert pool.shard is None
        assert len(pool.embeddings) == len(pool)
        return super().select(pool, query_size, **options)


@pytest.mark.parametrize(("sharded", "alone", "fields"), [(ShardedCoreSet, "CoreSet", 1), (ShardedBADGE, "BADGE", 2)])
def test_three_ranks_keep_a_third_of_the_outputs_each(sharded: Any, alone: str, fields: int, tmp_path: Path) -> None:
    run(tmp_path / "one", ranks.fit_rank, {"strategy": alone, "devices": 1})

    arguments = {"strategy": sharded(), "devices": 3}
    wait_all(start_ranks(tmp_path / "three", ranks.fit_rank, arguments, world_size=3))

    ours, theirs = picks(tmp_path / "three"), picks(tmp_path / "one")
    assert [row[0] for row in ours] == [row[0] for row in theirs]
    for rank in range(3):
        lines = (tmp_path / "three" / f"rows-{rank}.txt").read_text().splitlines()
        rows = [len(range(rank, size, 3)) for size in (171, 146)]
        assert lines == [f"{size} {size} {[own] * fields}" for size, own in zip((171, 146), rows, strict=True)]


def test_a_select_that_does_not_know_of_shards_has_the_whole_pool(tmp_path: Path) -> None:
    run(tmp_path / "one", ranks.fit_rank, {"strategy": "CoreSet", "devices": 1})

    on_two_ranks(tmp_path / "two", {"strategy": OwnCoreSet()})

    assert [row[0] for row in picks(tmp_path / "two")] == [row[0] for row in picks(tmp_path / "one")]


def test_one_ranks_error_in_selecting_ends_all_and_leaves_the_pool(tmp_path: Path) -> None:
    children = start_ranks(tmp_path, ranks.fit_rank, {"strategy": BrokenCoreSet()})

    assert [child.wait() for child in children] == [1, 1]

    assert "ActiveLearningError: Rank 1 failed: RuntimeError: broken on rank 1" in children[0].output
    assert "RuntimeError: broken on rank 1" in children[1].output
    assert len(picks(tmp_path)) == 55
    assert len(runs.checkpoint(tmp_path / RUN)["Watched"]["pool"]["labeled"]) == 55


@pytest.mark.parametrize("size", [201, 56])
def test_every_sample_is_scored_once(size: int, tmp_path: Path) -> None:
    on_two_ranks(tmp_path, {"size": size})

    first, second = (report["passes"] for report in reports(tmp_path))
    labeled = reports(tmp_path)[0]["labeled"]
    for known, ours, theirs in zip([30, 55], first[-2:], second[-2:], strict=True):
        pool = sorted(set(range(size)) - set(labeled[:known]))
        assert ours == pool[::2]
        assert theirs == (pool[1::2] or pool[:1]), "a rank without a sample scores the first again, to be cut off"


def test_one_ranks_error_ends_all_and_leaves_the_pool(tmp_path: Path) -> None:
    children = start_ranks(tmp_path, ranks.fit_rank, {}, {"in_query_of_rank": 1})

    assert [child.wait() for child in children] == [1, 1]

    assert "ActiveLearningError: Scoring failed on another rank" in children[0].output
    assert "RuntimeError: broken on rank 1" in children[1].output
    assert len(picks(tmp_path)) == 55
    assert not (tmp_path / RUN / "queries/round-002.csv").exists()
    assert len(runs.checkpoint(tmp_path / RUN)["Watched"]["pool"]["labeled"]) == 55


@pytest.mark.lightning_compat
def test_two_ranks_go_on(tmp_path: Path) -> None:
    """With dropout and learning: each rank's random state is its own, and is put back."""
    arguments: dict[str, Any] = {"rounds": 4}
    on_two_ranks(tmp_path / "whole", arguments, {})
    folder = tmp_path / "broken"
    # two batches of 16 a rank in rounds 1 and 2: in the middle of the latter
    broken = start_ranks(folder, ranks.fit_rank, arguments, {"at_step": 4})
    assert [child.wait() for child in broken] == [1, 1]
    before = (folder / RUN / "ledger.csv").read_bytes()
    last = {**arguments, "ckpt_path": folder / RUN / "last-round.ckpt"}

    reseeded = start_ranks(folder, ranks.fit_rank, {**last, "seed": 4}, {})
    assert [child.wait() for child in reseeded] == [1, 1]
    for child in reseeded:
        assert "Call seed_everything(3) first" in child.output
    assert (folder / RUN / "ledger.csv").read_bytes() == before
    on_two_ranks(folder, last, {})

    assert runs.digests(folder / RUN, "Watched") == runs.digests(tmp_path / "whole" / RUN, "Watched")
    first, second = runs.checkpoint(folder / RUN)["callbacks"]["ActiveLearning"]["rng"]
    assert not torch.equal(first["torch"], second["torch"])


# -- as users start them
@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    run(folder, ranks.fit_rank, {"devices": 1})
    return folder


def script(folder: Path, *arguments: str, under: tuple[str, ...] = ()) -> None:
    command = [sys.executable, *under, "-m", "tests._helpers.ranks", *arguments]
    plain = {k: v for k, v in environment(OMP_NUM_THREADS="1").items() if not k.startswith("PL_")}
    ended = subprocess.run(command, cwd=folder, env=plain, timeout=300, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_script_that_starts_its_ranks(one: Path, tmp_path: Path) -> None:
    script(tmp_path, "--launch=ddp")

    assert picks(tmp_path) == picks(one)
    first, second = reports(tmp_path)
    assert first["pool"] == second["pool"] == ranks.read_report(one, "rank-0")["pool"]
    assert first["pid"] != second["pid"]


def test_torchrun(one: Path, tmp_path: Path) -> None:
    script(tmp_path, under=("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"))

    assert picks(tmp_path) == picks(one)
    assert [report["pool"] for report in reports(tmp_path)] == [ranks.read_report(one, "rank-0")["pool"]] * 2


@pytest.mark.lightning_compat
def test_spawned_ranks_and_what_their_parent_knows(one: Path, tmp_path: Path) -> None:
    script(tmp_path, "--launch=ddp_spawn")

    assert picks(tmp_path) == picks(one)
    parent = ranks.read_report(tmp_path, "script")
    for report in reports(tmp_path):
        assert report["pid"] != parent["pid"]
        assert report["labeled"] == parent["labeled"]
        assert report["pool"] == parent["pool"] == ranks.read_report(one, "rank-0")["pool"]
    history = json.loads(json.dumps(reports(tmp_path)[0]["history"]))
    assert parent["history"] == history
    assert [row["labeled"] for row in history] == [30, 55, 80]
