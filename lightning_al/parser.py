"""The command line's parser: where a name is unknown, it says which known one looks most like it."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from lightning_al.oracles import Oracle
from lightning_al.stopping import StoppingRule
from lightning_al.strategies.base import QueryStrategy
from lightning_al.study.runners import Runner

_NAMED_IN_CONFIGS: tuple[type[Any], ...]
_NAMED_IN_CONFIGS = (Callback, LightningModule, LightningDataModule, QueryStrategy, Oracle, StoppingRule, Runner)
_UNKNOWN = re.compile(r"(?:dot import path string: |[Uu]nrecognized arguments: --|[Oo]ption '|Key ')([\w.]+)")
"""What comes before the unknown name in the messages of jsonargparse; in other words no suggestion is made."""


class Parser(LightningArgumentParser):
    """Lightning's parser, whose errors about a misspelt name end with a suggestion."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Show the message and the suggestion, and end the process."""
        parser = getattr(ex, "subcommand_parser", None) or self
        options = (option.lstrip("-") for action in parser._actions for option in action.option_strings)
        super().error(message + did_you_mean(message, options), ex)


def did_you_mean(message: str, options: Iterable[str]) -> str:
    r"""Suggest a name in place of the unknown one that an error of jsonargparse is about.

    Args:
        message: The error's message.
        options: The options that the command knows, without dashes.

    Returns:
        The line to add: empty where the message is about something else, or nothing known is close: no option, no
        class that was imported, no argument of a class that the message names.

    Example:
        >>> did_you_mean("unrecognized arguments: --trainer.max_epcohs=3", ["trainer.max_epochs", "config"])
        "\nDid you mean 'trainer.max_epochs' instead of 'trainer.max_epcohs'?"
    """
    classes = {cls.__name__: cls for base in _NAMED_IN_CONFIGS for cls in _subclasses(base)}
    owners = [classes[name] for name in re.findall(r"class_path '(?:\w+\.)*(\w+)'", message) if name in classes]
    known = [*options, *classes, *(name for owner in owners for name in inspect.signature(owner).parameters)]
    for name in _UNKNOWN.findall(message):
        for match in difflib.get_close_matches(name, known, n=1):
            return f"\nDid you mean '{match}' instead of '{name}'?"
    return ""


def _subclasses(base: type[Any]) -> Iterator[type[Any]]:
    for cls in base.__subclasses__():
        yield cls
        yield from _subclasses(cls)
