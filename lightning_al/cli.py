"""The command line: Lightning's own, with what active learning adds to it.

This and ``parser.py`` are the only modules that touch private members of Lightning's command line and of its parser.
"""

from __future__ import annotations

import os
import sys
import warnings
from functools import partial, update_wrapper
from pathlib import Path
from types import MethodType
from typing import Any, cast

from jsonargparse import SUPPRESS, Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from lightning_al import __version__, demos, interrupts, oracles, strategies  # noqa: F401 - for short names in YAML
from lightning_al.callback import ActiveLearning
from lightning_al.datamodule import ActiveLearningDataModule  # noqa: F401 - as above
from lightning_al.exceptions import ActiveLearningError
from lightning_al.parser import Parser
from lightning_al.pool_parser import POOL_TOLD, add_pool_commands, run_pool_command
from lightning_al.report import make_report
from lightning_al.run_folder import RunFolder, check_readable, run_folder
from lightning_al.study import FeasibilityStudy

_WITHOUT_MODEL = ("pool", "report")
"""Commands that read what others left."""


class ActiveLearningCLI(LightningCLI):
    """``LightningCLI`` that knows about rounds: every argument and every config of ``LightningCLI`` works as it is.

    What it adds:

    - ``fit --ckpt_path last`` goes on after the last finished round of the run's folder.
    - ``ActiveLearning(reset="random")`` builds a new model from the config for each round.
    - An ``optimizer`` and ``lr_scheduler`` in the config are built anew for each round.
    - A second run into the same folder overwrites the saved config instead of refusing to start.
    - ``study`` tells whether active learning will work, from the same sections and a section ``study``, which the other
      commands leave alone, so that one file serves several of them.
    - ``report`` makes the page of a run, of a study, or of curves made elsewhere.
    - ``pool`` tells where a run stands, and brings the answers of people to it.

    Subclass it to add arguments or links, as you would ``LightningCLI``.

    Example:
        >>> from lightning_al.demos import DigitsCNN, DigitsDataModule
        >>> arguments = ["--model.width=4", "--seed_everything=false"]
        >>> cli = ActiveLearningCLI(DigitsCNN, DigitsDataModule, args=arguments, run=False)
        >>> cli.build_model().features[0].out_channels
        4
    """

    def setup_parser(
        self, add_subcommands: bool, main_kwargs: dict[str, Any], subparser_kwargs: dict[str, Any]
    ) -> None:
        """Set up the parser and let a config carry the section ``study``."""
        super().setup_parser(add_subcommands, main_kwargs, subparser_kwargs)
        # Not in `_add_arguments`: the command that gives the section a meaning builds its parser from there. Without a
        # type: a value of type `dict` would be searched for classes to instantiate.
        for parser in self._subcommand_parsers.values() if add_subcommands else (self.parser,):
            parser.add_argument("--study", default=SUPPRESS, help=SUPPRESS)
        if add_subcommands:
            self._add_study(**subparser_kwargs.get("study", {}))
            self._add_report()
            pool = self.parser_class(description=POOL_TOLD)
            self._add_command("pool", pool, POOL_TOLD)
            add_pool_commands(pool)  # after it: jsonargparse wants one level after the other

    def _add_study(self, **kwargs: Any) -> None:
        told = "Tell whether active learning will work for this problem, before anyone pays for labels."
        parser = self.init_parser(**{"description": told, **kwargs})
        self._add_arguments(parser)
        parser.add_class_arguments(FeasibilityStudy, "study")
        parser.add_argument(
            "--dry_run", action="store_true", help="Print the fits and, after one timed fit, the hours; write nothing."
        )
        parser.add_argument("--confirm", action="store_true", help="The same as --study.confirm true.")
        self._add_command("study", parser, told)

    def _add_report(self) -> None:
        told = "Make the page of a run, of a study, or of learning curves made elsewhere; nothing is trained."
        parser = self.parser_class(description=told)
        parser.add_function_arguments(make_report, as_positional=True)
        for positional in parser._get_positional_actions():
            positional.metavar = positional.dest.upper()
        self._add_command("report", parser, told)

    def _add_command(self, name: str, parser: LightningArgumentParser, told: str) -> None:
        self._subcommand_parsers[name] = parser
        cast(Any, self.parser._subcommands_action).add_subcommand(name, parser, help=told)

    def _set_seed(self) -> None:
        if self.subcommand not in _WITHOUT_MODEL:
            super()._set_seed()

    def instantiate_classes(self) -> None:
        """Build model, data and trainer; an argument that this package refuses ends like any other wrong option."""
        if self.subcommand in _WITHOUT_MODEL:
            return
        try:
            super().instantiate_classes()
        except ValueError as error:
            refusal = _refusal(error)
            if refusal is None:
                raise
            self._parser(self.subcommand).error(str(refusal), refusal)
        for callback in self.trainer.callbacks:
            if isinstance(callback, ActiveLearning):
                callback.model_factory = self.build_model

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer; what an earlier run into the same place saved of its config may be overwritten."""
        self.save_config_kwargs = {"overwrite": True, **self.save_config_kwargs}
        if self.subcommand == "study":  # saved once, beside the answer, not by each of its fits
            self.save_config_callback = None
        return super().instantiate_trainer(**kwargs)

    def build_model(self) -> LightningModule:
        """Build a new model from the config, with weights drawn from the global random state.

        Returns:
            What ``instantiate_classes`` builds as the model, with links and the optimizer of the config. The datamodule
            is the one that exists already, and no trainer is built: a second logger would open a second run.
        """
        config = self.config.get(str(self.subcommand), self.config).clone()
        config.pop("trainer", None)
        config.pop("study", None)
        built = _instantiate(self._parser(self.subcommand), config, datamodule=self.datamodule)
        model = cast(LightningModule, built["model"])
        if "configure_optimizers" in vars(self.model):
            _install_configure_optimizers(self, model)
        return model

    def _add_configure_optimizers_method_to_model(self, subcommand: str | None) -> None:
        super()._add_configure_optimizers_method_to_model(subcommand)
        if "configure_optimizers" in vars(self.model):
            _install_configure_optimizers(self, self.model)

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            with interrupts.as_keyboard_interrupt():
                self._run_command(subcommand)
        except KeyboardInterrupt:
            interrupts.end(self._how_to_go_on())

    def _run_command(self, subcommand: str) -> None:
        commands = {"pool": self._pool, "report": self._report, "study": self._study}
        if subcommand not in commands:
            super()._run_subcommand(subcommand)
            return
        try:
            commands[subcommand]()
        except (ValueError, MisconfigurationException) as error:
            refusal = _refusal(error)
            if refusal is None:
                raise
            raise SystemExit(f"lightning-al: {refusal}") from error

    def _report(self) -> None:
        make_report(**self.config.report.as_dict())

    def _pool(self) -> None:
        print(run_pool_command(self.config.pool))

    def _study(self) -> None:
        given = self.config_init.study
        if given.confirm:
            given.study.ask_to_confirm()
        if given.dry_run:
            print(given.study.dry_run(self.build_model, self.datamodule, self.trainer))
            return
        given.study.run(self.build_model, self.datamodule, self.trainer)
        saved = given.study.output / "config.yaml"
        self._parser("study").save(self.config.study, saved, overwrite=True, multifile=False)

    def _how_to_go_on(self) -> str:
        """What an interrupted command leaves."""
        if self.subcommand == "study" and not self.config_init.study.dry_run:
            return "The same command goes on: what is finished is kept."
        if self.subcommand == "fit":
            for folder in self._run_folders():
                if folder.is_unfinished:
                    return f"What is finished is kept in {folder.path}: the same command goes on with --ckpt_path last."
        return "The same command starts again."

    def _run_folders(self) -> list[RunFolder]:
        callbacks = [callback for callback in self.trainer.callbacks if isinstance(callback, ActiveLearning)]
        return [run_folder(callback.dirpath, self.trainer.default_root_dir) for callback in callbacks]

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        if subcommand == "fit" and kwargs.get("ckpt_path") == "last":
            for folder in self._run_folders():
                kwargs["ckpt_path"] = _last_round(folder)
        return kwargs

    def _parse_ckpt_path(self) -> None:
        # The path of a round's checkpoint means what `last` means: go on with this config. Lightning would merge the
        # checkpoint's hyperparameters into it, and its 2.5 fails at that for a model given by `class_path`.
        config = self.config.get(self.config.get("subcommand") or "", None)
        ckpt_path = config.get("ckpt_path") if config else None
        if not ckpt_path or Path(ckpt_path).name != RunFolder(".").checkpoint.name:
            super()._parse_ckpt_path()
        elif Path(ckpt_path).is_file():
            check_readable(Path(ckpt_path))


def _instantiate(
    parser: LightningArgumentParser, config: Namespace, datamodule: LightningDataModule | None
) -> Namespace:
    """Build what the config names; wherever it names a datamodule, the given one takes its place."""

    def reuse(class_type: type[LightningDataModule], *args: Any, **kwargs: Any) -> LightningDataModule:
        return class_type(*args, **kwargs) if datamodule is None else datamodule

    if hasattr(parser, "instantiate"):
        return cast(Namespace, parser.instantiate(config, instantiators=[(reuse, LightningDataModule, True)]))
    parser.add_instantiator(reuse, LightningDataModule, prepend=True)  # jsonargparse < 4.49
    return cast(Namespace, parser.instantiate_classes(config))


def _install_configure_optimizers(cli: ActiveLearningCLI, model: LightningModule) -> None:
    """Let each call of ``model.configure_optimizers`` build a new optimizer and scheduler from the config.

    Lightning builds them once and returns the same ones each time: the momentum and the decayed learning rate that a
    round ends with would go on in the next.
    """
    method = update_wrapper(partial(_configure_optimizers, cli), _configure_optimizers)  # seen by `is_overridden`
    model.configure_optimizers = MethodType(method, model)  # type: ignore[method-assign]  # what Lightning does too


def _configure_optimizers(cli: ActiveLearningCLI, model: LightningModule) -> Any:
    own, cli.model = cli.model, model
    del model.configure_optimizers
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the model's own method is overridden was said once
            LightningCLI._add_configure_optimizers_method_to_model(cli, cli.subcommand)
        return model.configure_optimizers()
    finally:
        cli.model = own
        _install_configure_optimizers(cli, model)


def _last_round(folder: RunFolder) -> str | None:
    """Return the checkpoint that ``--ckpt_path last`` means, or ``None`` (and say so) where no round has ended yet."""
    if folder.checkpoint.exists():
        check_readable(folder.checkpoint)
        return str(folder.checkpoint)
    replay = f" and replays the answers in {folder.ledger_path}" if folder.ledger_path.exists() else ""
    rank_zero_info(f"There is no {folder.checkpoint}, so no round has ended yet: the run starts again{replay}.")
    return None


def _refusal(error: Exception) -> Exception | None:
    """Return the error to show for a value that this package or jsonargparse refused, if that is it."""
    root: BaseException = error
    while root.__cause__ is not None:  # for a list of callbacks jsonargparse reports every type of the union it tried
        root = root.__cause__
    trace = root.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    package = str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] if trace is not None else ""
    if isinstance(root, (ValueError, MisconfigurationException)) and (
        package == __package__ or isinstance(root, ActiveLearningError)
    ):
        return root
    return error if package == "jsonargparse" else None  # its older versions quote the cause instead


def main(args: ArgsType = None) -> None:
    """Run the command line. An ``ActiveLearningError`` and Ctrl-C end it with one line, without a traceback.

    Args:
        args: What to parse instead of the process's own arguments.
    """
    # Lightning 2.6 asks torch in a way that torch 2.14 renames: none of the user's doing, yet shown in every round.
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
    if not getattr(sys.flags, "safe_path", False) and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does: the user's own classes stand next to the config
    parser_kwargs = {
        "prog": "lightning-al",
        "description": "Active learning with PyTorch Lightning: fit, query, label, refit, until the budget is spent.",
        "version": __version__,
    }
    try:
        ActiveLearningCLI(parser_class=Parser, parser_kwargs=parser_kwargs, args=args)
    except ActiveLearningError as error:
        raise SystemExit(f"lightning-al: {error}") from error
    except KeyboardInterrupt:
        interrupts.end("Nothing had begun.")
