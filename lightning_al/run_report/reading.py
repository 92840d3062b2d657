"""What a run left in its folder so far; it is only read, so that the run may go on meanwhile."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning_al.answered import answered
from lightning_al.exceptions import RunFolderError
from lightning_al.ledger import Ledger, LedgerRow
from lightning_al.pool_commands import Standing, status
from lightning_al.run_folder import RunFolder


@dataclass(frozen=True)
class Left:
    """What a run left in its folder.

    Args:
        now: Where it stands: run.json, what was asked, and the answers that count.
        rows: All answers, in the order they came.
        history: A mapping a round: see `RunFolder.write_rounds`.
        gain: What the strategy gains over samples drawn at random: ``gain``, its interval from ``low`` to ``high``
            (None is no bound), ``unit`` and ``note``; None where it was not measured.
    """

    now: Standing
    rows: list[LedgerRow]
    history: list[dict[str, Any]]
    gain: dict[str, Any] | None

    @property
    def asked_in(self) -> dict[int, int]:
        """The round whose query asked for each dataset index."""
        return {index: asked[0] for asked, query in self.now.queries.items() for index in query.dataset_indices}


def read_run(run_dir: str | Path) -> Left:
    """Read what a run left, and change nothing.

    Args:
        run_dir: The run's folder, ``active_learning`` say.

    Returns:
        What it left.

    Raises:
        RunFolderError: There is no run in it, or one of its files was changed.
        LedgerError: Its ledger was changed.
    """
    folder = RunFolder(run_dir)
    now = status(run_dir)
    # After the queries: what a run that goes on asks and gets answered in between does not seem to wait.
    rows = Ledger(folder.ledger_path).read(repair=False)
    return Left(replace(now, standing=answered(rows)), rows, folder.read_rounds(), _gain(folder, now.info))


def _gain(folder: RunFolder, info: Mapping[str, Any]) -> dict[str, Any] | None:
    path = folder.path / "control.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        path, found = folder.run_json, info.get("control")
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} cannot be read: {error}. Move it away, or restore it from a copy.") from error
    if not isinstance(found, dict) or found.get("gain") is None:
        return None
    ends = {name: found.get(name) for name in ("gain", "low", "high")}
    for name, value in ends.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
        if not (number or (value is None and name != "gain")):
            raise RunFolderError(f"Expected `{name}` in {path} to be a number, but got {value!r}.")
    bounds = {name: value if value is not None and math.isfinite(value) else None for name, value in ends.items()}
    return {**bounds, **{name: str(found.get(name) or "") for name in ("unit", "note")}}
