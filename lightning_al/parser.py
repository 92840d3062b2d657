"""The command line's parser: errors that end with the name that was meant, and help without what is internal."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from argparse import Action
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from jsonargparse import DefaultHelpFormatter
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from lightning_al.oracles import Oracle
from lightning_al.stopping import StoppingRule
from lightning_al.strategies.base import QueryStrategy
from lightning_al.study.runners import Runner

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_NAMED_IN_CONFIGS: tuple[type[Any], ...]
_NAMED_IN_CONFIGS = (Callback, LightningModule, LightningDataModule, QueryStrategy, Oracle, StoppingRule, Runner)
_UNKNOWN = re.compile(
    r"class_path '(?:\w+\.)*(?P<owner>\w+)'"
    r"|dot import path string: (?P<cls>[\w.]+)"
    r"|(?:[Oo]ption '|Key ')(?P<argument>[\w.]+)"
    r"|(?:[Uu]nrecognized arguments: --|subcommand: invalid choice: ')(?P<option>[\w.]+)"
)
"""What comes before the unknown name in the messages of jsonargparse; in other words no suggestion is made."""

_LONGEST_USAGE = 3
"""Lines; with more, the error below it would be lost."""


class HelpFormatter(DefaultHelpFormatter):
    """Help that names a class of this package only where it is meant for configs: where the package exports it."""

    def _get_help_string(self, action: Action) -> str:
        before, listed, paths = super()._get_help_string(action).rpartition(", known subclasses: ")
        if not listed:
            return paths
        paths = paths.removesuffix(")")
        shown = ", ".join(path for path in paths.split(", ") if not _is_internal(*path.rpartition(".")[::2]))
        return f"{before}{listed}{shown})" if shown else f"{before})"


class Parser(LightningArgumentParser):
    """Lightning's parser, whose errors are a few lines and, about a misspelt name, end with a suggestion."""

    def __init__(self, *args: Any, formatter_class: type[DefaultHelpFormatter] = HelpFormatter, **kwargs: Any) -> None:
        super().__init__(*args, formatter_class=formatter_class, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Show the message and the suggestion, and end the process."""
        commands = self._subcommands_action.choices if self._subcommands_action else {}
        for command, parser in commands.items():  # jsonargparse names a missing `SOURCE` of `report` `report.source`
            for positional in parser._get_positional_actions():
                if "required" in message and (key := f"{command}.{positional.dest}") in message:
                    parser.error(message.replace(key, _shown(positional)), ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        options = (option.lstrip("-") for action in parser._actions for option in action.option_strings)
        super().error(message + did_you_mean(message, [*options, *commands]), ex)

    def print_usage(self, file: SupportsWrite[str] | None = None) -> None:
        """Show how the command is called, without its options where those would fill the screen."""
        if len(self.format_usage().splitlines()) <= _LONGEST_USAGE:
            super().print_usage(file)
            return
        positionals = [_shown(action) for action in self._get_positional_actions()]
        command = self.prog.replace(" [options]", "")  # what jsonargparse puts between program and subcommand
        print("usage:", command, "[options]", *positionals, file=file)


def did_you_mean(message: str, options: Iterable[str]) -> str:
    r"""Suggest a name in place of the unknown one that an error of jsonargparse is about.

    Args:
        message: The error's message.
        options: The options and subcommands that the command knows, without dashes.

    Returns:
        The line to add: empty where the message is about something else, or nothing known is close: among the classes
        that were imported for a class, the arguments of its class for an argument that has one, else the options.

    Examples:
        >>> did_you_mean("unrecognized arguments: --trainer.max_epcohs=3", ["trainer.max_epochs", "config"])
        "\nDid you mean 'trainer.max_epochs' instead of 'trainer.max_epcohs'?"
        >>> problem = "Problem with given class_path 'lightning_al.Prefilter': Option '{}' is not accepted"
        >>> did_you_mean(problem.format("factr"), ["reset"]), did_you_mean(problem.format("rest"), ["reset"])
        ("\nDid you mean 'factor' instead of 'factr'?", '')
    """
    classes = {
        cls.__name__: cls
        for base in _NAMED_IN_CONFIGS
        for cls in _subclasses(base)
        if not _is_internal(cls.__module__, cls.__name__)
    }
    options, arguments = list(options), None
    for found in _UNKNOWN.finditer(message):
        kind, name = str(found.lastgroup), found[str(found.lastgroup)]
        if kind == "owner":  # of what the message goes on to speak of
            arguments = list(inspect.signature(classes[name]).parameters) if name in classes else []
            continue
        known = {"cls": [*classes], "argument": options if arguments is None else arguments}.get(kind, options)
        for match in difflib.get_close_matches(name, known, n=1):
            return f"\nDid you mean '{match}' instead of '{name}'?"
    return ""


def _subclasses(base: type[Any]) -> Iterator[type[Any]]:
    for cls in base.__subclasses__():
        yield cls
        yield from _subclasses(cls)


def _is_internal(module: str, name: str) -> bool:
    """Whether a class is this package's, and none of its modules exports it.

    Examples:
        >>> _is_internal("lightning_al.strategies.margin", "Margin"), _is_internal("mine", "Model")
        (False, False)
        >>> _is_internal("lightning_al.transparent", "TransparentDataModule")
        True
    """
    package = __name__.partition(".")[0]
    if module.partition(".")[0] != package:
        return False
    ours = [found for key, found in sys.modules.items() if key.partition(".")[0] == package]
    return not any(name in getattr(found, "__all__", ()) for found in ours)


def _shown(positional: Action) -> str:
    return str(positional.metavar or positional.dest)
