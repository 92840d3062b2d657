"""The commands `study` and `report`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

from lightning_al.cli import ActiveLearningCLI, main
from lightning_al.study import page
from tests._helpers.processes import environment
from tests._helpers.studies import ImagesData, SmallNet, answer, files, rows

CONF = Path(__file__).parent / "conf" / "study"
STUDY = ["study", f"--config={CONF / 'plain.yaml'}"]


@pytest.fixture(autouse=True)
def _own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command line of its own: folder, arguments, path, environment and random state. No page is drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning-al"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(page, "write_page", lambda report, folder: (folder / "index.html").write_text("a page"))
    kept = dict(os.environ)
    with torch.random.fork_rng():
        yield
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture
def _unfitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: Any, **__: Any) -> None:
        raise AssertionError("a fit was made")

    monkeypatch.setattr(Trainer, "fit", fit)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The message with which the command line ends: one paragraph, no traceback."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    message = end.value.code if isinstance(end.value.code, str) else capsys.readouterr().err
    assert end.value.code not in (0, None)
    assert "Traceback" not in message
    return message


def test_any_config_with_a_study_section(tmp_path: Path) -> None:
    main(STUDY)

    out = tmp_path / "out"
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    found = {path.name for path in out.iterdir()}
    assert found == {
        "feasibility.json", "index.html", "curves.csv", "config.yaml", "settings.json", "overlap.json", "study.lock",
        "cells", "sheets",
    }  # fmt: skip
    report = answer(out)
    assert report["verdict"] == "inconclusive"
    assert report["settings"]["strategies"] == ["Margin"]
    # 2 buckets, 2 whole pilots, and 2 replicates of two arms with two counts
    assert len(rows(out)) == 2 + 2 + 2 * 2 * 2


def test_the_saved_config_is_the_study_again(tmp_path: Path) -> None:
    main([*STUDY, "--study.seed=3"])
    saved = yaml.safe_load((tmp_path / "out/config.yaml").read_text())
    assert (saved["study"]["seed"], saved["study"]["strategies"]) == (3, ["Margin"])
    assert saved["trainer"]["max_epochs"] == 2
    before, whole = files(tmp_path / "out"), answer(tmp_path / "out")

    main(["study", "--config=out/config.yaml"])

    assert files(tmp_path / "out") == before
    assert answer(tmp_path / "out") == whole


def test_the_model_is_made_anew_under_each_fits_seed(tmp_path: Path) -> None:
    main(STUDY)
    assert not any("the same weights" in note for note in answer(tmp_path / "out")["notes"])
    assert len({row["auroc"] for row in rows(tmp_path / "out") if row["part"] == "pilot"}) == 2


def test_the_optimizer_of_the_config_counts(tmp_path: Path) -> None:
    main([*STUDY, "--optimizer=SGD", "--optimizer.lr=0.0"])
    still = rows(tmp_path / "out")
    main([*STUDY, "--study.output=other"])
    assert [row["accuracy"] for row in still] != [row["accuracy"] for row in rows(tmp_path / "other")]


def test_two_configs_and_options(tmp_path: Path) -> None:
    main([*STUDY, f"--config={CONF / 'metric.yaml'}", "--study.replicates=1"])

    report = answer(tmp_path / "out")
    assert report["metric"]["name"] == "MulticlassMatthewsCorrCoef"
    assert report["settings"]["delta"] == 0.05
    assert [arm["name"] for arm in report["strategies"]] == ["BADGE", "Margin"]
    columns = {"MulticlassMatthewsCorrCoef", "accuracy", "MulticlassFBetaScore"}
    assert columns <= {*rows(tmp_path / "out")[0]}
    assert {path.name for path in (tmp_path / "out/logs").iterdir()} == {"worker-0.log", "worker-1.log"}


def test_the_metric_on_the_command_line(tmp_path: Path) -> None:
    main([*STUDY, "--study.metric", "f1"])
    assert answer(tmp_path / "out")["metric"]["name"] == "f1"


def test_the_flag_to_confirm_is_the_option(tmp_path: Path) -> None:
    main([*STUDY, f"--config={CONF / 'proxy.yaml'}", "--study.confirm=false", "--confirm"])
    assert answer(tmp_path / "out")["confirm"]["strategies"][0]["name"] == "Margin"
    with pytest.raises(SystemExit, match="`confirm` is for mode='proxy'"):
        main([*STUDY, "--confirm"])


def test_proxy_and_confirm(tmp_path: Path) -> None:
    main([*STUDY, f"--config={CONF / 'proxy.yaml'}"])

    report = answer(tmp_path / "out")
    assert report["settings"]["mode"] == "proxy"
    assert report["confirm"]["strategies"][0]["name"] == "Margin"
    assert report["cost"]["label_cost"] == 0.5
    assert any("linear heads" in note for note in report["notes"])
    simulated = [path.name for path in (tmp_path / "out/confirm/Margin/cells").glob("*.json")]
    assert sorted(simulated) == [
        "pilot-r00.json", "pilot-r01.json", "simulation-r00-Margin-01.json", "simulation-r00-random-01.json",
        "simulation-r01-Margin-01.json", "simulation-r01-random-01.json", "start-r00.json", "start-r01.json",
    ]  # fmt: skip


def test_fit_leaves_the_study_alone(tmp_path: Path) -> None:
    config = yaml.safe_load((CONF / "plain.yaml").read_text())
    config["study"]["nonsense"] = {"class_path": "nowhere.Nothing"}
    Path("fit.yaml").write_text(yaml.safe_dump(config))
    main(["fit", "--config=fit.yaml", "--trainer.max_epochs=1"])
    assert not (tmp_path / "out").exists()


def test_a_dry_run_prints_the_fits_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*STUDY, "--dry_run"])

    printed = capsys.readouterr().out.splitlines()
    assert [line.split("fits")[0].split() for line in printed] == [
        ["Nested", "random", "design", "2"], ["Paired", "simulation", "6"], ["The", "whole", "pilot", "2"],
        ["In", "all", "10"],
    ]  # fmt: skip
    assert "reckoned from one timed fit" in printed[-1]
    assert list(tmp_path.iterdir()) == []


def test_help_needs_no_ray_and_names_the_options() -> None:
    script = "import sys\nfrom lightning_al.cli import main\n"
    script += "try:\n    main(['study', '--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
    script += "assert 'ray' not in sys.modules, 'ray was imported'\n"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(COLUMNS="200"), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for option in ("--study.strategies", "--study.metric", "--study.replicates", "--study.output", "--dry_run"):
        assert option in done.stdout
    assert "The least share of labels saved that is worth while." in " ".join(done.stdout.split())


def test_print_config_is_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*STUDY, "--print_config"])
    assert end.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["study"]["strategies"] == ["Margin"]
    assert printed["study"]["saving"] == 0.1
    Path("printed.yaml").write_text(yaml.safe_dump(printed))
    main(["study", "--config=printed.yaml", "--dry_run"])
    assert "In all" in capsys.readouterr().out


@pytest.mark.usefixtures("_unfitted")
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--study.metric=acuracy"], "Did you mean 'accuracy'"),
        (["--study.replicates=0"], "`replicates` to be a whole number of at least 1, but got 0"),
        (["--study.replicats=3"], "Did you mean 'study.replicates'"),
        (["--study.label_cost=-1"], "`label_cost` to be a number above 0"),
        (["--study.strategies=[Margn]"], "Did you mean 'Margin'"),
        (["--study.rounds=40"], "make 369 labels, but the pilot has 90 samples"),
        (["--study.fractions=[0.01,1.0]"], "Set fewer `buckets`"),
        (["--trainer.max_epochs=0"], "`max_epochs=0` on the Trainer"),
        (["--trainer.devices=2"], "set `devices=1`"),
        (["--study.embedding_layer=body"], "'body'"),
    ],
)
def test_what_is_wrong_is_said_in_a_few_words(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused([*STUDY, *more], capsys)
    assert list(tmp_path.iterdir()) == []


def test_another_study_in_the_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(STUDY)
    saved, before = (tmp_path / "out/config.yaml").read_bytes(), files(tmp_path / "out")
    message = refused([*STUDY, "--study.query_size=8", "--model.lr=0.01"], capsys)
    assert "`query_size` was 9, and is 8 now" in message
    assert "`subject.hparams.lr` was 0.05, and is 0.01 now" in message
    assert (tmp_path / "out/config.yaml").read_bytes() == saved
    assert files(tmp_path / "out") == before
    message = refused([*STUDY, "--optimizer=SGD", "--optimizer.lr=0.01"], capsys)
    assert "optimizer" in message


class NoLuck(SmallNet):
    """Fails in every fit."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        raise RuntimeError("CUDA out of memory")


def test_a_study_whose_every_fit_fails_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match="Two trial fits failed"):
        message = refused([*STUDY, "--model=tests.test_cli_study.NoLuck"], capsys)
    assert message.startswith("lightning-al: ")
    assert "RuntimeError: CUDA out of memory" in message
    assert not (tmp_path / "out/feasibility.json").exists()


# -- report
def curves(path: Path) -> Path:
    lines = ["arm,replicate,labels,accuracy"]
    for replicate in range(7):
        for arm, gain in (("Random", 0.0), ("Margin", 0.04)):
            lines += [
                f"{arm},{replicate},{n},{0.5 + n / 100 + (n > 10) * gain + replicate / 500}" for n in (10, 20, 30)
            ]
    path.write_text("\n".join(lines))
    return path


def test_report_of_curves_made_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", str(curves(tmp_path / "mine.csv")), "--metric", "accuracy"])

    found = json.loads((tmp_path / "mine/feasibility.json").read_text())
    assert found["verdict"] == "promising"
    # the area's gain: 4 points but for half of the first of two steps
    assert found["strategies"][0]["delta"] == pytest.approx(3.0)
    assert (tmp_path / "mine/index.html").is_file()
    assert found["headline"] in capsys.readouterr().out

    main(["report", "mine.csv", "--metric=accuracy", "--output=there", "--delta=3.5", "--saving=0.9"])
    assert json.loads((tmp_path / "there/feasibility.json").read_text())["verdict"] == "not_promising"


def test_report_of_a_studys_folder(tmp_path: Path) -> None:
    main(STUDY)
    whole = (tmp_path / "out/feasibility.json").read_text()
    (tmp_path / "out/index.html").unlink()

    main(["report", "out"])
    assert (tmp_path / "out/index.html").is_file()
    main(["report", "out", "--output", "copy"])
    assert (tmp_path / "out/feasibility.json").read_text() == (tmp_path / "copy/feasibility.json").read_text() == whole
    sheets = {path.name for path in (tmp_path / "copy/sheets").iterdir()}
    assert sheets == {"Margin.png", "random.png"}
    main(["report", "out", "--metric", "recall", "--output=recall"])
    assert json.loads((tmp_path / "recall/feasibility.json").read_text())["metric"]["name"] == "recall"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is no file and no folder: give the folder of a study, or a CSV file of curves."),
        (["empty"], "empty has no curves.csv and no feasibility.json"),
        (["mine.csv", "--metric=f1"], "'f1'"),
        (["mine.csv", "--metric=accuracy", "--delta=-1"], "`delta`"),
        (["broken.csv", "--metric=accuracy"], "line 2 has 1"),
        (["broken"], "this is no report"),
        ([], "source"),
    ],
)
def test_report_says_what_is_wrong(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    curves(Path("mine.csv"))
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/feasibility.json").write_text("{}")
    Path("broken.csv").write_text("arm,replicate,labels,accuracy\nrandom\n")
    assert message.lower() in refused(["report", *arguments], capsys).lower()


# -- scripts of one's own
def test_a_script_that_names_its_classes(tmp_path: Path) -> None:
    config = yaml.safe_load((CONF / "plain.yaml").read_text())
    del config["model"], config["data"]
    Path("own.yaml").write_text(yaml.safe_dump({**config, "model": {"lr": 0.02}, "data": {"size": 60}}))

    ActiveLearningCLI(SmallNet, ImagesData, args=["study", "--config=own.yaml"])

    settings = json.loads((tmp_path / "out/settings.json").read_text())["settings"]
    assert settings["subject"]["hparams"]["lr"] == 0.02
    assert answer(tmp_path / "out")["data"]["pilot"] == 60


def test_as_a_process(tmp_path: Path) -> None:
    """The console script, with a model that stands beside the config."""
    Path("mine.py").write_text(
        textwrap.dedent("""
            from tests._helpers.studies import SmallNet

            class Mine(SmallNet):
                pass
        """)
    )
    command = [sys.executable, "-m", "lightning_al", *STUDY, "--model=mine.Mine", "--study.workers=2"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Paired simulation         6 fits" in done.stderr
    assert "Study: 10 of 10 fits in " in done.stderr
    assert "It cannot be told yet" in done.stderr
    page_text = (tmp_path / "out/index.html").read_text()
    assert "<html" in page_text
    assert "Traceback" not in done.stderr
