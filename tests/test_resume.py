"""A run that was killed anywhere, by anything, goes on as if it had not been; what does not fit together is refused."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning.fabric.plugins.io.torch_io as torch_io
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader, Subset

from lightning_al import (
    ActiveLearning,
    ActiveLearningDataModule,
    Answers,
    DatasetOracle,
    Oracle,
    Pool,
    Query,
    durable,
    labeling,
    reporting,
)
from lightning_al import run as run_module
from lightning_al.exceptions import LedgerError, PoolError, ResumeError, RunFolderError
from lightning_al.ledger import Ledger
from lightning_al.run_folder import RunFolder
from tests._helpers import runs
from tests._helpers.moments import quick_command_line, quick_fit, signaled_command_line, watched_command_line
from tests._helpers.processes import environment, run, start

GO_ON = ("--ckpt_path", "last")


@dataclass(frozen=True)
class Whole:
    """A run that nothing interrupted."""

    digests: dict[str, str]
    moments: list[str]

    def draw(self, number: int) -> int:
        """The moment of the ``number``-th kill: one kind of moment after the other, at random within a kind."""
        first_saved = next(i for i, what in enumerate(self.moments) if "rename last-round.ckpt" in what)
        kinds: dict[str, list[int]] = {"begin": list(range(first_saved))}
        for i, what in enumerate(self.moments):
            kinds.setdefault(what.partition(":")[0], []).append(i)
        order = ["labeling", "checkpointing", "query", "fit", "begin", "recording", "telling"]
        assert set(order) == set(kinds)
        return random.Random(number).choice(kinds[order[number % len(order)]])


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    runs.write_config(folder)
    run(folder, watched_command_line, None, folder / "moments.txt")
    moments = (folder / "moments.txt").read_text().splitlines()
    return Whole(runs.digests(folder / "active_learning"), moments)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kill" in metafunc.fixturenames:
        metafunc.parametrize("kill", range(metafunc.config.getoption("--kills")))


@pytest.mark.lightning_compat
def test_killed_anywhere(kill: int, whole: Whole, tmp_path: Path) -> None:
    runs.write_config(tmp_path)
    moment = whole.draw(kill)
    notes = tmp_path / "moments.txt"

    killed = start(tmp_path, watched_command_line, moment, notes)
    assert killed.wait() == -signal.SIGKILL, killed.output
    assert notes.read_text().splitlines() == whole.moments[: moment + 1]
    if kill % 2:  # and once more, soon after it went on
        again = start(tmp_path, watched_command_line, random.Random(-kill).randrange(60), notes, *GO_ON)
        assert again.wait() in (-signal.SIGKILL, 0), again.output
    if kill == 0:
        command = [sys.executable, "-m", "lightning_al", "fit", "--config", "fit.yaml", *GO_ON]
        subprocess.run(command, cwd=tmp_path, env=environment(PYTHONHASHSEED="7"), check=True, timeout=300)
    else:
        run(tmp_path, quick_command_line, *GO_ON)

    assert runs.digests(tmp_path / "active_learning") == whole.digests, whole.moments[moment]


@pytest.mark.parametrize(
    ("signal_number", "what"),
    [
        (signal.SIGINT, "fit: batch"),
        (signal.SIGINT, "query: batch"),
        (signal.SIGINT, "labeling: half of a write ledger.csv"),
        (signal.SIGINT, "checkpointing: half of a write last-round.ckpt"),
        (signal.SIGTERM, "fit: batch"),
        (signal.SIGTERM, "fit: epoch end"),
        (signal.SIGTERM, "query: batch"),
        (signal.SIGTERM, "labeling: oracle"),
    ],
)
def test_asked_to_end(signal_number: int, what: str, whole: Whole, tmp_path: Path) -> None:
    runs.write_config(tmp_path)
    among = [i for i, moment in enumerate(whole.moments) if moment == what]
    moment = among[len(among) // 2]

    ended = start(tmp_path, signaled_command_line, moment, tmp_path / "moments.txt", signal_number)
    assert ended.wait() == (130 if signal_number == signal.SIGINT else 0), ended.output
    left = RunFolder(tmp_path / "active_learning")
    assert left.is_unfinished
    assert len(left.read_rounds()) < 4
    run(tmp_path, quick_command_line, *GO_ON)

    assert runs.digests(left.path) == whole.digests
    assert not left.is_unfinished


# -- in Python
class Broken(RuntimeError):
    """What goes wrong in a test."""


def breaks_at(call: int, original: Callable[..., Any], error: type[BaseException] = Broken) -> Callable[..., Any]:
    """A function whose n-th call raises instead."""
    calls = iter(range(1, 1_000_000))

    def broken(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            raise error("broken on purpose")
        return original(*args, **kwargs)

    return broken


class Answering(Oracle):
    """Gives another label each time it is asked, rejects every seventh sample, and remembers what it was asked."""

    def __init__(self, first: int = 0) -> None:
        self.first = first
        self.asked: list[int] = []

    def label(self, query: Query) -> Answers:
        asked = query.dataset_indices.tolist()
        self.asked += asked
        labels = {index: (self.first + len(self.asked) + index) % 10 for index in asked if index % 7}
        return Answers(labels, rejected=[index for index in asked if not index % 7])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The run's folder; the current folder is its parent, and no figures are drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(labeling, "contact_sheet", lambda *_, **__: False)
    monkeypatch.setattr(reporting, "learning_curve", lambda *_, **__: None)
    on_interrupt, kept = signal.getsignal(signal.SIGINT), dict(os.environ)
    yield tmp_path / "active_learning"
    signal.signal(signal.SIGINT, on_interrupt)  # Lightning's shutdown ignores it from then on
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture(scope="module")
def whole_fit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run in Python that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole_fit")
    run(folder, quick_fit)
    return folder / "active_learning"


@pytest.fixture
def broken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that ended after the answers for round 2 were written, and before the checkpoint was."""
    with monkeypatch.context() as patch:
        patch.setattr(run_module.Run, "_next_round", breaks_at(2, run_module.Run._next_round))
        with pytest.raises(Broken):
            runs.fit()
    assert {row[1] for row in runs.ledger(folder)} == {"0", "1", "2"}
    assert runs.checkpoint(folder)["callbacks"]["ActiveLearning"]["round"] == 1
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    kept = [folder / "ledger.csv", folder / "last-round.ckpt", folder / "initial-weights.ckpt"]
    return {path.name: path.read_bytes() for path in [*kept, *folder.glob("queries/*")] if path.exists()}


def rewind(folder: Path, checkpoint: Path) -> None:
    """Take away what was asked and answered after a checkpoint: the folder as it was then."""
    saved = torch.load(checkpoint, weights_only=True)["callbacks"]["ActiveLearning"]["round"]
    header, *rows = (folder / "ledger.csv").read_bytes().splitlines(keepends=True)
    (folder / "ledger.csv").write_bytes(b"".join([header, *[row for row in rows if int(row.split(b",")[1]) <= saved]]))
    for path in folder.glob("queries/round-*"):
        if int(path.stem.split("-")[1]) > saved:
            path.unlink()


@pytest.mark.lightning_compat
def test_from_every_checkpoint(folder: Path) -> None:
    """Each epoch's, of early-stopped rounds and of last epochs too, after the run went on to its end."""

    def callbacks() -> list[Any]:
        name = {"filename": "round={round:.0f}-{epoch}", "auto_insert_metric_name": False}
        return [
            EarlyStopping("val_acc", mode="max", patience=1),
            ModelCheckpoint("kept", monitor="val_acc", mode="max", save_top_k=-1, **name),
        ]

    runs.fit(callbacks=callbacks(), max_epochs=3)
    whole = runs.digests(folder)
    checkpoints = sorted(Path("kept").glob("*.ckpt"))
    shutil.copytree("kept", "copies")
    epochs = [len([c for c in checkpoints if f"round={r}-" in c.name]) for r in range(3)]
    assert sum(epochs) == len(checkpoints)
    assert min(epochs) < 3 == max(epochs), "one round stopped early, one did not"

    for number, checkpoint in enumerate(checkpoints):
        torch.rand(3)  # another random state
        if number % 3:  # else what came after the checkpoint is replayed
            rewind(folder, Path("copies") / checkpoint.name)
        runs.fit(callbacks=callbacks(), max_epochs=3, ckpt_path=Path("copies") / checkpoint.name)
        assert runs.digests(folder) == whole, checkpoint.name


def break_training_step(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(runs.DropoutMLP, "training_step", breaks_at(10, runs.DropoutMLP.training_step))


def break_forward_in_query(patch: pytest.MonkeyPatch) -> None:
    plain, in_query = runs.DropoutMLP.forward, breaks_at(20, runs.DropoutMLP.forward)
    patch.setattr(runs.DropoutMLP, "forward", lambda self, x: (in_query if self.trainer.predicting else plain)(self, x))


def break_oracle(patch: pytest.MonkeyPatch, error: type[BaseException] = Broken) -> None:
    patch.setattr(DatasetOracle, "label", breaks_at(2, DatasetOracle.label, error))


def interrupt_oracle(patch: pytest.MonkeyPatch) -> None:
    break_oracle(patch, KeyboardInterrupt)


def fill_disk(patch: pytest.MonkeyPatch, name: str, time: int) -> None:
    """Let half of the ``time``-th write to a file of that name be all that fits on the disk."""
    original, times = durable.write_all, iter(range(1, 1000))

    def write_all(file_descriptor: int, data: bytes) -> None:
        if name in os.readlink(f"/proc/self/fd/{file_descriptor}") and next(times) == time:
            original(file_descriptor, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        original(file_descriptor, data)

    patch.setattr(durable, "write_all", write_all)


def fill_disk_with_ledger(patch: pytest.MonkeyPatch) -> None:
    fill_disk(patch, "ledger.csv", 3)


def fill_disk_with_query(patch: pytest.MonkeyPatch) -> None:
    fill_disk(patch, "round-002.record", 1)


def fill_disk_with_rounds(patch: pytest.MonkeyPatch) -> None:
    fill_disk(patch, "rounds.csv", 2)


def fill_disk_with_checkpoint(patch: pytest.MonkeyPatch) -> None:
    original = torch_io._atomic_save

    def save(checkpoint: Any, path: Any) -> None:
        original(checkpoint, path)
        if "last-round" in str(path) and checkpoint["callbacks"]["ActiveLearning"]["round"] == 2:
            os.truncate(path, os.path.getsize(path) // 2)
            raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr(torch_io, "_atomic_save", save)


@pytest.mark.parametrize(
    ("breaking", "error", "answered"),
    [
        (break_training_step, Broken, 55),
        (break_forward_in_query, Broken, 55),
        (break_oracle, Broken, 55),
        (interrupt_oracle, SystemExit, 55),
        (fill_disk_with_ledger, LedgerError, 55),
        (fill_disk_with_query, RunFolderError, 55),
        (fill_disk_with_rounds, RunFolderError, 80),
        (fill_disk_with_checkpoint, RunFolderError, 80),
    ],
)
def test_after_an_error(
    breaking: Callable[[pytest.MonkeyPatch], None],
    error: type[BaseException],
    answered: int,
    folder: Path,
    whole_fit: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = runs.data()
    with monkeypatch.context() as patch:
        breaking(patch)
        with pytest.raises(error):
            runs.fit(data=data)
    assert len(Ledger(folder / "ledger.csv").read()) == answered, "nothing is half written"
    assert len(data.pool.labeled) == answered
    assert RunFolder(folder).is_unfinished

    _, callback, _ = runs.fit(ckpt_path=folder / "last-round.ckpt")

    assert runs.digests(folder) == runs.digests(whole_fit)
    assert [row["labeled"] for row in callback.history] == [30, 55, 80]
    assert not RunFolder(folder).is_unfinished


# -- the ledger is ahead of the checkpoint
def test_answers_are_replayed_not_asked_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Answering(), Answering(first=5)
    with monkeypatch.context() as patch:
        patch.setattr(run_module.Run, "_next_round", breaks_at(2, run_module.Run._next_round))
        with pytest.raises(Broken):
            runs.fit(runs.active_learning(oracle=first, rounds=4))
    before = runs.ledger(folder)

    _, _, data = runs.fit(runs.active_learning(oracle=second, rounds=4), ckpt_path=folder / "last-round.ckpt")

    after = runs.ledger(folder)
    assert after[: len(before)] == before
    assert second.asked == [int(row[0]) for row in after[len(before) :]]
    assert not set(first.asked) & set(second.asked)
    answers = {int(row[0]): row[4] for row in after}
    plain = runs.FewDigits().train_dataloader().dataset
    trained = dict(zip(data.labeled_indices().tolist(), data.train_dataloader().dataset, strict=True))
    for index, (_, target) in trained.items():
        assert int(target) == int(answers[index] or plain[index][1])
    assert sorted(index for index, answer in answers.items() if answer == "rejected") == sorted(
        data.pool.rejected.tolist()
    )


def test_half_of_the_answers_were_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(run_module.Run, "_next_round", breaks_at(2, run_module.Run._next_round))
        with pytest.raises(Broken):
            runs.fit(runs.active_learning(oracle=Answering()))
    before = runs.ledger(folder)
    lines = (folder / "ledger.csv").read_bytes().splitlines(keepends=True)
    (folder / "ledger.csv").write_bytes(b"".join(lines[:-10]) + lines[-10][:20])  # and one in the middle of a row

    RunFolder(folder).update_run(answers_for=2)  # which is raised after they are written

    oracle = Answering(first=5)
    with pytest.warns(UserWarning, match="was cut short by a kill"):
        runs.fit(runs.active_learning(oracle=oracle), ckpt_path=folder / "last-round.ckpt")

    after = runs.ledger(folder)
    assert oracle.asked == [int(row[0]) for row in before[-10:]]
    assert after[:-10] == before[:-10]
    assert [row[0] for row in after] == [row[0] for row in before]
    assert after[-10:] != before[-10:], "asked again, it answered differently"


def test_without_checkpoints_the_run_starts_again_and_replays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {"enable_checkpointing": False, "callbacks": []}
    first, second = Answering(), Answering(first=5)
    with monkeypatch.context() as patch:
        patch.setattr(run_module.Run, "_next_round", breaks_at(2, run_module.Run._next_round))
        with pytest.raises(Broken):
            runs.fit(runs.active_learning(oracle=first, rounds=4), **plain)
    before = runs.ledger(folder)
    assert not (folder / "last-round.ckpt").exists()

    _, callback, data = runs.fit(runs.active_learning(oracle=second, rounds=4), **plain)

    after = runs.ledger(folder)
    assert after[: len(before)] == before
    assert second.asked == [int(row[0]) for row in after[len(before) :]]
    assert len(after) == len({row[0] for row in after}) == 105 + len(data.pool.rejected)
    assert [row["labeled"] for row in callback.history] == [30, 55, 80, 105]  # what was rejected was replaced
    assert data.pool.labeled.tolist() == [int(row[0]) for row in after if row[4] != "rejected"]


@pytest.mark.parametrize("changed", [{"initial": 31}, {"initial": 29}, {"seed": 1}])
def test_a_run_that_starts_again_keeps_its_first_labels(changed: dict[str, int], broken: Path) -> None:
    (broken / "last-round.ckpt").unlink()
    before = snapshot(broken)
    data = ActiveLearningDataModule(runs.FewDigits(), **{"initial": 30, **changed})

    message = "unfinished run with seed 0; this one has 1" if "seed" in changed else "`initial` or `seed` differs"
    with pytest.raises(ResumeError, match=message):
        runs.fit(data=data)

    assert snapshot(broken) == before


# -- logger, budget, finished runs, names
def test_with_a_version_of_the_logger_a_fit(folder: Path) -> None:
    """A resumed run logs to version_1, where its ModelCheckpoint writes too; the round's best is in version_0."""

    class Worsening(runs.DropoutMLP):
        def on_validation_epoch_end(self) -> None:
            self.log("rank", -float(self.current_epoch))

    def fit(**arguments: Any) -> None:
        best = ModelCheckpoint(monitor="rank", mode="max")
        every = ModelCheckpoint(filename="every-{round:.0f}-{epoch}", save_top_k=-1, auto_insert_metric_name=False)
        runs.fit(model=Worsening(), callbacks=[best, every], logger=True, max_epochs=3, **arguments)

    fit()
    whole = runs.digests(folder)
    for version, name in enumerate(["every-1-1.ckpt", "every-1-0.ckpt", "every-0-2.ckpt"], start=1):
        checkpoint = Path("lightning_logs/version_0/checkpoints") / name
        rewind(folder, checkpoint)
        fit(ckpt_path=checkpoint)
        assert Path(f"lightning_logs/version_{version}").exists()
        assert runs.digests(folder) == whole, name


@pytest.mark.lightning_compat
def test_a_finished_run_goes_on_with_a_larger_budget(folder: Path, whole_fit: Path) -> None:
    runs.fit(runs.active_learning(rounds=None, budget=55))
    assert len(runs.rounds(folder)) == 2

    runs.fit(runs.active_learning(rounds=None, budget=80), ckpt_path=folder / "last-round.ckpt")

    assert runs.digests(folder) == runs.digests(whole_fit)


def test_a_finished_run_with_the_same_budget_trains_nothing(folder: Path, whole_fit: Path) -> None:
    shutil.copytree(whole_fit, folder)

    trainer, callback, _ = runs.fit(ckpt_path=folder / "last-round.ckpt")

    assert runs.digests(folder) == runs.digests(whole_fit)
    assert trainer.global_step == runs.checkpoint(whole_fit)["global_step"]
    assert [row["round"] for row in callback.history] == [0, 1, 2]


def test_a_new_run_sets_a_finished_one_aside(folder: Path, whole_fit: Path) -> None:
    shutil.copytree(whole_fit, folder)
    kept = snapshot(folder)

    runs.fit(seed=5)

    assert snapshot(folder.with_name("active_learning-1")) == kept
    assert runs.digests(folder)["weights"] != runs.digests(whole_fit)["weights"]


def test_a_new_run_over_an_unfinished_one_is_refused(broken: Path) -> None:
    before = snapshot(broken)

    with pytest.raises(ResumeError, match="holds an unfinished run") as refusal:
        runs.fit()

    assert f"trainer.fit(..., ckpt_path={str(broken / 'last-round.ckpt')!r})" in str(refusal.value)
    assert snapshot(broken) == before
    assert not broken.with_name("active_learning-1").exists()


@pytest.mark.parametrize("given", ["datamodule", "loaders"])
def test_data_that_the_callback_wraps(
    given: str, folder: Path, whole_fit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(**more: Any) -> None:
        plain = runs.FewDigits()
        kept = (
            {"datamodule": plain}
            if given == "datamodule"
            else {
                "train_dataloaders": plain.train_dataloader(),
                "val_dataloaders": plain.val_dataloader(),
            }
        )
        runs.fit(runs.active_learning(initial=30), given=kept, **more)

    with monkeypatch.context() as patch:
        break_training_step(patch)
        with pytest.raises(Broken):
            fit()
    fit(ckpt_path=folder / "last-round.ckpt")

    assert runs.digests(folder) == runs.digests(whole_fit)


def test_a_renamed_callback_finds_its_state(broken: Path, whole_fit: Path) -> None:
    class Renamed(ActiveLearning):
        pass

    runs.fit(Renamed("Margin", query_size=25, rounds=3), ckpt_path=broken / "last-round.ckpt")

    assert runs.digests(broken) == runs.digests(whole_fit)


# -- what does not belong together
def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    saved = runs.checkpoint(folder)
    edit(saved)
    torch.save(saved, folder / "last-round.ckpt")


def lose_rows(folder: Path) -> None:
    lines = (folder / "ledger.csv").read_bytes().splitlines(keepends=True)
    (folder / "ledger.csv").write_bytes(b"".join(lines[:41]))


def edit_row(folder: Path) -> None:
    lines = (folder / "ledger.csv").read_bytes().splitlines(keepends=True)
    lines[40] = lines[40].replace(b"Margin", b"Random")
    (folder / "ledger.csv").write_bytes(b"".join(lines))


def lose_ledger(folder: Path) -> None:
    (folder / "ledger.csv").unlink()


def edit_query(folder: Path) -> None:
    lines = (folder / "queries/round-002.record").read_bytes().splitlines(keepends=True)
    (folder / "queries/round-002.record").write_bytes(b"".join([lines[0], lines[2], lines[1], *lines[3:]]))


def lose_query(folder: Path) -> None:
    (folder / "queries/round-002.record").unlink()


def ask_other_samples(folder: Path) -> None:
    asked = RunFolder(folder).read_query(2)
    assert asked is not None
    RunFolder(folder).write_query(2, replace(asked, dataset_indices=[*asked.dataset_indices[:-1], 3]))


def keep_weights_only(folder: Path) -> None:
    saved = runs.checkpoint(folder)
    kept = ("state_dict", "epoch", "global_step", "pytorch-lightning_version")
    torch.save({name: saved[name] for name in kept}, folder / "last-round.ckpt")


def take_callback_away(folder: Path) -> None:
    change(folder, lambda saved: [saved["callbacks"].pop("ActiveLearning"), saved.pop("ActiveLearningDataModule")])


def cut_checkpoint(folder: Path) -> None:
    os.truncate(folder / "last-round.ckpt", os.path.getsize(folder / "last-round.ckpt") * 2 // 3)


def move_sample_in_pool(folder: Path) -> None:
    change(folder, lambda saved: saved["ActiveLearningDataModule"]["pool"]["labeled"].__setitem__(0, 199))


def replace_pool(folder: Path) -> None:
    other = Pool(200)
    other.label(range(30))
    other.label(range(30, 55), 1)
    other.round = 1
    change(folder, lambda saved: saved["ActiveLearningDataModule"].update(pool=other.state_dict()))


def shift_round(folder: Path) -> None:
    change(folder, lambda saved: saved["callbacks"]["ActiveLearning"].update(round=2))


def lose_initial_weights(folder: Path) -> None:
    (folder / "initial-weights.ckpt").unlink()


def take_other_initial_weights(folder: Path) -> None:
    weights = torch.load(folder / "initial-weights.ckpt", weights_only=True)
    torch.save({**weights, "run_id": "another"}, folder / "initial-weights.ckpt")


@pytest.mark.parametrize(
    ("harm", "error", "message"),
    [
        (lose_rows, ResumeError, "55 samples labeled up to round 1 and the ledger .* 40"),
        (edit_row, LedgerError, "Row 40"),
        (lose_ledger, ResumeError, "55 samples labeled up to round 1 and the ledger .* 0"),
        (edit_query, RunFolderError, "round-002.record is not as it was written"),
        (lose_query, ResumeError, "25 answers for round 2, and the record of what was asked, .*record, is gone"),
        (ask_other_samples, ResumeError, "answers for dataset index .* in round 2, which .*002.record did not ask"),
        (
            keep_weights_only,
            ResumeError,
            "holds no state of ActiveLearning: it comes from a plain fit",
        ),
        (take_callback_away, ResumeError, "holds no state of ActiveLearning"),
        (cut_checkpoint, ResumeError, "last-round.ckpt cannot be read"),
        (move_sample_in_pool, PoolError, "changed after"),
        (replace_pool, ResumeError, "pool was changed after it was saved"),
        (shift_round, ResumeError, "pool is in round 1 and its callback in round 2"),
        (lose_initial_weights, ResumeError, "initial-weights.ckpt, which is not there"),
        (take_other_initial_weights, ResumeError, "holds another run's weights"),
    ],
)
def test_what_was_lost_or_changed_is_refused(
    harm: Callable[[Path], None], error: type[Exception], message: str, broken: Path
) -> None:
    harm(broken)
    before = snapshot(broken)

    with pytest.raises(error, match=message):
        runs.fit(ckpt_path=broken / "last-round.ckpt")

    after = snapshot(broken)
    assert after["ledger.csv"] == before["ledger.csv"] if "ledger.csv" in before else "ledger.csv" not in after
    assert {k: v for k, v in after.items() if k.startswith("round")} == {
        k: v for k, v in before.items() if k.startswith("round")
    }


class LaterDigits(runs.FewDigits):
    """As many digits as the run has, and not the same ones."""

    def train_dataloader(self) -> Any:
        return DataLoader(Subset(self.splits["train"], range(300, 500)), batch_size=16, shuffle=True)


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (runs.FewDigits(190), "is of a dataset with 200 samples; this one has 190"),
        (LaterDigits(), r"is of another dataset: as many samples \(200\), but not the same ones"),
    ],
)
def test_another_dataset_is_refused(inner: runs.FewDigits, message: str, broken: Path) -> None:
    before = snapshot(broken)
    data = ActiveLearningDataModule(inner, initial=30)

    with pytest.raises(ResumeError, match=message):
        runs.fit(data=data, ckpt_path=broken / "last-round.ckpt")

    assert snapshot(broken) == before
    assert len(data.pool.labeled) == 30, "the pool is the new dataset's own"


def test_another_dataset_is_refused_without_checkpoints_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {"enable_checkpointing": False, "callbacks": []}
    with monkeypatch.context() as patch:
        break_oracle(patch)
        with pytest.raises(Broken):
            runs.fit(**plain)
    before = snapshot(folder)

    with pytest.raises(ResumeError, match="is of another dataset"):
        runs.fit(data=ActiveLearningDataModule(LaterDigits(), initial=30), **plain)

    assert snapshot(folder) == before
