"""What a model's weights go back to at the start of a round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from lightning_al import durable
from lightning_al.exceptions import ResumeError


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
            with durable.replacing(self.path) as written:
                torch.save({"run_id": run_id, "state_dict": state}, written)

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
        saved = torch.load(self.path, map_location="cpu", weights_only=True)
        if saved["run_id"] != run_id:
            raise ResumeError(f"{self.path} holds another run's weights: set `dirpath` to the checkpoint's folder.")
        weights: dict[str, Tensor] = saved["state_dict"]
        return weights


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
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]
        drawn = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(kept)
        return drawn
