"""``lightning-al pool``: its arguments, and what each of its commands prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from lightning_al import pool_commands

POOL_TOLD = "Tell where a run stands, take its queries along, bring answers to it."


def add_pool_commands(parser: ArgumentParser) -> None:
    """Give the parser of ``pool`` its commands."""
    commands = parser.add_subcommands(dest="command")

    def add(name: str, told: str) -> ArgumentParser:
        command = type(parser)(description=told)
        command.add_argument("run_dir", metavar="RUN_DIR", help="Folder of the run, active_learning say.")
        commands.add_subcommand(name, command, help=told)
        return command

    add("status", "Tell what is labeled, and what waits for an answer where.")
    export = add("export", "Write tables of what has no answer yet.")
    export.add_argument("--output", type=Path | None, help="Folder for them; by default beside the run's own tables.")
    bring = add("import", "Bring answers: all of them or none, also while the run is on.")
    bring.add_argument(
        "labels",
        nargs="*",
        default=[],
        metavar="LABELS.csv",
        help="Tables with columns dataset_index (or path) and label (or reject); by default the run's own, filled in.",
    )
    bring.add_argument(
        "--correct", action="store_true", help="Let answers that differ from those there take their place."
    )
    junk = add("reject", "Take samples out of the pool for good: junk that cannot be labeled.")
    junk.add_argument("indices", type=int, nargs="+", metavar="INDEX", help="Dataset indices.")


def run_pool_command(config: Namespace) -> str:
    """Do what was asked for.

    Args:
        config: Parsed arguments of ``pool``.

    Returns:
        What to print.

    Raises:
        ActiveLearningError: It cannot be done; nothing was changed.
    """
    name, given = config.command, config[config.command]
    if name == "status":
        return str(pool_commands.status(given.run_dir))
    if name == "export":
        written = pool_commands.export(given.run_dir, given.output)
        return "\n".join(map(str, written)) or "Nothing waits for an answer."
    if name == "import":
        told: Any = pool_commands.import_answers(given.run_dir, given.labels or None, given.correct)
        return str(told)
    count = pool_commands.reject(given.run_dir, given.indices)
    return f"{count} samples rejected; the next round is without them."
