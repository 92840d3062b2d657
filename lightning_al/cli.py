"""The command line: Lightning's own, with what active learning adds to it.

This is the only module that touches private members of Lightning's command line and of its parser.
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
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from lightning_al import __version__, demos, oracles, strategies  # noqa: F401 - short names in YAML need the import
from lightning_al.callback import ActiveLearning
from lightning_al.datamodule import ActiveLearningDataModule  # noqa: F401 - as above
from lightning_al.exceptions import ActiveLearningError
from lightning_al.run_folder import RunFolder, check_readable


class ActiveLearningCLI(LightningCLI):
    """``LightningCLI`` that knows about rounds: every argument and every config of ``LightningCLI`` works as it is.

    What it adds:

    - ``fit --ckpt_path last`` goes on after the last finished round of the run's folder.
    - ``ActiveLearning(reset="random")`` builds a new model from the config for each round.
    - An ``optimizer`` and ``lr_scheduler`` in the config are built anew for each round.
    - A second run into the same folder overwrites the saved config instead of refusing to start.
    - A section ``study`` in the config is left alone, so that one file serves several commands.

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
        # Not in `_add_arguments`: a command that gives the section a meaning can build its parser from there. Without a
        # type: a value of type `dict` would be searched for classes to instantiate.
        for parser in self._subcommand_parsers.values() if add_subcommands else (self.parser,):
            parser.add_argument("--study", default=SUPPRESS, help=SUPPRESS)

    def instantiate_classes(self) -> None:
        """Build model, data and trainer; an argument that this package refuses ends like any other wrong option."""
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
        return super().instantiate_trainer(**kwargs)

    def build_model(self) -> LightningModule:
        """Build a new model from the config, with weights drawn from the global random state.

        Returns:
            What ``instantiate_classes`` builds as the model, with links and the optimizer of the config. The datamodule
            is the one that exists already, and no trainer is built: a second logger would open a second run.
        """
        config = self.config.get(str(self.subcommand), self.config).clone()
        config.pop("trainer", None)
        built = _instantiate(self._parser(self.subcommand), config, datamodule=self.datamodule)
        model = cast(LightningModule, built["model"])
        if "configure_optimizers" in vars(self.model):
            _install_configure_optimizers(self, model)
        return model

    def _add_configure_optimizers_method_to_model(self, subcommand: str | None) -> None:
        super()._add_configure_optimizers_method_to_model(subcommand)
        if "configure_optimizers" in vars(self.model):
            _install_configure_optimizers(self, self.model)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        if subcommand == "fit" and kwargs.get("ckpt_path") == "last":
            for callback in self.trainer.callbacks:
                if isinstance(callback, ActiveLearning):
                    kwargs["ckpt_path"] = _last_round(_run_folder(callback, self.trainer))
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
    model.configure_optimizers = MethodType(method, model)  # type: ignore[method-assign]


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


def _run_folder(callback: ActiveLearning, trainer: Trainer) -> RunFolder:
    return RunFolder(callback.dirpath or Path(trainer.default_root_dir) / "active_learning")


def _last_round(folder: RunFolder) -> str | None:
    """Return the checkpoint that ``--ckpt_path last`` means, or ``None`` (and say so) where no round has ended yet."""
    if folder.checkpoint.exists():
        check_readable(folder.checkpoint)
        return str(folder.checkpoint)
    replay = f" and replays the answers in {folder.ledger_path}" if folder.ledger_path.exists() else ""
    rank_zero_info(f"There is no {folder.checkpoint}, so no round has ended yet: the run starts again{replay}.")
    return None


def _refusal(error: ValueError) -> ValueError | None:
    """Return the error to show for a value in the config that this package or jsonargparse refused, if that is it."""
    root: BaseException = error
    while root.__cause__ is not None:  # for a list of callbacks jsonargparse reports every type of the union it tried
        root = root.__cause__
    trace = root.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    package = str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] if trace is not None else ""
    if package == __package__ and isinstance(root, ValueError):
        return root
    return error if package == "jsonargparse" else None  # its older versions quote the cause instead


def main(args: ArgsType = None) -> None:
    """Run the command line.

    Args:
        args: What to parse instead of the process's own arguments.
    """
    if not getattr(sys.flags, "safe_path", False) and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does: the user's own classes stand next to the config
    parser_kwargs = {
        "prog": "lightning-al",
        "description": "Active learning with PyTorch Lightning: fit, query, label, refit, until the budget is spent.",
        "version": __version__,
    }
    try:
        ActiveLearningCLI(parser_kwargs=parser_kwargs, args=args)
    except ActiveLearningError as error:
        raise SystemExit(f"lightning-al: {error}") from error
