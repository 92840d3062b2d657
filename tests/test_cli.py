from __future__ import annotations

import csv
import importlib
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel
from torch import nn

from lightning_al import ActiveLearning, ActiveLearningDataModule, interrupts
from lightning_al.cli import ActiveLearningCLI, main
from lightning_al.demos import DigitsCNN, DigitsDataModule
from lightning_al.exceptions import ResumeError
from lightning_al.strategies import BADGE, Margin

FIT: dict[str, Any] = {
    "seed_everything": 3,
    "trainer": {
        "max_epochs": 1,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [
            {"class_path": "ActiveLearning", "init_args": {"strategy": "Margin", "query_size": 20, "budget": 60}}
        ],
    },
    "model": "DigitsCNN",
    "data": {
        "class_path": "ActiveLearningDataModule",
        "init_args": {"initial": 20, "datamodule": {"class_path": "DigitsDataModule"}},
    },
}


@pytest.fixture(autouse=True)
def _own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command line of its own: folder, arguments, path, environment and random state."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning-al"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    environment = dict(os.environ)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(environment)


class Parsed(ActiveLearningCLI):
    """Does all but the training: keeps what `trainer.fit` would get."""

    def fit(self, model: LightningModule, **kwargs: Any) -> None:
        self.fit_kwargs = kwargs


def write(config: dict[str, Any], name: str = "fit.yaml") -> str:
    Path(name).write_text(yaml.safe_dump(config))
    return name


def changed(**sections: Any) -> dict[str, Any]:
    return {**FIT, **sections}


def trainer(**arguments: Any) -> dict[str, Any]:
    return {**FIT["trainer"], **arguments}


def active_learning(cli: ActiveLearningCLI) -> ActiveLearning:
    return next(callback for callback in cli.trainer.callbacks if isinstance(callback, ActiveLearning))


def answers(folder: str) -> list[tuple[str, str]]:
    with Path(folder, "ledger.csv").open() as file:
        return [(row["round"], row["dataset_index"]) for row in csv.DictReader(file)]


class TestConfigs:
    def test_short_names(self) -> None:
        cli = Parsed(args=["fit", "--config", write(FIT)])

        assert type(cli.model) is DigitsCNN
        assert type(cli.datamodule) is ActiveLearningDataModule
        assert type(cli.datamodule.datamodule) is DigitsDataModule
        assert cli.datamodule.initial == 20
        callback = active_learning(cli)
        assert type(callback.strategy) is Margin
        assert (callback.query_size, callback.budget) == (20, 60)

    def test_strategy_by_class_path(self) -> None:
        callback = {"class_path": "ActiveLearning", "init_args": {"strategy": {"class_path": "BADGE"}, "rounds": 2}}

        cli = Parsed(args=["fit", "--config", write(changed(trainer=trainer(callbacks=[callback])))])

        assert type(active_learning(cli).strategy) is BADGE

    def test_datamodule_and_strategy_as_plain_names(self) -> None:
        data = {"class_path": "ActiveLearningDataModule", "init_args": {"datamodule": "DigitsDataModule"}}
        arguments = ["--trainer.callbacks=ActiveLearning", "--trainer.callbacks.strategy=BADGE"]
        arguments += ["--trainer.callbacks.rounds=2"]

        cli = Parsed(args=["fit", "--config", write(changed(data=data)), *arguments])

        assert type(cli.datamodule.datamodule) is DigitsDataModule
        assert type(active_learning(cli).strategy) is BADGE

    def test_callback_added_on_the_command_line(self) -> None:
        config = write(changed(trainer=trainer(callbacks=[{"class_path": "LearningRateMonitor"}], logger=True)))

        cli = Parsed(
            args=[
                "fit",
                f"--config={config}",
                "--trainer.callbacks+=ActiveLearning",
                "--trainer.callbacks.query_size=20",
                "--trainer.callbacks.rounds=2",
            ]
        )

        assert "LearningRateMonitor" in {type(callback).__name__ for callback in cli.trainer.callbacks}
        assert (active_learning(cli).query_size, active_learning(cli).rounds) == (20, 2)

    def test_later_of_two_files_wins(self) -> None:
        base = write(FIT)
        more = write({"trainer": {"max_epochs": 7}, "model": {"init_args": {"width": 4}}}, "more.yaml")

        cli = Parsed(args=["fit", "--config", base, "--config", more])

        assert cli.trainer.max_epochs == 7
        assert cli.model.features[0].out_channels == 4
        assert active_learning(cli).query_size == 20

    def test_config_of_another_cli_works_as_it_is(self) -> None:
        config = {"model": "BoringModel", "data": "BoringDataModule", "trainer": {"max_steps": 2, "logger": False}}

        cli = Parsed(args=["fit", "--config", write(config)])

        assert (type(cli.model), type(cli.datamodule)) == (BoringModel, BoringDataModule)
        assert cli.trainer.max_steps == 2

    @pytest.mark.parametrize("run", [True, False])
    def test_study_section_is_ignored(self, run: bool) -> None:
        # Nothing in it is built, checked or imported.
        study = {"backbone": {"class_path": "nowhere.Backbone"}, "strategies": [{"class_path": "BADGE"}], "seeds": 2}
        subcommand = ["fit"] if run else []

        plain = Parsed(args=[*subcommand, "--config", write(FIT)], run=run)
        both = Parsed(args=[*subcommand, "--config", write(changed(study=study), "both.yaml")], run=run)

        for section in ("trainer", "model", "data", "seed_everything"):
            assert both._get(both.config, section) == plain._get(plain.config, section)
        assert both._get(both.config_init, "study") == study

    def test_printed_config_is_the_same_config(self, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["fit", "--config", write(FIT), "--trainer.callbacks.init_args.reset=keep"]
        with pytest.raises(SystemExit) as stopped:
            main([*arguments, "--print_config"])
        assert stopped.value.code == 0
        Path("printed.yaml").write_text(capsys.readouterr().out)

        first, second = Parsed(args=arguments), Parsed(args=["fit", "--config", "printed.yaml"])

        for section in ("trainer", "model", "data", "seed_everything"):
            assert second.config.fit[section] == first.config.fit[section]
        assert active_learning(second).reset == "keep"

    def test_own_script_with_lightnings_cli(self) -> None:
        from lightning.pytorch.cli import LightningCLI

        cli = LightningCLI(DigitsCNN, run=False, args=["--config", write(changed(model={"width": 4}))])

        assert type(cli.datamodule) is ActiveLearningDataModule
        assert any(type(callback) is ActiveLearning for callback in cli.trainer.callbacks)

    def test_classes_in_the_current_folder_are_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("own_project_of_a_user.py").write_text(
            "from lightning_al.demos import DigitsCNN\nclass OwnModel(DigitsCNN):\n    pass\n"
        )
        monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", os.getcwd())])
        monkeypatch.setattr("lightning_al.cli.ActiveLearningCLI", Parsed)

        main(["fit", "--config", write(changed(model="own_project_of_a_user.OwnModel"))])

        assert "own_project_of_a_user" in sys.modules


class TestErrors:
    def error(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(list(arguments))
        assert stopped.value.code == 2
        return capsys.readouterr().err.rpartition("error: ")[2]

    def test_no_subcommand(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "{fit,validate,test,predict" in self.error(capsys)

    def test_missing_config_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        message = self.error(capsys, "fit", "--config", "nowhere.yaml")

        assert "does not exist" in message
        assert str(Path("nowhere.yaml").absolute()) in message

    def test_unknown_strategy(self, capsys: pytest.CaptureFixture[str]) -> None:
        callback = {"class_path": "ActiveLearning", "init_args": {"strategy": "Margn"}}

        message = self.error(capsys, "fit", "--config", write(changed(trainer=trainer(callbacks=[callback]))))

        assert "Expected `strategy` to be" in message
        assert "'Margn'" in message
        assert "'Margin'" in message
        assert "Traceback" not in message

    @pytest.mark.parametrize(
        ("part", "misspelt", "known"),
        [
            ("trainer", trainer(callbacks=[{"class_path": "ActiveLerning"}]), "'ActiveLearning'"),
            ("trainer", trainer(max_epcohs=3), "'trainer.max_epochs'"),
            ("data", {**FIT["data"], "init_args": {"intial": 20, "datamodule": "DigitsDataModule"}}, "'initial'"),
            ("model", "DigitCNN", "'DigitsCNN'"),
        ],
    )
    def test_misspelt_name_in_a_config(
        self, part: str, misspelt: Any, known: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        message = self.error(capsys, "fit", "--config", write(changed(**{part: misspelt})))

        assert message.splitlines()[-1].startswith(f"Did you mean {known} instead of ")

    @pytest.mark.parametrize(("argument", "known"), [("factr", "factor"), ("rest", None)])
    def test_an_argument_is_suggested_of_its_own_class_only(
        self, argument: str, known: str | None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """`reset` is an argument of ActiveLearning, within which Prefilter is named."""
        strategy = {"class_path": "Prefilter", "init_args": {argument: 3}}
        callback = {"class_path": "ActiveLearning", "init_args": {"strategy": strategy}}

        message = self.error(capsys, "fit", "--config", write(changed(trainer=trainer(callbacks=[callback]))))

        suggested = set(re.findall("Did you mean '(.*)' instead", message))
        assert f"Option '{argument}' is not accepted" in message
        assert suggested == ({known} if known else set())

    def test_misspelt_class_of_a_strategy(self, capsys: pytest.CaptureFixture[str]) -> None:
        callback = {"class_path": "ActiveLearning", "init_args": {"strategy": {"class_path": "Margn"}}}

        message = self.error(capsys, "fit", "--config", write(changed(trainer=trainer(callbacks=[callback]))))

        assert message.splitlines()[-1] == "Did you mean 'Margin' instead of 'Margn'?"

    @pytest.mark.parametrize(
        ("option", "known"),
        [
            ("--trainer.max_epcohs=3", "trainer.max_epochs"),
            ("--ckpt_paht=last", "ckpt_path"),
            ("--model.widht=4", "width"),
        ],
    )
    def test_misspelt_option(self, option: str, known: str, capsys: pytest.CaptureFixture[str]) -> None:
        message = self.error(capsys, "fit", "--config", write(FIT), option)

        assert message.splitlines()[-1].startswith(f"Did you mean '{known}' instead of ")

    def test_name_like_no_other_has_no_suggestion(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "Did you mean" not in self.error(capsys, "fit", "--config", write(changed(model="Qwzxjk")))

    def test_refused_argument_of_the_datamodule(self, capsys: pytest.CaptureFixture[str]) -> None:
        message = self.error(capsys, "fit", "--config", write(FIT), "--data.initial=-3")

        assert "Expected `initial`" in message
        assert "-3" in message

    def test_own_active_learning_error_ends_in_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("own_data_of_a_user.py").write_text(
            textwrap.dedent("""
            from lightning_al.demos import DigitsCNN
            from lightning_al.exceptions import ActiveLearningError

            class Refused(ActiveLearningError, ValueError):
                pass

            class Model(DigitsCNN):
                def __init__(self, weights: str = "w.pth") -> None:
                    raise Refused(f"There is no {weights}.")
            """)
        )

        assert self.error(capsys, "fit", "--config", write(changed(model="own_data_of_a_user.Model"))) == (
            "There is no w.pth.\n"
        )

    def test_error_of_a_users_class_keeps_its_traceback(self) -> None:
        def broken(width: int = 3) -> DigitsCNN:
            raise ValueError("the user's own")

        with pytest.raises(ValueError, match="the user's own"):
            ActiveLearningCLI(broken, DigitsDataModule, args=[], run=False)

    @pytest.mark.parametrize(
        ("arguments", "usage", "suggestion"),
        [
            (
                ["fit", "--trainer.max_epcohs=3"],
                "usage: lightning-al fit [options]",
                "Did you mean 'trainer.max_epochs' instead of 'trainer.max_epcohs'?",
            ),
            (["studdy"], "usage: lightning-al [-c CONFIG]", "Did you mean 'study' instead of 'studdy'?"),
        ],
    )
    def test_an_error_comes_after_three_lines_of_usage_at_most(
        self, arguments: list[str], usage: str, suggestion: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            main(arguments)
        lines = capsys.readouterr().err.splitlines()

        assert lines[0].startswith(usage)
        assert [line.startswith("error: ") for line in lines].index(True) <= 3
        assert lines[-1] == suggestion

    def test_a_narrow_terminal_still_shows_what_must_be_given(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "40")
        with pytest.raises(SystemExit):
            main(["report"])

        assert capsys.readouterr().err.splitlines()[0] == "usage: lightning-al report [options] SOURCE"

    def test_a_missing_source_of_a_report_is_named_as_its_help_names_it(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        message = self.error(capsys, "report")
        assert "required" in message
        assert "SOURCE" in message
        assert "report.source" not in message

        with pytest.raises(SystemExit):
            main(["report", "--help"])
        assert "  SOURCE  " in capsys.readouterr().out

    @pytest.mark.parametrize("subcommand", ["fit", "study"])
    def test_help_lists_exported_classes_only(self, subcommand: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main([subcommand, "--help"])
        text = "".join(capsys.readouterr().out.split())  # long names are broken at any place

        listed = {path.rpartition(".")[::2] for path in re.findall(r"lightning_al(?:\.\w+)+", text)}

        internal = [path for path in listed if path[1] not in importlib.import_module(path[0]).__all__]
        assert internal == []
        assert {("lightning_al", "ActiveLearning"), ("lightning_al.demos", "DigitsCNN")} <= listed
        assert "lightning.pytorch.callbacks.EarlyStopping" in text

    def test_an_internal_class_is_not_suggested(self, capsys: pytest.CaptureFixture[str]) -> None:
        message = self.error(capsys, "fit", "--config", write(changed(data="TransparntDataModule")))

        assert "Did you mean 'TransparentDataModule'" not in message


class Interrupted(Callback):
    """Ctrl-C at the first call of a hook, or the first in a round."""

    def __init__(self, hook: str, round: int | None = None) -> None:
        self.round = round
        setattr(self, hook, self.interrupt)

    def interrupt(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        if self.round is None or trainer.datamodule.pool.round == self.round:
            signal.raise_signal(signal.SIGINT)


class TestInterrupts:
    @pytest.fixture(autouse=True)
    def _handler(self) -> Iterator[None]:
        handler = signal.getsignal(signal.SIGINT)
        yield
        signal.signal(signal.SIGINT, handler)  # Lightning ignores it once it was interrupted

    def interrupted(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(list(arguments))
        assert stopped.value.code == 130
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return error.splitlines()[-1]

    def test_fit_says_how_to_go_on_and_goes_on(self, capsys: pytest.CaptureFixture[str]) -> None:
        ctrl_c = ["--trainer.callbacks+=tests.test_cli.Interrupted", "--trainer.callbacks.hook=on_train_epoch_end"]

        told = self.interrupted(capsys, "fit", "--config", write(FIT), *ctrl_c, "--trainer.callbacks.round=1")

        assert Path(told.partition("kept in ")[2].partition(":")[0]).absolute() == Path("active_learning").absolute()
        assert told.startswith("lightning-al: interrupted. What is finished is kept in ")
        assert told.endswith(": the same command goes on with --ckpt_path last.")
        assert [round for round, _ in answers("active_learning")] == ["0"] * 20 + ["1"] * 20
        main(["fit", "--config", "fit.yaml", "--ckpt_path", "last"])
        assert [round for round, _ in answers("active_learning")] == ["0"] * 20 + ["1"] * 20 + ["2"] * 20

    @pytest.mark.parametrize("subcommand", ["fit", "validate", "test", "predict"])
    def test_before_anything_is_finished(self, subcommand: str, capsys: pytest.CaptureFixture[str]) -> None:
        ctrl_c = ["--trainer.callbacks=tests.test_cli.Interrupted", "--trainer.callbacks.hook=setup"]

        told = self.interrupted(capsys, subcommand, "--config", write(FIT), *ctrl_c)

        assert told == "lightning-al: interrupted. The same command starts again."

    @pytest.mark.parametrize(
        ("patched", "arguments", "told"),
        [
            ("cli.ActiveLearningCLI.instantiate_classes", ["fit"], "Nothing had begun."),
            ("cli.ActiveLearningCLI._report", ["report", "out"], "The same command starts again."),
            ("study.FeasibilityStudy.dry_run", ["study", "--dry_run"], "The same command starts again."),
            ("study.FeasibilityStudy.run", ["study"], "The same command goes on: what is finished is kept."),
        ],
    )
    def test_other_commands(
        self,
        patched: str,
        arguments: list[str],
        told: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(f"lightning_al.{patched}", interrupt)
        config = [] if arguments[0] == "report" else ["--config", write(FIT)]

        assert self.interrupted(capsys, *arguments, *config) == f"lightning-al: interrupted. {told}"

    def test_other_exits_keep_their_code(self) -> None:
        with pytest.raises(SystemExit) as stopped, interrupts.as_keyboard_interrupt():
            raise SystemExit(143)
        assert stopped.value.code == 143


class TestResume:
    def ckpt_path(self, *arguments: str, config: dict[str, Any] = FIT) -> Any:
        return Parsed(args=["fit", "--config", write(config), *arguments]).fit_kwargs["ckpt_path"]

    def checkpoint(self, folder: str = "active_learning", **content: Any) -> Path:
        path = Path(folder, "last-round.ckpt")
        path.parent.mkdir(parents=True)
        torch.save({"state_dict": {"weight": torch.zeros(1000)}, **content}, path)
        return path

    @pytest.mark.parametrize(
        ("folder", "arguments"),
        [
            ("active_learning", []),
            ("elsewhere/active_learning", ["--trainer.default_root_dir=elsewhere"]),
            ("labels", ["--trainer.default_root_dir=elsewhere", "--trainer.callbacks.init_args.dirpath=labels"]),
        ],
    )
    def test_last_is_the_checkpoint_of_the_runs_folder(self, folder: str, arguments: list[str]) -> None:
        path = self.checkpoint(folder)

        found = self.ckpt_path("--ckpt_path=last", *arguments)

        assert Path(found).absolute() == path.absolute()

    def test_last_in_the_config(self) -> None:
        path = self.checkpoint()

        assert Path(self.ckpt_path(config=changed(ckpt_path="last"))).absolute() == path.absolute()

    def test_other_paths_are_left_alone(self) -> None:
        self.checkpoint()

        assert self.ckpt_path() is None
        assert self.ckpt_path("--ckpt_path=best") == "best"

    def test_last_without_the_callback_is_lightnings(self) -> None:
        self.checkpoint()

        assert self.ckpt_path("--ckpt_path=last", "--trainer.callbacks=null") == "last"

    def test_last_before_the_first_round_ended(self, caplog: pytest.LogCaptureFixture) -> None:
        assert self.ckpt_path("--ckpt_path=last") is None
        Path("active_learning").mkdir()
        Path("active_learning", "ledger.csv").write_text("not read here")
        assert self.ckpt_path("--ckpt_path=last") is None

        first, second = [text for text in caplog.messages if "starts again" in text]
        assert "last-round.ckpt" in first
        assert "ledger" not in first
        assert "replays the answers" in second
        assert "ledger.csv" in second

    @pytest.mark.parametrize("spelling", ["last", "active_learning/last-round.ckpt"])
    @pytest.mark.parametrize("damage", ["cut", "empty", "flipped"])
    def test_damaged_checkpoint(self, spelling: str, damage: str) -> None:
        path = self.checkpoint()
        content = path.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes({"cut": content[:middle], "empty": b"", "flipped": flipped}[damage])

        with pytest.raises(ResumeError, match=r"last-round\.ckpt cannot be read: .*Move it away"):
            self.ckpt_path(f"--ckpt_path={spelling}")

    def test_main_reports_a_damaged_checkpoint_in_one_line(self) -> None:
        self.checkpoint().write_bytes(b"PK")

        with pytest.raises(SystemExit, match=r"^lightning-al: .*last-round\.ckpt cannot be read"):
            main(["fit", "--config", write(FIT), "--ckpt_path=last"])

    def test_rounds_checkpoint_by_its_path_keeps_this_config(self) -> None:
        path = self.checkpoint(hyper_parameters={"width": 99, "_class_path": "lightning_al.demos.DigitsCNN"})

        cli = Parsed(args=["fit", "--config", write(FIT), f"--ckpt_path={path}"])

        assert cli.model.features[0].out_channels == 16
        assert cli.fit_kwargs["ckpt_path"] == str(path)


class Counted(BoringDataModule):
    built = 0

    def __init__(self, num_classes: int = 7) -> None:
        super().__init__()
        self.num_classes = num_classes
        type(self).built += 1


class Composed(BoringModel):
    """A model of parts that the config builds."""

    def __init__(self, backbone: nn.Module, num_classes: int = 2) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(4, num_classes)


class TestBuildModel:
    def test_draws_new_weights_from_the_callers_seed(self) -> None:
        cli = Parsed(args=["fit", "--config", write(FIT), "--model.width=4"])
        factory = active_learning(cli).model_factory
        assert factory is not None

        torch.manual_seed(11)
        built = factory()
        torch.manual_seed(11)
        expected = DigitsCNN(width=4)
        torch.manual_seed(12)
        other = factory()

        assert type(built) is DigitsCNN
        assert built is not cli.model
        torch.testing.assert_close(built.state_dict(), expected.state_dict(), rtol=0, atol=0)
        assert not torch.equal(built.head.weight, other.head.weight)

    def test_honors_links_and_builds_the_datamodule_once(self) -> None:
        class Linked(ActiveLearningCLI):
            def add_arguments_to_parser(self, parser: Any) -> None:
                parser.link_arguments("data.num_classes", "model.num_classes", apply_on="instantiate")
                parser.link_arguments("trainer.max_epochs", "model.backbone.init_args.in_features")

        Counted.built = 0
        arguments = ["--trainer.max_epochs=5", "--data.num_classes=9", "--model.backbone=torch.nn.Linear"]
        arguments += ["--model.backbone.out_features=4", "--trainer.logger=false"]
        cli = Linked(Composed, Counted, args=arguments, run=False)

        built = cli.build_model()

        assert built.head.out_features == cli.model.head.out_features == 9
        assert built.backbone.in_features == cli.model.backbone.in_features == 5
        assert built.backbone is not cli.model.backbone
        assert not torch.equal(built.backbone.weight, cli.model.backbone.weight)
        assert Counted.built == 1

    def test_has_the_optimizer_of_the_config(self) -> None:
        cli = ActiveLearningCLI(BoringModel, args=["--optimizer=SGD", "--optimizer.lr=0.5"], run=False)
        built = cli.build_model()

        optimizer = built.configure_optimizers()

        assert type(optimizer) is torch.optim.SGD
        assert optimizer.param_groups[0]["lr"] == 0.5
        assert optimizer.param_groups[0]["params"] == list(built.parameters())

    def test_model_with_an_optimizer_of_its_own_keeps_it(self) -> None:
        cli = ActiveLearningCLI(DigitsCNN, args=[], run=False)

        assert "configure_optimizers" not in vars(cli.build_model())


class TestOptimizers:
    def test_each_call_builds_new_ones(self) -> None:
        arguments = ["--optimizer=SGD", "--optimizer.lr=0.5", "--optimizer.momentum=0.9"]
        arguments += ["--lr_scheduler=StepLR", "--lr_scheduler.step_size=1"]
        model = ActiveLearningCLI(BoringModel, args=arguments, run=False).model

        (optimizer,), (scheduler,) = model.configure_optimizers()
        model(torch.ones(2, 32)).sum().backward()
        optimizer.step()
        scheduler.step()
        (again,), (scheduler_again,) = model.configure_optimizers()

        assert len(optimizer.state) == 2  # the momentum of weight and bias
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
        assert len(again.state) == 0
        assert again.param_groups[0]["lr"] == 0.5
        assert again.param_groups[0]["params"] == list(model.parameters())
        assert scheduler_again.optimizer is again

    def test_users_own_way_of_combining_them_is_asked(self) -> None:
        class Own(ActiveLearningCLI):
            @staticmethod
            def configure_optimizers(lightning_module: Any, optimizer: Any, lr_scheduler: Any = None) -> Any:
                return {"optimizer": optimizer, "frequency": 3}

        model = Own(BoringModel, args=["--optimizer=SGD", "--optimizer.lr=0.5"], run=False).model

        assert model.configure_optimizers()["frequency"] == 3


class TestRuns:
    def test_fit_runs_every_round_and_again_into_the_same_place(self) -> None:
        config = write(FIT)

        main(["fit", "--config", config])
        first = answers("active_learning")
        main(["fit", "--config", config])

        assert [round for round, _ in first] == ["0"] * 20 + ["1"] * 20 + ["2"] * 20
        assert len({index for _, index in first}) == 60
        assert answers("active_learning") == first  # the same seed asks for the same
        assert answers("active_learning-1") == first  # the finished run's folder was set aside

    @pytest.mark.parametrize("subcommand", ["validate", "test", "predict"])
    def test_other_subcommands(self, subcommand: str, capsys: pytest.CaptureFixture[str]) -> None:
        main([subcommand, "--config", write(FIT)])

        expected = {"validate": "val_acc", "test": "test_acc", "predict": ""}[subcommand]
        assert expected in capsys.readouterr().out

    def test_killed_run_goes_on_with_ckpt_path_last(self) -> None:
        Path("killer.py").write_text(
            textwrap.dedent("""
            import os, signal
            from lightning.pytorch import Callback

            class Kill(Callback):
                def __init__(self, epochs: int) -> None:
                    self.epochs = epochs

                def on_train_epoch_end(self, trainer, pl_module) -> None:
                    self.epochs -= 1
                    if not self.epochs:
                        os.kill(os.getpid(), signal.SIGKILL)
            """)
        )
        whole = changed(trainer=trainer(default_root_dir="whole", max_epochs=2))
        killed = changed(trainer=trainer(default_root_dir="killed", max_epochs=2, enable_checkpointing=True))
        main(["fit", "--config", write(whole)])

        kill = ["--trainer.callbacks+=killer.Kill", "--trainer.callbacks.epochs=3"]  # in the middle of round 1
        command = [sys.executable, "-m", "lightning_al", "fit", "--config", write(killed, "killed.yaml"), *kill]
        path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        process = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
        assert process.returncode == -signal.SIGKILL, process.stderr
        assert {round for round, _ in answers("killed/active_learning")} == {"0", "1"}
        shutil.copytree("killed", "without")
        Path("without", "active_learning", "last-round.ckpt").unlink()

        for folder in ("killed", "without"):
            before = Path(folder, "active_learning", "ledger.csv").read_text()
            main(["fit", "--config", "killed.yaml", f"--trainer.default_root_dir={folder}", "--ckpt_path", "last"])

            assert answers(f"{folder}/active_learning") == answers("whole/active_learning")
            assert Path(folder, "active_learning", "ledger.csv").read_text().startswith(before)  # nothing asked twice

    def test_no_round_warns_of_what_lightning_asks_of_torch(self, recwarn: pytest.WarningsRecorder) -> None:
        main(["fit", "--config", write(FIT)])

        assert [warning for warning in recwarn if "LeafSpec" in str(warning.message)] == []


class TestWithoutOptionalPackages:
    def test_help_version_and_print_config_import_none_of_them(self) -> None:
        for name in ("ray", "label_studio_sdk"):  # importable, so that an import would not go unnoticed
            Path(f"{name}.py").touch()
        code = textwrap.dedent(f"""
            import sys
            from lightning_al.cli import main
            for arguments in (["--version"], ["--help"], ["fit", "--help"],
                              ["fit", "--config", {write(FIT)!r}, "--print_config"]):
                try:
                    main(arguments)
                except SystemExit as stopped:
                    assert stopped.code == 0, stopped.code
            print("imported:", sorted(sys.modules.keys() & {{"ray", "label_studio_sdk"}}))
            """)
        path = os.pathsep.join([os.getcwd(), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])

        process = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
        )

        assert process.returncode == 0, process.stderr
        assert process.stdout.splitlines()[-1] == "imported: []"

    def test_python_m_is_the_same(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        outputs = []
        for run in (lambda: main(["--version"]), lambda: runpy.run_module("lightning_al", run_name="__main__")):
            with pytest.raises(SystemExit) as stopped:
                run()
            assert stopped.value.code == 0
            outputs.append(capsys.readouterr().out)
            monkeypatch.setattr(sys, "argv", ["lightning-al", "--version"])

        assert outputs[0].startswith("lightning-al ")
        assert outputs[0] == outputs[1]
