"""Whether a run may begin in its folder, or go on from a checkpoint, and how the folder names the run."""

from __future__ import annotations

import os
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_info

from lightning_al.datamodule import ActiveLearningDataModule
from lightning_al.exceptions import ResumeError
from lightning_al.pool import Pool
from lightning_al.run_folder import RunFolder


def identity(datamodule: ActiveLearningDataModule, strategy: str, seed: int) -> dict[str, Any]:
    """What of a run its folder keeps, so that another run is not taken for it."""
    return {
        "pool_size": datamodule.pool.size,
        "fingerprint": datamodule.fingerprint,
        "strategy": strategy,
        "seed": seed,
    }


def refuse_unfinished(folder: RunFolder) -> None:
    """Raise where a new run would begin over an unfinished one that can go on.

    Raises:
        ResumeError: The folder has such a run's checkpoint.
    """
    if folder.is_unfinished and folder.checkpoint.exists():
        raise ResumeError(
            f"{folder.path} holds an unfinished run. To go on with it: "
            f"trainer.fit(..., ckpt_path={str(folder.checkpoint)!r}), or --ckpt_path {folder.checkpoint}. "
            "For a new run: ActiveLearning(dirpath=...), or move that folder away."
        )


def replays(folder: RunFolder, now: dict[str, Any], datamodule: ActiveLearningDataModule) -> bool:
    """Make room for a new run, unless the folder has answers of one that was killed before it was first saved.

    Args:
        folder: The run's folder; a finished run in it is moved aside.
        now: The new run's identity.
        datamodule: The new run's data.

    Returns:
        Whether the answers in the folder's ledger are replayed.

    Raises:
        ResumeError: The answers belong to a run with another strategy, seed or dataset.
    """
    if not folder.exists:
        return False
    if not folder.is_unfinished:
        rank_zero_info(f"The finished run in {folder.path} was moved to {folder.set_aside()}.")
        return False
    info = folder.read_run() or {}
    if info:
        for name in (name for name in ("strategy", "seed") if info.get(name) != now[name]):
            raise ResumeError(
                f"{folder.path} holds an unfinished run with {name} {info.get(name)}; this one has {now[name]}, "
                "and would be credited with the other's picks. Set another `dirpath`, or move that folder away."
            )
        datamodule.check_same_dataset(info["pool_size"], info["fingerprint"], f"The run in {folder.path}")
    rank_zero_info(f"{folder.path} has no checkpoint: the run starts again and replays the answers in its ledger.")
    return True


def check_resumed(state: dict[str, Any], pool: Pool, world_size: int) -> None:
    """Raise where the state of a checkpoint, its pool and this process do not belong together.

    Raises:
        ResumeError: The pool is of another round or was changed, or the ranks would shuffle otherwise.
    """
    if pool.round != state["round"]:
        raise ResumeError(
            f"The checkpoint's pool is in round {pool.round} and its callback in round {state['round']}: they were "
            "not saved together. Resume from the run's last-round.ckpt."
        )
    if pool.digest() != state["pool"]:
        raise ResumeError("The checkpoint's pool was changed after it was saved. Resume from another checkpoint.")
    if world_size > 1 and state["sampler_seed"] != sampler_seed():
        raise ResumeError(
            f"The run was seeded with {state['sampler_seed']} and this process with {sampler_seed()}: the ranks' "
            f"shares would be shuffled otherwise. Call seed_everything({state['sampler_seed']}) first."
        )


def sampler_seed() -> int:
    """The seed that Lightning gives the ranks' samplers."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))
