"""What a model's weights go back to at the start of a round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from lightning_al import durable
from lightning_al.exceptions import ResumeError, RunFolderError


class InitialWeights:
    """The weights a run began with: one file a run, so that no checkpoint carries a second copy of the model.

    Args:
        path: The file; None keeps them in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._kept: dict[str, Tensor] | None = None

    def save(self, state: dict[str, Any], run_id: str, *, write: bool) -> None:
        """Keep the weights; ``write`` says whether this process is the one that writes the file."""
        if self.path is None:
            self._kept = {name: value.detach().cpu().clone() for name, value in state.items()}
        elif write:
            try:
                with durable.replacing(self.path) as written:
                    torch.save({"run_id": run_id, "state_dict": state}, written)
            except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
                raise RunFolderError(
                    f"The initial weights cannot be written to {self.path}: {error}. Free some space, set `dirpath=` "
                    "to another folder, or say reset='keep'."
                ) from error

    def load(self, run_id: str) -> dict[str, Tensor]:
        """The weights.

        Raises:
            ResumeError: The file is gone or is another run's.
        """
        if self._kept is not None:
            return self._kept
        if self.path is None or not self.path.exists():
            raise ResumeError(
                f"reset='initial' needs the weights the run began with, {self.path}, which is not there. Put it back "
                "beside the ledger, or go on with reset='keep'."
            )
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
            saved_id: str = saved["run_id"]
            weights: dict[str, Tensor] = saved["state_dict"]
        except Exception as error:  # what torch raises depends on where the file was cut or changed
            raise ResumeError(
                f"{self.path} is not as it was written ({type(error).__name__}). Restore it from a copy, or go on with "
                "reset='keep'."
            ) from error
        if saved_id != run_id:
            raise ResumeError(f"{self.path} holds another run's weights: set `dirpath` to the checkpoint's folder.")
        return weights


class Trainability:
    """Which parameters train and which norms track statistics: BaseFinetuning thaws both in mid-round.

    Args:
        model: The model as training begins.
    """

    def __init__(self, model: nn.Module) -> None:
        self.requires_grad = {name: p.requires_grad for name, p in model.named_parameters()}
        norms = [(name, m) for name, m in model.named_modules() if hasattr(m, "track_running_stats")]
        self.tracking = {name: norm.track_running_stats for name, norm in norms}

    def restore(self, model: nn.Module) -> None:
        """Put the model back; what it has gained since stays as it is."""
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(self.requires_grad.get(name, parameter.requires_grad))
        for name, module in model.named_modules():
            if name in self.tracking:
                module.track_running_stats = self.tracking[name]


def check_can_randomize(model: nn.Module) -> None:
    """Raise where ``reset="random"`` could not draw every parameter anew.

    Raises:
        MisconfigurationException: A module owns parameters and has no ``reset_parameters``.
    """
    stuck = [
        f"{name or 'the model itself'} ({type(module).__name__})"
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False)) and not hasattr(module, "reset_parameters")
    ]
    if stuck:
        raise MisconfigurationException(
            f"reset='random' cannot draw new weights for {', '.join(stuck[:5])}: no `reset_parameters` there. Give a "
            "factory, `callback.model_factory = lambda: MyModel(...)` (the command line has one by itself), or say "
            "reset='initial'."
        )


def random_weights(model: nn.Module, factory: Callable[[], nn.Module] | None, seed: int) -> dict[str, Tensor]:
    """New weights: those of a model from the factory, else of ``reset_parameters`` on a copy's modules.

    The global RNG is as before, and every process draws the same.
    """
    with isolate_rng():
        torch.manual_seed(seed)
        if factory is not None:
            return factory().state_dict()
        kept = {name: value.detach().clone() for name, value in model.state_dict().items()}
        try:
            for module in model.modules():
                if hasattr(module, "reset_parameters"):
                    cast(Any, module).reset_parameters()
            return {name: value.detach().clone() for name, value in model.state_dict().items()}
        finally:
            model.load_state_dict(kept, strict=False)
